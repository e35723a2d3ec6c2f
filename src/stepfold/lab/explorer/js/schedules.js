// Step sizes for eigenvalues in [lower, upper], or for a measure on them.

import { reordered, safeOrder } from "./ordering.js";
import { gaussNodesOfWeighted } from "./quadrature.js";

export function constantSteps({ lower, upper }, numSteps) {
  return new Array(numSteps).fill(2 / (lower + upper));
}

// Kind 1: smallest worst case. Kind 2: best on average for large Gaussian matrices. Kind 4: smallest
// worst case of √λ|p| on [0, upper], with no lower bound.
export function chebyshevSteps({ lower, upper }, numSteps, kind = 1) {
  const roots = Array.from({ length: numSteps }, (_, t) => {
    if (kind === 4) return upper * Math.sin(((t + 1) * Math.PI) / (2 * numSteps + 1)) ** 2;
    const half =
      kind === 1
        ? ((2 * t + 1) * Math.PI) / (4 * numSteps)
        : ((t + 1) * Math.PI) / (2 * (numSteps + 1));
    // (a+b)/2 + (b−a)/2 cos φ without the cancellation that costs digits of the roots near a.
    return lower * Math.sin(half) ** 2 + upper * Math.cos(half) ** 2;
  });
  return reordered(roots.map((root) => 1 / root), safeOrder(numSteps));
}

// Smallest mean squared error: reciprocals of the Gauss nodes of λ dμ. Fewer than T where fewer
// steps already reach the smallest error.
export function optimalSteps(measure, numSteps) {
  return reordered(gaussNodesOfWeighted(measure, numSteps).map((root) => 1 / root), "leja");
}

// Silver steps, for every smooth and strongly convex function; their order is part of them.
export function silverSteps({ lower, upper }, numSteps) {
  const steps = [];
  for (let k = 0; numSteps >> k; k++) {
    if ((numSteps >> k) & 1) steps.push(...silverBlock(lower / upper, k));
  }
  return steps.map((step) => step / upper);
}

// The schedule of 2^doublings steps, times the upper bound.
function silverBlock(inverseKappa, doublings) {
  const factor = (z) => 1 - z + Math.sqrt(1 + (1 - z) ** 2);
  const psi = (scaled) => (1 + scaled) / (1 + scaled * inverseKappa);
  let steps = [psi(1)];
  let z = 1;
  for (let k = 0; k < doublings; k++) {
    const growth = factor(z * inverseKappa);
    const head = steps.slice(0, -1);
    steps = [...head, psi(z / growth), ...head, psi(z * growth)];
    z *= growth;
  }
  return steps;
}
