"""Barzilai and Borwein: the step that would have suited the last move.

With ``s = x − x_previous`` and ``y = ∇f(x) − ∇f(x_previous)`` the long step is ``sᵀs/sᵀy``, the
short one ``sᵀy/yᵀy``: both are reciprocals of averages of the eigenvalues, so they lie in
[1/b, 1/a]. No bounds are needed, only a first step. Norms fall in the long run, not at every step,
and each step costs two inner products that must be finished before it can be taken.

References:
    Barzilai and Borwein, Two-point step size gradient methods (IMA J. Numer. Anal. 8, 1988).
    Raydan, On the Barzilai and Borwein choice of steplength (IMA J. Numer. Anal. 13, 1993).
"""

from __future__ import annotations

import math
from typing import Any, Generic, NamedTuple

from stepfold._typing import ArrayT
from stepfold.iterations.base import Iteration
from stepfold.problems import Problem
from stepfold.problems._rows import real_products, squares
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_upper
from stepfold.schedules.constant import inverse_upper_bound_steps
from stepfold.spectrum import SpectralBounds


class Secant(NamedTuple, Generic[ArrayT]):
    """State of `BarzilaiBorwein`: an iterate, the one before and the gradient there."""

    x: ArrayT
    previous: ArrayT | None
    previous_gradient: ArrayT | None


class BarzilaiBorwein(Iteration[Secant[ArrayT], ArrayT]):
    """``x ← x − γ ∇f(x)`` with γ from the last move; each row of a batch has its own.

    The schedule's step is the first one, and stands in where a row has not moved.

    Args:
        short: Whether to take the short step ``sᵀy/yᵀy``; else the long one ``sᵀs/sᵀy``.
        bounds: Interval [a, b] of the eigenvalues; steps outside [1/b, 1/a], which only rounding
            can produce, are moved to its ends.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Barzilai and Borwein, Two-point step size gradient methods (IMA J. Numer. Anal. 8, 1988).

    >>> from stepfold import Quadratic
    >>> problem = Quadratic(np.array([[2.0]]), np.array([2.0]))
    >>> method = BarzilaiBorwein()
    >>> state = method.step(problem, method.init(problem, np.zeros(1)), 0.1)
    >>> method.step(problem, state, 0.1).x  # one move tells the curvature of one variable
    array([1.])
    """

    takes_gradient = True

    def __init__(self, *, short: bool = False, bounds: SpectralBounds | None = None) -> None:
        self.short = short
        self._range = (0.0, math.inf)
        if bounds is not None:
            check_upper("BarzilaiBorwein", bounds)
            longest = 1 / bounds.lower if bounds.lower > 0 else math.inf
            self._range = (1 / bounds.upper, longest)

    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> Secant[ArrayT]:
        """The start; there is no move yet."""
        return Secant(x0, None, None)

    def step(
        self,
        problem: Problem[ArrayT],
        state: Secant[ArrayT],
        gamma: Any,
        gradient: ArrayT | None = None,
    ) -> Secant[ArrayT]:
        """``x − γ·gradient``; ``gamma`` is taken for γ in the first step only."""
        x = state.x
        slope: Any = problem.gradient(x) if gradient is None else gradient
        if state.previous is not None and state.previous_gradient is not None:
            gamma = self._size(x - state.previous, slope - state.previous_gradient, gamma)
        return Secant(x - gamma * slope, x, slope)

    def _size(self, move: Any, change: Any, gamma: Any) -> Any:
        # Divided by their largest entries, or the squares of a last small move underflow. A row
        # that has not moved is divided by 1.
        length, height = (abs(rows).max() for rows in (move, change))
        move = move / (length + (length == 0))
        change = change / (height + (height == 0))
        slope = real_products(move, change)
        above, below = (
            (slope, squares(change).sum(-1)) if self.short else (squares(move).sum(-1), slope)
        )
        # Booleans keep the rule free of branches: the same line serves arrays, batches and tensors.
        usable = slope > 0
        unit = (length + (length == 0)) / (height + (height == 0))
        size = usable * unit * above / (below + ~usable) + ~usable * (0 * above + gamma)
        size = size.clip(*self._range)
        return size[:, None] if move.ndim == 2 else size

    def iterate(self, state: Secant[ArrayT]) -> ArrayT:
        """x."""
        return state.x


def barzilai_borwein(
    bounds: SpectralBounds, period: int = 8, *, short: bool = False
) -> tuple[Schedule, BarzilaiBorwein[Any]]:
    """Barzilai and Borwein's method with a first step that is safe for ``bounds``, for `solve`.

    Args:
        bounds: Interval [a, b], in units of the Hessian; a may be 0.
        period: Steps between two looks at the gradient norm, which does not fall at every step.
        short: Whether to take the short steps.

    Returns:
        A schedule of ``period`` equal steps ``1/b``, of which the first counts, and the
        iteration.

    Raises:
        ValueError: If ``bounds.upper`` is 0.

    References:
        Barzilai and Borwein, Two-point step size gradient methods (IMA J. Numer. Anal. 8, 1988).

    >>> from stepfold import LeastSquares, solve
    >>> problem = LeastSquares(np.diag([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    >>> schedule, iteration = barzilai_borwein(SpectralBounds(1.0, 9.0))
    >>> solve(problem, schedule, iteration=iteration).x.round(6)
    array([1., 1., 1.])
    """
    check_upper("barzilai_borwein", bounds)
    steps = inverse_upper_bound_steps(bounds, period).steps
    return Schedule(steps, "Barzilai–Borwein"), BarzilaiBorwein(short=short, bounds=bounds)
