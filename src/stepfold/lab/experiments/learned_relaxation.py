"""Learned relaxation of linear fixed points beside Chebyshev's: Jacobi, and consensus."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.iterations import Relaxation
from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._unfolded import iterates, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error, mean_squared_errors, spectral_radius
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps, optimal_steps
from stepfold.spectrum import SpectralBounds

PERIODS = (1, 2, 8)


@experiment("learned_sor", seconds=20, quick={"num_layers": 8, "num_iterations": 20})
def learned_sor(
    *,
    num_layers: Annotated[int, Between(8, 64)] = 16,
    num_iterations: Annotated[int, Between(1, 100_000)] = 50,
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0,
    progress: bool = False,
) -> Outcome:
    """Learned periodic relaxation of Jacobi's iteration beside Chebyshev's, T = 1, 2, 8.

    Args:
        num_layers: Iterations in training.
        num_iterations: Mini-batches per generation.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded.networks.relaxation import JacobiSystems
    from stepfold.unfolded.networks.relaxation import learned_sor as build

    systems = JacobiSystems(batch_size=1000)
    sample = systems(np.random.default_rng([2**32, 0]))
    eigenvalues = systems.eigenvalues
    bounds = SpectralBounds(float(eigenvalues[0]), float(eigenvalues[-1]))
    scale = float((sample.target**2).mean())
    errors: dict[str, FloatArray] = {}
    learned: dict[int, Schedule] = {}
    for period in PERIODS:
        task = build(num_factors=period, num_layers=num_layers)
        trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
        learned[period] = task.network.schedule(period)
        for name, schedule in (
            ("learned", learned[period]),
            ("Chebyshev", chebyshev_steps(bounds, period)),
        ):
            factors = np.resize(schedule.steps, num_layers)
            points = iterates(Relaxation(), sample.data, 0 * sample.target, factors)
            errors[f"{name}, T = {period}"] = np.array(
                [float(((x - sample.target) ** 2).mean()) / scale for x in points]
            )
    plain = iterates(Relaxation(), sample.data, 0 * sample.target, np.ones(num_layers))
    errors["Jacobi"] = np.array([float(((x - sample.target) ** 2).mean()) / scale for x in plain])
    rates = {
        period: tuple(
            spectral_radius(schedule, eigenvalues) ** (1 / period)
            for schedule in (learned[period], chebyshev_steps(bounds, period))
        )
        for period in PERIODS
    }
    last = errors["learned, T = 8"][-1]
    most = 0.01 if num_layers >= 16 else 0.05
    return Outcome(
        name="learned_sor",
        title="Learned relaxation of Jacobi's iteration",
        summary=(
            f"After {num_layers} iterations the relative squared error is {last:.2g} with eight "
            f"learned factors, {errors['Chebyshev, T = 8'][-1]:.2g} with Chebyshev's eight, and "
            f"{errors['Jacobi'][-1]:.2g} without relaxation. The rate that Chebyshev's promise, "
            f"{rates[8][1]:.3f} an iteration, is the best possible for the interval; the learned "
            f"ones have {rates[8][0]:.3f}."
        ),
        sections=[
            Section(
                "Error",
                (
                    "Systems with one random matrix, P = 0.15 I + MᵀM of size 32, and random "
                    "right-hand sides. The factors are used in turn; the training lowers the mean "
                    f"squared error after up to {num_layers} iterations. Learned factors serve the "
                    "mean over the eigenvalues at that depth, Chebyshev's the worst case, which "
                    "is what further iterations come down to.",
                ),
                figure=Figure(
                    "error_by_iteration",
                    "Relative squared error of Jacobi's iteration with relaxation",
                    "Error against iteration: Chebyshev's and learned factors of equal period "
                    "stay close together, and longer periods are faster.",
                    curves(errors, emphasis=[name for name in errors if "learned" in name]),
                    Axis("iteration"),
                    Axis("relative mean squared error", log=True),
                ),
                table=Table(
                    ("T", "learned factors", "rate, learned", "rate, Chebyshev"),
                    tuple(
                        (
                            str(period),
                            " ".join(f"{w:.3f}" for w in np.sort(learned[period].steps)),
                            f"{rates[period][0]:.4f}",
                            f"{rates[period][1]:.4f}",
                        )
                        for period in PERIODS
                    ),
                ),
            ),
        ],
        checks=[
            *(
                Check(
                    f"error with {period} learned factor{'s' * (period > 1)} over that of Jacobi",
                    f"below {most:g}",
                    errors[f"learned, T = {period}"][-1] / errors["Jacobi"][-1],
                    0,
                    most,
                )
                for period in PERIODS
            ),
            Check(
                "smallest ratio of learned to Chebyshev's rate",
                "at least 1: no period is better in the worst case over the interval, "
                "over the eigenvalues hardly",
                min(ours / theirs for ours, theirs in rates.values()),
                lower=0.97,
            ),
        ],
        parameters={"num_layers": num_layers, "num_iterations": num_iterations, "seed": seed},
        records={
            **{f"schedules/learned_{period}": learned[period].to_dict() for period in PERIODS},
            "errors": {name: row.tolist() for name, row in errors.items()},
        },
    )


@experiment("consensus", seconds=20, quick={"num_layers": 6, "num_iterations": 100})
def consensus(
    *,
    num_layers: Annotated[int, Between(2, 64)] = 16,
    num_iterations: Annotated[int, Between(1, 100_000)] = 500,
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0,
    progress: bool = False,
) -> Outcome:
    """Learned steps of consensus on the karate club beside Chebyshev's and the optimum.

    Args:
        num_layers: T, rounds of talking to all neighbours.
        num_iterations: Mini-batches per generation.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded.networks.relaxation import consensus as build
    from stepfold.unfolded.networks.relaxation import karate_club_laplacian

    eigenvalues = np.linalg.eigvalsh(karate_club_laplacian())[1:]
    measure = SpectralMeasure.from_eigenvalues(eigenvalues)
    bounds = measure.bounds
    task = build(num_layers=num_layers)
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    depths = np.arange(1, num_layers + 1)
    rows = {
        "learned": np.array(
            [mean_squared_error(run.schedule_after(int(t)), measure) for t in depths]
        ),
        "Chebyshev": np.array(
            [mean_squared_error(chebyshev_steps(bounds, int(t)), measure) for t in depths]
        ),
        "constant, 2/(a + b)": np.array(
            [mean_squared_error(constant_steps(bounds, int(t)), measure) for t in depths]
        ),
        "optimal": np.array(
            [mean_squared_error(optimal_steps(measure, int(t)), measure) for t in depths]
        ),
    }
    ahead = int((rows["learned"] < rows["Chebyshev"]).sum())
    early = min(num_layers, 6) - 1
    return Outcome(
        name="consensus",
        title="Consensus on the karate club",
        summary=(
            f"With {num_layers} rounds the mean squared distance from consensus is "
            f"{rows['learned'][-1]:.2g} with learned steps, {rows['Chebyshev'][-1]:.2g} with "
            f"Chebyshev steps, {rows['constant, 2/(a + b)'][-1]:.2g} with the best constant step "
            f"and {rows['optimal'][-1]:.2g} with the optimum. Learned steps are ahead of "
            f"Chebyshev's at {ahead} of the {num_layers} depths."
        ),
        sections=[
            Section(
                "Distance from consensus by depth",
                (
                    "Each of 34 members holds a number and moves it, in every round, towards those "
                    "of its friends: x ← x − ηL x, L the Laplacian of the graph. What does not "
                    "agree yet decays along the eigenvectors of L with eigenvalues above 0, here "
                    f"from {bounds.lower:.3f} to {bounds.upper:.2f}.",
                    "Each depth has steps of its own: the learned ones are those at the end of the "
                    "generation. The mean favours learned over Chebyshev steps as long as training "
                    "keeps up with the optimum, for the eigenvalues are few and crowd at the lower "
                    "end; later Chebyshev steps, which nobody trained, are better.",
                ),
                figure=Figure(
                    "distance_by_depth",
                    "Mean squared distance from consensus after T rounds",
                    "Distance against T: optimal lowest, learned close to it at first and then "
                    "above Chebyshev, constant highest.",
                    curves(rows, depths, style="both", emphasis=("learned",)),
                    Axis("rounds T"),
                    Axis("mean squared distance from consensus", log=True),
                ),
                table=Table(
                    ("T", *rows),
                    tuple(
                        (str(t), *(f"{row[t - 1]:.3g}" for row in rows.values()))
                        for t in sorted({2, 4, early + 1, num_layers})
                        if t <= num_layers
                    ),
                ),
            ),
            Section(
                "On the way",
                (
                    "The distance after each round of the deepest network: as with gradient "
                    "descent, long steps make it grow first.",
                ),
                figure=Figure(
                    "distance_by_round",
                    "Mean squared distance from consensus after each round",
                    "Distance against round, for learned and Chebyshev steps.",
                    tuple(
                        Curve(
                            name,
                            np.arange(num_layers + 1),
                            mean_squared_errors(schedule, measure),
                            style="both",
                            emphasis=name == "learned",
                        )
                        for name, schedule in (
                            ("learned", run.schedule),
                            ("Chebyshev", chebyshev_steps(bounds, num_layers)),
                        )
                    ),
                    Axis("round"),
                    Axis("mean squared distance from consensus", log=True),
                ),
            ),
        ],
        checks=[
            Check(
                f"distance of learned over Chebyshev steps at T = {early + 1}",
                "below 1",
                float(rows["learned"][early] / rows["Chebyshev"][early]),
                0,
                1,
            ),
            Check(
                "distance of learned over constant steps at the end",
                "below 0.5",
                float(rows["learned"][-1] / rows["constant, 2/(a + b)"][-1]),
                0,
                0.5,
            ),
            Check(
                "smallest ratio of learned steps to the optimum",
                "at least 1",
                float((rows["learned"] / rows["optimal"]).min()),
                lower=1 - 1e-9,
            ),
        ],
        parameters={"num_layers": num_layers, "num_iterations": num_iterations, "seed": seed},
        records={
            "schedules/learned": run.schedule.to_dict(),
            "distances": {name: row.tolist() for name, row in rows.items()},
        },
    )
