"""A `Figure` as the plain values that plotly.js draws: traces and a layout, nothing of a theme.

Colours are names of the page's variables, `stepfold.lab.roles.css`, and are filled in by its
script, so that a figure follows the reader from light to dark.
"""

from __future__ import annotations

import html
import math
from typing import Any

from stepfold._codec import to_json
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.roles import (
    DASHES,
    LEVEL_DASHES,
    MARKERS,
    MOST_MARKERS,
    Style,
    level_style,
    styles,
)

_MODES = {"line": "lines", "points": "markers", "both": "lines+markers"}


def to_plotly(figure: Figure) -> dict[str, Any]:
    """Return ``{"data": traces, "layout": layout}``, ready for JSON.

    A trace for each curve, then for each level, then for each band.

    >>> axes = Axis("x"), Axis("y", log=True)
    >>> to_plotly(Figure("f", "t", "a", (Curve("c", [1], [2]),), *axes))["layout"]["yaxis"]["type"]
    'log'
    """
    drawn = styles(curve.role for curve in figure.curves)
    pairs = list(zip(figure.curves, drawn, strict=True))
    traces = [_trace(curve, style, figure) for curve, style in pairs]
    ends = [x for curve in figure.curves for x in curve.x.tolist() if x > 0 or not figure.x.log]
    for index, level in enumerate(figure.levels if ends else ()):
        dash = LEVEL_DASHES[index % len(LEVEL_DASHES)][1]
        traces.append(
            {
                "type": "scatter",
                "name": _literal(level.label),
                "mode": "lines",
                "x": [min(ends), max(ends)],
                "y": _values([level.value] * 2, figure.y),
                "line": {"color": level_style(level.label)[1], "dash": dash, "width": 1.4},
            }
        )
    # Behind all others in the list, so that curve k stays trace k; the legend shows none of them.
    traces += [_band(*pair, k, figure) for k, pair in enumerate(pairs) if pair[0].band]
    layout = {"xaxis": _axis(figure.x, "x", figure), "yaxis": _axis(figure.y, "y", figure)}
    return {"data": traces, "layout": layout}


def _band(curve: Curve, style: Style, index: int, figure: Figure) -> dict[str, Any]:
    """The outline of a curve's band; ``legendgroup`` is the number of the curve.

    (`meta` would make plotly read templates in every title.)
    """
    assert curve.band is not None, "only curves with a band have one"  # noqa: S101
    low, high = (_values(each.tolist(), figure.y) for each in curve.band)
    x = _values(curve.x.tolist(), figure.x)
    whole = [k for k in range(len(x)) if None not in (x[k], low[k], high[k])]
    return {
        "type": "scatter",
        "name": _literal(curve.label),
        "mode": "lines",
        "x": [x[k] for k in whole] + [x[k] for k in reversed(whole)],
        "y": [high[k] for k in whole] + [low[k] for k in reversed(whole)],
        "fill": "toself",
        "hoverinfo": "skip",
        "opacity": 0.35,
        "line": {"color": style.variable, "width": 0},
        "legendgroup": f"{index}",
    }


def _trace(curve: Curve, style: Style, figure: Figure) -> dict[str, Any]:
    # 0 is plotly's word for all of them.
    most = MOST_MARKERS if curve.style == "both" else 0
    return {
        "type": "scatter",
        "name": _literal(curve.label),
        "mode": _MODES[curve.style],
        "x": _values(curve.x.tolist(), figure.x),
        "y": _values(curve.y.tolist(), figure.y),
        "line": {
            "color": style.variable,
            "dash": DASHES[style.dash][1],
            "width": 2.8 if curve.emphasis else 1.8,
        },
        "marker": {
            "color": style.variable,
            "symbol": MARKERS[style.marker][1],
            "size": 7,
            "maxdisplayed": most,
        },
    }


def _values(values: list[float], axis: Axis) -> list[float | None]:
    # A logarithmic axis shows nothing at or below 0: a gap, as matplotlib leaves it.
    shown = values if not axis.log else [v if v > 0 else math.nan for v in values]
    plain: list[float | None] = to_json(shown)
    return plain


def _axis(axis: Axis, name: str, figure: Figure) -> dict[str, Any]:
    values = [v for c in figure.curves for v in getattr(c, name).tolist() if math.isfinite(v)]
    layout: dict[str, Any] = {"title": {"text": _literal(axis.label)}}
    if name == "x" and figure.counts:
        layout["whole"] = True  # for the page's script: ticks at whole numbers only
    # With nothing above 0 there is no logarithm to show; matplotlib's axis stays linear, too.
    high = max(values, default=0.0)
    if axis.log and high > 0:
        layout |= {"type": "log", "exponentformat": "power"}
        ends = min(v for v in values if v > 0), high
        low, high = axis.limits(*ends)
        # As matplotlib's: within three decades powers of ten are too few to read values from;
        # within one, plotly's own choice is a linear one.
        if high < 1e3 * low:
            layout |= {"tickformat": "~g"} | ({} if high < 8 * low else {"dtick": "D2"})
        else:
            layout["dtick"] = math.ceil(math.log10(high / low) / 8)
        if (low, high) != ends or axis.floor is not None:
            bottom, top = math.log10(low), math.log10(high)
            layout["range"] = [bottom, top + 0.05 * (top - bottom)]
    return layout


def _literal(text: str) -> str:
    # plotly.js takes <b>, <a href=…> and other tags in a text for markup.
    return html.escape(text, quote=False)
