"""What a training leaves: its learned schedule, and what is known of every stage."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold.iterations import GradientDescent
from stepfold.polynomial import mean_squared_error, spectral_radius
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.unfolded._loop import Loop
from stepfold.unfolded.losses import measure_of


def outcome_of(loop: Loop, *, finished: bool) -> TrainingRun:
    """The record of a training, with the stage under way if it was stopped in one."""
    rows = loop.state.rows if finished else [*loop.state.rows, loop.row()]
    stages = loop.options.stages[: len(rows)]
    longest = max(stage.num_iterations for stage in stages)
    losses = np.full((len(rows), longest), np.nan)
    for row, stage_losses in zip(losses, loop.state.losses, strict=False):
        row[: stage_losses.size] = stage_losses
    columns: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    if loop.options.held_out is None:
        columns["held_out_losses"] = None
    measure = measure_of(loop.loss)
    mean_squared_errors = spectral_radii = None
    if measure is not None and isinstance(loop.network.iteration, GradientDescent):
        learned = [row["steps"][: row["num_layers"]] for row in rows]
        error = getattr(loop.loss, "mean_squared_error", None)
        errors = [
            mean_squared_error(steps, measure) if error is None else error(steps)
            for steps in learned
        ]
        mean_squared_errors = np.array(errors)
        spectral_radii = np.array([spectral_radius(steps, measure.nodes) for steps in learned])
    history = TrainingHistory(
        losses=losses,
        mean_squared_errors=mean_squared_errors,
        spectral_radii=spectral_radii,
        **columns,
    )
    return TrainingRun(
        loop.network.schedule(),
        history,
        num_iterations=longest,
        seed=loop.options.seed,
        parameters=loop.network.learned(),
        finished=finished,
    )
