"""Computed schedules beside learned ones: builders, and what each does on each spectrum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps, optimal_steps

Builder = Callable[[SpectralMeasure, int], Schedule]

BUILDERS: dict[str, Builder] = {
    "Chebyshev": lambda measure, period: chebyshev_steps(measure.bounds, period),
    "second kind": lambda measure, period: chebyshev_steps(measure.bounds, period, kind=2),
    "optimal": optimal_steps,
    "constant": lambda measure, period: constant_steps(measure.bounds, period),
}


def by_period(
    figure: Callable[[Schedule, SpectralMeasure], Any],
    builders: Mapping[str, Builder],
    measures: Iterable[SpectralMeasure],
    periods: Iterable[int],
) -> dict[str, FloatArray]:
    """A figure of merit of each family of schedules, for each measure and period, shape (M, T)."""
    measures, periods = list(measures), list(periods)
    return {
        name: np.array([[figure(build(m, t), m) for t in periods] for m in measures])
        for name, build in builders.items()
    }
