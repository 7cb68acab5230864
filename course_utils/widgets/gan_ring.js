// The switchboard's picture: what is seen of a training on the ring of eight Gaussians. The numbers come from the kernel.

import { scaleLinear } from "d3-scale";
import { typed, written } from "./stage.js";

/** Shades from the lowest to the highest byte, as rgba. */
function shades([low, middle, high]) {
  const mixed = scaleLinear().domain([0, 127.5, 255]).range([low, middle, high]);
  return Array.from({ length: 256 }, (_, i) => mixed(i).match(/\d+/g).slice(0, 3).map(Number));
}

/** The field (rows from below) as pixels, rows from above. */
function pixels(field, [rows, columns], colours) {
  const rgba = new Uint8ClampedArray(4 * rows * columns).fill(255);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) rgba.set(colours[field[i * columns + j]], 4 * ((rows - 1 - i) * columns + j));
  }
  return rgba;
}

/** A line that keeps each value until the next. */
const staircase = (xs, ys) => [xs.flatMap((x, i) => (i ? [x, x] : [x])), ys.flatMap((y, i) => (i < ys.length - 1 ? [y, y] : [y]))];

export const gan_ring = {
  draw(view, { samples, field, counts, looks, believed }, state, spec) {
    const { reach, places, steps, even, tops, belief, words } = spec.constants;
    const colours = shades(belief[view.dark ? 1 : 0]);
    const plane = view.panel("plane", {
      width: 420, height: 444, left: 42, right: 8, label: words.plane,
      legend: [["grey", "data", "dot"], ["q", "samples", "dot"]],
    });
    const axis = { domain: [-reach, reach], ticks: [-2, 0, 2].map((v) => [v, written(v, 0)]), grid: false };
    plane.axes({ x: { ...axis, label: "x₁" }, y: { ...axis, label: "x₂" }, title: `samples over ${believed}` });
    plane.image("field", pixels(field, field.shape, colours), field.shape[1], [-reach, reach, -reach, reach]);
    plane.cloud("data", typed("float32", spec.assets.data), { colour: "grey", radius: 1.4, opacity: 0.6 });
    plane.cloud("samples", samples, { colour: "q", radius: 1.7, opacity: 0.85 });
    places.forEach((place, k) => plane.text(`mode ${k}`, place, `${k + 1}`, { anchor: "middle", dy: 4 }));
    const ends = [0, 64, 128, 192, 255];
    plane.scale(ends, ends.map((i) => `rgb(${colours[i]})`), [], `${believed}, low to high`);
    plane.hover((x, y) => {
      const [row, column] = [y, x].map((v, k) => Math.min(field.shape[k] - 1, Math.floor(((v + reach) / (2 * reach)) * field.shape[k])));
      return `x ${written(x, 1)}, y ${written(y, 1)}: ${believed} ${written(field[row * field.shape[1] + column] / 255, 2)}`;
    });

    const [done, covered, quality] = [0, 1, 2].map((k) => Array.from(looks).filter((_, i) => i % 3 === k));
    const course = view.panel("course", {
      width: 420, height: 226, right: 36, pile: "side", label: words.course,
      legend: [["p", "modes covered"], ["good", "share of samples near a mode"]],
    });
    course.axes({
      x: { domain: [0, steps], label: "steps" },
      y: { domain: [0, 8.6], ticks: [0, 2, 4, 6, 8].map((v) => [v, `${v}`]), label: "modes" },
      right: { domain: [0, 1.075], ticks: [0, 0.5, 1].map((v) => [v, `${v}`]), colour: "good" },
      title: "the course of the training",
    });
    course.line("covered", ...staircase(done, covered), { colour: "p" });
    course.line("quality", done, quality, { colour: "good", by: "right" });
    course.dots("covered now", [[done.at(-1), covered.at(-1)]], { colour: "p", radius: 4 });
    course.dots("quality now", [[done.at(-1), quality.at(-1)]], { colour: "good", radius: 4, by: "right" });
    course.hover((x) => {
      const near = done.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(done[best] - x) ? i : best), 0);
      return `step ${done[near]}: ${covered[near]} modes, share ${written(quality[near], 2)}`;
    });

    const bars = view.panel("bars", {
      width: 420, height: 226, right: 36, pile: "side", label: words.bars,
      legend: [["q", "samples"], ["grey", "even shares", "dashed"]],
    });
    const top = tops.find((v) => Math.max(...counts) <= v);
    bars.axes({
      x: { domain: [0.4, 8.6], ticks: places.map((_, k) => [k + 1, `${k + 1}`]), label: "mode", grid: false },
      y: { domain: [0, 1.15 * top], ticks: [0, 0.5, 1].map((v) => [v * top, `${v * top}`]), label: "samples" },
      title: "samples near each mode",
    });
    counts.forEach((count, k) => bars.upright(`bar ${k}`, k + 1, count, { colour: "q" }));
    bars.line("even", [0.4, 8.6], [even, even], { colour: "grey", width: 1.4, dash: "5 4" });
    counts.forEach((count, k) => bars.text(`count ${k}`, [k + 1, count], `${count}`, { anchor: "middle", dy: -4 }));
    bars.hover((x) => {
      const k = Math.min(7, Math.max(0, Math.round(x) - 1));
      return `mode ${k + 1}: ${counts[k]} samples; even shares would be ${even}`;
    });
  },

  read({ name, done, steps, seconds, looks }) {
    const how = done < steps ? `after ${done} of ${steps} steps` : `${steps} steps in ${written(seconds, 0)} s`;
    return `<b>${looks.at(-2)} of 8 modes, ${written(100 * looks.at(-1), 0)} % of the samples near one</b> · ${name} · ${how}`;
  },
};
