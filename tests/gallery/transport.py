"""Sinkhorn's scaling of a matrix to given sums, in logarithms.

References:
    Cuturi, Sinkhorn distances: lightspeed computation of optimal transport (NIPS 2013), section 3.
    Peyré and Cuturi, Computational optimal transport (Found. Trends Mach. Learn. 11, 2019),
    sections 4.2 and 4.4 (logarithms) and 5.1 (the semi-dual, on which Newton's method works here).
"""

from __future__ import annotations

import numpy as np

from gallery.base import GALLERY, GalleryMap
from stepfold._typing import FloatArray


@GALLERY.register("sinkhorn")
def sinkhorn(rng: np.random.Generator) -> GalleryMap:
    """Row potentials for the transport between two sets of 40 points in the unit square, ε = 0.05.

    One evaluation scales columns, then rows; potentials are centred, for a constant makes no
    difference. The solution is by Newton's method.
    """
    size, epsilon = 40, 0.05
    here, there = rng.random((size, 2)), rng.random((size, 2))
    costs = ((here[:, None] - there[None]) ** 2).sum(-1)
    rows, columns = rng.dirichlet(np.full(size, 5.0)), rng.dirichlet(np.full(size, 5.0))

    def column_potentials(potentials: FloatArray) -> FloatArray:
        sums = log_sum((potentials[:, None] - costs) / epsilon, 0)
        answer: FloatArray = epsilon * (np.log(columns) - sums)
        return answer

    def scale(potentials: FloatArray) -> FloatArray:
        other = column_potentials(potentials)
        scaled = epsilon * (np.log(rows) - log_sum((other[None] - costs) / epsilon, 1))
        centred: FloatArray = scaled - scaled.mean()
        return centred

    def plan(potentials: FloatArray) -> FloatArray:
        other = column_potentials(potentials)
        answer: FloatArray = np.exp((potentials[:, None] + other[None] - costs) / epsilon)
        return answer

    solution = np.zeros(size)
    for _ in range(200):
        transport = plan(solution)
        sums = transport.sum(1)
        slope = rows - sums
        if np.linalg.norm(slope) < 1e-15:
            break
        curvature = (np.diag(sums) - (transport / columns) @ transport.T) / epsilon
        # Singular along constants, which are taken out; damped, for far away it overshoots.
        move = np.linalg.lstsq(curvature, slope, rcond=1e-12)[0]
        solution = solution + move * min(1.0, epsilon / float(abs(move).max()))
        solution = solution - solution.mean()
    return GalleryMap(scale, np.zeros(size), solution)


def log_sum(values: FloatArray, axis: int) -> FloatArray:
    """``log Σ exp`` along an axis, without overflow."""
    peak = values.max(axis, keepdims=True)
    total: FloatArray = np.log(np.exp(values - peak).sum(axis)) + peak.squeeze(axis)
    return total
