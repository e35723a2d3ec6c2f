"""What a run has seen: the best iterate, residual norms, evaluations, and how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_count, check_nonnegative
from stepfold._typing import FloatArray
from stepfold.problems.fixed_point import FixedPoint, epsilon_of
from stepfold.result import History, Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.norms import norms, put_rows
from stepfold.solve.record import worst_end
from stepfold.solve.thinned import Thinned

# Evaluations without a better iterate after which a run is given up: at rounding, and above it.
PATIENCE_AT_ROUNDING, PATIENCE = 24, 100000
ROUNDING = 100
AT_ROUNDING = (
    "The residual norm stopped falling at the precision of the arithmetic; loosen `rtol`, or use a "
    "wider dtype."
)
STUCK = (
    f"The residual norm has not fallen for {PATIENCE} evaluations, far above rounding: the map has "
    "no fixed point, or is no contraction near the iterate, or is stochastic. Start elsewhere, or "
    "damp the map."
)


@dataclass(frozen=True)
class Limits:
    """Tolerances and budgets of a run.

    Raises:
        TypeError: If one of them is no number, or ``max_products`` no integer.
        ValueError: If one of them is out of range.
    """

    rtol: float
    atol: float
    max_products: int
    max_seconds: float = math.inf

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            check_nonnegative(name, getattr(self, name))
        check_nonnegative("max_seconds", self.max_seconds, allow_infinite=True)
        # Two are spent at the start, to see whether the map is repeatable.
        check_count("max_products", self.max_products, minimum=2)


def interrupted_at(x: Any, *, batch: bool = False) -> Result[Any]:
    """The record of a run that was interrupted before the residual at its start was known."""
    rows = x.shape[0] if batch else 0
    counts, seconds = np.zeros(0, dtype=np.int64), np.zeros(0)
    history = History(counts, np.zeros((0, rows)) if batch else seconds, counts, seconds)
    return Result(
        x,
        Status.INTERRUPTED,
        0,
        history,
        Schedule(np.ones(1), "plain"),
        row_statuses=(Status.INTERRUPTED,) * rows,
        row_num_steps=(0,) * rows,
    )


class Record:
    """Measurements of one run, and its best iterate.

    A batch has a row for each problem, with its own best iterate, tolerance and end; what is no
    batch is one row. Rows that have ended rest where they are, and count in no norm any more.

    Args:
        problem: Whose evaluations are counted, from ``before`` on.
        x: Start.
        residual: Its residual.
        limits: Tolerances and budgets.
        before: Evaluations that the problem had counted before the run.
        batch: Whether the first axis counts problems.
    """

    def __init__(
        self,
        problem: FixedPoint[Any],
        x: Any,
        residual: Any,
        limits: Limits,
        before: int,
        *,
        batch: bool = False,
    ) -> None:
        self._problem, self._before, self._limits = problem, before, limits
        self._is_batch = batch
        self._begun = time.perf_counter()
        self.num_steps = 0
        self.best, self.best_residual = x, residual
        sizes = self._sizes(residual)
        self._first = self._last = self._best_sizes = sizes
        # Rows of all sizes count alike, or a small one might grow unseen.
        self._weights = 1 / np.where(sizes > 0, sizes, 1.0) if batch else np.ones(1)
        self._tolerances = np.maximum(limits.rtol * sizes, limits.atol)
        self._best_at = np.full(sizes.size, self.num_products)
        self._active = np.ones(sizes.size, dtype=bool)
        self._is_whole = True
        self._ends: list[Status | None] = [None] * sizes.size
        self._ended_at = np.zeros(sizes.size, dtype=np.int64)
        self._rows: Thinned[tuple[int, FloatArray, int, float]] = Thinned(sizes.size)
        self.schedule = Schedule(np.ones(1), "plain")
        self._reasons: dict[Status, str] = {}
        self.check()

    def _sizes(self, array: Any) -> FloatArray:
        return norms(array.reshape(array.shape[0], -1) if self._is_batch else array.reshape(-1))

    def _total(self, sizes: FloatArray) -> float:
        """One norm for the rows that are still in the run."""
        if not self._is_batch:
            return float(sizes[0])
        return float(np.linalg.norm((sizes * self._weights)[self._active]))

    @property
    def num_products(self) -> int:
        """Evaluations of the map in this run."""
        return self._problem.num_products - self._before

    @property
    def room(self) -> int:
        """Evaluations left."""
        return self._limits.max_products - self.num_products

    @property
    def first(self) -> float:
        """The residual norm at the start."""
        return self._total(self._first)

    @property
    def last(self) -> float:
        """The residual norm that was seen last, or that of the best iterate."""
        return self._total(self._last)

    @property
    def is_met(self) -> bool:
        """Whether all rows that are left meet their tolerances."""
        met = self._last <= self._tolerances
        return bool((met if self._is_whole else met[self._active]).all())

    @property
    def status(self) -> Status | None:
        """How the run ended, by the worst of its rows; None if it has not."""
        return None if self._is_whole or self._active.any() else worst_end(self._ends)

    def see(self, x: Any, residual: Any) -> float:
        """Take in an iterate; its residual norm."""
        sizes = self._sizes(residual)
        self.num_steps += 1
        better = sizes < self._best_sizes
        if not self._is_whole:
            sizes = np.where(self._active, sizes, self._last)
            better &= self._active
        self._last = sizes
        clearly = better & (sizes < (1 - 1e-6) * self._best_sizes)
        self._best_at[clearly] = self.num_products
        if better.all():
            self.best, self.best_residual, self._best_sizes = x, residual, sizes
        elif better.any():
            self.best = _put(self.best, better, x)
            self.best_residual = _put(self.best_residual, better, residual)
            self._best_sizes = np.where(better, sizes, self._best_sizes)
        return self.last

    @property
    def sizes(self) -> FloatArray:
        """Residual norms of the rows, seen last."""
        return self._last

    def go_back(self, x: Any, residual: Any, sizes: FloatArray) -> tuple[Any, Any]:
        """Go on from an earlier iterate with its residual and norms."""
        self._last = sizes
        return x, residual

    def rested(self, x: Any, residual: Any) -> tuple[Any, Any]:
        """The same with the rows that have ended where they end, and a residual of 0."""
        return self._at_rest(x), self.active_part(residual)

    def _at_rest(self, x: Any) -> Any:
        return x if self._is_whole else _put(x, ~self._active, self.best)

    def active_part(self, residual: Any) -> Any:
        """A residual with zeros for the rows that have ended."""
        return residual if self._is_whole else _put(residual, ~self._active, 0 * self.best)

    def check(self) -> None:
        """Write down where the run is."""
        seconds = time.perf_counter() - self._begun
        self._rows.append((self.num_steps, self._last, self.num_products, seconds))

    def noise(self, x: Any) -> float:
        """What rounding contributes to a residual norm at ``x``."""
        return epsilon_of(x) * self._total(self._sizes(x))

    def is_over(self, x: Any, stop: Callable[[Any], bool] | None) -> bool:
        """Whether there is a status, at the iterate ``x`` whose residual is the last one."""
        if self.status is not None:
            return True
        met = self._active & (self._last <= self._tolerances)
        if met.any():
            self._finish("The residual norm fell below the tolerance.", x, met)
            if self.status is not None:
                return True
        if stop is not None and _says(stop, self._at_rest(x)):
            self._finish("`stop` said that the iterate is good enough.", x, self._active)
        elif self.room <= 0:
            self.end(Status.BUDGET, "The budget was spent; raise `max_products`, or loosen `rtol`.")
        elif time.perf_counter() - self._begun >= self._limits.max_seconds:
            self.end(Status.BUDGET, "The time was spent; raise `max_seconds`, or loosen `rtol`.")
        else:
            self._end_stalled()
        return self.status is not None

    def end(self, status: Status, reason: str, which: NDArray[np.bool_] | None = None) -> None:
        """End rows, all that are left if not given, with their best iterates."""
        which = self._active if which is None else which
        for place in np.flatnonzero(which).tolist():
            self._ends[place] = status
            self._ended_at[place] = self.num_steps
        self._reasons[status] = reason
        self._active, self._is_whole = self._active & ~which, False
        if self._active.any():
            self.best_residual = self.active_part(self.best_residual)

    def end_diverged(self, growth: float, broken: str, exploded: str) -> bool:
        """End the rows that are not finite or have grown by more than ``growth``; whether any."""
        if (self._last <= growth * self._first).all():
            return False
        infinite = self._active & ~np.isfinite(self._last)
        large = self._active & ~infinite & (self._last > growth * self._first)
        for which, reason in ((infinite, broken), (large, exploded)):
            if which.any():
                self.end(Status.DIVERGED, reason, which)
        return bool((infinite | large).any())

    def interrupt(self) -> None:
        """End the run because somebody asked for it."""
        self.check()
        self.end(Status.INTERRUPTED, Status.INTERRUPTED.value)

    def _finish(self, reason: str, x: Any, which: NDArray[np.bool_]) -> None:
        # What met the tolerance, whichever had the smallest residual.
        self.best = _put(self.best, which, x)
        self.end(Status.CONVERGED, reason, which)

    def _end_stalled(self) -> None:
        if self.num_products - self._best_at.min() < PATIENCE_AT_ROUNDING:
            return
        at_rounding = self._best_sizes <= ROUNDING * epsilon_of(self.best) * self._sizes(self.best)
        patience = np.where(at_rounding, PATIENCE_AT_ROUNDING, PATIENCE)
        stalled = self._active & (self.num_products - self._best_at >= patience)
        for which, reason in (
            (stalled & at_rounding, AT_ROUNDING),
            (stalled & ~at_rounding, STUCK),
        ):
            if which.any():
                self.end(Status.STALLED, reason, which)

    def result(self, notes: Sequence[str] = ()) -> Result[Any]:
        """The record of the run, with sentences on it."""
        status = self.status
        assert status is not None  # noqa: S101
        steps, sizes, evaluations, seconds = zip(*self._rows.entries(), strict=True)
        table = np.array(sizes)
        x = self.best
        return Result(
            np.asarray(x) if isinstance(x, np.generic) else x,
            status,
            self.num_steps,
            History(
                np.array(steps),
                table if self._is_batch else table[:, 0],
                np.array(evaluations),
                np.array(seconds),
            ),
            self.schedule,
            notes=tuple(notes),
            row_statuses=tuple(end for end in self._ends if end) if self._is_batch else (),
            row_num_steps=tuple(self._ended_at.tolist()) if self._is_batch else (),
            reason=self._reasons[status],
        )


def _put(full: Any, which: NDArray[np.bool_], rows: Any) -> Any:
    """A copy of ``full`` with some rows of another array; that itself if it is all of them."""
    if which.all():
        return rows
    places = np.flatnonzero(which).tolist()
    return put_rows(full, np.array(places), rows[places])


def _says(stop: Callable[[Any], bool], x: Any) -> bool:
    answer: Any = stop(x)
    if math.prod(getattr(answer, "shape", ())) != 1:
        raise ValueError(
            f"`stop` must return one truth value, got shape {tuple(answer.shape)}; "
            "ask for all of them, as by `.all()`"
        )
    return bool(answer)
