"""A `Figure` as the plain values that plotly.js draws: traces and a layout, nothing of a theme.

Colours of paper, ink and grid are the page's and are filled in by its script, so that a figure
follows the reader from light to dark. Ink is written as ``#000000``, as in `stepfold.lab._palette`.
"""

from __future__ import annotations

import html
import math
from typing import Any

from stepfold.lab._fields import plain_list
from stepfold.lab._palette import (
    COLOURS,
    LEVEL,
    MOST_MARKERS,
    PLOTLY_DASHES,
    PLOTLY_LEVEL_DASHES,
    PLOTLY_SYMBOLS,
)
from stepfold.lab.figure import Axis, Curve, Figure

_MODES = {"line": "lines", "points": "markers", "both": "lines+markers"}


def to_plotly(figure: Figure) -> dict[str, Any]:
    """Return ``{"data": traces, "layout": layout}``, ready for JSON.

    >>> axes = Axis("x"), Axis("y", log=True)
    >>> to_plotly(Figure("f", "t", "a", (Curve("c", [1], [2]),), *axes))["layout"]["yaxis"]["type"]
    'log'
    """
    traces = [_trace(curve, index, figure) for index, curve in enumerate(figure.curves)]
    ends = [x for curve in figure.curves for x in curve.x.tolist() if x > 0 or not figure.x.log]
    for index, level in enumerate(figure.levels if ends else ()):
        dash = PLOTLY_LEVEL_DASHES[index % len(PLOTLY_LEVEL_DASHES)]
        traces.append(
            {
                "type": "scatter",
                "name": _literal(level.label),
                "mode": "lines",
                "x": [min(ends), max(ends)],
                "y": _values([level.value] * 2, figure.y),
                "line": {"color": LEVEL, "dash": dash, "width": 1.4},
            }
        )
    # Behind all others in the list, so that curve k stays trace k; the legend shows none of them.
    traces += [_band(curve, k, figure) for k, curve in enumerate(figure.curves) if curve.band]
    layout = {"xaxis": _axis(figure.x, "x", figure), "yaxis": _axis(figure.y, "y", figure)}
    return {"data": traces, "layout": layout}


def _band(curve: Curve, index: int, figure: Figure) -> dict[str, Any]:
    """The outline of a curve's band; ``legendgroup`` is the number of the curve.

    (`meta` would make plotly read templates in every title.)
    """
    assert curve.band is not None, "only curves with a band have one"  # noqa: S101
    low, high = (_values(each.tolist(), figure.y) for each in curve.band)
    x = _values(curve.x.tolist(), figure.x)
    whole = [k for k in range(len(x)) if None not in (x[k], low[k], high[k])]
    colour = COLOURS[index % len(COLOURS)]
    return {
        "type": "scatter",
        "name": _literal(curve.label),
        "mode": "lines",
        "x": [x[k] for k in whole] + [x[k] for k in reversed(whole)],
        "y": [high[k] for k in whole] + [low[k] for k in reversed(whole)],
        "fill": "toself",
        "hoverinfo": "skip",
        "opacity": 0.35,
        "line": {"color": colour, "width": 0},
        "legendgroup": f"{index}",
    }


def _trace(curve: Curve, index: int, figure: Figure) -> dict[str, Any]:
    colour = COLOURS[index % len(COLOURS)]
    symbol = PLOTLY_SYMBOLS[index % len(COLOURS)]
    # 0 is plotly's word for all of them.
    most = MOST_MARKERS if curve.style == "both" else 0
    return {
        "type": "scatter",
        "name": _literal(curve.label),
        "mode": _MODES[curve.style],
        "x": _values(curve.x.tolist(), figure.x),
        "y": _values(curve.y.tolist(), figure.y),
        "line": {
            "color": colour,
            "dash": PLOTLY_DASHES[index % len(COLOURS)],
            "width": 2.8 if curve.emphasis else 1.8,
        },
        "marker": {"color": colour, "symbol": symbol, "size": 7, "maxdisplayed": most},
    }


def _values(values: list[float], axis: Axis) -> list[float | None]:
    # A logarithmic axis shows nothing at or below 0: a gap, as matplotlib leaves it.
    shown = values if not axis.log else [v if v > 0 else math.nan for v in values]
    return plain_list(shown)


def _axis(axis: Axis, name: str, figure: Figure) -> dict[str, Any]:
    values = [v for c in figure.curves for v in getattr(c, name).tolist() if math.isfinite(v)]
    layout: dict[str, Any] = {"title": {"text": _literal(axis.label)}}
    # With nothing above 0 there is no logarithm to show; matplotlib's axis stays linear, too.
    high = max(values, default=0.0)
    if axis.log and high > 0:
        layout |= {"type": "log", "exponentformat": "power"}
        low = min(v for v in values if v > 0) if axis.floor is None else axis.floor
        # As matplotlib's: within three decades powers of ten are too few to read values from;
        # within one, plotly's own choice is a linear one.
        if high < 1e3 * low:
            layout |= {"tickformat": "~g"} | ({} if high < 8 * low else {"dtick": "D2"})
        if axis.floor is not None:
            low, top = math.log10(axis.floor), math.log10(high)
            layout["range"] = [low, top + 0.05 * (top - low)]
    return layout


def _literal(text: str) -> str:
    # plotly.js takes <b>, <a href=…> and other tags in a text for markup.
    return html.escape(text, quote=False)
