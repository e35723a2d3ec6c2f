"""From the eigenvalues of a few draws to the measure of the ensemble they come from.

Optimal steps for one drawn matrix put their roots where its extreme eigenvalues happen to be; on
the next draw these lie elsewhere, and a polynomial of high degree is huge there. The steps that
are best on average over draws are the optimal ones for the *mean* measure, in which every
eigenvalue is smeared over the width of its fluctuation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_finite
from stepfold._typing import FloatArray
from stepfold.measure.base import SpectralMeasure

# Standard deviation of a singular value over the local mean spacing. Measured on Gaussian matrices
# of eight shapes from (40, 20) to (450, 300): 0.50 to 0.69 for the second to fourth from either
# end, 0.67 to 0.82 in the middle, where it does not matter because neighbours overlap.
FLUCTUATION = 0.6
# The same for an extreme one over the scale s of its end, at which the k-th lies about
# s·(3π(4k − 1)/8)^(2/3) from it (zeros of the Airy function). Measured on the same: 1.08 to 1.18 at
# the upper end, 0.83 to 1.20 at the lower one, and 0.37 for square matrices, where it does no harm.
EXTREME = 1.1
# The first gap, in units of s read off the rest of the draw, has mean 2 and deviation 1.2 on the
# same matrices, and stayed below 8.1 in 3860 draws; that of an outlier does not.
APART = 8.0
# Points of the Gauss–Hermite rule that stands for the normal density of one eigenvalue. Where
# neighbours overlap few will do; alone, N points stand for a density up to degree 2N − 1 only, and
# longer schedules would put roots on each of them.
POINTS, POINTS_APART = 12, 64
# Weight below which a point is left out.
NEGLIGIBLE = 1e-14


def ensemble_measure(eigenvalues: Any) -> SpectralMeasure:
    """Measure for matrices that are yet to be drawn, from the eigenvalues of one or a few.

    ``xᵢ = √λᵢ`` are widened to normal densities of variance ``2σᵢ²/D``, D the number of draws, and
    folded at 0. Why: let the i-th singular value of a draw be ``mᵢ + σᵢ·(standard normal)``. A
    fresh one differs from the mean of D draws by a variance of ``σᵢ²(1 + 1/D)``, of which
    ``σᵢ²(1 − 1/D)`` is in the pooled draws already; the kernel brings the rest, ``2σᵢ²/D``. The
    widths need no parameter: eigenvalues of random matrices repel each other, so that ``σᵢ`` is a
    universal multiple of the local spacing inside the spectrum and of the scale ``n^(−2/3)`` at its
    ends, where everything depends on it; both are read off the draw. Eigenvalues that a wide gap
    sets apart have ``σᵢ = xᵢ/√(2n)``, as a sample variance of n samples has.

    A schedule of few steps does not notice the widening; one of many is kept from overfitting by it
    (``benchmarks/shrinkage.py``). It is meant for spectra that are drawn again; for one matrix
    whose eigenvalues are known take `SpectralMeasure.from_eigenvalues`.

    Args:
        eigenvalues: λ of one draw, in units of the Hessian, shape (n,), or of D draws of the same
            size, shape (D, n).

    Returns:
        A measure of about ``12·D·n`` nodes; `SpectralMeasure.quadrature` makes it small.

    Raises:
        TypeError: If ``eigenvalues`` is not real.
        ValueError: If it is empty, not finite, negative somewhere, or not of one or two dimensions.

    References:
        Tracy and Widom, On Orthogonal and Symplectic Matrix Ensembles, Comm. Math. Phys. 177 (1996)
        727 (the ends of the spectrum); Gustavsson, Gaussian Fluctuations of Eigenvalues in the GUE,
        Ann. Inst. H. Poincaré 41 (2005) 151 (its inside). The kernel's variance is derived here.

    >>> measure = ensemble_measure(np.linspace(1.0, 2.0, 10))
    >>> bool(measure.bounds.lower < 1.0 and measure.bounds.upper > 2.0)
    True
    """
    draws = np.asarray(eigenvalues)
    if draws.dtype.kind not in "buif":
        raise TypeError(f"`eigenvalues` must hold real numbers, got dtype {draws.dtype}")
    if draws.ndim not in (1, 2) or draws.size == 0:
        raise ValueError(
            "`eigenvalues` must have shape (n,) or (draws, n) and hold at least one number, "
            f"got shape {draws.shape}"
        )
    check_finite("eigenvalues", draws)
    if draws.min() < 0:
        raise ValueError(f"`eigenvalues` must be at least 0, got {draws.min()}")
    values = np.sort(np.atleast_2d(draws).astype(np.float64), axis=1)
    num_draws = values.shape[0]
    widening = math.sqrt(2 / num_draws)
    nodes, weights = [], []
    for roots in np.sqrt(values):
        deviations, alone = _fluctuations(roots)
        for chosen, num_points in ((~alone, POINTS), (alone, POINTS_APART)):
            points, mass = np.polynomial.hermite_e.hermegauss(num_points)
            mass = mass / mass.sum()
            points, mass = points[mass > NEGLIGIBLE], mass[mass > NEGLIGIBLE]
            widths = widening * deviations[chosen]
            nodes.append(((roots[chosen, None] + widths[:, None] * points) ** 2).ravel())
            weights.append(np.tile(mass, widths.size))
    name = f"ensemble of {num_draws} draw{'s' if num_draws > 1 else ''}"
    return SpectralMeasure(np.concatenate(nodes), np.concatenate(weights), name)


def _fluctuations(roots: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Standard deviation of each of n ascending numbers from draw to draw; which are set apart."""
    # The deviation of a sample variance, which an eigenvalue far from all others has; 0 at 0, a
    # kernel stays a kernel.
    deviations = roots / math.sqrt(2 * roots.size)
    alone = np.ones(roots.size, dtype=bool)
    first = int(np.searchsorted(roots, 0.0, side="right"))
    first += _num_apart(roots[first:])
    last = roots.size - _num_apart(-roots[first:][::-1])
    x = roots[first:last]
    if x.size >= 3:
        index = np.arange(x.size)
        low, high = np.maximum(index - 2, 0), np.minimum(index + 2, x.size - 1)
        widths = FLUCTUATION * (x[high] - x[low]) / (high - low)
        widths[0], widths[-1] = EXTREME * _edge_scale(x), EXTREME * _edge_scale(-x[::-1])
        deviations[first:last] = widths
        alone[first:last] = False
    return deviations, alone


def _num_apart(x: FloatArray) -> int:
    """How many of the first numbers a gap too wide for chance sets apart from the rest."""
    counts = [
        count
        for count in range(1, x.size // 4 + 1)
        if x[count] - x[count - 1] > APART * _edge_scale(x[count:])
    ]
    return counts[-1] if counts else 0


def _edge_scale(x: FloatArray) -> float:
    # Without the first gap: it is the one that varies most, and the one that an outlier has.
    count = min(8, x.size)
    places = (3 * np.pi * (4 * np.arange(1, count + 1) - 1) / 8) ** (2 / 3)
    return float((x[count - 1] - x[1]) / (places[-1] - places[1]))
