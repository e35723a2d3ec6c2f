"""Which schedule: of the first kind, or of the fourth where that is hopeless or slower."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold.planner.periods import LONGEST_PERIOD, period_without_lower, shortest_good_period
from stepfold.polynomial import num_steps_to, worst_case_period_rate
from stepfold.problems import QuadraticProblem
from stepfold.problems._content import GradientContent, gradient_content
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds

# Steps in the worst case from which on it pays to look at the right-hand side.
LOOK_FROM = 512
# And from which on first-kind steps are hopeless: their periods end long before they help.
HOPELESS = 10 * LONGEST_PERIOD
# Periods of fourth-kind steps to choose from, where it is known what each leaves.
PERIODS = (16, 32, 64, 128, 256, 512, LONGEST_PERIOD)
# Rounding, and eigenvalues that are not known to the last digit, take their share of a tolerance.
ROOM = 0.9


@dataclass(frozen=True, eq=False)
class Choice:
    """Steps, how many, and κ or what takes its place: rounding leaves 4εκ of the gradient."""

    schedule: Schedule
    num_steps: float
    condition: float
    first_kind: float
    """Steps of the first kind in the worst case; infinite without a lower bound."""
    content: GradientContent | None = None


def choose(
    bounds: SpectralBounds, rtol: float, period: int | None, problem: QuadraticProblem[Any] | None
) -> Choice:
    """Choose the steps, for the right-hand side of ``problem`` where it is given and needed."""
    first, worst = None, math.inf
    if bounds.lower > 0:
        first = chebyshev_steps(bounds, period or shortest_good_period(bounds, rtol))
        worst = num_steps_to(rtol, worst_case_period_rate(first, bounds), first.period)
        if worst <= LOOK_FROM:
            return Choice(first, worst, bounds.condition_number, worst)
    content = None if problem is None else gradient_content(problem)
    if content is None:
        return _without_content(bounds, rtol, period, first, worst)
    choices = []
    for length in PERIODS if period is None else (period,):
        schedule = chebyshev_steps(bounds, length, kind=4)
        choices.append(_for_content(schedule, worst, content, rtol))
    if first is not None:
        choice = _for_content(first, worst, content, rtol)
        if choice.num_steps <= 10 * HOPELESS:
            choices.append(choice)
    in_reach = [choice for choice in choices if narrowest_dtype(choice.condition, rtol) != "none"]
    best = min(in_reach or choices, key=lambda choice: choice.num_steps)
    if best.num_steps < math.inf:
        return best
    return dataclasses.replace(
        _without_content(bounds, rtol, period, first, worst), content=content
    )


def _for_content(schedule: Schedule, worst: float, content: GradientContent, rtol: float) -> Choice:
    """What a schedule takes for one right-hand side."""
    num_periods = content.num_periods(schedule, ROOM * rtol)
    condition = math.inf
    if num_periods < math.inf:
        # Three times the usual rounding must fit beside what is left: √(1 − ROOM²) is 0.43.
        condition = 3 / (4 * 0.43) * content.rounding(schedule, num_periods)
    return Choice(schedule, num_periods * schedule.period, condition, worst, content)


def _without_content(
    bounds: SpectralBounds, rtol: float, period: int | None, first: Schedule | None, worst: float
) -> Choice:
    if first is not None and worst <= HOPELESS:
        return Choice(first, worst, bounds.condition_number, worst)
    schedule = chebyshev_steps(bounds, period or period_without_lower(bounds), kind=4)
    total = math.inf
    if bounds.lower > 0:
        total = num_steps_to(rtol, worst_case_period_rate(schedule, bounds), schedule.period)
    return Choice(schedule, total, bounds.condition_number, worst)


def reasons(choice: Choice, bounds: SpectralBounds) -> list[str]:
    """Why this schedule, and what the number of its steps rests on."""
    is_known, is_fourth = choice.content is not None, "fourth" in choice.schedule.name
    if is_known and math.isfinite(choice.num_steps):
        notes = [
            "The number of steps is that of this right-hand side, from all eigenvectors; another "
            "one may need more."
        ]
        if is_fourth:
            notes.append(
                "Fourth-kind Chebyshev steps, which need no lower bound, are the faster ones for "
                f"it: first-kind steps take {choice.first_kind:.3g} in the worst case."
                if bounds.lower > 0
                else "No lower bound above 0 is known; fourth-kind Chebyshev steps need none."
            )
        return notes
    if not is_fourth:
        return []
    notes = []
    if bounds.lower > 0:
        notes.append(
            f"First-kind steps would take {choice.first_kind:.3g} in the worst case "
            f"(κ = {bounds.condition_number:.3g}). Fourth-kind steps take {choice.num_steps:.3g} "
            "there, and far fewer where the right-hand side has little of the smallest eigenvalues."
        )
    else:
        notes.append(
            "No lower bound above 0 is known, so nothing bounds the number of steps. Fourth-kind "
            "Chebyshev steps need none; a ridge term of weight μ would make μ a lower bound."
        )
        if bounds.reached_lower:
            notes.append(
                f"The smallest eigenvalue is at most {bounds.reached_lower:.4g}: if you can give a "
                "positive lower bound below that, first-kind steps need fewer products, and one "
                "that is too high only slows."
            )
    if choice.content is not None:
        stuck = choice.content.stuck
        if stuck > 0:
            notes.append(
                f"A share of {stuck:.2g} of the gradient at 0 lies where the Hessian is 0: the "
                "system is singular and inconsistent, and no method brings the gradient below that."
            )
    return notes


def narrowest_dtype(condition: float, rtol: float) -> str:
    """ "float32" or "float64", the narrowest whose rounding is within the tolerance; or "none"."""
    # A gradient step rounds the iterate to about eps·‖x‖, the gradient to eps·b·‖x‖; relative to
    # ‖∇f(0)‖ ≥ a‖x‖ that is eps·κ. The factor 4 covers the accumulation over an interleaved period.
    for name in ("float32", "float64"):
        if 4 * np.finfo(name).eps * condition <= rtol:
            return name
    return "none"
