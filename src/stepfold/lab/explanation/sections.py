"""The sections of an explanation: words, tables and figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.explanation.density import (
    ESTIMATED_INTERVALS,
    INTERVALS,
    density_figure,
    share_left_out,
)
from stepfold.lab.explanation.subject import TRIAL_PATIENCE, TRIAL_STEPS, Subject
from stepfold.lab.explanation.trust import counted
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
from stepfold.result import Result
from stepfold.schedules import Schedule, roundoff_amplification
from stepfold.spectrum import SpectralBounds

# Names in a plan of the methods that choose their steps themselves.
KRYLOV = ("LSMR", "MINRES or conjugate gradients")
# A curve that multiplies a gradient or an error by more than this leaves its figure.
CEILING = 100.0
# Longest period whose polynomial is drawn with all its zeros.
DRAWN_WHOLE = 32


def summary(subject: Subject) -> str:
    """What was found, in a few sentences."""
    plan, bounds = subject.plan, subject.bounds
    condition = (
        f"condition number {bounds.condition_number:.4g}"
        if math.isfinite(bounds.condition_number)
        else "with no lower bound above 0"
    )
    text = (
        f"The eigenvalues of the Hessian lie between {bounds.lower:.6g} and {bounds.upper:.6g}, "
        f"{condition}. "
        f"Recommended: {plan.schedule.name} steps of period {plan.schedule.period} "
        f"in {plan.schedule.order} order"
    )
    if math.isfinite(plan.num_steps):
        text += (
            f"; {plan.num_steps:.0f} steps ({plan.num_products:.0f} products) bring the gradient "
            f"below {plan.rtol:g} of its start "
            + ("in the worst case." if plan.is_worst_case else "for this right-hand side.")
        )
    else:
        text += "; without a lower bound above 0 no number of steps can be promised."
    return f"{text} {_rival(subject)}"


def _rival(subject: Subject) -> str:
    """What the best other method takes, in products, and whether it is the better choice."""
    if not subject.runs:
        others = [each for each in subject.plan.alternatives if each.name in KRYLOV]
        if not others:
            return ""
        (other,) = others
        assert other.num_products is not None, "these make products"  # noqa: S101
        if not math.isfinite(other.num_products):
            return f"For {other.name} none can be promised either."
        return (
            f"{other.num_products:.0f} products of {other.name} do the same in the worst case, "
            "without bounds."
        )
    ours, theirs = subject.runs["recommended"], subject.runs["conjugate gradients"]
    counts = [int(run.history.num_products[-1]) for run in (ours, theirs)]
    took = (
        f"On the given right-hand side the recommended steps {_took(ours, counts[0])}, "
        f"conjugate gradients {_took(theirs, counts[1])}"
    )
    if not theirs.converged and not ours.converged:
        return f"{took}."
    if ours.converged and (not theirs.converged or counts[0] <= counts[1]):
        return f"{took}: the recommended steps are the better choice for it."
    return (
        f"{took}: take conjugate gradients for one right-hand side, where inner products are cheap."
    )


def _took(run: Result[Any], count: int) -> str:
    return f"{'took' if run.converged else 'had not converged after'} {count} products"


def spectrum_section(subject: Subject) -> Section:
    """Where the eigenvalues lie, and how the gradient is spread over them."""
    bounds, operator = subject.bounds, subject.problem.hessian
    num_unknowns = operator.shape[1]
    rows = (
        ("unknowns", str(num_unknowns)),
        ("lower bound a", f"{bounds.lower:.10g} ({bounds.lower_certainty.value})"),
        ("upper bound b", f"{bounds.upper:.10g} ({bounds.upper_certainty.value})"),
        ("condition number κ = b/a", f"{bounds.condition_number:.6g}"),
        ("from", f"{bounds.method}; {counted(bounds.num_products)}"),
        *([("seed", str(bounds.seed))] if bounds.seed is not None else []),
        *(
            [("chance that an end lies inside", f"{bounds.failure_probability:g} at most")]
            if bounds.failure_probability is not None
            else []
        ),
    )
    caption = "Each bar is the share of the eigenvalues in an interval"
    is_whole = subject.spectrum.name == "eigenvalues"
    caption += ", all of them computed." if is_whole else f", estimated by {subject.spectrum.name}."
    if subject.runs:
        caption += " The line is the share of the gradient at 0 that belongs to them."
    if (left := share_left_out(subject.spectrum)) > 0:
        caption += f" A share of {left:.3g} of the eigenvalues is 0 up to rounding and not drawn."
    return Section(
        "The spectrum",
        (f"{subject.name}: {subject.why}. Everything below follows from its eigenvalues.",),
        figure=density_figure(
            subject.spectrum,
            subject.measure if subject.runs else None,
            INTERVALS if is_whole else ESTIMATED_INTERVALS,
        ),
        table=Table(("quantity", "value"), rows),
        caption=caption,
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
    drawn = [
        Curve(
            f"{schedule.name}, period {schedule.period}",
            *_factors(schedule, low, bounds.upper),
            emphasis=schedule is subject.plan.schedule,
        )
        for schedule in subject.schedules.values()
    ]
    caption = (
        "A schedule multiplies the error along an eigenvector by the value of its residual "
        "polynomial there."
    )
    if any(schedule.period > DRAWN_WHOLE for schedule in subject.schedules.values()):
        caption += (
            f" Of periods above {DRAWN_WHOLE} only the height of the waves is drawn: they are too "
            "many to be told apart."
        )
    floor = 1e-4 * max(
        worst_case_period_rate(subject.plan.schedule, SpectralBounds(low, bounds.upper)), 1e-12
    )
    return Section(
        "What to expect",
        (
            "Factors by which a step multiplies the error, and steps and products to a gradient "
            f"of {rtol:g} of its start.",
        ),
        figure=Figure(
            "residual_polynomials",
            "Factor per period on each eigenvalue",
            "Absolute residual polynomials of the schedules over the interval of the eigenvalues.",
            tuple(drawn),
            Axis("eigenvalue λ", log=True),
            Axis("|∏ (1 − γₜ λ)|", log=True, floor=floor, ceiling=CEILING),
        ),
        caption=caption,
        table=Table(
            ("steps", "T", "factor/step, worst", "factor/step, mean", "steps", "products"),
            tuple(rows),
        ),
    )


def _factors(schedule: Schedule, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues, and the residual polynomial there; of long periods the largest value around."""
    if low >= high:
        grid = np.array([low])
        return grid, np.abs(residual_polynomial(schedule, grid))
    if schedule.period <= DRAWN_WHOLE:
        grid = np.geomspace(low, high, 1500)
        return grid, np.abs(residual_polynomial(schedule, grid))
    # On a logarithmic axis zeros are densest at its right end, at distances of (b − a)/T² there.
    num_cells, num_inside = 150, min(schedule.period, 512)
    fine = np.geomspace(low, high, num_cells * num_inside)
    values = np.abs(residual_polynomial(schedule, fine)).reshape(num_cells, num_inside)
    return fine.reshape(num_cells, num_inside)[:, num_inside // 2], values.max(axis=1)


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
            Axis("gradient norm, relative to the start", log=True, ceiling=CEILING),
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
