"""Which schedule, which period, how many products, how sure, and when another tool is better.

The gradient after one period is ``p(A)`` times the gradient before it, so ``max |p|`` over the
bounds says, in the worst case, how many periods a tolerance takes. Where that is hopeless and all
eigenvectors can be computed, the number of periods is that of the right-hand side. Conjugate
gradients choose the best polynomial for it and need no bounds; a plan says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from stepfold._checks import check_period, check_share
from stepfold._codec import JsonRecord
from stepfold._show import Shown, counted, drawing, lines
from stepfold.planner.bounds import relevant_bounds
from stepfold.planner.choice import HOPELESS, choose, narrowest_dtype, reasons
from stepfold.planner.multigrid import multigrid_advice
from stepfold.planner.other_tools import Alternative, alternatives
from stepfold.planner.periods import LONGEST_PERIOD, PERIOD_WITHOUT_LOWER, shortest_good_period
from stepfold.problems import QuadraticProblem
from stepfold.schedules import Schedule
from stepfold.spectrum import Certainty, SpectralBounds
from stepfold.spectrum.bounds import check_bounds

__all__ = [
    "HOPELESS",
    "LONGEST_PERIOD",
    "PERIOD_WITHOUT_LOWER",
    "Alternative",
    "Plan",
    "plan",
    "relevant_bounds",
    "shortest_good_period",
]


MOST_ADVICE = 2
"""Sentences that a printed plan has; `Plan.advice` has all of them."""


@dataclass(frozen=True, eq=False)
class Plan(Shown, JsonRecord):
    """What to run, and what to expect of it.

    Args:
        schedule: Recommended steps, in a safe order.
        bounds: Interval that they are made for, with how reliable each end is.
        rtol: Tolerance on the norm of the gradient, relative to that at 0.
        num_steps: Steps to the tolerance: for this right-hand side where all eigenvectors were
            computed, else in the worst case over ``bounds``; infinite if neither is known.
        num_products: Products with the operator or its transpose that these steps take.
        dtype: Narrowest of "float32" and "float64" whose rounding leaves the tolerance in reach.
        advice: Sentences: how sure the plan is, and when another tool is better.
        alternatives: Other methods and what they take.
        is_worst_case: Whether ``num_steps`` holds for every right-hand side.

    >>> import numpy as np
    >>> from stepfold import LeastSquares
    >>> advice = plan(LeastSquares(np.diag([1.0, 3.0]), np.ones(2)), rtol=1e-6)
    >>> advice.schedule.name, advice.bounds.upper
    ('Chebyshev', 9.0)
    """

    schedule: Schedule
    bounds: SpectralBounds
    rtol: float
    num_steps: float = field(metadata={"null": math.inf})
    num_products: float = field(metadata={"null": math.inf})
    dtype: str
    advice: tuple[str, ...]
    alternatives: tuple[Alternative, ...]
    is_worst_case: bool = True

    def __str__(self) -> str:
        """Up to five lines: the steps, what they take, and the first of the advice.

        >>> print(plan(SpectralBounds(1.0, 100.0)).schedule.name)
        Chebyshev
        """
        takes = (
            "no number of steps is promised"
            if math.isinf(self.num_steps)
            else f"{counted(self.num_steps, 'step')}, {counted(self.num_products, 'product')} to a "
            f"gradient of {self.rtol:.3g} of that at 0, "
            + ("in the worst case" if self.is_worst_case else "for this right-hand side")
        )
        more = len(self.advice) - MOST_ADVICE
        return lines(
            (
                f"{self.schedule.name} steps, period {self.schedule.period}, {self.dtype}: {takes}",
                str(self.bounds).partition("\n")[0],
                *self.advice[:MOST_ADVICE],
                f"({counted(more, 'more sentence')} in `advice`)" if more > 0 else None,
            )
        )

    def _drawing(self) -> str:
        return drawing("The steps, in their order", self.schedule.steps)


def plan(
    problem: QuadraticProblem[Any] | SpectralBounds,
    *,
    rtol: float = 1e-6,
    period: int | None = None,
    bounds: SpectralBounds | None = None,
) -> Plan:
    """Recommend a schedule and say what to expect of it.

    Args:
        problem: What is to be solved from x0 = 0, or bounds alone.
        rtol: Tolerance on the norm of the gradient, relative to that at 0.
        period: T; chosen if not given: the shortest one with which at most a tenth
            more steps are taken than with one long period.
        bounds: Interval of the eigenvalues that matter; estimated if not given.

    Fourth-kind steps are recommended where no lower bound is known, and where the worst case of
    first-kind steps is hopeless or, with all eigenvectors known, worse for this right-hand side.
    Multigrid is named for sparse matrices of elliptic equations on which conjugate gradients would
    take more than about a thousand steps; up to 400 of them are made to tell.

    Raises:
        TypeError: If ``problem`` is neither a quadratic problem nor `SpectralBounds`, or
            ``bounds`` is neither `SpectralBounds` nor None.
        ValueError: If ``rtol`` does not lie between 0 and 1, or the operator is zero or not
            positive semidefinite.

    >>> advice = plan(SpectralBounds(1.0, 100.0), rtol=1e-6)
    >>> advice.schedule.period, advice.num_steps
    (38, 76)
    """
    check_share("rtol", rtol)
    if period is not None:
        period = check_period(period)
    check_bounds(bounds)
    notes: list[str] = []
    known: QuadraticProblem[Any] | None = None
    may_look = False
    if isinstance(problem, SpectralBounds):
        bounds = problem
    elif not isinstance(problem, QuadraticProblem):
        raise TypeError(
            "`problem` must be a problem with a Hessian (QuadraticProblem) or SpectralBounds, got "
            f"{type(problem).__name__}; pose a matrix as `LeastSquares(matrix, rhs)` or "
            "`Quadratic(matrix, rhs)`, or plan for `estimate_bounds(matrix)`"
        )
    else:
        known = problem
        if bounds is None:
            bounds, notes = relevant_bounds(problem)
            may_look = True
    if bounds.upper == 0:
        raise ValueError(
            "`bounds.upper` must be positive, got 0.0: the operator is zero; every x is a solution "
            "and no step has a best size"
        )
    per_step = 1 if known is None else known.products_per_gradient
    choice = choose(bounds, rtol, period, known if may_look else None)
    notes += reasons(choice, bounds) + _certainty(bounds)
    dtype = narrowest_dtype(choice.condition, rtol)
    if dtype == "none" and (bounds.lower > 0 or math.isfinite(choice.condition)):
        notes.append(
            "Rounding in float64 alone may keep the gradient above the tolerance "
            f"(κ = {bounds.condition_number:.3g}); use a preconditioner, a ridge term, or a "
            "direct method."
        )
    schedule, total = choice.schedule, choice.num_steps
    others = alternatives(known, bounds, rtol, total)
    if known is not None and known.sums_in_words:
        notes.insert(0, known.sums_in_words)
    better = multigrid_advice(known, rtol)
    if better is not None:
        notes.insert(0, better[0])
        others.insert(0, better[1])
    return Plan(
        schedule,
        bounds,
        rtol,
        total,
        total * per_step,
        "float64" if dtype == "none" else dtype,
        tuple(notes),
        tuple(others),
        choice.content is None,
    )


def _certainty(bounds: SpectralBounds) -> list[str]:
    notes = {
        Certainty.GUARANTEED: [],
        Certainty.ESTIMATED: [
            f"The upper bound is an estimate ({bounds.method}); it errs on the safe side except "
            + (
                "with small probability."
                if bounds.failure_probability is None
                else f"with probability {bounds.failure_probability:g} at most."
            )
        ],
        Certainty.ASSUMED: [
            "The upper bound is taken on trust. If it is too low the iteration diverges: 2 % too "
            "low lets a period of 32 steps at κ = 100 grow errors 14-fold; 10 % too high costs "
            "almost nothing."
        ],
    }[bounds.upper_certainty]
    if bounds.lower > 0 and bounds.lower_certainty is not Certainty.GUARANTEED:
        notes.append(
            "The lower bound is not guaranteed: if the smallest eigenvalue lies below it, "
            "convergence is slower than predicted, but not lost."
        )
    return notes
