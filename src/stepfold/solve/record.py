"""What a run has seen at period ends, and how each row of it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.result import History, Status
from stepfold.solve.norms import epsilon, norms, put_rows
from stepfold.solve.thinned import Thinned

# A period that converges lowers the norm. After this many period ends without a new minimum only
# rounding is left; with momentum, whose norm may rise and swing for about √κ steps, or measured in
# another inner product than that of a preconditioner, after a third of all if that is more. A norm
# above that of the start is no stall at all. Nor is one that rises every time: without rounding the
# squared norms at period ends, ∑ cᵢ p(λᵢ)²ᵏ, are a convex sequence, which rises on once it rises.
STALLED_AFTER = 10
STALLED_FRACTION = 1 / 3
# Growth of the norm over that of the start beyond which no recovery is in sight.
DIVERGED_BEYOND = 1e8
# Gradient norms within this factor of the smallest are as good once rounding decides. The norm is
# blind to small eigenvalues; the distance that x moves in a period is not.
AS_GOOD = 2.0
# Gradients below this many rounding errors of their own computation may be rounding only.
RESTING = 100.0
# By how much that distance, and such a gradient, must fall for the run to be still on its way.
CLOSER = 0.95


def worst_end(ends: Sequence[Status | None]) -> Status:
    """How a batch ended whose rows ended so."""
    order = [Status.INTERRUPTED, Status.DIVERGED, Status.STALLED, Status.BUDGET]
    return next((status for status in order if status in ends), Status.CONVERGED)


@dataclass(frozen=True)
class Criteria:
    """When a run has converged, and what it may spend."""

    rtol: float
    atol: float
    error_rtol: float | None
    max_steps: int
    max_products: int | None
    max_seconds: float | None


class Record:
    """Keeps the best iterate of every row, the history, and the counts."""

    def __init__(
        self, criteria: Criteria, x0: Any, reference: FloatArray, lower: float | None
    ) -> None:
        self.criteria = criteria
        self.lower = lower
        self.best = x0
        self.is_batch = x0.ndim == 2
        count = reference.size
        # Places of the rows that are still in the run, and the same as an index.
        self.active: NDArray[np.intp] = np.arange(count)
        self._rows: Any = slice(None)
        self._all_better = self._is_falling = False
        # An upper bound of the spectrum, or nearly: times ‖x‖ and epsilon it is rounding.
        self.stiffness = 0.0
        # Whether without rounding the norm falls in every period that converges.
        self.is_monotone = True
        self.num_steps = self.num_periods = self.num_products = 0
        self.statuses: list[Status | None] = [None] * count
        self.row_num_steps = np.zeros(count, dtype=np.int64)
        self.best_norms = np.full(count, math.inf)
        self.last_norms = np.full(count, math.inf)
        # What the last check's norms are to those of the one before, and the largest of these.
        self.factors = np.zeros(count)
        self.factor = 0.0
        self._near = x0
        self._near_norms = np.full(count, math.inf)
        self._reference = reference
        self._first = self._tolerance = np.zeros(count)
        self._least_move = np.full(count, math.inf)
        self._fallen_to = np.full(count, math.inf)
        self._since_best = np.zeros(count, dtype=np.int64)
        self._since_closer = np.zeros(count, dtype=np.int64)
        self._rising = np.zeros(count, dtype=np.int64)
        self._previous: Any = None
        self._start = time.perf_counter()
        self._longest_period = self._last_time = 0.0
        self._checks: Thinned[tuple[int, FloatArray, int, float]] = Thinned(count)
        self.iterates: Thinned[Any] | None = None

    def check(self, x: Any, gradient: Any) -> None:
        """Record the gradient at the iterate ``x`` of the active rows; some may have converged."""
        size = norms(gradient)
        if not self._checks.num_seen:
            self._first = size
            reference = np.where(self._reference > 0, self._reference, size)
            self._tolerance = np.maximum(self.criteria.rtol * reference, self.criteria.atol)
            # A norm of 0 meets every relative tolerance, an infinite one (rtol not given) too.
            self._tolerance[np.isnan(self._tolerance)] = self.criteria.atol
        rows = self._rows
        ratios = size / self.last_norms[rows]
        self.factors = ratios
        self.factor = float(ratios.max())
        self.last_norms[rows] = size
        seconds = time.perf_counter() - self._start
        self._longest_period = max(self._longest_period, seconds - self._last_time)
        self._last_time = seconds
        self._checks.append((self.num_steps, self.last_norms.copy(), self.num_products, seconds))
        self._choose(x, size, ratios)
        if self.iterates is not None:
            all_rows = self.active.size == len(self.statuses)
            self.iterates.append(x if all_rows else put_rows(self.iterates.last, self.active, x))
        self._end(self._converged(x, size), Status.CONVERGED)

    def _choose(self, x: Any, size: FloatArray, ratios: FloatArray) -> None:
        """Keep what is better than before."""
        rows = self._rows
        # A comparison with infinity or NaN is False.
        better = size < self.best_norms[rows]
        self._all_better = bool(better.all())
        if self._all_better and self._is_falling:
            self._rising[rows] = self._since_best[rows] = self._since_closer[rows] = 0
            self._fallen_to[rows] = size
        else:
            # At the level of rounding the norm goes up and down, and finds new minima by chance.
            resting = size <= RESTING * epsilon(x) * self.stiffness * norms(x)
            progress = better & ~(resting & (size > CLOSER * self._fallen_to[rows]))
            self._is_falling = bool(progress.all())
            self._fallen_to[rows] = np.where(progress, size, self._fallen_to[rows])
            self._rising[rows] = np.where(ratios > 1, self._rising[rows] + 1, 0)
            self._since_best[rows] = np.where(progress, 0, self._since_best[rows] + 1)
            self._since_closer[rows] = np.where(progress, 0, self._since_closer[rows] + 1)
        self._keep("best", better, x)
        self._keep("_near", better, x)
        places = rows if self._all_better else self.active[better]
        self.best_norms[places] = self._near_norms[places] = size[better]
        if not self._all_better and self._previous is not None:
            move = norms(x - self._previous)
            least = self._least_move[rows]
            closer = ~better & (move <= least)
            as_good = closer & np.isfinite(least) & (size <= AS_GOOD * self.best_norms[rows])
            self._keep("_near", as_good, x)
            self._near_norms[self.active[as_good]] = size[as_good]
            far = ~better & (move < CLOSER * least)  # an x that rests gets no closer
            self._since_closer[self.active[far]] = 0
            self._least_move[rows] = np.where(~better & (move < least), move, least)
        self._previous = x

    def _keep(self, name: str, chosen: NDArray[np.bool_], x: Any) -> None:
        count = np.count_nonzero(chosen)
        if count == 0:
            return
        if count == len(self.statuses):
            setattr(self, name, x)
        else:
            places = self.active[chosen]
            part = x[np.flatnonzero(chosen).tolist()]
            setattr(self, name, put_rows(getattr(self, name), places, part))

    def _converged(self, x: Any, size: FloatArray) -> NDArray[np.bool_]:
        met: NDArray[np.bool_] = size <= self._tolerance[self._rows]
        tolerance = self.criteria.error_rtol
        if tolerance is not None:
            # ‖e‖ ≤ ‖g‖/a and ‖x*‖ ≥ ‖x‖ − ‖e‖.
            error = size / self.lower if self.lower else np.full(size.shape, math.inf)
            met &= error * (1 + tolerance) <= tolerance * norms(x)
        return met

    def judge(self) -> None:
        """End the rows that diverge or stall."""
        if (self._all_better and self._is_falling) or not self.active.size:
            return
        rows = self._rows
        self._end(~(self.last_norms[rows] <= DIVERGED_BEYOND * self._first[rows]), Status.DIVERGED)
        rows = self._rows
        patience: float = STALLED_AFTER
        if not self.is_monotone:
            patience = max(patience, STALLED_FRACTION * self._checks.num_seen)
        waited = np.minimum(self._since_best[rows], self._since_closer[rows]) >= patience
        below = self.last_norms[rows] <= self._first[rows]
        self._end(waited & below & (self._rising[rows] < STALLED_AFTER), Status.STALLED)

    def _end(self, which: NDArray[np.bool_], status: Status) -> None:
        if which.any():
            for place in self.active[which].tolist():
                self.statuses[place] = status
                self.row_num_steps[place] = self.num_steps
            if status is Status.CONVERGED:
                # It met the tolerance, whichever was the best by the norm.
                self._keep("best", which, self._previous)
                places = self.active[which]
                self.best_norms[places] = self.last_norms[places]
            left = np.flatnonzero(~which)
            self.active, self.factors = self.active[left], self.factors[left]
            self._rows = self.active
            self.factor = float(self.factors.max()) if left.size else 0.0
            if self.is_batch and self._previous is not None:
                self._previous = self._previous[left.tolist()]

    def restart(self) -> None:
        """Forget how the rows went with a schedule that is no more."""
        rows = self._rows
        self.last_norms[rows] = self.best_norms[rows]
        self._since_best[rows] = self._since_closer[rows] = self._rising[rows] = 0
        self._least_move[rows] = math.inf
        self._previous = None

    def may_go_on(self, num_products: int) -> bool:
        """Whether the budget has room for a period of so many products."""
        criteria = self.criteria
        if self.num_steps >= criteria.max_steps:
            return False
        if criteria.max_products is not None and (
            self.num_products + num_products > criteria.max_products
        ):
            return False
        if criteria.max_seconds is not None:
            spent = time.perf_counter() - self._start
            return spent + self._longest_period < criteria.max_seconds
        return True

    def stop(self, status: Status) -> None:
        """End whatever is still in the run."""
        for place in self.active.tolist():
            self.statuses[place] = status
            self.row_num_steps[place] = self.num_steps
        self.active = self.active[:0]

    @property
    def status(self) -> Status:
        """The worst of the rows' ends."""
        return worst_end(self.statuses)

    def is_near_rounding(self) -> bool:
        """Whether the gradient has come down so far that rounding explains why it stays."""
        scale = math.sqrt(epsilon(self.best))
        return bool(np.all(self.best_norms <= scale * self._first))

    def solution(self) -> tuple[Any, FloatArray]:
        """The iterate to return, and its gradient norms, one per row."""
        tired = np.array([s in (Status.STALLED, Status.BUDGET) for s in self.statuses])
        sizes = np.where(tired, self._near_norms, self.best_norms)
        if not self.is_batch:
            return (self._near if tired[0] else self.best), sizes
        x = self.best
        if tired.any() and self._near is not self.best:
            places = np.flatnonzero(tired)
            x = put_rows(x, places, self._near[places.tolist()])
        return x, sizes

    def history(self) -> History:
        """Return everything recorded."""
        # Empty if the run was interrupted before its first gradient was done.
        checks = self._checks.entries()
        columns = zip(*checks, strict=True) if checks else ([], [], [], [])
        num_steps, size, num_products, seconds = columns
        table = np.array(size)
        return History(
            np.array(num_steps, dtype=np.int64),
            table if self.is_batch or not checks else table[:, 0],
            np.array(num_products, dtype=np.int64),
            np.array(seconds),
            None if self.iterates is None else tuple(self.iterates.entries()),
        )
