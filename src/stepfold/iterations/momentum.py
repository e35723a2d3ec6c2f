"""Momentum: Polyak's heavy ball and Nesterov's accelerated gradient.

Both add a share β of the last move to a gradient step. On quadratics with eigenvalues in [a, b],
κ = b/a, the heavy ball with ``γ = 2(1 + β)/(a + b)`` and ``β = ((√κ − 1)/(√κ + 1))²`` shrinks
errors by ``√β`` a step in the long run, the first-order lower bound; on the way they may grow, like
t·√βᵗ.
Nesterov's method with ``γ = 1/b`` and ``β = (√κ − 1)/(√κ + 1)`` reaches ``√(1 − 1/√κ)`` a step, for
every smooth strongly convex function.

References:
    Polyak, Some methods of speeding up the convergence of iteration methods (USSR Comput. Math.
    Math. Phys. 4, 1964). Nesterov, Lectures on Convex Optimization (2018), section 2.2.
"""

from __future__ import annotations

import math
from typing import Any, Generic, NamedTuple

from stepfold._checks import check_share
from stepfold._typing import ArrayT
from stepfold.iterations.base import Iteration, gradient_step
from stepfold.problems import Problem
from stepfold.schedules import Schedule, constant_steps
from stepfold.schedules.base import check_lower, check_upper
from stepfold.schedules.constant import inverse_upper_bound_steps
from stepfold.spectrum import SpectralBounds

LONGEST_LOOK = 1000


class Pair(NamedTuple, Generic[ArrayT]):
    """An iterate and the one before it; equal before the first step."""

    x: ArrayT
    previous: ArrayT


class Remembering(Iteration[Pair[ArrayT], ArrayT]):
    """An iteration that remembers the iterate before; it starts at rest."""

    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> Pair[ArrayT]:
        """The start, twice."""
        return Pair(x0, x0)

    def iterate(self, state: Pair[ArrayT]) -> ArrayT:
        """x."""
        return state.x


class HeavyBall(Remembering[ArrayT]):
    """``x ← x − γ ∇f(x) + β (x − x_previous)``, from ``x_previous = x₀``.

    `heavy_ball` makes it, with its step, from bounds.

    Args:
        momentum: β, at least 0 and below 1; 0 is gradient descent.

    Raises:
        ValueError: If ``momentum`` is out of range.

    References:
        Polyak, Some methods of speeding up the convergence of iteration methods (USSR Comput. Math.
        Math. Phys. 4, 1964).

    >>> from stepfold import Quadratic
    >>> problem = Quadratic(np.array([[2.0]]), np.array([2.0]))
    >>> ball = HeavyBall(0.5)
    >>> state = ball.step(problem, ball.init(problem, np.zeros(1)), 0.25)
    >>> ball.step(problem, state, 0.25).x
    array([1.])
    """

    takes_gradient = True

    def __init__(self, momentum: float) -> None:
        self.momentum = check_momentum(momentum)

    def step(
        self,
        problem: Problem[ArrayT],
        state: Pair[ArrayT],
        gamma: Any,
        gradient: ArrayT | None = None,
    ) -> Pair[ArrayT]:
        """``x − gamma·gradient + β (x − previous)``."""
        x, previous = state
        moved = gradient_step(problem, x, gamma, gradient)
        return Pair(moved + self.momentum * (x - previous), x)


class Accelerated(NamedTuple, Generic[ArrayT]):
    """State of `Nesterov`."""

    point: ArrayT
    """Where the next gradient is taken."""
    x: ArrayT
    """Where the last gradient step ended."""
    weight: float
    """tₖ of the sequence for functions that are not strongly convex; 1 at the start."""


class Nesterov(Iteration[Accelerated[ArrayT], ArrayT]):
    """``x ← y − γ ∇f(y)``, ``y ← x + β (x − x_previous)``, from y = x₀.

    The iterate is y, the point where gradients are taken, so that the gradient by which `solve`
    judges it serves the next step too. Nesterov's other sequence is the state's ``x``.
    `nesterov` makes the iteration, with its step, from bounds.

    Args:
        momentum: β, at least 0 and below 1; None for ``β = (tₖ − 1)/tₖ₊₁``,
            ``tₖ₊₁ = (1 + √(1 + 4tₖ²))/2``, which needs no lower bound of the eigenvalues.

    Raises:
        ValueError: If ``momentum`` is out of range.

    References:
        Nesterov, Lectures on Convex Optimization (2018), section 2.2.

    >>> from stepfold import Quadratic
    >>> problem = Quadratic(np.array([[2.0]]), np.array([2.0]))
    >>> method = Nesterov(0.5)
    >>> method.step(problem, method.init(problem, np.zeros(1)), 0.25)
    Accelerated(point=array([0.75]), x=array([0.5]), weight=1.0)
    """

    takes_gradient = True

    def __init__(self, momentum: float | None) -> None:
        self.momentum = None if momentum is None else check_momentum(momentum)

    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> Accelerated[ArrayT]:
        """The start, as both sequences."""
        return Accelerated(x0, x0, 1.0)

    def step(
        self,
        problem: Problem[ArrayT],
        state: Accelerated[ArrayT],
        gamma: Any,
        gradient: ArrayT | None = None,
    ) -> Accelerated[ArrayT]:
        """A gradient step from y, then a share of the move between the two last such steps."""
        weight, momentum = state.weight, self.momentum
        if momentum is None:
            weight = (1 + math.sqrt(1 + 4 * weight * weight)) / 2
            momentum = (state.weight - 1) / weight
        x = gradient_step(problem, state.point, gamma, gradient)
        return Accelerated(x + momentum * (x - state.x), x, weight)

    def iterate(self, state: Accelerated[ArrayT]) -> ArrayT:
        """y."""
        return state.point


def heavy_ball(
    bounds: SpectralBounds, period: int | None = None
) -> tuple[Schedule, HeavyBall[Any]]:
    """Polyak's step and momentum for quadratics, for `solve`.

    Args:
        bounds: Interval [a, b] with a > 0, in units of the Hessian.
        period: Steps between two looks at the gradient norm; √κ/4 if not given, because the norm
            swings over about √κ steps, and each look that finds it risen suggests a stall.

    Returns:
        A schedule of ``period`` equal steps ``2(1 + β)/(a + b)``, and the iteration.

    Raises:
        ValueError: If ``bounds.lower`` is 0.

    References:
        Polyak, Some methods of speeding up the convergence of iteration methods (USSR Comput. Math.
        Math. Phys. 4, 1964).

    >>> from stepfold import LeastSquares, solve
    >>> problem = LeastSquares(np.diag([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    >>> schedule, iteration = heavy_ball(SpectralBounds(1.0, 9.0))
    >>> solve(problem, schedule, iteration=iteration).x.round(6)
    array([1., 1., 1.])
    """
    check_lower("heavy_ball", bounds)
    steps = constant_steps(bounds, _looks(bounds) if period is None else period)
    root = math.sqrt(bounds.condition_number)
    momentum = ((root - 1) / (root + 1)) ** 2
    return Schedule((1 + momentum) * steps.steps, "heavy ball"), HeavyBall(momentum)


def nesterov(bounds: SpectralBounds, period: int | None = None) -> tuple[Schedule, Nesterov[Any]]:
    """Nesterov's step and momentum, for `solve`.

    Args:
        bounds: Interval [a, b], in units of the Hessian. For a = 0 the momentum is the growing one
            for convex functions, whose values converge like 1/t².
        period: Steps between two looks at the gradient norm; √κ/4 if not given, because the norm
            swings over about √κ steps, and each look that finds it risen suggests a stall.

    Returns:
        A schedule of ``period`` equal steps ``1/b``, and the iteration.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Nesterov, Lectures on Convex Optimization (2018), section 2.2.

    >>> schedule, iteration = nesterov(SpectralBounds(1.0, 9.0))
    >>> schedule.steps.round(6), iteration.momentum
    (array([0.111111]), 0.5)
    """
    check_upper("nesterov", bounds)
    steps = inverse_upper_bound_steps(bounds, _looks(bounds) if period is None else period)
    schedule = Schedule(steps.steps, "Nesterov")
    if bounds.lower == 0:
        return schedule, Nesterov(None)
    root = math.sqrt(bounds.condition_number)
    return schedule, Nesterov((root - 1) / (root + 1))


def _looks(bounds: SpectralBounds) -> int:
    # κ = 1000 stands for the κ of what has no lower bound.
    kappa = bounds.condition_number if bounds.lower > 0 else 1e3
    return min(max(1, round(math.sqrt(kappa) / 4)), LONGEST_LOOK)


def check_momentum(momentum: float) -> float:
    """Return β as a ``float`` in [0, 1)."""
    remedy = "; `heavy_ball` and `nesterov` compute it from bounds"
    check_share("momentum", momentum, remedy, or_zero=True)
    return float(momentum)
