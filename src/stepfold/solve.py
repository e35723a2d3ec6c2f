"""The loop: cycle a schedule through an iteration until the gradient is small.

The gradient norm is looked at where a period ends, never inside: there a Chebyshev iterate may be
far from the solution on purpose, and a norm is a reduction that a known step does not need. The
gradient that a check computes is the one that the next step takes, so checks cost no product.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._checks import check_count
from stepfold._typing import ArrayT, FloatArray
from stepfold.iterations import GradientDescent, Iteration
from stepfold.problems import Problem
from stepfold.problems.base import check_rows
from stepfold.result import History, Result, Status
from stepfold.schedules import Schedule

# A period that converges lowers the norm. After this many period ends without a new minimum, and a
# third of all, only rounding is left. The fraction is for iterations with momentum, whose norm may
# rise and swing for about √κ steps; a norm above that of the start is no stall at all. Nor is one
# that rises every time: without rounding the squared norms at period ends, ∑ cᵢ p(λᵢ)²ᵏ, are a
# convex sequence, which rises on once it rises.
STALLED_AFTER = 10
STALLED_FRACTION = 1 / 3
# Growth of the norm over that of the start beyond which no recovery is in sight.
DIVERGED_BEYOND = 1e8


def solve(
    problem: Problem[ArrayT],
    schedule: Schedule,
    x0: ArrayT | None = None,
    *,
    iteration: Iteration[Any, ArrayT] | None = None,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_steps: int = 10_000,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Minimise with known step sizes: no momentum, no inner products inside a period.

    Args:
        problem: What to minimise.
        schedule: Step sizes; they repeat with their period T.
        x0: Start, shape (n,) or (batch, n); 0 if not given.
        iteration: What a step does; `GradientDescent` if not given.
        rtol: Stop when ‖∇f(x)‖ ≤ max(``rtol``·‖∇f(0)‖, ``atol``), for each row of a batch. Where
            ∇f(0) is 0 the gradient at ``x0`` takes its place.
        atol: See ``rtol``.
        max_steps: Budget; rounded up to whole periods, because an iterate inside a period means
            nothing.
        callback: Called as ``callback(t, x)`` after each step t = 1, 2, …; for watching.

    Returns:
        The best iterate at a period end, a status with advice, and the history. A run that does not
        converge is a result, not an exception.

    Raises:
        TypeError: If ``problem`` is not a `Problem`, ``schedule`` not a `Schedule`, or ``x0`` not
            an array.
        ValueError: If ``x0`` does not fit, a tolerance is negative, or ``max_steps`` is negative.

    >>> from stepfold import LeastSquares, chebyshev_steps, estimate_bounds
    >>> problem = LeastSquares(np.diag([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    >>> result = solve(problem, chebyshev_steps(estimate_bounds(problem.hessian), 8))
    >>> result.status.name, result.num_steps, result.x.round(6)
    ('CONVERGED', 32, array([1., 1., 1.]))
    """
    if not isinstance(problem, Problem):
        raise TypeError(
            f"`problem` must be a Problem, got {type(problem).__name__}; "
            "pose it as `LeastSquares(matrix, rhs)` or `Quadratic(matrix, rhs)`"
        )
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"`schedule` must be a Schedule, got {type(schedule).__name__}; "
            "wrap step sizes as `Schedule(steps)`"
        )
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"`{name}` must be at least 0 and finite, got {tolerance!r}")
    max_steps = check_count("max_steps", max_steps, minimum=0)
    iteration = GradientDescent() if iteration is None else iteration
    linear_term: Any = problem.linear_term
    if x0 is None:
        x0 = 0 * linear_term
    else:
        x0 = check_rows("x0", x0, linear_term.shape[-1], "the problem")
        if x0.shape != linear_term.shape:
            raise ValueError(
                f"`x0` must have the shape of the solution, {tuple(linear_term.shape)}, "
                f"got {tuple(x0.shape)}"
            )
        # A copy: the result may be the start, and must not share memory with the caller's.
        x0 = 1 * x0
    run = _Run(problem, x0, rtol, atol, _norms(linear_term))
    state = iteration.init(problem, x0)
    steps = list(schedule)
    # An iterate that diverges overflows on the way to the check that says so.
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            while not run.check(iteration.iterate(state)) and run.num_steps < max_steps:
                known = run.gradient
                for gamma in steps:
                    state = iteration.step(problem, state, gamma, known)
                    known = None
                    run.num_steps += 1
                    if callback is not None:
                        callback(run.num_steps, iteration.iterate(state))
        except KeyboardInterrupt:
            run.status = Status.INTERRUPTED
    return Result(run.best, run.status, run.num_steps, run.history(), schedule)


class _Run:
    """What a run has seen at period ends; decides when to stop."""

    def __init__(
        self, problem: Problem[Any], x0: Any, rtol: float, atol: float, reference: FloatArray
    ) -> None:
        self.problem = problem
        self.best = x0
        self.gradient: Any = None
        self.num_steps = 0
        self.status = Status.BUDGET
        self._rtol, self._atol, self._reference = rtol, atol, reference
        self._start = time.perf_counter()
        self._checks: list[tuple[int, FloatArray, int, float]] = []
        self._best_norm = math.inf
        self._since_best = 0
        self._last_norm = math.inf
        self._rising = 0

    def check(self, x: Any) -> bool:
        """Record the gradient norm at ``x`` and say whether the run is over."""
        self.gradient = self.problem.gradient(x)
        norms = _norms(self.gradient)
        # The gradient of each check serves the next step too.
        num_products = self.problem.products_per_gradient * (self.num_steps + 1)
        seconds = time.perf_counter() - self._start
        self._checks.append((self.num_steps, norms, num_products, seconds))
        start = self._checks[0][1]
        reference = np.where(self._reference > 0, self._reference, start)
        # Rows of a batch are judged each on its own scale, or noise of one would hide progress of
        # another.
        scale = np.where(reference > 0, reference, 1.0)
        first, worst = float(np.max(start / scale)), float(np.max(norms / scale))
        patience = max(STALLED_AFTER, STALLED_FRACTION * len(self._checks))
        self._rising = self._rising + 1 if worst > self._last_norm else 0
        self._last_norm = worst
        if worst < self._best_norm:
            self.best, self._best_norm, self._since_best = x, worst, 0
        else:
            self._since_best += 1
        if np.all(norms <= np.maximum(self._rtol * reference, self._atol)):
            self.best, self.status = x, Status.CONVERGED
        elif not worst <= DIVERGED_BEYOND * first:
            self.status = Status.DIVERGED
        elif self._since_best >= patience and worst <= first and self._rising < STALLED_AFTER:
            self.status = Status.STALLED
        else:
            return False
        return True

    def history(self) -> History:
        """Return everything recorded."""
        # Empty if the run was interrupted before its first gradient was done.
        columns = zip(*self._checks, strict=True) if self._checks else ([], [], [], [])
        num_steps, norms, num_products, seconds = columns
        return History(
            np.array(num_steps, dtype=np.int64),
            np.array(norms),
            np.array(num_products, dtype=np.int64),
            np.array(seconds),
        )


def _norms(rows: Any) -> FloatArray:
    """Euclidean norm of a vector, shape (), or of each row of a batch, without overflow."""
    peak = float(abs(rows).max())
    if peak == 0 or not math.isfinite(peak):
        peak = 1.0
    scaled = rows / peak  # not times 1 / peak, which overflows float32 for a subnormal peak
    squares: Any = (scaled * scaled).sum(-1)
    return peak * np.sqrt(np.asarray(squares.tolist(), dtype=np.float64))
