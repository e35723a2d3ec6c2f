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
# Lanczos steps from each random vector, for a figure of the eigenvalues.
DRAWN_NODES = 12


@dataclass(frozen=True, eq=False)
class Subject:
    """A problem with everything that the sections tell about it.

    Args:
        problem: What is to be solved from x0 = 0.
        name: What to call it.
        why: What kind of problem it is.
        plan: What was recommended.
        spectrum: How the eigenvalues are spread.
        measure: How the gradient at 0 is, where there is one to try; else the spectrum.
        schedules: Schedules to compare, by what the report calls them.
        runs: What they did on the right-hand side.
        shape: Rows and columns of the picture that x is, if it is one.
    """

    problem: QuadraticProblem[Any]
    name: str
    why: str
    plan: Plan
    spectrum: SpectralMeasure
    measure: SpectralMeasure
    schedules: dict[str, Schedule]
    runs: dict[str, Result[Any]] = field(default_factory=dict)
    shape: tuple[int, int] | None = None

    @property
    def bounds(self) -> SpectralBounds:
        """Interval that the plan is for."""
        return self.plan.bounds
