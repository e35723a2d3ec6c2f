"""What a run returns: the iterate, how it ended and why, and what was measured on the way."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import ArrayT, FloatArray
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds


class Status(enum.Enum):
    """How a run, or a row of its batch, ended; the value is advice."""

    CONVERGED = "The gradient norm fell below the tolerance."
    BUDGET = (
        "The budget was spent; raise `max_steps`, `max_products` or `max_seconds`, loosen `rtol`, "
        "or take a longer period."
    )
    STALLED = (
        "The gradient norm stopped falling at the least that can be attained; loosen `rtol`, or, "
        "where that is the precision of the arithmetic, use a wider dtype."
    )
    DIVERGED = "The gradient norm grew beyond all bounds, or is not finite."
    INTERRUPTED = "The run was interrupted; the best iterate so far is returned."


@dataclass(frozen=True, eq=False)
class History:
    """Measurements at the start, at the end of every period, and where the guard stopped one.

    Empty if the run was interrupted before the first was made.

    A long run is thinned: each time that there are 100 000 checks, or ten million numbers of a
    batch, every second check is dropped, and from then on only each 2nd, 4th, … is kept; the first
    and the last always are.

    Args:
        num_steps: Steps taken so far, shape (checks,).
        gradient_norms: ‖∇f(x)‖ at the iterate, shape (checks,), or (checks, batch); a row that has
            ended keeps its last norm.
        num_products: Products with the operator or its transpose so far, shape (checks,), all of
            them: the one for ``Aᵀb`` and those of the guard too; for a fixed point, evaluations of
            the map. One with a batch counts once.
        seconds: Wall-clock time since the start, shape (checks,).
        iterates: x at each check, if `solve` was asked to keep them. After the first entry only
            the rows still in the run differ from the entry before.
        gaps: Duality gaps of a composite objective, shape (checks,) or (checks, batch); None where
            none is known.
    """

    num_steps: NDArray[np.int64]
    gradient_norms: FloatArray
    num_products: NDArray[np.int64]
    seconds: FloatArray
    iterates: tuple[Any, ...] | None = None
    gaps: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("num_steps", "gradient_norms", "num_products", "seconds", "gaps"):
            if getattr(self, name) is None:
                continue
            values = np.array(getattr(self, name))
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    @property
    def residual_norms(self) -> FloatArray:
        """``gradient_norms`` by the name they have for a fixed point: ‖f(x) − x‖."""
        return self.gradient_norms

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON; what is not finite as None."""

        def finite(values: FloatArray) -> Any:  # a run that diverged ends with what is not
            plain = values.astype(object)
            plain[~np.isfinite(values)] = None
            return plain.tolist()

        record = {
            "num_steps": self.num_steps.tolist(),
            "gradient_norms": finite(self.gradient_norms),
            "num_products": self.num_products.tolist(),
            "seconds": self.seconds.tolist(),
        }
        if self.gaps is not None:
            record["gaps"] = finite(self.gaps)
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
        bounds: Bounds of the spectrum that the run went by or has found, for the next right-hand
            side; None where it knows none.
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
    bounds: SpectralBounds | None = None
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
            f"steps of period {self.schedule.period}: {self.advice})"
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
            "bounds": None if self.bounds is None else self.bounds.to_dict(),
        }
