"""A figure that answers: drawn by plotly.js, with legend, buttons, downloads and numbers in HTML.

Legend and buttons are the page's own, so that they are reached by keyboard, read aloud, and wrap on
a phone. Without a script the PNG stands in the figure's place.
"""

from __future__ import annotations

import html
import json

import numpy as np

from stepfold.lab._page import html_table, still
from stepfold.lab.figure import Curve, Figure
from stepfold.lab.picture import Pictures
from stepfold.lab.roles import DASHES, LEVEL_DASHES, MARKERS, Style, level_style, styles
from stepfold.lab.site.traces import to_plotly

# Longer tables are read in a spreadsheet, from the CSV.
LONGEST_TABLE = 100


def interactive(figure: Figure | Pictures) -> str:
    """Return the figure for a page whose folder has its files below ``figures/``."""
    downloads = " ".join(
        f'<a href="figures/{figure.name}.{kind}" download>{kind.upper()}'
        f'<span class="hidden"> of {html.escape(figure.title)}</span></a>'
        for kind in ("png", "pdf", "csv")
    )
    downloads = f'<p class="downloads">Download: {downloads}</p>'
    if isinstance(figure, Pictures):
        return still(figure).replace("</figure>", f"{downloads}</figure>")
    title, alt = html.escape(figure.title), html.escape(figure.alt)
    # In a script element only `</script` and `<!--` could end or change it.
    data = json.dumps(to_plotly(figure), allow_nan=False).replace("<", "\\u003c")
    return f"""<figure class="interactive" id="figure-{figure.name}">
<figcaption>{title}</figcaption>
<noscript><img src="figures/{figure.name}.png" alt="{alt}"></noscript>
<div class="plot" role="img" aria-label="{alt}"></div>
<div class="controls" hidden>
<ul class="legend" aria-label="Curves of {title}">{_legend(figure)}</ul>
<div class="zoom" role="group" aria-label="Zoom">
<button type="button" data-zoom="0.5">Zoom in</button>
<button type="button" data-zoom="2">Zoom out</button>
<button type="button" data-zoom="">Reset</button></div></div>
{downloads}
{_numbers(figure)}
<script type="application/json">{data}</script></figure>"""


def _legend(figure: Figure) -> str:
    drawn = zip(figure.curves, styles(c.role for c in figure.curves), strict=True)
    samples = [_sample(curve, style) for curve, style in drawn]
    samples += [
        _line(level_style(level.label)[1], LEVEL_DASHES[index % len(LEVEL_DASHES)][2], 1.4)
        for index, level in enumerate(figure.levels)
    ]
    return "\n".join(
        f'<li><button type="button" aria-pressed="true" data-trace="{index}">'
        f'<svg class="sample" viewBox="0 0 32 12" aria-hidden="true">{sample}</svg>'
        f"{html.escape(label)}</button></li>"
        for index, (sample, label) in enumerate(zip(samples, figure.labels, strict=True))
    )


def _sample(curve: Curve, style: Style) -> str:
    line = _line(style.variable, DASHES[style.dash][2], 2.8 if curve.emphasis else 1.8)
    marker = f'<path d="{MARKERS[style.marker][2]}" fill="var({style.variable})"/>'
    return {"line": line, "points": marker, "both": line + marker}[curve.style]


def _line(variable: str, dashes: str, width: float) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<path d="M1 6h30" fill="none" stroke="var({variable})" stroke-width="{width}"{dashed}/>'
    )


def _numbers(figure: Figure) -> str:
    """The numbers as a table, folded away; nothing where curves have points of their own."""
    first, *others = figure.curves
    is_long = first.x.size > LONGEST_TABLE or len(set(first.x.tolist())) < first.x.size
    if is_long or not all(np.array_equal(first.x, c.x) for c in others):
        return ""
    rows = (
        [f'<th scope="row">{x:.6g}</th>', *(f"<td>{_shown(c.y[row])}</td>" for c in figure.curves)]
        for row, x in enumerate(first.x.tolist())
    )
    columns = [figure.x.label, *(curve.label for curve in figure.curves)]
    table = html_table(columns, rows, figure.title)
    caption = f"Numbers: {figure.y.label}"
    return f"<details><summary>{html.escape(caption)}</summary>{table}</details>"


def _shown(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""
