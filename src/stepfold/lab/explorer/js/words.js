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
  return `${String(Number(mantissa)).replace("-", "−")} × 10${power < 0 ? "⁻" : ""}${raised}`;
}

// A tick's label: the whole number, with a power of ten where it has many digits.
export function fullNumber(value) {
  if (value >= 1e-3 && value < 1e5) return String(Number(value.toPrecision(6)));
  const [mantissa, power] = value.toExponential().split("e");
  const raised = Array.from(String(Math.abs(power)), (digit) => SUPERSCRIPTS[digit]).join("");
  return `${mantissa === "1" ? "" : `${mantissa}·`}10${power < 0 ? "⁻" : ""}${raised}`;
}

// How much larger or smaller, for ratios from 1 on: in per cent as long as that says more.
function by(ratio, word) {
  const isMore = word === "larger" || word === "above";
  const amount =
    ratio < 1.5
      ? `${Math.round(100 * (isMore ? ratio - 1 : 1 - 1 / ratio))} %`
      : ratio >= 10 && ratio < 1e5
        ? `${Math.round(ratio).toLocaleString("en-GB")} times`
        : `${digits(ratio, 2)} times`;
  return `${amount} ${word}`;
}

const DIGITS_OF = { float64: 53 * Math.log10(2), float32: 24 * Math.log10(2) };
const isClose = (ratio) => ratio > 0.97 && ratio < 1.03;
const steps = (count) => (count === 1 ? "one step" : `${count} steps`);

// Sentences, each a list of pieces; a piece in an array is what the eye should find first.
export function verdict(state, { bounds, measure, rows, smallestNoisy, layers, bestOfLayers }) {
  if (measure.nodes.length === 1 || bounds.lower === bounds.upper) {
    return [["All eigenvalues are equal: ", ["one step"], " solves it, whatever the rest."]];
  }
  const rounding = onRounding(state, rows);
  const findings = [
    comparison(state, rows, rounding.isFatal),
    ...onLearning(rows, layers, bestOfLayers, state),
    ...onNoise(state, rows, smallestNoisy),
  ];
  // What destroys the result comes first.
  const all = rounding.isFatal ? [rounding.sentence, ...findings] : [...findings, rounding.sentence];
  const enough = rows.optimal.steps.length;
  if (enough < state.T) {
    all.push([`There are ${enough} distinct eigenvalues: ${steps(enough)} of optimal size solve it.`]);
  }
  return all;
}

function comparison({ T }, { chebyshev, constant, optimal }, isFatal) {
  const gain = constant.error / chebyshev.error;
  const further = chebyshev.error / optimal.error;
  const start = `${isFatal ? "In exact arithmetic, after" : "After"} ${T === 1 ? "one iteration" : `${T} iterations`}`;
  const sentence = [];
  if (isClose(gain)) {
    sentence.push(`${start} Chebyshev steps and the best constant step leave the same mean squared error`);
  } else if (gain > 1) {
    sentence.push(`${start} Chebyshev steps leave a mean squared error `, [by(gain, "smaller")]);
    sentence.push(" than the best constant step");
  } else {
    sentence.push(`${start} Chebyshev steps leave a mean squared error `, [by(1 / gain, "larger")]);
    sentence.push(
      " than the best constant step, for they guard the worst eigenvalue " +
        `(factor ${digits(chebyshev.worstCase)} against ${digits(constant.worstCase)})`,
    );
  }
  if (optimal.error < 1e-30) sentence.push("; optimal steps leave none.");
  else if (isClose(further)) sentence.push("; they are optimal here.");
  else if (further > 1) sentence.push("; optimal steps leave ", [by(further, "less")], " still.");
  else sentence.push("; optimal steps, made for exact data, fit the noise and are worse.");
  return sentence;
}

function onLearning({ learned, run, optimal, chebyshev }, layers, bestOfLayers, { T }) {
  if (optimal.error < 1e-30) return [];
  if (layers < T) {
    const row = learned ?? run;
    if (!row || bestOfLayers < 1e-30) return [];
    const surplus = row.error / bestOfLayers;
    const place = surplus < 1.005 ? "at the optimum" : `${by(surplus, "above")} the optimum`;
    return [[`With ${layers} of ${T} layers trained, the learned steps are ${place} of ${steps(layers)}.`]];
  }
  const tell = (who, row) => {
    const surplus = row.error / optimal.error;
    if (surplus < 0.995) return [`${who} below the steps that are optimal for exact data.`];
    if (surplus < 1.005) return [`${who} at the optimum.`];
    const side = row.error < chebyshev.error ? "ahead of" : "behind";
    return [`${who} ${by(surplus, "above")} the optimum, ${side} Chebyshev steps.`];
  };
  return [
    ...(run ? [tell("The run ended", run)] : []),
    ...(learned ? [tell("Training here ends", learned)] : []),
  ];
}

function onNoise({ T }, rows, smallestNoisy) {
  if (smallestNoisy === null) return [];
  const reached = Object.values(rows).map(({ predicted }) => Math.min(...predicted.slice(0, T + 1)));
  const best = Math.min(...reached);
  const text = `With this noise no ${steps(T)} can leave less than ${digits(smallestNoisy)}`;
  const isThere = best / smallestNoisy < 1.005;
  return [[isThere ? `${text}, which is reached.` : `${text}; the best shown reach ${digits(best)}.`]];
}

// Rounding costs as many digits as the larger of the two products has; the worst schedule is named.
function onRounding({ precision, order }, rows) {
  const available = Math.floor(DIGITS_OF[precision]);
  const judged = Object.keys(rows).filter((name) => order === "own" || ORDERED.includes(name));
  const cost = (name) => Math.max(rows[name].heads, rows[name].tails);
  const name = judged.reduce((worst, next) => (cost(next) > cost(worst) ? next : worst));
  const lost = Math.log10(cost(name));
  const whose = name === "run" ? "the run’s steps" : `${NAMES[name]} steps`;
  const place = `In ${precision}, in ${order === "own" ? "their own" : order} order, ${whose} `;
  if (lost >= available) {
    const growth = `: rounding errors grow up to ${digits(cost(name), 2)}-fold.`;
    return { isFatal: true, sentence: [place, ["lose every digit"], growth] };
  }
  const few = lost < 1 ? "less than a digit" : "a digit or two";
  const sentence =
    lost >= 2
      ? [place, [`lose ${Math.round(lost)} of ${available} digits`], "."]
      : [`In ${precision}, rounding costs ${few}.`];
  return { isFatal: false, sentence };
}

export const NAMES = {
  learned: "learned",
  chebyshev: "Chebyshev",
  optimal: "optimal",
  constant: "constant",
  "second-kind": "second kind",
  "fourth-kind": "fourth kind",
  silver: "silver",
  run: "from the run",
};
