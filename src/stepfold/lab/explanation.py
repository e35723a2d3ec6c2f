"""A matrix explained: its spectrum, the steps it calls for, and what they do, as an outcome."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Outcome, Section, Table
from stepfold.measure import SpectralMeasure, lanczos_measure
from stepfold.planner import Plan, plan
from stepfold.polynomial import (
    first_order_lower_bound,
    mean_squared_error,
    num_steps_to,
    residual_polynomial,
    worst_case_rate,
)
from stepfold.problems import Problem
from stepfold.result import Result
from stepfold.schedules import Schedule, constant_steps, optimal_steps, roundoff_amplification
from stepfold.solve import solve
from stepfold.spectrum import SpectralBounds, exact_eigenvalues, is_diagonalisable

# A trial on a right-hand side gives up after this many times the steps predicted for the
# recommended schedule, or after this many steps.
TRIAL_PATIENCE = 3
TRIAL_STEPS = 2000
# Longest period of the optimal steps shown: as many vectors are kept to compute them.
LONGEST_OPTIMAL = 48


@dataclass(frozen=True, eq=False)
class _Subject:
    """A problem with everything that the sections tell about it."""

    problem: Problem[Any]
    name: str
    why: str
    plan: Plan
    measure: SpectralMeasure
    schedules: dict[str, Schedule]
    runs: dict[str, Result[Any]] = field(default_factory=dict)
    conjugate_gradients: tuple[NDArray[Any], FloatArray] | None = None

    @property
    def bounds(self) -> SpectralBounds:
        return self.plan.bounds


def explain_problem(
    problem: Problem[Any],
    *,
    name: str,
    why: str,
    rtol: float = 1e-6,
    num_steps: int | None = None,
    bounds: SpectralBounds | None = None,
    try_rhs: bool = True,
) -> Outcome:
    """Spectrum, recommended steps, predictions and, if wanted, a trial, as sections of a report.

    Args:
        problem: What is to be solved from x0 = 0.
        name: What to call it.
        why: What kind of problem it is, in a few words.
        rtol: Tolerance on the norm of the gradient, relative to that at 0.
        num_steps: The period T; the planner's choice if not given.
        bounds: Interval of the eigenvalues that matter; estimated if not given.
        try_rhs: Whether to run the schedules, and conjugate gradients, on the right-hand side.

    Raises:
        ValueError: As `plan` does; or if the right-hand side to try leaves nothing to do.
    """
    if try_rhs and not np.any(problem.linear_term):
        raise ValueError(
            "the right-hand side makes the gradient at 0 vanish: x = 0 is the solution, and there "
            "is nothing to try; leave the right-hand side out to have the matrix explained"
        )
    advice = plan(problem, rtol=rtol, num_steps=num_steps, bounds=bounds)
    measure = _measure(problem, advice, of_gradient=try_rhs)
    subject = _Subject(problem, name, why, advice, measure, _schedules(advice, measure))
    if try_rhs:
        subject = _tried(subject)
    bounds = advice.bounds
    sections = [_spectrum_section(subject), _steps_section(subject), _prediction_section(subject)]
    if try_rhs:
        sections.append(_trial_section(subject))
    sections.append(_tools_section(subject))
    return Outcome(
        name="explain",
        title=f"The steps that {name} calls for",
        summary=_summary(subject),
        sections=sections,
        parameters={"matrix": name, "rtol": rtol, "period": advice.schedule.num_steps},
        records={
            "plan": advice.to_dict(),
            "spectrum": measure.to_dict(),
            **{
                f"schedules/{schedule.name.replace(', ', '-').replace(' ', '-').lower()}": (
                    schedule.to_dict()
                )
                for schedule in subject.schedules.values()
            },
        },
    )


def _measure(problem: Problem[Any], advice: Plan, *, of_gradient: bool) -> SpectralMeasure:
    """How the gradient at 0, or a random one, is spread over the eigenvalues that matter."""
    bounds = advice.bounds
    num_nodes = min(advice.schedule.num_steps, LONGEST_OPTIMAL) + 1
    if of_gradient:
        return lanczos_measure(problem.hessian, num_nodes=num_nodes, start=problem.linear_term)
    if is_diagonalisable(problem.hessian):
        values = exact_eigenvalues(problem.hessian)
        # A kernel plays no part where the lower bound is above 0; see `relevant_bounds`.
        return SpectralMeasure.from_eigenvalues(values[values > 0] if bounds.lower > 0 else values)
    return lanczos_measure(problem.hessian, num_nodes=num_nodes)


def _schedules(advice: Plan, measure: SpectralMeasure) -> dict[str, Schedule]:
    """Schedules to compare, by what the report calls them."""
    bounds = advice.bounds
    flat = bounds if bounds.lower > 0 else SpectralBounds(bounds.upper, bounds.upper)
    period = min(advice.schedule.num_steps, LONGEST_OPTIMAL)
    # Fewer, where the measure has fewer distinct nodes; those that differ by rounding are one.
    period = measure.gauss_nodes_of_weighted(period).size
    return {
        "recommended": advice.schedule,
        "optimal": optimal_steps(measure, period),
        "constant": constant_steps(flat),
    }


def _tried(subject: _Subject) -> _Subject:
    rtol = subject.plan.rtol
    budget = int(min(TRIAL_STEPS, TRIAL_PATIENCE * subject.plan.num_steps))
    runs = {
        label: solve(
            subject.problem,
            schedule,
            rtol=rtol,
            # Optimal steps are made for this gradient; what one period leaves is another one.
            max_steps=schedule.num_steps if label == "optimal" else budget,
        )
        for label, schedule in subject.schedules.items()
    }
    return dataclasses.replace(
        subject,
        runs=runs,
        conjugate_gradients=_conjugate_gradients(
            subject.problem, subject.bounds.upper, rtol, budget
        ),
    )


def _conjugate_gradients(
    problem: Problem[Any], upper: float, rtol: float, budget: int
) -> tuple[NDArray[Any], FloatArray] | None:
    """Products and gradient norms of SciPy's ``cg`` on the Hessian; None for many right sides."""
    from scipy.sparse.linalg import LinearOperator, cg

    hessian: Any = problem.hessian
    if problem.linear_term.ndim != 1:
        return None
    # In units in which neither the Hessian nor the right-hand side can make a square overflow.
    term = np.asarray(problem.linear_term, dtype=np.float64)
    term = term / np.abs(term).max()
    term /= np.linalg.norm(term)
    scaled = LinearOperator(
        hessian.shape, matvec=lambda v: (hessian @ v.ravel()) / upper, dtype=np.float64
    )
    norms = [1.0]
    # On a singular system without a solution they divide by 0 sooner or later.
    with np.errstate(all="ignore"):
        cg(
            scaled,
            term,
            rtol=rtol,
            maxiter=budget,
            callback=lambda x: norms.append(float(np.linalg.norm(scaled @ x - term))),
        )
    norms = list(itertools.takewhile(math.isfinite, norms))
    return problem.products_per_gradient * np.arange(len(norms)), np.array(norms)


def _summary(subject: _Subject) -> str:
    plan, bounds = subject.plan, subject.bounds
    text = (
        f"The eigenvalues of the Hessian lie between {bounds.lower:.6g} and {bounds.upper:.6g}, "
        f"condition number {bounds.condition_number:.4g}. "
        f"Recommended: {plan.schedule.name} steps of period {plan.schedule.num_steps} "
    )
    if math.isfinite(plan.num_steps):
        return text + (
            f"in {plan.schedule.order} order; {plan.num_steps:.0f} steps ({plan.num_products:.0f} "
            f"products) bring the gradient below {plan.rtol:g} of its start in the worst case."
        )
    return text + "; without a lower bound above 0 no number of steps can be promised."


def _spectrum_section(subject: _Subject) -> Section:
    bounds, operator = subject.bounds, subject.problem.hessian
    num_unknowns = operator.shape[1]
    rows = (
        ("unknowns", str(num_unknowns)),
        ("lower bound a", f"{bounds.lower:.10g} ({bounds.lower_certainty.value})"),
        ("upper bound b", f"{bounds.upper:.10g} ({bounds.upper_certainty.value})"),
        ("condition number κ = b/a", f"{bounds.condition_number:.6g}"),
        ("from", f"{bounds.method}; {bounds.num_products} products"),
    )
    what = "the gradient at 0" if subject.runs else "a random gradient"
    measure = subject.measure
    share = np.cumsum(measure.weights)
    figure = Figure(
        "spectrum",
        f"Share of {what} on eigenvalues up to λ",
        f"Cumulative distribution of {what} over the eigenvalues, rising from 0 to 1.",
        (Curve("share", measure.nodes, share, style="both", emphasis=True),),
        Axis("eigenvalue λ of the Hessian", log=bool(measure.nodes[0] > 0)),
        Axis("cumulative share"),
    )
    return Section(
        "The spectrum",
        (f"{subject.name}: {subject.why}. Everything below follows from its eigenvalues.",),
        figure=figure,
        table=Table(("quantity", "value"), rows),
    )


def _steps_section(subject: _Subject) -> Section:
    schedule = subject.plan.schedule
    heads, tails = roundoff_amplification(schedule, subject.bounds)
    curves = tuple(
        Curve(
            f"{entry.name}, period {entry.num_steps}",
            # From 0 to 1 for every period; a single step is a level line.
            np.linspace(0, 1, max(2, entry.num_steps)),
            np.sort(np.resize(entry.steps, max(2, entry.num_steps))),
            style="line" if entry.num_steps == 1 else "both",
            emphasis=entry is schedule,
        )
        for entry in subject.schedules.values()
    )
    return Section(
        "The steps",
        (
            f"The recommended schedule has {schedule.num_steps} steps between "
            f"{schedule.steps.min():.6g} and {schedule.steps.max():.6g}. They are taken in "
            f"{schedule.order} order, in which no iterate grows by more than {heads:.3g} on the "
            f"way and no rounding error by more than {tails:.3g}.",
        ),
        figure=Figure(
            "steps",
            "Step sizes in ascending order",
            "Sorted step sizes of the schedules; the recommended ones spread around the constant.",
            curves,
            Axis("rank, from the shortest step (0) to the longest (1)"),
            Axis("step size γ", log=True),
        ),
    )


def _prediction_section(subject: _Subject) -> Section:
    bounds, rtol = subject.bounds, subject.plan.rtol
    per_step = subject.problem.products_per_gradient
    rows = []
    for label, schedule in subject.schedules.items():
        rate = worst_case_rate(schedule, bounds)
        needed = num_steps_to(rtol, rate, schedule.num_steps)
        mean = math.sqrt(mean_squared_error(schedule, subject.measure))
        rows.append(
            (
                f"{schedule.name} ({label})" if label != schedule.name else label,
                str(schedule.num_steps),
                f"{rate ** (1 / schedule.num_steps):.6f}",
                f"{mean ** (1 / schedule.num_steps):.6f}",
                _count(needed),
                _count(needed * per_step),
            )
        )
    if bounds.lower > 0:
        limit = first_order_lower_bound(bounds)
        rows.append(("no method of first order has less", "", f"{limit:.6f}", "", "", ""))
    low = bounds.lower or 1e-6 * bounds.upper
    grid = np.geomspace(low, bounds.upper, 1500) if low < bounds.upper else np.array([low])
    floor = 1e-4 * max(
        worst_case_rate(subject.plan.schedule, SpectralBounds(low, bounds.upper)), 1e-12
    )
    return Section(
        "What to expect",
        (
            "A schedule multiplies the error along an eigenvector by the value of its residual "
            f"polynomial there. Steps and products to a gradient of {rtol:g} of its start:",
        ),
        figure=Figure(
            "residual_polynomials",
            "Factor per period on each eigenvalue",
            "Absolute residual polynomials of the schedules over the interval of the eigenvalues.",
            tuple(
                Curve(
                    f"{schedule.name}, period {schedule.num_steps}",
                    grid,
                    np.abs(residual_polynomial(schedule, grid)),
                    emphasis=schedule is subject.plan.schedule,
                )
                for schedule in subject.schedules.values()
            ),
            Axis("eigenvalue λ", log=True),
            Axis("|∏ (1 − γₜ λ)|", log=True, floor=floor),
        ),
        table=Table(
            ("steps", "T", "factor/step, worst", "factor/step, mean", "steps", "products"),
            tuple(rows),
        ),
    )


def _trial_section(subject: _Subject) -> Section:
    rows: list[tuple[str, ...]] = []
    curves: list[Curve] = []
    products: NDArray[Any]
    for label, run in subject.runs.items():
        norms = run.history.gradient_norms.reshape(len(run.history.num_steps), -1).max(axis=1)
        products = run.history.num_products
        start = norms[0] or 1.0
        rows.append(
            (
                f"{run.schedule.name} ({label})" if label != run.schedule.name else label,
                str(run.num_steps),
                str(products[-1]),
                f"{norms.min() / start:.3g}",
                run.status.name,
            )
        )
        curves.append(
            Curve(
                f"{run.schedule.name}, period {run.schedule.num_steps}",
                products,
                norms / start,
                style="both" if norms.size <= 40 else "line",
                emphasis=label == "recommended",
            )
        )
    if subject.conjugate_gradients is not None:
        products, norms = subject.conjugate_gradients
        relative = norms / (norms[0] or 1.0)
        last = (str(norms.size - 1), str(products[-1]), f"{relative.min():.3g}")
        rows.append(("conjugate gradients (SciPy)", *last, ""))
        curves.append(Curve("conjugate gradients", products, relative))
    return Section(
        "On the given right-hand side",
        (
            f"Started at 0 and run to a gradient of {subject.plan.rtol:g} of its start, or until "
            f"{TRIAL_PATIENCE} times the steps predicted for the recommended schedule (at most "
            f"{TRIAL_STEPS}) are taken. Optimal steps were made for this very gradient; they are "
            "taken once.",
        ),
        figure=Figure(
            "trial",
            "Gradient norm against products with the operator",
            "Relative gradient norm of each method against the products it has spent.",
            tuple(curves),
            Axis("products with the operator or its transpose"),
            Axis("gradient norm, relative to the start", log=True),
        ),
        table=Table(("steps", "taken", "products", "gradient", "status"), tuple(rows)),
    )


def _tools_section(subject: _Subject) -> Section:
    rows = [
        (
            entry.name,
            "none" if entry.num_products is None else _count(entry.num_products),
            entry.comment,
        )
        for entry in subject.plan.alternatives
    ]
    return Section(
        "How sure this is, and other tools",
        (
            *subject.plan.advice,
            "Known steps win where a step must be known in advance: one pass over the data, no "
            "inner products, many right-hand sides at once, a fixed linear map of the right-hand "
            f"side. {subject.plan.dtype} arithmetic is wide enough for this tolerance.",
        ),
        table=Table(("method", "products, worst case", "better when"), tuple(rows)),
    )


def _count(number: float) -> str:
    return f"{number:.0f}" if math.isfinite(number) else "no bound"
