"""Which period comes next: what the safeguard decides after each one.

A period of Chebyshev relaxation that fails has cost evaluations that the plain iteration would have
used. The safeguard keeps that account: a failure is a debt, plain evaluations pay it off at 15 %,
and what a successful period saved counts too. Nothing is tried while there is a debt, so the total
stays within 15 % (and one period) of what the plain iteration needs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold.accelerate.period import (
    Period,
    chebyshev_period,
    elliptic_period,
    plain_period,
    scheduled_period,
)
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.ellipse import Ellipse, enclosing_ellipse

SHARE = 0.15
FIRST_PERIOD = 4
PLAIN_PERIOD = 8
LONGEST_PERIOD = 32
# T = 2√κ steps reach five sixths of the rate that T = ∞ would.
STEPS_PER_ROOT = 2.0
# Ritz values approach the ends of a spectrum from inside.
BELOW, ABOVE = 0.7, 1.02
# How fast the lower end may fall from period to period, and rise after a failure.
FALL, RISE = 4.0, 4.0
# The least κ worth a Chebyshev period, and the largest that double precision can tell from ∞.
SMALLEST_RATIO, LARGEST_RATIO = 1.5, 1e8
# Above this share of the largest Ritz value imaginary parts are worth an ellipse.
COMPLEX = 0.3


class Policy:
    """What is known about the spectrum of B, and what the next period is."""

    def __init__(
        self,
        schedule: Schedule | None,
        bounds: SpectralBounds | None,
        num_steps: int | None,
        *,
        safeguard: bool,
    ) -> None:
        self.given = schedule
        self.assumed = bounds
        self.num_steps = num_steps
        self.safeguard = safeguard
        self.bounds: SpectralBounds | None = bounds
        self.ellipse: Ellipse | None = None
        self.values: NDArray[np.complex128] = np.zeros(0, dtype=np.complex128)
        self.debt = 0.0
        self.num_rejected = 0

    def next_period(self, room: int) -> Period:
        """The next period, of at most ``room`` steps."""
        if self.given is not None and self.safeguard is False:
            return scheduled_period(self.given, self.assumed)
        if self.safeguard and self.debt > 0:
            return plain_period(min(PLAIN_PERIOD, room))
        if self.given is not None:
            return scheduled_period(self.given, self.assumed)
        if self.bounds is None:
            return plain_period(min(FIRST_PERIOD, room))
        if self.assumed is not None:
            return self._assumed_period(room)
        return self._best_period(room)

    def _length(self, ratio: float, room: int) -> int:
        if self.num_steps is not None:
            return min(self.num_steps, room)
        return min(max(2, math.ceil(STEPS_PER_ROOT * math.sqrt(ratio))), LONGEST_PERIOD, room)

    def _assumed_period(self, room: int) -> Period:
        bounds = self.bounds
        assert bounds is not None  # noqa: S101
        num_steps = self._length(bounds.condition_number, room)
        if self.safeguard and bounds.condition_number < SMALLEST_RATIO:
            return plain_period(num_steps)
        return chebyshev_period(bounds, num_steps)

    def _best_period(self, room: int) -> Period:
        """The period that promises most per step: on the Ritz values and on the region."""
        bounds = self.bounds
        assert bounds is not None  # noqa: S101
        num_steps = self._length(bounds.condition_number, room)
        plain = float(np.abs(1 - self.values).max(initial=0.0))
        best, best_rate = plain_period(min(max(num_steps, PLAIN_PERIOD), room)), plain
        for period in self._candidates(bounds, num_steps, room):
            seen = float(np.abs(period.polynomial(self.values)).max(initial=0.0))
            rate = max(seen, period.factor) ** (1 / period.num_steps)
            if rate < best_rate:
                best, best_rate = period, rate
        return best

    def _candidates(self, bounds: SpectralBounds, num_steps: int, room: int) -> list[Period]:
        periods = []
        if bounds.condition_number >= SMALLEST_RATIO:
            periods.append(chebyshev_period(bounds, num_steps))
        if self.ellipse is not None and self.ellipse.rate < 1:
            steps = math.ceil(-2 / math.log(self.ellipse.rate)) if self.ellipse.rate > 0 else 2
            steps = self.num_steps or min(max(2, steps), LONGEST_PERIOD)
            periods.append(elliptic_period(self.ellipse, min(steps, room)))
        return periods

    def learn(self, values: NDArray[np.complex128], *, accepted: bool) -> None:
        """Take in the Ritz values of a period."""
        if self.assumed is not None or self.given is not None:
            return
        right = values[values.real > 1e-10 * np.abs(values).max(initial=0.0)]
        if not right.size:
            return
        self.values = right
        smallest, largest = float(right.real[0]), float(min(right.real[-1], 1e6))
        old = self.bounds
        lower = BELOW * smallest
        upper = max(1.0, ABOVE * largest)
        if old is not None:
            # What a period has damped well does not show in its Ritz values, but is still there.
            upper = max(upper, old.upper)
            lower = max(lower, old.lower / FALL) if accepted else max(lower, old.lower)
        lower = min(max(lower, upper / LARGEST_RATIO), upper)
        self.bounds = SpectralBounds(lower, upper, method="Ritz values of residuals")
        self.ellipse = self._ellipse(right)

    def _ellipse(self, values: NDArray[np.complex128]) -> Ellipse | None:
        if np.abs(values.imag).max() <= COMPLEX * np.abs(values).max():
            return None
        found = enclosing_ellipse(values, method="Ritz values of residuals")
        room = (1 - BELOW) * (found.center - found.real_axis)
        return replace(
            found,
            real_axis=found.real_axis + room,
            imaginary_axis=ABOVE * found.imaginary_axis,
        )

    def accept(self, factor: float, num_steps: int) -> None:
        """Book a period of relaxation that shrank the residual by ``factor``."""
        plain = float(np.abs(1 - self.values).max(initial=0.0))
        if 0 < plain < 1 and factor > 0:
            self.debt -= max(0.0, math.log(factor) / math.log(plain) - num_steps)
            self.debt = max(self.debt, -float(LONGEST_PERIOD))
        if self.assumed is not None and self.bounds is not None:
            lower = max(self.assumed.lower, self.bounds.lower / 2)
            self.bounds = replace(self.bounds, lower=min(lower, self.bounds.upper))

    def pay(self, num_steps: int) -> None:
        """Book plain evaluations."""
        self.debt = max(self.debt - SHARE * num_steps, min(self.debt, 0.0))

    def reject(self, num_steps: int) -> None:
        """Book a failure: a debt, and a lower end that is higher."""
        self.num_rejected += 1
        self.debt = max(self.debt, 0.0) + num_steps
        if self.bounds is not None:
            lower = min(max(self.bounds.lower, 1e-3 * self.bounds.upper) * RISE, self.bounds.upper)
            self.bounds = replace(self.bounds, lower=lower)

    @property
    def found(self) -> Any:
        """The last bounds or ellipse."""
        return self.ellipse if self.ellipse is not None else self.bounds
