"""A run: periods, one after the other, from the best iterate that is known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from stepfold.accelerate.krylov import ritz_values
from stepfold.accelerate.period import Period
from stepfold.accelerate.policy import Policy
from stepfold.accelerate.record import Limits, Record
from stepfold.problems.fixed_point import FixedPoint
from stepfold.result import Result, Status

# A period ends early when the residual is this many times what its polynomial allows.
OVERSHOOT = 2.0
# Beyond this growth of the residual of the plain iteration there is nothing to wait for.
EXPLOSION = 1e8
# Residuals that rounding makes up to this share of them say nothing about the spectrum.
NOISY = 1e-2


class Run:
    """The loop of `accelerate`."""

    def __init__(
        self,
        problem: FixedPoint[Any],
        policy: Policy,
        record: Record,
        limits: Limits,
        callback: Callable[[int, Any], None] | None,
        stop: Callable[[Any], bool] | None,
    ) -> None:
        self._problem, self._policy = problem, policy
        self._record, self._limits = record, limits
        self._callback, self._stop = callback, stop

    def go(self, x: Any, residual: Any) -> None:
        """Run from ``x``, whose residual is known, until there is a status."""
        record, policy = self._record, self._policy
        while not self._is_over(x):
            period = policy.next_period(self._limits.max_evaluations - record.num_evaluations)
            record.schedule = period.schedule
            start = record.last
            end = self._take(period, x, residual)
            if record.status is not None:
                return
            if end is not None:
                x, residual = end
                factor = record.last / start
                if not period.is_plain:
                    policy.accept(factor, period.num_steps)
            else:
                x, residual = record.best, record.best_residual
                record.last = record.best_norm
            record.check()

    def _is_over(self, x: Any) -> bool:
        record, limits = self._record, self._limits
        if record.status is None and self._stop is not None and self._stop(x):
            record.end(Status.CONVERGED, "`stop` said that the iterate is good enough.", x)
        if record.status is None and record.num_evaluations >= limits.max_evaluations:
            record.end(
                Status.BUDGET,
                "The budget was spent; raise `max_evaluations`, or loosen `rtol`.",
            )
        if record.status is None and time.perf_counter() - record.begun >= limits.max_seconds:
            record.end(Status.BUDGET, "The time was spent; raise `max_seconds`, or loosen `rtol`.")
        if record.status is None and record.is_stalled():
            record.end(Status.STALLED, self._why_stalled())
        return record.status is not None

    def _take(self, period: Period, x: Any, residual: Any) -> tuple[Any, Any] | None:
        """Take a period; its end, or None where the safeguard turns it down."""
        record, policy = self._record, self._policy
        guarded = policy.safeguard and not period.is_plain
        start, size = record.last, record.last
        residuals, begun = [residual], record.num_evaluations
        previous: Any = x
        for j, omega in enumerate(period.schedule):
            momentum = float(period.momenta[j])
            moved = x + omega * residual
            x, previous = moved if momentum == 0 else moved + momentum * (x - previous), x
            residual = self._problem.residual(x)
            size = record.see(x, residual)
            if self._callback is not None:
                self._callback(record.num_steps, x)
            if not math.isfinite(size):
                if guarded:
                    policy.reject(record.num_evaluations - begun)
                    return None
                self._broken()
                return None
            residuals.append(residual)
            if size <= record.tolerance:
                record.end(Status.CONVERGED, "The residual norm fell below the tolerance.", x)
                return None
            if guarded and size > OVERSHOOT * max(1.0, period.growth[j]) * start:
                break
            if size > EXPLOSION * record.first:
                break
        taken = len(residuals) - 1
        good = not guarded or (taken == period.num_steps and size < start)
        trusted = record.noise(x) <= NOISY * min(size, start)
        if policy.safeguard and trusted:
            policy.learn(ritz_values(residuals, period.moves[:taken, :taken]), accepted=good)
        if not good:
            policy.reject(taken)
            return None
        if period.is_plain:
            policy.pay(taken)
            if size > EXPLOSION * record.first:
                record.end(Status.DIVERGED, self._why_diverged())
                return None
        return x, residual

    def _broken(self) -> None:
        record = self._record
        record.end(
            Status.DIVERGED,
            f"Evaluation {record.num_evaluations} of the map returned NaN or infinity; the last "
            "good iterate is returned. Start nearer to the fixed point, or keep the map's "
            "argument in its domain.",
        )

    def _why_diverged(self) -> str:
        far = self._policy.values
        text = "The residual grew without bounds: the map is no contraction here"
        if far.size:
            text += f" (an eigenvalue of its Jacobian lies near {1 - far.real[0]:.4g})"
        return f"{text}, or has no fixed point. Start nearer to one, or damp the map."

    def _why_stalled(self) -> str:
        if self._record.is_at_rounding():
            return (
                "The residual norm stopped falling at the precision of the arithmetic; loosen "
                "`rtol`, or use a wider dtype."
            )
        return (
            "The residual norm has stopped falling far above rounding: the map may have no fixed "
            "point, or may be no contraction near the iterate, or stochastic."
        )

    def result(self) -> Result[Any]:
        """The record of the run."""
        return self._record.result()
