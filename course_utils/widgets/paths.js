// Ways through a latent space, as paths.py has them.

/** The straight path (1 - t) a + t b. */
export const lerp = (a, b, t) => a.map((v, i) => (1 - t) * v + t * b[i]);

/** The path on the sphere: the direction turns at a constant rate, the norm goes linearly. Shoemake (1985). (2.6c) */
export function slerp(a, b, t) {
  const [normA, normB] = [Math.hypot(...a), Math.hypot(...b)];
  const [u, v] = [a.map((c) => c / Math.max(normA, 1e-12)), b.map((c) => c / Math.max(normB, 1e-12))];
  const length = (sign) => Math.hypot(...u.map((c, i) => c + sign * v[i]));
  const angle = 2 * Math.atan2(length(-1), length(1)); // exact near 0
  if (Math.abs(Math.sin(angle)) <= 1e-6) return lerp(a, b, t); // 0 or 180 degrees: no plane to turn in
  const [p, q] = [Math.sin((1 - t) * angle), Math.sin(t * angle)].map((s) => s / Math.sin(angle));
  const norm = (1 - t) * normA + t * normB;
  return u.map((c, i) => norm * (p * c + q * v[i]));
}
