"""Subjects from the user's data: a problem, a list of eigenvalues, the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepfold.lab.explorer.subject import LONGEST, MOST_NODES, LearnedSteps, MeasuredSpectrum
from stepfold.measure import SpectralMeasure, lanczos_measure
from stepfold.result.training import RUN_FILE, TrainingRun
from stepfold.schedules import Schedule
from stepfold.spectrum import (
    SpectralBounds,
    estimate_bounds,
    exact_eigenvalues,
    fits_dense_eigensolver,
)

# Nodes of the rule that stands for more eigenvalues than a page can take: twice what its longest
# period needs, so that two periods are exact as well.
RULE_NODES = 2 * LONGEST + 1


def spectrum_of_hessian(hessian: Any, lines: Sequence[str]) -> MeasuredSpectrum:
    """Spectrum of a Hessian: all eigenvalues, or its Lanczos measure where they are too many.

    Args:
        hessian: Symmetric positive semidefinite map of shape (n, n), or a `Gram`.
        lines: Python lines that define ``hessian``.

    Raises:
        ValueError: If it is not positive semidefinite, or 0.
    """
    size = int(hessian.shape[0])
    if fits_dense_eigensolver(hessian):
        values = exact_eigenvalues(hessian)
        return spectrum_of_measure(
            SpectralMeasure.from_eigenvalues(values),
            [
                *lines,
                "from stepfold.spectrum import exact_eigenvalues",
                "measure = SpectralMeasure.from_eigenvalues(exact_eigenvalues(hessian))",
            ],
            f"All {size:,} eigenvalues",
        )
    measure = lanczos_measure(hessian, num_nodes=LONGEST + 2)
    bounds = estimate_bounds(hessian)
    found = spectrum_of_measure(
        measure,
        [*lines, f"measure = lanczos_measure(hessian, num_nodes={LONGEST + 2})"],
        f"{size:,} eigenvalues are too many to compute; their Lanczos measure stands for them",
    )
    lower = bounds.lower if bounds.lower > 0 else float(found.measure.nodes[0])
    note = found.note if bounds.lower > 0 else f"{found.note}; its lower end is not known for sure"
    return MeasuredSpectrum(
        found.measure,
        SpectralBounds(lower, bounds.upper),
        note,
        (*found.lines[:-1], f"bounds = SpectralBounds({lower!r}, {bounds.upper!r})"),
    )


def spectrum_of_measure(
    measure: SpectralMeasure, lines: Sequence[str], origin: str
) -> MeasuredSpectrum:
    """Measure without what lies at 0, where no step changes the error, and short enough for a page.

    Args:
        measure: A measure of any number of nodes.
        lines: Python lines that define ``measure``.
        origin: What it is, the start of the note.

    Raises:
        ValueError: If there is nothing above 0.
    """
    positive = (measure.nodes > 0) & (measure.weights > 0)
    if not positive.any():
        raise ValueError(
            "the spectrum must hold an eigenvalue above 0 of positive weight, got none"
        )
    lines, note = list(lines), origin
    if not positive.all():
        dropped = int((~positive).sum())
        measure = SpectralMeasure(measure.nodes[positive], measure.weights[positive], measure.name)
        note += f"; {dropped:,} at 0 left out, where no step changes the error"
        lines += [
            "above = (measure.nodes > 0) & (measure.weights > 0)",
            "measure = SpectralMeasure(measure.nodes[above], measure.weights[above])",
        ]
    bounds = measure.bounds
    lines += ["bounds = measure.bounds"]
    if measure.nodes.size > MOST_NODES:
        note += f"; a Gauss rule of {RULE_NODES} nodes stands for the {measure.nodes.size:,}"
        measure = measure.quadrature(RULE_NODES)
        lines.insert(len(lines), f"measure = measure.quadrature({RULE_NODES})")
    return MeasuredSpectrum(
        measure, SpectralBounds(bounds.lower, bounds.upper), note + ".", tuple(lines)
    )


def load_run(folder: Path) -> tuple[LearnedSteps, SpectralMeasure | None]:
    """Learned steps and, where the run knows it, spectrum of a folder that a training wrote.

    Args:
        folder: What ``stepfold run`` or ``stepfold train`` wrote.

    Raises:
        ValueError: If it is not the folder of a run with learned steps, or a file is damaged.
    """
    learned, spectrum = folder / "schedules" / "learned.json", folder / "spectrum.json"
    if (folder / RUN_FILE).is_file():
        run = TrainingRun.load(folder)
        schedule, by_length = run.schedule, _steps_by_length(run)
    elif learned.is_file():
        schedule, by_length = Schedule.load(learned), {}
    else:
        raise ValueError(
            f"{folder} is not the folder of a training: it has neither {RUN_FILE} nor "
            "schedules/learned.json; make one with `stepfold run dugd` or `stepfold train`"
        )
    measure = None
    if spectrum.is_file():
        try:
            record = json.loads(spectrum.read_text(encoding="utf-8"))
            measure = SpectralMeasure.from_dict(record)
        except (RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{spectrum} is not a spectrum: {error}") from None
    return LearnedSteps(folder.resolve().name, schedule, by_length), measure


def _steps_by_length(run: TrainingRun) -> dict[int, tuple[float, ...]]:
    """Learned steps of every depth that was trained on the way to the last one."""
    depths: Any = run.history.num_layers
    return {
        int(depth): tuple(run.schedule_after(stage)) for stage, depth in enumerate(depths, start=1)
    }
