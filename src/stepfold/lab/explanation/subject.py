"""A problem with everything that the sections tell about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stepfold.measure import SpectralMeasure
from stepfold.planner import Plan
from stepfold.problems import QuadraticProblem
from stepfold.result import Result
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds

# A trial on a right-hand side gives up after this many times the steps predicted for the
# recommended schedule, or after this many steps.
TRIAL_PATIENCE = 3
TRIAL_STEPS = 2000
# Longest period of the optimal steps shown: as many vectors are kept to compute them.
LONGEST_OPTIMAL = 48


@dataclass(frozen=True, eq=False)
class Subject:
    """A problem with everything that the sections tell about it."""

    problem: QuadraticProblem[Any]
    name: str
    why: str
    plan: Plan
    measure: SpectralMeasure
    schedules: dict[str, Schedule]
    runs: dict[str, Result[Any]] = field(default_factory=dict)

    @property
    def bounds(self) -> SpectralBounds:
        """Interval that the plan is for."""
        return self.plan.bounds
