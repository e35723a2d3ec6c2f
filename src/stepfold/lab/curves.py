"""Curves over common abscissae, for figures that compare methods."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.figure import Curve


def curves(
    rows: Mapping[str, Any],
    x: Any = None,
    *,
    style: str = "line",
    emphasis: Container[str] = (),
    roles: Mapping[str, str] | None = None,
) -> tuple[Curve, ...]:
    """Return a curve per entry, over ``x`` or over 0, 1, 2, …

    Args:
        rows: Ordinates by label, shape (k,); or of many runs, shape (R, k), of which the median is
            drawn, and the range as a band.
        x: Abscissae of all.
        style: Style of all.
        emphasis: Labels of those that the figure is about.
        roles: Role by label, of those whose label does not tell it.
    """
    found = []
    for label, values in rows.items():
        places = np.arange(np.shape(values)[-1]) if x is None else x
        role = (roles or {}).get(label, "")
        runs = np.atleast_2d(np.asarray(values, dtype=np.float64))
        found.append(
            median_curve(label, places, runs, style=style, emphasis=label in emphasis, role=role)
        )
    return tuple(found)


def median_curve(label: str, x: Any, rows: FloatArray, **options: Any) -> Curve:
    """The median of rows of shape (R, k), with their range as a band if they differ.

    What is not finite counts as infinite, and leaves a gap.
    """
    found = whole(rows)
    shown = [
        np.where(np.isfinite(each), each, np.nan)
        for each in (np.median(found, axis=0), found.min(axis=0), found.max(axis=0))
    ]
    band = None if len(found) == 1 else (shown[1], shown[2])
    return Curve(label, x, shown[0], band=band, **options)


def whole(values: Any) -> FloatArray:
    """A copy with infinity for NaN: what diverged is never left out."""
    found: FloatArray = np.array(values, dtype=np.float64)
    found[np.isnan(found)] = np.inf
    return found
