"""Smooth problems, and those with a penalty: what runs, by a schedule or without one."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import all_finite, copy_of, norms
from stepfold.iterations import Fista, Iteration
from stepfold.problems import Composite, Problem, QuadraticProblem
from stepfold.result import Result
from stepfold.run.ledger import Terms
from stepfold.run.loop import Loop
from stepfold.run.measures import GradientNorm, ProximalStep
from stepfold.run.policies.cycle import Cycle
from stepfold.run.policies.proximal import Proximal
from stepfold.run.start import check_start, check_untracked, default_rtol, finished, finite_term
from stepfold.run.units import Units, check_range
from stepfold.schedules import Schedule

# Steps between two looks of FISTA, each of which costs about what a step does.
STEPS_PER_LOOK = 10


def run_smooth(
    problem: Problem[Any],
    schedule: Schedule | None,
    x0: Any,
    method: Iteration[Any, Any],
    terms: Terms,
) -> Result[Any]:
    """A smooth problem, by a schedule or by steps of one over its bound of curvature."""
    check_untracked(problem, None, x0)
    if schedule is None:
        bound = problem.curvature_bound
        if bound is None:
            raise ValueError(
                f"`schedule` must be given, got None: {type(problem).__name__} has no "
                "`curvature_bound` that steps could be made from"
            )
        steps = np.full(STEPS_PER_LOOK, 1 / bound if bound > 0 else 1.0)
        schedule = Schedule(steps, "constant")
    x, zero = _first_point(problem, x0)
    ledger = terms.ledger(x, problem.clock)
    reference = np.full(ledger.active.size, np.nan)
    if zero is not None and x0 is not None:
        reference = norms(problem.gradient(zero))
        ledger.num_products = problem.products_per_gradient
    rtol = default_rtol(x) if terms.rtol is None else terms.rtol
    measure = GradientNorm(rtol, terms.atol, None, reference)
    measure.upper = 1 / float(schedule.steps.min())
    loop = Loop(problem, measure, Cycle(schedule, method), ledger, terms.callback)
    loop.go(x)
    return finished(loop, Units(problem), problem)


def _first_point(problem: Problem[Any] | Composite[Any], x0: Any) -> tuple[Any, Any]:
    """The start and the point 0, or None where it is not known."""
    zero = problem.zero
    if zero is None and x0 is None:
        raise ValueError(
            f"`x0` must be given, got None: {type(problem).__name__} does not say what a solution "
            "looks like"
        )
    # A copy: the result may be the start, and must not share memory with the caller's.
    return zero if x0 is None else copy_of(x0 if zero is None else check_start(x0, zero)), zero


def run_composite(
    composite: Composite[Any],
    schedule: Schedule | None,
    x0: Any,
    iteration: Any,
    terms: Terms,
) -> Result[Any]:
    """A problem with a penalty: proximal steps, from 0 or from ``x0``."""
    if isinstance(composite.problem, QuadraticProblem):
        check_range(composite.problem)
        # 0 times what overflows is NaN.
        if not all_finite(composite.zero):
            finite_term(composite.problem)
    is_automatic = schedule is None and iteration is None
    spent_before = composite.products_on_bounds
    if schedule is None:
        schedule = Schedule(np.full(STEPS_PER_LOOK, composite.step), "constant")
    make = Fista if iteration is None else iteration
    method = make(composite.penalty) if callable(make) else make
    if not callable(make) or not isinstance(method, Iteration):
        raise TypeError(
            f"`iteration` must make an Iteration from a penalty, got {type(method).__name__}; "
            "give `Fista` or `ProximalGradient` itself, not an instance"
        )
    problem = composite.problem
    check_untracked(problem, None, x0)
    x, zero = _first_point(composite, x0)
    rtol = terms.rtol
    if rtol is None and terms.gap_rtol is None and not (terms.atol or terms.gap_atol):
        rtol = default_rtol(x)
    steps: Any = composite.steps if is_automatic else float(schedule.steps[-1])
    upper = composite.scaled_upper if is_automatic else 1 / steps
    asked = rtol, terms.atol, terms.gap_rtol, terms.gap_atol
    measure = ProximalStep(composite, steps, upper, *asked)
    if measure.on_gap and not composite.has_gap:
        raise ValueError(
            f"`gap_rtol` and `gap_atol` need a duality gap, and none is known for "
            f"{type(composite.penalty).__name__} on {type(composite.problem).__name__}; give "
            "`rtol`, or add a ridge term to least squares"
        )
    ledger = terms.ledger(x, problem.clock)
    policy = Proximal(composite, measure) if is_automatic else Cycle(schedule, method)
    loop = Loop(problem, measure, policy, ledger, terms.callback)
    if isinstance(problem, QuadraticProblem):
        ledger.num_products = problem.products_per_gradient - 1  # those of the linear term
    ledger.num_products += composite.products_on_bounds - spent_before
    loop.go(x, zero=None if x0 is None else zero)
    return finished(loop, Units(problem), problem)
