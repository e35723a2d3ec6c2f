"""What a run returns: the iterate, how it ended and why, and what was measured on the way."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import ArrayT, FloatArray
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds

TRAINING_FORMAT = "stepfold.training/1"


class Status(enum.Enum):
    """How a run, or a row of its batch, ended; the value is advice."""

    CONVERGED = "The gradient norm fell below the tolerance."
    BUDGET = (
        "The budget was spent; raise `max_steps`, `max_products` or `max_seconds`, loosen `rtol`, "
        "or take a longer period."
    )
    STALLED = (
        "The gradient norm stopped falling at the precision of the arithmetic; loosen `rtol`, or "
        "use a wider dtype."
    )
    DIVERGED = (
        "The gradient norm grew beyond all bounds; the schedule's interval does not contain the "
        "spectrum. Estimate the bounds with `estimate_bounds`, or raise the upper one."
    )
    INTERRUPTED = "The run was interrupted; the best iterate so far is returned."


@dataclass(frozen=True, eq=False)
class History:
    """Measurements at the start, at the end of every period, and where the guard stopped one.

    Args:
        num_steps: Steps taken so far, shape (checks,).
        gradient_norms: ‖∇f(x)‖ at the iterate, shape (checks,), or (checks, batch); a row that has
            ended keeps its last norm.
        num_products: Products with the operator or its transpose so far, shape (checks,), all of
            them: the one for ``Aᵀb`` and those of the guard too. One with a batch counts once.
        seconds: Wall-clock time since the start, shape (checks,).
        iterates: x at each check, if `solve` was asked to keep them. After the first entry only
            the rows still in the run differ from the entry before.
    """

    num_steps: NDArray[np.int64]
    gradient_norms: FloatArray
    num_products: NDArray[np.int64]
    seconds: FloatArray
    iterates: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("num_steps", "gradient_norms", "num_products", "seconds"):
            values = np.array(getattr(self, name))
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON; what is not finite as None."""
        norms = self.gradient_norms.astype(object)
        norms[~np.isfinite(self.gradient_norms)] = None  # a run that diverged ends with these
        record = {
            "num_steps": self.num_steps.tolist(),
            "gradient_norms": norms.tolist(),
            "num_products": self.num_products.tolist(),
            "seconds": self.seconds.tolist(),
        }
        if self.iterates is not None:
            record["iterates"] = [x.tolist() for x in self.iterates]
        return record


@dataclass(frozen=True)
class GuardEvent:
    """What the guard saw and did: it moved an end of the interval and rebuilt the schedule.

    Args:
        num_steps: Steps taken when it was seen.
        period: Which period that was in, counted from 0 over the whole run.
        end: "upper" or "lower".
        old: Bounds until then.
        new: Bounds from then on.
        eigenvalue: A Rayleigh quotient beyond the old end; it proves that the end was wrong.
        num_products: Products spent on finding it.
    """

    num_steps: int
    period: int
    end: str
    old: SpectralBounds
    new: SpectralBounds
    eigenvalue: float
    num_products: int

    def __str__(self) -> str:
        old, new = getattr(self.old, self.end), getattr(self.new, self.end)
        side = "above" if self.end == "upper" else "below"
        return (
            f"The {self.end} bound was wrong, an eigenvalue lies at {self.eigenvalue:.6g} or "
            f"{side}: moved from {old:.6g} to {new:.6g} after {self.num_steps} steps."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON."""
        return {
            "num_steps": self.num_steps,
            "period": self.period,
            "end": self.end,
            "old": self.old.to_dict(),
            "new": self.new.to_dict(),
            "eigenvalue": self.eigenvalue,
            "num_products": self.num_products,
        }


@dataclass(frozen=True, eq=False)
class Result(Generic[ArrayT]):
    """Outcome of `solve` or of `accelerate`.

    Args:
        x: Iterate with the smallest gradient norm among those at period ends, shape (n,) or
            (batch, n), chosen for each row on its own. Where the gradient norm has come down to
            rounding, the last iterate of those that are as good: small eigenvalues, which the norm
            does not show, go on converging.
        status: How the run ended; for a batch the worst of its rows' ends, INTERRUPTED before
            DIVERGED before STALLED before BUDGET.
        num_steps: Steps taken.
        history: Gradient norms, products and seconds at period ends.
        schedule: The schedule that was run last; the one given unless the guard rebuilt it.
        events: What the guard did.
        notes: Sentences on this very run, to be read after the status' own advice.
        row_statuses: For a batch, how each row ended; empty for one problem.
        row_num_steps: For a batch, the steps after which each row ended; empty for one problem.
        error_bound: ``‖∇f(x)‖ / lower``, which bounds ‖x − x*‖ as long as ``lower`` is a lower
            bound of the spectrum; an array for a batch; None where no positive one is known, or
            where the problem is preconditioned.
        reason: What the status means for this kind of run, in place of the status' own advice;
            None for that.
    """

    x: ArrayT
    status: Status
    num_steps: int
    history: History
    schedule: Schedule
    events: tuple[GuardEvent, ...] = ()
    notes: tuple[str, ...] = ()
    row_statuses: tuple[Status, ...] = ()
    row_num_steps: tuple[int, ...] = ()
    error_bound: float | FloatArray | None = None
    reason: str | None = None

    @property
    def converged(self) -> bool:
        """Whether the tolerance was met, by every row of a batch."""
        return self.status is Status.CONVERGED

    @property
    def advice(self) -> str:
        """What the status advises, what the guard did, and what else there is to say."""
        ending = self.status.value if self.reason is None else self.reason
        return " ".join((ending, *map(str, self.events), *self.notes))

    def __repr__(self) -> str:
        return (
            f"Result({self.status.name} after {self.num_steps} steps with {self.schedule.name} "
            f"steps of period {self.schedule.num_steps}: {self.advice})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON; ``x`` as nested lists."""
        x: Any = self.x
        bound: Any = self.error_bound
        return {
            "x": x.tolist(),
            "status": self.status.name,
            "advice": self.advice,
            "num_steps": self.num_steps,
            "history": self.history.to_dict(),
            "schedule": self.schedule.to_dict(),
            "events": [event.to_dict() for event in self.events],
            "row_statuses": [status.name for status in self.row_statuses],
            "row_num_steps": list(self.row_num_steps),
            "error_bound": bound.tolist() if isinstance(bound, np.ndarray) else bound,
        }


@dataclass(frozen=True, eq=False)
class TrainingHistory:
    """Measurements at the end of each stage (generation, if incremental) g = 1 … G of a training.

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

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON; what is not finite as None."""

        def plain(values: Any) -> Any:
            if values is None or np.isfinite(values).all():
                return None if values is None else values.tolist()
            holes = values.astype(object)
            holes[~np.isfinite(values)] = None
            return holes.tolist()

        return {name: plain(getattr(self, name)) for name in _field_names(self)}

    @classmethod
    def from_dict(cls, record: Any) -> TrainingHistory:
        """Make a history from what `to_dict` returned; None becomes NaN.

        Raises:
            ValueError: If ``record`` is not such a record.
        """
        names = set(_field_names(cls))
        if not isinstance(record, dict) or not {"steps", "losses", "seconds"} <= record.keys():
            raise ValueError("a training's history must have steps, losses and seconds")
        if record.keys() - names:
            unknown = ", ".join(sorted(record.keys() - names))
            raise ValueError(f"a training's history has no {unknown}; it is of another version")
        columns: dict[str, Any] = {
            name: values if values is None else np.array(values, dtype=np.float64)
            for name, values in record.items()
        }
        return cls(**columns)


def _field_names(record: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(record)]


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """Outcome of a training; its schedule goes into `solve` like any other.

    Args:
        schedule: The learned steps, in the order of the layers.
        history: Measurements at the end of each stage.
        num_iterations: Mini-batches per stage; the largest number where stages differ.
        seed: Seed of the data.
        parameters: Other learned parameters by name, each of shape (copies, …).
        finished: Whether all stages were trained; false if the training was stopped.
    """

    schedule: Schedule
    history: TrainingHistory
    num_iterations: int
    seed: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = True

    def schedule_after(self, generation: int) -> Schedule:
        """Learned steps of the layers trained so far when that generation (stage) ended.

        Raises:
            ValueError: Unless 1 ≤ ``generation`` ≤ the number of generations.
        """
        if not 1 <= generation <= len(self.history.steps):
            raise ValueError(
                f"`generation` must lie between 1 and {len(self.history.steps)}, got {generation!r}"
            )
        depths: Any = self.history.num_layers
        steps = self.history.steps[generation - 1, : depths[generation - 1]]
        return Schedule(steps, self.schedule.name, self.schedule.order)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON."""
        return {
            "format": TRAINING_FORMAT,
            "schedule": self.schedule.to_dict(),
            "history": self.history.to_dict(),
            "num_iterations": self.num_iterations,
            "seed": self.seed,
            "parameters": {name: values.tolist() for name, values in self.parameters.items()},
            "finished": self.finished,
        }

    @classmethod
    def from_dict(cls, record: Any) -> TrainingRun:
        """Make a run from what `to_dict` returned; torch is not needed.

        Raises:
            ValueError: If ``record`` is not such a record.
        """
        if not isinstance(record, dict) or record.get("format") != TRAINING_FORMAT:
            found = record.get("format") if isinstance(record, dict) else type(record).__name__
            raise ValueError(
                f"a training's record must have format {TRAINING_FORMAT!r}, got {found!r}"
            )
        names = {"schedule", "history", "num_iterations", "seed", "parameters", "finished"}
        if names - record.keys():
            missing = ", ".join(sorted(names - record.keys()))
            raise ValueError(f"a training's record must have {missing}")
        return cls(
            Schedule.from_dict(record["schedule"]),
            TrainingHistory.from_dict(record["history"]),
            num_iterations=int(record["num_iterations"]),
            seed=int(record["seed"]),
            parameters={name: np.array(values) for name, values in record["parameters"].items()},
            finished=bool(record["finished"]),
        )
