// What several widgets' twins compute: densities and integrals on grids, as densities.py and divergences.py do.

const LOG_ROOT = 0.5 * Math.log(2 * Math.PI);

/** n numbers from low to high. */
export const linspace = ({ low, high, n }) =>
  Float64Array.from({ length: n }, (_, i) => low + (i * (high - low)) / (n - 1));

/** log N(x; mu, sigma²). */
export const gaussianLogProb = (x, mu, sigma) => -0.5 * ((x - mu) / sigma) ** 2 - Math.log(sigma) - LOG_ROOT;

/** log(exp(a) + exp(b)). */
export const logAddExp = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));

/** log σ(l), exact where σ(l) is 0 or 1. */
export const logSigmoid = (l) => Math.min(l, 0) - Math.log1p(Math.exp(-Math.abs(l)));

/** The standard normal's cumulative distribution function, to 1e-14: a series near 0, a continued fraction beyond. */
export function ndtr(z) {
  const a = Math.abs(z);
  const density = Math.exp(-0.5 * a * a - LOG_ROOT);
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-17; n++) sum += term *= (a * a) / (2 * n + 1);
    return 0.5 + Math.sign(z) * density * sum;
  }
  let fraction = a;
  for (let n = 60; n > 0; n--) fraction = a + n / fraction;
  return z < 0 ? density / fraction : 1 - density / fraction;
}

/** The integral over the grid x by the trapezoidal rule. */
export function trapezoid(y, x) {
  let sum = 0;
  for (let i = 1; i < x.length; i++) sum += 0.5 * (y[i] + y[i - 1]) * (x[i] - x[i - 1]);
  return sum;
}

/** The integrand of a divergence at one point, never negative. (1.4d), (1.5a), (1.5c) to (1.5e) */
export function integrand(logP, logQ, alpha, p = Math.exp(logP), q = Math.exp(logQ)) {
  if (alpha === null) {
    const logM = logAddExp(logP, logQ) - Math.LN2;
    return 0.5 * ((p > 0 ? p * (logP - logM) : 0) + (q > 0 ? q * (logQ - logM) : 0));
  }
  if (alpha === 1) return (p > 0 ? p * (logP - logQ) : 0) - p + q;
  if (alpha === 0) return (q > 0 ? q * (logQ - logP) : 0) - q + p;
  return (alpha * p + (1 - alpha) * q - Math.exp(alpha * logP + (1 - alpha) * logQ)) / (alpha * (1 - alpha));
}
