// Draws the film of a training: the numbers of every moment were computed by gan_film.py.

import { controlOf, written } from "./stage.js";

const nameAt = (k, spec) => controlOf(spec, "moment").names[k];

export const gan_film = {
  draw(view, numbers, { moment }, spec) {
    const { columns, side, scores, words } = spec.constants;
    for (const which of ["fixed", "fresh"]) {
      const images = view.images(which, { width: scores ? 296 : 440, columns, label: words[which] });
      images.draw(numbers[which], side, { title: words[which], alt: `${words[which]}, ${nameAt(moment, spec)} of the training` });
    }
    if (scores) drawScores(view, moment, spec);
  },

  read(numbers, { moment }, spec) {
    const { scores, score } = spec.constants;
    const here = scores ? ` · ${score} ${figures(scores[moment])}` : "";
    return `<b>after ${nameAt(moment, spec)} of the training</b>${here}`;
  },
};

/** The scores over the training, with a spot at the present moment. */
function drawScores(view, moment, spec) {
  const { scores, score, log, words } = spec.constants;
  const ks = scores.map((_, k) => k);
  const [least, most] = [Math.min(...scores), Math.max(...scores)];
  const room = 0.06 * (most - least || 1);
  const panel = view.panel("scores", { width: 280, height: 262, left: 50, right: 20, label: `${score} over the training` });
  panel.axes({
    x: { domain: [0, ks.at(-1)], label: words.axis, ticks: ks.filter((k) => k % 4 === 0).map((k) => [k, nameAt(k, spec)]) },
    y: log ? { domain: [0.8 * least, 1.25 * most], log } : { domain: [least - room, most + room] },
    title: score,
  });
  panel.line("scores", ks, scores, { colour: "grey" });
  panel.dots("moments", scores.map((value, k) => [k, value]), { colour: "grey", radius: 3 });
  panel.hover((x) => {
    const k = Math.min(ks.at(-1), Math.max(0, Math.round(x)));
    return `${nameAt(k, spec)}: ${figures(scores[k])}`;
  });
  panel.handle("moment", {
    at: [moment, scores[moment]], by: [1, 0], label: "moment of the training", colour: "q",
    said: `${nameAt(moment, spec)}, ${score} ${figures(scores[moment])}`, move: ([x]) => ({ moment: x }),
  });
}

/** A number of any size with four figures. */
const figures = (value) => written(value, Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value) || 1))));
