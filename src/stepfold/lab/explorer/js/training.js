// Incremental training as published: stage g trains the first g steps together with Adam, then
// a step is added. The loss is the exact mean squared error, as for batches without end.

// In units of the largest eigenvalue, those of the published run on its own matrix.
export const INITIAL_STEP = 1.7;
export const LEARNING_RATE = 0.0114;
const [DECAY, DECAY_OF_SQUARES, EPSILON] = [0.9, 0.999, 1e-8];

// Yields after every `chunk` iterations the number of stages done; returns the steps after each
// stage, one step after the first, T after the last. A rule of T + 1 nodes gives the same loss as
// the whole measure.
export function* train(rule, upper, numSteps, numIterations, chunk = 25) {
  const parameters = new Float64Array(numSteps).fill(INITIAL_STEP / upper);
  const first = new Float64Array(numSteps);
  const second = new Float64Array(numSteps);
  const gradient = new Float64Array(numSteps);
  const rate = LEARNING_RATE / upper;
  let count = 0;
  const stages = [];
  for (let stage = 1; stage <= numSteps; stage++) {
    for (let iteration = 0; iteration < numIterations; iteration++) {
      addGradient(gradient.fill(0), parameters, stage, rule);
      count += 1;
      const scale = rate / (1 - DECAY ** count);
      const root = Math.sqrt(1 - DECAY_OF_SQUARES ** count);
      for (let t = 0; t < stage; t++) {
        const slope = gradient[t] * Math.sign(parameters[t]);
        first[t] += (1 - DECAY) * (slope - first[t]);
        second[t] = DECAY_OF_SQUARES * second[t] + (1 - DECAY_OF_SQUARES) * slope * slope;
        parameters[t] -= (scale * first[t]) / (Math.sqrt(second[t]) / root + EPSILON);
      }
      if (iteration % chunk === chunk - 1) yield stage - 1;
    }
    stages.push(Array.from(parameters.subarray(0, stage), Math.abs));
  }
  return stages;
}

// ∂/∂γₖ ∑ w p² = −∑ 2 w p λ ∏_{j≠k} (1 − γⱼλ), by products of heads and tails.
function addGradient(gradient, parameters, stage, { nodes, weights }) {
  const heads = new Float64Array(stage + 1);
  heads[0] = 1;
  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i];
    for (let t = 0; t < stage; t++) {
      heads[t + 1] = heads[t] * (1 - Math.abs(parameters[t]) * node);
    }
    const common = -2 * weights[i] * heads[stage] * node;
    let tail = 1;
    for (let t = stage - 1; t >= 0; t--) {
      gradient[t] += common * heads[t] * tail;
      tail *= 1 - Math.abs(parameters[t]) * node;
    }
  }
}
