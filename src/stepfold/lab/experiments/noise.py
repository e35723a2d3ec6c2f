"""Noisy data: steps that are too good for the noise, and steps that know it.

With ``y = Hx + w`` every step that brings x nearer brings noise along where eigenvalues are small.
The mean squared error after T steps is ``∫ p² dμ + η ∫ (1 − p)²/λ dμ``, η the variance of the noise
over that of x, and the best T steps for it are others than for clean data.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._published import Seed, published_matrix, published_measure
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.schedules import (
    Schedule,
    chebyshev_steps,
    constant_steps,
    noise_aware_steps,
    noisy_mean_squared_error,
    optimal_steps,
)


@experiment("noise", seconds=10, quick={"max_steps": 5, "num_draws": 200})
def noise(
    *,
    noise: Annotated[float, Between(1e-8, 10)] = 0.1,
    max_steps: Annotated[int, Between(2, 20)] = 12,
    num_draws: Annotated[int, Between(10, 20_000)] = 1000,
    seed: Seed = 0,
) -> Outcome:
    """Noisy data: steps that know the noise beside those that do not, predicted and drawn.

    Args:
        noise: η, variance of the noise over that of the unknowns.
        max_steps: The largest number of steps T.
        num_draws: Random problems for the comparison with the prediction.
        seed: Seed of these.
    """
    measure = published_measure()
    counts = range(1, max_steps + 1)
    rows: dict[str, list[Schedule]] = {
        "noise-aware": [noise_aware_steps(measure, t, noise=noise) for t in counts],
        "optimal without noise": [optimal_steps(measure, t) for t in counts],
        "Chebyshev": [chebyshev_steps(measure.bounds, t) for t in counts],
        "constant": [constant_steps(measure.bounds, t) for t in counts],
    }
    errors = {
        name: np.array([noisy_mean_squared_error(s, measure, noise=noise) for s in row])
        for name, row in rows.items()
    }
    # The posterior mean, x̂ = (HᵀH + η)⁻¹Hᵀy, is best of all estimates that are linear in y.
    floor = measure.mean(noise / (measure.nodes + noise))
    aware, clean = errors["noise-aware"], errors["optimal without noise"]
    drawn = _drawn(rows["noise-aware"][-1], noise, num_draws, seed)
    return Outcome(
        title="Steps that know the noise",
        summary=(
            f"With noise of variance {noise:g} no linear estimate gets below a mean squared error "
            f"of {floor:.4f}; {max_steps} noise-aware steps reach {aware[-1]:.4f}, the optimal "
            f"steps of clean data {clean[-1]:.4f}, Chebyshev steps {errors['Chebyshev'][-1]:.4f}."
        ),
        sections=[
            Section(
                "Mean squared error by number of steps",
                (
                    Formula(r"\mathrm{MSE}=\int p^2\,d\mu+\eta\int\frac{(1-p)^2}{\lambda}\,d\mu"),
                    "More steps bring the estimate nearer to the least-squares solution, which is "
                    "not the truth: the error of steps that do not know the noise comes down and "
                    "then stays above, or rises. Steps made for the noise stop where it pays.",
                ),
                figure=Figure(
                    "errors",
                    f"Mean squared error with noise η = {noise:g}",
                    "Mean squared error against T. Noise-aware steps fall to the floor and stay "
                    "there; the others level off or rise above it.",
                    curves(errors, np.array(counts), style="both", emphasis=("noise-aware",)),
                    Axis("number of steps T"),
                    Axis("mean squared error, relative to the start", log=True),
                    levels=(Level("best linear estimate", floor),),
                ),
                table=Table(
                    ("T", *rows),
                    tuple(
                        (str(t), *(f"{errors[name][t - 1]:.5f}" for name in rows)) for t in counts
                    ),
                ),
            )
        ],
        checks=[
            Check(
                "largest ratio of noise-aware to any other MSE",
                "at most 1",
                float(max((aware / row).max() for row in errors.values())),
                0,
                1 + 1e-6,
            ),
            Check(
                "smallest noise-aware MSE over that of the best linear estimate",
                "at least 1",
                float(aware.min()) / floor,
                lower=1 - 1e-9,
            ),
            Check(
                "largest ratio of successive noise-aware MSEs",
                "at most 1.001: more steps do not hurt, up to the search",
                float((aware[1:] / aware[:-1]).max()),
                0,
                1.001,
            ),
            Check(
                f"MSE over {num_draws} random problems over the predicted one",
                "1 within 5 standard errors",
                drawn / float(aware[-1]),
                1 - 5 / np.sqrt(100 * num_draws),
                1 + 5 / np.sqrt(100 * num_draws),
            ),
        ],
        records={"schedules/noise-aware": rows["noise-aware"][-1].to_dict()},
    )


def _drawn(schedule: Schedule, noise: float, num_draws: int, seed: int) -> float:
    """Mean squared error of the steps on drawn problems: iterated, nothing of theory."""
    rng = np.random.default_rng(seed)
    matrix = published_matrix()
    num_rows, num_unknowns = matrix.shape
    truth: FloatArray = rng.standard_normal((num_draws, num_unknowns))
    data = truth @ matrix.T + noise**0.5 * rng.standard_normal((num_draws, num_rows))
    x = np.zeros_like(truth)
    for gamma in schedule.steps:
        x = x + gamma * (data - x @ matrix.T) @ matrix
    return float(((x - truth) ** 2).mean())
