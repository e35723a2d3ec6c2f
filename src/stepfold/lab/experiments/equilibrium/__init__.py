"""A deep-equilibrium denoiser: trained by implicit gradients, beside the same network unrolled."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._unfolded import MiniBatches, total_variation, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.equilibrium.paths import (
    LONG,
    MOST,
    RESIDUAL,
    accelerated,
    cost,
    descent,
    first_points,
    needed_evaluations,
    nesterov,
    relaxed,
)
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.sources import OWN, Source
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds

NOISE = 0.1
STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Steps that are tried, in units of 1 over the largest possible curvature."""
WEIGHTS = (0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12)
"""Weights of the total variation that are tried."""
RELAXATION = "equilibrium, Chebyshev relaxation"
CHEBYSHEV = "equilibrium, Chebyshev steps"
NESTEROV = "equilibrium, Nesterov"
DESCENT = "equilibrium, one step"
VARIATION = "total variation"


@experiment(
    "equilibrium",
    source=Source(OWN, "a deep-equilibrium denoiser"),
    seconds=110,
    quick={"num_iterations": 12, "side": 16, "size": 32},
)
def equilibrium(
    *,
    num_layers: Annotated[int, Between(2, 64)] = 10,
    num_iterations: MiniBatches = 300,
    side: Annotated[int, Between(8, 128)] = 24,
    size: Annotated[int, Between(16, 128)] = 96,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """A denoiser that returns a fixed point, trained by the implicit function theorem.

    Args:
        num_layers: Layers of the same network unrolled.
        num_iterations: Mini-batches of 8 patches, for either.
        side: Rows and columns of a training patch.
        size: Rows and columns of a picture that training does not see.
        seed: Seed of the training data.
    """
    import torch

    from stepfold.unfolded import SampledLoss, UnfoldedIteration
    from stepfold.unfolded.networks import equilibrium as networks
    from stepfold.unfolded.networks.base import Task, TrainingSettings
    from stepfold.unfolded.networks.deblurring import (
        geometric_mean_error,
        peak_signal_to_noise_ratio,
    )
    from stepfold.unfolded.networks.photographs import HELD_OUT, TRAINING, photographs

    sampler = networks.NoisyPatches(photographs(TRAINING), side=side, noise=NOISE)
    corner = (192 - size) // 2
    cut = slice(corner, corner + size)
    sample = sampler.noisy(
        np.stack([picture[cut, cut] for picture in photographs(HELD_OUT)]),
        np.random.default_rng([2**32, 0]),
    )
    tuning = unseen(
        networks.NoisyPatches(
            photographs(TRAINING), side=max(side, size // 2), noise=NOISE, batch_size=4
        ),
        1,
    )

    def quality(output: Any, batch: Any = sample) -> float:
        return peak_signal_to_noise_ratio(output, batch.target)

    settings = TrainingSettings(
        strategy="all-at-once",
        num_iterations=num_iterations,
        learning_rate=0.05,
        final_learning_rate=0.005,
        relative=True,
    )
    fields = {name: networks.ConvexField() for name in ("equilibrium", "unrolled")}
    safe = 2 / (2 + fields["unrolled"].curvature((side, side)))
    layer = networks.Equilibrium(fields["equilibrium"])
    nets = {
        "equilibrium": UnfoldedIteration(
            Schedule(np.ones(1)), iteration=layer, train_steps=False, dtype=torch.float32
        ),
        # One step for all layers: such a network runs deeper than it was trained.
        "unrolled": UnfoldedIteration(
            Schedule(np.full(1, safe)),
            iteration=functools.partial(networks.descent_step, fields["unrolled"]),
            num_layers=num_layers,
            dtype=torch.float32,
        ),
    }
    kept = {}
    for name, network in nets.items():
        loss = SampledLoss(sampler, criterion=geometric_mean_error)
        task = Task(network, loss, settings)
        trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
        batch = unseen(sampler, 2)
        kept[name] = _bytes_kept(functools.partial(network, batch.data, batch.start))
    field, noisy = fields["equilibrium"], sample.data
    with torch.no_grad():
        deep = nets["unrolled"](noisy, noisy, num_layers=MOST, every_layer=True)
        unrolled = [quality(x) for x in (noisy, *deep)]
        output = nets["equilibrium"](noisy, noisy)
        first = layer.map(noisy).step
        far = accelerated(field, noisy, first, rtol=1e-6, most=5000)[-1][1]
        variation, weight = _variation(tuning, sample, quality)
        step, momentum_step = (
            min(STEPS, key=functools.partial(cost, field, tuning, method))
            for method in (descent, nesterov)
        )
        top = 1 + field.curvature(noisy.shape[-2:])
        period = chebyshev_steps(SpectralBounds(1.0, top), 8).steps
        paths: dict[str, list[tuple[int, Any]]] = {
            DESCENT: first_points(descent(field, noisy, step)),
            NESTEROV: first_points(nesterov(field, noisy, momentum_step)),
            CHEBYSHEV: first_points(relaxed(field, noisy, itertools.cycle(period))),
            RELAXATION: accelerated(field, noisy, first, most=MOST),
        }
        one = noisy[:1]
        needed = {
            # The largest steps that converge whatever the curvature: tuned ones need not.
            DESCENT: needed_evaluations(field, one, descent(field, one, first * top)),
            NESTEROV: needed_evaluations(field, one, nesterov(field, one, 1.0)),
            RELAXATION: len(accelerated(field, one, first, rtol=RESIDUAL, most=LONG)) - 1,
        }
    seen = {name: [quality(x) for _, x in path] for name, path in paths.items()}
    distances = {
        name: [float((x - far).norm() / (noisy - far).norm()) for _, x in path]
        for name, path in paths.items()
    }
    places = {name: [count for count, _ in path] for name, path in paths.items()}
    end = quality(output)
    before = quality(noisy)
    return Outcome(
        title="A denoiser that returns an equilibrium",
        summary=(
            f"Three photographs with noise of {NOISE:g} have a PSNR of {before:.2f} dB, and "
            f"{end:.2f} dB at the equilibrium of a learned convex function. The same network "
            f"unrolled, {num_layers} layers, comes to {unrolled[num_layers]:.2f} dB, and to "
            f"{unrolled[MOST]:.2f} dB if it is run {MOST} layers deep; total variation to "
            f"{variation[0]:.2f} dB. For its gradients the equilibrium keeps "
            f"{kept['equilibrium'] / kept['unrolled']:.2f} of the memory that the unrolled network "
            "does."
        ),
        sections=[
            Section(
                "Quality by evaluation",
                (
                    "The denoised picture is the minimiser of ½‖x − y‖² + R(x), R a sum of "
                    "smoothed lengths of filtered pictures; five pairs of filters with their "
                    "weights and widths are learned. It is the fixed point of a gradient step, and "
                    "its derivatives come by the implicit function theorem. The unrolled network "
                    "takes "
                    f"{num_layers} gradient steps with filters of its own and one learned step; "
                    "both train on as many patches of other photographs.",
                    "R is convex, so there is one equilibrium, and whoever computes it gets the "
                    "same picture. The unrolled network is good at the depth that it was trained "
                    "for, and loses when it goes on. Total variation has the best of seven weights "
                    f"on training photographs, {weight:g}.",
                    "One step for all and Nesterov's momentum have the best of six steps on "
                    "training photographs. Chebyshev relaxation learns its interval from the "
                    "residuals, under the guard.",
                ),
                figure=Figure(
                    "quality_by_evaluation",
                    "PSNR of three held-out photographs",
                    "PSNR in dB against evaluations of the field: the unrolled network rises, is "
                    "best where it was trained, and falls; relaxation and Nesterov's method rise "
                    "to the equilibrium and stay.",
                    (
                        *(
                            _curve(name, places[name], row)
                            for name, row in seen.items()
                            if name != CHEBYSHEV
                        ),
                        *curves({"unrolled, learned": unrolled}, emphasis=("unrolled, learned",)),
                    ),
                    Axis("evaluations of the field (layers)"),
                    Axis("PSNR in dB, mean of three"),
                    (Level("total variation, converged", variation[0]),),
                ),
                table=Table(
                    ("method", f"PSNR after {num_layers}", f"after {MOST}", "converged", "chosen"),
                    (
                        *(
                            (
                                name,
                                f"{_at(places[name], row, num_layers):.2f}",
                                f"{row[-1]:.2f}",
                                f"{end:.2f}",
                                words,
                            )
                            for (name, row), words in zip(
                                seen.items(),
                                (
                                    f"step {step:g}/(1 + b)",
                                    f"step {momentum_step:g}/(1 + b)",
                                    "nothing: [1, 1 + b], T = 8",
                                    "nothing",
                                ),
                                strict=True,
                            )
                        ),
                        (
                            "unrolled, learned",
                            f"{unrolled[num_layers]:.2f}",
                            f"{unrolled[MOST]:.2f}",
                            "–",
                            "trained",
                        ),
                        (VARIATION, "–", "–", f"{variation[0]:.2f}", f"weight {weight:g}"),
                    ),
                ),
            ),
            Section(
                "Finding the equilibrium",
                (
                    "Distance to the equilibrium, relative to that of the noisy picture; of "
                    "relaxation what it returns if it is stopped there. To a thousandth of the "
                    f"gradient, on the first picture, relaxation takes {needed[RELAXATION]} "
                    "evaluations, Nesterov's method with the largest step that is safe "
                    f"{needed[NESTEROV]}, one such step {needed[DESCENT]}. Curvature lies between "
                    f"1 and 1 + b = {top:.0f} everywhere, and Chebyshev steps for that would be "
                    "best on a quadratic. Here curvature changes from place to place, and the long "
                    "ones are too long: without the guard they do not settle. Relaxation finds its "
                    "interval itself, which takes the first evaluations; the others know b. In the "
                    "middle of a long period it has nothing better than where that began.",
                ),
                figure=Figure(
                    "distance_by_evaluation",
                    "Distance to the equilibrium",
                    "Relative distance against evaluations: Chebyshev steps without a guard jump "
                    "about; one step falls slowly, Nesterov's method and relaxation faster.",
                    tuple(_curve(name, places[name], row) for name, row in distances.items()),
                    Axis("evaluations of the field"),
                    Axis("relative distance", log=True, floor=1e-4),
                ),
            ),
            Section(
                "One of them",
                ("A part of the cameraman.",),
                figure=Pictures(
                    "cameraman",
                    "Noisy, denoised and clean",
                    "A man with a camera, four times: noisy; denoised by total variation, in flat "
                    "patches; by the equilibrium, with smoother shades; the photograph.",
                    tuple(
                        Image.from_values(label, picture[0].numpy())
                        for label, picture in (
                            ("noisy", noisy),
                            (VARIATION, variation[1]),
                            ("equilibrium", output),
                            ("photograph", sample.target),
                        )
                    ),
                ),
            ),
        ],
        checks=[
            Check.above("dB gained over the noisy photographs", 4, end - before),
            Check.at_most(
                "memory kept for gradients over that of the network unrolled",
                2.5 / num_layers,
                kept["equilibrium"] / kept["unrolled"],
                "theory",
                "one evaluation in place of all layers",
            ),
            Check.at_most(
                "relative distance of the network's output to the equilibrium",
                0.01,
                float((output - far).norm() / (noisy - far).norm()),
                "theory",
            ),
            Check.below(
                "evaluations to a thousandth of the gradient, relaxation over one step",
                0.8,
                needed[RELAXATION] / needed[DESCENT],
            ),
            Check.above(
                f"dB by which the equilibrium is ahead of the unrolled network {MOST} layers deep",
                0,
                end - unrolled[MOST],
            ),
            *(
                [
                    Check.above(
                        "dB by which the equilibrium is ahead of total variation",
                        -0.3,
                        end - variation[0],
                        why="about as good, with its weight tuned",
                    ),
                    Check.above(
                        "dB by which the equilibrium is ahead of the unrolled network at its depth",
                        -0.3,
                        end - unrolled[num_layers],
                        why="about as good",
                    ),
                ]
                if num_iterations >= 300
                else []
            ),
        ],
        records={
            "quality": {**seen, "unrolled": unrolled, "equilibrium": end, VARIATION: variation[0]},
            "distances": distances,
            "evaluations": places,
            "evaluations_needed": needed,
        },
    )


def _curve(name: str, places: list[int], row: list[float]) -> Curve:
    role = "constant" if name == DESCENT else ""
    return Curve(name, np.array(places), np.array(row), emphasis=name == RELAXATION, role=role)


def _variation(
    tuning: Any, sample: Any, quality: Callable[..., float]
) -> tuple[tuple[float, Any], float]:
    """Quality and pictures of total variation, and the weight chosen on training photographs."""
    weight = max(
        WEIGHTS,
        key=lambda each: quality(total_variation(tuning.data, each, num_iterations=200), tuning),
    )
    pictures = total_variation(sample.data, weight, num_iterations=200)
    return (quality(pictures), pictures), weight


def _bytes_kept(function: Callable[[], Any]) -> int:
    """Bytes of the tensors that autograd keeps for a backward pass."""
    import torch

    kept: dict[int, int] = {}

    def count(tensor: Any) -> Any:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        value = function()
    total = sum(kept.values())
    del value  # not before: what is freed may lend its address to the next tensor
    return total


def _at(places: list[int], row: list[float], count: int) -> float:
    """The value at the last place that is not beyond ``count``."""
    return row[max(index for index, place in enumerate(places) if place <= count)]
