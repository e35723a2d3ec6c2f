"""How much training the optimum takes: ten times the published number of mini-batches.

Published trainings stop after 500 mini-batches a stage. This one goes on, and says where the
loss ends: at the smallest mean squared error that so many steps can have.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed, published_measure, train
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.polynomial import mean_squared_error
from stepfold.schedules import optimal_steps


@experiment(
    "longer_training",
    seconds=30,
    quick={"period": 4, "num_iterations": 1000, "shorter_iterations": 100},
)
def longer_training(
    *,
    period: Annotated[int, Between(2, 25)] = 11,
    num_iterations: Annotated[int, Between(1, 100_000)] = 5000,
    shorter_iterations: Annotated[int, Between(1, 100_000)] = NUM_ITERATIONS,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Ten times the training reaches the optimum: what learned steps miss is training.

    Args:
        period: T; the claim is about 11.
        num_iterations: Mini-batches per stage of the longer training.
        shorter_iterations: Those of the published one, for comparison.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded import SpectralLoss

    measure = published_measure()
    loss = SpectralLoss(measure)
    runs = {
        count: train(loss, period, num_iterations=count, seed=seed, progress=progress)
        for count in (shorter_iterations, num_iterations)
    }
    stages = range(1, period + 1)
    optimum = np.array([mean_squared_error(optimal_steps(measure, g), measure) for g in stages])
    surplus = {
        count: np.array([mean_squared_error(run.schedule_after(g), measure) for g in stages])
        / optimum
        for count, run in runs.items()
    }
    reached = float(surplus[num_iterations][-1])
    before = float(surplus[shorter_iterations][-1])
    largest = np.max(
        np.abs(
            np.sort(runs[num_iterations].schedule.steps)
            / np.sort(optimal_steps(measure, period).steps)
            - 1
        )
    )
    published = (period, num_iterations, shorter_iterations) == (11, 5000, NUM_ITERATIONS)
    return Outcome(
        title="What learned steps miss is training",
        summary=(
            f"With {num_iterations} mini-batches a stage {period} learned steps end "
            f"{reached:.4f} times above the smallest mean squared error, with "
            f"{shorter_iterations} a stage {before:.2f} times. The optimal steps are where a "
            "perfect training ends."
        ),
        sections=[
            Section(
                "Distance from the optimum",
                (
                    "Mean squared error at the end of each stage over the smallest possible "
                    "for that number of layers. The same seed, the same optimiser; only the "
                    "number of mini-batches differs. Optimal steps take a millisecond to compute.",
                ),
                figure=Figure(
                    "surplus",
                    "Mean squared error over the optimum",
                    "Ratio of the trained to the optimal error against the stage; the longer "
                    "training stays at one, the shorter one rises.",
                    tuple(
                        Curve(
                            f"{count} mini-batches",
                            np.array(stages),
                            ratio,
                            style="both",
                            emphasis=count == num_iterations,
                        )
                        for count, ratio in surplus.items()
                    ),
                    Axis("stage (number of trained layers)"),
                    Axis("MSE / smallest possible MSE"),
                ),
            ),
            Section(
                "The steps at the end",
                (f"The longer-trained steps deviate from the optimum by {largest:.1%} at most.",),
                table=Table(
                    (
                        "rank",
                        *(f"learned, {count} mini-batches" for count in runs),
                        "optimal",
                    ),
                    tuple(
                        (str(rank), *(f"{step:.4f}" for step in row))
                        for rank, row in enumerate(
                            zip(
                                *(np.sort(run.schedule.steps) for run in runs.values()),
                                np.sort(optimal_steps(measure, period).steps),
                                strict=True,
                            ),
                            start=1,
                        )
                    ),
                ),
            ),
        ],
        checks=[
            Check(
                "smallest ratio of trained to optimal MSE",
                "at least 1: nothing beats the optimum",
                float(min(ratio.min() for ratio in surplus.values())),
                lower=1 - 1e-9,
            ),
            *(
                [
                    Check.close(
                        "MSE of the longer training, T = 11",
                        2.258e-4,
                        reached * float(optimum[-1]),
                        rtol=0.01,
                    ),
                    Check("its ratio to the optimum", "within 1 %", reached, 1 - 1e-9, 1.01),
                    Check("ratio of the published training", "above 1.5", before, lower=1.5),
                ]
                if published
                else []
            ),
        ],
        records={
            f"schedules/learned-{count}": run.schedule.to_dict() for count, run in runs.items()
        },
    )
