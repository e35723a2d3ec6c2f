"""The sections of an explanation: words, tables and figures."""

from __future__ import annotations

import math

import numpy as np

from stepfold.lab.explanation.subject import TRIAL_PATIENCE, TRIAL_STEPS, Subject
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Section, Table
from stepfold.planner.other_tools import in_words
from stepfold.polynomial import (
    first_order_lower_bound,
    mean_squared_error,
    num_steps_to,
    residual_polynomial,
    worst_case_period_rate,
)
from stepfold.schedules import Schedule, roundoff_amplification
from stepfold.spectrum import SpectralBounds


def summary(subject: Subject) -> str:
    """What was found, in a few sentences."""
    plan, bounds = subject.plan, subject.bounds
    text = (
        f"The eigenvalues of the Hessian lie between {bounds.lower:.6g} and {bounds.upper:.6g}, "
        f"condition number {bounds.condition_number:.4g}. "
        f"Recommended: {plan.schedule.name} steps of period {plan.schedule.period} "
    )
    if math.isfinite(plan.num_steps):
        return text + (
            f"in {plan.schedule.order} order; {plan.num_steps:.0f} steps ({plan.num_products:.0f} "
            f"products) bring the gradient below {plan.rtol:g} of its start "
            + ("in the worst case." if plan.is_worst_case else "for this right-hand side.")
        )
    return text + "; without a lower bound above 0 no number of steps can be promised."


def spectrum_section(subject: Subject) -> Section:
    """Where the eigenvalues lie, and how the gradient is spread over them."""
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


def steps_section(subject: Subject) -> Section:
    """The step sizes, and what their order does to rounding errors."""
    schedule = subject.plan.schedule
    heads, tails = roundoff_amplification(schedule, subject.bounds)
    curves = tuple(
        Curve(
            f"{entry.name}, period {entry.period}",
            # From 0 to 1 for every period; a single step is a level line.
            np.linspace(0, 1, max(2, entry.period)),
            np.sort(np.resize(entry.steps, max(2, entry.period))),
            style="line" if entry.period == 1 else "both",
            emphasis=entry is schedule,
        )
        for entry in subject.schedules.values()
    )
    return Section(
        "The steps",
        (
            f"The recommended schedule has {schedule.period} steps between "
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


def prediction_section(subject: Subject) -> Section:
    """Factors per step, and the steps and products to the tolerance."""
    bounds, rtol = subject.bounds, subject.plan.rtol
    per_step = subject.problem.products_per_gradient
    rows = []
    for label, schedule in subject.schedules.items():
        rate = worst_case_period_rate(schedule, bounds)
        needed = num_steps_to(rtol, rate, schedule.period)
        mean = math.sqrt(mean_squared_error(schedule, subject.measure))
        rows.append(
            (
                _named(label, schedule),
                str(schedule.period),
                f"{rate ** (1 / schedule.period):.6f}",
                f"{mean ** (1 / schedule.period):.6f}",
                in_words(needed),
                in_words(needed * per_step),
            )
        )
    if bounds.lower > 0:
        limit = first_order_lower_bound(bounds)
        rows.append(("no method of first order has less", "", f"{limit:.6f}", "", "", ""))
    low = bounds.lower or 1e-6 * bounds.upper
    grid = np.geomspace(low, bounds.upper, 1500) if low < bounds.upper else np.array([low])
    floor = 1e-4 * max(
        worst_case_period_rate(subject.plan.schedule, SpectralBounds(low, bounds.upper)), 1e-12
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
                    f"{schedule.name}, period {schedule.period}",
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


def _named(label: str, schedule: Schedule) -> str:
    return f"{schedule.name} ({label})" if label != schedule.name else label


def trial_section(subject: Subject) -> Section:
    """What the schedules did on the right-hand side, beside conjugate gradients."""
    rows: list[tuple[str, ...]] = []
    curves: list[Curve] = []
    for label, run in subject.runs.items():
        norms = run.history.gradient_norms.reshape(len(run.history.num_steps), -1).max(axis=1)
        products = run.history.num_products
        start = norms[0] or 1.0
        schedule = subject.schedules.get(label)
        rows.append(
            (
                label if schedule is None else _named(label, schedule),
                str(run.num_steps),
                str(products[-1]),
                f"{norms.min() / start:.3g}",
                run.status.name,
            )
        )
        curves.append(
            Curve(
                label if schedule is None else f"{schedule.name}, period {schedule.period}",
                products,
                norms / start,
                style="both" if norms.size <= 40 else "line",
                emphasis=label == "recommended",
            )
        )
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


def tools_section(subject: Subject) -> Section:
    """How sure the plan is, and what other tools take."""
    rows = tuple(entry.texts for entry in subject.plan.alternatives)
    return Section(
        "How sure this is, and other tools",
        (
            *subject.plan.advice,
            "Use a precomputed schedule where steps may not depend on the iterate: one pass over "
            "the data, no inner products, many right-hand sides at once, a fixed linear map of the "
            f"right-hand side. {subject.plan.dtype} arithmetic is wide enough for this tolerance.",
        ),
        table=Table(("method", "products, worst case", "better when"), rows),
    )
