// Everything that can be chosen, and its place in the address: what a link restores.

import { ORDERS } from "./ordering.js";

export const SPECTRA = ["marchenko-pastur", "uniform", "two-clusters", "measured"];
export const PRECISIONS = ["float64", "float32"];
export const FAMILIES = [
  "learned",
  "chebyshev",
  "optimal",
  "constant",
  "second-kind",
  "fourth-kind",
  "silver",
  "run",
];
export const LONGEST = 64;

const number = (lowest, highest, isWhole = false) => (text) => {
  const value = text.trim() === "" ? NaN : Number(text);
  const fits = value >= lowest && value <= highest && (!isWhole || Number.isInteger(value));
  return fits ? value : undefined;
};
const oneOfNumbers = (values) => (text) => values.find((value) => text === String(value));
const oneOf = (names) => (text) => (names.includes(text) ? text : undefined);
const someOf = (names) => (text) => {
  const chosen = text.split(",");
  return names.filter((name) => chosen.includes(name));
};

// How to read each value from text; what does not fit is left at its default.
const READERS = {
  spectrum: oneOf(SPECTRA),
  kappa: number(1.01, 1e6),
  aspect: number(0.01, 0.98),
  width: number(0.01, 0.45),
  n: oneOfNumbers([130, 300, 1000]), // more than twice the longest period, so that rules are exact
  T: number(1, LONGEST, true),
  order: oneOf(["own", ...Object.keys(ORDERS)]),
  precision: oneOf(PRECISIONS),
  noise: number(0, 1),
  periods: oneOfNumbers([1, 2, 4, 8]),
  training: oneOfNumbers([0, 100, 500, 2000]),
  show: someOf(FAMILIES),
  view: oneOf(["sorted", "taken"]),
};

export function defaults(data) {
  return {
    spectrum: data.measured ? "measured" : "marchenko-pastur",
    kappa: 100,
    aspect: 0.5,
    width: 0.1,
    n: 300,
    T: data.run ? Math.min(data.run.steps.length, LONGEST) : 8,
    order: "own",
    precision: "float64",
    noise: 0,
    periods: 2,
    training: 500,
    show: ["learned", "chebyshev", "optimal", "constant", ...(data.run ? ["run"] : [])],
    view: "sorted",
  };
}

export function toHash(state) {
  return "#" + Object.keys(READERS).map((key) => `${key}=${state[key]}`).join("&");
}

export function fromHash(hash, data) {
  const state = defaults(data);
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const value = Object.hasOwn(READERS, key) ? READERS[key](text) : undefined;
    if (value !== undefined) state[key] = value;
  }
  if (state.spectrum === "measured" && !data.measured) state.spectrum = defaults(data).spectrum;
  return state;
}
