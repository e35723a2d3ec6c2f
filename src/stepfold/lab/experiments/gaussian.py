"""Large Gaussian matrices: the optimal steps are second-kind Chebyshev steps, without a matrix.

For H of shape (m, n) with normal entries and r = n/m < 1, the eigenvalues of HᵀH follow, up to a
factor, Marchenko and Pastur's law, and λ dμ(λ) is a semicircle, whose Gauss nodes are the roots of
the Chebyshev polynomials of the second kind. The smallest mean squared error of T steps is then
``(1 − r) rᵀ / (1 − rᵀ⁺¹)``.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments._computed import BUILDERS, Builder, by_period
from stepfold.lab.experiments._ensembles import ends, spectra
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import (
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    optimal_mean_squared_error,
)
from stepfold.schedules import Schedule, chebyshev_steps, optimal_steps
from stepfold.spectrum import SpectralBounds


@experiment(
    "gaussian",
    source=Source(OWN, "optimal steps of large Gaussian matrices"),
    seconds=3,
    quick={"num_unknowns": 100, "num_rows": 200},
)
def gaussian(
    *,
    num_unknowns: Annotated[int, Between(20, 2000)] = 300,
    num_rows: Annotated[int, Between(30, 8000)] = 600,
    max_steps: Annotated[int, Between(2, 40)] = 25,
    num_matrices: Annotated[int, Between(1, 100)] = 5,
    matrix_seed: Seed = 12,
) -> Outcome:
    """Gaussian matrices: second-kind steps from the aspect ratio alone are nearly optimal.

    Args:
        num_unknowns: n, below ``num_rows``.
        num_rows: m.
        max_steps: The largest number of steps T.
        num_matrices: Matrices drawn; their medians are shown.
        matrix_seed: Seed of the first, the published one; the others follow.
    """
    ratio = num_unknowns / num_rows
    measures = spectra(
        num_unknowns=num_unknowns,
        num_rows=num_rows,
        num_matrices=num_matrices,
        matrix_seed=matrix_seed,
    )
    law = SpectralBounds(*ends(num_unknowns, num_rows))
    depths = np.arange(1, max_steps + 1)
    counts = range(1, max_steps + 1)
    optimum = np.array([[optimal_mean_squared_error(m, t) for t in counts] for m in measures])
    builders: dict[str, Builder] = {
        "second kind, from n/m alone": lambda _, t: chebyshev_steps(law, t, kind=2),
        "first kind, from the matrix's bounds": BUILDERS["Chebyshev"],
    }
    errors = by_period(mean_squared_error, builders, measures, counts)
    deviation = {
        name: rows[0]
        for name, rows in by_period(_deviation, builders, measures[:1], counts).items()
    }
    surplus = {name: np.median(rows / optimum, axis=0) for name, rows in errors.items()}
    predicted = np.array([marchenko_pastur_mean_squared_error(ratio, t) for t in counts])
    second, first = surplus
    published = (num_unknowns, num_rows, max_steps, matrix_seed) == (300, 600, 25, 12)
    return Outcome(
        title="Gaussian matrices: nearly optimal steps without the matrix",
        summary=(
            f"For the published {num_rows} × {num_unknowns} matrix second-kind steps, which know "
            f"the aspect ratio only, are within {deviation[second].max():.1%} of the optimal steps "
            f"up to T = {max_steps}; first-kind steps, which know the bounds, miss them by "
            f"{deviation[first].min():.0%} to {deviation[first].max():.0%}. The mean squared error "
            f"is more sensitive: at T = {max_steps} it is {surplus[second][-1]:.2f} and "
            f"{surplus[first][-1]:.2f} times the smallest, in the median of {num_matrices} "
            "matrices."
        ),
        sections=[
            Section(
                "The law of large matrices",
                (
                    Formula(r"\mathrm{MSE}_T=\frac{(1-r)\,r^T}{1-r^{T+1}},\quad r=\frac{n}{m}<1"),
                    "The eigenvalues of a large Gaussian matrix need not be computed, they are "
                    "known. So are the best steps for them, and the mean squared error these "
                    "leave; the optimum for a matrix at hand lies close by.",
                ),
                figure=Figure(
                    "errors",
                    "Smallest mean squared error of T steps",
                    "Mean squared errors falling exponentially with T: prediction, optimum of the "
                    "matrices and second-kind steps coincide; first-kind steps lie above.",
                    curves(
                        {
                            "optimum of each matrix": np.median(optimum, axis=0),
                            "predicted, (1−r)rᵀ/(1−rᵀ⁺¹)": predicted,
                            **{name: np.median(rows, axis=0) for name, rows in errors.items()},
                        },
                        depths,
                        style="both",
                        emphasis=(second,),
                    ),
                    Axis("number of steps T"),
                    Axis("mean squared error, relative to the start", log=True),
                ),
            ),
            Section(
                "Distance from the optimum",
                (f"Medians over {num_matrices} matrices.",),
                figure=Figure(
                    "surplus",
                    "Mean squared error over the optimum",
                    "Ratios to the optimum against T: second-kind steps stay near one, first-kind "
                    "steps are well above.",
                    curves(surplus, depths, style="both", emphasis=(second,)),
                    Axis("number of steps T"),
                    Axis("MSE / smallest possible MSE"),
                ),
                table=Table(
                    ("T", "optimum", "predicted", *(f"{name}: over optimum" for name in surplus)),
                    tuple(
                        (
                            str(t),
                            f"{np.median(optimum[:, t - 1]):.4g}",
                            f"{predicted[t - 1]:.4g}",
                            *(f"{row[t - 1]:.4f}" for row in surplus.values()),
                        )
                        for t in (1, 2, 5, 10, 15, 20, 25)
                        if t <= max_steps
                    ),
                ),
            ),
        ],
        checks=[
            Check.at_least(
                "smallest ratio of second-kind to optimal MSE",
                1,
                (errors[second] / optimum).min(),
                why="nothing beats the optimum",
            ),
            *(
                [
                    Check.at_most(
                        "largest deviation of a second-kind from an optimal step, T ≤ 25",
                        0.04,
                        deviation[second].max(),
                    ),
                    Check.close(
                        "largest deviation of a first-kind from an optimal step, T = 5",
                        0.72,
                        float(deviation[first][4]),
                        rtol=0.01,
                    ),
                    Check.close(
                        "largest deviation of a first-kind from an optimal step, T = 25",
                        0.11,
                        float(deviation[first][24]),
                        rtol=0.05,
                    ),
                    Check(
                        "MSE of second-kind steps over the optimum at T = 25, published matrix",
                        "1.43: 4 % holds for the steps, not for their error",
                        float((errors[second] / optimum)[0, 24]),
                        1.42,
                        1.44,
                    ),
                    Check.above(
                        "smallest ratio of first-kind to second-kind MSE, T from 5",
                        1.4,
                        (errors[first] / errors[second])[:, 4:].min(),
                    ),
                    Check.at_most(
                        "largest deviation of an optimum from the prediction, T ≤ 5",
                        0.25,
                        np.abs(optimum / predicted - 1)[:, :5].max(),
                        why="at this size",
                    ),
                ]
                if published
                else []
            ),
        ],
        records={"schedules/second-kind": chebyshev_steps(law, max_steps, kind=2)},
    )


def _deviation(schedule: Schedule, measure: SpectralMeasure) -> float:
    """Largest relative difference of a step from the optimal one of its rank."""
    best = optimal_steps(measure, schedule.period)
    return float(np.abs(np.sort(schedule.steps) / np.sort(best.steps) - 1).max())
