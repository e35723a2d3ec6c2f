// Measures on eigenvalues: nodes ascending, weights that sum to 1. A continuous one is kept as its
// own Gauss rule, which integrates everything that fewer steps than nodes can make of it.

export function measureOf(nodes, weights) {
  const order = Array.from(nodes.keys()).sort((i, j) => nodes[i] - nodes[j]);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return {
    nodes: Float64Array.from(order, (i) => nodes[i]),
    weights: Float64Array.from(order, (i) => weights[i] / sum),
  };
}

export function gaussLegendre(size) {
  const nodes = new Float64Array(size);
  const weights = new Float64Array(size);
  for (let k = 0; k < Math.ceil(size / 2); k++) {
    let x = Math.cos((Math.PI * (k + 0.75)) / (size + 0.5));
    let slope = 1;
    // Newton's method doubles the digits; at rounding's level it stops.
    for (let round = 0, move = 1; Math.abs(move) > 1e-15 && round < 8; round++) {
      let before = 1;
      let value = x;
      for (let j = 2; j <= size; j++) {
        [before, value] = [value, ((2 * j - 1) * x * value - (j - 1) * before) / j];
      }
      slope = (size * (before - x * value)) / (1 - x * x);
      move = value / slope;
      x -= move;
    }
    if (2 * k + 1 === size) x = 0;
    const weight = 2 / ((1 - x * x) * slope * slope);
    [nodes[k], nodes[size - 1 - k]] = [-x, x];
    weights[k] = weights[size - 1 - k] = weight;
  }
  return { nodes, weights };
}

// Constant density on [lower, upper].
export function uniform({ lower, upper }, size) {
  if (lower === upper) return measureOf([upper], [1]);
  const rule = gaussLegendre(size);
  const half = (upper - lower) / 2;
  return measureOf(rule.nodes.map((x) => lower + half * (1 + x)), rule.weights);
}

// Eigenvalues of HᵀH for a large H with n/m = ratio < 1 and entries of variance 1/m. With
// λ = 1 + r + 2√r cos φ the Gauss nodes are the zeros of sin((n + 1)φ) + √r sin(nφ).
export function marchenkoPastur(ratio, size) {
  const root = Math.sqrt(ratio);
  const nodes = new Float64Array(size);
  const weights = new Float64Array(size);
  const value = (phi) => Math.sin((size + 1) * phi) + root * Math.sin(size * phi);
  for (let k = 0; k < size; k++) {
    // One zero between kπ/(n + 1), where the first term vanishes, and kπ/n, where the second does.
    let low = ((k + 1) * Math.PI) / (size + 1);
    let high = ((k + 1) * Math.PI) / size;
    const sign = Math.sign(value(low));
    for (let round = 0; round < 60; round++) {
      const middle = (low + high) / 2;
      if (Math.sign(value(middle)) === sign) low = middle;
      else high = middle;
    }
    const phi = (low + high) / 2;
    // (1 − √r)² + 4√r cos²(φ/2): no cancellation where φ is near π.
    const cosine = Math.cos(phi / 2);
    nodes[k] = (1 - root) ** 2 + 4 * root * cosine * cosine;
    // The weight is 1/∑ qₖ²; the orthonormal polynomials are sums of Chebyshev's of kind 2.
    let total = 1;
    let before = 0;
    let current = 1;
    const twice = 2 * Math.cos(phi);
    for (let j = 1; j < size; j++) {
      [before, current] = [current, twice * current - before];
      total += (current + root * before) ** 2;
    }
    weights[k] = 1 / total;
  }
  return measureOf(nodes, weights);
}

export function marchenkoPasturBounds(ratio) {
  const root = Math.sqrt(ratio);
  return { lower: (1 - root) ** 2, upper: (1 + root) ** 2 };
}

// Half of the weight at each end of [lower, upper], spread evenly over `width` of its length.
export function twoClusters({ lower, upper }, width, size) {
  const length = width * (upper - lower);
  const half = Math.floor(size / 2);
  const low = uniform({ lower, upper: lower + length }, half);
  const high = uniform({ lower: upper - length, upper }, half);
  return measureOf([...low.nodes, ...high.nodes], [...low.weights, ...high.weights]);
}

export function mean(measure, values) {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += measure.weights[i] * values[i];
  return total;
}
