// Small networks in the page, as weights.py packs them: half-precision weights and a list of layers.

/** Half-precision numbers (the bytes of a DataView, little-endian) in double precision. */
export function halves(view) {
  const powers = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));
  return Float64Array.from({ length: view.byteLength / 2 }, (_, i) => {
    const bits = view.getUint16(2 * i, true);
    const exponent = (bits >> 10) & 31;
    const size = powers[exponent] * ((exponent ? 1024 : 0) + (bits & 1023)); // no infinities: weights are finite
    return bits & 0x8000 ? -size : size;
  });
}

const ACTIVATIONS = {
  silu: (v) => v / (1 + Math.exp(-v)),
  relu: (v) => Math.max(v, 0),
  leaky_relu: (v, { slope }) => (v < 0 ? slope * v : v),
  tanh: Math.tanh,
  sigmoid: (v) => 1 / (1 + Math.exp(-v)),
};

/**
 * x W' + b for n rows. In tiles of two rows and four outputs, whose sums stay in registers: five times as quick as one
 * output after the other. At the edges a tile computes some numbers twice.
 */
function linear(x, n, inputs, outputs, weight, bias) {
  const y = new Float64Array(n * outputs);
  for (let i = 0; i < n; i += 2) {
    const j = Math.min(i + 1, n - 1);
    const [xi, xj] = [i * inputs, j * inputs];
    for (let o = 0; o < outputs; o += 4) {
      const [o1, o2, o3] = [Math.min(o + 1, outputs - 1), Math.min(o + 2, outputs - 1), Math.min(o + 3, outputs - 1)];
      const [w0, w1, w2, w3] = [o * inputs, o1 * inputs, o2 * inputs, o3 * inputs];
      let [i0, i1, i2, i3] = [bias[o], bias[o1], bias[o2], bias[o3]];
      let [j0, j1, j2, j3] = [i0, i1, i2, i3];
      for (let k = 0; k < inputs; k++) {
        const u = x[xi + k], v = x[xj + k];
        const a = weight[w0 + k], b = weight[w1 + k], c = weight[w2 + k], d = weight[w3 + k];
        i0 += u * a; i1 += u * b; i2 += u * c; i3 += u * d;
        j0 += v * a; j1 += v * b; j2 += v * c; j3 += v * d;
      }
      const [yi, yj] = [i * outputs, j * outputs];
      y[yi + o] = i0; y[yi + o1] = i1; y[yi + o2] = i2; y[yi + o3] = i3;
      y[yj + o] = j0; y[yj + o1] = j1; y[yj + o2] = j2; y[yj + o3] = j3;
    }
  }
  return y;
}

/** The function that a network is: n rows of inputs, one after the other, to n rows of outputs. */
export function network(layers, bytes) {
  const weights = halves(bytes);
  let at = 0;
  const steps = layers.map((layer) => {
    if (layer.kind !== "linear") {
      const activation = ACTIVATIONS[layer.kind];
      return (x) => x.map((v) => activation(v, layer));
    }
    const { inputs, outputs } = layer;
    const weight = weights.subarray(at, (at += inputs * outputs));
    const bias = weights.subarray(at, (at += outputs));
    return (x, n) => linear(x, n, inputs, outputs, weight, bias);
  });
  return (x, n) => steps.reduce((h, step) => step(h, n), Float64Array.from(x));
}
