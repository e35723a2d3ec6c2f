// Draws every figure of a page with plotly.js in the page's colours, and makes its legend and
// buttons work. What a figure shows comes from the JSON beside it; nothing is fetched.
(() => {
  "use strict";

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const INK = "#000000"; // the palette's name for the page's own ink

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
    const own = (value) => (value === INK ? ink : value);
    const data = spec.data.map((trace) => ({
      ...trace,
      line: { ...trace.line, color: own(trace.line.color) },
      marker: { ...trace.marker, color: own((trace.marker || trace.line).color) },
    }));
    const axis = (given, room) => ({
      ...given,
      automargin: true,
      gridcolor: line,
      linecolor: colour("--quiet"),
      zeroline: false,
      title: { text: wrapped(given.title.text, room), standoff: 8 },
    });
    const layout = {
      xaxis: axis(spec.layout.xaxis, plot.clientWidth - 60),
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
      return Plotly.react(plot, data, layout, config);
    };

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
    figure.querySelector(".controls").hidden = false;
    return draw();
  }

  document.querySelectorAll("figure.interactive").forEach(prepare);
})();
