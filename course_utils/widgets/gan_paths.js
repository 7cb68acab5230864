// Draws paths between latents: images and norms of a pair were computed by gan_paths.py; where t is, is drawn here.

import { controlOf, written } from "./stage.js";

/** The place of t, from 0 to 1, among so many. */
const placeOf = (t, count) => Math.round(t * (count - 1));

/** Of numbers (paths x n) the row of a path, as a view. */
const rowOf = (values, which) => {
  const length = values.length / values.shape[0];
  return values.subarray(which * length, (which + 1) * length);
};

export const gan_paths = {
  draw(view, numbers, state, spec) {
    const { side, strip, colours, words } = spec.constants;
    const paths = controlOf(spec, "path").options;
    const pixels = side * side;
    const steps = numbers.images.shape[1] - 1;
    const here = placeOf(state.t, strip + 1);
    paths.forEach(([path, label], which) => {
      const all = rowOf(numbers.images, which);
      const shown = new Uint8Array((strip + 1) * pixels);
      for (let i = 0; i <= strip; i++) {
        const from = ((i * steps) / strip) * pixels;
        shown.set(all.subarray(from, from + pixels), i * pixels);
      }
      const images = view.images(path, {
        width: 912, columns: strip + 1, label, pick: (i) => view.move({ path, t: i / strip }),
      });
      images.draw(shown, side, { title: label });
      images.frame(path === state.path ? [here] : [], colours[path]);
    });

    const from = placeOf(state.t, steps + 1) * pixels;
    paths.forEach(([path, label], which) => {
      const image = view.images(`${path} at t`, { width: 196, columns: 1, pick: () => view.change({ path }) });
      image.draw(rowOf(numbers.images, which).subarray(from, from + pixels), side, {
        title: `${label}, ${words.here}`, alt: `image ${label}, t = ${written(state.t, 2)}`,
      });
      image.frame(path === state.path ? [0] : [], colours[path]);
    });
    drawNorms(view, numbers, state, spec, paths);
  },

  read({ norms, shorter }, { path, t }, spec) {
    const paths = controlOf(spec, "path").options;
    const which = paths.findIndex(([name]) => name === path);
    const at = (values) => rowOf(values, which)[placeOf(t, values.shape[1])];
    return (
      `<b>${paths[which][1]}, t = ${written(t, 2)}: norm ${written(at(norms), 2)}</b>; under the prior ` +
      `${percent(at(shorter))} of the latents are shorter`
    );
  },
};

/** The norms along both paths over the prior's density of norms, and where t is. */
function drawNorms(view, { norms }, state, spec, paths) {
  const { top, density, colours, words } = spec.constants;
  const count = norms.shape[1];
  const ts = Array.from({ length: count }, (_, i) => i / (count - 1));
  const panel = view.panel("norms", {
    width: 470, height: 280, label: words.norms, legend: paths.map(([path, label]) => [colours[path], label]),
  });
  panel.axes({
    x: { domain: [0, 1], label: "t", digits: 1 },
    y: { domain: [0, top], label: words.norm },
    title: words.prior,
  });
  if (panel.shade !== view.dark) {
    panel.shade = view.dark;
    panel.image("prior", shading(density, view.colour("grey")), 1, [0, 1, 0, top]);
  }
  paths.forEach(([path], which) => panel.line(path, ts, rowOf(norms, which), { colour: colours[path] }));
  panel.hover((t) => {
    const told = paths.map(([, label], which) => `${label} ${written(rowOf(norms, which)[placeOf(t, count)], 2)}`);
    return `t ${written(t, 2)}: ${told.join(", ")}`;
  });
  const norm = rowOf(norms, paths.findIndex(([path]) => path === state.path))[placeOf(state.t, count)];
  const step = controlOf(spec, "t").step;
  panel.handle("t", {
    at: [state.t, norm], by: [step, 0], label: "t", colour: colours[state.path],
    said: `${written(state.t, 2)}, norm ${written(norm, 2)}`, move: ([t]) => ({ t }),
  });
}

/** A column of pixels, from above, the more opaque the larger a density (from 0 to 1) over norms from below. */
function shading(density, colour) {
  const [red, green, blue] = [1, 3, 5].map((i) => Number.parseInt(colour.slice(i, i + 2), 16));
  return Uint8ClampedArray.from(density.toReversed().flatMap((share) => [red, green, blue, 150 * share]));
}

/** A share in per cent with two figures, such as 0.0012 %. */
function percent(share) {
  if (share < 1e-9) return "hardly any";
  return `${Number((100 * share).toPrecision(2)).toLocaleString("en", { maximumFractionDigits: 9, useGrouping: false })} %`;
}
