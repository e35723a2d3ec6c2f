"""The loop for composite objectives: proximal steps until the duality gap or the step is small.

What a check looks at costs one gradient at the iterate: ``‖x − prox_{γg}(x − γ∇f(x))‖/γ``, the
gradient norm where there is no penalty, and the duality gap where one is known. Checks are made at
the end of each period of the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._checks import check_callable, check_count, check_nonnegative, dtype_kind
from stepfold._typing import ArrayT
from stepfold.iterations import Fista, Iteration
from stepfold.problems import Composite
from stepfold.problems.penalties import Penalty
from stepfold.result import Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.composite_run import CompositeRun, Limits, Tolerances
from stepfold.solve.start import check_start, check_untracked, linear_term_of

DEFAULT_RTOL = 1e-8
# Steps between two checks, each of which costs about what a step does.
STEPS_PER_CHECK = 10


def solve_composite(
    composite: Composite[ArrayT],
    schedule: Schedule | None = None,
    x0: ArrayT | None = None,
    *,
    iteration: Callable[[Penalty], Iteration[Any, ArrayT]] = Fista,
    rtol: float | None = None,
    atol: float = 0.0,
    gap_rtol: float | None = None,
    gap_atol: float = 0.0,
    max_steps: int = 10_000,
    max_products: int | None = None,
    max_seconds: float | None = None,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Minimise ``f + g`` by proximal steps.

    Args:
        composite: What to minimise.
        schedule: Step sizes, below 2/b for the upper bound b of the Hessian (for `Fista` at most
            1/b); ten steps 1/b if not given. Checks are made at the end of each period.
        x0: Start, shape (n,) or (batch, n); 0 if not given.
        iteration: From the penalty to what a step does: `Fista` or `ProximalGradient`, or a
            function such as ``lambda g: Fista(g, restart=False)``.
        rtol: Stop when ``‖x − prox_{γg}(x − γ∇f(x))‖/γ ≤ max(rtol·(that at 0), atol)``, γ the last
            step of a period; 1e-8 if no tolerance on the gap is given. Each row of a batch by
            itself: rows that are done leave the sweep.
        atol: See ``rtol``.
        gap_rtol: Stop when the duality gap is at most ``max(gap_rtol·(objective at 0), gap_atol)``.
            If ``rtol`` is given too, both must hold.
        gap_atol: See ``gap_rtol``.
        max_steps: Budget; rounded up to whole periods.
        max_products: Budget of products; a period that does not fit is not begun.
        max_seconds: Budget of time; no period is begun after it.
        callback: Called as ``callback(t, x)`` after each step t = 1, 2, …; for watching.

    Returns:
        The best iterate at a check, by the measure that is stopped on, row by row; a status with
        advice; and the history, whose ``gradient_norms`` are the measure of ``rtol``, and whose
        ``gaps`` the duality gaps, None where none is known. Each row of a batch has a status of
        its own, and one that diverges or stalls does not end the others.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``x0`` does not fit, a tolerance or a budget is negative, or a tolerance on
            the gap is given where no gap is known.

    >>> from stepfold import lasso
    >>> result = solve_composite(lasso(np.diag([2.0, 1.0]), np.array([3.0, 0.5]), weight=1.0))
    >>> result.status.name, result.x.round(6)
    ('CONVERGED', array([1.25, 0.  ]))
    """
    if not isinstance(composite, Composite):
        raise TypeError(
            f"`composite` must be a Composite, got {type(composite).__name__}; "
            "pose it as `Composite(problem, penalty)`; without a penalty use `solve`"
        )
    if schedule is None:
        schedule = Schedule(np.full(STEPS_PER_CHECK, composite.step), "constant")
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"`schedule` must be a Schedule, got {type(schedule).__name__}; "
            "wrap step sizes as `Schedule(steps)`"
        )
    check_callable("callback", callback)
    method = iteration(composite.penalty) if callable(iteration) else iteration
    if not callable(iteration) or not isinstance(method, Iteration):
        raise TypeError(
            f"`iteration` must make an Iteration from a penalty, got {type(method).__name__}; "
            "give `Fista` or `ProximalGradient` itself, not an instance"
        )
    tolerances = {"rtol": rtol, "atol": atol, "gap_rtol": gap_rtol, "gap_atol": gap_atol}
    for name, tolerance in tolerances.items():
        if tolerance is not None or name.endswith("atol"):
            check_nonnegative(name, tolerance)
    if rtol is None and gap_rtol is None and atol == gap_atol == 0:
        rtol = DEFAULT_RTOL
    asked = Tolerances(rtol, atol, gap_rtol, gap_atol)
    if asked.on_gap and not composite.has_gap:
        raise ValueError(
            f"`gap_rtol` and `gap_atol` need a duality gap, and none is known for "
            f"{type(composite.penalty).__name__} on {type(composite.problem).__name__}; give "
            "`rtol`, or add a ridge term to least squares"
        )
    if max_seconds is not None:
        check_nonnegative("max_seconds", max_seconds, allow_infinite=True)
    if max_products is not None:
        max_products = check_count("max_products", max_products, minimum=0)
    limits = Limits(
        check_count("max_steps", max_steps, minimum=0),
        math.inf if max_products is None else max_products,
        math.inf if max_seconds is None else max_seconds,
    )
    linear_term: Any = linear_term_of(composite)
    check_untracked(composite.problem, linear_term, x0)
    zero = start = 0 * linear_term
    if x0 is not None:
        # A copy: the result may be the start, and must not share memory with the caller's.
        start = 1 * check_start(x0, zero)
        if dtype_kind(start.dtype) == "c":
            raise TypeError(
                f"`x0` must be real, as the problem is, got dtype {start.dtype}; pass `x0.real`"
            )
    run = CompositeRun(composite, schedule, method, asked, limits, callback, start)
    # An iterate that diverges overflows on the way to the check that says so.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            run.go(zero, from_zero=x0 is None)
        except KeyboardInterrupt:
            run.stop(Status.INTERRUPTED)
    return run.result()
