"""Gradient descent ``x ← x − γₜ ∇f(x)``, also called Richardson's or Landweber's iteration."""

from __future__ import annotations

from typing import Any

from stepfold._typing import ArrayT
from stepfold.iterations.base import Stateless, gradient_step
from stepfold.problems import Problem


class GradientDescent(Stateless[ArrayT]):
    """``x ← x − γₜ ∇f(x)``; the state is x itself.

    >>> from stepfold import Quadratic
    >>> problem = Quadratic(np.diag([2.0, 1.0]), np.array([2.0, 3.0]))
    >>> GradientDescent().step(problem, np.zeros(2), 0.5)
    array([1. , 1.5])
    """

    takes_gradient = True
    follows_schedule = True

    def step(
        self, problem: Problem[ArrayT], state: ArrayT, gamma: Any, gradient: ArrayT | None = None
    ) -> ArrayT:
        """``x − gamma·gradient``."""
        return gradient_step(problem, state, gamma, gradient)
