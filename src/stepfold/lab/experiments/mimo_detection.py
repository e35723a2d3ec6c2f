"""Overloaded MIMO detection: bit error rates of the trained detector against linear ones.

Takabe, Imanishi, Wadayama and Hayashi, Deep Learning-Aided Projected Gradient Detector for Massive
Overloaded MIMO Channels (arXiv:1806.10827).
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS as ENDS
from stepfold.lab.experiments._rivals import ChebyshevRival, tuned_chebyshev
from stepfold.lab.experiments._unfolded import MiniBatches, layers, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OVERLOADED_MIMO, Source
from stepfold.schedules import Schedule

CHEBYSHEV = "projected gradients, Chebyshev steps"
WIDTHS = (0.1, 0.2, 0.3, 0.45, 0.7, 1.0)
RIDGES = (0.05, 0.1, 0.2, 0.4)
"""Widths and ridge terms that are tried with Chebyshev steps."""
NUM_TUNING = 3
"""Channels on which they are tried."""
RATIOS = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0)


@experiment(
    "mimo_detection",
    source=Source(OVERLOADED_MIMO, "bit error rate against the signal-to-noise ratio"),
    seconds=90,
    quick={
        "num_layers": 5,
        "num_sending": 20,
        "num_receiving": 14,
        "num_iterations": 20,
        "num_channels": 20,
    },
)
def mimo_detection(
    *,
    num_layers: Annotated[int, Between(1, 64)] = 16,
    num_sending: Annotated[int, Between(2, 500)] = 50,
    num_receiving: Annotated[int, Between(1, 500)] = 32,
    num_iterations: MiniBatches = 100,
    batch_size: Annotated[int, Between(1, 100_000)] = 200,
    num_channels: Annotated[int, Between(1, 10_000)] = 100,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Bit errors of projected gradients with trained steps in overloaded MIMO channels.

    Args:
        num_layers: T, the number of layers.
        num_sending: Antennas that send.
        num_receiving: Antennas that receive, at most as many.
        num_iterations: Mini-batches per stage, each through a channel of its own.
        batch_size: Receptions in a mini-batch.
        num_channels: Channels on which errors are counted.
        seed: Seed of the training data.
    """
    from stepfold.unfolded.networks.mimo import OverloadedMimo, error_rates, tpg_detector

    task = tpg_detector(
        num_layers=num_layers,
        num_sending=num_sending,
        num_receiving=num_receiving,
        snr=20.0,
        batch_size=batch_size,
    )
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    rates = [
        error_rates(
            task.network,
            OverloadedMimo(num_sending, num_receiving, snr=snr),
            num_channels=num_channels,
        )
        for snr in RATIOS
    ]
    best = _tuned(num_layers, OverloadedMimo(num_sending, num_receiving, snr=20.0, batch_size=100))
    known = _detector(best.steps(num_layers), best.prior)
    rows = {name: np.array([rate[name] for rate in rates]) for name in rates[0]}
    rows[CHEBYSHEV] = np.array(
        [
            error_rates(
                known,
                OverloadedMimo(num_sending, num_receiving, snr=snr),
                num_channels=num_channels,
            )["TPG detector"]
            for snr in RATIOS
        ]
    )
    ours, linear = rows["TPG detector"], rows["linear MMSE"]
    at = RATIOS.index(20.0)
    return Outcome(
        title="More antennas sending than receiving",
        summary=(
            f"{num_sending} antennas send and {num_receiving} receive. At 20 dB the detector with "
            f"{2 * num_layers + 1} trained numbers has a bit error rate of {ours[at]:.2g}, the "
            f"same with Chebyshev steps and nothing trained {rows[CHEBYSHEV][at]:.2g}, the linear "
            f"MMSE detector {linear[at]:.2g}, zero forcing "
            f"{rows['zero forcing'][at]:.2g}."
        ),
        sections=[
            Section(
                "Bit error rate",
                (
                    "The system has fewer equations than unknowns, so linear detectors, zero "
                    "forcing and MMSE, cannot separate the symbols however low the noise is. That "
                    "entries are −1 or 1 is what helps: each layer takes a step towards the data "
                    "and presses entries towards −1 and 1 by a hyperbolic tangent.",
                    "The detector was trained once, at 20 dB, on a new channel in every "
                    "mini-batch, and is used here at all signal-to-noise ratios on channels that "
                    "it has not seen. It does not know the noise; the MMSE detector does.",
                    "The same layers with Chebyshev steps have one width and one ridge term for "
                    "all; these two, the interval, the period and the order are the best on a few "
                    f"other channels at 20 dB: width {best.prior[0]:.2g}, ridge term "
                    f"{best.prior[1]:.2g}, {best}.",
                ),
                figure=Figure(
                    "bit_error_rate",
                    "Bit error rate against signal-to-noise ratio",
                    "Bit error rate against SNR. Linear detectors stay near one in ten; the "
                    "trained one falls by orders of magnitude.",
                    curves(rows, np.array(RATIOS), style="both", emphasis=("TPG detector",)),
                    Axis("signal-to-noise ratio in dB"),
                    Axis("bit error rate", log=True),
                ),
                table=Table(
                    ("bit error rate at", *(f"{snr:g} dB" for snr in RATIOS)),
                    tuple((name, *(f"{rate:.2g}" for rate in row)) for name, row in rows.items()),
                ),
            ),
            Section(
                "What was learned",
                (
                    "Steps of the layers, and the widths of their hyperbolic tangents: the smaller "
                    "a width the harder the decision.",
                ),
                figure=_parameter_figure(run.schedule.steps, task.network.learned()["softness"]),
            ),
        ],
        checks=[
            Check.below(
                "bit error rate at 20 dB over that of linear MMSE",
                0.2 if num_layers >= 16 else 0.7,
                ours[at] / linear[at],
            ),
            Check.at_least(
                "bit error rate of zero forcing over linear MMSE, smallest over SNR",
                0.98,
                (rows["zero forcing"] / linear).min(),
                why="MMSE is not worse but for the draw",
            ),
            Check.below(
                "largest change of the detector's rate from 10 to 20 dB in steps of 5",
                0,
                np.diff(ours[1 : at + 1]).max(),
                why="it falls",
            ),
        ],
        parameters={"SNR in training, dB": 20.0},
        records={
            "schedules/learned": run.schedule,
            "bit_error_rates": {
                "SNR in dB": list(RATIOS),
                **rows,
            },
        },
    )


def _detector(steps: Any, prior: tuple[float, float]) -> Any:
    """The detector with known steps, and one width and one ridge term for all layers."""
    import torch

    from stepfold.unfolded import UnfoldedIteration
    from stepfold.unfolded.networks.mimo import detector_layer

    width, ridge = prior
    return UnfoldedIteration(
        Schedule(steps),
        iteration=detector_layer,
        parameters={"softness": width, "ridge": ridge},
        dtype=torch.float32,
    )


def _tuned(num_layers: int, sampler: Any) -> ChebyshevRival:
    """Chebyshev steps, width and ridge term of the smallest squared error on a few channels."""
    rng = np.random.default_rng([2**32, 3])
    samples = [sampler(rng) for _ in range(NUM_TUNING)]

    def cost(steps: Any, prior: tuple[float, float]) -> float:
        network = _detector(steps, prior)
        points = [layers(network, sample)[-1] - sample.target for sample in samples]
        return float(np.mean([float((point**2).mean()) for point in points]))

    priors = tuple(itertools.product(WIDTHS, RIDGES))
    return tuned_chebyshev(cost, num_layers, priors=priors, starts=ENDS[4:5])


def _parameter_figure(steps: Any, softness: Any) -> Figure:
    numbers = np.arange(1, len(steps) + 1)
    return Figure(
        "learned_parameters",
        "Learned steps and widths",
        "Steps zig-zag between about 1 and several; widths fall with the layer.",
        (
            Curve("step γ", numbers, steps, style="both", emphasis=True, role="learned"),
            Curve("width θ", numbers, softness, style="both", role="learned"),
        ),
        Axis("layer"),
        Axis("value", log=True),
    )
