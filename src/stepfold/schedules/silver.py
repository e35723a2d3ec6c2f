"""Silver steps: what plain gradient descent can do for every smooth convex function.

Chebyshev steps are best for quadratics and promise nothing beyond them. Silver steps hedge: a long
step is safe because of the short ones around it, whatever the function. With ρ = 1 + √2 and κ the
condition number they need of the order of κ^0.786 steps (log_ρ 2 = 0.786), between the κ of
constant steps and the √κ of momentum. Their order is part of them.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from stepfold._checks import check_count, check_period
from stepfold.schedules.base import SCHEDULES, Schedule, check_lower, check_upper
from stepfold.spectrum import SpectralBounds

SILVER_RATIO = 1 + math.sqrt(2)


@SCHEDULES.register("silver")
def silver_steps(bounds: SpectralBounds, period: int) -> Schedule:
    """Steps that contract the error of any function with Hessians in ``bounds``.

    For T a power of two this is the silver schedule; another T is the sum of its binary digits, and
    its schedule the silver ones of these lengths, shortest first, so that their rates multiply. If
    the lower bound is 0 the limit is returned: `silver_convex_steps`.

    Args:
        bounds: Interval [m, L] of the eigenvalues of every Hessian of the function.
        period: T, the number of steps before the schedule repeats.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in the order in which it must be taken.
        `silver_period_rate` is its worst case.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Altschuler and Parrilo, Acceleration by Stepsize Hedging I: Multi-Step Descent and the
        Silver Stepsize Schedule (J. ACM 72, 2025; arXiv:2309.07879).

    >>> silver_steps(SpectralBounds(1.0, 1.0), 1).steps
    array([1.])
    >>> silver_steps(SpectralBounds(0.0, 1.0), 3).steps.round(3)
    array([1.414, 2.   , 1.414])
    """
    period = check_period(period)
    check_upper("silver_steps", bounds)
    if bounds.lower == 0:
        return silver_convex_steps(bounds, period)
    blocks = [_block(bounds, k) for k in range(period.bit_length()) if period >> k & 1]
    with np.errstate(over="ignore"):  # the schedule refuses steps that are not finite
        steps = np.concatenate(blocks) / bounds.upper
    return Schedule(steps, "silver", bounds=bounds, builder="silver")


@SCHEDULES.register("silver-convex")
def silver_convex_steps(bounds: SpectralBounds, period: int) -> Schedule:
    """Steps ``(1 + ρ^(ν(t) − 1)) / L``, ν(t) the exponent of 2 in t = 1 … T: no lower bound needed.

    Args:
        bounds: Interval of the eigenvalues of every Hessian; only its upper end L is looked at.
        period: T, the number of steps before the schedule repeats; the guarantee is for
            T = 2ᵏ − 1.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in the order in which it must be taken.
        `silver_convex_period_rate` is its guarantee.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Altschuler and Parrilo, Acceleration by Stepsize Hedging II: Silver Stepsize Schedule for
        Smooth Convex Optimization (Math. Program., 2024; arXiv:2309.16530), abstract.

    >>> steps = silver_convex_steps(SpectralBounds(0.0, 1.0), 7).steps
    >>> bool(np.isclose(steps.sum(), (1 + 2**0.5) ** 3 - 1))
    True
    """
    period = check_period(period)
    check_upper("silver_convex_steps", bounds)
    count = np.arange(1, period + 1)
    valuation = np.log2(count & -count)
    with np.errstate(over="ignore"):  # the schedule refuses steps that are not finite
        steps = (1 + SILVER_RATIO ** (valuation - 1)) / bounds.upper
    return Schedule(steps, "silver, convex", bounds=bounds, builder="silver-convex")


def silver_period_rate(bounds: SpectralBounds, period: int) -> float:
    """``(1 − z)/(1 + z)``: largest ``‖x_T − x*‖ / ‖x₀ − x*‖`` of `silver_steps` over all functions.

    A quadratic attains it for T a power of two, so it is also the largest ``|p|`` over ``bounds``.
    The number z grows with T from 1/κ by factors of up to 1 + √2 for each doubling.

    Raises:
        ValueError: If ``bounds.lower`` is 0: no rate holds for every convex function.

    References:
        Altschuler and Parrilo (arXiv:2309.07879), main theorem on the silver schedule.

    >>> round(silver_period_rate(SpectralBounds(1.0, 32.0), 8) ** 2, 6)
    0.22145
    """
    period = check_count("period", period, maximum=2**53)
    check_lower("silver_period_rate", bounds)
    rate = 1.0
    # 1 − z, carried apart: its digits are lost in z once z is near 1.
    gap = (bounds.upper - bounds.lower) / bounds.upper
    for k in range(period.bit_length()):
        if period >> k & 1:
            rate *= gap / (2 - gap)
        root = math.sqrt(1 + gap * gap)
        gap *= gap * (root + gap) / (1 + root)
    return rate


def silver_convex_period_rate(bounds: SpectralBounds, period: int) -> float:
    """Guaranteed ``(f(x_T) − f*) / ‖x₀ − x*‖²`` of `silver_convex_steps`, for T = 2ᵏ − 1.

    It is ``L / (1 + √(4ρ²ᵏ − 3))``; a Huber function comes to ``L / (4ρᵏ − 2)``, so at most about
    half of it is slack.

    Raises:
        ValueError: If T is not of the form 2ᵏ − 1.

    References:
        Altschuler and Parrilo (arXiv:2309.16530), main theorem.

    >>> round(silver_convex_period_rate(SpectralBounds(0.0, 10.0), 7), 6)
    0.343775
    """
    period = check_count("period", period, maximum=2**53)
    if period & (period + 1):
        below = 2 ** ((period + 1).bit_length() - 1) - 1
        raise ValueError(
            f"`period` must be one of 1, 3, 7, 15, … to have a guarantee, got {period}; "
            f"take {below} or {2 * below + 1}"
        )
    check_upper("silver_convex_period_rate", bounds)
    growth = SILVER_RATIO ** (period + 1).bit_length() / SILVER_RATIO
    return bounds.upper / (1 + math.sqrt(4 * growth * growth - 3))


def _scaled_z(bounds: SpectralBounds, doublings: int) -> list[float]:
    """κ·z after 0, 1, …, ``doublings`` doublings of the schedule, from κ·z = 1."""
    inverse_kappa = bounds.lower / bounds.upper
    values = [1.0]
    for _ in range(doublings):
        values.append(values[-1] * _factor(values[-1] * inverse_kappa))
    return values


def _factor(z: float) -> float:
    eta = 1 - z
    return eta + math.sqrt(1 + eta * eta)


def _block(bounds: SpectralBounds, doublings: int) -> list[float]:
    """The silver schedule of 2^``doublings`` steps, times L."""
    inverse_kappa = bounds.lower / bounds.upper

    def psi(scaled: float) -> float:
        return (1 + scaled) / (1 + scaled * inverse_kappa)

    values = _scaled_z(bounds, doublings)
    steps = [psi(1.0)]
    for z, longer in itertools.pairwise(values):
        shorter = z / _factor(z * inverse_kappa)
        steps = [*steps[:-1], psi(shorter), *steps[:-1], psi(longer)]
    return steps
