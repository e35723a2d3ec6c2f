"""What a run has seen and spent, and how each row of it ends: the only place that decides a status.

A run looks at its iterate now and then. Each look gives every row a *size*, what its tolerance is
about: a gradient norm, the length of a proximal step, the residual of a map. The ledger keeps the
best iterate of each row, the history, and the budgets, and ends a row

- CONVERGED, if every criterion that was asked for holds for the iterate that was looked at;
- DIVERGED, if its size is not finite or has grown beyond all bounds;
- STALLED, if its size has come down to what the arithmetic can attain and stays there;
- BUDGET, if the next period does not fit into what is left;
- INTERRUPTED, if somebody pressed the key.

A size that stays where it is above the attainable is no stall: the run goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import put_rows, take
from stepfold._checks import check_callable, check_count, check_flag, check_nonnegative
from stepfold._typing import FloatArray
from stepfold.result import History, Status
from stepfold.run.thinned import Thinned

# Looks at the attainable accuracy without progress after which a row is stalled there.
PATIENCE = 10
# Sizes within this factor of the smallest are as good once rounding decides: the later iterate is
# then kept, because components that the size hardly shows go on converging.
AS_GOOD = 2.0
# By how much a size must fall at that level to be progress.
CLOSER = 0.95
# Growth of the size over that of the start beyond which no recovery is in sight.
DIVERGED_BEYOND = 1e8


@dataclass(frozen=True)
class Budgets:
    """What a run may spend; no period starts that would exceed it.

    Args:
        max_steps: Most steps.
        max_products: Most products with the operator or its transpose, or evaluations of a map;
            None for no limit.
        max_seconds: Most seconds; None for no limit.

    Raises:
        TypeError: If a count is no integer, or the time no number.
        ValueError: If one of them is negative.
    """

    max_steps: int | None = None
    max_products: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_steps", "max_products"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), minimum=0)
        if self.max_seconds is not None:
            check_nonnegative("max_seconds", self.max_seconds, allow_infinite=True)


@dataclass(frozen=True, eq=False)
class Terms:
    """What a run is to come to, what it may spend, and what is to be seen of it.

    Args:
        rtol: Of `stepfold.solve`, as the other four tolerances are.
        budgets: What may be spent.
        callback: Called as ``callback(t, x)`` after each step.
        keep_iterates: Whether the history keeps the iterates.

    Raises:
        TypeError: If a tolerance is no number, or the callback no function.
        ValueError: If a tolerance is negative or not finite.
    """

    rtol: float | None = None
    atol: float = 0.0
    error_rtol: float | None = None
    gap_rtol: float | None = None
    gap_atol: float = 0.0
    budgets: Budgets = Budgets()
    callback: Callable[[int, Any], Any] | None = None
    keep_iterates: bool = False

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "error_rtol", "gap_rtol", "gap_atol"):
            tolerance = getattr(self, name)
            if tolerance is not None or name.endswith("atol"):
                check_nonnegative(name, tolerance)
        check_callable("callback", self.callback)

    def ledger(self, x0: Any, clock: Callable[[], float]) -> Ledger:
        """The book of a run from ``x0``, of shape (n,) or (batch, n)."""
        num_rows = x0.shape[0] if x0.ndim == 2 else None
        return Ledger(x0, num_rows, self.budgets, keep_iterates=self.keep_iterates, clock=clock)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a look at an iterate shows; arrays have one number for each row.

    Args:
        sizes: What tolerances are about.
        met: Whether every criterion holds.
        floor: What rounding alone makes of a size, about; 0 where that is not known.
        known: Gradient or residual at the iterate, of its shape.
        dual: The gradient in the usual inner product, where that is another one.
        gaps: Duality gaps, where they are known.
        scores: What the best iterate is chosen by; the sizes if None.
        resting: Whether a criterion that does not hold is at what rounding allows; whether the
            sizes are at their floor if None.
    """

    sizes: FloatArray
    met: NDArray[np.bool_]
    floor: FloatArray
    known: Any = None
    dual: Any = None
    gaps: FloatArray | None = None
    scores: FloatArray | None = None
    resting: NDArray[np.bool_] | None = None


def worst_end(ends: Sequence[Status | None]) -> Status:
    """How a batch ended whose rows ended so."""
    order = [Status.INTERRUPTED, Status.DIVERGED, Status.STALLED, Status.BUDGET]
    return next((status for status in order if status in ends), Status.CONVERGED)


class Ledger:
    """The book of one run.

    Args:
        x0: Start, of shape (n,) or (batch, n), or of any shape where it counts as one row.
        num_rows: Rows of the batch; None for one problem.
        budgets: What may be spent.
        keep_iterates: Whether the history keeps the iterates.
        clock: Says how many seconds have passed since some moment.
    """

    def __init__(
        self,
        x0: Any,
        num_rows: int | None,
        budgets: Budgets,
        *,
        keep_iterates: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._begun = clock()
        self.budgets = budgets
        self.is_batch = num_rows is not None
        count = 1 if num_rows is None else num_rows
        self.best = x0
        self.active: NDArray[np.intp] = np.arange(count)
        """Places of the rows that are still in the run."""
        self.num_steps = self.num_products = 0
        self.statuses: list[Status | None] = [None] * count
        self.ended_at = np.zeros(count, dtype=np.int64)
        self.best_sizes = np.full(count, math.inf)
        self.last = np.full(count, math.inf)
        """Sizes at the last look."""
        self.first = np.full(count, math.inf)
        """Sizes at the first look."""
        self.factors = np.zeros(count)
        """The sizes at the last look over those at the one before."""
        self.floor = np.zeros(count)
        self.gaps: FloatArray | None = None
        self._best_scores = np.full(count, math.inf)
        self._least = np.full(count, math.inf)
        self._fallen_to = np.full(count, math.inf)
        self._resting: NDArray[np.bool_] | None = None
        self._waited = np.zeros(count, dtype=np.int64)
        self._longest = self._last_time = 0.0
        self._checks: Thinned[tuple[Any, ...]] = Thinned(count)
        keeps = check_flag("keep_iterates", keep_iterates)
        self._iterates: Thinned[Any] | None = Thinned(count) if keeps else None

    @property
    def status(self) -> Status | None:
        """How the run ended, by the worst of its rows; None while it goes on."""
        return None if self.active.size else worst_end(self.statuses)

    def check(self, x: Any, seen: Seen) -> None:
        """Book a look at the iterate of the active rows; those that meet their criteria end."""
        rows, sizes = self.active, seen.sizes
        with np.errstate(invalid="ignore", divide="ignore"):
            self.factors[rows] = sizes / self.last[rows]
        self.last[rows] = sizes
        if not self._checks.num_seen:
            self.first[rows] = sizes  # the first look is one at all rows
        if seen.gaps is not None:
            if self.gaps is None:
                self.gaps = np.full(len(self.statuses), math.inf)
                self.least_gaps = self.gaps.copy()
            self.gaps[rows] = seen.gaps
            self.least_gaps[rows] = np.fmin(self.least_gaps[rows], seen.gaps)
        self._write(self.last.copy())
        self._keep_iterate(x)
        scores = sizes if seen.scores is None else seen.scores
        self._keep_better(x, scores, seen)
        self._end(seen.met, Status.CONVERGED)

    def note(self, sizes: FloatArray) -> None:
        """Write sizes that were carried along, not seen, into the history."""
        carried = self.last.copy()
        carried[self.active] = sizes
        self._write(carried)

    def _write(self, sizes: FloatArray) -> None:
        seconds = self._clock() - self._begun
        self._longest = max(self._longest, seconds - self._last_time)
        self._last_time = seconds
        gaps = None if self.gaps is None else self.gaps.copy()
        self._checks.append((self.num_steps, sizes, self.num_products, seconds, gaps))

    def _keep_iterate(self, x: Any) -> None:
        if self._iterates is not None:
            whole = self.active.size == len(self.statuses)
            self._iterates.append(x if whole else put_rows(self._iterates.last, self.active, x))

    def _keep_better(self, x: Any, scores: FloatArray, seen: Seen) -> None:
        rows = self.active
        # A comparison with NaN is False.
        better = seen.met | (scores < self._best_scores[rows])
        resting = seen.sizes <= seen.floor if seen.resting is None else seen.resting
        if seen.resting is not None:
            self._resting = np.zeros(len(self.statuses), dtype=bool)
            self._resting[rows] = resting
        progress = better & ~(resting & ~(scores < CLOSER * self._fallen_to[rows]))
        better |= resting & (scores <= AS_GOOD * self._least[rows])
        self._fallen_to[rows] = np.where(progress, scores, self._fallen_to[rows])
        self._waited[rows] = np.where(progress, 0, self._waited[rows] + 1)
        self._least[rows] = np.fmin(self._least[rows], scores)
        if better.any():
            places = rows[better]
            self._best_scores[places] = scores[better]
            self.best_sizes[places] = seen.sizes[better]
            # That of the iterate that is kept: of one that grows rounding is no limit for it.
            floor = seen.floor[better]
            self.floor[places] = np.where(np.isfinite(floor), floor, 0.0)
            self.best = self._put(x, better)

    def _put(self, x: Any, chosen: NDArray[np.bool_]) -> Any:
        """The best iterates, with the chosen of the active rows replaced."""
        if np.count_nonzero(chosen) == len(self.statuses):
            return x
        return put_rows(self.best, self.active[chosen], take(x, np.flatnonzero(chosen)))

    @property
    def waited(self) -> NDArray[np.int64]:
        """Looks since each row's last progress."""
        return self._waited

    @property
    def waits(self) -> bool:
        """Whether a row has made no progress for so long that somebody should find out why."""
        waited = self._waited[self.active]
        return bool(((waited >= PATIENCE) & (waited % PATIENCE == 0)).any())

    def attain(self, floor: FloatArray) -> None:
        """Take in what no iterate can be below; rows whose best is at it are stalled.

        Args:
            floor: One number for each active row.
        """
        rows = self.active
        self.floor[rows] = np.maximum(self.floor[rows], floor)
        self._end(self.best_sizes[rows] <= AS_GOOD * floor, Status.STALLED)

    def judge(self) -> None:
        """End the rows that diverge or have stalled."""
        rows = self.active
        if not rows.size:
            return
        first = np.maximum(self.first[rows], self.floor[rows])
        self._end(~(self.last[rows] <= DIVERGED_BEYOND * first), Status.DIVERGED)
        rows = self.active
        resting = self.best_sizes[rows] <= self.floor[rows]
        if self._resting is not None:
            resting = self._resting[rows]
        self._end(resting & (self._waited[rows] >= PATIENCE), Status.STALLED)

    def leave_at(self, x: Any) -> None:
        """End the run at an iterate of all rows, because its caller wants no more."""
        self.best = x
        self.best_sizes[self.active] = self.last[self.active]
        self.end(Status.INTERRUPTED)

    def end(self, status: Status) -> None:
        """End whatever is still in the run."""
        self._end(np.ones(self.active.size, dtype=bool), status)

    def _end(self, which: NDArray[np.bool_], status: Status) -> None:
        if which.any():
            for place in self.active[which].tolist():
                self.statuses[place] = status
                self.ended_at[place] = self.num_steps
            self.active = self.active[~which]

    def restart(self) -> None:
        """Forget the rows' patience: they go on in another way, from their best iterates."""
        rows = self.active
        self.last[rows] = self.best_sizes[rows]
        self._waited[rows] = 0

    def fits(self, num_steps: int, num_products: float) -> bool:
        """Whether a period of so many steps and products, its look included, fits the budgets.

        For seconds it is taken to last as long as the slowest so far.
        """
        budgets = self.budgets
        if budgets.max_steps is not None and self.num_steps + num_steps > budgets.max_steps:
            return False
        if budgets.max_products is not None and (
            self.num_products + num_products > budgets.max_products
        ):
            return False
        if budgets.max_seconds is not None:
            return self._clock() - self._begun + self._longest < budgets.max_seconds
        return True

    def affords(self, num_products: int) -> bool:
        """Whether so many further products fit what is left, at the pace of those so far."""
        budgets = self.budgets
        if budgets.max_products is not None and (
            self.num_products + num_products > budgets.max_products
        ):
            return False
        if budgets.max_seconds is None:
            return True
        spent = self._clock() - self._begun
        return spent + num_products * spent / max(self.num_products, 1) <= budgets.max_seconds

    def history(self) -> History:
        """Everything that was booked; empty if the run was interrupted before its first look."""
        checks = self._checks.entries()
        if checks and checks[-1][2] != self.num_products:
            # Products that were spent after the last look belong to it.
            checks = [*checks[:-1], (*checks[-1][:2], self.num_products, *checks[-1][3:])]
        columns = zip(*checks, strict=True) if checks else ([], [], [], [], [])
        num_steps, sizes, num_products, seconds, gaps = columns
        shape = (len(checks), len(self.statuses)) if self.is_batch else (len(checks),)
        return History(
            np.array(num_steps, dtype=np.int64),
            np.reshape(np.array(sizes, dtype=np.float64), shape),
            np.array(num_products, dtype=np.int64),
            np.array(seconds, dtype=np.float64),
            None if self._iterates is None else tuple(self._iterates.entries()),
            np.reshape(np.array(gaps), shape) if self.gaps is not None else None,
        )
