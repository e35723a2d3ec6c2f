"""Learned ISTA and LISTA against ISTA and FISTA, at equal iterations.

Gregor and LeCun, Learning fast approximations of sparse coding (ICML 2010).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._unfolded import MiniBatches, layers, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.tista import rivals
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import SPARSE_CODING, Source


@experiment(
    "learned_ista",
    source=Source(SPARSE_CODING, "learned ISTA beside ISTA and FISTA"),
    seconds=60,
    quick={"num_layers": 5, "num_iterations": 20},
)
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
    """
    from stepfold.unfolded.networks import learned_ista as networks
    from stepfold.unfolded.networks.sparse_signals import SparseSignals, normalised_error

    signals = SparseSignals(128, 64, density=0.05, snr=28.0, batch_size=2000)
    sample = unseen(signals, 0)
    tuning = unseen(SparseSignals(128, 64, density=0.05, snr=28.0, batch_size=500), 1)
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
    found = rivals(signals, sample, tuning, num_layers)
    tuned = {name: rival.tuned for name, rival in found.items()}
    rows |= {name: list(rival.errors) for name, rival in found.items()}
    best_rival = min(rows[name][-1] for name in found)
    chebyshev = rows["ISTA, Chebyshev steps"][-1]
    num_steps, num_lista = (rows[name][-1] for name in learned)
    return Outcome(
        title="Learning ISTA: steps and thresholds, or matrices as well",
        summary=(
            f"After {num_layers} layers ISTA with learned steps and thresholds, "
            f"{2 * num_layers} numbers, has a normalised mean squared error of {num_steps:.2f} dB, "
            f"LISTA, with its matrices learned as well, {num_lista:.2f} dB. Nothing learned: ISTA "
            f"with Chebyshev steps is at {chebyshev:.2f} dB, FISTA at {rows['FISTA'][-1]:.2f} dB, "
            f"ISTA at {rows['ISTA'][-1]:.2f} dB, each with its numbers tuned on other signals."
        ),
        sections=[
            Section(
                "Error by layer",
                (
                    "Signals of 128 entries, one in twenty not 0, are seen through 64 random "
                    "products at 28 dB. All methods take one product with A and one with its "
                    "transpose (LISTA: with matrices of the same kind) in an iteration. ISTA and "
                    "FISTA have the weight of their penalty chosen for the last iteration, and "
                    "ISTA with Chebyshev steps the interval, the period and the order of its steps "
                    "as well. Errors are those of 2000 signals that neither training nor tuning "
                    "sees.",
                ),
                figure=Figure(
                    "error_by_layer",
                    "Normalised mean squared error by layer",
                    "Error in dB against layer. Both learned networks end far below ISTA with "
                    "Chebyshev steps, which ends below FISTA.",
                    curves(rows, style="both", emphasis=learned),
                    Axis("layer (iteration)"),
                    Axis("normalised mean squared error in dB"),
                ),
                table=Table(
                    ("method", f"NMSE in dB after {num_layers}", "chosen on other signals"),
                    tuple(
                        (name, f"{values[-1]:.2f}", tuned.get(name, "trained"))
                        for name, values in rows.items()
                    ),
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
            Check.above(
                "dB by which ISTA with Chebyshev steps is ahead of FISTA",
                1,
                rows["FISTA"][-1] - chebyshev,
                why="known steps need no momentum",
            ),
            *(
                [
                    Check.above(
                        "dB by which learned steps and thresholds are ahead of the best rival",
                        1,
                        best_rival - num_steps,
                    ),
                    Check.above(
                        "dB by which LISTA is ahead of the best rival", 1, best_rival - num_lista
                    ),
                ]
                if num_layers >= 16 and num_iterations >= 200
                else []
            ),
        ],
        parameters={"unknowns": 128, "rows": 64},
        records={"errors": rows},
    )
