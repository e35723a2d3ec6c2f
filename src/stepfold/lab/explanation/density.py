"""How eigenvalues are spread, and the gradient over them: shares of equal intervals, as bars."""

from __future__ import annotations

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.measure import SpectralMeasure

# Intervals of the eigenvalue axis: few enough for a phone, enough to see gaps.
INTERVALS = 24
# The same of an estimate, whose nodes are few.
ESTIMATED_INTERVALS = 12
# Ratio of the largest to the smallest eigenvalue from which the axis is logarithmic.
WIDE = 30.0
# Share of the largest eigenvalue below which rounding has made up what is left.
ROUNDING = 2e-16


def density_figure(
    spectrum: SpectralMeasure, gradient: SpectralMeasure | None, num_intervals: int = INTERVALS
) -> Figure:
    """Share of the eigenvalues in each interval, and of the gradient at 0 if it is known."""
    parts = [spectrum] if gradient is None else [spectrum, gradient]
    largest = max(float(part.nodes[-1]) for part in parts)
    nodes = np.concatenate([part.nodes for part in parts])
    smallest = float(np.min(nodes, initial=largest, where=nodes > ROUNDING * largest))
    is_log = largest > WIDE * smallest
    space = np.geomspace if is_log else np.linspace
    # One eigenvalue alone has an interval of its own, as wide as can be seen.
    ends = (smallest, largest) if smallest < largest else (0.9 * largest, 1.1 * largest)
    edges = space(*ends, num_intervals + 1)
    labels = "eigenvalues", "gradient at 0"
    curves = []
    for index, part in enumerate(parts):
        x, y = _outline(edges, _shares(edges, part))
        is_first = index == 0
        band = (np.zeros_like(y), y) if is_first else None
        curves.append(Curve(labels[index], x, y, emphasis=is_first, band=band, role="series"))
    beside = "" if gradient is None else " and of the gradient at 0"
    return Figure(
        "spectrum",
        "How the eigenvalues are spread",
        f"Share of the eigenvalues{beside} in each of {num_intervals} intervals.",
        tuple(curves),
        Axis("eigenvalue λ of the Hessian", log=is_log),
        Axis("share in the interval"),
    )


def share_left_out(measure: SpectralMeasure) -> float:
    """Weight of eigenvalues that are 0, or rounding, and have no place on a logarithmic axis."""
    return float(measure.weights[measure.nodes <= ROUNDING * measure.nodes[-1]].sum())


def _shares(edges: FloatArray, measure: SpectralMeasure) -> FloatArray:
    # A node at an end is inside, however the end was rounded.
    tiny = measure.nodes <= ROUNDING * measure.nodes[-1]
    places = np.clip(measure.nodes, edges[0], edges[-1])
    weights = np.where(tiny, 0.0, measure.weights)
    return np.asarray(np.histogram(places, edges, weights=weights)[0])


def _outline(edges: FloatArray, heights: FloatArray) -> tuple[FloatArray, FloatArray]:
    x = np.repeat(edges, 2)
    y = np.concatenate([[0.0], np.repeat(heights, 2), [0.0]])
    return x, y
