"""Densities of measures, for plots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._checks import check_positive
from stepfold._typing import FloatArray
from stepfold.measure.base import SpectralMeasure


def smoothed_density(
    measure: SpectralMeasure, eigenvalues: Any, *, width: float | None = None
) -> FloatArray:
    """Density of a measure of nodes, each widened to a normal density and folded at 0.

    Args:
        measure: What to draw.
        eigenvalues: λ at least 0 at which the density is wanted, any shape, usually a grid.
        width: Standard deviation of the kernel, in units of the Hessian. If not given it is
            Silverman's rule, ``0.9·s·N^(−1/5)`` with ``N = 1/∑ wᵢ²`` the effective number of nodes
            and s their standard deviation, or their interquartile range over 1.34 if that is less.

    Returns:
        Numbers at least 0 of the shape of ``eigenvalues``, in units of 1 / Hessian; the integral
        over [0, ∞) is 1.

    Raises:
        ValueError: If ``width`` is not positive, or not given for a measure of one node.

    References:
        Silverman, Density Estimation for Statistics and Data Analysis (1986), section 3.4.

    >>> smoothed_density(SpectralMeasure([2.0], [1.0]), [2.0], width=0.5).round(6)
    array([0.797885])
    """
    points = np.asarray(eigenvalues, dtype=np.float64)
    if width is None:
        width = _silverman(measure)
        if width == 0:
            raise ValueError(
                "`width` must be given for a measure whose weight is on one node, "
                "which has no spread to choose it by"
            )
    check_positive("width", width)
    density = np.zeros(points.shape)
    factor = 1 / (width * math.sqrt(2 * math.pi))
    for node, weight in zip(measure.nodes.tolist(), measure.weights.tolist(), strict=True):
        density += weight * np.exp(-0.5 * ((points - node) / width) ** 2)
        density += weight * np.exp(-0.5 * ((points + node) / width) ** 2)
    return factor * density * (points >= 0)


def marchenko_pastur_density(eigenvalues: Any, ratio: float, *, scale: float = 1.0) -> FloatArray:
    """``√((b − λ)(λ − a)) / (2π r s λ)``: limiting density of the eigenvalues of ``HᵀH`` above 0.

    Args:
        eigenvalues: λ, any shape.
        ratio: r = n / m, positive.
        scale: s, the mean of the eigenvalues, positive.

    Returns:
        Array of the shape of ``eigenvalues``, 0 outside ``[a, b] = s·(1 ∓ √r)²``. Its integral is 1
        for r ≤ 1 and ``1/r`` beyond: the atom at 0 that holds the rest has no density.

    Raises:
        ValueError: If ``ratio`` or ``scale`` is not positive and finite.

    References:
        Marchenko and Pastur, Math. USSR Sbornik 1 (1967) 457.

    >>> marchenko_pastur_density([0.01, 1.0], 0.25).round(6)
    array([0.      , 0.616404])
    """
    for label, value in (("ratio", ratio), ("scale", scale)):
        check_positive(label, value)
    points = np.asarray(eigenvalues, dtype=np.float64) / scale
    lower, upper = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    inside = (points > lower) & (points < upper)
    safe = np.where(inside, points, 1.0)
    root = np.sqrt(np.where(inside, (upper - safe) * (safe - lower), 0.0))
    density: FloatArray = root / (2 * math.pi * ratio * scale * safe)
    return density


def _silverman(measure: SpectralMeasure) -> float:
    centre = measure.mean(measure.nodes)
    spread = math.sqrt(measure.mean((measure.nodes - centre) ** 2))
    sums = np.cumsum(measure.weights)
    quartiles = measure.nodes[np.minimum(np.searchsorted(sums, [0.25, 0.75]), sums.size - 1)]
    between = float(quartiles[1] - quartiles[0]) / 1.34
    if 0 < between < spread:
        spread = between
    return float(0.9 * spread * np.sum(measure.weights**2) ** 0.2)
