"""Spectral radius of learned, Chebyshev and constant steps against the number of steps.

Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient
Descent (arXiv:2001.05142): training lowers the spectral radius with the mean squared error, and
Chebyshev steps minimise a bound on it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed, published_measure, train
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.polynomial import chebyshev_period_rate, first_order_lower_bound, spectral_radius
from stepfold.schedules import chebyshev_steps, constant_steps, optimal_steps


@experiment("radius_by_depth", seconds=4, quick={"period": 6, "num_iterations": 100})
def radius_by_depth(
    *,
    period: Annotated[int, Between(2, 40)] = 15,
    num_iterations: Annotated[int, Between(1, 100_000)] = NUM_ITERATIONS,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Spectral radius of learned, Chebyshev and constant steps against T, beside the bound.

    Args:
        period: The largest T.
        num_iterations: Mini-batches per stage; claims about the training are tested at 500.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded import SpectralLoss

    measure = published_measure()
    bounds, eigenvalues = measure.bounds, measure.nodes
    loss = SpectralLoss(measure)
    run = train(loss, period, num_iterations=num_iterations, seed=seed, progress=progress)
    depths = range(1, period + 1)
    bound = np.array([chebyshev_period_rate(bounds, t) for t in depths])
    schedules = {
        "learned": [run.schedule_after(t) for t in depths],
        "Chebyshev": [chebyshev_steps(bounds, t) for t in depths],
        "optimal": [optimal_steps(measure, t) for t in depths],
        "constant": [constant_steps(bounds, t) for t in depths],
    }
    radii = {
        name: np.array([spectral_radius(schedule, eigenvalues) for schedule in row])
        for name, row in schedules.items()
    }
    rates = {name: row ** (1 / np.arange(1, period + 1)) for name, row in radii.items()}
    limit = first_order_lower_bound(bounds)
    trained = [
        Check(
            "largest ratio of successive radii of learned steps",
            "below 1: training lowers the radius",
            float((radii["learned"][1:] / radii["learned"][:-1]).max()),
            0,
            1,
        ),
        Check(
            "largest radius of learned over constant steps, T from 2",
            "below 1",
            float((radii["learned"] / radii["constant"])[1:].max()),
            0,
            1,
        ),
        Check(
            "smallest rate of learned steps over the lower bound",
            "above 1",
            float((rates["learned"] / limit).min()),
            lower=1,
        ),
    ]
    return Outcome(
        title="The spectral radius against the number of steps",
        summary=(
            f"At T = {period} the spectral radius of constant steps is "
            f"{radii['constant'][-1]:.3g}, of learned ones {radii['learned'][-1]:.3g}, of "
            f"Chebyshev steps {radii['Chebyshev'][-1]:.3g}, which meet the bound "
            f"{bound[-1]:.3g}. Training, which looks at the mean squared error only, lowers the "
            "radius as well."
        ),
        sections=[
            Section(
                "Radius",
                (
                    "The spectral radius is the largest factor by which T steps multiply the "
                    "error along any eigenvector: here of the published matrix. Chebyshev steps "
                    "have the smallest guaranteed for the interval; on the 300 eigenvalues in it "
                    "their radius comes up to the bound.",
                ),
                figure=Figure(
                    "radius",
                    "Spectral radius after T steps",
                    "Spectral radius against the number of steps, all falling: constant steps "
                    "slowest, then learned and optimal ones; Chebyshev steps lie on the bound.",
                    curves(
                        {**radii, "bound sech(T arccosh((κ+1)/(κ−1)))": bound},
                        np.arange(1, period + 1),
                        style="both",
                        emphasis=("learned",),
                    ),
                    Axis("number of steps T"),
                    Axis("spectral radius", log=True),
                ),
            ),
            Section(
                "Rate per step",
                (
                    "The T-th root of the radius, beside the lower bound (√κ−1)/(√κ+1) of all "
                    "first-order methods.",
                ),
                figure=Figure(
                    "rate",
                    "T-th root of the spectral radius",
                    "Rate per step against the number of steps. Chebyshev's falls towards the "
                    "lower bound, learned and optimal ones above it, the constant one is level.",
                    curves(
                        rates,
                        np.arange(1, period + 1),
                        style="both",
                        emphasis=("learned",),
                    ),
                    Axis("number of steps T"),
                    Axis("rate per step"),
                    levels=(Level("lower bound", limit),),
                ),
                table=Table(
                    ("T", *(f"radius, {name}" for name in radii), "bound"),
                    tuple(
                        (
                            str(t),
                            *(f"{row[t - 1]:.4g}" for row in radii.values()),
                            f"{bound[t - 1]:.4g}",
                        )
                        for t in depths
                    ),
                ),
            ),
        ],
        checks=[
            Check(
                "largest radius of Chebyshev steps over the bound",
                "at most 1",
                float((radii["Chebyshev"] / bound).max()),
                0.9,
                1 + 1e-9,
            ),
            Check(
                "smallest radius of any steps over Chebyshev's",
                "not far below 1: between eigenvalues it may be beaten",
                float(min((row / radii["Chebyshev"]).min() for row in radii.values())),
                0.9,
                1,
            ),
            *(trained if num_iterations >= NUM_ITERATIONS else []),
        ],
        records={"schedules/learned": run.schedule.to_dict()},
    )
