"""A matrix explained: its spectrum, the steps it calls for, and what they do, as an outcome."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from stepfold.lab.explanation.own import explain_layers
from stepfold.lab.explanation.photograph import check_shape, pictures_section
from stepfold.lab.explanation.sections import (
    prediction_section,
    spectrum_section,
    steps_section,
    summary,
    tools_section,
    trial_section,
)
from stepfold.lab.explanation.subject import (
    DRAWN_NODES,
    LONGEST_OPTIMAL,
    TRIAL_PATIENCE,
    TRIAL_STEPS,
    Subject,
)
from stepfold.lab.explanation.training import explain_run
from stepfold.lab.explanation.trust import trust, trust_section
from stepfold.lab.outcome import Outcome
from stepfold.measure import SpectralMeasure, lanczos_measure
from stepfold.planner import Plan, plan
from stepfold.problems import QuadraticProblem
from stepfold.schedules import Schedule, constant_steps, optimal_steps
from stepfold.schedules.optimal import longest_optimal_period
from stepfold.solve import solve
from stepfold.spectrum import SpectralBounds, exact_eigenvalues, fits_dense_eigensolver

__all__ = ["explain_layers", "explain_problem", "explain_run"]


def explain_problem(
    problem: QuadraticProblem[Any],
    *,
    name: str,
    why: str,
    rtol: float = 1e-6,
    period: int | None = None,
    bounds: SpectralBounds | None = None,
    try_rhs: bool = True,
    shape: tuple[int, int] | None = None,
) -> Outcome:
    """Spectrum, recommended steps, predictions and, if wanted, a trial, as sections of a report.

    Args:
        problem: What is to be solved from x0 = 0.
        name: What to call it.
        why: What kind of problem it is, in a few words.
        rtol: Tolerance on the norm of the gradient, relative to that at 0.
        period: T; the planner's choice if not given.
        bounds: Interval of the eigenvalues that matter; estimated if not given.
        try_rhs: Whether to run the schedules, and conjugate gradients, on the right-hand side.
        shape: Rows and columns of the picture that the unknowns are, if they are one; it is shown.

    Raises:
        ValueError: As `plan` does; if the right-hand side to try leaves nothing to do, or the
            unknowns are no picture of ``shape``.
    """
    check_shape(problem, shape)
    if try_rhs and not np.any(problem.linear_term):
        raise ValueError(
            "the right-hand side makes the gradient at 0 vanish: x = 0 is the solution, and there "
            "is nothing to try; leave the right-hand side out to have the matrix explained"
        )
    advice = plan(problem, rtol=rtol, period=period, bounds=bounds)
    # Without a right-hand side the optimal steps are made from it, and take more nodes.
    spectrum = _spectrum(problem, advice, DRAWN_NODES if try_rhs else _num_nodes(advice))
    measure = _gradient_measure(problem, advice) if try_rhs else spectrum
    schedules = _schedules(advice, measure)
    subject = Subject(problem, name, why, advice, spectrum, measure, schedules, shape=shape)
    if try_rhs:
        subject = _tried(subject)
    sections = [spectrum_section(subject), steps_section(subject), prediction_section(subject)]
    if try_rhs:
        sections += [trial_section(subject), trust_section(subject)]
        if shape is not None:
            sections.insert(0, pictures_section(subject))
    sections.append(tools_section(subject))
    return Outcome(
        name="explain",
        title=f"The steps that {name} calls for",
        summary=summary(subject),
        sections=sections,
        parameters={"matrix": name, "rtol": rtol, "period": advice.schedule.period},
        records={
            "plan": advice,
            "spectrum": measure,
            **({"trust": trust(subject)} if try_rhs else {}),
            **{
                f"schedules/{schedule.name.replace(', ', '-').replace(' ', '-').lower()}": schedule
                for schedule in subject.schedules.values()
            },
        },
    )


def _gradient_measure(problem: QuadraticProblem[Any], advice: Plan) -> SpectralMeasure:
    """How the gradient at 0 is spread over the eigenvalues."""
    return lanczos_measure(problem.hessian, num_nodes=_num_nodes(advice), start=problem.linear_term)


def _num_nodes(advice: Plan) -> int:
    return min(advice.schedule.period, LONGEST_OPTIMAL) + 1


def _spectrum(problem: QuadraticProblem[Any], advice: Plan, num_nodes: int) -> SpectralMeasure:
    """How the eigenvalues that matter are spread; a random gradient has such a measure."""
    bounds = advice.bounds
    if fits_dense_eigensolver(problem.hessian):
        values = exact_eigenvalues(problem.hessian)
        # A kernel plays no part where the lower bound is above 0; see `relevant_bounds`.
        return SpectralMeasure.from_eigenvalues(values[values > 0] if bounds.lower > 0 else values)
    return lanczos_measure(problem.hessian, num_nodes=num_nodes)


def _schedules(advice: Plan, measure: SpectralMeasure) -> dict[str, Schedule]:
    """Schedules to compare, by what the report calls them."""
    bounds = advice.bounds
    flat = bounds if bounds.lower > 0 else SpectralBounds(bounds.upper, bounds.upper)
    period = min(advice.schedule.period, LONGEST_OPTIMAL)
    # Fewer, where the measure has fewer distinct nodes, or where more would need more digits.
    period = longest_optimal_period(measure, period)
    return {
        "recommended": advice.schedule,
        "optimal": optimal_steps(measure, period),
        "constant": constant_steps(flat),
    }


def _tried(subject: Subject) -> Subject:
    rtol = subject.plan.rtol
    budget = int(min(TRIAL_STEPS, TRIAL_PATIENCE * subject.plan.num_steps))
    runs = {
        label: solve(
            subject.problem,
            schedule,
            rtol=rtol,
            # Optimal steps are made for this gradient; what one period leaves is another one.
            max_steps=schedule.period if label == "optimal" else budget,
        )
        for label, schedule in subject.schedules.items()
    }
    runs["conjugate gradients"] = solve(subject.problem, rtol=rtol, max_steps=budget)
    return dataclasses.replace(subject, runs=runs)
