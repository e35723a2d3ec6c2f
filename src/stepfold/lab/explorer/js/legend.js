// The legend: a chip per schedule, with its line and its marker, that shows or hides it.

import { DASHES } from "./figures.js";

const PATTERNS = { solid: "", dash: "5 4", dashdot: "7 3 2 3", dot: "2 3", longdash: "10 4" };

const MARKERS = {
  learned: "M12 2h8v8h-8z",
  chebyshev: "M16 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0 -9z",
  optimal: "M16 0.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
  constant: "",
  "second-kind": "M16 1l5.5 9.5h-11z",
  "fourth-kind": "M16 11l5.5 -9.5h-11z",
  silver: "M16 0l1.8 4h4.2l-3.4 2.8l1.3 4.4l-3.9 -2.6l-3.9 2.6l1.3 -4.4l-3.4 -2.8h4.2z",
  run: "M11.5 1.5h2.5l2 2.8l2 -2.8h2.5l-3.2 4.5l3.2 4.5h-2.5l-2 -2.8l-2 2.8h-2.5l3.2 -4.5z",
};

// A checkbox that is its schedule's entry in the legend of every figure.
export function chip(name, text) {
  const label = document.createElement("label");
  label.className = "chip";
  const box = document.createElement("input");
  box.type = "checkbox";
  box.value = name;
  const face = document.createElement("span");
  face.append(sample(name), text);
  label.append(box, face);
  return label;
}

function sample(name) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("aria-hidden", "true");
  picture.setAttribute("viewBox", "0 0 32 12");
  const line = document.createElementNS(space, "line");
  for (const [key, value] of Object.entries({ x1: 0, x2: 32, y1: 6, y2: 6 })) {
    line.setAttribute(key, value);
  }
  line.style.stroke = `var(--${name})`;
  line.style.strokeWidth = "2.5";
  line.style.strokeDasharray = PATTERNS[DASHES[name]];
  const marker = document.createElementNS(space, "path");
  marker.setAttribute("d", MARKERS[name]);
  marker.style.fill = `var(--${name})`;
  picture.append(line, marker);
  return picture;
}
