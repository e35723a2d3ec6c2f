"""FISTA: the proximal gradient step from an extrapolated point, with adaptive restart.

``x⁺ = prox_{γg}(y − γ∇f(y))``, ``y⁺ = x⁺ + (tₖ − 1)/tₖ₊₁ (x⁺ − x)``, with
``tₖ₊₁ = (1 + √(1 + 4tₖ²))/2``. The momentum that is right for no strong convexity overshoots where
there is some, in waves. It is dropped whenever it points uphill, ``Re (y − x⁺)ᴴ(x⁺ − x) > 0``,
which costs no product and, near the solution, comes close to the rate of the best constant momentum
without knowing the lower bound.

References:
    Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems
    (SIAM J. Imaging Sci. 2, 2009), section 4. O'Donoghue and Candès, Adaptive restart for
    accelerated gradient schemes (Found. Comput. Math. 15, 2015), section 3.2 (the gradient scheme)
    and section 5.2 (proximal methods).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple

from stepfold._arrays import take
from stepfold._typing import ArrayT
from stepfold.iterations.base import Iteration
from stepfold.problems import Problem
from stepfold.problems._rows import real_products
from stepfold.problems.penalties import Penalty
from stepfold.problems.penalties.base import check_penalty


class Extrapolated(NamedTuple, Generic[ArrayT]):
    """State of `Fista`."""

    point: ArrayT
    """y, where the next gradient is taken."""
    x: ArrayT
    """Where the last proximal step ended."""
    weight: Any
    """tₖ, shape (1,) or (batch, 1); 1 at the start and after a restart."""


class Fista(Iteration[Extrapolated[ArrayT], ArrayT]):
    """Accelerated proximal gradient with restart; the iterate is x, where proximal steps end.

    Args:
        penalty: g.
        restart: Whether momentum that points uphill is dropped; each row of a batch by itself.

    References:
        Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse
        problems (SIAM J. Imaging Sci. 2, 2009), section 4; O'Donoghue and Candès, Adaptive restart
        for accelerated gradient schemes (Found. Comput. Math. 15, 2015), section 3.2.

    >>> from stepfold import Quadratic
    >>> from stepfold.problems.penalties import L1
    >>> method, problem = Fista(L1(1.0)), Quadratic(np.diag([2.0, 1.0]), np.array([2.0, 3.0]))
    >>> state = method.step(problem, method.init(problem, np.zeros(2)), 0.5)
    >>> method.iterate(method.step(problem, state, 0.5))
    array([0.5, 1.5])
    """

    steps_on = "penalty"

    def __init__(self, penalty: Penalty, *, restart: bool = True) -> None:
        self.penalty = check_penalty(penalty)
        self.restart = restart

    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> Extrapolated[ArrayT]:
        """The start, as both points."""
        start: Any = x0
        return Extrapolated(x0, x0, 0 * abs(start[..., :1]) + 1.0)

    def step(
        self,
        problem: Problem[ArrayT],
        state: Extrapolated[ArrayT],
        gamma: Any,
        gradient: ArrayT | None = None,
    ) -> Extrapolated[ArrayT]:
        """A proximal gradient step from y, then a share of the move.

        ``gradient``, at the iterate, is of no use here: steps start from y. With a separable
        penalty ``gamma`` may hold a step for each entry, which are proximal steps in other units.
        """
        point, before, weight = state
        scaled = getattr(gamma, "ndim", 0) > 0 and gamma.shape[-1] > 1
        moved: Any
        moved = (
            point - gamma * problem.gradient(point)
            if scaled
            else problem.gradient_step(point, gamma)
        )
        x: Any = self.penalty.prox(moved, gamma)
        move = x - before
        grown = (1 + (1 + 4 * weight * weight) ** 0.5) / 2
        share = (weight - 1) / grown
        if self.restart:
            uphill = (point - x) / gamma if scaled else point - x
            kept = 0 * weight + (real_products(uphill, move)[..., None] <= 0)
            share = kept * share
            grown = kept * grown + (1 - kept)
        return Extrapolated(x + share * move, x, grown)

    def iterate(self, state: Extrapolated[ArrayT]) -> ArrayT:
        """x."""
        return state.x

    def rows_of(self, state: Extrapolated[ArrayT], places: Sequence[int]) -> Extrapolated[ArrayT]:
        """Some rows of both points and of the weights."""
        return Extrapolated(*(take(part, places) for part in state))
