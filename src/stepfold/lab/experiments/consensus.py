"""Consensus on a graph: learned steps beside Chebyshev's, the optimum, and exact training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._unfolded import MiniBatches, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error, mean_squared_error_path
from stepfold.problems import Quadratic
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps, optimal_steps

LEARNED, PUBLISHED, EXACT = "learned, from theory", "learned, incrementally", "trained exactly"
NUM_STARTS = 1000


@experiment(
    "consensus",
    source=Source(OWN, "learned steps of consensus on a graph"),
    seconds=60,
    quick={"num_layers": 6, "num_iterations": 100},
)
def consensus(
    *,
    num_layers: Annotated[int, Between(2, 32)] = 16,
    num_iterations: MiniBatches = 500,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Learned steps of consensus on the karate club beside Chebyshev's and the optimum.

    Args:
        num_layers: T, rounds of talking to all neighbours.
        num_iterations: Mini-batches per stage; training from theory has as many in all.
        seed: Seed of the training data.
    """
    from stepfold.unfolded import train_exactly
    from stepfold.unfolded.networks.relaxation import consensus as build
    from stepfold.unfolded.networks.relaxation import karate_club_laplacian

    laplacian = karate_club_laplacian()
    measure = SpectralMeasure.from_eigenvalues(np.linalg.eigvalsh(laplacian)[1:])
    bounds = measure.bounds
    run = trained(
        build(num_layers=num_layers), num_iterations=num_iterations, seed=seed, progress=progress
    )
    starts = np.random.default_rng([seed, 1]).standard_normal((NUM_STARTS, len(laplacian)))
    problem = Quadratic(laplacian, np.zeros_like(starts))
    means = np.repeat(starts.mean(1, keepdims=True), len(laplacian), axis=1)

    def from_theory(depth: int) -> Schedule:
        task = build(num_layers=depth, from_theory=True)
        count = num_iterations * depth
        return trained(task, num_iterations=count, seed=seed, progress=progress).schedule

    builders: dict[str, Callable[[int], Schedule]] = {
        "constant, 2/(a + b)": lambda depth: constant_steps(bounds, depth),
        PUBLISHED: run.schedule_after,
        "Chebyshev": lambda depth: chebyshev_steps(bounds, depth),
        LEARNED: from_theory,
        EXACT: lambda depth: train_exactly(problem, means, depth, x0=starts).schedule,
        "optimal": lambda depth: optimal_steps(measure, depth),
    }
    depths = np.arange(1, num_layers + 1)
    schedules = {name: [make(int(t)) for t in depths] for name, make in builders.items()}
    rows: dict[str, FloatArray] = {
        name: np.array([mean_squared_error(each, measure) for each in found])
        for name, found in schedules.items()
    }
    last = {name: float(row[-1]) for name, row in rows.items()}
    return Outcome(
        title="Consensus on the karate club",
        summary=(
            f"With {num_layers} rounds the mean squared distance from consensus is "
            f"{last['Chebyshev']:.2g} with Chebyshev steps, {last[PUBLISHED]:.2g} with steps "
            f"learned incrementally, {last[LEARNED]:.2g} with steps learned from Chebyshev's on "
            f"the logarithm of the error, {last[EXACT]:.2g} with steps trained exactly on "
            f"{NUM_STARTS} starts, and {last['optimal']:.2g} at best."
        ),
        sections=[
            Section(
                "Distance from consensus by depth",
                (
                    "Each of 34 members holds a number and moves it, in every round, towards those "
                    "of its friends: x ← x − ηL x, L the Laplacian of the graph. What does not "
                    "agree yet decays along the eigenvectors of L with eigenvalues above 0, here "
                    f"from {bounds.lower:.3f} to {bounds.upper:.2f}. Each depth has steps of its "
                    "own.",
                    "Incremental training keeps up with the optimum for some rounds and is then "
                    "overtaken by Chebyshev steps, which are not trained. Trained from those, with "
                    "as many mini-batches, steps are better than Chebyshev's at every depth. At "
                    "great depth they still stop short of the optimum: the largest eigenvalues "
                    "stand alone, each wants one step to itself, and training leaves two steps "
                    "with some of them. Exact training finds the optimum of its starts by T "
                    "products with L, without gradients.",
                ),
                figure=Figure(
                    "distance_by_depth",
                    "Mean squared distance from consensus after T rounds",
                    "Distance against T: constant highest; incremental training crosses Chebyshev; "
                    "training from theory below both; exact training on the optimum.",
                    curves(rows, depths, style="both", emphasis=(LEARNED,)),
                    Axis("rounds T"),
                    Axis("mean squared distance from consensus", log=True),
                ),
                table=Table(
                    ("T", *rows),
                    tuple(
                        (str(t), *(f"{row[t - 1]:.3g}" for row in rows.values()))
                        for t in sorted({2, 4, 6, 8, 12, num_layers})
                        if t <= num_layers
                    ),
                ),
            ),
            Section(
                "On the way",
                (
                    "The distance after each round of the deepest schedules. Long steps make it "
                    "grow on the way, those in the order that training has left them in by orders "
                    "of magnitude: it looks at the end only.",
                ),
                figure=Figure(
                    "distance_by_round",
                    "Mean squared distance from consensus after each round",
                    "Distance against round, for learned and Chebyshev steps and the optimum.",
                    curves(
                        {
                            name: mean_squared_error_path(schedules[name][-1], measure)
                            for name in ("Chebyshev", LEARNED, "optimal")
                        },
                        style="both",
                        emphasis=(LEARNED,),
                    ),
                    Axis("round"),
                    Axis("mean squared distance from consensus", log=True),
                ),
            ),
        ],
        checks=[
            Check.below(
                "largest ratio of learned from theory to Chebyshev steps, from T = 2 on",
                1,
                (rows[LEARNED] / rows["Chebyshev"])[1:].max(),
            ),
            Check.below(
                "distance of incrementally learned over constant steps at the end",
                0.5,
                last[PUBLISHED] / last["constant, 2/(a + b)"],
            ),
            Check.below(
                "largest ratio of exactly trained steps to the optimum",
                1.5,
                (rows[EXACT] / rows["optimal"]).max(),
                why="for they are the optimum of their starts",
            ),
            Check.at_least(
                "smallest ratio of any steps to the optimum",
                1,
                min((row / rows["optimal"]).min() for row in rows.values()),
            ),
        ],
        records={
            "schedules/learned": schedules[LEARNED][-1],
            "schedules/learned_incrementally": run.schedule,
            "distances": rows,
        },
    )
