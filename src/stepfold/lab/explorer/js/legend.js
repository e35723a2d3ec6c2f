// The legend: a chip per schedule, with its line and its marker, that shows or hides it.

// A checkbox that is its schedule's entry in the legend of every figure.
export function chip(name, text, style) {
  const label = document.createElement("label");
  label.className = "chip";
  const box = document.createElement("input");
  box.type = "checkbox";
  box.value = name;
  const face = document.createElement("span");
  face.append(sample(style), text);
  label.append(box, face);
  return label;
}

function sample({ variable, pattern, outline }) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("aria-hidden", "true");
  picture.setAttribute("viewBox", "0 0 32 12");
  const line = document.createElementNS(space, "line");
  for (const [key, value] of Object.entries({ x1: 0, x2: 32, y1: 6, y2: 6 })) {
    line.setAttribute(key, value);
  }
  line.style.stroke = `var(${variable})`;
  line.style.strokeWidth = "2.5";
  line.style.strokeDasharray = pattern;
  const marker = document.createElementNS(space, "path");
  marker.setAttribute("d", outline);
  marker.style.fill = `var(${variable})`;
  picture.append(line, marker);
  return picture;
}
