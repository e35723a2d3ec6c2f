"""Chebyshev relaxation of a map, with a guard: period after period, or back to where one began.

An iterate of a period is looked at when it is made. At the period's end, or when the residual is
far above what the period's polynomial allows, the account says whether the period is kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepfold._arrays import epsilon, put_rows, take
from stepfold._typing import FloatArray
from stepfold.result import Status
from stepfold.run.ledger import DIVERGED_BEYOND, Seen
from stepfold.run.loop import Loop
from stepfold.run.maps import MapPolicy, measure_of, near_rounding
from stepfold.run.policies.relaxation.account import LONGEST_PERIOD, Account
from stepfold.run.policies.relaxation.period import plain_period
from stepfold.run.policies.relaxation.ritz import ritz_values
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds

__all__ = ["EXPLODED", "LONGEST_PERIOD", "Account", "Relaxation"]

# A period ends early when the residual is this many times what its polynomial allows.
OVERSHOOT = 2.0
EXPLODED = (
    "The residual grew without bounds: the map is no contraction on the way, or has no fixed "
    "point. Start nearer to one, or damp the map."
)
# How often a run that relaxation led astray starts over, the last time by plain steps only.
MOST_RESTARTS = 2
# Evaluations, and multiple of those before, without a better iterate that are such an error too.
LONG_WAY = 4000, 4
# Residuals that rounding makes up to more than this share of say nothing about the spectrum.
NOISY = 1e-2


class Relaxation(MapPolicy):
    """``x ← x + ωₜ(f(x) − x)``, ωₜ by an account of what is known and what it has cost."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account
        self._period = plain_period(1)
        self._allowed = np.ones(1)
        self._num_restarts = 0
        self._is_relaxed = False
        """Whether the iterate is another one than plain steps would have reached."""

    @property
    def schedule(self) -> Schedule:
        return self._period.schedule

    @property
    def bounds(self) -> SpectralBounds | None:
        return self._account.bounds

    def start(self, loop: Loop, x: Any, seen: Seen) -> None:
        super().start(loop, x, seen)
        self._origin = x, seen.known
        # Rows of all sizes count alike, or a small one might grow unseen.
        first = loop.ledger.first
        self._weights = 1 / np.where(first > 0, first, 1.0) if loop.ledger.is_batch else 1.0
        self._begin(loop)

    def _begin(self, loop: Loop) -> None:
        """Get ready for a period."""
        self._before = self._x, self._residual, loop.ledger.last.copy()
        self._previous = self._x
        self._residuals: list[Any] = [self._residual]

    def _total(self, loop: Loop, sizes: FloatArray) -> float:
        """One norm for the rows that are still in the run."""
        return float(np.linalg.norm((sizes * self._weights)[loop.ledger.active]))

    def move(self, loop: Loop) -> Any:
        count = len(self._residuals) - 1
        if not count:
            budgets, ledger = loop.ledger.budgets, loop.ledger
            room = LONGEST_PERIOD if budgets.max_products is None else budgets.max_products
            room -= 0 if budgets.max_products is None else ledger.num_products
            if budgets.max_steps is not None:
                room = min(room, budgets.max_steps - ledger.num_steps)
            self._period = self._account.next_period(max(room, 1))
            self._allowed = self._account.allowed(self._period)
        period, x = self._period, self._x
        moved = x + float(period.schedule.steps[count]) * self._residual
        momentum = float(period.momenta[count])
        if momentum:
            moved = moved + momentum * (x - self._previous)
        self._previous = x
        measure_of(loop).asks = count + 1 == period.schedule.period
        return moved

    def judge(self, loop: Loop, x: Any, seen: Seen) -> None:
        ledger, account, period = loop.ledger, self._account, self._period
        if not ledger.active.size:
            return
        self._x, self._residual = x, seen.known
        guarded = account.guard and not period.is_plain
        start, size = self._total(loop, self._before[2]), self._total(loop, ledger.last)
        count = len(self._residuals)
        self._residuals.append(self._residual)
        most = OVERSHOOT * max(1.0, float(self._allowed[count - 1]))
        lost = ~(ledger.last <= DIVERGED_BEYOND * ledger.first)
        lost[np.setdiff1d(np.arange(lost.size), ledger.active)] = False
        if not (lost.any() or (guarded and size > most * start)) and count < period.schedule.period:
            return
        if not math.isfinite(size):
            self._residuals.pop()
        values = np.zeros(0, dtype=np.complex128)
        taken = len(self._residuals) - 1
        noise = epsilon(x) * self._total(loop, measure_of(loop).sizes(x))
        if account.guard and taken and noise <= NOISY * min(size, start):
            values = ritz_values(self._residuals, period.moves[:taken, :taken])
        is_whole = taken == period.schedule.period
        good = not guarded or (is_whole and size < account.most_rise(period) * start)
        account.learn(values, accepted=good)
        if not good:
            account.reject(count, period.schedule.period)
            self._x, self._residual, ledger.last = self._before
        elif lost.any():
            if self._is_relaxed and account.guard:
                self._start_over(loop, np.flatnonzero(lost).tolist())
        elif period.is_plain:
            account.pay(taken)
            is_best = (ledger.last <= ledger.best_sizes)[ledger.active].all()
            if self._num_restarts < MOST_RESTARTS and is_best:
                account.is_calm = False
        elif account.guard:
            account.accept(period, size / start)
            self._is_relaxed = True
        if self._is_relaxed and account.guard and self._wanders(loop):
            self._start_over(loop, ledger.active.tolist())
        self._begin(loop)

    def _wanders(self, loop: Loop) -> bool:
        """Whether no row has come closer for many evaluations, far above rounding."""
        rows, ledger = loop.ledger.active, loop.ledger
        waited = ledger.waited[rows]
        late = waited > LONG_WAY[0] + LONG_WAY[1] * (ledger.num_products - waited)
        return bool(late.all() and not near_rounding(loop)[rows].any())

    def _start_over(self, loop: Loop, rows: Any) -> None:
        """Go on from the start by plain steps, until they come to where none has been."""
        self._num_restarts += 1
        self._is_relaxed, self._account.is_calm = False, True
        x, residual = self._origin
        if loop.ledger.is_batch:
            x = put_rows(self._x, rows, take(x, rows))
            residual = put_rows(self._residual, rows, take(residual, rows))
        self._x, self._residual = x, residual
        loop.ledger.last[rows] = loop.ledger.first[rows]

    def notes(self, loop: Loop) -> list[str]:
        ended_well = loop.ledger.status in (Status.CONVERGED, Status.STALLED)
        return self._account.notes(ended_well=ended_well)
