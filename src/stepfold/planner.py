"""Which schedule, which period, how many products, how sure, and when another tool is better.

The gradient after one period is ``p(A)`` times the gradient before it, so ``max |p|`` over the
bounds says, in the worst case, how many periods a tolerance takes. Conjugate gradients choose the
best polynomial for the very right-hand side and need no bounds; a plan says so.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepfold._checks import check_count
from stepfold._codec import JsonRecord
from stepfold.polynomial import (
    chebyshev_period_rate,
    constant_rate,
    first_order_lower_bound,
    num_steps_to,
    worst_case_period_rate,
)
from stepfold.problems import LeastSquares, Problem
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import (
    Certainty,
    Lanczos,
    SpectralBounds,
    estimate_bounds,
    exact_eigenvalues,
    fits_dense_eigensolver,
)

# Lanczos steps after which an unknown lower end is taken as such.
PATIENCE = 400
# Fourth-kind steps shrink the smallest eigenvalues' share the more, the longer the period.
PERIOD_WITHOUT_LOWER = 128
LONGEST_PERIOD = 1024
"""Longest period for which the default orders are shown to be safe in float64."""
_OUT_OF_REACH = 10**15


@dataclass(frozen=True)
class Alternative(JsonRecord):
    """Another method for the same problem.

    Args:
        name: The method.
        num_products: Products with the operator or its transpose to the tolerance, in the worst
            case; infinite where it is not known to get there, None where it makes none.
        comment: When it is the better choice.
    """

    name: str
    num_products: float | None
    comment: str


@dataclass(frozen=True, eq=False)
class Plan(JsonRecord):
    """What to run, and what to expect of it.

    Args:
        schedule: Recommended steps, in a safe order.
        bounds: Interval that they are made for, with how far each end can be relied upon.
        rtol: Tolerance on the norm of the gradient, relative to that at 0.
        num_steps: Steps to the tolerance in the worst case over ``bounds``; infinite if there is
            no bound.
        num_products: Products with the operator or its transpose that these steps take.
        dtype: Narrowest of "float32" and "float64" whose rounding leaves the tolerance in reach.
        advice: Sentences: how sure the plan is, and when another tool is better.
        alternatives: Other methods and what they take.
    """

    schedule: Schedule
    bounds: SpectralBounds
    rtol: float
    num_steps: float = field(metadata={"null": math.inf})
    num_products: float = field(metadata={"null": math.inf})
    dtype: str
    advice: tuple[str, ...]
    alternatives: tuple[Alternative, ...]


def plan(
    problem: Problem[Any] | SpectralBounds,
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

    Raises:
        ValueError: If ``rtol`` does not lie between 0 and 1, or the operator is zero or not
            positive semidefinite.

    >>> advice = plan(SpectralBounds(1.0, 100.0), rtol=1e-6)
    >>> advice.schedule.period, advice.num_steps
    (38, 76)
    """
    if not 0 < rtol < 1:
        raise ValueError(f"`rtol` must lie between 0 and 1, got {rtol!r}")
    if period is not None:
        period = check_count("period", period)
    notes: list[str] = []
    if isinstance(problem, SpectralBounds):
        bounds, known = problem, None
    else:
        known = problem
        if bounds is None:
            bounds, notes = relevant_bounds(problem)
    if bounds.upper == 0:
        raise ValueError("the operator is zero; every x is a solution and no step has a best size")
    per_step = 1 if known is None else known.products_per_gradient
    if bounds.lower == 0:
        schedule = chebyshev_steps(bounds, period or _period_without_lower(bounds), kind=4)
        total = math.inf
        notes.append(
            "No lower bound above 0 is known, so nothing bounds the number of steps. Fourth-kind "
            "Chebyshev steps need none; a ridge term of weight μ would make μ a lower bound."
        )
        if bounds.reached_lower:
            notes.append(
                f"The smallest eigenvalue is at most {bounds.reached_lower:.4g}: if you can give a "
                "positive lower bound below that, first-kind steps need fewer products, and one "
                "that is too high only slows."
            )
    else:
        schedule = chebyshev_steps(bounds, period or _shortest_good_period(bounds, rtol))
        total = num_steps_to(rtol, worst_case_period_rate(schedule, bounds), schedule.period)
    notes += _certainty(bounds)
    dtype = _dtype(bounds, rtol)
    if dtype == "none" and bounds.lower > 0:
        notes.append(
            "Rounding in float64 alone may keep the gradient above the tolerance "
            f"(κ = {bounds.condition_number:.3g}); use a preconditioner, a ridge term, or a "
            "direct method."
        )
    return Plan(
        schedule,
        bounds,
        rtol,
        total,
        total * per_step,
        "float64" if dtype == "none" else dtype,
        tuple(notes),
        tuple(_alternatives(known, bounds, rtol, total)),
    )


def relevant_bounds(problem: Problem[Any]) -> tuple[SpectralBounds, list[str]]:
    """Bounds of the eigenvalues that matter for a start from 0, and what is to be said of them.

    Iterates of least squares started at 0 stay in the range of ``Aᵀ``; zero eigenvalues of AᵀA play
    no part there, and the solution found is the one of smallest norm.
    """
    bounds = estimate_bounds(problem)
    if bounds.lower == 0 and bounds.lower_uncertainty == 1:
        # The solve to come takes about as many products as it takes to see the lower end.
        bounds = estimate_bounds(problem, method=Lanczos(max_steps=PATIENCE, persistent=True))
    if bounds.lower > 0 or not isinstance(problem, LeastSquares):
        return bounds, []
    if not fits_dense_eigensolver(problem.hessian):
        return bounds, []
    values = exact_eigenvalues(problem.hessian)
    positive = values[values > 0]
    if positive.size == 0:
        return bounds, []
    return (
        dataclasses.replace(bounds, lower=float(positive[0]), reached_lower=float(positive[0])),
        [
            f"The operator has rank {positive.size} for {values.size} unknowns: from x0 = 0 the "
            "solution of smallest norm is found, and only the eigenvalues above 0 matter."
        ],
    )


def _period_without_lower(bounds: SpectralBounds) -> int:
    """Twice √κ for the κ seen from inside; beyond, a longer period gains nothing."""
    if not bounds.reached_lower:
        return PERIOD_WITHOUT_LOWER
    root = math.sqrt(bounds.upper / bounds.reached_lower)
    return min(max(PERIOD_WITHOUT_LOWER, math.ceil(2 * root)), LONGEST_PERIOD)


def _shortest_good_period(bounds: SpectralBounds, rtol: float) -> int:
    single = _period_for(bounds, rtol)
    # Each period loses up to a factor of 2, so that about 0.15·log(1/rtol) of them cost a tenth;
    # without the limit an ill-conditioned problem would be looked at for minutes.
    most = min(math.ceil(single / 8), 2 + math.ceil(-0.5 * math.log(rtol)))
    for num_periods in range(max(1, most), 0, -1):
        period = _period_for(bounds, rtol ** (1 / num_periods))
        if num_periods * period <= 1.1 * single:
            return min(period, LONGEST_PERIOD)
    return min(single, LONGEST_PERIOD)


def _period_for(bounds: SpectralBounds, rate: float) -> int:
    """Smallest T for which Chebyshev steps have at most ``rate`` per period."""
    if bounds.lower == bounds.upper:
        return 1
    exponent = 2 * math.atanh(math.sqrt(bounds.lower / bounds.upper))
    # acosh(1/rate), where 1/rate may be too large for a float.
    angle = math.acosh(1 / rate) if rate > 1e-100 else math.log(2) - math.log(rate)
    if angle >= exponent * _OUT_OF_REACH:
        return _OUT_OF_REACH
    period = max(1, math.ceil(angle / exponent * (1 - 1e-12)))
    return period if chebyshev_period_rate(bounds, period) <= rate * (1 + 1e-9) else period + 1


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


def _dtype(bounds: SpectralBounds, rtol: float) -> str:
    # A gradient step rounds the iterate to about eps·‖x‖, the gradient to eps·b·‖x‖; relative to
    # ‖∇f(0)‖ ≥ a‖x‖ that is eps·κ. The factor 4 covers the accumulation over an interleaved period.
    for name in ("float32", "float64"):
        if 4 * np.finfo(name).eps * bounds.condition_number <= rtol:
            return name
    return "none"


def _alternatives(
    problem: Problem[Any] | None, bounds: SpectralBounds, rtol: float, total: float
) -> list[Alternative]:
    per_step = 1 if problem is None else problem.products_per_gradient
    lower_bound = first_order_lower_bound(bounds) if bounds.lower > 0 else 1.0
    krylov = "LSMR" if isinstance(problem, LeastSquares) else "MINRES or conjugate gradients"
    # MINRES and LSMR minimise the gradient norm, which is then at most 2·rateᵏ of its start.
    # Conjugate gradients minimise another norm; at κ = 1e4 and rtol = 0.1 they took a quarter more.
    but = "" if krylov == "LSMR" else " (a little more for conjugate gradients)"
    krylov_steps = num_steps_to(rtol / 2 or rtol, lower_bound)
    constant_steps_needed = num_steps_to(rtol, constant_rate(bounds)) if bounds.lower else math.inf
    rows = [
        Alternative(
            "constant step 2/(a + b)",
            per_step * constant_steps_needed,
            "never, where the bounds can be relied upon",
        ),
        Alternative(
            krylov,
            per_step * krylov_steps,
            "one right-hand side, and inner products are cheap: at most as many products in the "
            f"worst case{but}, far fewer for clustered eigenvalues, and no bounds are needed",
        ),
    ]
    if isinstance(problem, LeastSquares):
        rows.append(
            Alternative(
                "coordinate descent",
                None,
                "columns are cheap to reach and few of them matter: a sparse A, a lasso penalty",
            )
        )
    direct = _direct(problem, total)
    return [*rows, *([direct] if direct else [])]


def _direct(problem: Problem[Any] | None, total: float) -> Alternative | None:
    if problem is None:
        return None
    operator: Any = problem.operator if isinstance(problem, LeastSquares) else problem.hessian
    num_rows, num_columns = operator.shape
    smaller, larger = sorted((num_rows, num_columns))
    if hasattr(operator, "tocsr"):
        if isinstance(problem, LeastSquares):
            return None
        return Alternative(
            "sparse factorisation", None, "its fill fits in memory (problems in the plane)"
        )
    if not hasattr(operator, "__array__"):
        return None
    if isinstance(problem, LeastSquares):
        # Householder QR takes 2mn² operations, a gradient 4mn.
        steps = smaller / 2
        name = "QR (numpy.linalg.lstsq)"
    else:
        # Cholesky takes n³/3 operations, a product 2n².
        steps = larger / 6
        name = "Cholesky (scipy.linalg.solve)"
    verdict = "its operations are worth" if steps < total else "only if many more steps are needed:"
    return Alternative(name, None, f"{verdict} {steps:.0f} of our steps")
