"""Mean squared error and spectral radius during training, mini-batch by mini-batch.

The loss is a mean over eigenvalues of p², the radius ρ the largest |p|: ``MSE ≤ ρ² ≤ n·MSE``, so
what lowers one lowers the other in the long run. Takabe and Wadayama, Theoretical Interpretation
of Learned Step Size in Deep-Unfolded Gradient Descent (arXiv:2001.05142), argue by this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._published import NUM_ITERATIONS, Seed, published_measure, train
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section
from stepfold.lab.parameters import Between
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import mean_squared_error, spectral_radius

if TYPE_CHECKING:
    from torch import Tensor

    from stepfold.unfolded import SpectralLoss, UnfoldedIteration

EVERY = 10


@experiment("training_radius", seconds=4, quick={"period": 4, "num_iterations": 200})
def training_radius(
    *,
    period: Annotated[int, Between(2, 25)] = 11,
    num_iterations: Annotated[int, Between(20, 100_000)] = NUM_ITERATIONS,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """The spectral radius falls with the mean squared error, all through the training.

    Args:
        period: T, the number of layers.
        num_iterations: Mini-batches per stage.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded import SpectralLoss

    measure = published_measure()
    watched = _Watched(SpectralLoss(measure))
    run = train(watched, period, num_iterations=num_iterations, seed=seed, progress=progress)
    batches = EVERY * np.arange(len(watched.seen))
    errors = np.array([mean_squared_error(steps, measure) for steps in watched.seen])
    squares = np.array([spectral_radius(steps, measure.nodes) for steps in watched.seen]) ** 2
    stages = np.array([steps.size for steps in watched.seen])
    falls = {"mean squared error": errors, "spectral radius": squares}
    ratios = {
        name: [
            float(values[stages == g][-1] / values[stages == g][0]) for g in range(1, period + 1)
        ]
        for name, values in falls.items()
    }
    correlation = float(np.corrcoef(np.log(errors), np.log(squares))[0, 1])
    num_unknowns = measure.nodes.size
    return Outcome(
        title="The spectral radius falls with the mean squared error",
        summary=(
            f"Over {batches[-1] + EVERY} mini-batches of {period} stages the mean squared "
            f"error falls to {errors[-1]:.2e} and the squared spectral radius to "
            f"{squares[-1]:.2e}; their logarithms correlate at {correlation:.4f}."
        ),
        sections=[
            Section(
                "Both fall together",
                (
                    Formula(r"\mathrm{MSE}\le\rho^2\le n\,\mathrm{MSE}"),
                    "Training sees random mini-batches and minimises their mean squared error. "
                    "Here the exact mean squared error of the trained layers is computed every "
                    f"{EVERY} mini-batches, and the spectral radius, which training never sees. "
                    "Each stair is a stage, which begins when a layer is added.",
                ),
                figure=Figure(
                    "training",
                    "Mean squared error and spectral radius during training",
                    "Both curves fall in stairs, one for each new layer, the radius between the "
                    "mean squared error and n times it all the way.",
                    curves(
                        {
                            "spectral radius ρ, squared": squares,
                            "mean squared error": errors,
                            "n · mean squared error": num_unknowns * errors,
                        },
                        batches,
                        emphasis=("spectral radius ρ, squared",),
                    ),
                    Axis("mini-batch"),
                    Axis("value", log=True),
                ),
            )
        ],
        checks=[
            Check(
                "largest MSE/ρ² over the training",
                "at most 1",
                float((errors / squares).max()),
                0,
                1 + 1e-9,
            ),
            Check(
                "largest ρ²/(n·MSE) over the training",
                "at most 1",
                float((squares / (num_unknowns * errors)).max()),
                0,
                1 + 1e-9,
            ),
            Check(
                "correlation of log MSE and log ρ² over the training",
                "above 0.95",
                correlation,
                lower=0.95,
            ),
            Check(
                f"of {period} stages, those whose radius fell from start to end",
                f"{period}: all",
                sum(ratio < 1 for ratio in ratios["spectral radius"]),
                lower=period,
            ),
            Check(
                f"of {period} stages, those whose MSE fell from start to end",
                f"{period}: all",
                sum(ratio < 1 for ratio in ratios["mean squared error"]),
                lower=period,
            ),
        ],
        records={"schedules/learned": run.schedule.to_dict()},
    )


class _Watched:
    """The loss, and the trained layers' steps at every tenth call."""

    def __init__(self, loss: SpectralLoss) -> None:
        self._loss = loss
        self._num_calls = 0
        self.seen: list[FloatArray] = []

    @property
    def measure(self) -> SpectralMeasure | None:
        """The loss's."""
        return self._loss.measure

    def __call__(
        self, network: UnfoldedIteration, num_layers: int, rng: np.random.Generator
    ) -> Tensor:
        """The loss's value."""
        if self._num_calls % EVERY == 0:
            self.seen.append(network.steps[:num_layers].detach().double().numpy().copy())
        self._num_calls += 1
        return self._loss(network, num_layers, rng)
