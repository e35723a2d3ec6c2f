"""What a run returns: the iterate, how it ended and why, and what was measured on the way."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from stepfold._codec import JsonRecord
from stepfold._show import Shown, axes_of, counted, drawing
from stepfold._typing import ArrayT, FloatArray
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds


class Status(enum.Enum):
    """How a run, or a row of its batch, ended; the value is advice.

    >>> Status.DIVERGED.name
    'DIVERGED'
    """

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
class History(JsonRecord):
    """Measurements at the start, at the end of every period, and where the guard stopped one.

    Of conjugate gradients every step has an entry, with the gradient norm that is carried along;
    it is computed from x where a row might end. Empty if the run was interrupted before the first
    was made.

    A long run is thinned: each time that there are 100 000 checks, or ten million numbers of a
    batch, every second check is dropped, and from then on only each 2nd, 4th, … is kept; the first
    and the last always are.

    Args:
        num_steps: Steps taken so far, shape (checks,).
        gradient_norms: ‖∇f(x)‖ at the iterate, ‖f(x) − x‖ for a fixed point, shape (checks,), or
            (checks, batch); a row that has ended keeps its last norm.
        num_products: Products with the operator or its transpose so far, shape (checks,), all of
            them: the one for ``Aᵀb`` and those of the guard too; for a fixed point, evaluations of
            the map. One with a batch counts once.
        seconds: Wall-clock time since the start, shape (checks,).
        iterates: x at each check, if `solve` was asked to keep them. After the first entry only
            the rows still in the run differ from the entry before.
        gaps: Duality gaps of a composite objective, shape (checks,) or (checks, batch); None where
            none is known.

    >>> from stepfold import LeastSquares, SpectralBounds, chebyshev_steps, solve
    >>> problem = LeastSquares(np.diag([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> solve(problem, chebyshev_steps(SpectralBounds(1.0, 4.0), 2)).history.num_steps[:3]
    array([0, 2, 4])
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
    def largest_norms(self) -> FloatArray:
        """The gradient norm at each check, of a batch the largest, shape (checks,)."""
        norms = self.gradient_norms
        return norms if norms.ndim < 2 else norms.max(axis=1, initial=0.0)

    def __str__(self) -> str:
        """One line: how many looks, and what they found."""
        if not self.num_steps.size:
            return "nothing was looked at"
        first, last = self.largest_norms[[0, -1]]
        return (
            f"{counted(self.num_steps.size, 'look')} in {counted(self.num_steps[-1], 'step')}, "
            f"{counted(self.num_products[-1], 'product')} and {self.seconds[-1]:.3g} s: "
            f"gradient norm from {first:.3g} to {last:.3g}"
        )


@dataclass(frozen=True)
class GuardEvent(JsonRecord):
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


@dataclass(frozen=True, eq=False)
class Result(Shown, JsonRecord, Generic[ArrayT]):
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
        schedule: The schedule that was run last: the one given unless the guard rebuilt it. Without
            one, Chebyshev steps for ``bounds``, for the next right-hand side.
        events: What the guard did.
        notes: Sentences on this very run, to be read after the status' own advice.
        row_statuses: For a batch, how each row ended; empty for one problem.
        row_num_steps: For a batch, the steps after which each row ended; empty for one problem.
        error_bound: ``‖∇f(x)‖ / lower``, the rounding of that gradient included, which bounds
            ‖x − x*‖ as long as ``lower`` is a lower bound of the spectrum; an array for a batch.
            None where no positive one is known, where it is an estimate only and no certain error
            was asked for, where the run has refuted it, and where the problem is preconditioned.
        bounds: Bounds of the spectrum that the run went by or has found, for the next right-hand
            side; None where it knows none.
        gradient_norm: ‖∇f(x)‖ at the x that is returned, computed from x; an array for a batch,
            None where it was not looked at.
        reason: What the status means for this kind of run, in place of the status' own advice;
            None for that.

    >>> from stepfold import LeastSquares, solve
    >>> result = solve(LeastSquares(np.diag([1.0, 2.0]), np.array([1.0, 4.0])))
    >>> result.status.name, result.x.round(6)
    ('CONVERGED', array([1., 2.]))
    """

    derived: ClassVar[tuple[str, ...]] = ("advice",)

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
    gradient_norm: float | FloatArray | None = None
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

    def __str__(self) -> str:
        """Three lines: how it ended, what that is worth, and what it took; then what was found."""
        took = f"{self.num_steps} steps"
        if self.history.num_products.size:
            took += f", {self.history.num_products[-1]} products"
        if self.bounds is not None:
            took += f"; eigenvalues in [{self.bounds.lower:.4g}, {self.bounds.upper:.4g}]"
        ending = self.status.value if self.reason is None else self.reason
        lines = [f"{self.status.name}: {ending}", self._worth(), took]
        return "\n".join([*lines, *map(str, self.events), *self.notes])

    def _worth(self) -> str:
        norms = self.history.gradient_norms
        if not norms.size:
            return "nothing was looked at"
        first = np.atleast_1d(norms[0])
        last = np.atleast_1d(norms[-1] if self.gradient_norm is None else self.gradient_norm)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = float(np.max(np.where(first > 0, last / first, 0.0)))
        worth = f"gradient norm {float(last.max()):.3g}, {ratio:.3g} of that at the start"
        if self.error_bound is not None:
            worth += f"; error at most {float(np.max(self.error_bound)):.3g}"
        return worth

    def _drawing(self) -> str:
        norms = self.history.largest_norms
        return drawing("Gradient norm by products", norms, self.history.num_products, log=True)

    def plot(self, ax: Any = None) -> Any:
        """Draw the gradient norm against products with the operator, of a batch the largest.

        Args:
            ax: Axes of matplotlib; new ones if not given.

        Returns:
            The axes.

        Raises:
            ModuleNotFoundError: If ``ax`` is not given and matplotlib is missing.
        """
        ax = axes_of(ax)
        ax.semilogy(self.history.num_products, self.history.largest_norms, ".-")
        ax.set(xlabel="products", ylabel="gradient norm")
        return ax

    def __repr__(self) -> str:
        return f"Result({self.status.name} after {self.num_steps} steps: {self.advice})"
