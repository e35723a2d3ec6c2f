"""Photographs deblurred by learned steps and thresholds, beside ISTA and FISTA."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from stepfold.iterations import Fista, ProximalGradient
from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._unfolded import best_weight, iterates, layers, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.picture import Image, Pictures
from stepfold.problems.penalties import Penalty

WEIGHTS = tuple(float(weight) for weight in np.geomspace(2e-4, 2e-2, 9))
TITLES = ("cameraman", "coffee", "moon")


@experiment("deblurring", seconds=60, quick={"num_layers": 4, "num_iterations": 12})
def deblurring(
    *,
    num_layers: Annotated[int, Between(1, 32)] = 10,
    num_iterations: Annotated[int, Between(1, 100_000)] = 60,
    noise: Annotated[float, Between(1e-4, 0.2)] = 0.004,
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0,
    progress: bool = False,
) -> Outcome:
    """Real photographs deblurred by learned steps and thresholds, beside FISTA.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches per generation.
        noise: Standard deviation of the noise; values are from 0 to 1.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded.networks import deblurring as network
    from stepfold.unfolded.networks.photographs import TRAINING, photographs

    task = network.deblurring(num_layers=num_layers, noise=noise)
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    sample = network.held_out(noise=noise)
    tuning = network.BlurredPatches(photographs(TRAINING), noise=noise, batch_size=24)(
        np.random.default_rng([2**32, 0])
    )
    points = {"learned steps and thresholds": layers(task.network, sample)}
    settled = {}
    for name, kind in (("ISTA", ProximalGradient), ("FISTA", _plain_fista)):

        def restored(batch: Any, weight: float, count: int, kind: Any = kind) -> list[Any]:
            # A blur keeps means: its largest eigenvalue is 1, and so is the step.
            return iterates(
                kind(network.WindowCosines(weight)), batch.data, batch.start, [1.0] * count
            )

        def loss(weight: float, restored: Any = restored) -> float:
            last = restored(tuning, weight, num_layers)[-1]
            return -network.peak_signal_to_noise_ratio(last, tuning.target)

        weight = best_weight(WEIGHTS, loss)
        points[f"{name}, weight {weight:.2g}"] = restored(sample, weight, num_layers)
        settled[name] = network.peak_signal_to_noise_ratio(
            restored(sample, weight, 10 * num_layers)[-1], sample.target
        )
    rows = {
        name: [network.peak_signal_to_noise_ratio(x, sample.target) for x in seen]
        for name, seen in points.items()
    }
    learned, ista, fista = rows
    blurred, ours, theirs = rows[learned][0], rows[learned][-1], rows[fista][-1]
    return Outcome(
        name="deblurring",
        title="Photographs deblurred in a few learned layers",
        summary=(
            f"Three photographs that training has not seen have a PSNR of {blurred:.2f} dB "
            f"blurred, {ours:.2f} dB after {num_layers} learned layers, {theirs:.2f} dB after as "
            f"many iterations of FISTA and {settled['FISTA']:.2f} dB after {10 * num_layers}."
        ),
        sections=[
            Section(
                "Quality by layer",
                (
                    "Photographs are blurred by a Gaussian of 1.5 pixels, with noise of "
                    f"{noise:g} of the range. Every layer takes a gradient step and moves the "
                    "cosine coefficients of all windows of 3 × 3 pixels towards 0. ISTA and FISTA "
                    "have one threshold, chosen on the training photographs for the last "
                    "iteration; the network learns one step and eight thresholds a layer, from "
                    "other photographs. Only its last layer is trained to be good: on the way the "
                    "quality goes up and down.",
                ),
                figure=Figure(
                    "quality_by_layer",
                    "PSNR of three held-out photographs",
                    "PSNR in dB against layer: the learned network ends above FISTA, and FISTA "
                    "above ISTA.",
                    curves(rows, style="both", emphasis=(learned,)),
                    Axis("layer (iteration)"),
                    Axis("PSNR in dB, mean of three"),
                    (Level(f"FISTA after {10 * num_layers}", settled["FISTA"]),),
                ),
                table=_table(network, points, sample, num_layers),
            ),
            Section(
                "One of them",
                ("The upper left part of the cameraman, at half size.",),
                figure=Pictures(
                    "cameraman",
                    "Blurred, restored by FISTA and by learned layers, and sharp",
                    "Four pictures of a man with a camera: blurred, sharper, sharper still, sharp.",
                    tuple(
                        Image.from_values(label, picture[0].numpy())
                        for label, picture in (
                            ("blurred, noisy", sample.start),
                            (f"FISTA, {num_layers} iterations", points[fista][-1]),
                            (f"learned, {num_layers} layers", points[learned][-1]),
                            ("photograph", sample.target),
                        )
                    ),
                ),
            ),
            Section(
                "What was learned",
                (
                    "Steps far above 2, where a constant step would diverge, take turns with "
                    "short ones.",
                ),
                figure=Figure(
                    "learned_steps",
                    "Learned steps",
                    "Step against layer: long and short steps alternate.",
                    curves(
                        {"learned": run.schedule.steps},
                        np.arange(1, num_layers + 1),
                        style="both",
                        emphasis=("learned",),
                    ),
                    Axis("layer"),
                    Axis("step size γ"),
                    (Level("step of ISTA and FISTA", 1.0),),
                ),
            ),
        ],
        checks=[
            Check(
                "dB by which the learned network is ahead of FISTA at equal iterations",
                "above 0.2" if num_iterations >= 60 else "above 0",
                ours - theirs,
                lower=0.2 if num_iterations >= 60 else 0.0,
            ),
            Check(
                "dB by which FISTA is ahead of ISTA at equal iterations",
                "at least 0",
                theirs - rows[ista][-1],
                lower=0,
            ),
            Check("dB gained over the blurred photographs", "above 1", ours - blurred, lower=1),
        ],
        parameters={
            "num_layers": num_layers,
            "num_iterations": num_iterations,
            "noise": noise,
            "seed": seed,
            "width of the blur": 1.5,
        },
        records={
            "schedules/learned": run.schedule.to_dict(),
            "thresholds": task.network.learned()["threshold"].tolist(),
            "quality": {**rows, f"settled after {10 * num_layers}": settled},
        },
    )


def _plain_fista(penalty: Penalty) -> Fista[Any]:
    # The restart looks at rows of a batch of vectors; here an entry of a batch is a picture.
    return Fista(penalty, restart=False)


def _table(network: Any, points: dict[str, Any], sample: Any, num_layers: int) -> Table:
    def quality(picture: Any, index: int) -> str:
        here = slice(index, index + 1)
        value = network.peak_signal_to_noise_ratio(picture[here], sample.target[here])
        return f"{value:.2f}"

    rows = [("blurred", *(quality(sample.start, k) for k in range(len(TITLES))))]
    rows += [
        (name, *(quality(seen[-1], k) for k in range(len(TITLES)))) for name, seen in points.items()
    ]
    return Table((f"PSNR in dB after {num_layers}", *TITLES), tuple(rows))
