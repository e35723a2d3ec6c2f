"""A run: periods, one after the other, each from the end of the last or from the best iterate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold.accelerate.krylov import ritz_values
from stepfold.accelerate.period import Period
from stepfold.accelerate.policy import Policy
from stepfold.accelerate.record import Record
from stepfold.problems.fixed_point import relaxed

# A period ends early when the residual is this many times what its polynomial allows.
OVERSHOOT = 2.0
# Beyond this growth of the residual there is nothing to wait for.
EXPLOSION = 1e8
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


class Run:
    """The loop of `accelerate`."""

    def __init__(
        self,
        policy: Policy,
        record: Record,
        callback: Callable[[int, Any], None] | None,
        stop: Callable[[Any], bool] | None,
    ) -> None:
        self._policy, self._record = policy, record
        self._callback, self._stop = callback, stop
        self._num_restarts = 0
        self._is_relaxed = False
        """Whether the iterate is another one than plain steps would have reached."""

    def go(self, x: Any, residual: Any) -> None:
        """Run from ``x``, whose residual is known, until there is a status."""
        record = self._record
        while not record.is_over(x, self._stop):
            x, residual = record.rested(x, residual)
            period = self._policy.next_period(record.room)
            record.schedule = period.schedule
            x, residual = self._take(period, x, residual)
            record.check()

    def _take(self, period: Period, x: Any, residual: Any) -> tuple[Any, Any]:
        """Take a period, and return where the next one starts."""
        record, policy = self._record, self._policy
        guarded = policy.guard and not period.is_plain
        start = size = record.last
        begin = x, residual, record.sizes
        before = record.num_products
        residuals = [residual]
        previous: Any = x
        allowed = policy.allowed(period)
        for omega, momentum, growth in zip(
            period.schedule, period.momenta.tolist(), allowed.tolist(), strict=True
        ):
            moved = relaxed(x, omega, residual)
            x, previous = moved if momentum == 0 else moved + momentum * (x - previous), x
            residual = record.evaluate(x)
            size = record.see(x, residual)
            if self._callback is not None:
                self._callback(record.num_steps, x)
            if not math.isfinite(size):
                break
            residuals.append(residual)
            if record.is_met or size > EXPLOSION * record.first:
                break
            if guarded and size > OVERSHOOT * max(1.0, growth) * start:
                break
        if record.is_met:
            return x, residual
        taken = len(residuals) - 1
        values = np.zeros(0, dtype=np.complex128)
        if policy.guard and taken and record.noise(x) <= NOISY * min(size, start):
            values = ritz_values(residuals, period.moves[:taken, :taken])
        good = not guarded or (
            taken == period.schedule.period and size < policy.most_rise(period) * start
        )
        policy.learn(values, accepted=good)
        if not good:
            policy.reject(record.num_products - before, period.schedule.period)
            return record.go_back(*begin)
        if record.is_lost(EXPLOSION):
            if self._is_relaxed and policy.guard:
                return self._start_over(x, residual, EXPLOSION)
            record.end_diverged(EXPLOSION, broken(record.num_products), EXPLODED)
            return x, residual
        if period.is_plain:
            policy.pay(taken)
            if self._num_restarts < MOST_RESTARTS and record.is_best:
                policy.is_calm = False
        elif policy.guard:
            policy.accept(period, size / start)
            self._is_relaxed = True
        if self._is_relaxed and policy.guard and record.wanders(LONG_WAY):
            return self._start_over(x, residual, 0.0)
        return x, residual

    def _start_over(self, x: Any, residual: Any, growth: float) -> tuple[Any, Any]:
        """Go on from the start by plain steps, until they come to where none has been."""
        self._num_restarts += 1
        self._is_relaxed, self._policy.is_calm = False, True
        return self._record.start_over(growth, x, residual)


def broken(num_products: int) -> str:
    """Why a run ended whose map returned NaN or infinity."""
    return (
        f"Evaluation {num_products} of the map returned NaN or infinity; the best iterate so "
        "far is returned. Start nearer to the fixed point, or keep the argument in f's domain."
    )
