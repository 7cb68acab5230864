// The twin of divergences.py: the same numbers, for the hand, at the speed of the screen.

import { contours } from "d3-contour";
import { LOG_ROOT, gaussianLogProb, integrand, linspace, logAddExp, placeIn, softMinus, trapezoid } from "./mathematics.js";
import { controlOf, nearest, written } from "./stage.js";

// Divergences and their descent ---------------------------------------------------------------------------------------

/** alpha of Amari's family for a kind of divergence, null for Jensen and Shannon's. */
const alphaOf = (kind, alpha) => ({ forward: 1, reverse: 0, js: null, alpha })[kind];

/** The divergence of p (log density and density on the grid x) from N(mu, sigma²). */
function divergence({ logP, p, x }, alpha, mu, logSigma) {
  const sigma = Math.exp(logSigma);
  return trapezoid((i) => {
    const z = (x[i] - mu) / sigma;
    return integrand(logP[i], -0.5 * z * z - logSigma - LOG_ROOT, alpha, p[i]);
  }, x);
}

/** Gradient and second derivatives (a, c; c, b) of the divergence by (mu, log sigma): divergences.py's `slopes`. */
function slopes({ logP, p, x }, alpha, [mu, logSigma]) {
  const sigma = Math.exp(logSigma);
  const step = x[1] - x[0];
  let [g, h, a, b, c] = [0, 0, 0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const z = (x[i] - mu) / sigma;
    const logQ = -0.5 * z * z - logSigma - LOG_ROOT;
    const q = Math.exp(logQ);
    let first; // derivatives of the integrand by log q
    let second;
    if (alpha === null) {
      first = q > 0 ? 0.5 * q * (logQ - logAddExp(logP[i], logQ) + Math.LN2) : 0;
      second = first + (q > 0 ? (0.5 * q * p[i]) / (p[i] + q) : 0);
    } else if (alpha === 0) {
      first = q > 0 ? q * (logQ - logP[i]) : 0;
      second = first + q;
    } else {
      const m = alpha === 1 ? p[i] : Math.exp(alpha * logP[i] + (1 - alpha) * logQ);
      first = (q - m) / alpha;
      second = (q - (1 - alpha) * m) / alpha;
    }
    const weight = i === 0 || i === x.length - 1 ? 0.5 * step : step; // the trapezoidal rule
    const by = z * z - 1; // log q by log sigma; by mu it is z / sigma
    g += (weight * first * z) / sigma;
    h += weight * first * by;
    a += (weight * (second * z * z - first)) / sigma ** 2;
    b += weight * (second * by * by - 2 * first * z * z);
    c += (weight * z * (second * by - 2 * first)) / sigma;
  }
  return { gradient: [g, h], a, b, c };
}

/** The path of [mu, log sigma] downhill by Newton's method: divergences.py's `descend`, of one start. */
function descend(target, alpha, start, { stride, steps, parts, close, enough }) {
  const path = [start];
  for (let turn = 0; turn < steps; turn++) {
    const at = path.at(-1);
    const { gradient, a, b, c } = slopes(target, alpha, at);
    const step = newton(gradient, a, b, c);
    const length = Math.hypot(...step);
    if (length < enough) break;
    const scale = Math.max(1, length / stride);
    const tried = parts.map((part) => [at[0] - (part * step[0]) / scale, at[1] - (part * step[1]) / scale]);
    const values = length < close ? null : tried.map((theta) => divergence(target, alpha, ...theta));
    const best = values ? values.indexOf(Math.min(...values)) : parts.length - 1;
    if (best === 0) break;
    path.push(tried[best]);
  }
  return path;
}

/** Newton's step against a gradient, with the absolute values of the curvatures: downhill at a saddle too. */
function newton(gradient, a, b, c) {
  const angle = 0.5 * Math.atan2(2 * c, a - b);
  const radius = Math.hypot((a - b) / 2, c);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const step = [0, 0];
  for (const [size, x, y] of [[(a + b) / 2 + radius, cos, sin], [(a + b) / 2 - radius, -sin, cos]]) {
    const along = (x * gradient[0] + y * gradient[1]) / Math.max(Math.abs(size), 1e-2);
    step[0] += along * x;
    step[1] += along * y;
  }
  return step;
}

// W-KL ---------------------------------------------------------------------------------------------------------------

const grids = new Map(); // of a spec, made once

/** The grids of the spec; of every Gaussian of the landscape, one after the other, log q, q, and their integrals. */
function gridsOf(spec) {
  if (!grids.has(spec.name)) {
    const found = Object.fromEntries(
      Object.entries(spec.constants.grids).map(([name, grid]) => [name, linspace(grid)]),
    );
    const { x, mus, logSigmas } = found;
    const all = Array.from(logSigmas, (logSigma) => Array.from(mus, (mu) => [mu, Math.exp(logSigma)])).flat();
    const logQ = new Float64Array(all.length * x.length);
    all.forEach(([mu, sigma], cell) => logQ.set(x.map((v) => gaussianLogProb(v, mu, sigma)), cell * x.length));
    const q = logQ.map(Math.exp);
    const mass = all.map((_, cell) => trapezoid((i) => q[cell * x.length + i], x));
    const negentropy = all.map((_, cell) => trapezoid((i) => q[cell * x.length + i] * logQ[cell * x.length + i], x));
    grids.set(spec.name, { ...found, all, logQ, q, mass, negentropy, power: new Float64Array(logQ.length) });
  }
  return grids.get(spec.name);
}

/** log p of the mixture on a grid. */
function logMixture({ separation, weight, left, right }, x) {
  return x.map((v) =>
    logAddExp(
      Math.log(weight) + gaussianLogProb(v, -separation / 2, left),
      Math.log(1 - weight) + gaussianLogProb(v, separation / 2, right),
    ),
  );
}

let powered = null; // the exponent of the table `power`: it stays while only the mixture moves

/** Fill `power` with the densities of all Gaussians on the even grid x, to the power of `exponent`. */
function raise(exponent, { x, all, power }) {
  if (powered === exponent) return;
  powered = exponent;
  const step = x[1] - x[0];
  all.forEach(([mu, sigma], cell) => {
    const c = exponent / sigma ** 2;
    const middle = Math.round((mu - x[0]) / step);
    const top = Math.exp(exponent * gaussianLogProb(x[middle], mu, sigma));
    const bend = Math.exp(-c * step * step);
    for (const way of [1, -1]) { // from the top outwards: the ratio of neighbours falls by the same factor each time
      let value = top;
      let ratio = Math.exp(-c * step * (way * (x[middle] - mu) + 0.5 * step));
      for (let i = middle; i >= 0 && i < x.length; i += way) {
        power[cell * x.length + i] = value;
        value *= ratio;
        ratio *= bend;
      }
    }
  });
}

/**
 * The divergence of p from every Gaussian of the landscape, rows of sigma: but for Jensen and Shannon's, the product of a
 * table of all Gaussians and a vector of p. Like `integrand`, whose sum it is.
 */
function landscapeOf({ logP, p, x }, alpha, grids) {
  const { logQ, q, mass, negentropy, power } = grids;
  const n = x.length;
  const weight = x.map((_, i) => (i === 0 || i === n - 1 ? 0.5 : 1) * (x[1] - x[0])); // the trapezoidal rule
  const massP = trapezoid((i) => p[i], x);
  const product = (table, vector) => (cell) => {
    let sum = 0;
    for (let i = 0, k = cell * n; i < n; i++, k++) sum += table[k] * vector[i];
    return sum;
  };
  const each = (value) => Float64Array.from(mass, (massQ, cell) => value(cell, massQ));
  if (alpha === 1) {
    const crossed = product(logQ, p.map((v, i) => weight[i] * v));
    const own = trapezoid((i) => (p[i] > 0 ? p[i] * logP[i] : 0), x);
    return each((cell, massQ) => own - crossed(cell) - massP + massQ);
  }
  if (alpha === 0) {
    const crossed = product(q, logP.map((v, i) => weight[i] * v));
    return each((cell, massQ) => negentropy[cell] - crossed(cell) - massQ + massP);
  }
  if (alpha !== null) {
    raise(1 - alpha, grids);
    const mixed = product(power, logP.map((v, i) => weight[i] * Math.exp(alpha * v)));
    return each((cell, massQ) => (alpha * massP + (1 - alpha) * massQ - mixed(cell)) / (alpha * (1 - alpha)));
  }
  return each((cell, massQ) => {
    let sum = Math.LN2 * (massP + massQ);
    for (let i = 0, k = cell * n; i < n; i++, k++) {
      const log = logP[i] - logQ[k];
      if (log > 40 || log < -40) continue; // the smaller of the two counts for nothing
      const soft = softMinus(Math.abs(log));
      sum -= weight[i] * (p[i] * (soft - Math.min(log, 0)) + q[k] * (soft + Math.max(log, 0)));
    }
    return 0.5 * sum;
  });
}

let terrain = { of: "" }; // of the last mixture and divergence: the start does not matter to it

/** The landscape of the divergence over (mu, log sigma), and its local minima [mu, log sigma, value]. */
function terrainOf(state, target, alpha, spec) {
  const of = JSON.stringify([state.separation, state.weight, state.left, state.right, alpha]);
  if (terrain.of === of) return terrain;
  const { mus, logSigmas } = gridsOf(spec);
  const columns = mus.length;
  const landscape = landscapeOf(target, alpha, gridsOf(spec));
  const around = [-1, 0, 1].flatMap((i) => [-1, 0, 1].map((j) => i * columns + j)).filter((offset) => offset);
  const minima = [];
  for (let s = 1; s < logSigmas.length - 1; s++) {
    for (let m = 1; m < columns - 1; m++) {
      const cell = s * columns + m;
      if (around.every((offset) => landscape[cell] < landscape[cell + offset])) {
        const end = descend(target, alpha, [mus[m], logSigmas[s]], spec.constants.descent).at(-1);
        minima.push([...end, divergence(target, alpha, ...end)]);
      }
    }
  }
  return (terrain = { of, landscape, minima });
}

export const kl = {
  compute(state, spec) {
    const { x, shown } = gridsOf(spec);
    const alpha = alphaOf(state.kind, state.alpha);
    const logP = logMixture(state, x);
    const p = logP.map(Math.exp);
    const target = { logP, p, x };
    const shownP = logMixture(state, shown);
    const { landscape, minima } = terrainOf(state, target, alpha, spec);
    const path = descend(target, alpha, [state.mu, Math.log(state.sigma)], spec.constants.descent);
    const [mu, logSigma] = path.at(-1);
    const sigma = Math.exp(logSigma);
    const mean = trapezoid((i) => p[i] * x[i], x);
    const deviation = Math.sqrt(trapezoid((i) => p[i] * (x[i] - mean) ** 2, x));
    return {
      p: shownP.map(Math.exp),
      q: shown.map((v) => Math.exp(gaussianLogProb(v, mu, sigma))),
      start: shown.map((v) => Math.exp(gaussianLogProb(v, state.mu, state.sigma))),
      integrand: shown.map((v, i) => integrand(shownP[i], gaussianLogProb(v, mu, sigma), alpha)),
      value: divergence(target, alpha, mu, logSigma),
      mu, sigma, path, minima, landscape,
      moments: [mean, deviation],
    };
  },

  draw(view, numbers, state, spec) {
    const { shown, mus, logSigmas } = gridsOf(spec);
    const { words, levels, bands } = spec.constants;
    const top = ceiling(Math.max(...numbers.p, ...numbers.q, 0.8 * Math.max(...numbers.integrand)));
    const left = view.panel("densities", {
      legend: [["p", "p"], ["q", "q, fitted"], ["grey", "start", "dotted"], ["gap", "area = D", "area"]],
      label: words.densities,
    });
    left.axes({
      x: { domain: [shown[0], shown.at(-1)], label: "x" },
      y: { domain: [0, top], label: "density", digits: 2 },
      title: `${nameOf(state, spec)} = ${written(numbers.value)} nats`,
    });
    left.area("integrand", shown, numbers.integrand, { colour: "gap" });
    left.line("start", shown, numbers.start, { colour: "grey", width: 1.5, dash: "2 3" });
    left.line("p", shown, numbers.p, { colour: "p" });
    left.line("q", shown, numbers.q, { colour: "q" });
    left.hover((x) => {
      const i = placeIn(shown, x);
      return `x ${written(x, 2)}: p ${written(numbers.p[i])}, q ${written(numbers.q[i])}`;
    });
    const at = (x) => numbers.p[placeIn(shown, x)];
    for (const [side, sign] of [["left", -1], ["right", 1]]) {
      const mode = (sign * state.separation) / 2;
      const flank = mode + sign * state[side];
      left.handle(`${side} mode`, {
        at: [mode, at(mode)], by: [0.05, 0], label: `${side} mode of p`, colour: "p", said: `at ${written(mode, 2)}`,
        move: ([x]) => ({ separation: 2 * sign * x }),
      });
      left.handle(`${side} width`, {
        at: [flank, at(flank)], by: [0.1, 0], label: `width of the ${side} mode`, colour: "sky", said: written(state[side], 2),
        move: ([x]) => ({ [side]: sign * x - state.separation / 2 }),
      });
    }

    const [m, s] = [mus, logSigmas].map((grid) => (grid[1] - grid[0]) / 2); // half a pixel: its centre is the grid's
    const extent = [mus[0] - m, mus.at(-1) + m, logSigmas[0] - s, logSigmas.at(-1) + s];
    const right = view.panel("landscape", {
      legend: [["ground", "start", "dot"], ["q", "fit", "dot"], ["ground", "minimum", "star"]],
      label: words.landscape,
    });
    right.axes({
      x: { domain: extent.slice(0, 2), label: "μ", grid: false },
      y: { domain: extent.slice(2), label: "σ", grid: false, ticks: [0.5, 1, 2, 4].map((v) => [Math.log(v), `${v}`]) },
      title: "landscape of D and its descent",
    });
    const shade = view.dark ? bands[1] : bands[0];
    if (right.landscape !== numbers.landscape || right.dark !== view.dark) {
      const shapes = contours().size([mus.length, logSigmas.length]).thresholds(levels)(numbers.landscape);
      right.contours("bands", shapes, shade, mus.length, logSigmas.length, extent);
      right.scale(levels, shade, spec.constants.ticks, "D in nats");
      right.landscape = numbers.landscape;
      right.dark = view.dark;
    }
    right.line("path", numbers.path.map(([x]) => x), numbers.path.map(([, y]) => y), { colour: "q", halo: true });
    right.hover((mu, logSigma) => {
      const value = numbers.landscape[placeIn(logSigmas, logSigma) * mus.length + placeIn(mus, mu)];
      return `μ ${written(mu, 2)}, σ ${written(Math.exp(logSigma), 2)}: ${written(value)} nats`;
    });
    right.dots("minima", numbers.minima, { colour: "ground", star: true });
    right.dots("fit", [numbers.path.at(-1)], { colour: "q" });
    right.handle("start", {
      at: numbers.path[0], by: [0.1, 0.1], label: "start of the descent", colour: "ground",
      said: `mean ${written(state.mu, 2)}, deviation ${written(state.sigma, 2)}`,
      move: ([x, y]) => ({ mu: x, sigma: Math.exp(y) }),
    });
  },

  read(numbers, state, spec) {
    const minima = numbers.minima.map(([, , value]) => value).sort((a, b) => a - b);
    return (
      `<b>${nameOf(state, spec)}: ${written(numbers.value, 4)} nats</b> at μ = ${written(numbers.mu)}, ` +
      `σ = ${written(numbers.sigma)} · p: mean ${written(numbers.moments[0])}, deviation ${written(numbers.moments[1])} · ` +
      `minima: ${minima.map((value) => written(value)).join(", ")}`
    );
  },
};

/** The divergence's name in a state. */
function nameOf(state, spec) {
  const options = controlOf(spec, "kind").options;
  const [, name] = options.find(([key]) => key === state.kind);
  return state.kind === "alpha" ? `alpha-divergence (${written(state.alpha, 2)})` : name;
}

/** A round upper limit for an axis; few different ones, so that the axis seldom changes. */
const ceiling = (top) => [0.3, 0.45, 0.6, 0.9, 1.2, 1.8, 2.4, 4, 8, 16].find((limit) => 1.1 * top < limit) ?? 1.2 * top;

// W-ELBO -------------------------------------------------------------------------------------------------------------

const decoders = { linear: (z) => 1.5 * z, square: (z) => z * z };

/** log p(z), log p(x|z) and log p(z|x) on the grid, and log p(x). */
function modelOf({ model, x, noise }, z) {
  const logPrior = z.map((v) => gaussianLogProb(v, 0, 1));
  const logLikelihood = z.map((v) => gaussianLogProb(x, decoders[model](v), noise));
  const logJoint = logPrior.map((v, i) => v + logLikelihood[i]);
  const logPx = Math.log(trapezoid((i) => Math.exp(logJoint[i]), z));
  const logPosterior = logJoint.map((v) => v - logPx);
  return { logPrior, logLikelihood, logJoint, logPx, logPosterior, posterior: logPosterior.map(Math.exp) };
}

let last = { of: "" }; // optima of the last model

/** The local optima of the ELBO over q, [mu, sigma, gap], the best first. */
function optima(state, spec) {
  const of = JSON.stringify([state.model, state.x, state.noise]);
  if (last.of === of) return last.optima;
  const x = linspace(spec.constants.grid);
  const { logPosterior: logP, posterior: p } = modelOf(state, x);
  const gap = (theta) => divergence({ logP, p, x }, 0, ...theta);
  const { means, logSigmas, nudge } = spec.constants.starts;
  const ends = means
    .flatMap((mu) => logSigmas.map((logSigma) => descend({ logP, p, x }, 0, [mu, logSigma], spec.constants.descent).at(-1)))
    .map((theta) => [...theta, gap(theta)])
    .sort((a, b) => Math.round(1e9 * (a[2] - b[2])) || a[0] - b[0]); // twins of equal gap by their mean
  const found = [];
  for (const [mu, logSigma, value] of ends) {
    const far = found.every((other) => Math.max(Math.abs(mu - other[0]), Math.abs(logSigma - other[1])) > 1e-2);
    const around = [-1, 0, 1].flatMap((i) => [-1, 0, 1].map((j) => [mu + i * nudge, logSigma + j * nudge]));
    const saddle = () => Math.min(...around.map(gap)) < value - 1e-7;
    if (far && !saddle()) found.push([mu, logSigma, value]);
  }
  last = { of, optima: found.map(([mu, logSigma, value]) => [mu, Math.exp(logSigma), value]) };
  return last.optima;
}

export const elbo = {
  compute(state, spec) {
    const z = linspace(spec.constants.grid);
    const { logPrior, logLikelihood, logJoint, logPx, logPosterior, posterior } = modelOf(state, z);
    const logQ = z.map((v) => gaussianLogProb(v, state.mu, state.sigma));
    const q = logQ.map(Math.exp);
    const shown = (values) => values.slice(...spec.constants.shown);
    const from = (logP) => trapezoid((i) => integrand(logP[i], logQ[i], 0), z);
    return {
      prior: shown(logPrior.map(Math.exp)),
      posterior: shown(posterior),
      q: shown(q),
      integrand: shown(logQ.map((v, i) => integrand(logPosterior[i], v, 0))),
      log_px: logPx,
      elbo: trapezoid((i) => (q[i] > 0 ? q[i] * (logJoint[i] - logQ[i]) : 0), z),
      gap: from(logPosterior),
      reconstruction: trapezoid((i) => q[i] * logLikelihood[i], z),
      rate: from(logPrior),
      get optima() {
        return optima(state, spec); // takes longer than the rest: only when the hand rests
      },
    };
  },

  draw(view, numbers, state, spec) {
    const z = linspace(spec.constants.grid).slice(...spec.constants.shown);
    const { words } = spec.constants;
    const highest = Math.max(...numbers.posterior, ...numbers.q);
    const top = Math.max(highest, Math.min(2 * highest, Math.max(...numbers.integrand))); // the area may be higher
    const left = view.panel("densities", {
      legend: [["p", "posterior"], ["q", "q"], ["grey", "prior"], ["gap", "area = gap", "area"]],
      label: words.densities,
    });
    left.axes({
      x: { domain: [z[0], z.at(-1)], label: "z" },
      y: { domain: [0, ceiling(top)], label: "density", digits: 2 },
      title: "prior, posterior and q",
    });
    left.area("integrand", z, numbers.integrand, { colour: "gap" });
    left.line("prior", z, numbers.prior, { colour: "grey", width: 1 });
    left.line("posterior", z, numbers.posterior, { colour: "p" });
    left.line("q", z, numbers.q, { colour: "q" });
    left.hover((v) => {
      const i = placeIn(z, v);
      return `z ${written(v, 2)}: posterior ${written(numbers.posterior[i])}, q ${written(numbers.q[i])}`;
    });
    const q = (v) => Math.exp(gaussianLogProb(v, state.mu, state.sigma));
    left.handle("width", {
      at: [state.mu + state.sigma, q(state.mu + state.sigma)], by: [0.05, 0], label: "width of q", colour: "amber",
      said: written(state.sigma, 2), move: ([x]) => ({ sigma: x - state.mu }),
    });
    left.handle("mean", {
      at: [state.mu, q(state.mu)], by: [0.1, 0], label: "mean of q", colour: "q", said: written(state.mu, 2),
      move: ([x]) => ({ mu: x }),
    });

    const ends = [
      [0, numbers.log_px], [numbers.log_px, numbers.elbo], [0, numbers.reconstruction], [numbers.reconstruction, numbers.elbo],
    ];
    const deepest = floor(Math.min(numbers.elbo, numbers.reconstruction));
    const right = view.panel("bars", { label: words.bars, left: 112 });
    right.axes({
      x: { domain: [deepest, -0.1 * deepest], label: "nats", digits: deepest < -3 ? 0 : 1 },
      y: { domain: [0.5, ends.length + 0.5], grid: false, ticks: words.terms.map((term, i) => [ends.length - i, term]) },
      title: `ELBO = ${written(numbers.elbo, 2)} ≤ log p(x) = ${written(numbers.log_px, 2)}`,
    });
    ["p", "gap", "good", "amber"].forEach((colour, i) => {
      const row = ends.length - i;
      right.bar(`bar ${i}`, row, ends[i], { colour });
      right.text(`text ${i}`, [Math.min(...ends[i]), row], written(ends[i][1] - ends[i][0]), { anchor: "end", dx: -4, dy: 4 });
    });
    const whole = [0.5, ends.length + 0.5];
    right.line("log p(x)", [numbers.log_px, numbers.log_px], whole, { colour: "p" });
    right.line("elbo", [numbers.elbo, numbers.elbo], whole, { colour: "q", dash: "6 4" });
  },

  read(numbers, state, spec) {
    const found = numbers.optima.map(
      ([mu, sigma, gap]) => `gap ${written(gap)} at mean ${written(mu, 2)}, σ ${written(sigma, 2)}`,
    );
    const several =
      found.length < 2
        ? ""
        : `<br>${found.length} local optima for q: ${found.join("; ")}. “To the best q” descends into the one below the present q`;
    return (
      `<b>log p(x) ${written(numbers.log_px, 4)} = ELBO ${written(numbers.elbo, 4)} + gap ${written(numbers.gap, 4)}</b> nats · ` +
      `ELBO = ${written(numbers.reconstruction, 4)} (E<sub>q</sub> log p(x|z)) − ${written(numbers.rate, 4)} (KL(q ‖ p(z)))${several}`
    );
  },

  actions: {
    best(state, spec) {
      const z = linspace(spec.constants.grid);
      const { logPosterior, posterior } = modelOf(state, z);
      const start = [state.mu, Math.log(state.sigma)];
      const [mu, logSigma] = descend({ logP: logPosterior, p: posterior, x: z }, 0, start, spec.constants.descent).at(-1);
      return nearest({ mu, sigma: Math.exp(logSigma) }, spec, 0);
    },
  },
};

/** A round lower limit for the axis of the bars, with room for a label; few different ones. */
function floor(value) {
  const limits = [1, 10, 100, 1e3, 1e4, 1e5].flatMap((power) => [3, 5, 10, 20].map((limit) => limit * power));
  return -(limits.find((limit) => -1.5 * value < limit) ?? -2 * value);
}
