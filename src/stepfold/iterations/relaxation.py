"""Relaxation of a fixed-point iteration, ``x ← x + ωₜ(f(x) − x)``.

With ωₜ the Chebyshev steps of the spectrum of ``I − J``, J the Jacobian at the fixed point, this is
the periodical successive over-relaxation of Wadayama and Takabe (arXiv:2001.03280).
"""

from __future__ import annotations

from typing import Any

from stepfold._typing import ArrayT
from stepfold.iterations.base import Stateless
from stepfold.problems.fixed_point import FixedPoint, relaxed


class Relaxation(Stateless[ArrayT]):
    """``x ← x + ω(f(x) − x)`` on a `FixedPoint`; the state is x itself.

    >>> from stepfold.problems.fixed_point import FixedPoint
    >>> Relaxation().step(FixedPoint(np.cos), np.array([0.0]), 0.5)
    array([0.5])
    """

    steps_on = "map"
    takes_gradient = True

    def step(  # type: ignore[override]
        self, problem: FixedPoint[ArrayT], state: ArrayT, gamma: Any, gradient: ArrayT | None = None
    ) -> ArrayT:
        """``x + gamma·(f(x) − x)``; ``gradient`` is minus the residual ``f(x) − x``, if known."""
        if gradient is None:
            return problem.relaxation_step(state, gamma)
        return relaxed(state, -gamma, gradient)
