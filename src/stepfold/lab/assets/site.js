// Draws every figure of a page with plotly.js in the page's colours, and makes its legend and
// buttons work. What a figure shows comes from the JSON beside it; nothing is fetched.
(() => {
  "use strict";

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Breaks a text, escaped already, into lines of at most `width` pixels, roughly.
  function wrapped(text, width) {
    const lines = [""];
    for (const word of text.split(" ")) {
      const last = lines[lines.length - 1];
      if (last && (last.length + word.length) * 8 > width) lines.push(word);
      else lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
    return lines.join("<br>");
  }

  function themed(spec, plot) {
    const ink = colour("--text");
    const line = colour("--line");
    const data = spec.data.map((trace) => ({
      ...trace,
      line: { ...trace.line, color: colour(trace.line.color) },
      marker: { ...trace.marker, color: colour(trace.line.color) },
      ...(trace.fill ? { fillcolor: colour(trace.line.color) } : {}),
    }));
    const axis = ({ whole, ...given }, room) => ({
      ...given,
      automargin: true,
      gridcolor: line,
      linecolor: colour("--quiet"),
      zeroline: false,
      title: { text: wrapped(given.title.text, room), standoff: 8, font: { size: 13 } },
    });
    const layout = {
      // A title stands below the middle of the axes, which labels of the other axis push aside.
      xaxis: axis(spec.layout.xaxis, plot.clientWidth - 120),
      yaxis: axis(spec.layout.yaxis, plot.clientHeight - 90),
      font: { color: ink, size: 13, family: "system-ui, sans-serif" },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: line, font: { color: ink }, namelength: -1 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 50, r: 12, t: 12, b: 44 },
      showlegend: false,
      hovermode: "closest",
      // A finger that drags scrolls the page; the buttons zoom.
      dragmode: coarse.matches ? false : "zoom",
    };
    return { data, layout };
  }

  function prepare(figure) {
    const plot = figure.querySelector(".plot");
    const spec = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const config = { responsive: true, displayModeBar: false, displaylogo: false };

    const draw = () => {
      const { data, layout } = themed(spec, plot);
      return Plotly.react(plot, data, layout, config).then(suitTicks);
    };

    // Labels of ticks that can be read by themselves, however far a reader zooms in: whole numbers
    // where layers are counted, and on a logarithmic axis no 2 or 5 without its power of ten.
    function suitTicks() {
      const change = {};
      for (const name of ["xaxis", "yaxis"]) {
        const [{ whole, type }, { range, dtick, tickformat = "" }] = [
          spec.layout[name],
          plot.layout[name],
        ];
        const span = Math.abs(range[1] - range[0]);
        if (whole) {
          const least = Math.max(span / Math.max(3, plot.clientWidth / 80), 1);
          const power = 10 ** Math.floor(Math.log10(least));
          const step = [1, 2, 5, 10].map((k) => k * power).find((value) => value >= least);
          if (step !== dtick) Object.assign(change, { [`${name}.dtick`]: step, [`${name}.tick0`]: 0 });
        }
        if (type !== "log") continue;
        const format = span < 3 ? "~g" : "";
        // Powers of ten, every so many; between them 2 and 5 where there are few; plotly's choice
        // within one decade.
        const most = name === "xaxis" ? Math.max(3, Math.min(8, plot.clientWidth / 60)) : 8;
        const few = span < 3 && 3 * span <= 1.3 * most;
        const factors = !few ? Math.ceil(span / most) : span > 0.9 ? "D2" : null;
        if (format !== tickformat) change[`${name}.tickformat`] = format;
        if (factors !== (dtick ?? null)) {
          Object.assign(change, { [`${name}.dtick`]: factors, [`${name}.tick0`]: null });
          change[`${name}.tickmode`] = factors === null ? "auto" : "linear"; // else none are drawn
        }
      }
      return Object.keys(change).length ? Plotly.relayout(plot, change) : null;
    }

    function toggle(button) {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      const index = Number(button.dataset.trace);
      const isOwn = (trace, k) => k === index || trace.legendgroup === button.dataset.trace;
      const own = [...spec.data.keys()].filter((k) => isOwn(spec.data[k], k)); // its band, too
      for (const k of own) spec.data[k].visible = shown; // for the next change of theme
      Plotly.restyle(plot, { visible: shown }, own);
    }

    function zoom(factor) {
      const change = {};
      for (const name of ["xaxis", "yaxis"]) {
        const first = spec.layout[name].range;
        if (!factor) {
          change[`${name}.autorange`] = !first;
          if (first) change[`${name}.range`] = first.slice();
          continue;
        }
        const [low, high] = plot.layout[name].range;
        const [middle, half] = [(low + high) / 2, ((high - low) / 2) * factor];
        change[`${name}.range`] = [middle - half, middle + half];
      }
      Plotly.relayout(plot, change);
    }

    figure.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if ("trace" in button.dataset) toggle(button);
      if ("zoom" in button.dataset) zoom(Number(button.dataset.zoom));
    });
    dark.addEventListener("change", draw);
    // A phone that is turned has room for other lines of a title, and for other ticks; plotly.js
    // fits the axes themselves.
    let width = plot.clientWidth;
    new ResizeObserver(() => {
      if (plot.clientWidth === width || !plot.layout) return;
      width = plot.clientWidth;
      const { layout } = themed(spec, plot);
      Plotly.relayout(plot, {
        "xaxis.title.text": layout.xaxis.title.text,
        "yaxis.title.text": layout.yaxis.title.text,
      });
    }).observe(plot);
    figure.querySelector(".controls").hidden = false;
    return draw().then(() => plot.on("plotly_relayout", suitTicks));
  }

  document.querySelectorAll("figure.interactive").forEach(prepare);
})();
