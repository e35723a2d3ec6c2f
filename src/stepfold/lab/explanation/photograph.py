"""The picture that the unknowns are: what was given, and what the runs made of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.explanation.subject import Subject
from stepfold.lab.outcome import Section
from stepfold.lab.picture import LARGEST_SIDE, Image, Pictures
from stepfold.problems import QuadraticProblem


def check_shape(problem: QuadraticProblem[Any], shape: tuple[int, int] | None) -> None:
    """Raise unless the unknowns can be a picture of ``shape``."""
    if shape is None:
        return
    num_unknowns = problem.hessian.shape[1]
    if min(shape) < 1 or math.prod(shape) != num_unknowns:
        raise ValueError(
            f"`shape` must be the rows and columns of a picture of {num_unknowns} pixels, the "
            f"unknowns, got {shape[0]}x{shape[1]}"
        )


def pictures_section(subject: Subject) -> Section:
    """The right-hand side, if it is a picture of the same size, and what the runs end with."""
    assert subject.shape is not None, "there is a picture"  # noqa: S101
    values: dict[str, FloatArray] = {}
    given = _first_row(getattr(subject.problem, "rhs", subject.problem.linear_term))
    if given.size == math.prod(subject.shape):
        values["right-hand side"] = given
    for label in ("recommended", "conjugate gradients"):
        run = subject.runs[label]
        name = f"{label} steps" if label == "recommended" else label
        values[f"{name}, {run.history.num_products[-1]} products"] = _first_row(run.x)
    finite = next(iter(values.values()))
    ends = np.quantile(finite[np.isfinite(finite)], (0.002, 0.998)).tolist()
    if ends[0] == ends[1]:
        ends[1] = ends[0] + 1.0
    stride = -(-max(subject.shape) // LARGEST_SIDE)
    images = tuple(
        Image.from_values(
            label,
            # Black where a run has diverged.
            np.nan_to_num(pixels.reshape(subject.shape)[::stride, ::stride], posinf=0, neginf=0),
            lower=ends[0],
            upper=ends[1],
        )
        for label, pixels in values.items()
    )
    return Section(
        "The picture",
        (),
        figure=Pictures(
            "pictures",
            "What was given, and what the runs made of it",
            f"{len(images)} pictures side by side: {', '.join(values)}.",
            images,
        ),
        caption=(
            f"{subject.name} acts on pictures of {subject.shape[0]} × {subject.shape[1]} pixels. "
            "Black and white are the darkest and the brightest value of the first picture."
        ),
    )


def _first_row(values: Any) -> FloatArray:
    rows = np.atleast_2d(np.asarray(values))
    return np.asarray(np.abs(rows[0]) if np.iscomplexobj(rows) else rows[0], dtype=np.float64)
