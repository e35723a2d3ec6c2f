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

from stepfold._checks import check_finite
from stepfold._typing import FloatArray
from stepfold.measure.base import SpectralMeasure

# Standard deviation of a singular value over the local mean spacing. Measured on Gaussian matrices
# of shape (40, 20) to (450, 300): 0.51 to 0.61 for the second and third from either end, 0.66 to
# 0.82 in the middle, where it does not matter because neighbours overlap.
FLUCTUATION = 0.57
# The same for an extreme eigenvalue over the scale s of the edge, at which the k-th lies about
# s·(3π(4k − 1)/8)^(2/3) from it (zeros of the Airy function). The Tracy–Widom law has 1.268, and
# matrices of the shapes above 1.0 to 1.25.
EXTREME = 1.2
# Points of the Gauss–Hermite rule that stands for the normal density of one eigenvalue.
POINTS = 12


def ensemble_measure(eigenvalues: Any) -> SpectralMeasure:
    """Measure for matrices that are yet to be drawn, from the eigenvalues of one or a few.

    ``xᵢ = √λᵢ`` are widened to normal densities of variance ``2σᵢ²/D``, D the number of draws, and
    folded at 0. Why: let the i-th singular value of a draw be ``mᵢ + σᵢ·(standard normal)``. A
    fresh one differs from the mean of D draws by a variance of ``σᵢ²(1 + 1/D)``, of which
    ``σᵢ²(1 − 1/D)`` is in the pooled draws already; the kernel brings the rest, ``2σᵢ²/D``. The
    widths need no parameter: eigenvalues of random matrices repel each other, so that ``σᵢ`` is a
    universal multiple of the local spacing inside the spectrum and of the scale ``n^(−2/3)`` at its
    ends, where everything depends on it; both are read off the draw. An eigenvalue apart from the
    others at the upper end has ``σᵢ ≤ xᵢ/√(2n)``, the standard deviation of a sample covariance.

    Steps of few T do not notice the widening; with many it is what keeps them from overfitting
    (``benchmarks/shrinkage.py``). It is meant for spectra that are drawn again; for one matrix
    whose eigenvalues are known take `SpectralMeasure.from_eigenvalues`.

    Args:
        eigenvalues: λ of one draw, shape (n,), or of D draws of the same size, shape (D, n).

    Returns:
        A measure of ``12·D·n`` nodes; `SpectralMeasure.quadrature` makes it small.

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
    num_draws, size = values.shape
    roots = np.sqrt(values)
    widths = np.apply_along_axis(_fluctuations, 1, roots) * math.sqrt(2 / num_draws)
    points, weights = np.polynomial.hermite_e.hermegauss(POINTS)
    nodes = (roots[..., None] + widths[..., None] * points) ** 2
    nodes[roots == 0] = 0.0  # a kernel stays a kernel
    return SpectralMeasure(
        nodes.ravel(),
        np.tile(weights, num_draws * size),
        f"ensemble of {num_draws} draw{'s' if num_draws > 1 else ''}",
    )


def _fluctuations(roots: FloatArray) -> FloatArray:
    """Standard deviation of each of n ascending numbers from draw to draw."""
    deviations = np.zeros(roots.size)
    support = roots > 0
    x = roots[support]
    if x.size < 3:
        # Nothing to read a spacing off: the deviation of a sample variance.
        deviations[support] = x / math.sqrt(2 * roots.size)
        return deviations
    index = np.arange(x.size)
    low, high = np.maximum(index - 2, 0), np.minimum(index + 2, x.size - 1)
    widths = FLUCTUATION * (x[high] - x[low]) / (high - low)
    widths[0], widths[-1] = EXTREME * _edge_scale(x), EXTREME * _edge_scale(-x[::-1])
    upper = slice(x.size // 2, None)
    widths[upper] = np.minimum(widths[upper], x[upper] / math.sqrt(2 * roots.size))
    deviations[support] = widths
    return deviations


def _edge_scale(x: FloatArray) -> float:
    # Without the first gap: it is the one that varies most, and the one that an outlier has.
    count = min(8, x.size)
    places = (3 * np.pi * (4 * np.arange(1, count + 1) - 1) / 8) ** (2 / 3)
    return float((x[count - 1] - x[1]) / (places[-1] - places[1]))
