"""Tomography in a few layers: steps and a convolutional prior learned together, beside rivals.

The rivals have wavelets of all shifts and positivity for a prior, with one weight that is tuned,
like the intervals of the Chebyshev steps and relaxations, on other phantoms.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from stepfold.iterations import Fista, Iteration, ProximalGradient
from stepfold.iterations.base import Stateless
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS, tuned_chebyshev
from stepfold.lab.experiments._unfolded import MiniBatches, iterates, layers, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.sources import OWN, Source
from stepfold.problems.penalties import Penalty

WEIGHTS = (0.0, *(float(weight) for weight in np.geomspace(1e-4, 0.03, 10)))
ISTA, FISTA = "ISTA", "FISTA"
STEPS, RELAXED = "ISTA, Chebyshev steps", "ISTA, Chebyshev relaxation"
THEORY = "steps from theory, no prior"
LEARNED, EQUAL = "learned from theory", "learned from equal steps"


@experiment(
    "tomography",
    source=Source(OWN, "learned steps and a learned prior for tomography"),
    seconds=100,
    quick={"num_layers": 4, "num_iterations": 40, "side": 32, "num_angles": 16},
)
def tomography(
    *,
    num_layers: Annotated[int, Between(2, 32)] = 8,
    num_iterations: MiniBatches = 400,
    side: Annotated[int, Between(16, 128)] = 64,
    num_angles: Annotated[int, Between(1, 180)] = 32,
    noise: Annotated[float, Between(1e-4, 0.5)] = 0.01,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """The phantom of Shepp and Logan from a few parallel beams, by learned layers and by rivals.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches.
        side: Rows and columns of an image, a multiple of 8.
        num_angles: Directions of the beams.
        noise: Standard deviation of the noise over the root mean square of the data.
        seed: Seed of the training data.
    """
    from stepfold.unfolded import TrainingWarning, theory_start
    from stepfold.unfolded.networks import tomography as network
    from stepfold.unfolded.networks.deblurring import peak_signal_to_noise_ratio

    options: dict[str, Any] = {"side": side, "num_angles": num_angles, "noise": noise}
    heads = network.Heads(**options)
    tuning = unseen(heads, 0)
    sample = network.shepp_logan(heads)
    others = unseen(network.Heads(batch_size=12, **options), 1)

    def quality(image: Any, batch: Any) -> float:
        # Relaxed iterates may be negative; no image is.
        return peak_signal_to_noise_ratio(image.clamp(min=0), batch.target)

    def run(method: Iteration[Any, Any], steps: Sequence[float], batch: Any) -> list[Any]:
        return iterates(method, batch.data, 0 * batch.target, steps)

    ones = [1.0] * num_layers
    methods: dict[str, Any] = {
        ISTA: ProximalGradient,
        # The restart looks at rows of a batch of vectors; here an entry of a batch is an image.
        FISTA: lambda penalty: Fista(penalty, restart=False),
    }
    priors = {
        name: min(
            WEIGHTS,
            key=lambda weight, make=make: (  # type: ignore[misc]
                -quality(run(make(_PositiveWavelets(weight)), ones, tuning)[-1], tuning)
            ),
        )
        for name, make in methods.items()
    }
    best = {
        name: tuned_chebyshev(
            lambda steps, weight, make=make: (  # type: ignore[misc]
                -quality(run(make(_PositiveWavelets(weight)), steps, tuning)[-1], tuning)
            ),
            num_layers,
            priors=WEIGHTS[:9],
            starts=RATIOS[3:4],
        )
        for name, make in ((STEPS, ProximalGradient), (RELAXED, _Relaxed))
    }
    rivals: dict[str, tuple[Any, Sequence[float]]] = {
        name: (make(_PositiveWavelets(priors[name])), ones) for name, make in methods.items()
    }
    for name, make in ((STEPS, ProximalGradient), (RELAXED, _Relaxed)):
        found = best[name]
        rivals[name] = make(_PositiveWavelets(found.prior)), found.steps(num_layers).tolist()
    points = {name: run(*rival, sample) for name, rival in rivals.items()}
    ends = {name: run(*rival, others)[-1] for name, rival in rivals.items()}
    long_run = run(rivals[FISTA][0], [1.0] * (10 * num_layers), sample)
    schedules = {}
    for name in (EQUAL, LEARNED):
        task = network.tomography(num_layers=num_layers, **options)
        if name == LEARNED:
            theory = theory_start(task.network, tuning)
            points[THEORY] = layers(task.network, sample)
            ends[THEORY] = layers(task.network, others)[-1]
            schedules[THEORY] = task.network.schedule()
        given = dataclasses.replace(task, training=dataclasses.replace(task.training, start=None))
        with warnings.catch_warnings():
            # That equal steps stay nearly equal is what one of the two shows.
            warnings.simplefilter("ignore", TrainingWarning)
            run_of = trained(given, num_iterations=num_iterations, seed=seed, progress=progress)
        schedules[name] = run_of.schedule
        points[name], ends[name] = layers(task.network, sample), layers(task.network, others)[-1]
    rows = {name: [quality(x, sample) for x in seen] for name, seen in points.items()}
    longer = [quality(x, sample) for x in long_run]
    last = {name: row[-1] for name, row in rows.items()}
    means = {name: quality(image, others) for name, image in ends.items()}
    is_default = (num_layers, side, num_angles, noise) == (8, 64, 32, 0.01)
    is_trained = is_default and num_iterations >= 400
    return Outcome(
        title="Tomography in a few learned layers",
        summary=(
            f"After {num_layers} iterations the phantom of Shepp and Logan has a PSNR of "
            f"{last[FISTA]:.1f} dB with FISTA, {last[STEPS]:.1f} dB with Chebyshev steps and the "
            f"same prior, {last[THEORY]:.1f} dB with steps from theory and positivity alone, and "
            f"{last[LEARNED]:.1f} dB with steps and a convolutional prior learned from there; "
            f"learned from equal steps it has {last[EQUAL]:.1f} dB."
        ),
        sections=[
            Section(
                "Quality by iteration",
                (
                    f"{num_angles} directions of parallel beams through {side} × {side} pixels, "
                    f"with noise of {noise:g} of the data. Training sees random phantoms of "
                    "ellipses. A layer takes a gradient step, adds what a convolutional network "
                    "of three small convolutions, the same in all layers, makes of it, and cuts "
                    "off what is negative.",
                    "The rivals shrink wavelets of all shifts and cut off what is negative. Their "
                    "weight and their interval are the best on four other phantoms for the last "
                    "iteration: "
                    + ", ".join(f"{name} {weight:.2g}" for name, weight in priors.items())
                    + f"; Chebyshev steps {best[STEPS].prior:.2g} with {best[STEPS]}; Chebyshev "
                    f"relaxation {best[RELAXED].prior:.2g} with {best[RELAXED]}. Theory took "
                    f"{theory.num_passes:.0f} forward passes on the same four.",
                ),
                figure=Figure(
                    "quality_by_iteration",
                    "PSNR of the phantom of Shepp and Logan",
                    "PSNR in dB against iteration: FISTA and ISTA rise steadily; Chebyshev steps "
                    "and learned layers waver and end higher, those learned from theory highest.",
                    curves(
                        rows,
                        style="both",
                        emphasis=(LEARNED,),
                        roles={THEORY: "theory"},
                    ),
                    Axis("iteration (layer)"),
                    Axis("PSNR in dB"),
                    (Level(f"FISTA after {10 * num_layers}", longer[-1]),),
                ),
                table=Table(
                    (f"PSNR in dB after {num_layers}", "Shepp and Logan", "12 random phantoms"),
                    tuple((name, f"{last[name]:.2f}", f"{means[name]:.2f}") for name in last),
                ),
            ),
            Section(
                "The phantom",
                ("Densities from 0 to 0.5; the skull, of density 1, is cut off at white.",),
                figure=Pictures(
                    "phantom",
                    "The phantom of Shepp and Logan, restored and as it is",
                    "A head of ellipses six times: blurred by ISTA and less so by FISTA; sharper "
                    "by Chebyshev steps; with stripes by steps alone; clean by learned layers; "
                    "and the phantom.",
                    tuple(
                        Image.from_values(label, picture[0].numpy(), upper=0.5)
                        for label, picture in (
                            (ISTA, points[ISTA][-1]),
                            (FISTA, points[FISTA][-1]),
                            (STEPS, points[STEPS][-1]),
                            (THEORY, points[THEORY][-1]),
                            (LEARNED, points[LEARNED][-1]),
                            ("phantom", sample.target),
                        )
                    ),
                ),
            ),
            Section(
                "What was learned",
                (
                    "From theory the learned steps keep the pattern of Chebyshev's. Trained all "
                    "at once from equal steps they stay nearly equal; layer by layer, for as much "
                    "work, the prior would learn less.",
                ),
                figure=Figure(
                    "learned_steps",
                    "Step by layer",
                    "Step against layer on a logarithmic axis: those learned from theory "
                    "alternate between 1 and some far above, as theory's; those learned from "
                    "equal steps lie in a narrow band.",
                    curves(
                        {name: schedule.steps for name, schedule in schedules.items()},
                        np.arange(1, num_layers + 1),
                        style="both",
                        emphasis=(LEARNED,),
                        roles={THEORY: "chebyshev"},
                    ),
                    Axis("layer"),
                    Axis("step γ, in units of 1/λ_max", log=True),
                ),
            ),
        ],
        checks=[
            Check.at_least(
                "dB by which FISTA is ahead of ISTA at equal iterations",
                0,
                last[FISTA] - last[ISTA],
            ),
            Check.above(
                "dB by which learned layers are ahead of FISTA",
                3 if is_trained else 0,
                last[LEARNED] - last[FISTA],
            ),
        ]
        + (
            [
                Check.above(
                    "dB by which training from theory is ahead of training from equal steps",
                    0,
                    means[LEARNED] - means[EQUAL],
                    why="on 12 random phantoms",
                ),
                Check.above(
                    "dB by which Chebyshev steps are ahead of FISTA", 0, last[STEPS] - last[FISTA]
                ),
            ]
            if is_trained
            else []
        ),
        records={
            "schedules": schedules,
            "quality": {**rows, "random phantoms": means, "FISTA, longer": longer},
        },
    )


class _PositiveWavelets(Penalty):
    """Wavelets of all shifts, then positivity: one operator after the other, no proximal one."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def value(self, x: Any) -> Any:
        """Not known: the two operators together are those of no penalty."""
        raise NotImplementedError

    def prox(self, v: Any, step: Any) -> Any:
        """Shrink, then cut off."""
        from stepfold.unfolded.networks.mri import haar_shrink

        return haar_shrink(v, step * self.weight).clamp(min=0)


class _Relaxed(Stateless[Any]):
    """``x ← x + ω (prox(x − ∇f(x)) − x)``; the relaxation ω is what comes as the step."""

    def __init__(self, penalty: Penalty) -> None:
        self._penalty = penalty

    def step(self, problem: Any, state: Any, gamma: Any, gradient: Any = None) -> Any:  # noqa: ARG002
        """One relaxed step."""
        return state + gamma * (self._penalty.prox(problem.gradient_step(state, 1.0), 1.0) - state)
