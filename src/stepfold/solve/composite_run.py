"""A run on a composite objective, period by period: steps, then a look, then a verdict.

Rows of a batch that have ended leave the sweep, where the state of the iteration and the family of
problems can be cut; elsewhere they are swept on and no longer looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.iterations import Fista, Iteration, ProximalGradient
from stepfold.problems import Composite
from stepfold.problems.composite import optimality
from stepfold.problems.duality import look
from stepfold.problems.rows import take_rows
from stepfold.result import History, Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.norms import put_rows
from stepfold.solve.record import worst_end
from stepfold.solve.sweep import counted
from stepfold.solve.thinned import Thinned

# A row is stalled when nothing has got better during this share of the checks, and this many.
STALLED_SHARE, STALLED_CHECKS = 0.5, 50
# Growth that no convergent method shows.
DIVERGED = 1e10


@dataclass(frozen=True)
class Tolerances:
    """On the proximal step and on the gap, relative to what they are at 0 and absolute."""

    rtol: float | None
    atol: float
    gap_rtol: float | None
    gap_atol: float

    @property
    def on_norm(self) -> bool:
        """Whether the proximal step is looked at."""
        return self.rtol is not None or self.atol > 0

    @property
    def on_gap(self) -> bool:
        """Whether the duality gap is looked at."""
        return self.gap_rtol is not None or self.gap_atol > 0


@dataclass(frozen=True)
class Limits:
    """Budgets; infinite for none."""

    max_steps: int
    max_products: float
    max_seconds: float


@dataclass(frozen=True)
class Measured:
    """An iterate's measures, each of shape (rows,), and the gradient that they cost."""

    norms: FloatArray
    gaps: FloatArray | None
    values: FloatArray
    gradient: Any


class CompositeRun:
    """Everything that happens between the checks of the arguments and the result.

    Args:
        composite: What to minimise.
        schedule: Step sizes.
        method: What a step does.
        tolerances: When a row has converged.
        limits: When the others end.
        callback: Called after each step.
        x0: Start, which belongs to the run.
    """

    def __init__(
        self,
        composite: Composite[Any],
        schedule: Schedule,
        method: Iteration[Any, Any],
        tolerances: Tolerances,
        limits: Limits,
        callback: Callable[[int, Any], None] | None,
        x0: Any,
    ) -> None:
        self._begin = time.perf_counter()
        self._composite, self._schedule, self._method = composite, schedule, method
        self._tolerances, self._limits, self._callback = tolerances, limits, callback
        self._steps = list(schedule)
        self._problem = composite.problem
        # A gradient costs one product more than the linear term: Aᵀ(Ax − b) beside Aᵀb.
        self._num_products = composite.problem.products_per_gradient - 1
        self._num_steps = 0
        self._is_batch = x0.ndim == 2
        count = len(x0) if self._is_batch else 1
        # Places of the rows that are still in the run, and of those that the sweep is made of.
        self._active = self._swept = np.arange(count)
        self._ends: list[Status | None] = [None] * count
        self._ended_at = np.zeros(count, dtype=np.int64)
        # No gradients: each would be as large as an iterate.
        self._checks: Thinned[tuple[int, int, float, FloatArray, FloatArray]] = Thinned(2 * count)
        self._best: Any = x0
        self._scores = np.full(count, math.inf)
        self._norms, self._gaps = np.full((2, count), math.inf)
        self._smallest_gaps = np.full(count, math.inf)
        self._improved_at = np.zeros(count, dtype=np.int64)
        self._first = self._scale = self._norm_tolerance = self._gap_tolerance = np.zeros(count)

    def go(self, zero: Any, *, from_zero: bool) -> None:
        """Run until every row has ended, or a budget is spent; once only."""
        method, limits, x = self._method, self._limits, self._best
        measured = self._look(zero)
        self._set_scales(measured)
        if not from_zero:
            measured = self._look(x)
        self._check(x, measured)
        problem = counted(self._problem, self._count)
        takes_known = type(method) is ProximalGradient
        per_period = (len(self._steps) + 1) * problem.products_per_gradient
        state = method.init(problem, x)
        while self._active.size:
            if (
                self._num_steps >= limits.max_steps
                or self._num_products + per_period > limits.max_products
                or time.perf_counter() - self._begin >= limits.max_seconds
            ):
                return self.stop(Status.BUDGET)
            known = measured.gradient if takes_known else None
            if self._active.size < self._swept.size:
                places = self._positions.tolist()
                if self._shrink(places):
                    problem = counted(self._problem, self._count)
                    state = _rows_of(state, places)
                    known = None if known is None else known[places]
            for gamma in self._steps:
                state, known = method.step(problem, state, gamma, known), None
                self._num_steps += 1
                if self._callback is not None:
                    self._callback(self._num_steps, self._whole(method.iterate(state)))
            x = method.iterate(state)
            measured = self._look(x)
            self._check(x, measured)
        return None

    def _look(self, x: Any) -> Measured:
        """Measures of an iterate of the swept rows, for the products of one gradient."""
        composite = self._composite
        seen = look(self._problem, x)
        self._num_products += self._problem.products_per_gradient
        norms = optimality(composite.penalty, x, seen.gradient, self._steps[-1])
        return Measured(
            _numbers(norms),
            _numbers(composite.gap_at(x, seen)) if composite.has_gap else None,
            _numbers(seen.value + composite.penalty.value(x)),
            seen.gradient,
        )

    def _set_scales(self, at_zero: Measured) -> None:
        """Turn tolerances into numbers, one per row."""
        asked = self._tolerances
        self._scale = at_zero.norms
        self._norm_tolerance = np.maximum((asked.rtol or 0.0) * at_zero.norms, asked.atol)
        # Where 0 is infeasible its objective is infinite, and no measure for anything.
        sizes = np.where(np.isfinite(at_zero.values), abs(at_zero.values), 0.0)
        self._gap_tolerance = np.maximum((asked.gap_rtol or 0.0) * sizes, asked.gap_atol)

    @property
    def _positions(self) -> NDArray[np.intp]:
        """Where the active rows are among the swept ones."""
        return np.searchsorted(self._swept, self._active)

    def _shrink(self, places: list[int]) -> bool:
        """Take rows that have ended out of the sweep, if that can be done."""
        knows_state = type(self._method) in (Fista, ProximalGradient)
        problem = take_rows(self._problem, places) if knows_state else None
        if problem is None:
            return False
        self._problem, self._swept = problem, self._active
        return True

    def _whole(self, x: Any) -> Any:
        """An iterate of all rows; those that have left the sweep rest where they are best."""
        whole = self._swept.size == len(self._ends)
        return x if whole else put_rows(self._best, self._swept, x)

    def _count(self, products: int) -> None:
        self._num_products += products

    def _check(self, x: Any, measured: Measured) -> None:
        """Record the measures of the swept rows at ``x``, and end what is to end."""
        seconds = time.perf_counter() - self._begin
        active, positions = self._active, self._positions
        norms = self._norms[active] = measured.norms[positions]
        if measured.gaps is not None:
            gaps = self._gaps[active] = measured.gaps[positions]
            self._smallest_gaps[active] = np.fmin(self._smallest_gaps[active], gaps)
        if not self._checks.num_seen:
            self._first = self._norms.copy()
        self._checks.append(
            (
                self._num_steps,
                self._num_products,
                seconds,
                self._norms.copy(),
                self._gaps.copy(),
            )
        )
        on_gap = self._tolerances.on_gap
        met = norms <= self._norm_tolerance[active] if self._tolerances.on_norm else norms >= 0
        if on_gap:
            met = met & (self._gaps[active] <= self._gap_tolerance[active])
        scores = (self._gaps if on_gap else self._norms)[active]
        better = met | (scores < self._scores[active])
        if better.any():
            places = active[better]
            whole = places.size == len(self._ends)
            rows = x if whole else x[positions[better].tolist()]
            self._best = x if whole else put_rows(self._best, places, rows)
            self._scores[places] = scores[better]
            self._improved_at[places] = self._checks.num_seen
        waited = self._checks.num_seen - self._improved_at[active]
        patience = max(STALLED_CHECKS, STALLED_SHARE * self._checks.num_seen)
        exploded = ~(norms <= DIVERGED * np.maximum(self._scale, self._first)[active])
        self._end(met, Status.CONVERGED)
        self._end(~met & exploded, Status.DIVERGED)
        self._end(~met & ~exploded & (waited > patience), Status.STALLED)
        self._active = active[~(met | exploded | (waited > patience))]

    def _end(self, which: NDArray[np.bool_], status: Status) -> None:
        for place in self._active[which].tolist():
            self._ends[place] = status
            self._ended_at[place] = self._num_steps

    def stop(self, status: Status) -> None:
        """End whatever is still in the run."""
        self._end(np.ones(self._active.size, dtype=bool), status)
        self._active = self._active[:0]

    def result(self) -> Result[Any]:
        """The record of the run."""
        ends = [end for end in self._ends if end is not None]
        assert len(ends) == len(self._ends), "the run has not ended"  # noqa: S101
        status = worst_end(ends)
        # None if the run was interrupted before its first look was done.
        checks = self._checks.entries()
        columns = zip(*checks, strict=True) if checks else ([], [], [], [], [])
        steps, products, seconds, all_norms, all_gaps = columns
        shape = (len(checks), len(ends)) if self._is_batch else (len(checks),)
        gaps, notes = None, []
        if self._composite.has_gap:
            gaps = np.reshape(all_gaps, shape)
            smallest = float(self._smallest_gaps.max())
            if math.isfinite(smallest):
                notes.append(
                    f"The duality gap came down to {smallest:.3g}: the objective is at most that "
                    "far above its minimum."
                )
        history = History(
            np.array(steps, dtype=np.int64),
            np.reshape(all_norms, shape),
            np.array(products, dtype=np.int64),
            np.array(seconds),
            gaps=gaps,
        )
        return Result(
            self._best,
            status,
            self._num_steps,
            history,
            self._schedule,
            notes=tuple(notes),
            row_statuses=tuple(ends) if self._is_batch else (),
            row_num_steps=tuple(self._ended_at.tolist()) if self._is_batch else (),
            reason=self._reason(status),
        )

    def _reason(self, status: Status) -> str | None:
        what = "duality gap" if self._tolerances.on_gap else "proximal step"
        return {
            Status.CONVERGED: f"The {what} fell below the tolerance.",
            Status.BUDGET: "The budget was spent; raise `max_steps`, `max_products` or "
            "`max_seconds`, or loosen the tolerance.",
            Status.STALLED: f"The {what} stopped falling at the precision of the arithmetic, or of "
            "an inexact proximal operator; loosen the tolerance, or use a wider dtype.",
            Status.DIVERGED: "The proximal step grew beyond all bounds: step sizes must be below "
            "2/b, for `Fista` at most 1/b, for the upper bound b of the Hessian.",
        }.get(status)


def _numbers(values: Any) -> FloatArray:
    """One number per row, as float64 of shape (rows,)."""
    return np.atleast_1d(np.asarray(values.tolist(), dtype=np.float64))


def _rows_of(state: Any, places: list[int]) -> Any:
    """Some rows of the state of `Fista` or of `ProximalGradient`."""
    if isinstance(state, tuple):
        return type(state)(*(part[places] for part in state))
    return state[places]
