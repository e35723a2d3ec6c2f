"""Learned ISTA and LISTA against ISTA and FISTA, at equal iterations.

Gregor and LeCun, Learning fast approximations of sparse coding (ICML 2010).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._unfolded import MiniBatches, layers, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.tista import rivals
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between


@experiment("learned_ista", seconds=60, quick={"num_layers": 5, "num_iterations": 20})
def learned_ista(
    *,
    num_layers: Annotated[int, Between(1, 64)] = 16,
    num_iterations: MiniBatches = 200,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Steps and thresholds learned for ISTA, with and without its matrices (LISTA).

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches per stage.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded.networks import learned_ista as networks
    from stepfold.unfolded.networks.sparse_signals import SparseSignals, normalised_error

    signals = SparseSignals(128, 64, density=0.05, snr=28.0, batch_size=2000)
    sample = signals(np.random.default_rng([2**32, 0]))
    tuning = SparseSignals(128, 64, density=0.05, snr=28.0, batch_size=500)(
        np.random.default_rng([2**32, 1])
    )
    rows = {}
    thresholds = {}
    for name, task in (
        ("steps and thresholds learned", networks.learned_ista(num_layers=num_layers)),
        ("matrices learned, too (LISTA)", networks.lista(num_layers=num_layers)),
    ):
        trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
        outputs = layers(task.network, sample)
        rows[name] = [normalised_error(output, sample.target) for output in outputs]
        thresholds[name] = task.network.learned()["threshold"]
    learned = list(rows)
    rows |= rivals(signals, sample, tuning, num_layers)
    best_rival = min(values[-1] for name, values in rows.items() if name not in learned)
    num_steps, num_lista = (rows[name][-1] for name in learned)
    return Outcome(
        title="Learning ISTA: steps and thresholds, or matrices as well",
        summary=(
            f"After {num_layers} layers ISTA with learned steps and thresholds, "
            f"{2 * num_layers} numbers, has a normalised mean squared error of {num_steps:.2f} dB, "
            f"LISTA, with its matrices learned as well, {num_lista:.2f} dB; the better of ISTA and "
            f"FISTA, with the penalty that suits it best, {best_rival:.2f} dB."
        ),
        sections=[
            Section(
                "Error by layer",
                (
                    "Signals of 128 entries, one in twenty not 0, are seen through 64 random "
                    "products at 28 dB. All methods take one product with A and one with its "
                    "transpose (LISTA: with matrices of the same kind) in an iteration. ISTA and "
                    "FISTA have the weight of their penalty chosen for the last iteration. Errors "
                    "are those of 2000 signals that training does not see.",
                ),
                figure=Figure(
                    "error_by_layer",
                    "Normalised mean squared error by layer",
                    "Error in dB against layer. Both learned networks end far below ISTA and "
                    "FISTA.",
                    curves(rows, style="both", emphasis=learned),
                    Axis("layer (iteration)"),
                    Axis("normalised mean squared error in dB"),
                ),
                table=Table(
                    ("method", f"NMSE in dB after {num_layers}"),
                    tuple((name, f"{values[-1]:.2f}") for name, values in rows.items()),
                ),
            ),
            Section(
                "Thresholds",
                (
                    "Over the network thresholds fall, by up to two orders: they cut off the "
                    "errors of the entries that are 0, and these fall. One threshold for all "
                    "layers, as ISTA has it, is too low at first and too high in the end.",
                ),
                figure=Figure(
                    "thresholds",
                    "Learned thresholds",
                    "Thresholds against layer: they go up and down, and fall in the large.",
                    curves(thresholds, np.arange(1, num_layers + 1), style="both"),
                    Axis("layer"),
                    Axis("threshold", log=True, floor=1e-3),
                ),
            ),
        ],
        checks=[
            Check(
                "dB by which learned steps and thresholds are ahead of ISTA and FISTA",
                "above 1",
                best_rival - num_steps,
                lower=1,
            ),
            Check(
                "dB by which LISTA is ahead of ISTA and FISTA",
                "above 1",
                best_rival - num_lista,
                lower=1,
            ),
        ],
        parameters={"unknowns": 128, "rows": 64},
        records={
            "errors": {name: [float(value) for value in values] for name, values in rows.items()}
        },
    )
