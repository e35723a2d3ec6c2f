"""Where an eigenvalue can hide from k Lanczos steps: bounds that fail by chance only.

Lanczos vectors are polynomials of the operator applied to the random start: ``v_{j+1} = p_j(H) v₁``
with p_j orthonormal for the measure that v₁ puts on the spectrum. Let z be the eigenvector of the
largest eigenvalue λ. Then ``zᵀv_{j+1} = p_j(λ)·zᵀv₁``, and no component of a unit vector exceeds 1:

    |p_j(λ)| · |zᵀv₁| ≤ 1   for every j.

For v₁ uniform on the sphere of n dimensions ``P(|zᵀv₁| < δ) ≤ δ·√(2n/π)``. So with probability at
least 1 − ε, λ is at most the point t beyond all Ritz values where ``max_j |p_j(t)|`` reaches 1/δ,
``δ = ε·√(π/(2n))``. The chance lies in v₁ alone: looking after every step, and stopping when one
likes, does not add to it. A multiple eigenvalue only makes ``|zᵀv₁|`` larger. Because p_j grows
like ``exp(2j√x)`` at relative distance x, the price of a small ε or a large n is logarithmic.

A Ritz value plus the norm of its residual has no such guarantee: that interval holds *an*
eigenvalue, not the largest, and when the start has little of z the residual is small without it.

Each inequality needs one vector's recurrence and no orthogonality, so it holds for the three-term
recurrence too: rounding enters zᵀv₁ at the size of the precision, in directions that do not favour
z, which is small beside δ·√n.

References:
    Van Dorsselaer, Hochstenbach and van der Vorst, Computing probabilistic bounds for extreme
    eigenvalues of symmetric matrices with the Lanczos method (SIAM J. Matrix Anal. Appl., 2000).
    Kuczyński and Woźniakowski, Estimating the largest eigenvalue by the power and Lanczos
    algorithms with a random start (SIAM J. Matrix Anal. Appl., 1992).
"""

from __future__ import annotations

import bisect
import math

import numpy as np

from stepfold._typing import FloatArray

# How finely `outer_end` looks: the result is larger than it need be by no more than this share.
RESOLUTION = 0.01
# 4 to this power times rounding is beyond all that grows.
MOST_POWERS = 64


def log_growth_needed(size: int, failure_probability: float) -> float:
    """``log(1/δ)``: how far the polynomials must have grown to leave an eigenvalue no room.

    The density of a component of a random unit vector is largest at 0, where it is at most
    ``√(n/(2π))``, for n ≥ 3; for n = 2 the bound on the probability holds by concavity.
    """
    return -math.log(failure_probability) - 0.5 * math.log(math.pi / (2 * size))


def log_growth(diagonal: FloatArray, off_diagonal: FloatArray, point: float) -> float:
    """``log max_j |p_j(point)|`` over j = 0 … k; −∞ unless ``point`` is above all Ritz values.

    The ratios β_j p_j/p_{j−1} are the pivots of ``point·I − T``, all positive exactly then.
    """
    total, largest = 0.0, 0.0
    pivot = 1.0
    coupling = 0.0
    for alpha, beta in zip(diagonal.tolist(), off_diagonal.tolist(), strict=True):
        pivot = point - alpha - coupling / pivot
        if pivot <= 0:
            return -math.inf
        total += math.log(pivot / beta)
        largest = max(largest, total)
        coupling = beta * beta
    return largest


def outer_end(
    diagonal: FloatArray, off_diagonal: FloatArray, ritz: float, needed: float, rounding: float
) -> float:
    """Smallest point above the largest Ritz value ``ritz`` where the growth is as ``needed``.

    Found to a share `RESOLUTION` of its distance from ``ritz``, from outside.
    """

    def is_beyond(width: float) -> bool:
        return log_growth(diagonal, off_diagonal, ritz + width) >= needed

    # Growth rises with the width: which power of 4 is enough is found by halving.
    width = rounding * 4.0 ** bisect.bisect_left(
        range(MOST_POWERS), True, key=lambda k: is_beyond(rounding * 4.0**k)
    )
    inner = width / 4
    while width > (1 + RESOLUTION) * inner and width > rounding:
        middle = math.sqrt(inner * width)
        if is_beyond(middle):
            width = middle
        else:
            inner = middle
    return ritz + width


def floored(off_diagonal: FloatArray, rounding: float) -> FloatArray:
    """Norms of the recurrence, none below what rounding makes of a zero.

    An exhausted Krylov space (β = 0) would prove the bounds with certainty; in floating point it
    proves that the start has no more than rounding outside of it.
    """
    return np.maximum(off_diagonal, rounding)
