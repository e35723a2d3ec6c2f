"""Gradient descent ``x ← x − γₜ ∇f(x)``, also called Richardson's or Landweber's iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepfold._arrays import take
from stepfold._typing import ArrayT
from stepfold.iterations.base import Iteration, gradient_step
from stepfold.problems import Problem


class GradientDescent(Iteration[ArrayT, ArrayT]):
    """``x ← x − γₜ ∇f(x)``; the state is x itself.

    >>> from stepfold import Quadratic
    >>> problem = Quadratic(np.diag([2.0, 1.0]), np.array([2.0, 3.0]))
    >>> GradientDescent().step(problem, np.zeros(2), 0.5)
    array([1. , 1.5])
    """

    takes_gradient = True
    follows_schedule = True

    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> ArrayT:
        """The state is the iterate."""
        return x0

    def step(
        self, problem: Problem[ArrayT], state: ArrayT, gamma: Any, gradient: ArrayT | None = None
    ) -> ArrayT:
        """``x − gamma·gradient``."""
        return gradient_step(problem, state, gamma, gradient)

    def iterate(self, state: ArrayT) -> ArrayT:
        """The state."""
        return state

    def rows_of(self, state: ArrayT, places: Sequence[int]) -> ArrayT:
        """Some rows of the iterate."""
        rows: ArrayT = take(state, places)
        return rows
