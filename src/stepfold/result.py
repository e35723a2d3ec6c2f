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
        """Return the record as plain Python values, ready for JSON."""
        return {
            "num_steps": self.num_steps.tolist(),
            "gradient_norms": self.gradient_norms.tolist(),
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
