// Everything that can be chosen, and its place in the address: what a link restores.

import { ORDERS } from "./ordering.js";
import { TOUR } from "./tour.js";

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
  layers: number(0, LONGEST, true), // 0: all
  tour: number(0, TOUR.length, true), // 0: none
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
    show: data.run ? ["constant", "run"] : ["learned", "constant"],
    view: "taken",
    layers: 0,
    tour: 0,
  };
}

export function toHash(state) {
  return "#" + Object.keys(READERS).map((key) => `${key}=${state[key]}`).join("&");
}

// A step of the tour: its number, and what it shows on any page.
export function tourState(number, data) {
  return { ...defaults(data), ...(number > 0 ? TOUR[number - 1].state : {}), tour: number };
}

// What an address without choices opens: the zig-zag, and the tour where the page has no data.
function opening(data) {
  return tourState(data.measured || data.run ? 0 : 1, data);
}

export function fromHash(hash, data) {
  const given = Array.from(new URLSearchParams(hash.replace(/^#/, ""))).flatMap(([key, text]) => {
    const value = Object.hasOwn(READERS, key) ? READERS[key](text) : undefined;
    return value === undefined ? [] : [[key, value]];
  });
  if (given.length === 0) return opening(data);
  const choices = Object.fromEntries(given);
  const state = { ...tourState(choices.tour ?? 0, data), ...choices };
  if (state.spectrum === "measured" && !data.measured) state.spectrum = defaults(data).spectrum;
  return state;
}
