"""What a run has seen: the best iterate, residual norms, evaluations, and how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import epsilon, norms, put_rows, reshaped, take
from stepfold._checks import check_count, check_nonnegative
from stepfold._typing import FloatArray
from stepfold.problems.fixed_point import EVALUATIONS_AT_START, FixedPoint, bare_residual
from stepfold.result import History, Result, Status
from stepfold.run.ledger import worst_end
from stepfold.run.thinned import Thinned
from stepfold.schedules import Schedule

# Evaluations without a better iterate, and share of all evaluations before it, after which it is
# measured what the map can attain. Each time that it has not been reached, the wait is doubled.
PATIENCE = 24
# A residual of so many times the map's noise has come down to it.
AT_NOISE = 10.0
# Rounding is no more than this power of the machine's epsilon, relative to the iterate.
MOST_ROUNDING = 0.5
# Residuals of so many roundings of the iterate: x equals f(x) in its dtype.
ROUNDINGS = 4.0
# By how much x is moved to see rounding, in units of it.
NUDGE = 16.0
AT_ROUNDING = (
    "The residual norm stopped falling at the precision of the arithmetic; loosen `rtol`, or use a "
    "wider dtype."
)
RANDOM = (
    "The residual norm has come down to the noise of the map, which is stochastic; fix the map's "
    "random numbers, or loosen `rtol`."
)
# Evaluations without a better iterate that are worth telling.
LONG = 200
UNCHANGED = (
    "No evaluation of the last {} came closer than the one before them: the map may have no fixed "
    "point, or be no contraction near the iterate. Start elsewhere, or damp the map."
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
        problem: The map.
        x: Start.
        residual: Its residual.
        limits: Tolerances and budgets.
        batch: Whether the first axis counts problems.
        is_stochastic: Whether two evaluations at the start differed.
    """

    def __init__(
        self,
        problem: FixedPoint[Any],
        x: Any,
        residual: Any,
        limits: Limits,
        *,
        batch: bool = False,
        is_stochastic: bool = False,
    ) -> None:
        self._problem, self._limits = problem, limits
        self._is_stochastic = is_stochastic
        self.num_products = EVALUATIONS_AT_START
        """Evaluations of the map in this run."""
        self._is_batch = batch
        self._begun = time.perf_counter()
        self.num_steps = 0
        self.best, self.best_residual = x, residual
        sizes = self._sizes(residual)
        self._first = self._last = self._best_sizes = sizes
        # Rows of all sizes count alike, or a small one might grow unseen.
        self._weights = 1 / np.where(sizes > 0, sizes, 1.0) if batch else np.ones(1)
        # A start that is a fixed point to the accuracy asked for is returned.
        there = sizes <= limits.rtol * self._sizes(x)
        asked = np.maximum(limits.rtol * sizes, limits.atol)
        self._asked = self._tolerances = np.where(there, np.maximum(sizes, asked), asked)
        self._start = x, residual
        self._best_at = np.full(sizes.size, self.num_products)
        self._patience = np.full(sizes.size, PATIENCE)
        self._active = np.ones(sizes.size, dtype=bool)
        self._is_whole = True
        self._ends: list[Status | None] = [None] * sizes.size
        self._ended_at = np.zeros(sizes.size, dtype=np.int64)
        self._rows: Thinned[tuple[int, FloatArray, int, float]] = Thinned(sizes.size)
        self.schedule = Schedule(np.ones(1), "plain")
        self._reasons: dict[Status, str] = {}
        self.check()

    def _sizes(self, array: Any) -> FloatArray:
        return norms(reshaped(array, (array.shape[0], -1) if self._is_batch else (-1,)))

    def _total(self, sizes: FloatArray) -> float:
        """One norm for the rows that are still in the run."""
        if not self._is_batch:
            return float(sizes[0])
        return float(np.linalg.norm((sizes * self._weights)[self._active]))

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

    def evaluate(self, x: Any) -> Any:
        """The residual at an iterate, with zeros for the rows that have ended."""
        self.num_products += 1
        return self.active_part(bare_residual(self._problem, x))

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
        return epsilon(x) * self._total(self._sizes(x))

    def is_over(self, x: Any, stop: Callable[[Any], bool] | None) -> bool:
        """Whether there is a status, at the iterate ``x`` whose residual is the last one."""
        if self.status is not None:
            return True
        if self._limits.rtol > 0:
            rounding = ROUNDINGS * epsilon(x) * self._sizes(x)
            self._tolerances = np.maximum(self._asked, rounding)
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

    def is_lost(self, growth: float) -> bool:
        """Whether a row is not finite or has grown by more than ``growth``."""
        return not (self._last <= growth * self._first).all()

    @property
    def is_best(self) -> bool:
        """Whether all rows that are left were never better."""
        return bool((self._last <= self._best_sizes)[self._active].all())

    def wanders(self, most: tuple[int, int]) -> bool:
        """Whether no row has come closer for many evaluations, far above rounding."""
        waited = (self.num_products - self._best_at)[self._active]
        near = (self._best_sizes <= self._rounding())[self._active]
        return bool((~near & (waited > most[0] + most[1] * self._best_at[self._active])).all())

    def start_over(self, growth: float, x: Any, residual: Any) -> tuple[Any, Any]:
        """The same with the rows that are lost back at their starts."""
        lost = self._active & ~(self._last <= growth * self._first)
        self._last = np.where(lost, self._first, self._last)
        return _put(x, lost, self._start[0]), _put(residual, lost, self._start[1])

    def end_diverged(self, growth: float, broken: str, exploded: str) -> None:
        """End the rows that are not finite or have grown by more than ``growth``."""
        infinite = self._active & ~np.isfinite(self._last)
        large = self._active & ~infinite & (self._last > growth * self._first)
        for which, reason in ((infinite, broken), (large, exploded)):
            if which.any():
                self.end(Status.DIVERGED, reason, which)

    def interrupt(self) -> None:
        """End the run because somebody asked for it."""
        self.check()
        self.end(Status.INTERRUPTED, Status.INTERRUPTED.value)

    def _finish(self, reason: str, x: Any, which: NDArray[np.bool_]) -> None:
        # What met the tolerance, whichever had the smallest residual.
        self.best = _put(self.best, which, x)
        self.end(Status.CONVERGED, reason, which)

    def _end_stalled(self) -> None:
        """End the rows whose best iterates are as good as the map allows, if it looks like that."""
        waited = self.num_products - self._best_at
        late = self._active & (waited >= np.maximum(self._patience, self._best_at))
        if not late.any() or self.room < 2:
            return
        if not self._is_stochastic:
            late &= self._best_sizes <= self._rounding()
        if late.any():
            attained = late & (self._best_sizes <= AT_NOISE * self._noise_of_map())
            if attained.any():
                self.end(Status.STALLED, RANDOM if self._is_stochastic else AT_ROUNDING, attained)
        self._patience = np.where(late, 2 * np.maximum(waited, PATIENCE), self._patience)

    def _waited(self) -> NDArray[np.int64]:
        """Evaluations since the best iterate of each row, at most those before it."""
        waited = self.num_products - self._best_at
        return np.where(waited > self._best_at, waited, 0)

    def _rounding(self) -> FloatArray:
        """More than what rounding makes of residuals at the best iterates."""
        most: FloatArray = epsilon(self.best) ** MOST_ROUNDING * self._sizes(self.best)
        return most

    def _noise_of_map(self) -> FloatArray:
        """What the map's values at the best iterates owe to rounding and to chance, by norms.

        A second difference of f over a distance of a few roundings of x: what f has of slope drops
        out, what it has of curvature is far below. Of independent errors e it has variance 6e².
        """
        x, nudge = self.best, NUDGE * epsilon(self.best)
        above, below = x * (1 + nudge), x * (1 - nudge)
        residuals = self.evaluate(above) + self.evaluate(below) - 2 * self.best_residual
        return self._sizes(residuals + ((above - x) + (below - x))) / math.sqrt(6)

    def result(self, notes: Sequence[str] = ()) -> Result[Any]:
        """The record of the run, with sentences on it."""
        status = self.status
        assert status is not None  # noqa: S101
        if status is Status.BUDGET and (waited := int(self._waited().max())) > LONG:
            notes = [*notes, UNCHANGED.format(waited)]
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
    return put_rows(full, places, take(rows, places))


def _says(stop: Callable[[Any], bool], x: Any) -> bool:
    answer: Any = stop(x)
    if math.prod(getattr(answer, "shape", ())) != 1:
        raise ValueError(
            f"`stop` must return one truth value, got shape {tuple(answer.shape)}; "
            "ask for all of them, as by `.all()`"
        )
    return bool(answer)
