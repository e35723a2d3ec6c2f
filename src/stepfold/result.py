"""What a run returns: the iterate, how it ended and why, and what was measured on the way."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import ArrayT, FloatArray
from stepfold.schedules import Schedule


class Status(enum.Enum):
    """How a run ended; the value is advice."""

    CONVERGED = "The gradient norm fell below the tolerance."
    BUDGET = "All steps were taken; raise `max_steps`, loosen `rtol`, or take a longer period."
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
    """Measurements at the start and at the end of every period.

    Args:
        num_steps: Steps taken so far, shape (checks,).
        gradient_norms: ‖∇f(x)‖ at the iterate, shape (checks,), or (checks, batch).
        num_products: Products with the operator or its transpose that gradients cost so far, shape
            (checks,). The ``Aᵀb`` that a least-squares problem needs once is not among them.
        seconds: Wall-clock time since the start, shape (checks,).
    """

    num_steps: NDArray[np.int64]
    gradient_norms: FloatArray
    num_products: NDArray[np.int64]
    seconds: FloatArray

    def __post_init__(self) -> None:
        for name in ("num_steps", "gradient_norms", "num_products", "seconds"):
            values = np.array(getattr(self, name))
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON; what is not finite as None."""
        norms = self.gradient_norms.astype(object)
        norms[~np.isfinite(self.gradient_norms)] = None  # a run that diverged ends with these
        return {
            "num_steps": self.num_steps.tolist(),
            "gradient_norms": norms.tolist(),
            "num_products": self.num_products.tolist(),
            "seconds": self.seconds.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Result(Generic[ArrayT]):
    """Outcome of `solve`.

    Args:
        x: Iterate with the smallest gradient norm among those at period ends, shape (n,) or
            (batch, n); for a batch the largest of the rows' norms counts, each relative to ‖∇f(0)‖.
        status: How the run ended.
        num_steps: Steps taken.
        history: Gradient norms, products and seconds at period ends.
        schedule: The schedule that was run.
    """

    x: ArrayT
    status: Status
    num_steps: int
    history: History
    schedule: Schedule

    @property
    def converged(self) -> bool:
        """Whether the tolerance was met."""
        return self.status is Status.CONVERGED

    def __repr__(self) -> str:
        return (
            f"Result({self.status.name} after {self.num_steps} steps with {self.schedule.name} "
            f"steps of period {self.schedule.num_steps}: {self.status.value})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON; ``x`` as nested lists."""
        x: Any = self.x
        return {
            "x": x.tolist(),
            "status": self.status.name,
            "advice": self.status.value,
            "num_steps": self.num_steps,
            "history": self.history.to_dict(),
            "schedule": self.schedule.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class TrainingHistory:
    """Measurements at the end of each generation g = 1 … G of an incremental training.

    Args:
        steps: All T step sizes, shape (G, T); row g − 1 has trained its first g entries.
        losses: Mini-batch losses, shape (G, iterations).
        seconds: Wall-clock time since the start, shape (G,).
        mean_squared_errors: Exact mean squared error of the first g layers, shape (G,), relative to
            the start; None where the spectrum is not known.
        spectral_radii: Largest |p(λ)| of the first g layers, shape (G,); None likewise.
    """

    steps: FloatArray
    losses: FloatArray
    seconds: FloatArray
    mean_squared_errors: FloatArray | None = None
    spectral_radii: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "losses", "seconds", "mean_squared_errors", "spectral_radii"):
            if getattr(self, name) is not None:
                values = np.array(getattr(self, name), dtype=np.float64)
                values.flags.writeable = False
                object.__setattr__(self, name, values)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON."""

        def plain(values: FloatArray | None) -> Any:
            return None if values is None else values.tolist()

        return {
            "steps": self.steps.tolist(),
            "losses": self.losses.tolist(),
            "seconds": self.seconds.tolist(),
            "mean_squared_errors": plain(self.mean_squared_errors),
            "spectral_radii": plain(self.spectral_radii),
        }


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """Outcome of a training; its schedule goes into `solve` like any other.

    Args:
        schedule: The learned steps, in the order of the layers.
        history: Measurements at the end of each generation.
        num_iterations: Mini-batches per generation.
        seed: Seed of the data.
    """

    schedule: Schedule
    history: TrainingHistory
    num_iterations: int
    seed: int

    def schedule_after(self, generation: int) -> Schedule:
        """Learned steps of the first ``generation`` layers when that generation ended.

        Raises:
            ValueError: Unless 1 ≤ ``generation`` ≤ the number of generations.
        """
        if not 1 <= generation <= len(self.history.steps):
            raise ValueError(
                f"`generation` must lie between 1 and {len(self.history.steps)}, got {generation!r}"
            )
        steps = self.history.steps[generation - 1, :generation]
        return Schedule(steps, self.schedule.name, self.schedule.order)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON."""
        return {
            "schedule": self.schedule.to_dict(),
            "history": self.history.to_dict(),
            "num_iterations": self.num_iterations,
            "seed": self.seed,
        }
