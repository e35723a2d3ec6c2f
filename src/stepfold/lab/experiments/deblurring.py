"""Photographs deblurred by FISTA with learned steps, momentum and thresholds, beside plain FISTA.

The rivals have one weight, tuned for the last iteration on training photographs: ISTA and FISTA
with the network's own prior, and FISTA with total variation. ISTA with Chebyshev steps has its
interval, period and order tuned as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np

from stepfold.iterations import Fista, Iteration, ProximalGradient
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS, tuned_chebyshev
from stepfold.lab.experiments._unfolded import (
    MiniBatches,
    iterates,
    layers,
    total_variation,
    trained,
    unseen,
)
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.sources import OWN, Source
from stepfold.problems.penalties import Penalty

WEIGHTS = tuple(float(weight) for weight in np.geomspace(2e-5, 0.2, 17))
TITLES = ("cameraman", "coffee", "moon")
LEARNED = "learned"
ISTA, FISTA, VARIATION = "ISTA", "FISTA", "FISTA, total variation"
CHEBYSHEV = "ISTA, Chebyshev steps"
INNER = 50
"""Iterations within a proximal operator of the total variation."""
CUT = slice(24, 104), slice(72, 152)
"""Rows and columns of the cameraman that are shown large."""


@experiment(
    "deblurring",
    source=Source(OWN, "learned FISTA for photographs"),
    seconds=60,
    quick={"num_layers": 4, "num_iterations": 25},
)
def deblurring(
    *,
    num_layers: Annotated[int, Between(1, 32)] = 10,
    num_iterations: MiniBatches = 400,
    noise: Annotated[float, Between(1e-4, 0.2)] = 0.004,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Real photographs deblurred by FISTA with learned steps, momentum and thresholds.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches.
        noise: Standard deviation of the noise; values are from 0 to 1.
        seed: Seed of the training data.
    """
    from stepfold.unfolded.networks import deblurring as network
    from stepfold.unfolded.networks.blur import BlurredPatches, held_out
    from stepfold.unfolded.networks.photographs import TRAINING, photographs

    task = network.deblurring(num_layers=num_layers, noise=noise)
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    sample = held_out(noise=noise)
    tuning = unseen(BlurredPatches(photographs(TRAINING), side=96, noise=noise, batch_size=6), 0)
    methods: dict[str, Callable[[float], Iteration[Any, Any]]] = {
        VARIATION: lambda weight: plain_fista(_PictureVariation(weight)),
        FISTA: lambda weight: plain_fista(network.WindowCosines(weight)),
        ISTA: lambda weight: ProximalGradient(network.WindowCosines(weight)),
    }
    points = {LEARNED: layers(task.network, sample)}
    weights: dict[str, float] = {}
    for name, method in methods.items():

        def restored(batch: Any, weight: float, method: Any = method) -> list[Any]:
            # A blur keeps means: its largest eigenvalue is 1, and so is the step.
            return iterates(method(weight), batch.data, batch.start, [1.0] * num_layers)

        def loss(weight: float, restored: Any = restored) -> float:
            return -network.peak_signal_to_noise_ratio(restored(tuning, weight)[-1], tuning.target)

        weights[name] = min(WEIGHTS, key=loss)
        points[name] = restored(sample, weights[name])
    projected = methods[ISTA]
    # Parts of the same photographs: hundreds of intervals and weights are tried.
    parts = unseen(BlurredPatches(photographs(TRAINING), side=48, noise=noise, batch_size=6), 0)

    def cost(steps: Any, weight: float) -> float:
        seen = iterates(projected(weight), parts.data, parts.start, steps)
        return -network.peak_signal_to_noise_ratio(seen[-1], parts.target)

    best = tuned_chebyshev(cost, num_layers, priors=WEIGHTS[4:13], starts=RATIOS[3:4])
    points[CHEBYSHEV] = iterates(
        projected(best.prior), sample.data, sample.start, best.steps(num_layers)
    )
    rows = {
        name: [network.peak_signal_to_noise_ratio(x, sample.target) for x in seen]
        for name, seen in points.items()
    }
    long_run = iterates(
        methods[FISTA](weights[FISTA]), sample.data, sample.start, [1.0] * (10 * num_layers)
    )
    longer = [network.peak_signal_to_noise_ratio(x, sample.target) for x in long_run]
    last = {name: row[-1] for name, row in rows.items()}
    is_default = (num_layers, noise) == (10, 0.004) and num_iterations >= 400
    blurred, equal = rows[LEARNED][0], first_above(longer, last[LEARNED])
    return Outcome(
        title="Photographs deblurred in a few learned layers",
        summary=(
            f"Three photographs that training has not seen have a PSNR of {blurred:.2f} dB "
            f"blurred and {last[LEARNED]:.2f} dB after {num_layers} learned layers. As many "
            f"iterations of FISTA come to {last[FISTA]:.2f} dB with the same prior and "
            f"{last[VARIATION]:.2f} dB with total variation; with the same prior it takes {equal} "
            f"to be as good. ISTA with Chebyshev steps, nothing trained, comes to "
            f"{last[CHEBYSHEV]:.2f} dB."
        ),
        sections=[
            Section(
                "Quality by layer",
                (
                    "Photographs are blurred by a Gaussian of 1.5 pixels, with noise of "
                    f"{noise:g} of the range. Every layer goes on in the direction of the last, "
                    "takes a gradient step and moves the cosine coefficients of all windows of "
                    "3 × 3 pixels towards 0. That is FISTA with this prior, from which training "
                    "starts; step, momentum and eight thresholds of each layer are learned, on "
                    "other photographs. Only the last layer is trained to be good: on the way the "
                    "quality goes up and down.",
                    "The rivals have steps of 1 and one weight, the best of seventeen on "
                    "training photographs for the last iteration: "
                    + ", ".join(f"{name} {weight:.2g}" for name, weight in weights.items())
                    + f". ISTA with Chebyshev steps has weight {best.prior:.2g}, {best}, chosen in "
                    "the same way: long steps, some far above 2, take turns with short ones"
                    f". A proximal operator of the total variation takes {INNER} iterations of "
                    "its own.",
                ),
                figure=Figure(
                    "quality_by_layer",
                    "PSNR of three held-out photographs",
                    "PSNR in dB against layer: the learned network and ISTA with Chebyshev steps "
                    "waver and end highest; FISTA with either prior rises steadily and ends above "
                    "ISTA.",
                    curves(rows, style="both", emphasis=(LEARNED,)),
                    Axis("layer (iteration)"),
                    Axis("PSNR in dB, mean of three"),
                    (Level(f"FISTA after {10 * num_layers}", longer[-1]),),
                ),
                table=_table(network, points, sample, num_layers),
            ),
            Section(
                "One of them",
                (
                    "80 × 80 pixels of the cameraman, after as many iterations as layers; at the "
                    f"lower left after {10 * num_layers} iterations of FISTA.",
                ),
                figure=Pictures(
                    "cameraman",
                    "Blurred, restored by FISTA and by learned layers, and sharp",
                    "The head of a man with a camera, six times: blurred; restored by FISTA with "
                    "total variation and with cosines, both soft; sharper by learned layers, and "
                    "by FISTA with ten times as many iterations; the photograph.",
                    tuple(
                        Image.from_values(label, picture[0][CUT].numpy())
                        for label, picture in (
                            ("blurred, noisy", sample.start),
                            (VARIATION, points[VARIATION][-1]),
                            (FISTA, points[FISTA][-1]),
                            (f"FISTA, {10 * num_layers} iterations", long_run[-1]),
                            (LEARNED, points[LEARNED][-1]),
                            ("photograph", sample.target),
                        )
                    ),
                ),
            ),
            Section(
                "What was learned",
                (
                    "Steps above 2, where a constant step would diverge, take turns with short "
                    "ones. Momentum is largest in the first layers that have any, where FISTA's "
                    "rises from 0 towards 1.",
                ),
                figure=Figure(
                    "learned_steps",
                    "Learned steps and momentum",
                    "Against layer: long and short learned steps alternate around FISTA's 1; "
                    "learned momentum starts high, FISTA's rises from 0.",
                    curves(
                        {
                            "step": run.schedule.steps,
                            "momentum": task.network.learned()["momentum"],
                            "momentum of FISTA": network.fista_momentum(num_layers),
                        },
                        np.arange(1, num_layers + 1),
                        style="both",
                        emphasis=("step", "momentum"),
                        roles={"step": "learned", "momentum": "learned"},
                    ),
                    Axis("layer"),
                    Axis("step size γ, momentum β"),
                    (Level("step of FISTA", 1.0),),
                ),
            ),
        ],
        checks=[
            Check.above(
                "dB by which the learned network is ahead of the better FISTA",
                0.6 if is_default else 0,
                last[LEARNED] - max(last[FISTA], last[VARIATION]),
            ),
            Check.above(
                "dB by which ISTA with Chebyshev steps is ahead of FISTA with the same prior",
                0,
                last[CHEBYSHEV] - last[FISTA],
                why="known steps need no momentum",
            ),
            Check.at_least(
                "dB by which FISTA is ahead of ISTA at equal iterations",
                0,
                last[FISTA] - last[ISTA],
            ),
            Check.above("dB gained over the blurred photographs", 1, last[LEARNED] - blurred),
        ],
        parameters={"width of the blur": 1.5},
        records={
            "schedules/learned": run.schedule,
            **task.network.learned(),
            "quality": {**rows, "weights": weights, "FISTA, longer": longer},
        },
    )


class _PictureVariation(Penalty):
    """Isotropic total variation of pictures as tensors, shape (batch, rows, columns)."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def value(self, x: Any) -> Any:
        """The penalty of each picture."""
        down, across = x.diff(dim=1, append=x[:, -1:]), x.diff(dim=2, append=x[..., -1:])
        return self.weight * down.hypot(across).sum((1, 2))

    def prox(self, v: Any, step: Any) -> Any:
        """By Chambolle's iteration in scikit-image, `INNER` times."""
        return total_variation(v, step * self.weight, num_iterations=INNER)


def first_above(qualities: Sequence[float], level: float) -> str:
    """The first place where a quality reaches a level, in words."""
    reached = [k for k, quality in enumerate(qualities) if quality >= level]
    return str(reached[0]) if reached else f"more than {len(qualities) - 1}"


def plain_fista(penalty: Penalty) -> Fista[Any]:
    """FISTA without a restart."""
    # The restart looks at rows of a batch of vectors; here an entry of a batch is a picture.
    return Fista(penalty, restart=False)


def _table(network: Any, points: dict[str, Any], sample: Any, num_layers: int) -> Table:
    def quality(pictures: Any) -> list[str]:
        pairs = zip(pictures.split(1), sample.target.split(1), strict=True)
        values = [network.peak_signal_to_noise_ratio(*pair) for pair in pairs]
        return [f"{value:.2f}" for value in (*values, float(np.mean(values)))]

    pictures = {"blurred": sample.start, **{name: seen[-1] for name, seen in points.items()}}
    return Table(
        (f"PSNR in dB after {num_layers}", *TITLES, "mean"),
        tuple((name, *quality(restored)) for name, restored in pictures.items()),
    )
