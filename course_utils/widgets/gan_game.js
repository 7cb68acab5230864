// The twin of gan_game.py: the optimal discriminator, the game's value and the generator's gradient.

import { gaussianLogProb, linspace, ndtr, placeIn, softMinus } from "./mathematics.js";
import { written } from "./stage.js";

const CURVES = ["value", "best", "js", "w1", "saturating", "non_saturating"];
const sigmoid = (l) => 1 / (1 + Math.exp(-l));

/** log p, its derivative and its cumulative distribution on the grid x. */
function realDensity({ weights, means, sigmas }, x) {
  const parts = weights.map((weight, c) => x.map((v) => Math.log(weight) + gaussianLogProb(v, means[c], sigmas[c])));
  const top = x.map((_, i) => Math.max(...parts.map((part) => part[i])));
  const logP = x.map((_, i) => top[i] + Math.log(parts.reduce((sum, part) => sum + Math.exp(part[i] - top[i]), 0)));
  const slope = x.map((v, i) =>
    parts.reduce((sum, part, c) => sum - (Math.exp(part[i] - logP[i]) * (v - means[c])) / sigmas[c] ** 2, 0),
  );
  const cdf = x.map((v) => weights.reduce((sum, weight, c) => sum + weight * ndtr((v - means[c]) / sigmas[c]), 0));
  return { logP, p: logP.map(Math.exp), slope, cdf };
}

/** Log density, density and cumulative distribution of N(0, width²) at x. */
function gaussianAt(x, width) {
  const logQ = x.map((v) => gaussianLogProb(v, 0, width));
  return { x, logQ, q: logQ.map(Math.exp), cdf: x.map((v) => ndtr(v / width)) };
}

/**
 * Value, divergences and gradients for a p_g of this width, by quadrature on an even grid. `around` has p_g at x - mean,
 * from its place `first` on. With the logit l, log D = min(l, 0) - softMinus(|l|) and log(1 - D) = -max(l, 0) - softMinus(|l|).
 */
function curvesAt({ x, logQ, q, cdf }, first, width, sharpness, real) {
  const step = x[1] - x[0];
  const n = real.p.length;
  let [best, mass, value, w1, saturating, nonSaturating] = [0, 0, 0, 0, 0, 0];
  for (let i = 0, k = first; i < n; i++, k++) {
    const weight = i === 0 || i === n - 1 ? 0.5 * step : step; // the trapezoidal rule
    w1 += weight * Math.abs(real.cdf[i] - cdf[k]);
    const logP = real.logP[i];
    const logG = logQ[k];
    if (logP < -60 && logG < -60) continue; // less than 1e-26
    const p = weight * real.p[i];
    const g = weight * q[k];
    const optimal = logP - logG;
    const soft = softMinus(Math.abs(optimal));
    best -= p * (soft - Math.min(optimal, 0)) + g * (soft + Math.max(optimal, 0));
    mass += p + g;
    let believed = p / (p + g); // D
    let doubted = g / (p + g); // 1 - D
    if (sharpness < 1) {
      const logit = sharpness * optimal;
      const flat = softMinus(Math.abs(logit));
      value -= p * (flat - Math.min(logit, 0)) + g * (flat + Math.max(logit, 0));
      believed = sigmoid(logit);
      doubted = 1 - believed;
    }
    const steep = sharpness * (real.slope[i] + x[k] / width ** 2); // of the logits, in x
    saturating -= g * believed * steep;
    nonSaturating -= g * doubted * steep;
  }
  return {
    value: sharpness < 1 ? value : best,
    best,
    js: 0.5 * (best + Math.LN2 * mass),
    w1,
    saturating,
    non_saturating: nonSaturating,
  };
}

const real = {}; // by kind of data
let last = { of: "" }; // the curves over the means, which stay while only the mean moves

/** The means, which are points of the grid x. */
function meansOf(x, spec) {
  const [start, stop, step] = spec.constants.means;
  return x.slice(start, stop).filter((_, i) => i % step === 0);
}

/** The curves over the means: p_g at x - mean is found in one table for all means, as these are points of x. */
function curvesOf({ data, width, sharpness }, density, x, spec) {
  const of = JSON.stringify([data, width, sharpness]);
  if (last.of === of) return last.curves;
  const middle = x.length - 1;
  const step = x[1] - x[0];
  const around = gaussianAt(Float64Array.from({ length: 2 * x.length - 1 }, (_, k) => (k - middle) * step), width);
  const [start, , every] = spec.constants.means;
  const all = Array.from(meansOf(x, spec), (_, m) => curvesAt(around, middle - start - every * m, width, sharpness, density));
  last = { of, curves: Object.fromEntries(CURVES.map((name) => [name, all.map((one) => one[name])])) };
  return last.curves;
}

export const gan_game = {
  compute(state, spec) {
    const { data, mean, width, sharpness } = state;
    const x = linspace(spec.constants.x);
    const density = (real[data] ??= realDensity(spec.constants.data[data], x));
    const shown = (values) => values.slice(...spec.constants.shown);
    const here = gaussianAt(x.map((v) => v - mean), width);
    return {
      p: shown(density.p),
      q: shown(here.q),
      d: shown(here.logQ.map((v, i) => sigmoid(sharpness * (density.logP[i] - v)))),
      curves: curvesOf(state, density, x, spec),
      mean,
      here: curvesAt(here, 0, width, sharpness, density),
      sharpness,
    };
  },

  draw(view, numbers, state, spec) {
    const { words, floor } = spec.constants;
    const whole = linspace(spec.constants.x);
    const x = whole.slice(...spec.constants.shown);
    const means = meansOf(whole, spec);
    const size = { width: 320, height: 290, left: 58 };
    const left = view.panel("densities", {
      ...size, right: 30, label: words.densities, legend: [["p", "p data"], ["q", "p generated"], ["good", "D", "dashed"]],
    });
    left.axes({
      x: { domain: [x[0], x.at(-1)], label: "x" },
      y: { domain: [0, [0.5, 0.8].find((top) => Math.max(...numbers.q) < top) ?? 1.5], label: "density", digits: 1 },
      right: { domain: [0, 1.02], ticks: [0, 0.5, 1].map((v) => [v, `${v}`]), colour: "good" },
      title: "densities and discriminator",
    });
    left.line("p", x, numbers.p, { colour: "p" });
    left.line("q", x, numbers.q, { colour: "q" });
    left.line("d", x, numbers.d, { colour: "good", dash: "6 4", width: 1.6, by: "right" });
    left.hover((v) => {
      const i = placeIn(x, v);
      return `x ${written(v, 1)}: D ${written(numbers.d[i])}`;
    });
    const q = (v) => Math.exp(gaussianLogProb(v, state.mean, state.width));
    left.handle("width", {
      at: [state.mean + state.width, q(state.mean + state.width)], by: [0.1, 0], label: "width of the generator",
      colour: "amber", said: written(state.width, 2), move: ([v]) => ({ width: v - state.mean }),
    });
    left.handle("mean", {
      at: [state.mean, q(state.mean)], by: [0.1, 0], label: "mean of the generator", colour: "q",
      said: written(state.mean, 2), move: ([v]) => ({ mean: v }),
    });

    const axis = { domain: [means[0], means.at(-1)], label: "mean of the generator" };
    const sharp = state.sharpness < 1 ? [["ink", "V(D, G)", "dotted"]] : [];
    const middle = view.panel("value", {
      ...size, right: 30, label: words.value, legend: [["gap", "V(D*, G)"], ["ink", "V(D, G)", "dotted"], ["amber", "W₁"]],
    });
    middle.axes({
      x: axis,
      y: { domain: [-1.5, 0.2], label: "V in nats", digits: 1 },
      right: { domain: [0, 11.5], ticks: [0, 5, 10].map((v) => [v, `${v}`]), colour: "amber" },
      title: "value and distance",
    });
    middle.line("level 0", [means[0], means.at(-1)], [0, 0], { colour: "grey", width: 1, dash: "4 3" });
    middle.line("level 1", [means[0], means.at(-1)], [-Math.log(4), -Math.log(4)], { colour: "grey", width: 1, dash: "4 3" });
    middle.text("log 2", [means[0], 0], "JS = log 2", { dx: 4, dy: -4 });
    middle.text("zero", [means[0], -Math.log(4)], "JS = 0", { dx: 4, dy: -4 });
    middle.line("w1", means, numbers.curves.w1, { colour: "amber", by: "right" });
    middle.line("best", means, numbers.curves.best, { colour: "gap" });
    middle.line("value", means, sharp.length ? numbers.curves.value : [], { colour: "ink", dash: "2 3" });
    middle.dots("w1 here", [[state.mean, numbers.here.w1]], { colour: "amber", by: "right" });
    middle.dots("value here", sharp.length ? [[state.mean, numbers.here.value]] : [], { colour: "ink" });
    middle.handle("best here", {
      at: [state.mean, numbers.here.best], by: [0.1, 0], label: "mean of the generator, at the value", colour: "gap",
      said: `mean ${written(state.mean, 2)}, value ${written(numbers.here.best)}`, move: ([v]) => ({ mean: v }),
    });

    const size10 = (value) => Math.log10(Math.max(Math.abs(value), floor));
    const right = view.panel("gradients", {
      ...size, left: 56, label: words.gradients, legend: [["q", "saturating", "dashed"], ["p", "non-saturating"]],
    });
    right.axes({
      x: axis,
      y: {
        domain: [Math.log10(floor), 3], label: "|gradient|",
        ticks: [-8, -6, -4, -2, 0, 2].map((power) => [power, power ? `10${raised(power)}` : "1"]),
      },
      title: "gradient of the generator's losses",
    });
    for (const [name, colour, dash] of [["non_saturating", "p", null], ["saturating", "q", "6 4"]]) {
      right.line(name, means, numbers.curves[name].map(size10), { colour, dash });
      right.dots(`${name} here`, [[state.mean, size10(numbers.here[name])]], { colour });
    }
  },

  read({ here }) {
    return (
      `<b>V(D*, G) = −log 4 + 2 JS = ${written(here.best, 4)}, JS = ${written(here.js, 4)}</b> ` +
      `· V(D, G) = ${written(here.value, 4)} · W₁ = ${written(here.w1)} ` +
      `· gradient: saturating ${scientific(here.saturating)}, non-saturating ${scientific(here.non_saturating)}`
    );
  },
};

/** An exponent as it is written above the line. */
const raised = (power) => [...`${power}`].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("");

/** A number of any size, with decimals or as a power of ten; what is only rounding is 0. */
function scientific(value) {
  if (Math.abs(value) < 1e-13) return "0";
  if (Math.abs(value) >= 0.01 && Math.abs(value) < 1000) return written(value);
  const [mantissa, exponent] = value.toExponential(1).split("e");
  return `${mantissa.replace("-", "−")}·10${raised(Number(exponent))}`;
}
