"""Steps for multigrid smoothers: fourth-kind Chebyshev steps, optimised for the V-cycle.

What a V-cycle's convergence rests on is not the largest √λ·|p| but the largest ``λp²/(1 − p²)``
over (0, b]. With θ = π/(4T+2) and ``λ = b (cos φ + cos 2θ)/(1 + cos 2θ)`` the polynomial

    p(λ) = (−1)ᵀ sin θ · cos((2T+1)φ/2) / cos(φ/2)

has p(0) = 1, and that quotient is at most ``b tan²θ``, which it attains wherever
``cos((2T+1)φ/2)`` is ±1. Its roots are where that cosine vanishes: reciprocals of steps.
"""

from __future__ import annotations

import math

import numpy as np

from stepfold._checks import check_period
from stepfold.schedules.base import SCHEDULES, Schedule, check_upper
from stepfold.schedules.ordering import safe_order
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.bounds import check_positive_bounds

BUILDER = "chebyshev-fourth-kind-optimised"


@SCHEDULES.register(BUILDER)
def optimised_fourth_kind_steps(bounds: SpectralBounds, period: int) -> Schedule:
    """Steps with the smallest bound of a V-cycle that smooths with them before and after.

    For the eigenvalues of ``D⁻¹A``, D the diagonal of A or another preconditioner, in (0, b].

    Args:
        bounds: Interval [a, b], in units of the Hessian; only b is looked at.
        period: T, the number of smoothing steps.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in Lebedev order if T is a power of two
        and in Leja order otherwise. Its guarantee is `smoothing_constant`.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Lottes, Optimal Polynomial Smoothers for Multigrid V-cycles (Numer. Linear Algebra Appl. 30,
        2023, e2518; arXiv:2202.08830), which finds these polynomials numerically and tabulates
        weights with 14 decimals; for T = 1 … 16 the closed form differs from them by 1.2e-14 at
        most.

    >>> optimised_fourth_kind_steps(SpectralBounds(0.0, 2.0), 1).steps
    array([0.75])
    >>> optimised_fourth_kind_steps(SpectralBounds(0.0, 2.0), 2).steps.round(4)
    array([0.559, 1.809])
    """
    period = check_period(period)
    check_upper("optimised_fourth_kind_steps", bounds)
    theta = math.pi / (4 * period + 2)
    # cos((4j − 2)θ) + cos 2θ as a product of sines, j = T … 1, which does not cancel.
    odd = np.arange(1, 2 * period, 2)
    roots = bounds.upper * np.sin(odd * theta) * np.sin((odd + 2) * theta) / math.cos(theta) ** 2
    with np.errstate(over="ignore", divide="ignore"):  # the schedule refuses infinite steps
        name = "Chebyshev, fourth kind, optimised"
        schedule = Schedule(1 / roots, name, bounds=bounds, builder=BUILDER)
    return schedule.reordered(safe_order(period))


def smoothing_constant(bounds: SpectralBounds, period: int) -> float:
    """``b tan²(π/(4T + 2))``: the smallest maximum of ``λp²/(1 − p²)`` of any T steps.

    `optimised_fourth_kind_steps` attain it. The plain fourth kind has ``3b/(4T(T + 1))``, a fifth
    more for large T.

    Returns:
        A number in units of the Hessian.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Lottes (arXiv:2202.08830), on the bound of the V-cycle.

    >>> round(smoothing_constant(SpectralBounds(0.0, 3.0), 1), 12)
    1.0
    """
    period = check_period(period)
    check_positive_bounds(bounds, or_none=False)
    return bounds.upper * math.tan(math.pi / (4 * period + 2)) ** 2
