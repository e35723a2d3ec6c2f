"""Steps that are best when the data are noisy: y = Hx + w, started at 0, stopped after T steps.

T steps on ``½‖Hx − y‖²`` fit ``1 − p(λ)`` of each eigenvector's share of x and amplify the noise on
it by ``(1 − p(λ))²/λ``. With η the variance of an entry of w over that of an entry of x, the mean
squared error relative to ``E‖x‖²`` is ``∫ p² dμ + η ∫ (1 − p)²/λ dμ``. It is smallest for

    p(λ) = (η + λP(λ)) / (λ + η),    P(λ) = ∏ₖ (θₖ − λ)/(θₖ + η),

θₖ the Gauss nodes of λ dμ. That is T steps ``1/(θₖ + η)``, all positive, on the problem with ridge
term ½η‖x‖². As steps without it they are reciprocals of the roots of p, which may be complex.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._checks import check_array, check_nonnegative, check_period
from stepfold._codec import JsonRecord
from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.measure.base import check_measure
from stepfold.polynomial import residual_polynomial
from stepfold.schedules._fit import IDLE, PolynomialFit
from stepfold.schedules.base import Schedule
from stepfold.schedules.chebyshev import chebyshev_steps
from stepfold.schedules.optimal import nearly_optimal_steps, optimal_roots, optimal_steps
from stepfold.schedules.ordering import safe_order


def noisy_mean_squared_error(
    steps: Any,
    measure: SpectralMeasure,
    *,
    noise: float,
    noise_measure: SpectralMeasure | None = None,
) -> float:
    """``∫ p² dμ + η ∫ (1 − p)²/λ dν``: mean squared error from x₀ = 0 relative to ``E‖x‖²``.

    Args:
        steps: γ, shape (T,), in units of 1 / Hessian; no steps at all have error 1.
        measure: μ, how x (the first error, but for its sign) is spread over the eigenvalues.
        noise: η, at least 0, in units of the Hessian: ``n·σ²/E‖x‖²`` for noise of variance σ² per
            entry of y, which is ``σ²/τ²`` if the entries of x have variance τ².
        noise_measure: ν, equal weight on each of the n eigenvalues. White noise meets all alike;
            if x does too, ν is μ, which is taken if it is not given.

    Raises:
        ValueError: If ``noise`` is negative or not finite.

    References:
        Derived in ``docs/theory/measures.md``.

    >>> measure = SpectralMeasure([2.0], [1.0])
    >>> round(noisy_mean_squared_error([0.25], measure, noise=1.0), 12)
    0.375
    """
    noise = float(check_nonnegative("noise", noise))
    check_measure(measure)
    check_measure(noise_measure, "noise_measure", or_none=True)
    noisy = measure if noise_measure is None else noise_measure
    steps = check_array("steps", steps)
    if steps.ndim != 1:
        raise ValueError(f"`steps` must be one-dimensional, got shape {steps.shape}")
    if steps.size == 0:
        return 1.0
    bias = measure.mean(residual_polynomial(steps, measure.nodes) ** 2)
    fitted = 1 - residual_polynomial(steps, noisy.nodes)
    # At λ = 0 nothing is ever fitted, and (1 − p)²/λ is 0 like λ.
    variance = np.divide(fitted, np.sqrt(noisy.nodes), out=np.zeros_like(fitted), where=fitted != 0)
    return bias + noise * noisy.mean(variance**2)


@dataclass(frozen=True, eq=False)
class RidgeSteps(JsonRecord):
    """Steps for a problem with a ridge term: ``solve(LeastSquares(H, y, ridge=ridge), schedule)``.

    Args:
        schedule: T steps, in units of 1 / Hessian.
        ridge: η, weight of ``½‖x‖²``, in units of the Hessian.
    """

    schedule: Schedule
    ridge: float

    def residual_polynomial(self, eigenvalues: Any) -> FloatArray:
        """``p(λ) = (η + λ P(λ))/(λ + η)`` such that the iterate from 0 is ``(1 − p) H⁻¹y``."""
        eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
        inner = residual_polynomial(self.schedule, eigenvalues + self.ridge)
        values: FloatArray = inner + self.ridge * (1 - inner) / (eigenvalues + self.ridge)
        return values


def noise_aware_ridge(measure: SpectralMeasure, period: int, *, noise: float) -> RidgeSteps:
    """The best that T gradients can do with noisy data, for isotropic x: no schedule is better.

    Args:
        measure: μ, the eigenvalues of the Hessian with equal weights (x is isotropic).
        period: T.
        noise: η = σ²/τ², positive, in units of the Hessian.

    Returns:
        The ridge η and T positive steps ``1/(θₖ + η)`` in a safe order.

    Raises:
        ValueError: If ``noise`` is not positive and finite, or if the measure has fewer than T
            distinct nodes above 0.

    References:
        Derived in ``docs/theory/measures.md``.

    >>> record = noise_aware_ridge(SpectralMeasure([2.0], [1.0]), 1, noise=1.0)
    >>> record.ridge, record.schedule.steps.round(6)
    (1.0, array([0.333333]))
    """
    noise = float(check_nonnegative("noise", noise))
    if noise == 0:
        raise ValueError("`noise` must be positive, got 0.0; without noise take `optimal_steps`")
    roots = optimal_roots(measure, period)
    schedule = Schedule(1 / (roots + noise), "noise-aware, ridge")
    return RidgeSteps(schedule.reordered(safe_order(period)), noise)


def noise_aware_steps(
    measure: SpectralMeasure,
    period: int,
    *,
    noise: float,
    noise_measure: SpectralMeasure | None = None,
) -> Schedule:
    """Positive steps with a small mean squared error after T steps on noisy data from x₀ = 0.

    Where all roots of the best p are real these are their reciprocals, and no T gradients do
    better. Where some are complex, real steps cannot reach it, and the error is minimised over
    positive steps by a trust-region least-squares method from several starts. What comes back is
    a local minimum, never worse than `optimal_steps` of any length up to T, nor than Chebyshev
    steps of the measure's bounds stopped anywhere before T; a global minimum is not promised.
    `noise_aware_ridge` has no such gap.

    Args:
        measure: μ, how x is spread over the eigenvalues.
        period: T.
        noise: η, at least 0, see `noisy_mean_squared_error`.
        noise_measure: Equal weight on each eigenvalue, if that is not μ.

    Returns:
        A schedule of shape (T,), in units of 1 / Hessian, in a safe order. A step of 1e-12/λ_max
        does nothing: more would only fit noise. Without noise it is `optimal_steps`.

    Raises:
        ValueError: If ``noise`` is negative or not finite, or if the measure has fewer than T
            distinct nodes above 0.

    References:
        Derived in ``docs/theory/measures.md``.

    >>> noise_aware_steps(SpectralMeasure([2.0], [1.0]), 1, noise=1.0).steps.round(6)
    array([0.333333])
    """
    noise = float(check_nonnegative("noise", noise))
    period = check_period(period)
    check_measure(noise_measure, "noise_measure", or_none=True)
    roots = optimal_roots(measure, period)
    if noise == 0:
        return optimal_steps(measure, period)
    unit = measure.nodes[-1]
    scaled = _scaled(measure, unit)
    noisy = scaled if noise_measure is None else _scaled(noise_measure, unit)
    exact = _objective(scaled, noise / unit, noisy)
    # Rules of T + 1 nodes integrate everything that T steps can make of the measures.
    small = _objective(scaled.quadrature(period + 1), noise / unit, noisy.quadrature(period + 1))
    candidates = _shorter_schedules(scaled, measure, period, unit)
    candidates.sort(key=exact.value)
    starts = [_real_roots(roots / unit, noise / unit), *candidates[:2]]
    # Doing nothing has error 1: a start far above it is lost, and would overflow.
    refined = [small.refine(start) for start in starts if small.value(start) < 1e3]
    steps = min([*refined, *starts], key=exact.value)
    order = safe_order(period)
    return Schedule(np.maximum(steps, IDLE) / unit, "noise-aware").reordered(order)


def _shorter_schedules(
    scaled: SpectralMeasure, measure: SpectralMeasure, period: int, unit: float
) -> list[FloatArray]:
    """Schedules of T steps and fewer, filled up with idle ones, in units of 1/λ_max."""
    lengths = np.unique(np.geomspace(1, period, 16).round().astype(int)).tolist()
    if period <= 32:
        lengths = list(range(1, period + 1))
    schedules = [nearly_optimal_steps(scaled, length) for length in lengths]
    bounds = measure.bounds
    if bounds.lower > 0:
        chebyshev = unit * chebyshev_steps(bounds, period).steps
        schedules += [chebyshev[: t + 1] for t in range(period)]
        schedules += [unit * chebyshev_steps(bounds, length).steps for length in lengths]
    fill = np.full(period, IDLE)
    return [np.concatenate([steps, fill])[:period] for steps in schedules]


def _real_roots(roots: FloatArray, noise: float) -> FloatArray:
    """Reciprocals of the roots of the best p, those of a complex pair by twice their real part.

    With z = 0, θ₁ … θ_T the roots of (λ + η) p are those of ``∏ (λ − zₖ) = ±ρᵀ⁺¹``, ρ the geometric
    mean of η and θₖ + η: eigenvalues of diag(z) plus ρ times a cyclic shift, −η among them.
    """
    size = roots.size + 1
    rho = math.exp((math.log(noise) + float(np.log(roots + noise).sum())) / size)
    matrix = np.diag(np.append(0.0, roots)) + rho * np.roll(np.eye(size), 1, axis=0)
    matrix[0, -1] *= (-1.0) ** size
    eigenvalues = np.linalg.eigvals(matrix)
    eigenvalues = np.delete(eigenvalues, np.abs(eigenvalues + noise).argmin())
    return np.maximum((1 / eigenvalues).real, IDLE)


def _objective(measure: SpectralMeasure, noise: float, noisy: SpectralMeasure) -> PolynomialFit:
    """The error as a sum of squares, in units of the largest eigenvalue."""
    # ∫ p² dμ + η ∫ (1 − p)²/λ dν: residuals √w·p at the nodes of μ, √(ηw/λ)·(1 − p) at those
    # of ν; nothing depends on the steps at λ = 0.
    bias, variance = measure.nodes > 0, noisy.nodes > 0
    spread = np.sqrt(noise * noisy.weights[variance] / noisy.nodes[variance])
    return PolynomialFit(
        np.concatenate([measure.nodes[bias], noisy.nodes[variance]]),
        np.concatenate([np.sqrt(measure.weights[bias]), spread]),
        np.concatenate([np.zeros(int(bias.sum())), spread]),
    )


def _scaled(measure: SpectralMeasure, unit: float) -> SpectralMeasure:
    return SpectralMeasure(measure.nodes / unit, measure.weights, measure.name)
