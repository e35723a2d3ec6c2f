"""A training with everything that is said about it: references, distances, and whether it ended.

The mean squared error ``∫ p² dμ`` has no other minimum over T positive steps, up to order, than the
optimal steps; so how far a training has come can be told exactly. Its gradient with respect to the
logarithms of the steps, ``γₜ ∂ log MSE/∂γₜ``, has no unit and vanishes there.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error, optimal_mean_squared_error, spectral_radius
from stepfold.result import TrainingRun
from stepfold.schedules import (
    Schedule,
    chebyshev_steps,
    constant_steps,
    optimal_steps,
    roundoff_amplification,
)
from stepfold.schedules._fit import PolynomialFit
from stepfold.schedules.ordering import outside_in_order

# An error this close to the smallest possible one is called optimal.
CLOSE = 0.05
# Largest share by which the error changes for a change of one step by 1 % that counts as none.
FLAT = 1e-3
# Last part of a stage's losses that is compared with the part before it.
TAIL = 0.1
# Standard errors by which means of noisy losses must differ to be called different.
STANDARD_ERRORS = 3


class Verdict(enum.Enum):
    """How a training ended; the value is advice."""

    OPTIMAL = (
        "Training has found the optimum: no schedule of as many steps is noticeably better for "
        "this spectrum. For less error, take more steps."
    )
    UNFINISHED = (
        "Training has not converged: the loss still has a slope. `optimal_steps` computes the "
        "optimum for this spectrum in milliseconds, `train_exactly` that for given data; or start "
        "training from these steps, or train longer with a decaying learning rate."
    )
    STUCK = (
        "Training rests where the loss is flat, far from the optimum: steps that are equal, or so "
        "long that the loss no longer sees them, move together. Start from Chebyshev or optimal "
        "steps instead."
    )


@dataclass(frozen=True, eq=False)
class Learned:
    """A training run on a quadratic with a known spectrum.

    Args:
        run: What was trained.
        measure: How the first error is spread over the eigenvalues.
        name: What to call it.
    """

    run: TrainingRun
    measure: SpectralMeasure
    name: str

    @cached_property
    def schedules(self) -> dict[str, Schedule]:
        """Learned steps and those to compare them with, by what the report calls them."""
        count, bounds = self.run.schedule.num_steps, self.measure.bounds
        schedules = {"learned": self.run.schedule}
        if bounds.lower > 0:
            schedules["Chebyshev"] = chebyshev_steps(bounds, count)
            schedules["constant"] = constant_steps(bounds, count)
        schedules["optimal"] = optimal_steps(self.measure, count)
        return schedules

    @cached_property
    def errors(self) -> dict[str, float]:
        """Mean squared error at the end, relative to the start."""
        return {
            name: mean_squared_error(schedule, self.measure)
            for name, schedule in self.schedules.items()
        }

    @cached_property
    def radii(self) -> dict[str, float]:
        """Spectral radius of all steps together."""
        return {
            name: spectral_radius(schedule, self.measure.nodes)
            for name, schedule in self.schedules.items()
        }

    @property
    def gap(self) -> float:
        """Learned error over the smallest possible one; 1 is the optimum."""
        return self.errors["learned"] / self.errors["optimal"]

    @cached_property
    def best_errors(self) -> FloatArray:
        """Smallest error of 1 … T steps, shape (T,)."""
        count = self.run.schedule.num_steps
        return np.array([optimal_mean_squared_error(self.measure, t + 1) for t in range(count)])

    @property
    def equivalent_steps(self) -> int:
        """How many optimal steps do as well as the learned ones, or better; at most T."""
        as_good = self.best_errors <= self.errors["learned"] * (1 + 1e-9)
        return int(as_good.argmax()) + 1 if as_good.any() else self.best_errors.size

    def deviation(self, reference: str) -> FloatArray:
        """Sorted learned steps relative to the sorted reference, less 1, shape (T,)."""
        ratio: FloatArray = np.sort(self.run.schedule.steps) / np.sort(
            self.schedules[reference].steps
        )
        return ratio - 1

    def correlation(self, reference: str) -> float:
        """Correlation of the logarithms of the sorted steps; NaN where all steps are equal."""
        learned, other = (
            np.log(np.sort(steps))
            for steps in (self.run.schedule.steps, self.schedules[reference].steps)
        )
        if learned.std() == 0 or other.std() == 0:
            return float("nan")
        return float(np.corrcoef(learned, other)[0, 1])

    @property
    def outside_in_pairs(self) -> int:
        """Leading layers whose successive pairs hold the largest and smallest step left."""
        steps = self.run.schedule.steps
        ascending = np.sort(steps)
        expected = ascending[outside_in_order(ascending)]
        for k in range(0, steps.size, 2):
            if set(steps[k : k + 2]) != set(expected[k : k + 2]):
                return k
        return int(steps.size)

    @property
    def amplification(self) -> tuple[float, float]:
        """Growth of heads and tails of the factors in the learned order."""
        return roundoff_amplification(self.run.schedule.steps, self.measure.bounds)

    @cached_property
    def slopes(self) -> FloatArray:
        """``γₜ ∂ log MSE/∂γₜ``, shape (T,)."""
        steps = self.run.schedule.steps
        fit = PolynomialFit(
            self.measure.nodes, np.sqrt(self.measure.weights), np.zeros(self.measure.nodes.size)
        )
        values = fit.residuals(steps)
        slopes: FloatArray = 2 * steps * (values @ fit.jacobian(steps)) / (values @ values)
        return slopes

    @property
    def verdict(self) -> Verdict:
        """Whether training had converged, and to what."""
        if self.gap <= 1 + CLOSE:
            return Verdict.OPTIMAL
        return Verdict.STUCK if float(np.abs(self.slopes).max()) <= FLAT else Verdict.UNFINISHED


def last_drop(losses: FloatArray) -> tuple[float, bool]:
    """By what share the loss fell over the last tenth of a stage, and whether noise explains it.

    Args:
        losses: Mini-batch losses of one stage, shape (iterations,); NaN is left out.

    >>> share, is_noise = last_drop(np.linspace(2.0, 1.0, 100))
    >>> round(share, 3), is_noise
    (0.088, False)
    """
    losses = losses[np.isfinite(losses)]
    size = int(TAIL * losses.size)
    if size < 2:
        return 0.0, True
    last, before = losses[-size:], losses[-2 * size : -size]
    drop = float(before.mean() - last.mean())
    error = float(np.sqrt((last.var(ddof=1) + before.var(ddof=1)) / size))
    return drop / float(before.mean()), abs(drop) <= STANDARD_ERRORS * error
