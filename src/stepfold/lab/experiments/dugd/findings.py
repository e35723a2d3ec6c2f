"""What the experiment found, for the story and for the checks."""

from __future__ import annotations

from dataclasses import dataclass

from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error
from stepfold.result import TrainingRun
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps, optimal_steps
from stepfold.spectrum import SpectralBounds


@dataclass(frozen=True, eq=False)
class Findings:
    """The four schedules on the spectrum they were made for."""

    measure: SpectralMeasure
    bounds: SpectralBounds
    run: TrainingRun
    constant: Schedule
    chebyshev: Schedule
    optimal: Schedule

    @property
    def learned(self) -> Schedule:
        """Steps that training found, in the order of the layers."""
        return self.run.schedule

    @property
    def schedules(self) -> dict[str, Schedule]:
        """All four, by what the report calls them."""
        return {
            "learned (DUGD)": self.learned,
            "Chebyshev": self.chebyshev,
            "optimal": self.optimal,
            "constant (GD)": self.constant,
        }

    def final_error(self, schedule: Schedule) -> float:
        """Mean squared error after the schedule's last step."""
        return mean_squared_error(schedule, self.measure)

    @property
    def training_errors(self) -> FloatArray:
        """Mean squared error at the end of each stage, shape (T,)."""
        errors = self.run.history.mean_squared_errors
        assert errors is not None, "the spectral loss knows its measure"  # noqa: S101
        return errors

    @property
    def training_radii(self) -> FloatArray:
        """Spectral radius at the end of each stage, shape (T,)."""
        radii = self.run.history.spectral_radii
        assert radii is not None, "the spectral loss knows its measure"  # noqa: S101
        return radii

    def at_depth(self, depth: int) -> tuple[Schedule, Schedule, Schedule, Schedule]:
        """Learned, optimal, Chebyshev and constant steps of another length."""
        return (
            self.run.schedule_after(depth),
            optimal_steps(self.measure, depth),
            chebyshev_steps(self.bounds, depth),
            constant_steps(self.bounds, depth),
        )
