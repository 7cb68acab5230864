// What the bundle holds: the stage and every widget. `render` is anywidget's; plain pages call `mount` with a model.
import { elbo, kl } from "../../course_utils/widgets/divergences.js";
import { layers, picture, planar } from "../../course_utils/widgets/flows.js";
import { gan_film } from "../../course_utils/widgets/gan_film.js";
import { gan_game } from "../../course_utils/widgets/gan_game.js";
import { gan_paths } from "../../course_utils/widgets/gan_paths.js";
import { gan_ring } from "../../course_utils/widgets/gan_ring.js";
import { network } from "../../course_utils/widgets/network.js";
import { check, mount, plainModel } from "../../course_utils/widgets/stage.js";
import { manifold } from "../../course_utils/widgets/vae.js";

export const widgets = { elbo, gan_film, gan_game, gan_paths, gan_ring, kl, layers, manifold, picture, planar };
export const render = (host) => mount(host, widgets);
export { check, network, plainModel };
export default { render };
