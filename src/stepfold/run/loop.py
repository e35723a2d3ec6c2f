"""The loop: period after period, a look after each, until every row has ended.

A policy says what a period is and what to do about what was seen. The loop keeps the books: it asks
whether the budget has room, cuts rows that have ended out of the batch, and shows iterates to a
callback.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepfold._arrays import put_rows, take
from stepfold.result import GuardEvent, Result, Status
from stepfold.run.ledger import Ledger, Seen
from stepfold.run.measures import Measure
from stepfold.run.units import Units
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds

Callback = Callable[[int, Any], None]


class Policy(ABC):
    """What a period is, and where the next one starts."""

    @abstractmethod
    def start(self, loop: Loop, x: Any, seen: Seen) -> None:
        """Begin at ``x``."""

    @abstractmethod
    def cost(self, loop: Loop) -> tuple[int, float]:
        """Steps and products of the next period, the look after it included."""

    @abstractmethod
    def period(self, loop: Loop) -> tuple[Any, Any]:
        """Take a period; its last iterate, and the gradient there or None."""

    @abstractmethod
    def judge(self, loop: Loop, x: Any, seen: Seen) -> None:
        """Decide, from the look at the period's end, where the next one starts."""

    def position(self, loop: Loop) -> Any:
        """Where the next period starts: the best iterate, unless the policy knows better."""
        return loop.ledger.best

    def explain_wait(self, loop: Loop, x: Any, seen: Seen) -> None:
        """Compute what is attainable, of rows that make no progress."""
        del loop, x, seen

    def finish(self, loop: Loop) -> None:
        """Do what is left to be done when the budget is spent."""
        del loop

    def take(self, positions: Sequence[int]) -> bool:
        """Go on with some of the rows only; false if that cannot be done."""
        del positions
        return False

    def notes(self, loop: Loop) -> list[str]:
        """Sentences for the result on what was found."""
        del loop
        return []

    @property
    def indefinite(self) -> float | None:
        """A Rayleigh quotient that is negative beyond rounding, if one was seen."""
        return None

    @property
    def events(self) -> tuple[GuardEvent, ...]:
        """What the guard did."""
        return ()

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """Steps that were run last, or that fit the next right-hand side."""

    @property
    def bounds(self) -> SpectralBounds | None:
        """Bounds of the spectrum that the run has found or gone by."""
        return self.schedule.bounds


class Watcher(ABC):
    """A callback that is shown the run, too."""

    @abstractmethod
    def __call__(self, count: int, x: Any) -> None:
        """A step was taken to an iterate, in the units of the problem as it was posed."""

    @abstractmethod
    def stepped(self, loop: Loop, x: Any) -> None:
        """A step was taken to an iterate of all rows, in the units of the run."""

    @abstractmethod
    def seen(self, loop: Loop) -> None:
        """A period has ended, and the policy knows where the next one starts."""


class _StoppedByCallback(Exception):
    """A callback has seen enough."""

    def __init__(self, x: Any) -> None:
        super().__init__()
        self.x = x


class Loop:
    """One run.

    Args:
        problem: What is solved, all rows.
        measure: What is looked at.
        policy: What a period is.
        ledger: Where it is booked.
        callback: Called as ``callback(t, x)`` after each step. If it raises StopIteration, the run
            ends at that iterate. One that is a `Watcher` is shown the run itself.
        units: Those of the problem, where it was scaled: what is shown is as it was posed.
    """

    def __init__(
        self,
        problem: Any,
        measure: Measure,
        policy: Policy,
        ledger: Ledger,
        callback: Callback | None = None,
        units: Units | None = None,
    ) -> None:
        self.units = Units(problem) if units is None else units
        self.whole = self.problem = problem
        self.measure, self.policy, self.ledger = measure, policy, ledger
        self._callback = callback
        self._watcher = callback if isinstance(callback, Watcher) else None
        self.swept = ledger.active
        """Places of the rows that are swept; those that have ended are among them at times."""

    def go(self, x: Any, known: Callable[[], Any] | None = None, zero: Any = None) -> None:
        """Run from ``x``; when it returns every row has a status.

        Args:
            x: Start.
            known: Makes the gradient there in the usual inner product, if it is known.
            zero: Where to look first, because tolerances refer to it; None for the start.
        """
        # What diverges overflows on the way to the look that says so.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                self._go(x, known, zero)
            except KeyboardInterrupt:
                self.ledger.end(Status.INTERRUPTED)
            except _StoppedByCallback as stopped:
                self.ledger.leave_at(stopped.x)

    def _go(self, x: Any, make_known: Callable[[], Any] | None, zero: Any) -> None:
        ledger, policy = self.ledger, self.policy
        if zero is not None:
            ledger.num_products += self.problem.products_per_gradient
            self.measure.look(self.problem, self.swept, zero)
        # Made here, so that it lives no longer than the policy has use for it.
        seen = self.look(x, None if make_known is None else make_known())
        policy.start(self, x, seen)
        while True:
            ledger.judge()
            if not ledger.active.size:
                return
            if ledger.active.size < self.swept.size:
                self._shrink()
            if not ledger.fits(*policy.cost(self)):
                policy.finish(self)
                ledger.end(Status.BUDGET)
                return
            del x, seen  # vectors that nobody asks for again must not live on here
            x, known = policy.period(self)
            seen = self.look(x, known)
            policy.judge(self, x, seen)
            if self._watcher is not None:
                self._watcher.seen(self)
            if ledger.waits:
                policy.explain_wait(self, x, seen)

    def look(self, x: Any, known: Any = None) -> Seen:
        """Look at an iterate of the swept rows, and book it for those that are still active."""
        ledger, problem = self.ledger, self.problem
        if known is None:
            ledger.num_products += problem.products_per_gradient
        seen = self.measure.look(problem, self.swept, x, known)
        ledger.num_products += self.measure.num_products
        self.measure.num_products = 0
        if ledger.active.size < self.swept.size:
            places = self.positions
            ledger.check(take(x, places), _rows_of(seen, places))
        else:
            ledger.check(x, seen)
        return seen

    @property
    def is_watched(self) -> bool:
        """Whether every iterate is shown to somebody."""
        return self._callback is not None

    @property
    def positions(self) -> list[int]:
        """Where the active rows are among the swept ones."""
        places: list[int] = np.searchsorted(self.swept, self.ledger.active).tolist()
        return places

    def _shrink(self) -> None:
        """Take rows that have ended out of the sweep, if that can be done."""
        places = self.positions
        problem = self.problem.rows_of(places)
        if problem is not None and self.policy.take(places):
            self.problem, self.swept = problem, self.ledger.active

    def best(self) -> Any:
        """The best iterates of the swept rows."""
        return self.ledger.best if not self.ledger.is_batch else take(self.ledger.best, self.swept)

    def stepped(self, x: Callable[[], Any] | Any, products: int) -> None:
        """Book a step and what it cost, and show its iterate."""
        ledger = self.ledger
        ledger.num_steps += 1
        ledger.num_products += products
        if self._callback is not None:
            x = x() if callable(x) else x
            if self.swept.size < len(ledger.statuses):
                x = put_rows(ledger.best, self.swept, x)
            try:
                self._callback(ledger.num_steps, self.units.posed(x))
            except StopIteration:
                raise _StoppedByCallback(x) from None
            if self._watcher is not None:
                self._watcher.stepped(self, x)

    def result(self, **extras: Any) -> Result[Any]:
        """The record of the run."""
        ledger, policy = self.ledger, self.policy
        status = ledger.status
        assert status is not None, "the run has not ended"  # noqa: S101
        return Result(
            ledger.best,
            status,
            ledger.num_steps,
            ledger.history(),
            policy.schedule,
            events=policy.events,
            row_statuses=tuple(s for s in ledger.statuses if s) if ledger.is_batch else (),
            row_num_steps=tuple(ledger.ended_at.tolist()) if ledger.is_batch else (),
            bounds=policy.bounds,
            gradient_norm=ledger.best_sizes if ledger.is_batch else float(ledger.best_sizes[0]),
            **extras,
        )


def _rows_of(seen: Seen, places: list[int]) -> Seen:
    return Seen(
        seen.sizes[places],
        seen.met[places],
        seen.floor[places],
        gaps=None if seen.gaps is None else seen.gaps[places],
        scores=None if seen.scores is None else seen.scores[places],
    )
