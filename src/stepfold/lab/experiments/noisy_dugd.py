"""Noisy data: learned steps, and a learned ridge term, beside the exact optimum."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._unfolded import MiniBatches, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.schedules import (
    Schedule,
    chebyshev_steps,
    noise_aware_ridge,
    noise_aware_steps,
    noisy_mean_squared_error,
    optimal_steps,
)


@experiment("noisy_dugd", seconds=30, quick={"num_layers": 4, "num_iterations": 150})
def noisy_dugd(
    *,
    num_layers: Annotated[int, Between(1, 32)] = 10,
    noise: Annotated[float, Between(1e-6, 100)] = 0.1,
    num_iterations: MiniBatches = 500,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Noise-aware DUGD and DU-ridge against the noise-aware optimum, by depth.

    Args:
        num_layers: T, the number of layers.
        noise: Variance of the data's noise over that of the unknowns.
        num_iterations: Mini-batches per stage.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded.losses import measure_of
    from stepfold.unfolded.networks.dugd import dugd
    from stepfold.unfolded.networks.ridge import du_ridge, ridge_error

    depths = [int(depth) for depth in np.arange(1, num_layers + 1)]
    aware = dugd(num_layers=num_layers, noise=noise)
    measure = measure_of(aware.loss)
    assert measure is not None, "the loss of `dugd` knows its measure"  # noqa: S101
    bounds = measure.bounds
    run = trained(aware, num_iterations=num_iterations, seed=seed, progress=progress)
    ridge = du_ridge(num_layers=num_layers, noise=noise)
    ridge_errors: list[float] = []
    ridge_terms: list[float] = []

    def note(depth: int) -> None:
        ridge_terms.append(float(ridge.network.learned()["ridge"][0]))
        steps = ridge.network.schedule(depth).steps
        ridge_errors.append(ridge_error(steps, ridge_terms[-1], measure, noise))

    trained(ridge, num_iterations=num_iterations, seed=seed, progress=progress, after=note)

    def error(schedule: Schedule) -> float:
        return noisy_mean_squared_error(schedule, measure, noise=noise)

    best = [noise_aware_ridge(measure, depth, noise=noise) for depth in depths]
    rows = {
        "learned steps (noise-aware DUGD)": [error(run.schedule_after(t)) for t in depths],
        "learned steps and ridge (DU-ridge)": ridge_errors,
        "best found positive steps": [
            error(noise_aware_steps(measure, t, noise=noise)) for t in depths
        ],
        "best steps with ridge": [
            ridge_error(entry.schedule.steps, entry.ridge, measure, noise) for entry in best
        ],
        "optimal without noise": [error(optimal_steps(measure, t)) for t in depths],
        "Chebyshev": [error(chebyshev_steps(bounds, t)) for t in depths],
    }
    wiener = noise * measure.mean(1 / (measure.nodes + noise))
    end = {name: values[-1] for name, values in rows.items()}
    ours, ridged = (end[name] for name in list(rows)[:2])
    floor = end["best steps with ridge"]
    return Outcome(
        title="Noisy data: learned steps, a learned ridge term, and the optimum",
        summary=(
            f"With noise of {noise:g} times the signal's variance and {num_layers} layers the "
            f"mean squared error is {ours:.5f} with learned steps, {ridged:.5f} with a learned "
            f"ridge term as well; no {num_layers} gradients get below {floor:.5f}. Steps that are "
            f"optimal without noise end at {end['optimal without noise']:.5f}. The ridge term "
            f"that training found is {ridge_terms[-1]:.4f}; the best one is the noise's, "
            f"{noise:g}."
        ),
        sections=[
            Section(
                "Error by depth",
                (
                    "y = Hx + w with the matrix of the noiseless experiment; the network is to "
                    "return x. Steps that solve the least-squares problem well also fit the noise "
                    "along small eigenvalues, so more of them harm. Noise-aware training stops "
                    "short of that; a ridge term in every layer is the better way to do it. "
                    "The best ridge term is the variance of the noise over that of x, and then "
                    "the best steps are known, too: training has an exact target.",
                ),
                figure=Figure(
                    "error_by_depth",
                    "Mean squared error with noisy data, by depth",
                    "Error against depth: steps made for clean data turn upwards; learned ones "
                    "and the noise-aware optima flatten out at the Wiener filter's error.",
                    curves(rows, np.array(depths), style="both", emphasis=tuple(list(rows)[:2])),
                    Axis("layers T"),
                    Axis("relative mean squared error", log=True),
                    (Level("Wiener filter, all of H known", wiener),),
                ),
                table=Table(
                    ("method", f"mean squared error at T = {num_layers}"),
                    tuple((name, f"{value:.6f}") for name, value in end.items()),
                ),
            ),
            Section(
                "The ridge term",
                ("What training makes of it, stage by stage; it starts at 0.01.",),
                figure=Figure(
                    "ridge_by_stage",
                    "Learned ridge term",
                    "Ridge term against stage: it nears the variance of the noise.",
                    (
                        Curve(
                            "learned",
                            np.array(depths),
                            np.array(ridge_terms),
                            style="both",
                            emphasis=True,
                        ),
                    ),
                    Axis("stage"),
                    Axis("ridge term ξ"),
                    (Level("variance of the noise", noise),),
                ),
            ),
        ],
        checks=[
            Check(
                "smallest ratio of any error to the optimum with ridge",
                "at least 1",
                float(
                    min(
                        np.min(np.array(values) / rows["best steps with ridge"])
                        for values in rows.values()
                    )
                ),
                lower=1 - 1e-9,
            ),
            Check(
                "error of noise-aware DUGD over the optimum at the end",
                "below 1.1",
                ours / floor,
                1 - 1e-9,
                1.1,
            ),
            Check(
                "error of DU-ridge over the optimum at the end",
                "below 1.1",
                ridged / floor,
                1 - 1e-9,
                1.1,
            ),
            Check(
                "error of noise-aware DUGD over that of steps optimal without noise",
                "below 1",
                ours / end["optimal without noise"],
                0,
                1,
            ),
        ],
        records={
            "schedules/learned": run.schedule.to_dict(),
            "schedules/learned_ridge": ridge.network.schedule().to_dict(),
            "errors": rows,
        },
    )
