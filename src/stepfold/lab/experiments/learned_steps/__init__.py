"""What explains the learned steps best, and how sure that is: rivals and null models.

Takabe and Wadayama, Convergence Acceleration via Chebyshev Step (arXiv:2010.13335), show sorted
learned steps beside Chebyshev's. Here their distance is put beside that of other schedules and of
numbers that know nothing of step sizes, on many matrices, for many numbers of layers.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed
from stepfold.lab.experiments._trainings import spread
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.learned_steps.checks import checks
from stepfold.lab.experiments.learned_steps.findings import NULLS, RANDOM, Found
from stepfold.lab.experiments.learned_steps.story import percent, story
from stepfold.lab.outcome import Outcome
from stepfold.lab.parameters import Between
from stepfold.lab.sources import CHEBYSHEV_STEP, Source

DEPTH_OF_LONGER = 11


@experiment(
    "learned_steps",
    source=Source(CHEBYSHEV_STEP, "Chebyshev steps reproduce the learned ones"),
    seconds=25,
    quick={
        "period": 5,
        "num_matrices": 3,
        "num_seeds": 1,
        "num_iterations": 200,
        "longer_iterations": 1000,
    },
)
def learned_steps(
    *,
    period: Annotated[int, Between(3, 40)] = 25,
    num_matrices: Annotated[int, Between(2, 32)] = 12,
    num_seeds: Annotated[int, Between(1, 16)] = 2,
    num_iterations: Annotated[int, Between(1, 5000)] = NUM_ITERATIONS,
    longer_iterations: Annotated[int, Between(1, 20_000)] = 5000,
    matrix_seed: Seed = 12,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Chebyshev, second-kind and optimal steps beside the learned ones, and null models.

    Args:
        period: The largest number of layers T.
        num_matrices: Matrices of 600 rows and 300 columns.
        num_seeds: Trainings on each.
        num_iterations: Mini-batches per stage; claims about the training are tested at 500.
        longer_iterations: Those of the longer training of at most 11 layers.
        matrix_seed: Seed of the first matrix; 12 is the published one.
        seed: Seed of the first training's data.
    """
    from stepfold.unfolded import train_replicas

    measures = spectra(num_matrices=num_matrices, matrix_seed=matrix_seed)
    replicas = train_replicas(
        measures,
        period,
        range(seed, seed + num_seeds),
        num_iterations=num_iterations,
        progress=progress,
    )
    longer, shorter = (
        train_replicas(
            measures[:3],
            min(period, DEPTH_OF_LONGER),
            [seed],
            num_iterations=count,
            progress=progress,
        )
        for count in (longer_iterations, num_iterations)
    )
    found = Found(measures, replicas, longer, shorter)
    last = {name: rows[:, -1] for name, rows in found.deviations.items()}
    nearest = min((name for name in last if name not in NULLS), key=lambda n: np.median(last[n]))
    return Outcome(
        title="Which steps explain the learned ones",
        summary=(
            f"With {period} layers sorted learned steps deviate from Chebyshev steps by "
            f"{percent(last['Chebyshev'])}, from second-kind ones by "
            f"{percent(last['second kind'])}, from optimal ones by {percent(last['optimal'])} "
            f"(median and range over {num_matrices} matrices); from the quantiles of the spectrum "
            f"by {percent(last['quantiles of the spectrum'])}, from random eigenvalues by "
            f"{percent(last[RANDOM])}. Nearest in the median are the {nearest} steps. A longer "
            f"training of {longer.steps.shape[2]} layers ends "
            f"{spread(found.surplus(longer)[:, -1], 4)} times above the smallest error."
        ),
        sections=story(found, num_iterations, longer_iterations),
        checks=checks(
            found,
            published_matrix=matrix_seed == 12,
            trained_in_full=num_iterations >= NUM_ITERATIONS and longer_iterations >= 5000,
        ),
        records={
            "deviations": found.deviations,
            "schedules/learned": replicas.run(0).schedule,
            "schedules/learned-longer": longer.run(0).schedule,
        },
    )
