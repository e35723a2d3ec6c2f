"""A run on a composite objective, period by period: steps, then a look, then a verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.iterations import Iteration, ProximalGradient
from stepfold.problems import Composite
from stepfold.problems.composite import optimality
from stepfold.problems.duality import look
from stepfold.result import History, Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.norms import put_rows
from stepfold.solve.sweep import counted
from stepfold.solve.thinned import Thinned

# A run is stalled when nothing has got better during this share of its checks, and this many.
STALLED_SHARE, STALLED_CHECKS = 0.5, 50
# Growth that no convergent method shows.
DIVERGED = 1e10


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
    """Everything that happens between the checks of the arguments and the result."""

    def __init__(
        self,
        composite: Composite[Any],
        schedule: Schedule,
        method: Iteration[Any, Any],
        limits: Limits,
        callback: Callable[[int, Any], None] | None,
    ) -> None:
        self._begin = time.perf_counter()
        self._composite, self._schedule, self._method = composite, schedule, method
        self._limits, self._callback = limits, callback
        self._steps = list(schedule)
        # A gradient costs one product more than the linear term: Aᵀ(Ax − b) beside Aᵀb.
        self._num_products = composite.problem.products_per_gradient - 1
        self._num_steps = 0
        # No gradients: each would be as large as an iterate.
        self._checks: Thinned[tuple[int, int, float, FloatArray, FloatArray | None]] = Thinned()
        self._first = np.zeros(1)
        self._smallest_gaps: FloatArray | None = None
        self._best: Any = None
        self._scores = np.empty(0)
        self._done: NDArray[np.bool_] = np.empty(0, dtype=bool)
        self._done_at = np.empty(0, dtype=np.int64)
        self._improved_at = 0
        self.scale: FloatArray = np.zeros(1)
        """What the norms are at 0."""
        self.norm_tolerance: FloatArray | None = None
        self.gap_tolerance: FloatArray | None = None
        self.status = Status.BUDGET

    def look(self, x: Any) -> Measured:
        """Measures of an iterate, for the products of one gradient."""
        composite = self._composite
        seen = look(composite.problem, x)
        self._num_products += composite.problem.products_per_gradient
        norms = optimality(composite.penalty, x, seen.gradient, self._steps[-1])
        return Measured(
            _numbers(norms),
            _numbers(composite.gap_at(x, seen)) if composite.has_gap else None,
            _numbers(seen.value + composite.penalty.value(x)),
            seen.gradient,
        )

    def go(self, x: Any, measured: Measured | None) -> None:
        """Run until every row has met the tolerances, or a budget is spent."""
        method, limits = self._method, self._limits
        problem = counted(self._composite.problem, self._count)
        takes_known = type(method) is ProximalGradient
        state = method.init(problem, x)
        measured = self._check(x, measured)
        per_period = (len(self._steps) + 1) * problem.products_per_gradient
        while not self._has_ended(measured):
            if (
                self._num_steps >= limits.max_steps
                or self._num_products + per_period > limits.max_products
                or time.perf_counter() - self._begin >= limits.max_seconds
            ):
                return
            known = measured.gradient if takes_known else None
            for gamma in self._steps:
                state, known = method.step(problem, state, gamma, known), None
                self._num_steps += 1
                if self._callback is not None:
                    self._callback(self._num_steps, method.iterate(state))
            measured = self._check(method.iterate(state), None)

    def _count(self, products: int) -> None:
        self._num_products += products

    def _check(self, x: Any, measured: Measured | None) -> Measured:
        measured = self.look(x) if measured is None else measured
        seconds = time.perf_counter() - self._begin
        norms, gaps = measured.norms, measured.gaps
        self._checks.append((self._num_steps, self._num_products, seconds, norms, gaps))
        if gaps is not None:
            smallest = gaps if self._smallest_gaps is None else self._smallest_gaps
            self._smallest_gaps = np.minimum(smallest, gaps)
        scores, met = self._judge(measured)
        if self._best is None:
            self._first = norms
            self._best, self._scores, self._done = x, scores, met
            self._done_at = np.zeros(met.shape, dtype=np.int64)
            return measured
        # A row that is done keeps the iterate that met the tolerances.
        better = ~self._done & (met | (scores < self._scores))
        if better.any():
            places = np.flatnonzero(better)
            whole = bool(better.all())
            self._best = x if whole else put_rows(self._best, places, x[places.tolist()])
            self._scores = np.where(better, scores, self._scores)
            self._improved_at = self._checks.num_seen
        self._done_at[met & ~self._done] = self._num_steps
        self._done |= met
        return measured

    def _judge(self, measured: Measured) -> tuple[FloatArray, NDArray[np.bool_]]:
        """What is stopped on, and which rows may stop."""
        met = np.ones(measured.norms.shape, dtype=bool)
        if self.norm_tolerance is not None:
            met &= measured.norms <= self.norm_tolerance
        if self.gap_tolerance is None or measured.gaps is None:
            return measured.norms, met
        return measured.gaps, met & (measured.gaps <= self.gap_tolerance)

    def _has_ended(self, measured: Measured) -> bool:
        if self._done.all():
            self.status = Status.CONVERGED
            return True
        if not (measured.norms <= DIVERGED * np.maximum(self.scale, self._first)).all():
            self.status = Status.DIVERGED
            return True
        since = self._checks.num_seen - self._improved_at
        if since > max(STALLED_CHECKS, STALLED_SHARE * self._checks.num_seen):
            self.status = Status.STALLED
            return True
        return False

    def result(self) -> Result[Any]:
        """The record of the run."""
        steps, products, seconds, norms, all_gaps = zip(*self._checks.entries(), strict=True)
        is_batch = self._best.ndim == 2
        shape = (len(steps), -1) if is_batch else (len(steps),)
        gaps, notes = None, []
        if self._smallest_gaps is not None:
            gaps = np.reshape(all_gaps, shape)
            smallest = float(self._smallest_gaps.max())
            if math.isfinite(smallest):
                notes.append(
                    f"The duality gap came down to {smallest:.3g}: the objective is at most that "
                    "far above its minimum."
                )
        history = History(
            np.array(steps),
            np.reshape(norms, shape),
            np.array(products),
            np.array(seconds),
            gaps=gaps,
        )
        # One operator and one schedule serve all rows: what ended the run ended each that was left.
        ends = [Status.CONVERGED if done else self.status for done in self._done.tolist()]
        num_steps = np.where(self._done, self._done_at, self._num_steps).tolist()
        return Result(
            self._best,
            self.status,
            self._num_steps,
            history,
            self._schedule,
            notes=tuple(notes),
            row_statuses=tuple(ends) if is_batch else (),
            row_num_steps=tuple(num_steps) if is_batch else (),
            reason=self._reason(),
        )

    def _reason(self) -> str | None:
        what = "proximal step" if self.gap_tolerance is None else "duality gap"
        return {
            Status.CONVERGED: f"The {what} fell below the tolerance.",
            Status.BUDGET: "The budget was spent; raise `max_steps`, `max_products` or "
            "`max_seconds`, or loosen the tolerance.",
            Status.STALLED: f"The {what} stopped falling at the precision of the arithmetic, or of "
            "an inexact proximal operator; loosen the tolerance, or use a wider dtype.",
            Status.DIVERGED: "The proximal step grew beyond all bounds: step sizes must be below "
            "2/b, for `Fista` at most 1/b, for the upper bound b of the Hessian.",
        }.get(self.status)


def _numbers(values: Any) -> FloatArray:
    """One number per row, as float64 of shape (rows,)."""
    return np.atleast_1d(np.asarray(values.tolist(), dtype=np.float64))
