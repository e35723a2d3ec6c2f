"""What the results of a trial rest on: residuals computed from x, an error bound, and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import norms
from stepfold.lab.explanation.subject import Subject
from stepfold.lab.outcome import Section, Table
from stepfold.problems import LeastSquares
from stepfold.result import Result
from stepfold.spectrum import Certainty

# Weight of a gradient that is no more than rounding, and share of the largest eigenvalue that is.
KERNEL, ROUNDING = 1e-26, 1e-12


def trust(subject: Subject) -> dict[str, Any]:
    """For each run its status, products, relative gradient, relative residual and error bound.

    All but the products are computed from the x that a run returned: nothing that an iteration
    carried along is believed. Of a batch the largest is told.
    """
    return {label: _of_run(subject, run) for label, run in subject.runs.items()}


def _of_run(subject: Subject, run: Result[Any]) -> dict[str, Any]:
    problem = subject.problem
    with np.errstate(over="ignore", invalid="ignore"):
        gradient, length = norms(problem.gradient(run.x)), norms(run.x)
        start = norms(problem.linear_term)
        residual = None
        if isinstance(problem, LeastSquares):
            residual = _largest(norms(problem.residual(run.x)), norms(problem.rhs))
        bound = None
        if subject.bounds.lower > 0 and seen_below(subject) is None:
            # ‖x*‖ is at least ‖x‖ less the bound; no relative bound where that is not positive.
            error = gradient / subject.bounds.lower
            bound = _largest(error, np.maximum(length - error, 0.0))
    return {
        "status": run.status.name,
        "num_steps": run.num_steps,
        "num_products": int(run.history.num_products[-1]),
        "relative_gradient": _largest(gradient, start),
        "relative_residual": residual,
        "relative_error_bound": bound,
    }


def _largest(values: Any, units: Any) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(values == 0, 0.0, values / units)
    return float(np.max(np.where(np.isnan(shares), np.inf, shares)))


def trust_section(subject: Subject) -> Section:
    """The numbers of `trust`, and what they hold under."""
    found = trust(subject)
    has_residual = isinstance(subject.problem, LeastSquares)
    rows = tuple(
        (
            label,
            f"{each['relative_gradient']:.3g}",
            *([f"{each['relative_residual']:.3g}"] if has_residual else []),
            "none" if (bound := each["relative_error_bound"]) is None else _in_words(bound),
        )
        for label, each in found.items()
    )
    bounds = subject.bounds
    sentences = [
        "Computed anew from the solutions: the gradient relative to that at 0"
        + (", the residual ‖b − Ax‖/‖b‖" if has_residual else ", which is the relative residual")
        + ", and a bound of the relative error ‖x − x*‖/‖x*‖.",
        f"The bounds took {counted(bounds.num_products)}, beside those in the table above.",
    ]
    if bounds.lower == 0:
        sentences.append("There is no error bound, for no lower bound above 0 is known.")
    elif (seen := seen_below(subject)) is not None:
        sentences.append(
            f"There is no error bound, for the lower bound {bounds.lower:.6g} is wrong: the "
            f"gradient has a part on eigenvalues of at most {seen:.6g}."
        )
    elif bounds.lower_certainty is Certainty.GUARANTEED:
        sentences.append(
            "The lower bound is guaranteed, and so is the error bound, up to rounding."
        )
    else:
        sentences.append(
            f"The lower bound is {bounds.lower_certainty.value}: the error bound holds if no "
            f"eigenvalue that matters lies below {bounds.lower:.6g}."
        )
    columns = ["steps", "gradient", "residual", "error at most"]
    if not has_residual:
        columns.remove("residual")
    return Section(
        "What the solutions are worth", tuple(sentences), table=Table(tuple(columns), rows)
    )


def seen_below(subject: Subject) -> float | None:
    """A Rayleigh quotient below the lower bound, which it proves wrong; None if none was seen."""
    bounds, measure = subject.bounds, subject.measure
    seen = [
        event.eigenvalue
        for run in subject.runs.values()
        for event in run.events
        if event.end == "lower"
    ]
    # What rounding has moved into the kernel of the operator has squares of its rounding as weight.
    seen += measure.nodes[measure.weights > KERNEL].tolist()
    below = [each for each in seen if each + ROUNDING * bounds.upper < bounds.lower]
    return min(below, default=None)


def counted(number: int) -> str:
    """A number of products, in words.

    >>> counted(1), counted(2)
    ('1 product', '2 products')
    """
    return f"{number} product{'' if number == 1 else 's'}"


def _in_words(bound: float) -> str:
    return f"{bound:.3g}" if np.isfinite(bound) else "no bound"
