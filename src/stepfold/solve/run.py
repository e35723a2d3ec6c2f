"""A run, period by period: sweep, check, and let the guard have its say before anything is judged.

Rows of a batch that have ended leave the sweep, where the iteration keeps nothing but x and the
family of problems can be cut (`take_rows`); elsewhere they are swept on and no longer looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold.iterations import GradientDescent, Iteration
from stepfold.problems import Preconditioned, Problem
from stepfold.problems.rows import take_rows
from stepfold.result import Result, Status
from stepfold.schedules import Schedule
from stepfold.solve.guard import ROUNDING, Watch, largest_factor
from stepfold.solve.norms import epsilon, put_rows
from stepfold.solve.record import Record
from stepfold.solve.sweep import Sweep, counted

# A factor per period above which a budget is worth a word about the bounds.
SLOW = 0.9


class Run:
    """Everything that happens between the checks of the arguments and the result."""

    def __init__(
        self,
        problem: Problem[Any],
        schedule: Schedule,
        iteration: Iteration[Any, Any],
        record: Record,
        watch: Watch | None,
        callback: Callable[[int, Any], None] | None,
        low: Problem[Any] | None,
        begin: tuple[Any, Any],
    ) -> None:
        self._begin: tuple[Any, Any] | None = begin
        self._whole = self._problem = problem
        self._schedule = schedule
        self._iteration, self._record, self._watch = iteration, record, watch
        self._is_plain = type(iteration) is GradientDescent
        # Places of the rows that the sweep is made of.
        self._swept = record.active
        if watch is not None and isinstance(problem, Preconditioned):
            watch.weights = problem.diagonal
            watch.looks_inside = problem.diagonal is not None
        watching = None if callback is None else self._watching(callback)
        self._sweep = Sweep(iteration, record, watching, low)
        record.stiffness = 1 / float(schedule.steps.min())
        record.is_monotone = self._is_plain and not isinstance(problem, Preconditioned)
        self._fits = True
        self._last_factor = 0.0
        # Where among the active rows the guard found what it found.
        self._worst = 0

    def go(self) -> None:
        """Run until every row has ended; once only."""
        record, watch, iteration = self._record, self._watch, self._iteration
        assert self._begin is not None, "a run goes once"  # noqa: S101
        (x, gradient), self._begin = self._begin, None
        if gradient is None:
            gradient = self._gradient(x)
        stepped = self._stepped()
        state = iteration.init(stepped, x)
        steps = list(self._schedule)
        self._check(x, gradient, regular=False)
        self._last_factor = 0.0
        while True:
            record.judge()
            if not record.active.size:
                return
            if record.active.size < self._swept.size:
                places = self._positions
                if self._shrink(places):
                    state = state[places]
                    gradient = None if gradient is None else gradient[places]
                    stepped = self._problem
            if not record.may_go_on(self._sweep.num_products(self._problem, len(steps))):
                self._fits = record.num_steps > 0
                record.stop(Status.BUDGET)
                return
            # A period needs memory for two iterates; what nobody asks for again is let go.
            start = state if watch is not None and watch.first_period else None
            self._sweep.known = gradient
            x = gradient = None
            state = self._sweep.period(stepped, state, steps, watch)
            x = iteration.iterate(state)
            gradient = self._gradient(x)
            cut_short = self._sweep.cut_short
            self._check(x, gradient, regular=not cut_short)
            if watch is None:
                continue
            if not cut_short:
                watch.first_period = False
                record.num_periods += 1
            if self._guarded(x, gradient, cut_short=cut_short):
                if not cut_short:
                    self._salvage(x)
                state, gradient = self._best(), None
                steps = list(watch.schedule)
                record.stiffness = 1 / min(steps)
            elif cut_short:
                # A false alarm: take the period again, from where it began and to its end.
                watch.first_period = False
                state, gradient = start, None
                record.restart()

    def _stepped(self) -> Problem[Any]:
        if self._is_plain:
            return self._problem

        def count(products: int) -> None:
            self._record.num_products += products

        return counted(self._problem, count)

    def _gradient(self, x: Any) -> Any:
        gradient = self._problem.gradient(x)
        self._record.num_products += self._problem.products_per_gradient
        return gradient

    def _check(self, x: Any, gradient: Any, *, regular: bool) -> None:
        record = self._record
        if record.active.size < self._swept.size:
            places = self._positions
            x, gradient = x[places], gradient[places]
        record.check(x, gradient)
        if regular and record.active.size:
            self._last_factor = record.factor

    @property
    def _positions(self) -> list[int]:
        """Where the active rows are among the swept ones."""
        positions: list[int] = np.searchsorted(self._swept, self._record.active).tolist()
        return positions

    def _shrink(self, places: list[int]) -> bool:
        """Take rows that have ended out of the sweep, if that can be done."""
        problem = take_rows(self._problem, places) if self._is_plain else None
        if problem is None:
            return False
        self._problem, self._swept = problem, self._record.active
        return True

    def _best(self) -> Any:
        record = self._record
        record.restart()
        return record.best if not record.is_batch else record.best[self._swept.tolist()]

    def _guarded(self, x: Any, gradient: Any, *, cut_short: bool) -> bool:
        """Whether the guard has found the bounds wrong, and the schedule is another one now."""
        record, watch = self._record, self._watch
        if watch is None or not record.active.size:
            return False
        if not (cut_short or watch.is_suspicious(record.factor, record.num_periods)):
            return False
        factors = record.factors
        worst = int(np.argmax(np.where(np.isfinite(factors), factors, math.inf)))
        place = int(record.active[worst])
        problem, row = self._whole, None
        known = math.isfinite(record.last_norms[place])
        if not record.is_batch:
            row = x if known else record.best
            gradient = gradient if known else None
        else:
            position = self._positions[worst]
            gradient = gradient[position] if known else None
            row = x[position : position + 1] if known else record.best[place : place + 1]
            one = take_rows(self._whole, [place])
            if one is None and gradient is None:
                return False
            problem = self._whole if one is None else one
        self._worst = worst
        event, spent = watch.probe(problem, row, gradient, record.num_steps, record.num_periods)
        record.num_products += spent
        if event is not None and event.end == "lower" and record.lower is not None:
            record.lower = event.new.lower
        return event is not None

    def _salvage(self, x: Any) -> None:
        """Take out of the iterate what grew, where that leaves one better than the best so far.

        A period that made one component grow has shrunk all others, which is worth keeping.
        """
        record, watch = self._record, self._watch
        correction = None if watch is None else watch.correction
        if correction is None or isinstance(self._whole, Preconditioned):
            return
        step, left = correction
        if not left < record.best_norms[record.active[self._worst]]:
            return
        if not record.is_batch:
            x = x + step
        else:
            place = self._positions[self._worst]
            x = put_rows(x, np.array([place]), x[place : place + 1] + step)
        self._check(x, self._gradient(x), regular=False)

    def _watching(self, callback: Callable[[int, Any], None]) -> Callable[[int, Any], None]:
        def call(num_steps: int, x: Any) -> None:
            record = self._record
            if self._swept.size < len(record.statuses):
                x = put_rows(record.best, self._swept, x)
            callback(num_steps, x)

        return call

    def result(self) -> Result[Any]:
        """The record of the run."""
        record, watch = self._record, self._watch
        x, sizes = record.solution()
        trusted = watch is None or watch.below is None or watch.lowered
        error: Any = None
        if record.lower is not None and trusted and np.isfinite(sizes).all():
            error = sizes / record.lower
            error = error if record.is_batch else float(error[0])
        return Result(
            x,
            record.status,
            record.num_steps,
            record.history(),
            self._schedule if watch is None else watch.schedule,
            events=() if watch is None else tuple(watch.events),
            notes=tuple(self._notes()),
            row_statuses=tuple(s for s in record.statuses if s) if record.is_batch else (),
            row_num_steps=tuple(record.row_num_steps.tolist()) if record.is_batch else (),
            error_bound=error,
        )

    def _notes(self) -> list[str]:
        record, watch = self._record, self._watch
        notes: list[str] = []
        if not self._fits and record.criteria.max_steps > 0:
            notes.append(
                f"The budget has no room for a period of {self._schedule.period} steps; "
                "take a shorter one."
            )
        rounding = ROUNDING * epsilon(record.best)
        if (
            watch is not None
            and watch.below is not None
            and (watch.below <= rounding * watch.bounds.upper)
        ):
            notes.append(
                f"The Hessian is singular or indefinite, a Rayleigh quotient is {watch.below:.3g}: "
                "in that direction nothing converges unless the gradient has no part in it."
            )
        elif watch is not None and watch.below is not None and not watch.lowered:
            notes.append(
                f"The lower bound {watch.bounds.lower:.6g} is too high, an eigenvalue lies at "
                f"{watch.below:.6g} or below: convergence is slower than the schedule promises; "
                "lower it, or take `Guard(lowers=True)`."
            )
        elif self._last_factor > 0 and (
            record.status is Status.BUDGET
            or (record.status is Status.STALLED and not record.is_near_rounding())
        ):
            notes += self._slowness()
        return notes

    def _slowness(self) -> list[str]:
        watch = self._watch
        schedule = self._schedule if watch is None else watch.schedule
        bounds = schedule.bounds if watch is None else watch.bounds
        factor = self._last_factor
        if bounds is None:
            if factor < SLOW:
                return []
            return [
                f"The last period changed the gradient norm by the factor {factor:.3g}; if the "
                "schedule was to do better, eigenvalues lie outside the interval it was made for."
            ]
        allowed = largest_factor(schedule, bounds)
        if factor <= allowed:
            return []
        return [
            f"The last period changed the gradient norm by the factor {factor:.3g}, where bounds "
            f"[{bounds.lower:.6g}, {bounds.upper:.6g}] allow {allowed:.3g}: rounding, or "
            "eigenvalues outside; check the bounds with `estimate_bounds`."
        ]
