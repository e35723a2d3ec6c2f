"""Least squares over a box and over {−1, 1}: learned steps beside projected gradients and FISTA.

Chebyshev steps are there twice over the box: for the spectrum of AᵀA, which the box changes, and
for an interval that is tuned on other problems.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

import numpy as np

from stepfold.iterations import Fista, ProximalGradient
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS, tuned_chebyshev
from stepfold.lab.experiments._unfolded import MiniBatches, iterates, layers, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source
from stepfold.problems.penalties import Box
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps
from stepfold.spectrum import SpectralBounds

SLOPES = tuple(float(slope) for slope in np.geomspace(1, 8, 10))
"""Slopes before the projection that are tried for Chebyshev steps."""


@experiment(
    "box_least_squares",
    source=Source(OWN, "learned projected gradients over a box"),
    seconds=20,
    quick={"num_layers": 8, "num_iterations": 40, "spread": 3.0},
)
def box_least_squares(
    *,
    num_layers: Annotated[int, Between(2, 64)] = 25,
    num_iterations: MiniBatches = 100,
    spread: Annotated[float, Between(0.1, 100)] = 3.0,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Learned steps of projected gradients over a box, beside FISTA and Chebyshev steps.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches per stage.
        spread: Standard deviation of the data; 1 was published, where the box hardly matters.
        seed: Seed of the training data.
    """
    from stepfold.unfolded.networks.box import BoxLeastSquares, box

    task = box(num_layers=num_layers, spread=spread)
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    pool = BoxLeastSquares(spread=spread, num_problems=6000)
    sample = pool.problems(range(4000, 6000))  # training draws from the first 4000
    start = 0 * sample.target
    matrix = pool.matrix.numpy()
    eigenvalues = np.linalg.eigvalsh(matrix.T @ matrix)
    bounds = SpectralBounds(float(eigenvalues[0]), float(eigenvalues[-1]))
    short = [1 / bounds.upper] * num_layers
    projected: Any = ProximalGradient(Box(-1.0, 1.0))
    tuning = pool.problems(range(500))

    def cost(steps: Any, _: Any) -> float:
        point = iterates(projected, tuning.data, 0 * tuning.target, steps)[-1]
        return float(((point - tuning.target) ** 2).mean())

    best = tuned_chebyshev(cost, num_layers, largest=bounds.upper)
    points = {
        "learned steps": layers(task.network, sample),
        "step 1/λ_max": iterates(projected, sample.data, start, short),
        "step 2/(a + b)": iterates(
            projected, sample.data, start, constant_steps(bounds, num_layers)
        ),
        "Chebyshev steps": iterates(
            projected, sample.data, start, chebyshev_steps(bounds, num_layers)
        ),
        "Chebyshev steps, tuned": iterates(projected, sample.data, start, best.steps(num_layers)),
        "FISTA": iterates(Fista(Box(-1.0, 1.0)), sample.data, start, short),
    }
    rows = {
        name: np.array([float(((x - sample.target) ** 2).mean()) for x in seen])
        for name, seen in points.items()
    }
    final = {name: row[-1] for name, row in rows.items()}
    share = pool.share_at_bounds
    return Outcome(
        title="Least squares over a box",
        summary=(
            f"After {num_layers} layers the mean squared distance to the solution is "
            f"{final['learned steps']:.2g} with learned steps, {final['step 2/(a + b)']:.2g} with "
            f"the best constant step of the spectrum, {final['FISTA']:.2g} with FISTA and "
            f"{final['Chebyshev steps']:.2g} with Chebyshev steps of the spectrum, "
            f"{final['Chebyshev steps, tuned']:.2g} with those of a tuned interval. {share:.0%} of "
            "the solutions' entries are at an end of the box."
        ),
        sections=[
            Section(
                "Distance to the solution",
                (
                    "Minimise ‖Ax − y‖ with all entries of x between −1 and 1; A has 20 rows and "
                    "10 columns. Every iteration is a gradient step, clipped to the box. "
                    "Chebyshev steps are the best, in the worst case, for the problem without the "
                    "box. With it they have no guarantee: clipping comes between the factors "
                    "whose product they make small. Learned steps know the box.",
                    f"With data of standard deviation {spread:g}, {share:.1%} of the solutions' "
                    "entries are at an end of the box.",
                ),
                figure=Figure(
                    "distance_by_layer",
                    "Mean squared distance to the solution",
                    "Distance against layer for learned, constant and Chebyshev steps and FISTA.",
                    curves(rows, style="both", emphasis=("learned steps",)),
                    Axis("layer (iteration)"),
                    Axis("mean squared distance to the solution", log=True),
                ),
                table=Table(
                    ("method", f"after {num_layers}"),
                    tuple((name, f"{value:.3g}") for name, value in final.items()),
                ),
            ),
        ],
        checks=[
            Check.below(
                "distance with learned steps over that with step 1/λ_max",
                0.5,
                final["learned steps"] / final["step 1/λ_max"],
            ),
            Check.below(
                "distance with learned steps over that with Chebyshev steps of the spectrum",
                1,
                final["learned steps"] / final["Chebyshev steps"],
            ),
        ],
        records={
            "schedules/learned": run.schedule,
            "distances": rows,
        },
    )


@experiment(
    "binary_least_squares",
    source=Source(OWN, "learned projected gradients for signs"),
    seconds=60,
    quick={"num_layers": 8, "num_iterations": 20, "noise": 3.0},
)
def binary_least_squares(
    *,
    num_layers: Annotated[int, Between(2, 64)] = 30,
    num_iterations: MiniBatches = 40,
    noise: Annotated[float, Between(0, 100)] = 3.0,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Learned steps and slopes of projected gradients for signals of −1 and 1.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches per stage.
        noise: Standard deviation of the noise.
        seed: Seed of the training data.
    """
    import torch

    from stepfold.unfolded.networks.box import BinarySignals, binary
    from stepfold.unfolded.networks.mimo import bit_error_rate
    from stepfold.unfolded.networks.sparse_signals import lipschitz_constant

    task = binary(num_layers=num_layers, noise=noise)
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    signals = BinarySignals(noise=noise, batch_size=2000)
    sample = unseen(signals, 0)
    start = 0 * sample.target
    matrix = signals.matrix
    short = [1 / lipschitz_constant(matrix)] * num_layers
    tuning = unseen(BinarySignals(noise=noise, batch_size=500), 1)

    def cost(steps: Any, slope: float) -> float:
        points = _sloped(steps, slope, signals, tuning)
        return float(((points[-1] - tuning.target) ** 2).mean())

    best = tuned_chebyshev(cost, num_layers, priors=SLOPES, starts=RATIOS[1::5])
    gram = matrix.T @ matrix + noise**2 * torch.eye(matrix.shape[1])
    linear = torch.linalg.solve(gram, (sample.data.rhs @ matrix).T).T
    points = {
        "learned steps and slopes": layers(task.network, sample),
        "projected gradients, 1/λ_max": iterates(
            ProximalGradient(Box(-1.0, 1.0)), sample.data, start, short
        ),
        "projected gradients, Chebyshev steps": _sloped(
            best.steps(num_layers), best.prior, signals, sample
        ),
        "FISTA over the box": iterates(Fista(Box(-1.0, 1.0)), sample.data, start, short),
        "linear MMSE": [linear] * (num_layers + 1),
    }
    rows = {
        name: np.array([bit_error_rate(x, sample.target) for x in seen])
        for name, seen in points.items()
    }
    final = {name: row[-1] for name, row in rows.items()}
    errors = {
        name: float(((seen[-1] - sample.target) ** 2).mean()) for name, seen in points.items()
    }
    ours = final.pop("learned steps and slopes")
    return Outcome(
        title="Least squares over −1 and 1",
        summary=(
            f"After {num_layers} layers {ours:.2%} of the signs are wrong with learned steps and "
            f"slopes, {final['projected gradients, Chebyshev steps']:.2%} with Chebyshev steps "
            f"and one slope, {final['FISTA over the box']:.2%} with FISTA over the box and "
            f"{final['linear MMSE']:.2%} with the best linear estimate."
        ),
        sections=[
            Section(
                "Bit error rate",
                (
                    "100 signs are seen through 100 random products with noise of standard "
                    f"deviation {noise:g}. The box between −1 and 1 is the convex relaxation of "
                    "signs: FISTA solves it soon, and stops there. The trained layers multiply by "
                    "a slope before they clip, which presses entries to −1 and 1: no longer a "
                    "convex method, and a better one. Chebyshev steps with one slope do the same "
                    f"with five numbers, chosen on 500 other signals: slope {best.prior:.2g}, "
                    f"{best}, in units of λ_max.",
                ),
                figure=Figure(
                    "bit_error_rate",
                    "Share of wrong signs by layer",
                    "Bit error rate against layer: the trained network falls below the relaxation "
                    "and the linear estimate.",
                    curves(
                        {name: row[1:] for name, row in rows.items()},
                        np.arange(1, num_layers + 1),
                        style="both",
                        emphasis=("learned steps and slopes",),
                    ),
                    Axis("layer (iteration)"),
                    Axis("bit error rate", log=True),
                ),
                table=Table(
                    ("method", f"bit error rate after {num_layers}", "mean squared error"),
                    tuple((name, f"{rows[name][-1]:.3g}", f"{errors[name]:.3g}") for name in rows),
                ),
            ),
            Section(
                "What was learned",
                ("Steps, in units of 1/λ_max, and slopes.",),
                figure=Figure(
                    "learned_parameters",
                    "Learned steps and slopes",
                    "Steps zig-zag; slopes lie above 1.",
                    curves(
                        {
                            "step, units of 1/λ_max": run.schedule.steps,
                            "slope": task.network.learned()["slope"],
                        },
                        np.arange(1, num_layers + 1),
                        style="both",
                        roles=dict.fromkeys(("step, units of 1/λ_max", "slope"), "learned"),
                    ),
                    Axis("layer"),
                    Axis("value", log=True),
                ),
            ),
        ],
        checks=[
            Check.below(f"bit error rate over that of {name}", 0.8, ours / value)
            for name, value in final.items()
            if "Chebyshev" not in name
        ]
        + (
            [
                Check.below(
                    "bit error rate of Chebyshev steps with one slope over that of FISTA",
                    0.5,
                    final["projected gradients, Chebyshev steps"] / final["FISTA over the box"],
                )
            ]
            if num_layers >= 8 and noise == 3.0
            else []
        ),
        records={
            "schedules/learned": run.schedule,
            "bit_error_rates": rows,
        },
    )


def _sloped(steps: Any, slope: float, signals: Any, sample: Any) -> list[Any]:
    """Start and layers of projected gradients with known steps, in units of 1/λ_max."""
    from stepfold.unfolded import UnfoldedIteration
    from stepfold.unfolded.networks.box import sloped_layer
    from stepfold.unfolded.networks.sparse_signals import lipschitz_constant

    network = UnfoldedIteration(
        Schedule(steps),
        iteration=functools.partial(sloped_layer, 1 / lipschitz_constant(signals.matrix)),
        parameters={"slope": slope},
        dtype=sample.target.dtype,
    )
    return layers(network, sample)
