// The iteration itself, x ← x − γ (λx − b), in the eigenbasis and in the arithmetic that was chosen.
// It starts at 0. The solution has the measure's weights as its squares, so that in exact arithmetic
// the error is the predicted one; noise is a second right-hand side, for its error adds in the mean.

export function iterate(measure, steps, numIterations, { precision = "float64", noise = 0 } = {}) {
  const round = precision === "float32" ? Math.fround : (value) => value;
  const { nodes, weights } = measure;
  const solution = weights.map(Math.sqrt);
  const runs = [{ rhs: nodes.map((node, i) => node * solution[i]), target: solution }];
  if (noise > 0) {
    const rhs = nodes.map((node, i) => Math.sqrt(node * noise * weights[i]));
    runs.push({ rhs, target: new Float64Array(nodes.length) });
  }
  const errors = new Float64Array(numIterations + 1);
  for (const { rhs, target } of runs) {
    const step = precision === "float32" ? singleStep : doubleStep;
    const matrix = nodes.map(round);
    const right = rhs.map(round);
    const x = new Float64Array(nodes.length);
    errors[0] += squaredDistance(x, target);
    for (let t = 0; t < numIterations; t++) {
      step(x, matrix, right, round(steps[t % steps.length]));
      errors[t + 1] += squaredDistance(x, target);
    }
  }
  return errors;
}

function doubleStep(x, matrix, right, gamma) {
  for (let i = 0; i < x.length; i++) x[i] -= gamma * (matrix[i] * x[i] - right[i]);
}

function singleStep(x, matrix, right, gamma) {
  const { fround } = Math;
  for (let i = 0; i < x.length; i++) {
    const gradient = fround(fround(matrix[i] * x[i]) - right[i]);
    x[i] = fround(x[i] - fround(gamma * gradient));
  }
}

function squaredDistance(x, target) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += (x[i] - target[i]) ** 2;
  return sum;
}
