"""Residual polynomials, and every rate and bound that follows from them.

After steps ``γ₀ … γ_{T−1}`` the error is ``p(A) e₀`` with ``p(λ) = ∏ₜ (1 − γₜ λ)``. Everything here
is a statement about ``p``: its largest value over an interval or a spectrum, its mean square over a
measure, and how small either can be made. Products of factors throughout, never coefficients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._checks import (
    check_array,
    check_count,
    check_nonnegative,
    check_period,
    check_real,
    check_share,
    check_vector,
)
from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.measure.base import check_measure
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.bounds import check_bounds, check_positive_bounds


def residual_polynomial(steps: Any, eigenvalues: Any) -> FloatArray:
    """Value of ``∏ₜ (1 − γₜ λ)`` at each eigenvalue.

    Args:
        steps: γ, shape (T,), in units of 1 / Hessian; a `Schedule` or any sequence of numbers.
        eigenvalues: λ, any shape, in units of the Hessian.

    Returns:
        Array of the shape of ``eigenvalues``.

    >>> residual_polynomial([1.0, 0.5], [0.0, 1.0, 4.0])
    array([1., 0., 3.])
    """
    eigenvalues = check_array("eigenvalues", eigenvalues)
    mantissa = np.ones(eigenvalues.shape)
    exponent = np.zeros(eigenvalues.shape, dtype=np.int64)
    for gamma in check_vector("steps", steps):
        # A product of a thousand factors overflows on the way to a result below 1: carry the
        # exponent apart.
        mantissa, shift = np.frexp(mantissa * (1 - gamma * eigenvalues))
        exponent += shift
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(mantissa, np.clip(exponent, -(2**30), 2**30).astype(np.int32))


def spectral_radius(steps: Any, eigenvalues: Any) -> float:
    """Largest ``|p(λ)|`` over given eigenvalues: the factor of a period on the worst of them.

    >>> spectral_radius([0.5], [1.0, 3.0])
    0.5
    """
    return float(np.abs(residual_polynomial(steps, check_vector("eigenvalues", eigenvalues))).max())


def worst_case_period_rate(steps: Any, bounds: SpectralBounds, *, power: float = 0.0) -> float:
    """Largest ``λ^power · |p(λ)|`` over an interval: the factor of a period on its worst problem.

    With ``power`` = 0 that is the factor of the error; with 1/2 it is the energy norm of the error
    after a period over the norm of the error before, with 1 the norm of the gradient over it: these
    fall on [0, b] too, where ``|p(0)| = 1``.

    All roots ``1/γₜ`` of p are real, so p has exactly one extremum between neighbouring roots; each
    is bracketed and found to machine precision, and compared with the ends of the interval.

    Args:
        steps: γ, shape (T,), in units of 1 / Hessian.
        bounds: Interval of eigenvalues.
        power: Exponent of the weight, at least 0.

    Returns:
        A number in units of Hessian^``power``.

    References:
        Derived above: between neighbouring roots p′ has one root, by Rolle's theorem and its
        degree.

    >>> round(worst_case_period_rate([0.5], SpectralBounds(1.0, 3.0)), 12)
    0.5
    >>> round(worst_case_period_rate([1 / 3], SpectralBounds(0.0, 4.0), power=0.5), 12)
    0.666666666667
    """
    gammas = check_vector("steps", steps)
    check_nonnegative("power", power)
    check_bounds(bounds, or_none=False)
    inner = extrema_between(gammas[gammas != 0], power)
    candidates = np.concatenate([[bounds.lower, bounds.upper], inner])
    inside = candidates[(candidates >= bounds.lower) & (candidates <= bounds.upper)]
    values = np.abs(residual_polynomial(gammas, inside))
    return float((inside**power * values).max())


# With the root gap as unit, an error δ in the place of an extremum changes the value by (T δ)²
# only; a last Newton step of this size leaves about its square.
_PLACE = 1e-7
# Halvings that would do alone, were a Newton step never to stay in its bracket.
_MOST_MOVES = 40
# Entries of the table (gaps × steps) that is held at a time.
_TABLE_SIZE = 2**20


def extrema_between(gammas: FloatArray, power: float = 0.0) -> FloatArray:
    """Where ``λ^power · |p(λ)|`` has its extrema between neighbouring roots, ascending."""
    # λ^power is a root at 0 of that multiplicity.
    with np.errstate(over="ignore"):
        roots = np.unique(np.append(1 / gammas, [0.0] if power else []))
    # The root of a subnormal step lies beyond the floats, and so beyond every interval.
    roots = roots[np.isfinite(roots)]
    rows = max(1, _TABLE_SIZE // max(gammas.size, 1))
    gaps = [
        (roots[start : start + rows], roots[start + 1 : start + 1 + rows])
        for start in range(0, roots.size - 1, rows)
    ]
    extrema = [_extrema(gammas, power, lower[: upper.size], upper) for lower, upper in gaps]
    return np.concatenate(extrema) if extrema else np.empty(0)


def _extrema(gammas: FloatArray, power: float, left: FloatArray, right: FloatArray) -> FloatArray:
    low, high = left.copy(), right.copy()
    gap = right - left
    places = left + gap / 2
    # The logarithmic derivative falls from +∞ to −∞ between neighbouring roots: its sign keeps the
    # zero in a bracket, and times the distances to both roots it is close to a straight line.
    for _ in range(_MOST_MOVES):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            terms = gammas / (1 - gammas * places[:, None])
            slope, bend = -terms.sum(axis=1), -(terms * terms).sum(axis=1)
            if power:
                slope += power / places
                bend -= power / places / places
            rising = slope > 0
            low[rising], high[~rising] = places[rising], places[~rising]
            away, left_over = places - left, right - places
            moved = places - slope / (bend + slope / away - slope / left_over)
        inside = (moved >= low) & (moved <= high)
        moved = np.where(inside, moved, low + (high - low) / 2)
        last, places = places, moved
        if (np.abs(places - last) <= _PLACE * gap).all():
            break
    return places


def mean_squared_error(steps: Any, measure: SpectralMeasure) -> float:
    """``∫ p² dμ``: the mean squared error after all steps, relative to the one before the first.

    >>> mean_squared_error([0.5], SpectralMeasure.from_eigenvalues([1.0, 3.0]))
    0.25
    """
    # Steps that diverge on the measure have an infinite error, which is an answer and no accident.
    check_measure(measure)
    with np.errstate(over="ignore"):
        return measure.mean(residual_polynomial(steps, measure.nodes) ** 2)


def mean_squared_error_path(steps: Any, measure: SpectralMeasure) -> FloatArray:
    """Mean squared error before the first and after each of T steps, shape (T + 1,).

    Unlike the value after the last step, those in between depend on the order of the steps.

    >>> mean_squared_error_path([1.0, 0.5], SpectralMeasure.from_eigenvalues([1.0, 2.0]))
    array([1. , 0.5, 0. ])
    """
    gammas = check_vector("steps", steps)
    return np.array(
        [
            1.0,
            *(mean_squared_error(gammas[: t + 1], measure) for t in range(gammas.size)),
        ]
    )


def constant_rate(bounds: SpectralBounds) -> float:
    """``(κ − 1)/(κ + 1)``: factor of one step of gradient descent with step 2/(a + b).

    References:
        Nesterov, Lectures on Convex Optimization (2018), section 2.1.5.

    >>> constant_rate(SpectralBounds(1.0, 9.0))
    0.8
    """
    check_positive_bounds(bounds, or_none=False)
    return (bounds.upper - bounds.lower) / (bounds.upper + bounds.lower)


def chebyshev_rate(bounds: SpectralBounds, period: int, *, kind: int = 1) -> float:
    """Rate per step of T Chebyshev steps: the T-th root of `chebyshev_period_rate`.

    It falls to `first_order_lower_bound` as T grows, and does not underflow for long periods.

    References:
        Those of `chebyshev_period_rate`.

    >>> round(chebyshev_rate(SpectralBounds(1.0, 9.0), 16), 5)
    0.52214
    """
    angle, factor = _chebyshev_terms(bounds, period, kind)
    return math.exp(-angle + math.log(factor) / period)


def chebyshev_period_rate(bounds: SpectralBounds, period: int, *, kind: int = 1) -> float:
    """``sech(T arccosh((κ + 1)/(κ − 1)))``: the smallest worst-case factor of any T steps.

    It is reached by `chebyshev_steps` and by no other schedule. `chebyshev_rate` is its T-th root.

    Args:
        bounds: Interval [a, b] of eigenvalues.
        period: T.
        kind: 2 gives the factor of second-kind steps instead,
            ``(T + 1) sinh(s) / sinh((T + 1) s)`` with ``cosh s = (κ + 1)/(κ − 1)``.

    References:
        Takabe and Wadayama, Convergence Acceleration via Chebyshev Step (arXiv:2010.13335), on the
        spectral radius of Chebyshev steps.

    >>> round(chebyshev_period_rate(SpectralBounds(1.0, 9.0), 2), 5)
    0.47059
    """
    angle, factor = _chebyshev_terms(bounds, period, kind)
    return math.exp(-period * angle) * factor


def _any_period(period: Any) -> int:
    """T of a closed form, which may be longer than a schedule that is made."""
    return check_count("period", period, maximum=2**53, remedy="no float counts further")


def _chebyshev_terms(bounds: SpectralBounds, period: int, kind: int) -> tuple[float, float]:
    """s and c of the rate ``c exp(−T s)`` of a period."""
    period = _any_period(period)
    if not isinstance(kind, int) or kind not in (1, 2):
        raise ValueError(
            f"`kind` must be 1 or 2, got {kind!r}; for the fourth kind take "
            "`fourth_kind_period_rate`"
        )
    check_positive_bounds(bounds, or_none=False)
    if bounds.lower == bounds.upper:
        return math.inf, 1.0
    # arccosh((κ + 1)/(κ − 1)) = log((√b + √a)²/(b − a)), in a form that keeps its digits for κ near
    # 1 and for large κ.
    a, b = math.sqrt(bounds.lower), math.sqrt(bounds.upper)
    angle = math.log1p(2 * a * (a + b) / (bounds.upper - bounds.lower))
    if kind == 1:
        return angle, 2 / (1 + math.exp(-2 * period * angle))
    if angle == 0:
        return 0.0, 1.0
    return angle, (period + 1) * math.expm1(-2 * angle) / math.expm1(-2 * (period + 1) * angle)


def fourth_kind_period_rate(bounds: SpectralBounds, period: int) -> float:
    """``√b / (2T + 1)``: the smallest maximum of ``√λ·|p(λ)|`` over [0, b] of any T steps.

    `chebyshev_steps` of kind 4 reach it. Times ‖x₀ − x*‖ it bounds the energy norm of the error
    after T steps, whatever the lower bound.

    References:
        Lottes, Optimal Polynomial Smoothers for Multigrid V-cycles (arXiv:2202.08830).

    >>> fourth_kind_period_rate(SpectralBounds(0.0, 4.0), 2)
    0.4
    """
    period = _any_period(period)
    check_positive_bounds(bounds, or_none=False)
    return math.sqrt(bounds.upper) / (2 * period + 1)


def first_order_lower_bound(bounds: SpectralBounds) -> float:
    """``(√κ − 1)/(√κ + 1)``: no first-order method has a smaller worst-case rate per step.

    References:
        Nesterov, Lectures on Convex Optimization (2018), section 2.1.4.

    >>> round(first_order_lower_bound(SpectralBounds(1.0, 9.0)), 12)
    0.5
    """
    check_positive_bounds(bounds, or_none=False)
    # 1 − 1/√κ cancels for κ near 1; 1 − 1/κ, taken as (b − a)/b, does not.
    root = math.sqrt(bounds.lower / bounds.upper)
    return (bounds.upper - bounds.lower) / bounds.upper / (1 + root) ** 2


def optimal_mean_squared_error(measure: SpectralMeasure, period: int) -> float:
    """Smallest ``∫ p² dμ`` that any T steps can reach.

    It is ``1/∑ₖ qₖ(0)²`` over the orthonormal polynomials q₀ … q_T of μ. The weight of μ at 0 is
    its floor: no step moves an error there. Once T reaches the number of distinct eigenvalues above
    0 it is that weight. `optimal_steps` attains it as far as floating point can.

    References:
        Freud, Orthogonal Polynomials (1971), on the Christoffel function.

    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    >>> round(optimal_mean_squared_error(measure, 1), 12)
    0.2
    """
    period = check_period(period)
    at_zero = check_measure(measure).weight_at_zero
    q, e = measure.factor_above_zero(period)
    if q.size < period or e[-1] == 0:
        # Every eigenvalue but 0 can have a root of its own; at 0 every residual polynomial is 1.
        return at_zero
    # q_k(0)² = ∏ q_j/e_j: sums, products and quotients of positive numbers, so no digit is lost.
    logs = np.cumsum(np.log(q) - np.log(e))
    peak = max(float(logs.max()), 0.0)
    total = math.exp(-peak) + float(np.exp(logs - peak).sum())
    return at_zero + (1 - at_zero) * math.exp(-peak) / total


def marchenko_pastur_mean_squared_error(ratio: float, period: int) -> float:
    """``(1 − r) rᵀ / (1 − rᵀ⁺¹)``: the optimum for large Gaussian H with n/m = r < 1.

    Args:
        ratio: r, columns over rows of the factor of H, between 0 and 1.
        period: T.

    Returns:
        Mean squared error after T steps, relative to the one before the first.

    Raises:
        ValueError: If ``ratio`` is not between 0 and 1, or ``period`` is not positive.

    References:
        Derived from the orthogonal polynomials of the Marchenko–Pastur law (1967): for it the
        optimal steps are Chebyshev's of the second kind.

    >>> round(marchenko_pastur_mean_squared_error(0.5, 2), 12)
    0.142857142857
    """
    period = _any_period(period)
    remedy = "; from 1 on H has no inverse and the error on its kernel stays"
    check_share("ratio", ratio, remedy)
    return (1 - ratio) * ratio**period / (1 - ratio ** (period + 1))


def num_steps_to(rtol: float, period_rate: float, period: int = 1) -> float:
    """Steps that bring the error below ``rtol``, in whole periods.

    Args:
        rtol: Target, between 0 and 1.
        period_rate: Factor of a period, at least 0; from 1 on the answer is infinite.
        period: Steps in a period.

    Raises:
        ValueError: If ``rtol`` is not between 0 and 1, or ``period_rate`` is negative.

    >>> num_steps_to(1e-3, 0.1, period=8)
    24
    """
    check_share("rtol", rtol)
    check_real("period_rate", period_rate)
    if not period_rate >= 0:
        raise ValueError(
            f"`period_rate` must be at least 0, got {period_rate!r}; take its absolute value"
        )
    period = _any_period(period)
    if period_rate >= 1:
        return math.inf
    if period_rate == 0:
        return period
    periods = math.log(rtol) / math.log(period_rate)
    # Rounding must not turn three periods into four.
    return period * max(1, math.ceil(periods * (1 - 1e-12)))
