"""Photographs deblurred by ADMM with a small convolutional network in every layer.

The rivals have nothing trained: ADMM, FISTA and ISTA with Chebyshev steps, with the shrinkage of
window cosines as their prior; their numbers are tuned for the last iteration on training
photographs.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Annotated, Any

import numpy as np

from stepfold.iterations import ProximalGradient
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS, tuned_chebyshev
from stepfold.lab.experiments._unfolded import MiniBatches, iterates, layers, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.deblurring import (
    CHEBYSHEV,
    CUT,
    FISTA,
    WEIGHTS,
    first_above,
    plain_fista,
)
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.sources import OWN, Source

OWN_NETWORKS = "learned, a network for each layer"
ONE_NETWORK = "learned, one network for all layers"
ADMM = "ADMM, cosines"
STEPS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Steps of ADMM that are tried, in hundreds."""


@experiment(
    "admm",
    source=Source(OWN, "unrolled ADMM with a network in each layer"),
    seconds=40,
    quick={"num_layers": 3, "num_iterations": 30, "num_channels": 6},
)
def admm(
    *,
    num_layers: Annotated[int, Between(2, 32)] = 5,
    num_iterations: MiniBatches = 500,
    num_channels: Annotated[int, Between(1, 64)] = 12,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Real photographs deblurred by ADMM whose proximal operators are small networks.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches of either training, with one network and then with one each.
        num_channels: Channels of the networks.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded.networks import admm as networks
    from stepfold.unfolded.networks.blur import BlurredPatches, held_out
    from stepfold.unfolded.networks.deblurring import (
        WindowCosines,
        peak_signal_to_noise_ratio,
    )
    from stepfold.unfolded.networks.photographs import TRAINING, photographs

    sample = held_out()
    posed = networks.posed(sample)
    first = networks.admm(num_layers=num_layers, num_channels=num_channels, shared=True)
    trained(first, num_iterations=num_iterations, seed=seed, progress=progress)
    further = dataclasses.replace(
        first, training=dataclasses.replace(first.training, learning_rate=0.005)
    )
    points: dict[str, list[Any]] = {}
    nets = {
        OWN_NETWORKS: networks.untied(first.network),
        ONE_NETWORK: copy.deepcopy(first.network),
    }
    for name, network in nets.items():
        task = dataclasses.replace(further, network=network)
        trained(task, num_iterations=num_iterations, seed=seed + 1, progress=progress)
        points[name] = [z for z, _ in layers(network, posed)]

    tuning = unseen(BlurredPatches(photographs(TRAINING), side=48, batch_size=6), 0)

    def quality(pictures: Any, batch: Any = sample) -> float:
        found = peak_signal_to_noise_ratio(pictures, batch.target)
        return found if np.isfinite(found) else -np.inf

    def by_admm(batch: Any, weight: float, step: float) -> list[Any]:
        penalty, task = WindowCosines(weight), networks.posed(batch)
        states = [task.start]
        for _ in range(num_layers):
            states.append(
                networks.admm_step(
                    states[-1],
                    task.data,
                    step,
                    lambda v: penalty.prox(v, networks.UNIT * step),
                )
            )
        return [z for z, _ in states]

    def by_fista(batch: Any, weight: float, count: int = num_layers) -> list[Any]:
        method = plain_fista(WindowCosines(weight))
        return iterates(method, batch.data, batch.start, [1.0] * count)

    def by_steps(batch: Any, weight: float, steps: Any) -> list[Any]:
        method: Any = ProximalGradient(WindowCosines(weight))
        return iterates(method, batch.data, batch.start, [float(step) for step in steps])

    pair = max(
        itertools.product(WEIGHTS[:13], STEPS),
        key=lambda pair: quality(by_admm(tuning, *pair)[-1], tuning),
    )
    fista_weight = max(WEIGHTS, key=lambda weight: quality(by_fista(tuning, weight)[-1], tuning))
    best = tuned_chebyshev(
        lambda steps, weight: -quality(by_steps(tuning, weight, steps)[-1], tuning),
        num_layers,
        priors=WEIGHTS[4:13],
        starts=RATIOS[3:4],
    )
    points[ADMM] = by_admm(sample, *pair)
    points[FISTA] = by_fista(sample, fista_weight)
    points[CHEBYSHEV] = by_steps(sample, best.prior, best.steps(num_layers))
    chosen = {
        ADMM: f"weight {pair[0]:.2g}, γ = {networks.UNIT * pair[1]:g}",
        FISTA: f"weight {fista_weight:.2g}",
        CHEBYSHEV: f"weight {best.prior:.2g}, {best}",
    }
    rows = {name: [quality(pictures) for pictures in seen] for name, seen in points.items()}
    last = {name: row[-1] for name, row in rows.items()}
    longer = [quality(pictures) for pictures in by_fista(sample, fista_weight, 20 * num_layers)]
    numbers = {
        name: sum(value.numel() for value in network.parameters()) for name, network in nets.items()
    }
    is_default = num_layers >= 5 and num_iterations >= 500 and num_channels >= 12
    blurred = quality(sample.start)
    rival = max(last[name] for name in chosen)
    return Outcome(
        title="Networks in the layers of ADMM",
        summary=(
            f"Three photographs that training has not seen have a PSNR of {blurred:.2f} dB "
            f"blurred, and {last[OWN_NETWORKS]:.2f} dB after {num_layers} layers of ADMM with a "
            f"small convolutional network in each. One network for all layers comes to "
            f"{last[ONE_NETWORK]:.2f} dB with as much training. Nothing trained: ADMM with cosines "
            f"{last[ADMM]:.2f} dB, FISTA {last[FISTA]:.2f} dB, ISTA with Chebyshev steps "
            f"{last[CHEBYSHEV]:.2f} dB."
        ),
        sections=[
            Section(
                "Quality by layer",
                (
                    "The blur is a Gaussian of 1.5 pixels, the noise 0.004 of the range. A layer "
                    "of ADMM solves for the data exactly, in the eigenvectors of the blur, which "
                    "takes as many products as a gradient step does; then a network of three "
                    "convolutions takes the place of the proximal operator. Step sizes and "
                    "networks are trained together: one network for all layers first, then a copy "
                    f"for each, {num_iterations} mini-batches each time. The other curve goes on "
                    "with the one network for as long. Only the last layer is trained to be good: "
                    "with networks of their own the layers before it pass on what is no picture.",
                    "Nothing is trained in the rivals: their prior moves cosine coefficients of "
                    "windows of 3 × 3 pixels towards 0, and their weight and steps are the best on "
                    "training photographs after the last iteration. Steps of FISTA are 1. With "
                    f"twenty times the iterations FISTA comes to {longer[-1]:.2f} dB; to be as "
                    f"good as {num_layers} iterations of ADMM with the same prior it takes "
                    f"{first_above(longer, last[ADMM])}.",
                ),
                figure=Figure(
                    "quality_by_layer",
                    "PSNR of three held-out photographs",
                    "PSNR in dB against layer: both learned networks end highest, ADMM with "
                    "cosines next, then ISTA with Chebyshev steps and FISTA. With a network for "
                    "each layer quality falls far in between.",
                    curves(
                        rows,
                        style="both",
                        emphasis=(OWN_NETWORKS,),
                        roles={ADMM: "tool"},
                    ),
                    Axis("layer (iteration)"),
                    Axis("PSNR in dB, mean of three"),
                ),
                table=Table(
                    (f"PSNR in dB after {num_layers}", "mean of three", "chosen or trained"),
                    tuple(
                        (
                            name,
                            f"{value:.2f}",
                            chosen.get(name) or f"{numbers[name]:,} numbers trained",
                        )
                        for name, value in last.items()
                    ),
                ),
            ),
            Section(
                "One of them",
                ("80 × 80 pixels of the cameraman, after as many iterations as layers.",),
                figure=Pictures(
                    "cameraman",
                    "Blurred, restored by FISTA, ADMM and learned layers, and sharp",
                    "The head of a man with a camera, five times: blurred; restored by FISTA, "
                    "soft; by ADMM and by learned layers, sharper; the photograph.",
                    tuple(
                        Image.from_values(label, picture[0][CUT].numpy())
                        for label, picture in (
                            ("blurred, noisy", sample.start),
                            (FISTA, points[FISTA][-1]),
                            (ADMM, points[ADMM][-1]),
                            ("learned", points[OWN_NETWORKS][-1]),
                            ("photograph", sample.target),
                        )
                    ),
                ),
            ),
            Section(
                "Steps",
                (
                    "γ of each layer, in units of 1 over the largest eigenvalue of KᵀK. The larger "
                    "it is the nearer the layer comes to the data, and the more noise it lets "
                    "through; large ones first, small ones last.",
                ),
                figure=Figure(
                    "learned_steps",
                    "Learned steps of ADMM",
                    "Step size against layer: it falls in both networks; ADMM's own is constant.",
                    curves(
                        {
                            name: networks.UNIT * network.schedule().steps
                            for name, network in nets.items()
                        }
                        | {ADMM: np.full(num_layers, networks.UNIT * pair[1])},
                        np.arange(1, num_layers + 1),
                        style="both",
                        emphasis=(OWN_NETWORKS,),
                        roles={ADMM: "tool"},
                    ),
                    Axis("layer"),
                    Axis("step size γ", log=True),
                ),
            ),
        ],
        checks=[
            Check.above("dB gained over the blurred photographs", 1, last[OWN_NETWORKS] - blurred),
            Check.above(
                "dB by which ADMM is ahead of FISTA, nothing trained in either",
                0.2,
                last[ADMM] - last[FISTA],
            ),
            *(
                [
                    Check.above(
                        "dB by which a network for each layer is ahead of the best rival",
                        0.2,
                        last[OWN_NETWORKS] - rival,
                    ),
                    Check.above(
                        "dB by which a network for each layer is ahead of one for all",
                        -0.1,
                        last[OWN_NETWORKS] - last[ONE_NETWORK],
                        why="no worse, with as much training",
                    ),
                ]
                if is_default
                else []
            ),
        ],
        records={
            "quality": {**rows, "FISTA, longer": longer},
            "schedules/learned": nets[OWN_NETWORKS].schedule().to_dict(),
        },
    )
