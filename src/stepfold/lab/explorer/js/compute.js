// From what was chosen to everything that is shown: numbers only, no page.

import { iterate } from "./iteration.js";
import {
  marchenkoPastur,
  marchenkoPasturBounds,
  twoClusters,
  uniform,
} from "./measure.js";
import { reordered, roundoffAmplification } from "./ordering.js";
import {
  meanSquaredError,
  meanSquaredErrors,
  smallestNoisyError,
  worstCaseRate,
} from "./polynomial.js";
import { quadrature } from "./quadrature.js";
import { chebyshevSteps, constantSteps, optimalSteps, silverSteps } from "./schedules.js";
import { train } from "./training.js";

// Keeps what was computed last for each kind of question: most moves change one thing only.
function remembering(compute) {
  let [lastKey, lastValue] = [undefined, undefined];
  return (key, ...rest) => {
    if (key !== lastKey) [lastKey, lastValue] = [key, compute(...rest)];
    return lastValue;
  };
}

function spectrumKey({ spectrum, kappa, aspect, width, n }) {
  return [spectrum, kappa, aspect, width, n].join();
}

export function spectrumOf({ spectrum, kappa, aspect, width, n }, data) {
  const bounds = { lower: 1, upper: kappa };
  if (spectrum === "uniform") return { bounds, measure: uniform(bounds, n) };
  if (spectrum === "two-clusters") return { bounds, measure: twoClusters(bounds, width, n) };
  if (spectrum === "marchenko-pastur") {
    return { bounds: marchenkoPasturBounds(aspect), measure: marchenkoPastur(aspect, n) };
  }
  const { nodes, weights, lower, upper } = data.measured;
  return {
    bounds: { lower, upper },
    measure: { nodes: Float64Array.from(nodes), weights: Float64Array.from(weights) },
  };
}

const rememberedSpectrum = remembering(spectrumOf);
const rememberedOptimum = remembering(optimalSteps);

// How many layers of the network are trained: all, if the state says 0.
export function trainedLayers({ layers, T }) {
  return layers === 0 ? T : Math.min(layers, T);
}

// Steps of an embedded run at period T: what its training had found when it was T steps deep.
function stepsOfRun({ steps, by_length: byLength }, numSteps) {
  return byLength[numSteps] ?? steps;
}

// Schedules whose order may be chosen; silver's is part of it, and equal steps have none.
export const ORDERED = ["learned", "chebyshev", "optimal", "second-kind", "fourth-kind", "run"];

// `stages` are the steps after each stage of the training here, or null.
export function schedulesOf(state, data, stages = null) {
  const { bounds, measure } = rememberedSpectrum(spectrumKey(state), state, data);
  const { T } = state;
  const families = {
    learned: () => stages && stages[trainedLayers(state) - 1],
    chebyshev: () => chebyshevSteps(bounds, T),
    optimal: () => rememberedOptimum(`${spectrumKey(state)},${T}`, measure, T),
    constant: () => constantSteps(bounds, T),
    "second-kind": () => chebyshevSteps(bounds, T, 2),
    "fourth-kind": () => chebyshevSteps(bounds, T, 4),
    silver: () => silverSteps(bounds, T),
    run: () => data.run && stepsOfRun(data.run, trainedLayers(state)),
  };
  const schedules = {};
  for (const [name, make] of Object.entries(families)) {
    const steps = make();
    if (!steps) continue;
    const isReordered = state.order !== "own" && ORDERED.includes(name);
    schedules[name] = isReordered ? reordered(steps, state.order, data.permutations) : steps;
  }
  return schedules;
}

export function compute(state, data, stages = null) {
  const { bounds, measure } = rememberedSpectrum(spectrumKey(state), state, data);
  const noise = state.noise * bounds.upper;
  const schedules = schedulesOf(state, data, stages);
  const numIterations = state.periods * state.T;
  const rows = {};
  // Three families are what the verdict speaks of; the others are computed when they are shown.
  for (const name of new Set(["chebyshev", "optimal", "constant", "learned", ...state.show])) {
    const steps = schedules[name];
    if (!steps) continue;
    const predicted = meanSquaredErrors(steps, measure, numIterations, noise);
    const iterated = iterate(measure, steps, numIterations, { precision: state.precision, noise });
    const [heads, tails] = roundoffAmplification(steps, bounds);
    const end = steps.length;
    rows[name] = {
      steps,
      predicted,
      iterated,
      error: meanSquaredError(steps, measure, noise),
      iteratedError: end < iterated.length ? iterated[end] : null, // longer than the run
      worstCase: worstCaseRate(steps, bounds),
      heads,
      tails,
    };
  }
  const layers = trainedLayers(state);
  const best = layers === state.T ? rows.optimal.steps : optimalSteps(measure, layers);
  const roots = schedules.optimal.map((step) => 1 / step);
  return {
    bounds,
    measure,
    noise,
    rows,
    numIterations,
    layers,
    bestOfLayers: meanSquaredError(best, measure, noise),
    smallestNoisy: noise > 0 ? smallestNoisyError(roots, measure, noise) : null,
  };
}

// What training at this state depends on.
export function trainingKey(state) {
  return `${spectrumKey(state)},${state.T},${state.training}`;
}

export function training(state, data) {
  const { bounds, measure } = rememberedSpectrum(spectrumKey(state), state, data);
  return train(quadrature(measure, state.T + 1), bounds.upper, state.T, state.training);
}
