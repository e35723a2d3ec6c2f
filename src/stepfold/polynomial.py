"""Residual polynomials, and every rate and bound that follows from them.

After steps ``γ₀ … γ_{T−1}`` the error is ``p(A) e₀`` with ``p(λ) = ∏ₜ (1 − γₜ λ)``. Everything here
is a statement about ``p``: its largest value over an interval or a spectrum, its mean square over a
measure, and how small either can be made. Products of factors throughout, never coefficients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._checks import check_count, check_vector
from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.spectrum import SpectralBounds


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
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
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


def worst_case_rate(steps: Any, bounds: SpectralBounds) -> float:
    """Largest ``|p(λ)|`` over an interval: the factor of a period on the worst problem in it.

    All roots ``1/γₜ`` of p are real, so p has exactly one extremum between neighbouring roots; each
    is bracketed and found to machine precision, and compared with the ends of the interval.

    Args:
        steps: γ, shape (T,), in units of 1 / Hessian.
        bounds: Interval of eigenvalues.

    >>> round(worst_case_rate([0.5], SpectralBounds(1.0, 3.0)), 12)
    0.5
    """
    gammas = check_vector("steps", steps)
    candidates = np.concatenate(
        [[bounds.lower, bounds.upper], _extrema_between_roots(gammas[gammas != 0])]
    )
    inside = candidates[(candidates >= bounds.lower) & (candidates <= bounds.upper)]
    return spectral_radius(gammas, inside)


def _extrema_between_roots(gammas: FloatArray) -> FloatArray:
    roots = np.unique(1 / gammas)
    left, right = roots[:-1].copy(), roots[1:].copy()
    # p'/p = −∑ γ/(1 − γλ) falls from +∞ to −∞ between neighbouring roots: bisection cannot miss.
    for _ in range(60 if left.size else 0):
        middle = (left + right) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = -(gammas / (1 - gammas * middle[:, None])).sum(axis=1)
        rising = slope > 0
        left[rising] = middle[rising]
        right[~rising] = middle[~rising]
    return (left + right) / 2


def mean_squared_error(steps: Any, measure: SpectralMeasure) -> float:
    """``∫ p² dμ``: the mean squared error after all steps, relative to the one before the first.

    >>> mean_squared_error([0.5], SpectralMeasure.from_eigenvalues([1.0, 3.0]))
    0.25
    """
    # Steps that diverge on the measure have an infinite error, which is an answer and no accident.
    with np.errstate(over="ignore"):
        return measure.mean(residual_polynomial(steps, measure.nodes) ** 2)


def mean_squared_errors(steps: Any, measure: SpectralMeasure) -> FloatArray:
    """Mean squared error before the first and after each of T steps, shape (T + 1,).

    Unlike the value after the last step, those in between depend on the order of the steps.

    >>> mean_squared_errors([1.0, 0.5], SpectralMeasure.from_eigenvalues([1.0, 2.0]))
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

    >>> constant_rate(SpectralBounds(1.0, 9.0))
    0.8
    """
    _check_upper(bounds)
    return (bounds.upper - bounds.lower) / (bounds.upper + bounds.lower)


def chebyshev_rate(bounds: SpectralBounds, num_steps: int) -> float:
    """``sech(T arccosh((κ + 1)/(κ − 1)))``: the smallest worst-case factor of any T steps.

    It is reached by `chebyshev_steps` and by no other schedule. Its T-th root is the rate per step.

    References:
        Takabe and Wadayama, Convergence Acceleration via Chebyshev Step (arXiv:2010.13335), on the
        spectral radius of Chebyshev steps.

    >>> round(chebyshev_rate(SpectralBounds(1.0, 9.0), 16) ** (1 / 16), 5)
    0.52214
    """
    num_steps = check_count("num_steps", num_steps)
    _check_upper(bounds)
    if bounds.lower == bounds.upper:
        return 0.0
    # arccosh((κ + 1)/(κ − 1)) = log((√b + √a)²/(b − a)), in a form that keeps its digits for κ near
    # 1 and for large κ.
    a, b = math.sqrt(bounds.lower), math.sqrt(bounds.upper)
    exponent = num_steps * math.log1p(2 * a * (a + b) / (bounds.upper - bounds.lower))
    return 2 * math.exp(-exponent) / (1 + math.exp(-2 * exponent))


def first_order_lower_bound(bounds: SpectralBounds) -> float:
    """``(√κ − 1)/(√κ + 1)``: no first-order method has a smaller worst-case rate per step.

    References:
        Nesterov, Lectures on Convex Optimization (2018), section 2.1.4.

    >>> round(first_order_lower_bound(SpectralBounds(1.0, 9.0)), 12)
    0.5
    """
    _check_upper(bounds)
    # 1 − 1/√κ cancels for κ near 1; 1 − 1/κ, taken as (b − a)/b, does not.
    root = math.sqrt(bounds.lower / bounds.upper)
    return (bounds.upper - bounds.lower) / bounds.upper / (1 + root) ** 2


# The polynomials at 0 grow like ρ⁻ᵀ; they are scaled down before their squares overflow.
_LARGE = 1e60


def optimal_mean_squared_error(measure: SpectralMeasure, num_steps: int) -> float:
    """Smallest ``∫ p² dμ`` that any T steps can reach.

    It is ``1/∑ₖ qₖ(0)²`` over the orthonormal polynomials q₀ … q_T of μ; once T reaches the number
    of distinct eigenvalues above 0, that is the weight of μ at 0. `optimal_steps` attains it.

    References:
        Freud, Orthogonal Polynomials (1971), on the Christoffel function.

    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    >>> round(optimal_mean_squared_error(measure, 1), 12)
    0.2
    """
    num_steps = check_count("num_steps", num_steps)
    alpha, beta = measure.jacobi(num_steps + 1)
    if alpha.size < num_steps + 1:
        # Every eigenvalue but 0 can have a root of its own; at 0 every residual polynomial is 1.
        return float(measure.weights[measure.nodes == 0].sum())
    previous, current = 0.0, 1.0
    total, exponent = 1.0, 0
    for k in range(num_steps):
        # β q_{k+1}(0) = (0 − α) q_k(0) − β' q_{k−1}(0)
        coupling = beta[k - 1] * previous if k else 0.0
        previous, current = current, float((-alpha[k] * current - coupling) / beta[k])
        if abs(current) > _LARGE:
            previous, current, total = previous / _LARGE, current / _LARGE, total / _LARGE**2
            exponent += 1
        total += current * current
    return 1 / total * _LARGE ** (-2 * exponent)


def marchenko_pastur_mean_squared_error(ratio: float, num_steps: int) -> float:
    """``(1 − r) rᵀ / (1 − rᵀ⁺¹)``: the optimum for large Gaussian H with n/m = r < 1.

    >>> round(marchenko_pastur_mean_squared_error(0.5, 2), 12)
    0.142857142857
    """
    num_steps = check_count("num_steps", num_steps)
    if not 0 < ratio < 1:
        raise ValueError(
            f"`ratio` must lie between 0 and 1, got {ratio!r}; from 1 on H has no inverse and the "
            "error on its kernel stays"
        )
    return (1 - ratio) * ratio**num_steps / (1 - ratio ** (num_steps + 1))


def num_steps_to(rtol: float, rate: float, period: int = 1) -> float:
    """Steps until ``rate`` per period has brought the error below ``rtol``, in whole periods.

    Args:
        rtol: Target, between 0 and 1.
        rate: Factor of a period, at least 0; from 1 on the answer is infinite.
        period: Steps in a period.

    >>> num_steps_to(1e-3, 0.1, period=8)
    24
    """
    if not 0 < rtol < 1:
        raise ValueError(f"`rtol` must lie between 0 and 1, got {rtol!r}")
    if not rate >= 0:
        raise ValueError(f"`rate` must be at least 0, got {rate!r}; take its absolute value")
    period = check_count("period", period)
    if rate >= 1:
        return math.inf
    if rate == 0:
        return period
    periods = math.log(rtol) / math.log(rate)
    # Rounding must not turn three periods into four.
    return period * max(1, math.ceil(periods * (1 - 1e-12)))


def _check_upper(bounds: SpectralBounds) -> None:
    if bounds.upper == 0:
        raise ValueError("`bounds.upper` must be positive, got 0.0; the operator is zero")
