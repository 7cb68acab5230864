// What the bundle holds: the stage and every widget. `render` is anywidget's; plain pages call `mount` with a model.
import { elbo, kl } from "../../course_utils/widgets/divergences.js";
import { gan_game } from "../../course_utils/widgets/gan_game.js";
import { check, mount, plainModel } from "../../course_utils/widgets/stage.js";

export const widgets = { elbo, gan_game, kl };
export const render = (host) => mount(host, widgets);
export { check, plainModel };
export default { render };
