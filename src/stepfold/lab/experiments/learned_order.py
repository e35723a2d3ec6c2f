"""The order in which training puts the steps: pairs of layers go outside-in.

Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient
Descent (arXiv:2001.05142), Figure 1: learned steps zig-zag. The zig-zag is outside-in: the largest
and the smallest step, the next two, and so on. Which of a pair comes first is chance.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed, published_measure, train
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.polynomial import mean_squared_error_path
from stepfold.schedules import Schedule
from stepfold.schedules.ordering import outside_in_order


@experiment(
    "learned_order",
    seconds=14,
    quick={"period": 4, "num_iterations": 300, "num_seeds": 2},
)
def learned_order(
    *,
    period: Annotated[int, Between(2, 25)] = 11,
    num_iterations: Annotated[int, Between(1, 100_000)] = NUM_ITERATIONS,
    num_seeds: Annotated[int, Between(1, 50)] = 6,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Training puts pairs of steps outside-in: the zig-zag of the published figure, explained.

    Args:
        period: T, the number of layers.
        num_iterations: Mini-batches per stage; the claim is tested at 500.
        num_seeds: Trainings, which differ in their data only.
        seed: Seed of the first.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded import SpectralLoss

    measure = published_measure()
    loss = SpectralLoss(measure)
    runs = {
        k: train(loss, period, num_iterations=num_iterations, seed=k, progress=progress)
        for k in range(seed, seed + num_seeds)
    }
    exact, paired = {}, {}
    for k, run in runs.items():
        learned = [run.schedule_after(depth).steps for depth in range(1, period + 1)]
        exact[k] = _depth_until([_is_outside_in(steps) for steps in learned])
        paired[k] = _depth_until([_pairs_are_outside_in(steps) for steps in learned])
    first = runs[seed].schedule
    reordered = Schedule(np.sort(first.steps)[outside_in_order(np.sort(first.steps))])
    sorted_steps = Schedule(np.sort(first.steps))
    errors = {
        "as learned": mean_squared_error_path(first, measure),
        "outside-in": mean_squared_error_path(reordered, measure),
        "ascending": mean_squared_error_path(sorted_steps, measure),
    }
    ends = np.array([row[-1] for row in errors.values()])
    return Outcome(
        title="The order of the learned steps",
        summary=(
            f"In all of {num_seeds} trainings pairs of layers hold the outermost steps left up to "
            f"depth {min(paired.values())}. The exact order largest, smallest, second largest, … "
            f"holds up to depth {min(exact.values())} to {max(exact.values())}: which of a pair "
            "comes first is chance."
        ),
        sections=[
            Section(
                "The zig-zag",
                (
                    "Learned steps in the order of the layers, one training after the other. A new "
                    "layer starts at 0.3 and takes over what the layers before it leave; the ones "
                    "trained longest move furthest out.",
                ),
                figure=Figure(
                    "steps",
                    "Learned steps by layer",
                    "Step size against layer for several seeds: long and short steps alternate and "
                    "close in on the middle.",
                    curves(
                        {f"seed {k}": run.schedule.steps for k, run in runs.items()},
                        np.arange(1, period + 1),
                        style="both",
                    ),
                    Axis("layer"),
                    Axis("step size γ", log=True),
                ),
                table=Table(
                    ("seed", "pairs outside-in up to depth", "exactly outside-in up to depth"),
                    tuple((str(k), str(paired[k]), str(exact[k])) for k in runs),
                ),
            ),
            Section(
                "What the order is good for",
                (
                    "For the result nothing: the mean squared error after the last step is the "
                    "same in every order. On the way it differs by orders of magnitude.",
                ),
                figure=Figure(
                    "errors",
                    "One set of learned steps in three orders",
                    "Mean squared error against iteration: three paths that meet at the last step.",
                    curves(errors, style="both", emphasis=("as learned",)),
                    Axis("iteration"),
                    Axis("mean squared error, relative to the start", log=True),
                ),
            ),
        ],
        checks=[
            Check(
                "largest ratio of the last errors in three orders",
                "1: order does not matter in the end",
                float(ends.max() / ends.min()),
                1,
                1 + 1e-6,
            ),
            *(
                [
                    Check(
                        f"smallest depth up to which pairs are outside-in, {num_seeds} seeds",
                        f"{period}: all",
                        min(paired.values()),
                        lower=period,
                    )
                ]
                if num_iterations >= NUM_ITERATIONS and period <= 11
                else []
            ),
        ],
        records={f"schedules/seed-{k}": run.schedule.to_dict() for k, run in runs.items()},
    )


def _depth_until(holds: list[bool]) -> int:
    """The last depth before the first at which it does not hold."""
    return holds.index(False) if False in holds else len(holds)


def _is_outside_in(steps: FloatArray) -> bool:
    ascending = np.sort(steps)
    return bool((steps == ascending[outside_in_order(ascending)]).all())


def _pairs_are_outside_in(steps: FloatArray) -> bool:
    ascending = np.sort(steps)
    expected = ascending[outside_in_order(ascending)]
    return all(set(steps[k : k + 2]) == set(expected[k : k + 2]) for k in range(0, steps.size, 2))
