"""Chebyshev steps as rivals of learned ones: a few numbers tuned on data that are not the test's.

With a prior (a threshold, a posterior mean, a projection) the spectrum that counts is that of the
whole map near the solution, and is not known beforehand. So the two ends of the interval, the
period, the order and the prior's own number are chosen like the weights of the other rivals: for
the smallest error after the last iteration, on tuning data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.schedules import chebyshev_steps
from stepfold.spectrum import SpectralBounds

UPPER = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper ends that are tried, in units of the largest eigenvalue without the prior."""
RATIOS = tuple(float(ratio) for ratio in np.geomspace(0.003, 0.9, 12))
"""Lower ends that are tried, over the upper end."""
ORDERS = ("own", "ascending")


@dataclass(frozen=True)
class Rival:
    """Errors of a method by iteration, and what was tuned for it, in words."""

    errors: Sequence[float]
    tuned: str


@dataclass(frozen=True)
class ChebyshevRival:
    """Chebyshev steps that repeat, and the number that the prior takes.

    Args:
        lower: Lower end of the interval that the steps are made for.
        upper: Its upper end.
        period: T.
        order: "own", the builder's, or the name of an order.
        prior: The prior's number, such as a weight, or several in a tuple; None if it has none.
    """

    lower: float
    upper: float
    period: int
    order: str
    prior: Any = None

    def steps(self, num_layers: int) -> FloatArray:
        """Steps of ``num_layers`` iterations."""
        schedule = chebyshev_steps(SpectralBounds(self.lower, self.upper), self.period)
        schedule = schedule if self.order == "own" else schedule.reordered(self.order)
        repeated: FloatArray = np.resize(schedule.steps, num_layers)
        return repeated

    def __str__(self) -> str:
        order = "" if self.order == "own" else f", {self.order}"
        return f"[a, b] = [{self.lower:.2g}, {self.upper:.2g}], T = {self.period}{order}"


def tuned_chebyshev(
    error: Callable[[FloatArray, Any], float],
    num_layers: int,
    *,
    largest: float = 1.0,
    priors: Sequence[Any] = (None,),
    starts: Sequence[float] = RATIOS[1::4],
) -> ChebyshevRival:
    """Return the Chebyshev steps of the smallest error.

    For every period that divides the number of layers, both orders and every start, one number
    after the other is set to its best on a grid until nothing changes.

    Args:
        error: Error on tuning data of a list of steps with the prior's number; what is not finite
            counts as infinite.
        num_layers: Iterations.
        largest: Largest eigenvalue without the prior.
        priors: Numbers of the prior that are tried.
        starts: Ratios of the ends at which searches start.
    """
    known: dict[ChebyshevRival, float] = {}

    def cost(rival: ChebyshevRival) -> float:
        if rival not in known:
            # Steps that are too long for the prior end in overflow: such rivals lose.
            with np.errstate(over="ignore", invalid="ignore"):
                found = error(rival.steps(num_layers), rival.prior)
            known[rival] = found if math.isfinite(found) else math.inf
        return known[rival]

    periods = [period for period in range(1, num_layers + 1) if num_layers % period == 0]
    finalists = [
        _descended(cost, period, order, largest, priors, ratio)
        for period in periods[1:] or periods
        for order in ORDERS
        for ratio in starts
    ]
    return min(finalists, key=cost)


def _descended(
    cost: Callable[[ChebyshevRival], float],
    period: int,
    order: str,
    largest: float,
    priors: Sequence[Any],
    ratio: float,
) -> ChebyshevRival:
    """One number after the other at its best, until a round changes nothing."""
    choices: Mapping[str, Sequence[Any]] = {"prior": priors, "upper": UPPER, "ratio": RATIOS}
    chosen: dict[str, Any] = {
        "prior": priors[len(priors) // 2],
        "upper": UPPER[-1],
        "ratio": ratio,
    }

    def rival(**changes: Any) -> ChebyshevRival:
        values = {**chosen, **changes}
        upper = values["upper"] * largest
        return ChebyshevRival(values["ratio"] * upper, upper, period, order, values["prior"])

    while True:
        before = dict(chosen)
        for name, grid in choices.items():
            chosen[name] = min(grid, key=lambda value, name=name: cost(rival(**{name: value})))  # type: ignore[misc]
        if chosen == before or cost(rival()) == math.inf:
            return rival()
