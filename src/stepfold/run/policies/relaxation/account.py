"""Which period comes next: what the guard decides after each one.

A period of relaxation that fails has cost evaluations that the plain iteration would have used to
advance. The guard keeps that account in evaluations: a failure is a debt, so is what a period
fell short of the plain iteration; plain evaluations pay it off at 15 %, and what a period saved
counts too. While a debt exceeds one period nothing is tried, so that the total stays within 15 %
and one period of what the plain iteration needs.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.run.policies.relaxation.period import (
    Period,
    chebyshev_period,
    elliptic_period,
    plain_period,
    scheduled_period,
)
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.ellipse import Ellipse, enclosing_ellipse

# The constants below were chosen on 46 maps, twelve of them lassos. Moving one of them by a third
# moves the geometric mean of evaluations to 1e-8 by at most 12 %.
SHARE = 0.15
FIRST_PERIOD, PLAIN_PERIOD, LONGEST_PERIOD = 4, 8, 32
# T = 1.5√κ steps reach three quarters of the rate that T = ∞ would, and adapt sooner than more do.
STEPS_PER_ROOT = 1.5
LONGEST_RATIO = (LONGEST_PERIOD / STEPS_PER_ROOT) ** 2
# Ritz values approach the ends of a spectrum from inside.
BELOW, ABOVE = 0.9, 1.02
# How fast the lower end falls from period to period, and rises after a failure.
FALL, RISE = 2.0, 4.0
# What the excess of the upper end over 1 shrinks by when nothing is seen there any more.
DECAY = 0.8
ESCAPE = 0.1
# A residual may rise by so much more than the eigenvalue that drives it away from a saddle tells.
MOST_GROWTH = 1.1
LARGEST_RATIO = 1e8
# Real parts up to this share of the largest Ritz value are no more than rounding.
TINY = 1e-10
# Above this share of the largest Ritz value imaginary parts are worth an ellipse.
COMPLEX = 0.1
# An assumed lower end that is too high, or an ellipse that is too small, shows in a factor this
# much above the promised one.
BROKEN_PROMISE = 1.5
# A run of more than a period that took this share of the evaluations of plain steps, or more of
# them, has gained nothing worth the name.
NO_GAIN = 0.9


class Account:
    """What is known about the spectrum of B, what it has cost, and what the next period is."""

    def __init__(
        self,
        schedule: Schedule | None,
        bounds: SpectralBounds | Ellipse | None,
        period: int | None,
        *,
        guard: bool,
    ) -> None:
        self.guard = guard
        interval = None if isinstance(bounds, Ellipse) else bounds
        self.bounds: SpectralBounds | None = interval
        self.ellipse: Ellipse | None = None
        self.values: NDArray[np.complex128] = np.zeros(0, dtype=np.complex128)
        """Ritz values of the last period, right of the imaginary axis."""
        self.debt = 0.0
        self.num_rejected = 0
        self.is_calm = False
        """Whether to take plain steps only."""
        self.repelling: float | None = None
        """Real part, 1 or more, of an eigenvalue of J that the last Ritz values showed."""
        self._given, self._assumed, self._period = schedule, interval, period
        # An ellipse that is assumed, until a period on it fails.
        self._assumed_ellipse = bounds if isinstance(bounds, Ellipse) else None
        self._learns = schedule is None and bounds is None
        # Steps of plain periods, of all, and what relaxation did: the sum of log factors.
        self._last_repelling: float | None = None
        self._longest = LONGEST_PERIOD
        self._failed_on = self.values
        self._num_plain = self._num_taken = 0
        self._log_factor = 0.0
        self._largest_rate = 0.0

    @property
    def plain_rate(self) -> float:
        """Factor per step of the plain iteration, as far as the Ritz values show; 0 if unknown."""
        return float(np.abs(1 - self.values).max(initial=0.0))

    def next_period(self, room: int) -> Period:
        """The next period, of at most ``room`` steps."""
        if self.is_calm:
            return plain_period(min(PLAIN_PERIOD, room))
        if self._given is not None:
            period = scheduled_period(self._given, room)
        elif self._assumed_ellipse is not None:
            period = self._elliptic_period(self._assumed_ellipse, room)
        elif self.bounds is None:
            return plain_period(min(FIRST_PERIOD, room))
        elif self._assumed is not None:
            period = chebyshev_period(self.bounds, self._length(self.bounds, room))
        else:
            period = self._best_period(self.bounds, room)
        if self.guard and self.debt > 0 and self.debt + period.schedule.period > LONGEST_PERIOD:
            return plain_period(min(PLAIN_PERIOD, room))
        return period

    def _length(self, bounds: SpectralBounds, room: int) -> int:
        if self._period is not None:
            return min(self._period, room)
        steps = math.ceil(STEPS_PER_ROOT * math.sqrt(bounds.condition_number))
        return min(max(2, steps), self._longest, room)

    def _elliptic_period(self, ellipse: Ellipse, room: int) -> Period:
        if self._period is not None:
            return elliptic_period(ellipse, min(self._period, room))
        steps, rate = LONGEST_PERIOD, ellipse.rate
        if rate < 1:  # it rounds to 1 where the origin is next to the ellipse
            steps = math.ceil(-2 / math.log(rate)) if rate > 0 else 1
        return elliptic_period(ellipse, min(steps, self._longest, room))

    def _best_period(self, bounds: SpectralBounds, room: int) -> Period:
        """The period that promises most per step: on the Ritz values and on the region."""
        length = self._length(bounds, room)
        candidates = [chebyshev_period(bounds, length)]
        if self.ellipse is not None and 0 < self.ellipse.rate < 1:
            candidates.append(self._elliptic_period(self.ellipse, room))
        best, best_rate = plain_period(min(max(length, PLAIN_PERIOD), room)), self.plain_rate
        if self.repelling is not None and self.repelling - 1 > ESCAPE:
            return best  # the residual must rise, and plain steps are soon away
        if self.escape:
            best_rate = 1.0
        for period in candidates:
            seen = float(np.abs(period.polynomial(self.values)).max(initial=0.0))
            rate = max(seen, period.factor) ** (1 / period.schedule.period)
            if rate < best_rate:
                best, best_rate = period, rate
        return best

    @property
    def escape(self) -> float:
        """Eigenvalue −μ of B that drives the iterate away from a saddle; 0 for none."""
        if self.repelling is None or self._last_repelling is None:
            return 0.0
        return 1 - self.repelling if self.repelling - 1 <= ESCAPE else 0.0

    def allowed(self, period: Period) -> FloatArray:
        """How far the residual may rise after each step of a period, as a factor."""
        rise = np.maximum(1.0, period.growth)
        if self.escape:
            at = np.abs(period.polynomials(np.array([self.escape])))[:, 0]
            rise = np.maximum(rise, at)
        return rise

    def most_rise(self, period: Period) -> float:
        """By what factor a period may raise the residual, as the escape from a saddle does."""
        rise = float(np.abs(period.polynomial(self.escape)))
        return MOST_GROWTH * rise if rise > 1 else 1.0

    def learn(self, values: NDArray[np.complex128], *, accepted: bool) -> None:
        """Take in the Ritz values of a period."""
        if not values.size or np.abs(values).max() > LARGEST_RATIO:
            return  # that much is no spectrum of I − J, but the noise of a map over a tiny move
        tiny = TINY * float(np.abs(values).max())
        least = float(values.real[0])
        self._last_repelling, self.repelling = self.repelling, None if least > tiny else 1 - least
        values = values[values.real > tiny]
        if values.size:
            self.values = values
            self._largest_rate = max(self._largest_rate, self.plain_rate)
        elif not self.escape:
            return
        if any(a is not None for a in (self._assumed, self._assumed_ellipse, self._given)):
            return
        # Where a period failed it met eigenvalues that plain steps show later, and less of them.
        self._failed_on = values if not accepted else self._failed_on
        met = np.concatenate([values, self._failed_on])
        upper = max(1.0, ABOVE * float(met.real.max(initial=0.0)))
        lower = BELOW * float(values.real.min(initial=upper))
        if self.escape:
            # Steps as long as the slowest motion allows, and it is the one away from the saddle.
            lower = min(lower, max(-self.escape, upper / LONGEST_RATIO))
        if self.bounds is not None:
            # What a period has damped well does not show in its Ritz values, but is still there.
            upper = max(upper, 1 + DECAY * (self.bounds.upper - 1))
            lower = max(lower, self.bounds.lower / (FALL if accepted else 1))
        lower = min(max(lower, upper / LARGEST_RATIO), upper)
        self.bounds = SpectralBounds(lower, upper, method="Ritz values of residuals")
        self.ellipse = _roomy_ellipse(met)

    def accept(self, period: Period, factor: float) -> None:
        """Book a period of relaxation that multiplied the residual by ``factor`` < 1."""
        rate, num_steps = self.plain_rate, period.schedule.period
        self._num_taken += num_steps
        self._log_factor += math.log(factor)
        # On the real axis nothing is slower than an eigenvalue at 0. Off it the plain iteration may
        # be slow because it turns; and what repels has no rate.
        worth = period.advance
        if 0 < rate < 1 and factor < 1 and self.repelling is None:
            reached = math.log(factor) / math.log(rate)
            worth = reached if period.momenta.any() else min(worth, reached)
        self.debt = max(self.debt + num_steps - worth, -float(LONGEST_PERIOD))
        self._failed_on = self._failed_on[:0]
        self._longest = min(2 * self._longest, LONGEST_PERIOD)
        broken = factor > BROKEN_PROMISE * period.factor
        if worth < num_steps or broken:
            self._assumed_ellipse = None
        if self._assumed is None or self.bounds is None or not self.guard:
            return
        if worth < num_steps:
            self._move_lower(RISE)
        elif broken:
            self._move_lower(1 / FALL)

    def pay(self, num_steps: int) -> None:
        """Book plain evaluations."""
        self._num_taken += num_steps
        self._num_plain += num_steps
        if self.debt > 0:
            self.debt = max(self.debt - SHARE * num_steps, 0.0)

    def reject(self, num_steps: int, length: int) -> None:
        """Book a failure: a debt, and an interval that asks for less."""
        self.num_rejected += 1
        self._num_taken += num_steps
        self.debt = max(self.debt, 0.0) + num_steps
        self._longest = max(length // 2, 2)
        self._assumed_ellipse = None
        if self.bounds is None:
            return
        largest = float(self.values.real.max(initial=0.0))
        if largest > self.bounds.upper:
            self.bounds = replace(self.bounds, upper=ABOVE * largest)
        else:
            self._move_lower(RISE)

    def notes(self, *, ended_well: bool) -> list[str]:
        """Sentences on what was found."""
        notes = []
        if self.num_rejected:
            notes.append(f"Periods of relaxation turned down: {self.num_rejected}.")
        if self.repelling is not None and not ended_well:
            notes.append(
                f"The Jacobian was last seen to have an eigenvalue near {self.repelling:.4g}, "
                "which no relaxation turns into a contraction."
            )
        elif (
            self._learns
            and self._num_taken > LONGEST_PERIOD
            and self._num_taken >= NO_GAIN * self._num_worth
        ):
            notes.append(
                f"Relaxation cannot help here: {self._num_taken} steps of the run did what about "
                f"{self._num_worth:.0f} plain ones do."
            )
        return notes

    @property
    def _num_worth(self) -> float:
        """How many plain steps do what this run has done; infinite if they may not converge."""
        # The slowest component that was ever seen: Ritz values find it late, from inside.
        if self._log_factor == 0:
            return float(self._num_plain)
        if not 0 < self._largest_rate < 1:
            return math.inf
        return self._num_plain + self._log_factor / math.log(self._largest_rate)

    def _move_lower(self, factor: float) -> None:
        bounds = self.bounds
        assert bounds is not None  # noqa: S101
        least = 0.0 if self._assumed is None else self._assumed.lower
        lower = min(max(bounds.lower * factor, least), bounds.upper)
        self.bounds = replace(bounds, lower=lower)


def _roomy_ellipse(values: NDArray[np.complex128]) -> Ellipse | None:
    """An ellipse a little larger than the Ritz values need; None where they are as good as real."""
    if np.abs(values.imag).max(initial=0.0) <= COMPLEX * np.abs(values).max(initial=0.0):
        return None
    found = enclosing_ellipse(values, method="Ritz values of residuals")
    room = (1 - BELOW) * (found.center - found.real_axis)
    return replace(
        found, real_axis=found.real_axis + room, imaginary_axis=ABOVE * found.imaginary_axis
    )
