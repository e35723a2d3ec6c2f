"""Deep-unfolded gradient descent: the experiment that the project starts from.

Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient
Descent (arXiv:2001.05142), Figure 1: what training finds, in many trainings on several matrices.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from stepfold.lab.experiments._ensembles import Ensemble as EnsembleName
from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments._published import Seed, published_matrix
from stepfold.lab.experiments._trainings import counted, spread
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.dugd.checks import checks
from stepfold.lab.experiments.dugd.findings import LEARNED, Ensemble, Findings, Start
from stepfold.lab.experiments.dugd.story import story
from stepfold.lab.outcome import Outcome
from stepfold.lab.parameters import Between, FileName
from stepfold.lab.sources import LEARNED_STEP_SIZE, Source
from stepfold.schedules import optimal_steps

__all__ = ["dugd", "published_matrix"]

# First steps times the largest eigenvalue; the published one is 1.7.
STARTS = (0.4, 0.7, 0.9, 1.1, 1.4, 1.7, 2.0, 3.0, 5.0, 8.0)
# Depths at which the order is looked at, and other spectra are tried.
DEPTH_OF_STARTS, DEPTH_OF_OTHERS = 8, 11
OTHERS = ("gaussian", "uniform", "log-uniform", "autoregressive")
# More would take hours and gigabytes.
MOST_WORK = 2e10


@experiment(
    "dugd",
    source=Source(LEARNED_STEP_SIZE, "Figure 1: errors by iteration, learned steps"),
    seconds=25,
    quick={"period": 8, "num_iterations": 200, "num_matrices": 2, "num_seeds": 2},
)
def dugd(
    *,
    period: Annotated[int, Between(2, 64)] = 25,
    num_unknowns: Annotated[int, Between(2, 1200)] = 300,
    num_rows: Annotated[int, Between(3, 4800)] = 600,
    ensemble: EnsembleName = "gaussian",
    matrix: Annotated[str, FileName()] = "",
    num_matrices: Annotated[int, Between(1, 32)] = 3,
    num_seeds: Annotated[int, Between(1, 64)] = 8,
    num_iterations: Annotated[int, Between(1, 100_000)] = 500,
    batch_size: Annotated[int, Between(1, 1_000_000)] = 200,
    learning_rate: Annotated[float, Between(1e-9, 1e3)] = 0.002,
    initial_step: Annotated[float, Between(1e-9, 1e9)] = 0.3,
    matrix_seed: Seed = 12,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Deep-unfolded gradient descent against constant, Chebyshev and optimal steps.

    Args:
        period: T, the number of layers.
        num_unknowns: n, the columns of H.
        num_rows: m, its rows, more than n.
        ensemble: How H, or its spectrum, is drawn: "gaussian" as published, "autoregressive" rows
            (neighbours correlated at 0.7), "uniform" or "log-uniform" eigenvalues, or "file".
        matrix: A .npy file that holds H, with "file" only.
        num_matrices: Matrices; a file is one.
        num_seeds: Trainings on each matrix, which differ in their data.
        num_iterations: Mini-batches per stage.
        batch_size: Problems in a mini-batch.
        learning_rate: Of Adam.
        initial_step: Of every layer before training; 1.7 over the largest eigenvalue is as
            published.
        matrix_seed: Seed of the first matrix; 12 is the published one.
        seed: Seed of the first training's data.
    """
    from stepfold.unfolded import train_replicas

    measures = spectra(
        ensemble,
        num_unknowns=num_unknowns,
        num_rows=num_rows,
        num_matrices=num_matrices,
        matrix_seed=matrix_seed,
        matrix=matrix,
    )
    for measure in measures:
        optimal_steps(measure, period)  # raises, before the training, where there are none
    upper = max(measure.bounds.upper for measure in measures)
    if not 1e-3 < initial_step * upper < 1e3:
        raise ValueError(
            f"`initial_step` must suit the largest eigenvalue, {upper:.3g}, got {initial_step:g}; "
            f"the published training has 1.7 over it, here {1.7 / upper:.3g}, and a learning rate "
            f"of {0.0114 / upper:.3g}"
        )
    work = len(measures) * num_seeds * period * num_iterations * measures[0].nodes.size * period
    if work > MOST_WORK:
        raise ValueError(
            f"`num_iterations` must be at most {int(num_iterations * MOST_WORK / work)} with this "
            f"many layers, seeds, matrices and unknowns, got {num_iterations}; lower one of them"
        )
    as_published = (ensemble, num_unknowns, num_rows) == ("gaussian", 300, 600)
    in_full = as_published and (learning_rate, initial_step) == (0.002, 0.3)
    in_full = in_full and num_iterations >= 500 and batch_size >= 200
    seeds = range(seed, seed + num_seeds)
    replicas = train_replicas(
        measures,
        period,
        seeds,
        num_iterations=num_iterations,
        batch_size=batch_size,
        initial_step=initial_step,
        learning_rate=learning_rate,
        progress=progress,
    )
    few = seeds[:2]
    starts = [
        Start.train(
            measures,
            min(period, DEPTH_OF_STARTS),
            few,
            start / measures[0].bounds.upper,
            num_iterations,
            learning_rate,
        )
        for start in (STARTS if period > 2 else ())
    ]
    others = {
        name: Ensemble.train(name, min(period, DEPTH_OF_OTHERS), few, 5.678370598, num_iterations)
        for name in (OTHERS if period > 2 and in_full else ())
    }
    found = Findings(measures, replicas, starts, others)
    learned = found.errors[LEARNED]
    diverged = int(found.diverged.sum())
    gains = found.errors["constant (GD)"][found.owner] / learned
    records: dict[str, Any] = {
        f"schedules/{name.split()[0].lower()}": schedules[0]
        for name, schedules in found.computed.items()
    }
    if not replicas.diverged[0]:
        run = replicas.run(0)
        records |= {"schedules/learned": run.schedule, "training": run}
    return Outcome(
        title="What deep-unfolded gradient descent learns",
        summary=(
            f"In {counted(len(learned), 'training')} on "
            f"{counted(len(measures), 'matrix', 'matrices')} the learned steps end after {period} "
            f"iterations at a mean squared error of {spread(learned)}, "
            f"{spread(gains)} times below the best constant step and "
            f"{spread(found.surplus)} times above the smallest that {period} steps can have. "
            + (
                f"{diverged} of the trainings diverged: they end above the error of the start."
                if diverged
                else "None diverged."
            )
        ),
        sections=story(found),
        checks=checks(found, matrix=as_published and matrix_seed == 12, trained_in_full=in_full),
        records={
            **records,
            "spectrum": measures[0],
            "trainings": _trainings(found),
        },
    )


def _trainings(found: Findings) -> list[dict[str, object]]:
    """Each training's matrix, seed and end; None for what is not finite."""
    columns = {
        "matrix": found.owner,
        "seed": found.replicas.seeds,
        "stages": found.replicas.num_stages,
        "mean_squared_error": found.errors[LEARNED],
        "spectral_radius": found.radii[LEARNED],
        "steps": found.replicas.steps[:, -1],
    }
    return [
        {
            name: column[k].tolist() if np.isfinite(column[k]).all() else None
            for name, column in columns.items()
        }
        for k in range(len(found.replicas))
    ]
