"""Proximal gradient ``x ← prox_{γg}(x − γ∇f(x))``, ISTA where g is the L1 norm.

References:
    Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems
    (SIAM J. Imaging Sci. 2, 2009), section 2.
"""

from __future__ import annotations

from typing import Any

from stepfold._typing import ArrayT
from stepfold.iterations.base import Stateless, gradient_step
from stepfold.problems import Problem
from stepfold.problems.penalties import Penalty
from stepfold.problems.penalties.base import check_penalty


class ProximalGradient(Stateless[ArrayT]):
    """``x ← prox_{γg}(x − γ∇f(x))``; the state is x itself.

    Args:
        penalty: g.

    References:
        Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse
        problems (SIAM J. Imaging Sci. 2, 2009), section 2.

    >>> from stepfold import Quadratic
    >>> from stepfold.problems.penalties import L1
    >>> problem = Quadratic(np.diag([2.0, 1.0]), np.array([2.0, 3.0]))
    >>> ProximalGradient(L1(1.0)).step(problem, np.zeros(2), 0.5)
    array([0.5, 1. ])
    """

    steps_on = "penalty"
    takes_gradient = True

    def __init__(self, penalty: Penalty) -> None:
        self.penalty = check_penalty(penalty)

    def step(
        self, problem: Problem[ArrayT], state: ArrayT, gamma: Any, gradient: ArrayT | None = None
    ) -> ArrayT:
        """One gradient step on f, then one proximal step on g, of the same size."""
        return self.penalty.prox(gradient_step(problem, state, gamma, gradient), gamma)
