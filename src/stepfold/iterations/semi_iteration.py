"""Chebyshev semi-iteration: the best polynomial of every degree k, by a recurrence of two terms.

With ``γ = 2/(a + b)`` and ``σ = (b − a)/(b + a)``, the error after k steps is ``pₖ(A) e₀`` with
``pₖ(λ) = τₖ((b + a − 2λ)/(b − a)) / τₖ(1/σ)``, τₖ the Chebyshev polynomial: the residual polynomial
of k Chebyshev steps, for all k at once and not only for the period. The price is one more vector.

Both τₖ overflow soon (τₖ(1/σ) grows like exp(2k/√κ)); their ratio does not:
``ωₖ₊₁ = 2 τₖ(1/σ)/(σ τₖ₊₁(1/σ))`` stays in [1, 2] and has a recurrence of its own, ``ω₁ = 1``,
``ω₂ = 2/(2 − σ²)``, ``ωₖ₊₁ = 1/(1 − σ²ωₖ/4)``, which damps rounding errors. So k has no limit.

References:
    Golub and Varga, Chebyshev semi-iterative methods (Numer. Math. 3, 1961). Golub and Van Loan,
    Matrix Computations (2013), section 11.2.8.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

from stepfold._checks import check_real
from stepfold._typing import ArrayT
from stepfold.iterations.base import Iteration, gradient_step
from stepfold.problems import Problem
from stepfold.schedules import Schedule, constant_steps
from stepfold.schedules.base import check_lower
from stepfold.spectrum import SpectralBounds


class Recurrence(NamedTuple, Generic[ArrayT]):
    """State of `SemiIteration`: two iterates and the weight ωₖ₊₁ of the next step."""

    x: ArrayT
    previous: ArrayT
    omega: float


class SemiIteration(Iteration[Recurrence[ArrayT], ArrayT]):
    """``x ← x_previous + ωₖ₊₁ (x − γ ∇f(x) − x_previous)`` for a constant step γ = 2/(a + b).

    `semi_iteration` makes it, with its step, from bounds.

    Args:
        contraction: σ = (b − a)/(b + a), the rate of the constant step; at least 0, at most 1.

    Raises:
        ValueError: If ``contraction`` is out of range.

    References:
        Golub and Varga, Chebyshev semi-iterative methods (Numer. Math. 3, 1961).

    >>> next_weight(next_weight(1.0, 0.8), 0.8)  # ω₂ = 2/(2 − σ²), then ω₃
    1.3076923076923077
    """

    takes_gradient = True

    def __init__(self, contraction: float) -> None:
        check_real("contraction", contraction)
        if not 0 <= contraction <= 1:
            raise ValueError(
                f"`contraction` must lie between 0 and 1, got {contraction!r}; "
                "it is (b − a)/(b + a), and `semi_iteration` computes it from bounds"
            )
        self.contraction = float(contraction)

    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> Recurrence[ArrayT]:
        """The start; ω₁ = 1 makes the first step a gradient step."""
        return Recurrence(x0, x0, 1.0)

    def step(
        self,
        problem: Problem[ArrayT],
        state: Recurrence[ArrayT],
        gamma: Any,
        gradient: ArrayT | None = None,
    ) -> Recurrence[ArrayT]:
        """``previous + ω (x − gamma·gradient − previous)``."""
        x, previous, omega = state
        moved = gradient_step(problem, x, gamma, gradient)
        if omega != 1.0:
            moved = previous + omega * (moved - previous)
        return Recurrence(moved, x, next_weight(omega, self.contraction))

    def iterate(self, state: Recurrence[ArrayT]) -> ArrayT:
        """x."""
        return state.x


def next_weight(omega: float, contraction: float) -> float:
    """ωₖ₊₁ from ωₖ: ``1/(1 − σ²ωₖ/4)``, and ``1/(1 − σ²/2)`` after ω₁ = 1."""
    square = contraction * contraction
    # The recurrence of the ratios starts with τ₁ = στ₀/σ, half of what its general step would give.
    return 1 / (1 - (square / 2 if omega == 1.0 else square * omega / 4))


def semi_iteration(bounds: SpectralBounds, period: int = 1) -> tuple[Schedule, SemiIteration[Any]]:
    """The Chebyshev semi-iteration with optimal parameters, for `solve`.

    Args:
        bounds: Interval [a, b] with a > 0, in units of the Hessian.
        period: Steps between two looks at the gradient norm.

    Returns:
        A schedule of ``period`` equal steps ``2/(a + b)``, and the iteration.

    Raises:
        ValueError: If ``bounds.lower`` is 0.

    References:
        Golub and Varga, Chebyshev semi-iterative methods (Numer. Math. 3, 1961).

    >>> from stepfold import LeastSquares, solve
    >>> problem = LeastSquares(np.diag([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    >>> schedule, iteration = semi_iteration(SpectralBounds(1.0, 9.0))
    >>> result = solve(problem, schedule, iteration=iteration)
    >>> result.status.name, result.num_steps, result.x.round(6)
    ('CONVERGED', 28, array([1., 1., 1.]))
    """
    check_lower("semi_iteration", bounds)
    steps = constant_steps(bounds, period)
    # (b − a)/(b + a) without overflow for b near the largest number.
    ratio = bounds.lower / bounds.upper
    return Schedule(steps.steps, "semi-iteration"), SemiIteration((1 - ratio) / (1 + ratio))
