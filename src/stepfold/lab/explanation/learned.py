"""A training with everything that is said about it: references, distances, and whether it ended.

The mean squared error ``∫ p² dμ`` has no other minimum over T positive steps, up to order, than the
optimal steps; so how far a training has come can be told exactly. Its gradient with respect to the
logarithms of the steps, ``γₜ ∂ log MSE/∂γₜ``, has no unit and vanishes there. With noise in the
data the error is ``∫ p² dμ + η ∫ (1 − p)²/λ dμ``, and noise-aware steps take the optimum's place.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.explanation.shared import added_up, best_shared_steps, period_of
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error, optimal_mean_squared_error, spectral_radius
from stepfold.result import TrainingRun
from stepfold.schedules import (
    Schedule,
    chebyshev_steps,
    constant_steps,
    noise_aware_ridge,
    noise_aware_steps,
    noisy_mean_squared_error,
    roundoff_amplification,
)
from stepfold.schedules._fit import PolynomialFit
from stepfold.schedules.optimal import nearly_optimal_steps
from stepfold.schedules.ordering import outside_in_order

# An error this close to the smallest possible one is called optimal.
CLOSE = 0.05
# Largest share by which the error changes for a change of one step by 1 % that counts as none.
FLAT = 1e-3
# Times the rounding of the best steps that counts as no error.
ROUNDING = 16
# Last part of a stage's losses that is compared with the part before it.
TAIL = 0.1
# Standard errors by which means of noisy losses must differ to be called different.
STANDARD_ERRORS = 3


class Verdict(enum.Enum):
    """How a training ended."""

    STOPPED = "The training was stopped before its end."
    OPTIMAL = "The error is close to the smallest possible one."
    SHARED = "The error is close to the smallest that steps of the same period can have."
    UNFINISHED = "The error still has a slope."
    STUCK = "The error is flat, far from the smallest possible one."


@dataclass(frozen=True, eq=False)
class Learned:
    """A training run on a quadratic with a known spectrum.

    Args:
        run: What was trained.
        measure: How the first error is spread over the eigenvalues.
        name: What to call it.
        noise: η of the data, as in `noisy_mean_squared_error`.
    """

    run: TrainingRun
    measure: SpectralMeasure
    name: str
    noise: float = 0.0

    @property
    def best(self) -> str:
        """What the report calls the best steps known."""
        return "noise-aware" if self.noise else "optimal"

    @cached_property
    def schedules(self) -> dict[str, Schedule]:
        """Learned steps and those to compare them with, by what the report calls them."""
        count, bounds = self.run.schedule.period, self.measure.bounds
        schedules = {"learned": self.run.schedule}
        if bounds.lower > 0:
            schedules["Chebyshev"] = chebyshev_steps(bounds, count)
            schedules["constant"] = constant_steps(bounds, count)
        if self.noise:
            steps = nearly_optimal_steps(self.measure, count)
            schedules["optimal without noise"] = Schedule(steps, "optimal", "leja")
        if self.period < count:
            schedules[self.aim] = self._best_shared()
        schedules[self.best] = self.best_schedule(count)
        return schedules

    @cached_property
    def period(self) -> int:
        """Number of layers after which the learned steps repeat; T if they do not."""
        # Those of layers not trained yet are alike, and not shared.
        steps = self.run.schedule.steps
        return period_of(steps) if self.run.finished else int(steps.size)

    @property
    def aim(self) -> str:
        """What the report calls the best steps that training could have come to."""
        is_free = self.period == self.run.schedule.period
        return self.best if is_free else f"best of period {self.period}"

    def _best_shared(self) -> Schedule:
        count, bounds = self.run.schedule.period, self.measure.bounds
        starts = [self.run.schedule.steps[: self.period], self.best_schedule(self.period).steps]
        if bounds.lower > 0:
            starts.append(chebyshev_steps(bounds, self.period).steps)
        positive = self.measure.nodes[self.measure.nodes > 0]
        reach = (float(positive[0]), float(positive[-1]))
        return best_shared_steps(self.log_error, starts, count, reach)

    def best_schedule(self, period: int) -> Schedule:
        """The best positive steps known: without noise the optimum, with noise a local one."""
        if self.noise:
            return noise_aware_steps(self.measure, period, noise=self.noise)
        return Schedule(nearly_optimal_steps(self.measure, period), "optimal", "leja")

    def error(self, schedule: Schedule) -> float:
        """Mean squared error relative to the start, with the noise."""
        if not self.noise:
            return mean_squared_error(schedule, self.measure)
        with np.errstate(over="ignore"):
            return noisy_mean_squared_error(schedule, self.measure, noise=self.noise)

    @cached_property
    def errors(self) -> dict[str, float]:
        """Mean squared error at the end, relative to the start."""
        return {name: self.error(schedule) for name, schedule in self.schedules.items()}

    @cached_property
    def radii(self) -> dict[str, float]:
        """Spectral radius of all steps together."""
        return {
            name: spectral_radius(schedule, self.measure.nodes)
            for name, schedule in self.schedules.items()
        }

    @cached_property
    def rounding(self) -> float:
        """Error below which the best steps are not known to 16 digits, so that it counts as 0."""
        steps = self.schedules[self.best].steps
        # Their reciprocals are known to a unit of rounding of the largest eigenvalue.
        shifts = np.finfo(float).eps * self.measure.nodes[-1] * steps**2
        with np.errstate(over="ignore", invalid="ignore"):
            spread = np.abs(self.fit.jacobian(steps)) @ shifts
            return float(spread @ spread)

    @property
    def is_lost(self) -> bool:
        """Whether the best steps need more than 16 digits, so that there is no telling them."""
        least = self._best_error(self.run.schedule.period)
        tolerance = float(np.sqrt(np.finfo(float).eps))
        return not self.errors[self.best] <= (1 + CLOSE) * least + tolerance

    def is_negligible(self, error: float) -> bool:
        """Whether an error is 0 as far as rounding can tell."""
        # Where eigenvalues are far apart rounding may hide everything; errors then count as found.
        floor = min(self.rounding, float(np.finfo(float).eps))
        if optimal_mean_squared_error(self.measure, self.run.schedule.period) == 0:
            floor = max(floor, self.errors[self.best])
        return error <= ROUNDING * floor

    def gap(self, reference: str) -> float:
        """Learned error over that of a reference; 1 if both are 0 up to rounding.

        Infinite if only the reference's is.
        """
        learned, other = self.errors["learned"], self.errors[reference]
        if not self.is_negligible(other):
            return learned / other
        return 1.0 if self.is_negligible(learned) else float("inf")

    @cached_property
    def least_errors(self) -> FloatArray:
        """Error below which no t gradients come, t = 1 … T, shape (T,)."""
        lengths = range(1, self.run.schedule.period + 1)
        if not self.noise:
            return np.array([optimal_mean_squared_error(self.measure, t) for t in lengths])
        fit, errors = self.fit, []
        for t in lengths:
            best = noise_aware_ridge(self.measure, t, noise=self.noise)
            values = fit.scale * best.residual_polynomial(fit.eigenvalues) - fit.target
            errors.append(values @ values)
        return np.array(errors)

    @cached_property
    def equivalent_steps(self) -> int:
        """How many of the best steps do as well as the learned ones, or better; at most T."""
        enough = self.errors["learned"] * (1 + 1e-9)
        few, many = 0, self.run.schedule.period
        # The error of the best steps falls with their number.
        while many - few > 1:
            middle = (few + many) // 2
            if self._best_error(middle) <= enough:
                many = middle
            else:
                few = middle
        return many

    def _best_error(self, period: int) -> float:
        if not self.noise:
            return optimal_mean_squared_error(self.measure, period)
        return self.error(self.best_schedule(period))

    @cached_property
    def fit(self) -> PolynomialFit:
        """The error as a sum of squares."""
        nodes, weights = self.measure.nodes, self.measure.weights
        if not self.noise:
            return PolynomialFit(nodes, np.sqrt(weights), np.zeros(nodes.size))
        positive = nodes > 0
        spread = np.sqrt(self.noise * weights[positive] / nodes[positive])
        return PolynomialFit(
            np.concatenate([nodes, nodes[positive]]),
            np.concatenate([np.sqrt(weights), spread]),
            np.concatenate([np.zeros(nodes.size), spread]),
        )

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

    def log_error(self, steps: FloatArray) -> tuple[float, FloatArray]:
        """Logarithm of the error of T steps, and ``γₜ ∂ log MSE/∂γₜ``, shape (T,)."""
        values = self.fit.residuals(steps)
        with np.errstate(over="ignore", invalid="ignore"):
            error = float(values @ values)
            slopes = 2 * steps * (values @ self.fit.jacobian(steps))
        if error == 0:
            return -np.inf, np.zeros(steps.size)
        if not np.isfinite(error):
            return np.inf, np.full(steps.size, np.nan)
        return float(np.log(error)), slopes / error

    @cached_property
    def slopes(self) -> FloatArray:
        """``γₜ ∂ log MSE/∂γₜ`` with respect to the p values that layers share, shape (p,)."""
        return added_up(self.log_error(self.run.schedule.steps)[1], self.period)

    @property
    def verdict(self) -> Verdict:
        """Whether training had converged, and to what."""
        if not self.run.finished:
            return Verdict.STOPPED
        if self.gap(self.best) <= 1 + CLOSE:
            return Verdict.OPTIMAL
        if self.gap(self.aim) <= 1 + CLOSE:
            return Verdict.SHARED
        return Verdict.STUCK if float(np.abs(self.slopes).max()) <= FLAT else Verdict.UNFINISHED


def last_drop(losses: FloatArray) -> tuple[float, bool]:
    """By what share the loss fell over the last tenth of a stage, and whether noise explains it.

    Args:
        losses: Mini-batch losses of one stage, of either sign, shape (iterations,); NaN is left
            out.

    Returns:
        The fall relative to the size of the losses before, and whether it is one at all.

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
    # Losses may be negative, such as logarithms of a density, or 0.
    size_before = float(np.abs(before).mean()) or float(np.abs(last).mean()) or 1.0
    return drop / size_before, abs(drop) <= STANDARD_ERRORS * error
