// Numbers and findings in plain words.

import { ORDERED } from "./compute.js";

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

export function digits(value, count = 3) {
  if (Number.isNaN(value)) return "overflow";
  if (!Number.isFinite(value)) return "∞";
  if (value === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  if (exponent >= -3 && exponent < 5) {
    return String(Number(value.toPrecision(count))).replace("-", "−");
  }
  const [mantissa, power] = value.toExponential(count - 1).split("e");
  const raised = Array.from(String(Math.abs(power)), (digit) => SUPERSCRIPTS[digit]).join("");
  return `${mantissa.replace("-", "−")} × 10${power < 0 ? "⁻" : ""}${raised}`;
}

export function times(ratio) {
  if (ratio >= 1e5) return `${digits(ratio, 2)} times`;
  return `${ratio >= 10 ? Math.round(ratio).toLocaleString("en-GB") : digits(ratio, 2)} times`;
}

const DIGITS_OF = { float64: 53 * Math.log10(2), float32: 24 * Math.log10(2) };
const isClose = (ratio) => ratio > 0.97 && ratio < 1.03;
const steps = (count) => (count === 1 ? "one step" : `${count} steps`);

// Sentences, each a list of pieces; a piece in an array is what the eye should find first.
export function verdict(state, { bounds, measure, rows, smallestNoisy }) {
  return [
    ...comparison(state, rows),
    ...onLearning(rows),
    ...onNoise(rows, smallestNoisy),
    ...onRounding(state, rows),
    ...(rows.optimal.steps.length < state.T
      ? [[`${steps(rows.optimal.steps.length)} of optimal size already solve it: there are no more distinct eigenvalues.`]]
      : []),
    ...(measure.nodes.length === 1 || bounds.lower === bounds.upper
      ? [["All eigenvalues are equal: one step solves it."]]
      : []),
  ];
}

function comparison({ T }, { chebyshev, constant, optimal }) {
  const gain = constant.error / chebyshev.error;
  const further = chebyshev.error / optimal.error;
  const first = isClose(gain)
    ? [`After ${steps(T)}, Chebyshev steps and the best constant step leave the same mean squared error`]
    : gain > 1
      ? [`After ${steps(T)}, Chebyshev steps leave a mean squared error `, [`${times(gain)} smaller`], " than the best constant step"]
      : [
          `After ${steps(T)}, Chebyshev steps leave a mean squared error `,
          [`${times(1 / gain)} larger`],
          ` than the best constant step (they guard the worst eigenvalue: factor ${digits(chebyshev.worstCase, 2)} against ${digits(constant.worstCase, 2)})`,
        ];
  if (optimal.error < 1e-30) return [[...first, "; optimal steps leave none."]];
  if (isClose(further)) return [[...first, "; they are as good as optimal."]];
  if (further < 1) return [[...first, "; with noise, steps made for exact data fit it and are worse."]];
  return [[...first, "; optimal steps are ", [`${times(further)} better`], " still."]];
}

function onLearning({ learned, optimal, chebyshev }) {
  if (!learned) return [];
  const surplus = learned.error / optimal.error;
  if (optimal.error < 1e-30) return [];
  if (surplus < 1.03) return [["Training found the optimum."]];
  const side = learned.error < chebyshev.error ? "ahead of Chebyshev’s" : "behind Chebyshev’s";
  return [[`Training ends ${times(surplus)} above the optimum, ${side}.`]];
}

function onNoise(rows, smallestNoisy) {
  if (smallestNoisy === null) return [];
  const best = Math.min(...Object.values(rows).map((row) => row.error));
  const text = `With this noise no ${steps(rows.chebyshev.steps.length)} can get below ${digits(smallestNoisy, 2)}`;
  const before = Object.values(rows)
    .flatMap(({ predicted }) => Array.from(predicted))
    .reduce((least, value) => Math.min(least, value), Infinity);
  return [
    isClose(best / smallestNoisy)
      ? [text + ", and the best shown are there."]
      : [`${text}; the best shown reach ${digits(Math.min(best, before), 2)}.`],
  ];
}

// Rounding costs as many digits as the larger of the two products has; the worst schedule is named.
function onRounding({ precision, order }, rows) {
  const available = Math.floor(DIGITS_OF[precision]);
  const judged = Object.keys(rows).filter((name) => order === "own" || ORDERED.includes(name));
  const cost = (name) => Math.max(rows[name].heads, rows[name].tails);
  const name = judged.reduce((worst, next) => (cost(next) > cost(worst) ? next : worst));
  const lost = Math.log10(cost(name));
  const whose = name === "run" ? "the run’s steps" : `${NAMES[name]} steps`;
  const place = order === "own" ? `in their own order ${whose}` : `in ${order} order ${whose}`;
  if (lost >= available) {
    return [[`In ${precision}, ${place} `, ["lose every digit"], `: rounding errors grow ${digits(cost(name), 2)}-fold.`]];
  }
  if (lost >= 2) {
    return [[`In ${precision}, ${place} `, [`lose ${Math.round(lost)} of ${available} digits`], "."]];
  }
  return [[`In ${precision}, rounding costs ${lost < 1 ? "less than a digit" : "a digit or two"}.`]];
}

export const NAMES = {
  learned: "learned",
  chebyshev: "Chebyshev",
  optimal: "optimal",
  constant: "constant",
  "second-kind": "Chebyshev, second kind",
  "fourth-kind": "Chebyshev, fourth kind",
  silver: "silver",
  run: "from the run",
};
