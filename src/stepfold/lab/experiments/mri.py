"""Multi-coil MRI in a few layers: ISTA, FISTA, Chebyshev steps and relaxation, and learned ones.

All methods have the same prior, wavelets of all shifts, and evaluate the coils' operator and its
adjoint once an iteration. What they have of weights and intervals is tuned on other images.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS, tuned_chebyshev
from stepfold.lab.experiments._unfolded import MiniBatches, layers, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.sources import OWN, Source

WEIGHTS = tuple(float(weight) for weight in np.geomspace(0.1, 20, 12))
"""Weights of the wavelets, in hundredths of the range of values."""
ISTA, FISTA = "ISTA", "FISTA"
STEPS, RELAXED = "ISTA, Chebyshev steps", "ISTA, Chebyshev relaxation"
THEORY = "from theory, nothing trained"
LEARNED, INERTIAL = "learned from theory", "learned, with momentum"


@experiment(
    "mri",
    source=Source(OWN, "learned relaxation for multi-coil MRI"),
    seconds=110,
    quick={"num_layers": 4, "num_iterations": 12, "side": 32},
)
def mri(
    *,
    num_layers: Annotated[int, Between(2, 32)] = 10,
    num_iterations: MiniBatches = 300,
    side: Annotated[int, Between(16, 160)] = 64,
    acceleration: Annotated[float, Between(1, 10)] = 3.0,
    noise: Annotated[float, Between(1e-4, 0.2)] = 0.01,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Images from the undersampled Fourier data of four coils, in ten relaxed iterations.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches.
        side: Rows and columns of an image, a multiple of 8.
        acceleration: Columns of the Fourier transform over those that are measured.
        noise: Standard deviation of the noise; values are from 0 to 1.
        seed: Seed of the training data.
    """
    from stepfold.unfolded import theory_start
    from stepfold.unfolded.networks import mri as network
    from stepfold.unfolded.networks.deblurring import fista_momentum
    from stepfold.unfolded.networks.photographs import TRAINING, photographs

    options: dict[str, Any] = {"side": side, "acceleration": acceleration, "noise": noise}
    sampler = network.CoilImages(photographs(TRAINING), batch_size=4, **options)
    tuning = unseen(sampler, 0)
    sample = network.held_out_scans(**options)

    def seen(values: Any, batch: Any, depth: int = num_layers, **more: Any) -> list[Any]:
        found = network.thresholding_network(*values, num_layers=depth, **more)
        return layers(found, batch)

    def cost(points: list[Any]) -> float:
        return network.error_in_decibels(points[-1], tuning.target)

    momentum = fista_momentum(10 * num_layers)
    plain = {ISTA: 0 * momentum, FISTA: momentum}
    weights = {
        name: min(
            WEIGHTS,
            key=lambda weight, beta=beta: cost(  # type: ignore[misc]
                seen((1.0, weight, beta[:num_layers]), tuning)
            ),
        )
        for name, beta in plain.items()
    }
    points = {
        name: seen((1.0, weights[name], beta[:num_layers]), sample) for name, beta in plain.items()
    }
    long_run = seen((1.0, weights[FISTA], momentum), sample, 10 * num_layers)
    rivals: dict[str, Any] = {
        STEPS: lambda steps, weight, batch: seen((1.0, weight), batch, steps=steps),
        RELAXED: lambda steps, weight, batch: seen((steps, weight), batch),
    }
    best = {}
    for name, rival in rivals.items():
        best[name] = tuned_chebyshev(
            lambda steps, weight, rival=rival: cost(rival(steps, weight, tuning)),  # type: ignore[misc]
            num_layers,
            priors=WEIGHTS,
            starts=RATIOS[3:4],
        )
        points[name] = rival(best[name].steps(num_layers), best[name].prior, sample)
    theory = network.mri(num_layers=num_layers, **options)
    found = theory_start(theory.network, tuning)
    points[THEORY] = layers(theory.network, sample)
    learned = {}
    for name, inertial in ((LEARNED, False), (INERTIAL, True)):
        task = network.mri(num_layers=num_layers, momentum=inertial, **options)
        trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
        points[name] = layers(task.network, sample)
        learned[name] = task.network.learned()
    rows = {
        name: [network.error_in_decibels(x, sample.target) for x in each]
        for name, each in points.items()
    }
    shown = int(sample.target.abs().flatten(1).std(1).argmax())
    longer = [network.error_in_decibels(x, sample.target) for x in long_run]
    last = {name: row[-1] for name, row in rows.items()}
    equal = next((k for k, error in enumerate(longer) if error <= last[LEARNED]), None)
    count = f"{equal}" if equal is not None else f"more than {10 * num_layers}"
    is_default = (num_layers, side, acceleration, noise) == (10, 64, 3.0, 0.01)
    is_trained = is_default and num_iterations >= 300
    return Outcome(
        title="Multi-coil MRI in a few relaxed iterations",
        summary=(
            f"After {num_layers} iterations the normalised error of held-out images is "
            f"{last[FISTA]:.1f} dB with FISTA, {last[RELAXED]:.1f} dB with Chebyshev relaxation, "
            f"{last[THEORY]:.1f} dB with values from theory, nothing trained, "
            f"{last[LEARNED]:.1f} dB with learned ones and {last[INERTIAL]:.1f} dB with learned "
            f"momentum as well. FISTA takes {count} iterations to be as good as the learned "
            "layers."
        ),
        sections=[
            Section(
                "Error by iteration",
                (
                    f"Four coils see {1 / acceleration:.0%} of the columns of the Fourier "
                    f"transform of a complex image of {side} × {side} pixels, with noise of "
                    f"{noise:g}. Every iteration takes a gradient step of 1 and shrinks the Haar "
                    "wavelets of all shifts; relaxed, it goes ω times as far. Chebyshev "
                    "relaxation alternates ω near 1 with some far above.",
                    "The rivals have one weight, ISTA and FISTA "
                    + " and ".join(f"{weight:.2g}" for weight in weights.values())
                    + f"; Chebyshev steps {best[STEPS].prior:.2g} with {best[STEPS]}, Chebyshev "
                    f"relaxation {best[RELAXED].prior:.2g} with {best[RELAXED]}: the best on four "
                    "other images for the last iteration. Theory sets relaxations and a threshold "
                    f"for each layer in {found.num_passes:.0f} forward passes on these four; "
                    "training starts from theory on a mini-batch of its own.",
                ),
                figure=Figure(
                    "error_by_iteration",
                    "Normalised error of held-out images",
                    "Error in dB against iteration: FISTA falls steadily below ISTA; relaxed "
                    "methods waver and end lower, the learned ones lowest.",
                    curves(
                        rows,
                        style="both",
                        emphasis=(LEARNED, INERTIAL),
                        roles={THEORY: "chebyshev"},
                    ),
                    Axis("iteration (layer)"),
                    Axis("normalised error in dB"),
                    (Level(f"FISTA after {10 * num_layers}", longer[-1]),),
                ),
                table=Table(
                    ("method", f"dB after {num_layers}", "ahead of FISTA"),
                    tuple(
                        (name, f"{error:.2f}", f"{last[FISTA] - error:+.2f}")
                        for name, error in last.items()
                    ),
                ),
            ),
            Section(
                "One image",
                (
                    "Moduli of the image with the highest contrast, after as many iterations as "
                    "layers.",
                ),
                figure=Pictures(
                    "image",
                    "From what the coils saw to the image",
                    "An image six times: with stripes where columns are missing; by ISTA and "
                    "FISTA with fainter ones; by Chebyshev relaxation and by learned layers "
                    "nearly clean; and as it is.",
                    tuple(
                        Image.from_values(label, picture[shown].abs().numpy())
                        for label, picture in (
                            ("what the coils saw", sample.start),
                            (ISTA, points[ISTA][-1]),
                            (FISTA, points[FISTA][-1]),
                            (RELAXED, points[RELAXED][-1]),
                            (LEARNED, points[LEARNED][-1]),
                            ("image", sample.target),
                        )
                    ),
                ),
            ),
            Section(
                "What was learned",
                ("Learned relaxations keep the pattern of Chebyshev's that they started from.",),
                figure=Figure(
                    "learned_relaxation",
                    "Relaxation by layer",
                    "Relaxation against layer on a logarithmic axis: learned values stay close to "
                    "those of theory, which alternate between 1 and up to a few dozen.",
                    curves(
                        {
                            THEORY: found.parameters["relaxation"],
                            LEARNED: learned[LEARNED]["relaxation"],
                            INERTIAL: learned[INERTIAL]["relaxation"],
                        },
                        np.arange(1, num_layers + 1),
                        style="both",
                        emphasis=(LEARNED,),
                        roles={THEORY: "chebyshev"},
                    ),
                    Axis("layer"),
                    Axis("relaxation ω", log=True),
                    (Level("ISTA", 1.0),),
                ),
            ),
        ],
        checks=[
            Check.at_least(
                "dB by which FISTA is ahead of ISTA at equal iterations",
                0,
                last[ISTA] - last[FISTA],
            ),
            Check.above(
                "dB by which learned values are ahead of FISTA",
                1.2 if is_trained else 0,
                last[FISTA] - last[LEARNED],
            ),
        ]
        + (
            [
                Check.above(
                    "dB by which Chebyshev relaxation is ahead of FISTA",
                    0.4,
                    last[FISTA] - last[RELAXED],
                ),
                Check.above(
                    "dB by which values from theory are ahead of FISTA",
                    0.4,
                    last[FISTA] - last[THEORY],
                ),
                Check.above(
                    "dB by which learned values are ahead of Chebyshev relaxation",
                    0.3,
                    last[RELAXED] - last[LEARNED],
                ),
            ]
            if is_trained
            else []
        ),
        parameters={"coils": 4},
        records={
            "learned": learned,
            "theory": {
                "passes": found.num_passes,
                **found.parameters,
            },
            "errors": {**rows, "weights": weights, "FISTA, longer": longer},
        },
    )
