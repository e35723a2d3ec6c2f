"""Noisy data: steps that are too good for the noise, steps that know it, and learned ones.

With ``y = Hx + w`` every step that brings x nearer brings noise along where eigenvalues are small.
The mean squared error after T steps is ``∫ p² dμ + η ∫ (1 − p)²/λ dμ``, η the variance of the noise
over that of x. The best T steps for it are others than for clean data, and a ridge term of size η
in every gradient is better still. Training is put beside both.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves
from stepfold.lab.experiments._ensembles import spectra
from stepfold.lab.experiments._published import Seed, published_matrix
from stepfold.lab.experiments._trainings import EARLIER, THEORY
from stepfold.lab.experiments._unfolded import MiniBatches, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source
from stepfold.schedules import (
    Schedule,
    chebyshev_steps,
    constant_steps,
    noise_aware_ridge,
    noise_aware_steps,
    noisy_mean_squared_error,
    optimal_steps,
)

LEARNED, RIDGED = "learned steps (noise-aware DUGD)", "learned steps and ridge (DU-ridge)"
AWARE, FLOOR = "noise-aware steps", "noise-aware steps with ridge"
CLEAN = "optimal without noise"


@experiment(
    "noise",
    source=Source(OWN, "steps and a ridge term for noisy data"),
    seconds=30,
    quick={"num_layers": 4, "num_iterations": 150, "num_draws": 200},
)
def noise(
    *,
    num_layers: Annotated[int, Between(2, 20)] = 10,
    noise: Annotated[float, Between(1e-6, 10)] = 0.1,
    num_iterations: MiniBatches = 500,
    num_draws: Annotated[int, Between(10, 20_000)] = 1000,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Noisy data: learned steps, a learned ridge term, and the exact optima, by depth.

    Args:
        num_layers: The largest number of steps T.
        noise: η, variance of the noise over that of the unknowns.
        num_iterations: Mini-batches per stage; claims about the training are tested from 150 on.
        num_draws: Random problems for the comparison with the predicted error.
        seed: Seed of the data.
    """
    from stepfold.unfolded.networks.dugd import dugd
    from stepfold.unfolded.networks.ridge import du_ridge, ridge_error

    measure, depths = spectra()[0], range(1, num_layers + 1)
    aware = dugd(num_layers=num_layers, noise=noise)
    run = trained(aware, num_iterations=num_iterations, seed=seed, progress=progress)
    ridge = du_ridge(num_layers=num_layers, noise=noise)
    ridge_errors: list[float] = []
    ridge_terms: list[float] = []

    def note(depth: int) -> None:
        ridge_terms.append(float(ridge.network.learned()["ridge"][0]))
        steps = ridge.network.schedule(depth).steps
        ridge_errors.append(ridge_error(steps, ridge_terms[-1], measure, noise))

    trained(ridge, num_iterations=num_iterations, seed=seed, progress=progress, after=note)

    best = [noise_aware_ridge(measure, t, noise=noise) for t in depths]
    steps: dict[str, list[Schedule]] = {
        LEARNED: [run.schedule_after(t) for t in depths],
        AWARE: [noise_aware_steps(measure, t, noise=noise) for t in depths],
        CLEAN: [optimal_steps(measure, t) for t in depths],
        "Chebyshev": [chebyshev_steps(measure.bounds, t) for t in depths],
        "constant": [constant_steps(measure.bounds, t) for t in depths],
    }
    rows = {
        name: np.array([noisy_mean_squared_error(s, measure, noise=noise) for s in row])
        for name, row in steps.items()
    } | {
        RIDGED: np.array(ridge_errors),
        FLOOR: np.array([ridge_error(b.schedule.steps, b.ridge, measure, noise) for b in best]),
    }
    # The posterior mean, x̂ = (HᵀH + η)⁻¹Hᵀy, is best of all estimates that are linear in y.
    wiener = measure.mean(noise / (measure.nodes + noise))
    end = {name: float(row[-1]) for name, row in rows.items()}
    drawn = _drawn(steps[AWARE][-1], noise, num_draws, seed) / end[AWARE]
    return Outcome(
        title="Noisy data: steps that know the noise",
        summary=(
            f"With noise of {noise:g} times the signal's variance and {num_layers} layers the "
            f"mean squared error is {end[LEARNED]:.5f} with learned steps, {end[AWARE]:.5f} with "
            f"the best steps found, {end[RIDGED]:.5f} with a learned ridge term as well; no "
            f"{num_layers} gradients get below {end[FLOOR]:.5f}. Steps that are optimal without "
            f"noise end at {end[CLEAN]:.5f}. The ridge term that training found is "
            f"{ridge_terms[-1]:.4f}; the best one is the noise's, {noise:g}."
        ),
        sections=[
            Section(
                "Mean squared error by number of steps",
                (
                    Formula(r"\mathrm{MSE}=\int p^2\,d\mu+\eta\int\frac{(1-p)^2}{\lambda}\,d\mu"),
                    "More steps bring the estimate nearer to the least-squares solution, which is "
                    "not the truth: it fits the noise along small eigenvalues. The error of steps "
                    "that do not know the noise stays above, or rises. Steps made for the noise "
                    "stop where it pays. A ridge term in every layer is better: the best one is "
                    "the variance of the noise over that of x, and then the best steps are known.",
                ),
                figure=Figure(
                    "errors",
                    f"Mean squared error with noise η = {noise:g}",
                    "Mean squared error against T. Steps made for clean data turn upwards; learned "
                    "and noise-aware ones flatten out at the best linear estimate's error.",
                    curves(rows, np.array(depths), style="both", emphasis=(LEARNED, RIDGED)),
                    Axis("number of steps T"),
                    Axis("mean squared error, relative to the start", log=True),
                    (Level("best linear estimate (Wiener filter)", wiener),),
                ),
                table=Table(
                    ("T", *rows),
                    tuple(
                        (str(t), *(f"{row[t - 1]:.5f}" for row in rows.values())) for t in depths
                    ),
                ),
            ),
            Section(
                "The ridge term",
                ("What training makes of it, stage by stage; it starts at 0.01.",),
                figure=Figure(
                    "ridge_by_stage",
                    "Learned ridge term",
                    "Ridge term against stage: it nears the variance of the noise.",
                    curves({"learned": ridge_terms}, np.array(depths), style="both"),
                    Axis("stage"),
                    Axis("ridge term ξ"),
                    (Level("variance of the noise", noise),),
                ),
            ),
        ],
        checks=[
            *_checks(rows, wiener, drawn, num_draws),
            *(_training_checks(rows) if num_iterations >= 150 else []),
        ],
        records={
            "schedules/learned": run.schedule,
            "schedules/learned_ridge": ridge.network.schedule(),
            "schedules/noise-aware": steps[AWARE][-1],
            "errors": rows,
        },
    )


def _checks(
    rows: dict[str, FloatArray], wiener: float, drawn: float, num_draws: int
) -> list[Check]:
    def ratio(name: str, other: str) -> FloatArray:
        found: FloatArray = rows[name] / rows[other]
        return found

    least = min(ratio(name, FLOOR).min() for name in rows)
    most = max(ratio(AWARE, name).max() for name in rows if name not in (RIDGED, FLOOR))
    successive = (rows[AWARE][1:] / rows[AWARE][:-1]).max()
    tolerance = 5 / np.sqrt(100 * num_draws)
    above_wiener = rows[FLOOR].min() / wiener
    return [
        Check.at_least("smallest ratio of any error to the optimum with ridge", 1, least, THEORY),
        Check.at_least("optimum with ridge over the best linear estimate", 1, above_wiener, THEORY),
        Check.at_most(
            "largest ratio of noise-aware to any other MSE without ridge",
            1.001,
            most,
            THEORY,
            "nothing is better, up to the search",
        ),
        Check.at_most(
            "largest ratio of successive noise-aware MSEs",
            1.001,
            successive,
            THEORY,
            "more steps do not hurt, up to the search",
        ),
        Check(
            f"MSE over {num_draws} random problems over the predicted one",
            "1 within 5 standard errors",
            drawn,
            1 - tolerance,
            1 + tolerance,
            THEORY,
        ),
    ]


def _training_checks(rows: dict[str, FloatArray]) -> list[Check]:
    end = {name: row[-1] for name, row in rows.items()}
    ratios = {name: end[name] / end[FLOOR] for name in (LEARNED, RIDGED)}
    claim = "MSE of learned steps over that of steps optimal without noise"
    return [
        *(
            Check.at_most(f"MSE of {name} over the optimum with ridge", 1.1, ratio, EARLIER)
            for name, ratio in ratios.items()
        ),
        Check.at_most(claim, 1, end[LEARNED] / end[CLEAN], THEORY),
    ]


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
