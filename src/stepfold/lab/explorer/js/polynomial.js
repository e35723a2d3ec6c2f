// Residual polynomials p(λ) = ∏ₜ (1 − γₜ λ): products of factors, never coefficients.

import { mean } from "./measure.js";

const LARGE = 2 ** 500;

export function residual(steps, eigenvalue) {
  // A product of many factors overflows on the way to a result below 1: carry the exponent apart.
  let value = 1;
  let scalings = 0;
  for (const gamma of steps) {
    value *= 1 - gamma * eigenvalue;
    if (Math.abs(value) > LARGE) {
      value /= LARGE;
      scalings += 1;
    } else if (Math.abs(value) < 1 / LARGE && scalings > 0) {
      value *= LARGE;
      scalings -= 1;
    }
  }
  for (; scalings > 0; scalings--) value *= LARGE;
  return value;
}

// ∫ p² dμ + η ∫ (1 − p)²/λ dμ: bias and, for noise of relative variance η, what is fitted of it.
export function meanSquaredError(steps, measure, noise = 0) {
  const { nodes } = measure;
  const values = nodes.map((node) => {
    const p = residual(steps, node);
    return p * p + (noise > 0 ? (noise * (1 - p) ** 2) / node : 0);
  });
  return mean(measure, values);
}

// The same after 0, 1, …, numIterations steps of the schedule, repeated.
export function meanSquaredErrors(steps, measure, numIterations, noise = 0) {
  const { nodes, weights } = measure;
  const values = new Float64Array(nodes.length).fill(1);
  const errors = new Float64Array(numIterations + 1);
  for (let t = 0; t <= numIterations; t++) {
    let error = 0;
    for (let i = 0; i < nodes.length; i++) {
      const p = values[i];
      error += weights[i] * (p * p + (noise > 0 ? (noise * (1 - p) * (1 - p)) / nodes[i] : 0));
      values[i] = p * (1 - steps[t % steps.length] * nodes[i]);
    }
    errors[t] = error;
  }
  return errors;
}

// Largest |p| over [lower, upper]: at an end or at the one extremum between neighbouring roots.
export function worstCaseRate(steps, { lower, upper }) {
  const roots = [...new Set(steps.map((gamma) => 1 / gamma))].sort((x, y) => x - y);
  let worst = Math.max(Math.abs(residual(steps, lower)), Math.abs(residual(steps, upper)));
  for (let k = 0; k + 1 < roots.length; k++) {
    if (roots[k + 1] < lower || roots[k] > upper) continue;
    let [left, right] = [roots[k], roots[k + 1]];
    for (let round = 0; round < 40; round++) {
      const middle = left + (right - left) / 2;
      // The logarithmic derivative falls from +∞ to −∞ between roots: bisection cannot miss.
      let slope = 0;
      for (const gamma of steps) slope -= gamma / (1 - gamma * middle);
      if (slope > 0) left = middle;
      else right = middle;
    }
    const place = left + (right - left) / 2;
    if (place >= lower && place <= upper) worst = Math.max(worst, Math.abs(residual(steps, place)));
  }
  return worst;
}

// (√κ − 1)/(√κ + 1): no first-order method has a smaller worst-case rate per step.
export function firstOrderLowerBound({ lower, upper }) {
  const root = Math.sqrt(lower / upper);
  return (upper - lower) / upper / (1 + root) ** 2;
}

// The smallest error that any T gradients can reach on noisy data, from the roots θ of the optimal
// steps: that of the steps 1/(θ + η) on the problem with ridge term η, whose residual polynomial is
// (η + λP(λ))/(λ + η).
export function smallestNoisyError(roots, measure, noise) {
  const steps = roots.map((root) => 1 / (root + noise));
  const values = measure.nodes.map((node) => {
    const inner = residual(steps, node + noise);
    const p = inner + (noise * (1 - inner)) / (node + noise);
    return p * p + (noise * (1 - p) ** 2) / node;
  });
  return mean(measure, values);
}
