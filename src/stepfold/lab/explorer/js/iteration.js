// The iteration itself, x ← x − γ (Ax − b) from 0, in the arithmetic that was chosen. In exact
// arithmetic its error is the predicted one: the solution has the measure's weights as the squares of
// its shares of the eigenvectors. Noise is a second right-hand side, for its error adds in the mean.
//
// A diagonal matrix would keep rounding errors in the eigenvectors where they arise. Here A is
// Q diag(λ) Qᵀ with a Q that mixes each of the smallest eigenvalues with one of the largest and two
// of the middle, by so few operations that they can be repeated elsewhere to the last bit.

export function iterate(measure, steps, numIterations, { precision = "float64", noise = 0 } = {}) {
  const arithmetic = precision === "float32" ? SINGLE : DOUBLE;
  const nodes = Float64Array.from(measure.nodes);
  const weights = Float64Array.from(measure.weights);
  const shares = weights.map((weight) => Math.sqrt(weight));
  const size = nodes.length;
  const quarter = Math.floor(size / 4);
  const buffer = new Float64Array(size);
  // In place: reflect opposite places, move all by some places around the end, reflect again.
  const turn = ({ mix }, vector, places) => {
    mix(vector);
    const split = places > 0 ? size - places : -places;
    buffer.set(vector.subarray(split));
    buffer.set(vector.subarray(0, split), size - split);
    vector.set(buffer);
    mix(vector);
    return vector;
  };
  const runs = [{ term: nodes.map((node, i) => node * shares[i]), target: shares }];
  if (noise > 0) {
    const term = nodes.map((node, i) => Math.sqrt(node * noise * weights[i]));
    runs.push({ term, target: new Float64Array(size) });
  }
  const eigenvalues = nodes.map(arithmetic.round);
  const errors = new Float64Array(numIterations + 1);
  const product = new Float64Array(size);
  for (const { term, target } of runs) {
    turn(DOUBLE, target, quarter);
    const right = turn(DOUBLE, term, quarter).map(arithmetic.round);
    const x = new Float64Array(size);
    errors[0] += squaredDistance(x, target);
    for (let t = 0; t < numIterations; t++) {
      product.set(x);
      turn(arithmetic, product, -quarter);
      arithmetic.scale(product, eigenvalues);
      turn(arithmetic, product, quarter);
      arithmetic.descend(x, product, right, arithmetic.round(steps[t % steps.length]));
      errors[t + 1] += squaredDistance(x, target);
    }
  }
  return errors;
}

function squaredDistance(x, target) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) {
    const difference = x[i] - target[i];
    sum += difference * difference;
  }
  return sum;
}

const DOUBLE = {
  round: (value) => value,
  // A reflection, its own inverse, of each pair of opposite places; the middle one stays.
  mix(vector) {
    for (let i = 0, j = vector.length - 1; i < j; i++, j--) {
      const one = vector[i];
      const other = vector[j];
      vector[i] = 0.8 * one + 0.6 * other;
      vector[j] = 0.6 * one - 0.8 * other;
    }
  },
  scale(vector, factors) {
    for (let i = 0; i < vector.length; i++) vector[i] *= factors[i];
  },
  descend(x, product, right, gamma) {
    for (let i = 0; i < x.length; i++) x[i] -= gamma * (product[i] - right[i]);
  },
};

const { fround } = Math;
const [LONG, SHORT] = [fround(0.8), fround(0.6)];

// The same, every result rounded to float32.
const SINGLE = {
  round: (value) => fround(value),
  mix(vector) {
    for (let i = 0, j = vector.length - 1; i < j; i++, j--) {
      const one = vector[i];
      const other = vector[j];
      vector[i] = fround(fround(LONG * one) + fround(SHORT * other));
      vector[j] = fround(fround(SHORT * one) - fround(LONG * other));
    }
  },
  scale(vector, factors) {
    for (let i = 0; i < vector.length; i++) vector[i] = fround(vector[i] * factors[i]);
  },
  descend(x, product, right, gamma) {
    for (let i = 0; i < x.length; i++) {
      x[i] = fround(x[i] - fround(gamma * fround(product[i] - right[i])));
    }
  },
};
