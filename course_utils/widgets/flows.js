// Lecture 4's widgets, the twins of flows.py: a planar layer, a coupling flow layer by layer, and the drawing of a picture.

import { drag } from "d3-drag";
import { pointer } from "d3-selection";
import { linspace } from "./mathematics.js";
import { network } from "./network.js";
import { typed, written } from "./stage.js";

const LOG_ROOT = Math.log(2 * Math.PI); // of two numbers
const softplus = (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
const pair = ([x, y]) => `(${written(x, 2)}, ${written(y, 2)})`;
/** The points of a flat list x, y, x, y, … */
const points = (flat) => Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);

/** The centres of n x n cells of the plane, flat, row by row from below. */
function centres(n, reach) {
  const axis = Float64Array.from({ length: n }, (_, i) => ((i + 0.5) / n) * 2 * reach - reach);
  return Float64Array.from({ length: 2 * n * n }, (_, i) => axis[i % 2 ? Math.floor(i / 2 / n) : (i / 2) % n]);
}

/** The lines of a regular grid, each flat; the upright ones first. */
function gridLines({ lines, steps }) {
  const [at, along] = [lines, steps].map(linspace);
  const curves = (put) => Array.from(at, (v) => Float64Array.from({ length: 2 * along.length }, (_, i) => put(v, along[i >> 1], i % 2)));
  return [...curves((v, w, y) => (y ? w : v)), ...curves((v, w, y) => (y ? v : w))];
}

/** A colour's bytes for each of 256 shades. */
function shadesOf(colours) {
  const bytes = colours.map((colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => bytes[Math.floor((i / 256) * bytes.length)]);
}

/** Draw shades (numbers from 0 to 1, n x n, rows from below) as the ground of a panel of the plane. */
function ground(panel, share, n, { reach, shades }) {
  const colours = shadesOf(shades[panel.view.dark ? 1 : 0]);
  const rgba = new Uint8ClampedArray(4 * n * n).fill(255);
  for (let i = 0; i < n * n; i++) {
    const row = n - 1 - Math.floor(i / n);
    rgba.set(colours[Math.min(255, Math.floor(256 * share(i)))], 4 * (row * n + (i % n)));
  }
  panel.image("density", rgba, n, [-reach, reach, -reach, reach]);
}

/** The number of the cell, of n x n, that holds a point of the plane. */
const cellAt = ([x, y], n, reach) =>
  [y, x].reduce((index, v) => index * n + Math.min(n - 1, Math.max(0, Math.floor(((v + reach) / (2 * reach)) * n))), 0);

/** The axes of a panel of the plane, one unit as long on both. */
const planeAxes = (reach, x, y, title) => {
  const axis = { domain: [-reach, reach], ticks: [-4, -2, 0, 2, 4].filter((v) => Math.abs(v) <= reach).map((v) => [v, written(v, 0)]), grid: false };
  return { x: { ...axis, label: x }, y: { ...axis, label: y }, title };
};

// W-flow ---------------------------------------------------------------------------------------------------------------

/** A layer as seen from its hyperplane: r = n·x − d moves to r + k tanh(s r). */
function planeOf({ angle, steepness: s, offset: d, u1, u2, enforce }) {
  const turn = (angle * Math.PI) / 180;
  const n = [Math.cos(turn), Math.sin(turn)];
  const dot = s * (n[0] * u1 + n[1] * u2); // w·u
  const more = enforce ? (softplus(dot) - 1 - dot) / s : 0;
  const u = [u1 + more * n[0], u2 + more * n[1]]; // (4.6c)
  return { n, d, s, u, k: n[0] * u[0] + n[1] * u[1] };
}

const distance = ({ n, d }, x, y) => n[0] * x + n[1] * y - d;
const determinant = ({ s, k }, r) => 1 + (1 - Math.tanh(s * r) ** 2) * s * k;

/** Points after the layer, flat. */
function moved(plane, flat) {
  const after = Float64Array.from(flat);
  for (let i = 0; i < flat.length; i += 2) {
    const h = Math.tanh(plane.s * distance(plane, flat[i], flat[i + 1]));
    after[i] += h * plane.u[0];
    after[i + 1] += h * plane.u[1];
  }
  return after;
}

/** A distance that the layer moves to v: one of three where the plane folds. */
function before({ s, k }, v, halvings) {
  let [low, high] = [v - Math.abs(k), v + Math.abs(k)];
  for (let i = 0; i < halvings; i++) {
    const middle = (low + high) / 2;
    if (middle + k * Math.tanh(s * middle) < v) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

function baseDensity(x, y, { base }, { square }) {
  if (base === "gaussian") return Math.exp(-0.5 * (x * x + y * y) - LOG_ROOT);
  return Math.max(Math.abs(x), Math.abs(y)) < square ? 1 / (2 * square) ** 2 : 0;
}

/** The density of n·x at a, for x of the base. */
function baseAlong(a, n, { base }, { square }) {
  if (base === "gaussian") return Math.exp(-0.5 * (a * a + LOG_ROOT));
  const sides = n.map(Math.abs);
  const [long, short] = [square * Math.max(...sides), square * Math.max(1e-9, Math.min(...sides))];
  return Math.min(1, Math.max(0, (long + short - Math.abs(a)) / (2 * short))) / (2 * long);
}

function densityAt(plane, x, y, state, constants) {
  const r = before(plane, distance(plane, x, y), constants.halvings);
  const h = Math.tanh(plane.s * r);
  return baseDensity(x - h * plane.u[0], y - h * plane.u[1], state, constants) / Math.abs(determinant(plane, r));
}

/** The integral of the density, in the cube root of n·z − d. */
function integralOf(plane, state, constants) {
  const { nodes, far, halvings } = constants;
  let sum = 0;
  for (let i = 0; i < nodes; i++) {
    const root = ((i + 0.5) * 2 * far) / nodes - far;
    const r = before(plane, root ** 3, halvings);
    sum += (baseAlong(r + plane.d, plane.n, state, constants) / Math.abs(determinant(plane, r))) * 3 * root ** 2;
  }
  return (sum * 2 * far) / nodes;
}

/** An arrow between two points of a panel. */
function arrow(panel, name, from, to, { colour, width = 2.5, dash = null }) {
  const [dx, dy] = [0, 1].map((i) => to[i] - from[i]);
  const length = Math.hypot(dx, dy) || 1;
  const size = Math.min(0.3, 0.5 * length) / length;
  const side = (sign) => [to[0] - size * (dx + sign * 0.45 * dy), to[1] - size * (dy - sign * 0.45 * dx)];
  panel.lines(name, [[...from, ...to]], { colour, width, dash });
  panel.lines(`${name} head`, [[...side(1), ...to, ...side(-1)]], { colour, width });
}

/** The line at a distance r from the hyperplane, beyond the plane that is shown, flat. */
const along = ({ n, d }, r, reach) => [-3 * reach, 3 * reach].flatMap((t) => [(d + r) * n[0] - t * n[1], (d + r) * n[1] + t * n[0]]);

/** The stripe along it between two distances, as a shape of the axes' units. */
const stripe = (plane, [from, to], reach) => {
  const [there, back] = [from, to].map((r) => points(along(plane, r, reach)));
  return { coordinates: [[[...there, ...back.reverse()]]] };
};

const UNITS = [1, 1, [0, 1, 0, 1]]; // of shapes given in the axes' own
/** The ground's points by the side of the hyperplane that they come from. */
function sides(plane, base, shown) {
  const found = [[], []];
  for (let i = 0; i < base.length; i += 2) found[distance(plane, base[i], base[i + 1]) < 0 ? 0 : 1].push(shown[i], shown[i + 1]);
  return found;
}

export const planar = {
  compute(state, spec) {
    const { constants } = spec;
    const plane = planeOf(state);
    const slope = plane.s * plane.k;
    const pixels = centres(constants.pixels, constants.reach);
    return {
      u: plane.u,
      slope,
      smallest: Math.min(1, 1 + slope),
      band: slope < -1 ? Math.acosh(Math.sqrt(-slope)) / plane.s : 0,
      points: moved(plane, constants.points[state.base]),
      lines: Float64Array.from(gridLines(constants).flatMap((curve) => Array.from(moved(plane, curve)))),
      density: Float64Array.from({ length: pixels.length / 2 }, (_, i) => densityAt(plane, pixels[2 * i], pixels[2 * i + 1], state, constants)),
      integral: integralOf(plane, state, constants),
    };
  },

  draw(view, numbers, state, spec) {
    const { constants } = spec;
    const plane = planeOf(state);
    const base = constants.points[state.base];
    drawBefore(view, plane, base, numbers, state, constants);
    drawArrows(view, plane, numbers, state, constants);
    drawAfter(view, plane, base, numbers, state, constants);
  },

  read({ slope, smallest, integral }, { enforce }) {
    const dot = enforce ? "w·û" : "w·u";
    const verdict = slope > -1 ? "> −1: invertible" : "≤ −1: not invertible";
    const lost = integral < 0.99 ? " where three x lead to one z, the formula takes one of them and loses the others" : "";
    return `<b>${dot} = ${written(slope)} ${verdict}</b> · smallest determinant ${written(smallest)} · ∫ p(z) dz = <b>${written(integral, 2)}</b>${lost}`;
  },
};

const SIZE = { width: 330, height: 366, left: 40, right: 6 };

function drawBefore(view, plane, base, { band }, state, { reach, words, tip, ...constants }) {
  const panel = view.panel("before", {
    ...SIZE, label: words.before, legend: [["ink", "hyperplane", "line"], ["amber", "determinant < 0", "area"]],
  });
  const { n, d, s } = plane;
  panel.axes(planeAxes(reach, "x₁", "x₂", "before: x"));
  panel.contours("negative", band ? [stripe(plane, [-band, band], reach)] : [], [`${view.colour("amber")}70`], ...UNITS);
  panel.lines("grid", gridLines(constants), { colour: "grey", opacity: 0.55 });
  sides(plane, base, base).forEach((side, i) => panel.cloud(`side ${i}`, side, { colour: "pq"[i], radius: 1.6 }));
  const foot = [d * n[0], d * n[1]];
  const long = tip[0] + tip[1] * s;
  const end = foot.map((v, i) => v + long * n[i]);
  panel.lines("plane", [along(plane, 0, reach)], { colour: "ink", width: 2.5 });
  arrow(panel, "w", foot, end, { colour: "ink" });
  panel.hover((x, y) => `x ${pair([x, y])}: det ${written(determinant(plane, distance(plane, x, y)), 2)}`);
  panel.handle("w", {
    at: end, by: [0.05, 0.05], label: "w: turns the hyperplane, and its length is ‖w‖", colour: "ground", letter: "w",
    said: `angle ${state.angle}°, ‖w‖ ${written(s, 2)}`,
    move: ([x, y]) => {
      const [dx, dy] = [x - foot[0], y - foot[1]];
      return { angle: (Math.atan2(dy, dx) * 180) / Math.PI, steepness: (Math.hypot(dx, dy) - tip[0]) / tip[1] };
    },
  });
  panel.handle("hyperplane", {
    at: foot, by: [0.1, 0.1], label: "hyperplane, along its normal", colour: "ink", said: `offset ${written(d, 2)}`,
    move: ([x, y]) => ({ offset: n[0] * x + n[1] * y }),
  });
}

function drawArrows(view, plane, { u }, state, { reach, words }) {
  const panel = view.panel("arrows", {
    width: 240, height: 276, left: 36, right: 6, label: words.arrows,
    legend: [["good", "w·u > −1", "area"], ["q", "u"], ["gap", "û"]],
  });
  const { n, s } = plane;
  const origin = { n, d: 0 };
  panel.axes(planeAxes(reach, "", "", "where the tip of u may be"));
  panel.contours("allowed", [stripe(origin, [-1 / s, 3 * reach], reach)], [`${view.colour("good")}38`], ...UNITS);
  panel.lines("edge", [along(origin, -1 / s, reach)], { colour: "good", width: 2, dash: "5 4" });
  arrow(panel, "w", [0, 0], [s * n[0], s * n[1]], { colour: "ink" });
  panel.text("w's name", [s * n[0], s * n[1]], "w", { anchor: "middle", dx: 12 * n[0], dy: 4 - 12 * n[1] });
  const raw = [state.u1, state.u2];
  arrow(panel, "u", [0, 0], raw, { colour: "q", dash: state.enforce ? "4 3" : null, width: state.enforce ? 1.6 : 3 });
  panel.lines("shift", state.enforce ? [[...raw, ...u]] : [], { colour: "grey", dash: "2 3" });
  arrow(panel, "û", [0, 0], state.enforce ? u : [0, 0], { colour: "gap", width: state.enforce ? 3 : 0 });
  panel.hover((x, y) => `w·u = ${written(s * (n[0] * x + n[1] * y), 2)}`);
  panel.handle("u", {
    at: raw, by: [0.1, 0.1], label: "tip of u", colour: "q", said: pair(raw), move: ([x, y]) => ({ u1: x, u2: y }),
  });
}

function drawAfter(view, plane, base, numbers, state, constants) {
  const { reach, pixels, top, words, lines, steps } = constants;
  const panel = view.panel("after", { ...SIZE, label: words.after, legend: [["ink", "hyperplane"], ["p", "density p(z)", "area"]] });
  panel.axes(planeAxes(reach, "z₁", "z₂", `after: z = x + ${state.enforce ? "û" : "u"} tanh(w·x + b)`));
  ground(panel, (i) => Math.sqrt(Math.min(1, numbers.density[i] / top)), pixels, constants);
  const long = 2 * steps.n;
  const curves = Array.from({ length: 2 * lines.n }, (_, k) => numbers.lines.slice(k * long, (k + 1) * long));
  panel.lines("grid", curves, { colour: "grey", opacity: 0.7 });
  sides(plane, base, numbers.points).forEach((side, i) => panel.cloud(`side ${i}`, side, { colour: "pq"[i], radius: 1.6 }));
  panel.lines("plane", [along(plane, 0, reach)], { colour: "ink", width: 1.5 });
  panel.hover((x, y) => `z ${pair([x, y])}: p ${written(numbers.density[cellAt([x, y], pixels, reach)])}`);
}

// W-layers -------------------------------------------------------------------------------------------------------------

/** Put into `found` K + 1 knots: running sums of K shares, softened by `least`, from −limit to limit. */
function knots(raw, first, { bins, limit, least }, found) {
  let [top, sum, share] = [-Infinity, 0, 0];
  for (let i = 0; i < bins; i++) top = Math.max(top, raw[first + i]);
  for (let i = 0; i < bins; i++) sum += found[i + 1] = Math.exp(raw[first + i] - top);
  found[0] = -limit;
  for (let i = 1; i < bins; i++) found[i] = 2 * limit * (share += least + ((1 - bins * least) * found[i]) / sum) - limit;
  found[bins] = limit;
}

/** A rational-quadratic spline with the parameters raw[first …], or its inverse, at v: the result and its log-slope. */
function splineAt(v, raw, first, how, back) {
  const { bins, limit, least, across, up } = how;
  if (!(Math.abs(v) < limit)) return [v, 0];
  knots(raw, first, how, across);
  knots(raw, first + bins, how, up);
  const along = back ? up : across;
  let i = 0;
  while (i < bins - 1 && along[i + 1] < v) i++;
  const slope = (j) => (j === 0 || j === bins ? 1 : least + softplus(raw[first + 2 * bins + j - 1] + Math.log(Math.expm1(1 - least))));
  const [d0, d1] = [slope(i), slope(i + 1)];
  const [width, height] = [across[i + 1] - across[i], up[i + 1] - up[i]];
  const mean = height / width;
  let xi;
  if (back) {
    const rise = v - up[i];
    const bend = rise * (d0 + d1 - 2 * mean);
    const [a, b, c] = [height * (mean - d0) + bend, height * d0 - bend, -mean * rise];
    xi = (2 * c) / (-b - Math.sqrt(Math.max(0, b * b - 4 * a * c)));
  } else {
    xi = (v - across[i]) / width;
  }
  const cross = xi * (1 - xi);
  const below = mean + (d0 + d1 - 2 * mean) * cross;
  const logSlope = 2 * Math.log(mean) + Math.log(d1 * xi * xi + 2 * mean * cross + d0 * (1 - xi) ** 2) - 2 * Math.log(below);
  if (back) return [across[i] + xi * width, -logSlope];
  return [up[i] + (height * (mean * xi * xi + d0 * cross)) / below, logSlope]; // (4.7c)
}

/** z = exp(s) x + t or its inverse, and its log-slope. (4.7a) */
function affineAt(v, raw, first, { bound }, back) {
  const s = bound === null ? raw[first] : bound * Math.tanh(raw[first] / bound);
  return back ? [(v - raw[first + 1]) * Math.exp(-s), -s] : [Math.exp(s) * v + raw[first + 1], s];
}

/** A coupling of two numbers: points, flat, to points and log-slopes, in one direction or `back`. */
function coupling(how, weights) {
  const parameters = network(how.network, weights);
  const [stays, moves] = how.swap ? [1, 0] : [0, 1];
  const at = how.kind === "spline" ? splineAt : affineAt;
  const room = { ...how, ...(how.bins && { across: new Float64Array(how.bins + 1), up: new Float64Array(how.bins + 1) }) };
  return (flat, back) => {
    const n = flat.length / 2;
    const raw = parameters(Float64Array.from({ length: n }, (_, i) => flat[2 * i + stays]), n);
    const [each, after, logSlopes] = [raw.length / n, Float64Array.from(flat), new Float64Array(n)];
    for (let i = 0; i < n; i++) [after[2 * i + moves], logSlopes[i]] = at(flat[2 * i + moves], raw, i * each, room, back);
    return [after, logSlopes];
  };
}

/** A flow in the page, and what of it was computed already. */
function opened({ constants, assets }) {
  const steps = constants.layers.map((how, i) => coupling(how, assets[`layer ${i + 1}`]));
  const flow = {
    /** Points as they are after `start` layers, on through the others: their states, and each layer's log-slopes. */
    forward(flat, start = 0) {
      const [states, logSlopes] = [[flat], []];
      for (const step of steps.slice(start)) {
        const [z, slopes] = step(states.at(-1), false);
        states.push(z);
        logSlopes.push(slopes);
      }
      return { states, logSlopes };
    },
    /** Points after `start` layers, back to the data, which come first. */
    backward(flat, start) {
      const states = [flat];
      for (const step of steps.slice(0, start).toReversed()) states.unshift(step(states[0], true)[0]);
      return states;
    },
    samples: null,
    lines: {},
    densities: [],
  };
  flow.samples = flow.backward(Float64Array.from(typed("float32", assets.noise)), steps.length);
  return flow;
}

const flows = new WeakMap(); // spec → its flow
/** The flow of a widget, made when it is needed for the first time. */
function flowOf(spec) {
  if (!flows.has(spec)) flows.set(spec, opened(spec));
  return flows.get(spec);
}

const logNormal = (x, y) => -0.5 * (x * x + y * y) - LOG_ROOT;

/** The grid's lines in all states, from the end where it is regular. */
function linesOf(flow, which, { constants }) {
  const regular = () => Float64Array.from(gridLines(constants).flatMap((curve) => Array.from(curve)));
  return (flow.lines[which] ??= which === "data" ? flow.forward(regular()).states : flow.backward(regular(), constants.layers.length));
}

/** The log-density, after so many layers, at the plane's pixels. */
function logDensityAfter(flow, layer, { constants }) {
  if (flow.densities[layer]) return flow.densities[layer];
  const { states, logSlopes } = flow.forward(centres(constants.pixels, constants.reach), layer);
  const z = states.at(-1);
  const sum = (i) => logSlopes.reduce((total, slopes) => total + slopes[i], logNormal(z[2 * i], z[2 * i + 1]));
  return (flow.densities[layer] = Float64Array.from({ length: z.length / 2 }, (_, i) => sum(i)));
}

export const layers = {
  compute({ layer, grid, p1, p2, at }, spec) {
    const flow = flowOf(spec);
    const { states, logSlopes } = flow.forward(flow.backward([p1, p2], at)[0]);
    return {
      lines: linesOf(flow, grid, spec)[layer],
      samples: flow.samples[layer],
      log_density: logDensityAfter(flow, layer, spec),
      path: Float64Array.from(states.flatMap((state) => Array.from(state))),
      log_dets: Float64Array.from(logSlopes, ([slope]) => slope),
      base: logNormal(...states.at(-1)),
    };
  },

  draw(view, numbers, state, spec) {
    drawLayer(view, numbers, state, spec);
    drawTerms(view, numbers, state, spec);
  },

  read({ path, log_dets: terms, base }, { layer }, { constants: { names } }) {
    const places = points(path);
    const sum = terms.reduce((total, term) => total + term, 0);
    const where = layer % terms.length ? `after layer ${layer} ${pair(places[layer])} → ` : "";
    return (
      `<b>x = ${pair(places[0])} → ${where}z = ${pair(places.at(-1))}</b> · ` +
      `log p(x) = log N(z) + Σ log|det| = ${written(base, 2)} ${sum < 0 ? "−" : "+"} ${written(Math.abs(sum), 2)} = <b>${written(base + sum, 2)} nats</b> · ` +
      `shown: ${layer % terms.length ? `after ${layer} of ${terms.length} layers` : names[layer]}`
    );
  },
};

function drawLayer(view, numbers, { layer }, spec) {
  const { reach, pixels, words, lines, steps, sectors, layers: all } = spec.constants;
  const panel = view.panel("plane", {
    width: 470, height: 504, left: 42, right: 8, label: words.plane, legend: [["amber", "the point's path"], ["p", "samples", "dot"]],
  });
  const where = layer === 0 ? "the data, layer 0" : layer === all.length ? `the noise, after all ${layer} layers` : `after ${layer} of ${all.length} layers`;
  panel.axes(planeAxes(reach, "first number", "second number", where));
  const top = numbers.log_density.reduce((best, v) => Math.max(best, v), -Infinity);
  ground(panel, (i) => Math.exp(0.5 * (numbers.log_density[i] - top)), pixels, spec.constants);
  const long = 2 * steps.n;
  const curves = Array.from({ length: 2 * lines.n }, (_, k) => numbers.lines.slice(k * long, (k + 1) * long));
  panel.lines("grid", curves, { colour: "ink", opacity: 0.35 });
  const noise = typed("float32", spec.assets.noise);
  const quarters = sectors.map(() => []);
  for (let i = 0; i < noise.length; i += 2) {
    quarters[(noise[i] > 0 ? 1 : 0) + (noise[i + 1] > 0 ? 2 : 0)].push(numbers.samples[i], numbers.samples[i + 1]);
  }
  quarters.forEach((quarter, k) => panel.cloud(`samples ${k}`, quarter, { colour: sectors[k], radius: 1.7 }));
  const path = points(numbers.path);
  panel.line("path", path.map(([x]) => x), path.map(([, y]) => y), { colour: "amber", width: 2.5, halo: true });
  panel.dots("stops", path, { colour: "amber", radius: 3.5 });
  panel.text("data", path[0], "x", { dx: -14, dy: -4 });
  panel.text("noise", path.at(-1), "z", { dx: 8, dy: 14 });
  const move = ([x, y]) => ({ p1: x, p2: y, at: layer });
  panel.press(move);
  panel.hover((x, y) => `${pair([x, y])}: log p ${written(numbers.log_density[cellAt([x, y], pixels, reach)], 1)}`);
  panel.handle("point", {
    at: path[layer], by: [0.05, 0.05], label: "point that is followed", colour: "amber", said: pair(path[layer]), move,
  });
}

function drawTerms(view, { log_dets: terms, base }, { layer }, spec) {
  const { words, terms: [low, high] } = spec.constants;
  const count = terms.length;
  const panel = view.panel("terms", {
    width: 420, height: Math.max(300, 34 * (count + 2) + 80), left: 76, label: words.terms,
    legend: [["grey", "log N(z)", "area"], ["good", "a layer adds", "area"], ["q", "or takes away", "area"]],
  });
  const sums = [base];
  for (const term of terms.toReversed()) sums.push(sums.at(-1) + term); // from the noise to the data
  const rows = ["z", ...Array.from(terms, (_, i) => `layer ${count - i}`), "log p(x)"];
  panel.axes({
    x: { domain: [low, high], label: "log-density in nats" },
    y: { domain: [-(rows.length - 1) - 0.6, 0.6], ticks: rows.map((name, i) => [-i, name]), grid: false },
    title: "from log N(z) to log p(x)",
  });
  sums.forEach((sum, i) => {
    const from = i ? sums[i - 1] : 0;
    const colour = i ? (sum < from ? "q" : "good") : "grey";
    panel.bar(`bar ${i}`, -i, [from, sum], { colour });
    panel.text(`term ${i}`, [sum, -i], `${i && sum >= from ? "+" : ""}${written(sum - from, 2)}`, { anchor: sum < from ? "end" : "start", dx: sum < from ? -4 : 4, dy: 4 });
  });
  panel.bar("whole", 1 - rows.length, [0, sums.at(-1)], { colour: "amber" });
  panel.text("total", [sums.at(-1), 1 - rows.length], written(sums.at(-1), 2), { anchor: sums.at(-1) < 0 ? "end" : "start", dx: sums.at(-1) < 0 ? -4 : 4, dy: 4 });
  panel.line("zero", [0, 0], [1, -rows.length], { colour: "ink", width: 1 });
  panel.line("here", [low, high], Array(2).fill(layer - count - 0.5), { colour: "amber", width: 1.5, dash: "5 4" });
}

// W-picture ------------------------------------------------------------------------------------------------------------

/** The cells of a bitmap, 1 for ink, row by row from above. */
const cellsOf = (text) => Uint8Array.from([...text].flatMap((digit) => [8, 4, 2, 1].map((bit) => (parseInt(digit, 16) & bit ? 1 : 0))));

/** Cells as a bitmap's text. */
const textOf = (cells) =>
  Array.from({ length: cells.length / 4 }, (_, i) => (8 * cells[4 * i] + 4 * cells[4 * i + 1] + 2 * cells[4 * i + 2] + cells[4 * i + 3]).toString(16)).join("");

/** A bitmap with ink, or none, within a radius of the way between two places [column, row]. */
function painted(text, side, from, to, [radius, ink]) {
  const cells = cellsOf(text);
  const stops = Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])) || 1;
  for (let k = 0; k <= stops; k++) {
    const [column, row] = [0, 1].map((i) => from[i] + (k / stops) * (to[i] - from[i]));
    for (let i = 0; i < cells.length; i++) {
      const [dx, dy] = [(i % side) + 0.5 - column, Math.floor(i / side) + 0.5 - row];
      if (Math.hypot(dx, dy) <= radius || (Math.floor(column) === i % side && Math.floor(row) === Math.floor(i / side))) cells[i] = ink;
    }
  }
  return textOf(cells);
}

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Let the pointer draw on a panel, and the keyboard: arrow keys move the pen, space draws where it stands. */
function makePad(panel, view, side, { half, words }) {
  const svg = panel.svg;
  const [left, right, top, bottom] = [panel.x(-half), panel.x(half), panel.y(half), panel.y(-half)];
  const cell = (right - left) / side;
  const pad = { at: [side / 2 + 0.5, side / 2 + 0.5] }; // the pen, in columns and rows
  const place = (event) => {
    const [x, y] = pointer(event, svg.node());
    return [(x - left) / cell, (y - top) / cell];
  };
  const paint = (to, from = to) => {
    pad.at = to.map((v) => Math.min(side - 0.5, Math.max(0.5, Math.floor(v) + 0.5)));
    pad.text = painted(pad.text, side, from, to, pad.pen); // events may come faster than frames
    view.move({ picture: pad.text });
  };
  const ground = svg.append("rect").attr("class", "ground pad").attr("x", left).attr("y", top).attr("width", right - left).attr("height", bottom - top)
    .attr("tabindex", 0).attr("role", "application").attr("aria-label", words.picture).style("touch-action", "none");
  const pen = svg.append("circle").attr("class", "pen").attr("fill", "none").attr("stroke-width", 2).style("pointer-events", "none");
  ground.call(drag().container(svg.node()).on("start drag", ({ type, sourceEvent }) => {
    const to = place(sourceEvent.touches?.[0] ?? sourceEvent);
    if (type === "start") ground.node().focus({ preventScroll: true });
    paint(to, type === "start" ? to : pad.last);
    pad.last = to;
  }));
  ground.on("dblclick", (event) => event.stopPropagation()); // two dots, no reset
  ground.on("keydown", (event) => {
    const way = WAYS[event.key];
    if (!way && event.key !== " ") return;
    event.preventDefault();
    const to = way ? pad.at.map((v, i) => Math.min(side - 0.5, Math.max(0.5, v + way[i]))) : pad.at;
    if (way && !event.shiftKey) pad.at = to;
    else paint(to, pad.at);
    pad.show();
  });
  pad.show = () =>
    pen.attr("cx", left + cell * pad.at[0]).attr("cy", top + cell * pad.at[1]).attr("r", cell * Math.max(0.7, pad.pen[0]))
      .attr("stroke", view.colour("gap"));
  return pad;
}

export const picture = {
  actions: { clear: ({ picture: text }) => ({ picture: "0".repeat(text.length) }) },

  preview(view, state, spec) {
    const { reach, half, pens, words } = spec.constants;
    const { side } = spec.controls.find(({ kind }) => kind === "bitmap");
    const panel = view.panel("picture", { width: 300, height: 334, left: 40, right: 6, label: words.picture });
    const cells = cellsOf(state.picture);
    const share = cells.reduce((sum, cell) => sum + cell, 0) / cells.length;
    panel.axes(planeAxes(reach, "x₁", "x₂", `your picture: ${written(100 * share, 0)} % ink`));
    const [paper, ink] = ["ground", "ink"].map((name) => [1, 3, 5].map((i) => parseInt(view.colour(name).slice(i, i + 2), 16)));
    const rgba = new Uint8ClampedArray(4 * cells.length).fill(255);
    cells.forEach((cell, i) => rgba.set(cell ? ink : paper, 4 * i));
    panel.image("cells", rgba, side, [-half, half, -half, half]);
    panel.marks.select("[data-key=cells]").style("image-rendering", "pixelated");
    panel.lines("frame", [[-half, -half, half, -half, half, half, -half, half, -half, -half]], { colour: "grey" });
    panel.pad ??= makePad(panel, view, side, spec.constants);
    Object.assign(panel.pad, { text: state.picture, pen: pens[state.pen] });
    panel.pad.show();
  },

  draw(view, { looks, samples, density, entropy, done }, state, spec) {
    const { reach, pixels, even, steps, words } = spec.constants;
    const learned = view.panel("learned", { width: 300, height: 334, left: 40, right: 6, label: words.learned, legend: [["p", "density", "area"], ["q", "samples", "dot"]] });
    learned.axes(planeAxes(reach, "x₁", "x₂", `the flow after ${done} of ${steps} steps`));
    ground(learned, (i) => density[i] / 255, pixels, spec.constants);
    learned.cloud("samples", samples, { colour: "q", radius: 1.2, opacity: 0.75 });
    learned.hover((x, y) => {
      const times = (density[cellAt([x, y], pixels, reach)] / even) ** 2;
      return `${pair([x, y])}: ${written(times, 2)} × the picture's density`;
    });

    const [at, loss] = [0, 1].map((k) => Array.from(looks).filter((_, i) => i % 2 === k));
    const course = view.panel("course", {
      width: 290, height: 334, left: 46, label: words.course, legend: [["p", "held-out NLL"], ["grey", "the picture's entropy", "dashed"]],
    });
    course.axes({
      x: { domain: [0, steps], label: "steps" },
      y: { domain: [Math.floor(entropy), Math.max(Math.ceil(loss[0]), Math.floor(entropy) + 1)], label: "nats", digits: 1 },
      title: "the course of the training",
    });
    course.line("entropy", [0, steps], [entropy, entropy], { colour: "grey", dash: "5 4" });
    course.line("loss", at, loss, { colour: "p" });
    course.dots("now", [[at.at(-1), loss.at(-1)]], { colour: "p", radius: 4 });
    course.hover((x) => {
      const i = at.reduce((best, v, j) => (Math.abs(v - x) < Math.abs(at[best] - x) ? j : best), 0);
      return `step ${at[i]}: ${written(loss[i], 2)} nats`;
    });
  },

  read({ looks, entropy, done, steps, seconds }) {
    const loss = looks.at(-1);
    const how = done < steps ? `after ${done} of ${steps} steps` : `${steps} steps in ${written(seconds, 0)} s`;
    return (
      `<b>KL(picture ‖ flow) = ${written(loss - entropy, 2)} nats</b>: held-out negative log-likelihood ${written(loss, 2)}, ` +
      `less the picture's entropy ${written(entropy, 2)} = log of its area · ${how}`
    );
  },
};
