"""What the experiment found, for the story and for the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray
from stepfold.lab.experiments._computed import BUILDERS, by_period
from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments._trainings import (
    pairs_are_outside_in,
    predicted_ranks,
    ranks,
    share_of_turns,
)
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import (
    mean_squared_error,
    mean_squared_error_path,
    optimal_mean_squared_error,
    spectral_radius,
)
from stepfold.schedules import Schedule

if TYPE_CHECKING:
    from stepfold.unfolded import Replicas

COMPUTED = {
    "Chebyshev": BUILDERS["Chebyshev"],
    "optimal": BUILDERS["optimal"],
    "constant (GD)": BUILDERS["constant"],
}
LEARNED = "learned (DUGD)"


@dataclass(frozen=True, eq=False)
class Findings:
    """Trainings on several spectra with several seeds, and computed schedules for each spectrum.

    Args:
        measures: Eigenvalues of each matrix.
        replicas: Trainings; those of one matrix follow each other.
        starts: How trainings from other first steps ended, by their first step.
        others: How trainings on other spectra ended, by the name of the ensemble.
    """

    measures: Sequence[SpectralMeasure]
    replicas: Replicas
    starts: Sequence[Start]
    others: dict[str, Ensemble]

    @property
    def period(self) -> int:
        """T."""
        return int(self.replicas.steps.shape[2])

    @cached_property
    def owner(self) -> NDArray[np.intp]:
        """Index of each training's matrix, shape (R,)."""
        return np.arange(len(self.replicas)) * len(self.measures) // len(self.replicas)

    @cached_property
    def diverged(self) -> NDArray[np.bool_]:
        """Which trainings ended above the error that they began with, or nowhere, shape (R,)."""
        ended: NDArray[np.bool_] = self.errors[LEARNED] < 1
        return ~ended

    @cached_property
    def computed(self) -> dict[str, list[Schedule]]:
        """Chebyshev, optimal and constant steps for each matrix."""
        return {
            name: [build(measure, self.period) for measure in self.measures]
            for name, build in COMPUTED.items()
        }

    @cached_property
    def errors(self) -> dict[str, FloatArray]:
        """Mean squared errors after T steps: (R,) of the learned ones, (M,) of the others."""
        found = {LEARNED: self.replicas.mean_squared_error_path[:, -1, -1]}
        return found | self._of_computed(mean_squared_error)

    @cached_property
    def radii(self) -> dict[str, FloatArray]:
        """Spectral radii after T steps, likewise."""
        found = {LEARNED: self.replicas.spectral_radii[:, -1, -1]}
        return found | self._of_computed(lambda s, m: spectral_radius(s, m.nodes))

    @cached_property
    def paths(self) -> dict[str, FloatArray]:
        """Mean squared error after each step, shape (R or M, T + 1)."""
        owners = [self.measures[k] for k in self.owner]
        learned = zip(self.replicas.steps[:, -1], owners, strict=True)
        found = {LEARNED: np.array([_path(steps, measure) for steps, measure in learned])}
        return found | self._of_computed(lambda s, m: _path(s.steps, m))

    def _of_computed(
        self, figure: Callable[[Schedule, SpectralMeasure], Any]
    ) -> dict[str, FloatArray]:
        """A figure of merit of the computed schedules, for each matrix."""
        found = by_period(figure, COMPUTED, self.measures, [self.period])
        return {name: rows[:, 0] for name, rows in found.items()}

    @cached_property
    def surplus(self) -> FloatArray:
        """Learned over the smallest possible mean squared error, shape (R,)."""
        return self.errors[LEARNED] / self.errors["optimal"][self.owner]


def _path(steps: FloatArray, measure: SpectralMeasure) -> FloatArray:
    if not np.isfinite(steps).all():
        return np.full(steps.size + 1, np.inf)
    return mean_squared_error_path(steps, measure)


@dataclass(frozen=True, eq=False)
class Start:
    """Trainings of T layers from one first step.

    Args:
        scaled: First step times the largest eigenvalue of the first matrix.
        turns: Share of inner layers at which the steps turn, shape (R,).
        paired: Whether pairs of layers are outside-in, shape (R,).
        foreseen: Share of the layers whose place among the steps is the predicted one, shape (R,).
    """

    scaled: float
    turns: FloatArray
    paired: NDArray[np.bool_]
    foreseen: FloatArray

    @classmethod
    def train(
        cls,
        measures: Sequence[SpectralMeasure],
        period: int,
        seeds: Sequence[int],
        initial_step: float,
        num_iterations: int,
        learning_rate: float,
    ) -> Start:
        """Train, and look at the order of the steps."""
        from stepfold.unfolded import train_replicas

        found = train_replicas(
            measures,
            period,
            seeds,
            num_iterations=num_iterations,
            initial_step=initial_step,
            learning_rate=learning_rate,
        )
        learned = found.steps[:, -1]
        expected = np.repeat(predicted_ranks(measures, period, initial_step), len(seeds), axis=0)
        return cls(
            initial_step * measures[0].bounds.upper,
            share_of_turns(learned),
            pairs_are_outside_in(learned),
            (ranks(learned) == expected).mean(axis=1),
        )


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trainings on the spectra of an ensemble, scaled so that they start like the published one.

    Args:
        condition_numbers: Of each matrix.
        turns: As of `Start`.
        paired: As of `Start`.
        surplus: Learned over the smallest possible mean squared error, shape (R,).
    """

    condition_numbers: FloatArray
    turns: FloatArray
    paired: NDArray[np.bool_]
    surplus: FloatArray

    @classmethod
    def train(
        cls, name: str, period: int, seeds: Sequence[int], upper: float, num_iterations: int
    ) -> Ensemble:
        """Train on three spectra of 300 unknowns and 600 rows, scaled to the largest ``upper``."""
        from stepfold.unfolded import train_replicas

        drawn = spectra(name, num_matrices=3)
        measures = [
            SpectralMeasure.from_eigenvalues(each.nodes * (upper / each.bounds.upper))
            for each in drawn
        ]
        found = train_replicas(measures, period, seeds, num_iterations=num_iterations)
        learned = found.steps[:, -1]
        best = np.repeat(
            [optimal_mean_squared_error(each, period) for each in measures], len(seeds)
        )
        return cls(
            np.array([each.bounds.condition_number for each in measures]),
            share_of_turns(learned),
            pairs_are_outside_in(learned),
            found.mean_squared_error_path[:, -1, -1] / best,
        )
