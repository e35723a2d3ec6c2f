"""What the trainings found, for the story and for the checks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments._computed import BUILDERS, Builder
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error
from stepfold.schedules import Schedule, optimal_steps

if TYPE_CHECKING:
    from stepfold.unfolded import Replicas

SHOWN = (2, 5, 8, 11, 15, 20, 25)
NUM_DRAWS = 200

RIVALS: dict[str, Builder] = {
    **BUILDERS,
    "quantiles of the spectrum": lambda measure, period: Schedule(
        1 / np.quantile(measure.nodes, (np.arange(period) + 0.5) / period)
    ),
}
RANDOM = "random eigenvalues"
NULLS = ("constant", "quantiles of the spectrum", RANDOM)


@dataclass(frozen=True, eq=False)
class Found:
    """Trainings on many matrices, and longer ones of fewer layers on the first three."""

    measures: list[SpectralMeasure]
    replicas: Replicas
    longer: Replicas
    shorter: Replicas

    @cached_property
    def depths(self) -> range:
        """Numbers of layers."""
        return range(2, self.replicas.steps.shape[2] + 1)

    @cached_property
    def deviations(self) -> dict[str, FloatArray]:
        """Mean |log ratio| of sorted steps, by candidate; shape (M, depths), mean over seeds."""
        seeds = len(self.replicas) // len(self.measures)
        found = {name: np.empty((len(self.measures), len(self.depths))) for name in RIVALS}
        found[RANDOM] = np.empty_like(found["constant"])
        for k, measure in enumerate(self.measures):
            trained = self.replicas.steps[k * seeds : (k + 1) * seeds]
            for column, depth in enumerate(self.depths):
                learned = np.log(np.sort(trained[:, depth - 1, :depth], axis=1))
                for name, build in RIVALS.items():
                    found[name][k, column] = deviation(learned, build(measure, depth))
                drawn = [deviation(learned, row) for row in _random(measure, depth)]
                found[RANDOM][k, column] = np.median(drawn)
        return found

    @cached_property
    def correlated(self) -> float:
        """Share of random draws whose log-log correlation with Chebyshev steps exceeds 0.97."""
        depth = self.depths[-1]
        shares = []
        for measure in self.measures:
            wanted = np.log(np.sort(RIVALS["Chebyshev"](measure, depth)))
            rows = np.log(np.sort(_random(measure, depth), axis=1))
            shares += [float(np.corrcoef(row, wanted)[0, 1]) > 0.97 for row in rows]
        return float(np.mean(shares))

    def errors(self, depth: int) -> dict[str, FloatArray]:
        """Mean squared error after so many steps: (R,) of the learned, (M,) of the others."""
        found = {"learned": self.replicas.mean_squared_error_path[:, depth - 1, -1]}
        return found | {
            name: np.array([mean_squared_error(RIVALS[name](m, depth), m) for m in self.measures])
            for name in ("optimal", "Chebyshev", "second kind", "constant")
        }

    def surplus(self, trained: Replicas) -> FloatArray:
        """Error at the end of each stage over the smallest possible, shape (R, G)."""
        ends = trained.mean_squared_error_path[:, :, -1]
        best = [
            [mean_squared_error(optimal_steps(m, t + 1), m) for t in range(ends.shape[1])]
            for m in self.measures[: len(ends)]
        ]
        surplus: FloatArray = ends / np.array(best)
        return surplus


def deviation(learned: FloatArray, steps: Any) -> float:
    """Mean |log ratio| of sorted steps; ``learned`` holds sorted logarithms, shape (R, T)."""
    return float(np.abs(learned - np.log(np.sort(steps))).mean())


def _random(measure: SpectralMeasure, period: int) -> FloatArray:
    """Reciprocals of T eigenvalues drawn without replacement, shape (draws, T)."""
    rng = np.random.default_rng(period)
    draws = [rng.choice(measure.nodes, period, replace=False) for _ in range(NUM_DRAWS)]
    return 1 / np.array(draws)
