"""The loop: cycle a schedule through an iteration until the gradient is small.

The gradient norm is looked at where a period ends, never inside: there a Chebyshev iterate may be
far from the solution on purpose, and a norm is a reduction that a known step does not need. The
gradient that a check computes is the one that the next step takes, so checks cost no product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._checks import check_callable, check_count, check_nonnegative
from stepfold._typing import ArrayT
from stepfold.iterations import (
    Fista,
    GradientDescent,
    Iteration,
    ProximalGradient,
    Relaxation,
)
from stepfold.problems import Composite, Preconditioned, Problem
from stepfold.result import Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.composite import solve_composite
from stepfold.solve.guard import Guard, watch_for
from stepfold.solve.norms import norms
from stepfold.solve.record import Criteria, Record
from stepfold.solve.run import Run
from stepfold.solve.start import check_start, check_untracked, linear_term_of
from stepfold.solve.sweep import check_low_precision
from stepfold.solve.thinned import Thinned

__all__ = ["Guard", "solve", "solve_composite"]

DEFAULT_GUARD = Guard()
DEFAULT_RTOL = 1e-8


def solve(
    problem: Problem[ArrayT],
    schedule: Schedule,
    x0: ArrayT | None = None,
    *,
    iteration: Iteration[Any, ArrayT] | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    error_rtol: float | None = None,
    max_steps: int = 10_000,
    max_products: int | None = None,
    max_seconds: float | None = None,
    guard: Guard | None = DEFAULT_GUARD,
    low_precision: Problem[Any] | None = None,
    keep_iterates: bool = False,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Minimise with known step sizes: no momentum, no inner products inside a period.

    Args:
        problem: What to minimise.
        schedule: Step sizes; they repeat with their period T.
        x0: Start, shape (n,) or (batch, n); 0 if not given.
        iteration: What a step does; `GradientDescent` if not given.
        rtol: Stop when ‖∇f(x)‖ ≤ max(``rtol``·‖∇f(0)‖, ``atol``), for each row of a batch by
            itself: rows that are done leave the sweep. Where ∇f(0) is 0 the gradient at ``x0``
            takes its place. 1e-8 if not given, or no limit if ``error_rtol`` is given instead.
        atol: See ``rtol``.
        error_rtol: Stop when ‖x − x*‖ ≤ ``error_rtol``·‖x*‖ is certain, as it is if
            ‖∇f(x)‖/a ≤ ``error_rtol``·(‖x‖ − ‖∇f(x)‖/a); needs a lower bound a > 0, of the guard
            or of the schedule. If ``rtol`` is given too, both must hold.
        max_steps: Budget; rounded up to whole periods, because an iterate inside a period means
            nothing.
        max_products: Budget of products with the operator or its transpose, never exceeded by a
            period: one that does not fit is not begun.
        max_seconds: Budget of time; a period is not begun that would exceed it if it took as long
            as the longest so far.
        guard: What to do about bounds that are wrong; None to trust them. With bounds that are
            right it changes no iterate. It works with `GradientDescent` only.
        low_precision: The same problem with its data in fewer bits (float32, or bfloat16 of torch;
            its right-hand side is not looked at). Steps are taken on that; at period ends the
            gradient is computed with ``problem``, and the accuracy reached is that of
            ``problem``'s dtype, provided that κ times the epsilon of the low one is well below 1.
        keep_iterates: Whether the history keeps x at every period's end.
        callback: Called as ``callback(t, x)`` after each step t = 1, 2, …; for watching.

    Returns:
        The best iterate at a period end, a status with advice, and the history. A run that does not
        converge is a result, not an exception.

    Raises:
        TypeError: If ``problem`` is not a `Problem`, ``schedule`` not a `Schedule`, or ``x0`` not
            an array.
        ValueError: If ``x0`` does not fit, a tolerance or a budget is negative, a tensor requires
            derivatives, or an argument asks for what the iteration or the bounds cannot give.

    >>> from stepfold import LeastSquares, chebyshev_steps, estimate_bounds
    >>> problem = LeastSquares(np.diag([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    >>> result = solve(problem, chebyshev_steps(estimate_bounds(problem), 8))
    >>> result.status.name, result.num_steps, result.x.round(6)
    ('CONVERGED', 32, array([1., 1., 1.]))
    """
    if isinstance(problem, Composite):
        raise TypeError(
            "`problem` must be a Problem, got Composite; what has a penalty is minimised by "
            "`solve_composite(composite)`"
        )
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
    iteration = GradientDescent() if iteration is None else iteration
    _check_iteration(iteration)
    check_callable("callback", callback)
    if guard is not None and not isinstance(guard, Guard):
        raise TypeError(f"`guard` must be a Guard or None, got {guard!r}")
    if type(iteration) is not GradientDescent:
        if guard is not None and guard is not DEFAULT_GUARD:
            raise ValueError(
                "`guard` must be None unless the iteration is GradientDescent, got a Guard with "
                f"{type(iteration).__name__}: another iteration has another polynomial"
            )
        guard = None
    if low_precision is not None:
        check_low_precision(problem, low_precision, iteration)
    criteria = _criteria(rtol, atol, error_rtol, max_steps, max_products, max_seconds)
    watch = watch_for(guard, schedule)
    bounds = schedule.bounds if watch is None else watch.bounds
    if error_rtol is not None and isinstance(problem, Preconditioned):
        raise ValueError(
            "`error_rtol` needs a symmetric Hessian, got a Preconditioned problem: there the "
            "gradient bounds the error in the norm of M only; take `rtol`"
        )
    if error_rtol is not None and (bounds is None or bounds.lower == 0):
        raise ValueError(
            "`error_rtol` needs a lower bound above 0 of the spectrum, got none; take a schedule "
            "that was made for bounds, or `guard=Guard(bounds)`"
        )
    linear_term: Any = linear_term_of(problem)
    check_untracked(problem, linear_term, x0)
    begin = _start(x0, linear_term)
    lower = bounds.lower if bounds is not None and bounds.lower > 0 else None
    if isinstance(problem, Preconditioned):
        lower = None
    record = Record(criteria, begin[0], norms(linear_term), lower)
    # A gradient costs one product more than the linear term: Aᵀ(Ax − b) beside Aᵀb.
    record.num_products = problem.products_per_gradient - 1
    if keep_iterates:
        record.iterates = Thinned(len(record.statuses))  # in step with the checks
    run = Run(problem, schedule, iteration, record, watch, callback, low_precision, begin)
    # Vectors that the run has let go of must not live on here.
    del linear_term, begin
    # An iterate that diverges overflows on the way to the check that says so.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            run.go()
        except KeyboardInterrupt:
            record.stop(Status.INTERRUPTED)
    return run.result()


def _check_iteration(iteration: Any) -> None:
    if not isinstance(iteration, Iteration):
        got = f"class {iteration.__name__}" if isinstance(iteration, type) else repr(iteration)
        raise TypeError(
            f"`iteration` must be an Iteration, got {got}; give an instance, as `GradientDescent()`"
        )
    if isinstance(iteration, Relaxation):
        raise TypeError(
            "`iteration` must step on problems, got Relaxation, which steps on fixed points; "
            "find those by `accelerate(map, x0)`"
        )
    if isinstance(iteration, (Fista, ProximalGradient)):
        raise TypeError(
            f"`iteration` must have no penalty, got {type(iteration).__name__}; minimise by "
            "`solve_composite(Composite(problem, penalty))`"
        )


def _criteria(
    rtol: float | None,
    atol: float,
    error_rtol: float | None,
    max_steps: int,
    max_products: int | None,
    max_seconds: float | None,
) -> Criteria:
    for name, tolerance in (("rtol", rtol), ("atol", atol), ("error_rtol", error_rtol)):
        if tolerance is not None or name == "atol":
            check_nonnegative(name, tolerance)
    max_steps = check_count("max_steps", max_steps, minimum=0)
    if max_products is not None:
        max_products = check_count("max_products", max_products, minimum=0)
    if max_seconds is not None:
        check_nonnegative("max_seconds", max_seconds, allow_infinite=True)
    if rtol is None:
        rtol = DEFAULT_RTOL if error_rtol is None else math.inf
    return Criteria(rtol, atol, error_rtol, max_steps, max_products, max_seconds)


def _start(x0: Any, linear_term: Any) -> tuple[Any, Any]:
    """The start, and the gradient there if it is known."""
    if x0 is None:
        # At 0 the gradient is minus the linear term: no product needs to be made.
        return 0 * linear_term, -linear_term
    # A copy: the result may be the start, and must not share memory with the caller's.
    return 1 * check_start(x0, linear_term), None
