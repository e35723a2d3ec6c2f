"""What a training returns: the learned schedule, and measurements on the way; without torch."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stepfold._codec import JsonRecord
from stepfold._show import Shown, axes_of, counted, drawing, in_a_line, lines
from stepfold._typing import FloatArray
from stepfold.schedules import Schedule

FORMAT = "stepfold.training/1"
RUN_FILE = "training.json"
"""Name of the record in the folder of a training."""


@dataclass(frozen=True, eq=False)
class TrainingHistory(JsonRecord):
    """Measurements at the end of each stage g = 1 … G of a training.

    The papers call a stage a generation.

    Args:
        steps: All T step sizes, shape (G, T); row g − 1 has trained its first ``num_layers[g − 1]``
            entries.
        losses: Mini-batch losses, shape (G, iterations); NaN where a stage had fewer iterations,
            or its loss was not a number.
        seconds: Wall-clock time since the start, shape (G,).
        mean_squared_errors: Exact mean squared error of the layers trained so far, shape (G,),
            relative to the start; None where the spectrum is not known.
        spectral_radii: Largest |p(λ)| of these layers, shape (G,); None likewise.
        num_layers: Layers trained so far, shape (G,); g if not given.
        held_out_losses: Best loss on held-out data, shape (G,); None if there were none.
        num_skipped: Iterations skipped for a gradient that was not finite, shape (G,); zeros if
            not given.
    """

    steps: FloatArray
    losses: FloatArray
    seconds: FloatArray
    mean_squared_errors: FloatArray | None = None
    spectral_radii: FloatArray | None = None
    num_layers: NDArray[np.int64] | None = None
    held_out_losses: FloatArray | None = None
    num_skipped: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        num_stages = len(self.steps)
        if self.num_layers is None:
            object.__setattr__(self, "num_layers", np.arange(1, num_stages + 1))
        if self.num_skipped is None:
            object.__setattr__(self, "num_skipped", np.zeros(num_stages))
        for name in _field_names(self):
            if getattr(self, name) is not None:
                dtype = np.int64 if name in ("num_layers", "num_skipped") else np.float64
                values = np.array(getattr(self, name), dtype=dtype)
                values.flags.writeable = False
                object.__setattr__(self, name, values)

    def __str__(self) -> str:
        """One line: how many stages, how long they took, and the error at the end."""
        if not len(self.steps):
            return "no stage was trained"
        words = f"{counted(len(self.steps), 'stage')} in {self.seconds[-1]:.3g} s"
        last = self.losses[-1][np.isfinite(self.losses[-1])]
        if last.size:
            words += f", last loss {last[-1]:.4g}"
        if self.mean_squared_errors is not None:
            words += f", mean squared error {self.mean_squared_errors[-1]:.4g} of that at the start"
        return words


def _field_names(record: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(record)]


@dataclass(frozen=True, eq=False)
class TrainingRun(Shown, JsonRecord):
    """Outcome of a training; its schedule goes into `solve` like any other.

    Args:
        schedule: The learned steps, in the order of the layers.
        history: Measurements at the end of each stage.
        num_iterations: Mini-batches per stage; the largest number where stages differ.
        seed: Seed of the data.
        parameters: Other learned parameters by name, each of shape (copies, …).
        finished: Whether all stages were trained; false if the training was stopped.
    """

    tag: ClassVar = ("format", FORMAT)

    schedule: Schedule
    history: TrainingHistory
    num_iterations: int
    seed: int
    parameters: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    finished: bool = True

    def __str__(self) -> str:
        """Three lines: what was trained, what it learned, and what that leaves."""
        stages = len(self.history.steps)
        found = f"{counted(self.schedule.period, 'step')} learned in {counted(stages, 'stage')}"
        others = ", ".join(self.parameters)
        return lines(
            (
                f"{found} of {self.num_iterations} iterations, seed {self.seed}"
                + ("" if self.finished else "; stopped before its end"),
                f"steps {in_a_line(self.schedule.steps)}" + (f"; also {others}" if others else ""),
                str(self.history),
            )
        )

    def _drawing(self) -> str:
        return drawing("Learned steps, in the order of the layers", self.schedule.steps)

    def plot(self, ax: Any = None) -> Any:
        """Draw the learned steps by layer, with those of earlier stages in light colours.

        Args:
            ax: Axes of matplotlib; new ones if not given.

        Returns:
            The axes.

        Raises:
            ModuleNotFoundError: If ``ax`` is not given and matplotlib is missing.
        """
        ax = axes_of(ax)
        depths: Any = self.history.num_layers
        for row, depth in zip(self.history.steps[:-1], depths[:-1], strict=True):
            ax.plot(np.arange(1, depth + 1), row[:depth], color="0.8", linewidth=1, zorder=1)
        ax.plot(np.arange(1, self.schedule.period + 1), self.schedule.steps, "o-", label="learned")
        ax.set(xlabel="layer", ylabel="step size")
        return ax

    def schedule_after(self, stage: int) -> Schedule:
        """Learned steps of the layers trained so far when that stage ended.

        Raises:
            ValueError: Unless 1 ≤ ``stage`` ≤ the number of stages.
        """
        if not 1 <= stage <= len(self.history.steps):
            raise ValueError(
                f"`stage` must lie between 1 and {len(self.history.steps)}, got {stage!r}"
            )
        depths: Any = self.history.num_layers
        steps = self.history.steps[stage - 1, : depths[stage - 1]]
        signed = bool(steps.min() <= 0)
        return Schedule(steps, self.schedule.name, self.schedule.order, signed=signed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to a new JSON file, which `load` reads.

        Raises:
            FileExistsError: If ``path`` exists; nothing is overwritten.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainingRun:
        """Read a run from a JSON file, or from the folder that ``stepfold train`` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not the record of a training.
        """
        file = Path(path)
        if file.is_dir():
            file = file / RUN_FILE
        try:
            return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{file} is not the record of a training: {error}") from None
