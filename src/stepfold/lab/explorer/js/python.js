// The Python lines that give the numbers shown.

import { ORDERED } from "./compute.js";
import { INITIAL_STEP, LEARNING_RATE } from "./training.js";
import { NAMES } from "./words.js";

const BUILDERS = {
  learned: "run.schedule_after(layers)",
  chebyshev: "chebyshev_steps(bounds, period)",
  optimal: "optimal_steps(measure, period)",
  constant: "constant_steps(bounds, period)",
  "second-kind": "chebyshev_steps(bounds, period, kind=2)",
  "fourth-kind": "chebyshev_steps(bounds, period, kind=4)",
  silver: "silver_steps(bounds, period)",
};

function spectrumLines(state, bounds, data) {
  if (state.spectrum === "measured") return data.measured.lines;
  const ends = `bounds = SpectralBounds(${literal(bounds.lower)}, ${literal(bounds.upper)})`;
  if (state.spectrum === "uniform") {
    return [ends, `measure = SpectralMeasure.uniform(bounds, num_nodes=${state.n})`];
  }
  if (state.spectrum === "marchenko-pastur") {
    return [
      ends,
      `measure = SpectralMeasure.marchenko_pastur(${literal(state.aspect)}, num_nodes=${state.n})`,
    ];
  }
  const half = Math.floor(state.n / 2);
  return [
    ends,
    `length = ${literal(state.width)} * (bounds.upper - bounds.lower)`,
    "clusters = (",
    "    SpectralBounds(bounds.lower, bounds.lower + length),",
    "    SpectralBounds(bounds.upper - length, bounds.upper),",
    ")",
    "measure = SpectralMeasure.mixture(",
    `    [SpectralMeasure.uniform(cluster, num_nodes=${half}) for cluster in clusters]`,
    ")",
  ];
}

// A number as Python reads it back: JavaScript's own digits, which are Python's.
function literal(value) {
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? `${value}.0` : String(value);
}

function trainingLines(state, layers) {
  return [
    "",
    "rule = measure.quadrature(period + 1)  # all that these steps can tell",
    "spectral = SpectralLoss(rule)",
    "",
    "",
    "class ExactLoss:  # the mean over batches without end",
    "    measure = rule",
    "",
    "    def __call__(self, network, num_layers, rng):",
    "        return spectral.given(network, num_layers, rule.weights)",
    "",
    "",
    `layers = ${layers}  # trained`,
    "run = train_incrementally(",
    `    UnfoldedIteration(Schedule(np.full(period, ${INITIAL_STEP} / bounds.upper))),`,
    "    ExactLoss(),",
    `    num_iterations=${state.training},`,
    `    optimizer=functools.partial(torch.optim.Adam, lr=${LEARNING_RATE} / bounds.upper),`,
    ")",
  ];
}

export function pythonLines(state, result, data) {
  const shown = state.show.filter((name) => name in result.rows);
  const isTrained = shown.includes("learned");
  const sorted = state.order === "own" ? "" : `.reordered(${JSON.stringify(state.order)})`;
  const entries = shown.map((name) => {
    const { length } = result.rows[name].steps;
    let builder = name === "run" ? `Schedule(${JSON.stringify(result.rows.run.steps)})` : BUILDERS[name];
    if (name === "optimal") builder = builder.replace("period", String(length));
    const order = name === "run" || !ORDERED.includes(name) ? "" : sorted;
    return `    ${JSON.stringify(NAMES[name])}: ${builder}${order},`;
  });
  return [
    ...(isTrained ? ["import functools", ""] : []),
    "import numpy as np",
    ...(isTrained ? ["import torch", ""] : []),
    "from stepfold import *",
    "from stepfold.polynomial import worst_case_period_rate",
    "from stepfold.schedules import noisy_mean_squared_error, roundoff_amplification",
    ...(isTrained
      ? ["from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally"]
      : []),
    "",
    ...spectrumLines(state, result.bounds, data),
    `period = ${state.T}`,
    `noise = ${literal(state.noise)} * bounds.upper`,
    ...(isTrained ? trainingLines(state, result.layers) : []),
    "schedules = {",
    ...entries,
    "}",
    "",
    "eigenvalues, shares = measure.nodes, np.sqrt(measure.weights)",
    "quarter = eigenvalues.size // 4",
    "",
    "",
    "def mixed(v):  # reflects each pair of opposite places",
    "    half = v.shape[-1] // 2",
    "    low, high = v[..., :half], v[..., ::-1][..., :half]",
    "    parts = 0.8 * low + 0.6 * high, v[..., half : v.shape[-1] - half], 0.6 * low - 0.8 * high",
    "    return np.concatenate([*parts[:2], parts[2][..., ::-1]], axis=-1)",
    "",
    "",
    "def turned(v, places):",
    "    return mixed(np.roll(mixed(v), places, axis=-1))",
    "",
    "",
    "# A is Q diag(eigenvalues) Qᵀ; of the second right-hand side, the noise, all that is fitted is error.",
    "targets = turned(np.array([shares, 0 * shares]), quarter)",
    "terms = np.array([eigenvalues * shares, np.sqrt(eigenvalues * noise * measure.weights)])",
    `rhs = turned(terms, quarter).astype("${state.precision}")`,
    `scales = eigenvalues.astype("${state.precision}")`,
    "for name, schedule in schedules.items():",
    "    x = np.zeros_like(rhs)",
    "    for gamma in schedule:",
    "        x = x - gamma * (turned(scales * turned(x, -quarter), quarter) - rhs)",
    "    predicted = noisy_mean_squared_error(schedule, measure, noise=noise)",
    "    iterated = ((x.astype(float) - targets) ** 2).sum()",
    "    heads, tails = roundoff_amplification(schedule, bounds)",
    "    print(name, predicted, iterated, worst_case_period_rate(schedule, bounds), heads, tails, sep=\"\\t\")",
  ];
}
