// Plotly figures from computed numbers: traces and layouts, as data.

import { residual } from "./polynomial.js";
import { NAMES, fullNumber } from "./words.js";

const LOG_FROM = 60; // condition number from which eigenvalues are drawn on a logarithmic axis
const LOWEST = 1e-36;
const HIGHEST = 1e30;

function axis(theme, title, more = {}) {
  return {
    title: { text: title, standoff: 8, font: { size: 13, color: theme.quiet } },
    gridcolor: theme.grid,
    linecolor: theme.line,
    zeroline: false,
    tickfont: { size: 12, color: theme.quiet },
    exponentformat: "power",
    automargin: true,
    fixedrange: true,
    ...more,
  };
}

function layout(theme, x, y, more = {}) {
  return {
    font: { family: theme.font, color: theme.text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 14, t: 8, b: 44 },
    showlegend: false,
    dragmode: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: theme.card, bordercolor: theme.line, font: { color: theme.text } },
    xaxis: x,
    yaxis: y,
    ...more,
  };
}

// Ticks of a logarithmic axis: powers of ten, where there are few decades 2 and 5 times them, too;
// each label is the whole number.
function ticks([low, high]) {
  const span = high - low;
  const factors = span < 0.7 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : span < 2.2 ? [1, 2, 5] : [1];
  const every = span < 2.2 ? 1 : Math.ceil(span / 7);
  const tickvals = [];
  for (let power = Math.floor(low); power <= high; power++) {
    if (power % every) continue;
    for (const factor of factors) {
      const value = Number(`${factor}e${power}`);
      if (Math.log10(value) >= low && Math.log10(value) <= high) tickvals.push(value);
    }
  }
  return { type: "log", range: [low, high], tickvals, ticktext: tickvals.map(fullNumber) };
}

// Ticks of an axis that counts.
function counting(longest) {
  const step = [1, 2, 5, 10, 20, 50, 100].find((size) => longest / size <= 12) ?? 200;
  return { tick0: 0, dtick: step };
}

function logRange(values, floor = LOWEST, ceiling = HIGHEST) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value > 0 && Number.isFinite(value)) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (!(high > 0)) [low, high] = [0.1, 1];
  low = Math.min(Math.max(low, floor), ceiling / 10);
  high = Math.max(Math.min(high, ceiling), low * 1.01);
  const margin = 0.05 * Math.log10(high / low) + 0.02;
  return [Math.log10(low) - margin, Math.log10(high) + margin];
}

const drawable = (value) => (value > 0 && Number.isFinite(value) ? value : null);

export function stepsFigure(state, { rows, bounds }, shown, theme) {
  const traces = shown.map((name) => {
    const steps = Array.from(rows[name].steps);
    if (state.view === "sorted") steps.sort((x, y) => x - y);
    return {
      name: NAMES[name],
      x: steps.map((_, t) => t + 1),
      y: steps,
      mode: name === "constant" && steps.length > 1 ? "lines" : "lines+markers",
      line: { color: theme.colours[name], dash: theme.styles[name].dash, width: 1.5 },
      marker: {
        symbol: theme.styles[name].symbol,
        size: steps.length > 32 ? 5 : 8,
        color: theme.colours[name],
      },
      hovertemplate: `step %{x}: %{y:.4g}<extra>${NAMES[name]}</extra>`,
    };
  });
  const all = shown.flatMap((name) => Array.from(rows[name].steps));
  const range = logRange([...all, 1 / bounds.upper, 1 / bounds.lower]);
  const longest = Math.max(1, ...shown.map((name) => rows[name].steps.length));
  const title = state.view === "sorted" ? "step, smallest first" : "iteration";
  // The reciprocals of the ends of the spectrum: no best steps lie beyond them.
  const ends = [bounds.lower, bounds.upper].map((end) => ({
    type: "line",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: 1 / end,
    y1: 1 / end,
    line: { color: theme.line, width: 1, dash: "dot" },
  }));
  const x = axis(theme, title, { range: [0.5, longest + 0.5], ...counting(longest) });
  return { traces, layout: layout(theme, x, axis(theme, "step size γ", ticks(range)), { shapes: ends }) };
}

function grid({ lower, upper }, isLog, size) {
  return Array.from({ length: size }, (_, i) => {
    // Denser at the ends, where the polynomials of long schedules are steep.
    const share = (1 - Math.cos((Math.PI * i) / (size - 1))) / 2;
    return isLog ? lower * (upper / lower) ** share : lower + (upper - lower) * share;
  });
}

// Weight of the measure per bin, of equal width on the axis as drawn, largest 1.
function histogram({ nodes, weights }, { lower, upper }, isLog, size) {
  const place = (x) => (isLog ? Math.log(x / lower) / Math.log(upper / lower) : (x - lower) / (upper - lower));
  const heights = new Float64Array(size);
  nodes.forEach((node, i) => {
    const bin = Math.floor(place(node) * size);
    heights[Math.min(Math.max(bin, 0), size - 1)] += weights[i];
  });
  const highest = Math.max(...heights);
  const edges = Array.from({ length: size + 1 }, (_, k) =>
    isLog ? lower * (upper / lower) ** (k / size) : lower + ((upper - lower) * k) / size,
  );
  const centres = Array.from(heights, (_, k) =>
    isLog ? Math.sqrt(edges[k] * edges[k + 1]) : (edges[k] + edges[k + 1]) / 2,
  );
  return {
    x: centres,
    y: Array.from(heights, (height) => height / highest),
    width: centres.map((_, k) => edges[k + 1] - edges[k]),
  };
}

export function polynomialFigure(state, { rows, bounds, measure }, shown, theme) {
  const isWide = bounds.upper / bounds.lower > LOG_FROM;
  const isPoint = bounds.upper === bounds.lower;
  const frame = isPoint ? { lower: bounds.lower / 2, upper: bounds.upper * 2 } : bounds;
  const places = grid(frame, isWide, Math.max(401, 14 * state.T + 1));
  const curves = shown.map((name) => places.map((x) => Math.abs(residual(rows[name].steps, x))));
  const lowest = Math.min(...shown.map((name) => rows[name].worstCase).filter((rate) => rate > 0), 1);
  const floor = Math.max(lowest / 300, 1e-30);
  const range = logRange(curves.flat(), floor, 1e12);
  const bars = histogram(measure, frame, isWide, measure.nodes.length < 200 ? 40 : 60);
  const traces = [
    {
      type: "bar",
      name: "spectrum",
      ...bars,
      yaxis: "y2",
      marker: { color: theme.spectrum },
      hoverinfo: "skip",
    },
    ...shown.map((name, k) => ({
      name: NAMES[name],
      x: places,
      y: curves[k].map((value) => Math.max(value, 10 ** (range[0] - 1))),
      mode: "lines",
      line: { color: theme.colours[name], dash: theme.styles[name].dash, width: 1.6 },
      hovertemplate: `λ = %{x:.3g}: |p| = %{y:.3g}<extra>${NAMES[name]}</extra>`,
    })),
  ];
  const x = axis(theme, "eigenvalue λ", {
    ...(isWide
      ? ticks([Math.log10(frame.lower), Math.log10(frame.upper)])
      : { range: [frame.lower, frame.upper] }),
  });
  const y = axis(theme, "factor |p(λ)|", ticks(range));
  const second = { overlaying: "y", side: "right", range: [0, 4], visible: false, fixedrange: true };
  return { traces, layout: layout(theme, x, y, { yaxis2: second, bargap: 0 }) };
}

export function convergenceFigure(state, result, shown, theme) {
  const { rows, numIterations } = result;
  const x = Array.from({ length: numIterations + 1 }, (_, t) => t);
  const line = (name, kind, values, style) => ({
    name: `${NAMES[name]}, ${kind}`,
    x,
    y: Array.from(values, drawable),
    mode: "lines",
    hovertemplate: `iteration %{x}: %{y:.3g}<extra>${NAMES[name]}, ${kind}</extra>`,
    ...style,
  });
  const traces = shown.flatMap((name) => [
    line(name, "predicted", rows[name].predicted, {
      line: { color: theme.colours[name], width: 7 },
      opacity: 0.28,
    }),
    line(name, "iterated", rows[name].iterated, {
      line: { color: theme.colours[name], width: 1.8, dash: theme.styles[name].dash },
    }),
  ]);
  const values = shown.flatMap((name) => [...rows[name].predicted, ...rows[name].iterated]);
  const y = axis(theme, "mean squared error", ticks(logRange(values)));
  const periods = Array.from({ length: state.periods }, (_, k) => ({
    type: "line",
    yref: "paper",
    y0: 0,
    y1: 1,
    x0: (k + 1) * state.T,
    x1: (k + 1) * state.T,
    line: { color: theme.line, width: 1, dash: "dot" },
  }));
  const bottom = axis(theme, "iteration", { range: [0, numIterations * 1.005], ...counting(numIterations) });
  return { traces, layout: layout(theme, bottom, y, { shapes: periods }) };
}
