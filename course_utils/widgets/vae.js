// W-manifold, the twin of vae.py: the decoder runs here, on weights in half precision.

import { ndtr } from "./mathematics.js";
import { network } from "./network.js";
import { lerp, slerp } from "./paths.js";
import { typed, written } from "./stage.js";

const PATHS = { straight: lerp, sphere: slerp };

/** What a model shows: bytes, codes, classes and, by what they depend on, what was computed last. */
function opened(label, { constants, assets }) {
  const { layers, side } = constants.models[label];
  const decoder = network(layers, assets[`${label}/weights`]);
  const outputs = layers.findLast(({ kind }) => kind === "linear").outputs; // a pixel's mean comes before all else
  const classes = typed("uint8", assets[`${label}/classes`]);
  return {
    codes: typed("float32", assets[`${label}/codes`]),
    classes,
    shades: Array.from(classes, (k) => `class ${k}`),
    last: {},
    /** E[x | z] as bytes, for points z. */
    decode(points) {
      const means = decoder(points.flat(), points.length);
      const bytes = new Uint8ClampedArray(points.length * side ** 2); // rounds, and stays within 0 and 255
      points.forEach((_, i) => {
        for (let p = 0; p < side ** 2; p++) bytes[i * side ** 2 + p] = 255 * means[i * outputs + p];
      });
      return bytes;
    },
  };
}

const widgets = new WeakMap(); // spec → its models
/** A model of a widget, made when it is shown for the first time. */
function modelOf(label, spec) {
  if (!widgets.has(spec)) widgets.set(spec, {});
  return (widgets.get(spec)[label] ??= opened(label, spec));
}

/** What `make` gives, or gave last if `of` has not changed. */
function kept(last, name, of, make) {
  const key = JSON.stringify(of);
  if (last[name]?.key !== key) last[name] = { key, value: make() };
  return last[name].value;
}

/** Class and distance of the code nearest to z. */
function nearest(z, { codes, classes }) {
  let [best, least] = [0, Infinity];
  for (let i = 0; i < classes.length; i++) {
    const squared = (codes[2 * i] - z[0]) ** 2 + (codes[2 * i + 1] - z[1]) ** 2;
    if (squared < least) [best, least] = [i, squared];
  }
  return [classes[best], Math.sqrt(least)];
}

const point = (name, state) => [state[`${name}1`], state[`${name}2`]];
const move = (name) => ([x, y]) => ({ [`${name}1`]: x, [`${name}2`]: y });
const pair = ([x, y]) => `(${written(x, 2)}, ${written(y, 2)})`;
const count = (n) => n.toLocaleString("en");

export const manifold = {
  compute(state, spec) {
    const { axis, stops, line } = spec.constants;
    const model = modelOf(state.model, spec);
    const [z, a, b] = ["z", "a", "b"].map((name) => point(name, state));
    const path = kept(model.last, "path", [state.path, a, b], () => {
      const way = Array.from({ length: line }, (_, i) => PATHS[state.path](a, b, i / (line - 1)));
      const places = way.filter((_, i) => i % ((line - 1) / (stops - 1)) === 0);
      return { line: way, stops: places, strip: model.decode(places) };
    });
    return {
      image: kept(model.last, "image", z, () => model.decode([z])),
      corner: z.map(ndtr),
      nearest: nearest(z, model),
      ...path,
      manifold: kept(model.last, "manifold", [], () => model.decode(axis.toReversed().flatMap((y) => axis.map((x) => [x, y])))),
    };
  },

  draw(view, numbers, state, spec) {
    const { axis, models, words, small } = spec.constants;
    const { side } = models[state.model];
    const gap = side < small ? 2 : 0;
    drawPlane(view, numbers, state, spec);
    const z = point("z", state);

    const image = view.images("image", { width: 172, least: 96, columns: 1, label: words.image });
    image.draw(numbers.image, side, { title: "decoded at z", alt: `The image decoded at z = ${pair(z)}.` });

    const grid = view.images("manifold", { width: 336, least: 232, columns: axis.length, gap, label: words.manifold, pick: true });
    grid.draw(numbers.manifold, side, { title: "manifold, equal mass in each cell" });
    grid.ring([numbers.corner[0], 1 - numbers.corner[1]], "q");
    grid.pick = (i) => view.move(move("z")([axis[i % axis.length], axis[axis.length - 1 - Math.floor(i / axis.length)]]));

    const strip = view.images("strip", { width: 916, columns: numbers.stops.length, label: words.strip, pick: true });
    strip.draw(numbers.strip, side, { title: `path from A ${pair(point("a", state))} to B ${pair(point("b", state))}` });
    strip.pick = (i) => view.move(move("z")(numbers.stops[i]));
  },

  read({ nearest: [digit, distance] }, state, spec) {
    const { label, inside, reach, views } = spec.constants.models[state.model];
    const z = point("z", state);
    const off = Math.max(...z.map(Math.abs)) > views[state.view].half ? ", off this plane, marked at its edge" : "";
    const [one, two, prior1, prior2] = [...inside, ...spec.constants.prior].map((share) => `${written(100 * share, 0)} %`);
    return (
      `<b>z = ${pair(z)}</b>${off}; nearest code: a ${digit}, ${written(distance, 2)} away · ` +
      `<b>${label}</b>: ${one} of the codes within 1σ of the prior, ${two} within 2σ ` +
      `(${prior1} and ${prior2} of the prior itself); farthest coordinate ${written(reach, 1)}`
    );
  },
};

function drawPlane(view, numbers, state, spec) {
  const { classes, models, stride, words } = spec.constants;
  const { count: all, views } = models[state.model];
  const { half, hidden, names, rings } = views[state.view];
  const model = modelOf(state.model, spec);
  const plane = view.panel("plane", {
    width: 376, height: 402, left: 40, label: words.plane, legend: classes.map((k) => [`class ${k}`, `${k}`, "dot"]),
  });
  const outside = hidden ? ` (${count(hidden)} of ${count(all)} codes outside)` : "";
  plane.axes({
    x: { domain: [-half, half], label: `z₁${outside}`, grid: false },
    y: { domain: [-half, half], label: "z₂", grid: false },
    title: "codes of test images",
  });
  plane.scatter(model.codes, model.shades);
  plane.hover((x, y) => `${pair([x, y])}: near a ${nearest([x, y], model)[0]}`);
  plane.press(move("z"));
  const turns = Array.from({ length: 91 }, (_, i) => (i * Math.PI) / 45);
  for (const [radius, dash] of [[1, null], [2, "5 4"]]) {
    const [xs, ys] = [Math.cos, Math.sin].map((f) => turns.map((turn) => radius * f(turn)));
    plane.line(`circle ${radius}`, xs, ys, { colour: "ink", width: 1.2, dash });
  }
  const [xs, ys] = [0, 1].map((i) => numbers.line.map((place) => place[i]));
  plane.line("path", xs, ys, { colour: "ink", halo: true });
  plane.dots("stops", numbers.stops.slice(1, -1), { colour: "ink", radius: 2.5 });
  write(plane, "ring", rings);
  write(plane, "big", names);

  const edge = (v) => (Math.abs(v) > half ? 0.96 * half * Math.sign(v) : v); // one off the plane is marked at its edge
  for (const [name, colour, letter] of [["a", "ground", "A"], ["b", "ground", "B"], ["z", "q", ""]]) {
    const place = point(name, state);
    plane.handle(name, {
      at: place.map(edge), by: [stride * half, stride * half], label: letter ? `${letter}, end of the path` : "z, the point that is decoded",
      colour, letter, said: pair(place), move: move(name),
    });
  }
}

/** Names [text, x, y] in the middle of their places. */
function write(panel, kind, names) {
  panel.marks.selectAll(`text.${kind}`).data(names).join("text").attr("class", `note ${kind}`)
    .attr("text-anchor", "middle").attr("dy", "0.36em").attr("x", ([, x]) => panel.x(x)).attr("y", ([, , y]) => panel.y(y))
    .text(([text]) => text);
}
