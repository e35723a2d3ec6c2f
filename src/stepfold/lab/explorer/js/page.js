// Wires controls, figures, table and address together. All text from the data goes in as text.

import { compute, trainedLayers, training, trainingKey } from "./compute.js";
import { convergenceFigure, polynomialFigure, stepsFigure } from "./figures.js";
import { chip } from "./legend.js";
import { firstOrderLowerBound } from "./polynomial.js";
import { pythonLines } from "./python.js";
import { FAMILIES, fromHash, toHash, tourState } from "./state.js";
import { TOUR } from "./tour.js";
import { NAMES, digits, verdict } from "./words.js";

const SLICE = 12; // milliseconds of training between looks at the controls
const CONFIG = { displayModeBar: false, responsive: true };

export function start(data, Plotly) {
  const page = new Page(data, Plotly);
  page.connect();
  page.restore();
  return page;
}

const element = (id) => document.getElementById(id);

class Page {
  constructor(data, Plotly) {
    this.data = data;
    this.Plotly = Plotly;
    this.state = fromHash("", data);
    this.learned = { key: null, stages: null, task: 0 };
    this.drawing = 0;
    this.result = null;
  }

  connect() {
    const { data } = this;
    element("subject").textContent = data.title;
    const narrow = window.matchMedia("(max-width: 60rem)");
    const unfold = () => (element("sheet").open = !narrow.matches);
    narrow.addEventListener("change", unfold);
    unfold();
    element("source").textContent = data.note ?? "";
    element("source").hidden = !data.note;
    element("measured").hidden = !data.measured;
    element("measured").disabled = !data.measured;
    const families = FAMILIES.filter((name) => name !== "run" || data.run);
    element("families").append(...families.map((name) => chip(name, this.nameOf(name), data.styles[name])));
    element("controls").addEventListener("input", (event) => this.change(event.target));
    element("families").addEventListener("change", () => {
      const boxes = [...document.querySelectorAll("#families input")];
      this.set({ show: boxes.filter((box) => box.checked).map((box) => box.value) });
    });
    element("layers").addEventListener("input", (event) => this.change(event.target));
    this.connectTour();
    element("view").addEventListener("change", (event) => this.set({ view: event.target.value }));
    element("reset").addEventListener("click", () => this.set(fromHash("", data)));
    element("copy-link").addEventListener("click", () => this.copy(location.href, "Link copied."));
    element("show-python").addEventListener("click", () => this.showPython());
    element("close-python").addEventListener("click", () => element("python").close());
    element("copy-python").addEventListener("click", () =>
      this.copy(element("python-lines").textContent, "Python lines copied."),
    );
    window.addEventListener("hashchange", () => {
      if (location.hash !== toHash(this.state)) this.restore();
    });
    window
      .matchMedia("(prefers-color-scheme: dark)")
      .addEventListener("change", () => this.schedule());
  }

  connectTour() {
    element("tour-links").append(
      ...TOUR.map(({ title }, index) => {
        const [item, link] = [document.createElement("li"), document.createElement("a")];
        link.href = `#tour=${index + 1}`;
        link.textContent = title;
        item.append(link);
        return item;
      }),
    );
    const go = (number) => this.set(tourState(number, this.data));
    element("start-tour").addEventListener("click", () => {
      go(1);
      element("tour-title").focus();
    });
    element("tour-next").addEventListener("click", () => go(this.state.tour + 1));
    element("tour-back").addEventListener("click", () => go(this.state.tour - 1));
    element("end-tour").addEventListener("click", () => {
      this.set({ tour: 0 });
      element("start-tour").focus();
    });
    element("to-reading").addEventListener("click", () => {
      element("reading").open = true;
      element("reading").scrollIntoView();
      element("reading").querySelector("summary").focus();
    });
  }

  showTour() {
    const { tour } = this.state;
    element("tour").hidden = tour === 0;
    element("start-tour").hidden = tour !== 0;
    element("tour-back").disabled = tour <= 1;
    element("tour-next").disabled = tour === TOUR.length;
    document.querySelectorAll("#tour-links a").forEach((link, index) => {
      if (index === tour - 1) link.setAttribute("aria-current", "step");
      else link.removeAttribute("aria-current");
    });
    const shown = String(tour);
    if (tour === 0 || element("tour").dataset.step === shown) return;
    element("tour").dataset.step = shown;
    element("tour-number").textContent = shown;
    element("tour-title").textContent = TOUR[tour - 1].title;
    element("tour-text").replaceChildren(
      ...TOUR[tour - 1].text.map((words) => {
        const paragraph = document.createElement("p");
        paragraph.textContent = words;
        return paragraph;
      }),
    );
  }

  nameOf(name) {
    return name === "run" ? `run ${this.data.run.name}` : NAMES[name];
  }

  restore() {
    this.set(fromHash(location.hash, this.data));
  }

  change({ id, value }) {
    const position = Number(value);
    const power = (digitsKept) => Number((10 ** position).toPrecision(digitsKept));
    const changes = {
      spectrum: () => ({ spectrum: value }),
      kappa: () => ({ kappa: Math.max(power(3), 1.01) }),
      aspect: () => ({ aspect: position }),
      width: () => ({ width: position }),
      n: () => ({ n: position }),
      period: () => ({ T: position }),
      order: () => ({ order: value }),
      precision: () => ({ precision: value }),
      noise: () => ({ noise: position <= -9 ? 0 : power(2) }),
      periods: () => ({ periods: position }),
      training: () => ({ training: position }),
      layers: () => ({ layers: position === this.state.T ? 0 : position }),
    };
    this.set(changes[id]());
  }

  set(changes) {
    this.state = { ...this.state, ...changes };
    this.showControls();
    this.schedule();
  }

  showControls() {
    const { state } = this;
    const put = (id, value, text = null) => {
      element(id).value = value;
      if (text !== null) {
        element(`${id}-value`).textContent = text;
        element(id).setAttribute("aria-valuetext", text);
      }
    };
    put("spectrum", state.spectrum);
    put("kappa", Math.log10(state.kappa), digits(state.kappa));
    put("aspect", state.aspect, digits(state.aspect));
    put("width", state.width, `${Math.round(100 * state.width)} %`);
    put("period", state.T, String(state.T));
    put("order", state.order);
    put("noise", state.noise > 0 ? Math.log10(state.noise) : -9, state.noise > 0 ? digits(state.noise, 2) : "none");
    const layers = trainedLayers(state);
    element("layers").max = state.T;
    put("layers", layers, `${layers} of ${state.T}`);
    element("layers-field").hidden = !["learned", "run"].some((name) => state.show.includes(name));
    this.showTour();
    for (const id of ["n", "precision", "periods", "training"]) put(id, state[id]);
    for (const [name, spectra] of Object.entries({
      kappa: ["uniform", "two-clusters"],
      aspect: ["marchenko-pastur"],
      width: ["two-clusters"],
      n: ["uniform", "two-clusters", "marchenko-pastur"],
    })) {
      element(`${name}-field`).hidden = !spectra.includes(state.spectrum);
    }
    for (const box of document.querySelectorAll("#families input")) {
      box.checked = state.show.includes(box.value);
    }
    for (const radio of document.querySelectorAll("#view input")) {
      radio.checked = radio.value === state.view;
    }
  }

  // One drawing per frame, however fast the controls move.
  schedule() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      this.draw();
      this.trainIfNeeded();
    });
  }

  draw() {
    const begin = performance.now();
    const { state, data } = this;
    const isTrained = this.learned.key === trainingKey(state) && state.training > 0;
    this.result = compute(state, data, isTrained ? this.learned.stages : null);
    const shown = FAMILIES.filter((name) => state.show.includes(name) && name in this.result.rows);
    const theme = readTheme(data.styles);
    this.put("steps-figure", stepsFigure(state, this.result, shown, theme));
    this.put("polynomial-figure", polynomialFigure(state, this.result, shown, theme));
    this.put("convergence-figure", convergenceFigure(state, this.result, shown, theme));
    this.fillTable(shown);
    this.fillFacts();
    this.showChosen();
    this.speak();
    if (location.hash !== toHash(state)) history.replaceState(null, "", toHash(state));
    document.body.dataset.trained = String(isTrained || state.training === 0);
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
    document.body.dataset.milliseconds = String(performance.now() - begin);
  }

  put(id, { traces, layout }) {
    this.Plotly.react(element(id), traces, layout, CONFIG);
  }

  fillFacts() {
    const { bounds } = this.result;
    const limit = firstOrderLowerBound(bounds);
    element("facts").textContent =
      `Eigenvalues ${digits(bounds.lower)} to ${digits(bounds.upper)}, ` +
      `condition number κ = ${digits(bounds.upper / bounds.lower)}; ` +
      `no first-order method has a worst case below ${digits(limit)} per step in the long run.`;
  }

  // What the closed sheet of a phone says.
  showChosen() {
    const { bounds } = this.result;
    const parts = [`T = ${this.state.T}`, `κ = ${digits(bounds.upper / bounds.lower)}`];
    if (this.state.order !== "own") parts.push(this.state.order);
    if (this.state.precision !== "float64") parts.push(this.state.precision);
    element("chosen").textContent = parts.join(", ");
  }

  fillTable(shown) {
    const body = element("numbers");
    body.replaceChildren(
      ...shown.map((name) => {
        const row = this.result.rows[name];
        const line = document.createElement("tr");
        line.dataset.family = name;
        const head = document.createElement("th");
        head.scope = "row";
        head.textContent = this.nameOf(name);
        head.style.setProperty("--swatch", `var(${this.data.styles[name].variable})`);
        line.append(head);
        for (const [key, value] of Object.entries({
          error: row.error,
          iterated: row.iteratedError,
          worst: row.worstCase,
          rate: row.worstCase ** (1 / row.steps.length),
          heads: row.heads,
          tails: row.tails,
        })) {
          const cell = document.createElement("td");
          cell.textContent = value === null ? "–" : digits(value, key === "rate" && value > 0.99 ? 6 : 3);
          cell.dataset.key = key;
          cell.dataset.value = String(value);
          line.append(cell);
        }
        return line;
      }),
    );
  }

  speak() {
    const sentences = verdict(this.state, this.result).map((pieces) => {
      const sentence = document.createElement("p");
      for (const piece of pieces) {
        if (typeof piece === "string") sentence.append(piece);
        else {
          const strong = document.createElement("strong");
          strong.textContent = piece[0];
          sentence.append(strong);
        }
      }
      return sentence;
    });
    const place = element("verdict");
    const text = sentences.map((sentence) => sentence.textContent).join("\n");
    if (place.dataset.text === text) return; // so that nothing is read out twice
    place.dataset.text = text;
    place.replaceChildren(...sentences);
  }

  trainIfNeeded() {
    const { state, data, learned } = this;
    const key = trainingKey(state);
    if (learned.key === key || learned.running === key) return;
    learned.task += 1;
    learned.running = key;
    if (state.training === 0) {
      this.learned = { key, stages: null, task: learned.task };
      this.progress("");
      return;
    }
    const { task } = learned;
    const work = training(state, data);
    const slice = () => {
      if (this.learned.task !== task) return; // the controls have moved on
      const end = performance.now() + SLICE;
      let next = work.next();
      while (!next.done && performance.now() < end) next = work.next();
      if (next.done) {
        this.learned = { key, stages: next.value, task };
        this.progress("");
        this.draw();
      } else {
        this.progress(`training step ${next.value + 1} of ${state.T} …`);
        setTimeout(slice, 0);
      }
    };
    setTimeout(slice, 0);
  }

  progress(text) {
    element("training-progress").textContent = text;
  }

  showPython() {
    element("python-lines").textContent = pythonLines(this.state, this.result, this.data).join("\n");
    element("python").showModal();
  }

  async copy(text, done) {
    let isCopied = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      isCopied = copyBySelection(text); // no clipboard for pages opened from a file
    }
    element("copied").textContent = isCopied ? done : "Copying is not allowed here; select it by hand.";
    setTimeout(() => (element("copied").textContent = ""), 4000);
  }
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  (element("python").open ? element("python") : document.body).append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}

function readTheme(styles) {
  const style = getComputedStyle(document.documentElement);
  const read = (variable) => style.getPropertyValue(variable).trim();
  const names = ["text", "quiet", "grid", "line", "card", "spectrum"];
  return {
    ...Object.fromEntries(names.map((name) => [name, read(`--${name}`)])),
    styles,
    colours: Object.fromEntries(FAMILIES.map((name) => [name, read(styles[name].variable)])),
    font: getComputedStyle(document.body).fontFamily,
  };
}
