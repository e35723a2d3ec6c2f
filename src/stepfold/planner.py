"""Which schedule, which period, how many products, how sure, and when another tool is better.

The gradient after one period is ``p(A)`` times the gradient before it, so ``max |p|`` over the
bounds says, in the worst case, how many periods a tolerance takes. Where that is hopeless and all
eigenvectors can be computed, the number of periods is that of the right-hand side. Conjugate
gradients choose the best polynomial for it and need no bounds; a plan says so.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepfold._checks import check_count, check_share
from stepfold._codec import JsonRecord
from stepfold.operators import flipped
from stepfold.polynomial import (
    chebyshev_period_rate,
    constant_rate,
    first_order_lower_bound,
    num_steps_to,
    worst_case_period_rate,
)
from stepfold.problems import LeastSquares, QuadraticProblem
from stepfold.problems._content import GradientContent, gradient_content
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import (
    Certainty,
    Gram,
    Lanczos,
    SpectralBounds,
    estimate_bounds,
    exact_eigenvalues,
    fits_dense_eigensolver,
)
from stepfold.spectrum.bounds import check_bounds

# Lanczos steps after which an unknown lower end is taken as such.
PATIENCE = 400
# Fourth-kind steps shrink the smallest eigenvalues' share the more, the longer the period.
PERIOD_WITHOUT_LOWER = 128
LONGEST_PERIOD = 1024
"""Longest period for which the default orders are shown to be safe in float64."""
_OUT_OF_REACH = 10**15
# Steps in the worst case from which on it pays to look at the right-hand side.
LOOK_FROM = 512
# And from which on first-kind steps are hopeless: their periods end long before they help.
HOPELESS = 10 * LONGEST_PERIOD
# Periods of fourth-kind steps to choose from, where it is known what each leaves.
PERIODS = (16, 32, 64, 128, 256, 512, LONGEST_PERIOD)
# Rounding, and eigenvalues that are not known to the last digit, take their share of a tolerance.
ROOM = 0.9


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
        num_steps: Steps to the tolerance: for this right-hand side where all eigenvectors were
            computed, else in the worst case over ``bounds``; infinite if neither is known.
        num_products: Products with the operator or its transpose that these steps take.
        dtype: Narrowest of "float32" and "float64" whose rounding leaves the tolerance in reach.
        advice: Sentences: how sure the plan is, and when another tool is better.
        alternatives: Other methods and what they take.
        is_worst_case: Whether ``num_steps`` holds for every right-hand side.
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

    Raises:
        TypeError: If ``problem`` is neither a quadratic problem nor bounds, or ``bounds`` are none.
        ValueError: If ``rtol`` does not lie between 0 and 1, or the operator is zero or not
            positive semidefinite.

    >>> advice = plan(SpectralBounds(1.0, 100.0), rtol=1e-6)
    >>> advice.schedule.period, advice.num_steps
    (38, 76)
    """
    check_share("rtol", rtol)
    if period is not None:
        period = check_count("period", period)
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
        raise ValueError("the operator is zero; every x is a solution and no step has a best size")
    per_step = 1 if known is None else known.products_per_gradient
    choice = _choose(bounds, rtol, period, known if may_look else None)
    notes += _reasons(choice, bounds) + _certainty(bounds)
    dtype = _dtype(choice.condition, rtol)
    if dtype == "none" and (bounds.lower > 0 or math.isfinite(choice.condition)):
        notes.append(
            "Rounding in float64 alone may keep the gradient above the tolerance "
            f"(κ = {bounds.condition_number:.3g}); use a preconditioner, a ridge term, or a "
            "direct method."
        )
    schedule, total = choice.schedule, choice.num_steps
    return Plan(
        schedule,
        bounds,
        rtol,
        total,
        total * per_step,
        "float64" if dtype == "none" else dtype,
        tuple(notes),
        tuple(_alternatives(known, bounds, rtol, total)),
        choice.content is None,
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """Steps, how many, and κ or what takes its place: rounding leaves 4εκ of the gradient."""

    schedule: Schedule
    num_steps: float
    condition: float
    first_kind: float
    """Steps of the first kind in the worst case; infinite without a lower bound."""
    content: GradientContent | None = None


def _choose(
    bounds: SpectralBounds, rtol: float, period: int | None, problem: QuadraticProblem[Any] | None
) -> _Choice:
    first, worst = None, math.inf
    if bounds.lower > 0:
        first = chebyshev_steps(bounds, period or shortest_good_period(bounds, rtol))
        worst = num_steps_to(rtol, worst_case_period_rate(first, bounds), first.period)
        if worst <= LOOK_FROM:
            return _Choice(first, worst, bounds.condition_number, worst)
    content = None if problem is None else gradient_content(problem)
    if content is None:
        return _without_content(bounds, rtol, period, first, worst)
    choices = []
    for length in PERIODS if period is None else (period,):
        schedule = chebyshev_steps(bounds, length, kind=4)
        choices.append(_for_content(schedule, worst, content, rtol))
    if first is not None:
        choice = _for_content(first, worst, content, rtol)
        if choice.num_steps <= 10 * HOPELESS:
            choices.append(choice)
    in_reach = [choice for choice in choices if _dtype(choice.condition, rtol) != "none"]
    best = min(in_reach or choices, key=lambda choice: choice.num_steps)
    if best.num_steps < math.inf:
        return best
    return dataclasses.replace(
        _without_content(bounds, rtol, period, first, worst), content=content
    )


def _for_content(
    schedule: Schedule, worst: float, content: GradientContent, rtol: float
) -> _Choice:
    """What a schedule takes for one right-hand side."""
    num_periods = content.num_periods(schedule, ROOM * rtol)
    condition = math.inf
    if num_periods < math.inf:
        # Three times the usual rounding must fit beside what is left: √(1 − ROOM²) is 0.43.
        condition = 3 / (4 * 0.43) * content.rounding(schedule, num_periods)
    return _Choice(schedule, num_periods * schedule.period, condition, worst, content)


def _without_content(
    bounds: SpectralBounds, rtol: float, period: int | None, first: Schedule | None, worst: float
) -> _Choice:
    if first is not None and worst <= HOPELESS:
        return _Choice(first, worst, bounds.condition_number, worst)
    schedule = chebyshev_steps(bounds, period or _period_without_lower(bounds), kind=4)
    total = math.inf
    if bounds.lower > 0:
        total = num_steps_to(rtol, worst_case_period_rate(schedule, bounds), schedule.period)
    return _Choice(schedule, total, bounds.condition_number, worst)


def _reasons(choice: _Choice, bounds: SpectralBounds) -> list[str]:
    """Why this schedule, and what the number of its steps rests on."""
    is_known, is_fourth = choice.content is not None, "fourth" in choice.schedule.name
    if is_known and math.isfinite(choice.num_steps):
        notes = [
            "The number of steps is that of this right-hand side, from all eigenvectors; another "
            "one may need more."
        ]
        if is_fourth:
            notes.append(
                "Fourth-kind Chebyshev steps, which need no lower bound, are the faster ones for "
                f"it: first-kind steps take {choice.first_kind:.3g} in the worst case."
                if bounds.lower > 0
                else "No lower bound above 0 is known; fourth-kind Chebyshev steps need none."
            )
        return notes
    if not is_fourth:
        return []
    notes = []
    if bounds.lower > 0:
        notes.append(
            f"First-kind steps would take {choice.first_kind:.3g} in the worst case "
            f"(κ = {bounds.condition_number:.3g}). Fourth-kind steps take {choice.num_steps:.3g} "
            "there, and far fewer where the right-hand side has little of the smallest eigenvalues."
        )
    else:
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
    if choice.content is not None:
        stuck = choice.content.stuck
        if stuck > 0:
            notes.append(
                f"A share of {stuck:.2g} of the gradient at 0 lies where the Hessian is 0: the "
                "system is singular and inconsistent, and no method brings the gradient below that."
            )
    return notes


def relevant_bounds(problem: QuadraticProblem[Any]) -> tuple[SpectralBounds, list[str]]:
    """Bounds of the eigenvalues that matter for a start from 0, and what is to be said of them.

    Iterates of least squares started at 0 stay in the range of ``Aᵀ``; zero eigenvalues of AᵀA play
    no part there, and the solution found is the one of smallest norm.
    """
    if not isinstance(problem, LeastSquares):
        return _patient_bounds(problem), []
    num_rows, num_columns = problem.operator.shape
    if num_rows >= num_columns:
        bounds = _patient_bounds(problem)
        if bounds.lower > 0:
            return bounds, []
    else:
        # AAᵀ has the eigenvalues of AᵀA but for zeros.
        bounds = _patient_bounds(Gram.of_checked(flipped(problem.operator), problem.ridge))
        if 0 < bounds.lower <= problem.ridge:
            return bounds, []
    if problem.ridge > 0:
        bounds = dataclasses.replace(bounds, lower_certainty=Certainty.ASSUMED)
        return bounds, [
            f"The operator has {num_rows} rows for {num_columns} unknowns: from x0 = 0 only the "
            "eigenvalues of its range matter, and not those that are the ridge."
        ]
    rank, lower, reached = min(num_rows, num_columns), bounds.lower, bounds.reached_lower
    if lower == 0:
        if not fits_dense_eigensolver(problem.hessian):
            return bounds, []
        values = exact_eigenvalues(problem.hessian)
        positive = values[values > 0]
        if positive.size == 0:
            return bounds, []
        rank, lower, reached = positive.size, float(positive[0]), float(positive[0])
    # The rest of the spectrum is 0 or hidden by rounding, so that nothing is guaranteed.
    bounds = dataclasses.replace(
        bounds, lower=lower, lower_certainty=Certainty.ASSUMED, reached_lower=reached
    )
    return bounds, [
        f"The operator has rank {rank} for {num_columns} unknowns: from x0 = 0 the solution of "
        "smallest norm is found, and only the eigenvalues above 0 matter."
    ]


def _patient_bounds(target: Any) -> SpectralBounds:
    bounds = estimate_bounds(target)
    if bounds.lower == 0 and bounds.lower_uncertainty == 1:
        # The solve to come takes about as many products as it takes to see the lower end.
        spent = bounds.num_products
        bounds = estimate_bounds(target, method=Lanczos(max_steps=PATIENCE, persistent=True))
        bounds = dataclasses.replace(bounds, num_products=spent + bounds.num_products)
    return bounds


def _period_without_lower(bounds: SpectralBounds) -> int:
    """Twice √κ for the κ seen from inside; beyond, a longer period gains nothing."""
    lowest = bounds.reached_lower or bounds.lower
    if lowest == 0:
        return PERIOD_WITHOUT_LOWER
    root = math.sqrt(bounds.upper) / math.sqrt(lowest)
    return math.ceil(min(max(PERIOD_WITHOUT_LOWER, 2 * root), LONGEST_PERIOD))


def shortest_good_period(bounds: SpectralBounds, rtol: float) -> int:
    """The shortest T with which at most a tenth more steps are taken than with one long period.

    Args:
        bounds: Interval [a, b] with a > 0.
        rtol: The reduction of the gradient that is asked for.
    """
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


def _dtype(condition: float, rtol: float) -> str:
    # A gradient step rounds the iterate to about eps·‖x‖, the gradient to eps·b·‖x‖; relative to
    # ‖∇f(0)‖ ≥ a‖x‖ that is eps·κ. The factor 4 covers the accumulation over an interleaved period.
    for name in ("float32", "float64"):
        if 4 * np.finfo(name).eps * condition <= rtol:
            return name
    return "none"


def _alternatives(
    problem: QuadraticProblem[Any] | None, bounds: SpectralBounds, rtol: float, total: float
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


def _direct(problem: QuadraticProblem[Any] | None, total: float) -> Alternative | None:
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
