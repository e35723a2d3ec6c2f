"""TISTA: learned steps and posterior means against ISTA and FISTA, at equal iterations.

Ito, Takabe and Wadayama, Trainable ISTA for Sparse Signal Recovery (arXiv:1801.01978), on the
setting with Gaussian matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.iterations import Fista, ProximalGradient
from stepfold.lab.experiments._figures import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._unfolded import MiniBatches, best_weight, iterates, layers, trained
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.problems.penalties import L1
from stepfold.schedules import Schedule

if TYPE_CHECKING:
    from stepfold.unfolded.networks.sparse_signals import SparseSignals

WEIGHTS = tuple(float(weight) for weight in np.geomspace(1e-3, 1, 16))


def rivals(signals: SparseSignals, sample: Any, tuning: Any, num_iterations: int) -> dict[str, Any]:
    """Errors of ISTA and FISTA by iteration, in dB, each with the penalty that suits it best.

    Args:
        signals: Where the samples come from.
        sample: Where errors are measured.
        tuning: Where the weight of the penalty is chosen, for the last iteration.
        num_iterations: Iterations.
    """
    from stepfold.unfolded.networks.sparse_signals import lipschitz_constant, normalised_error

    gammas = [1 / lipschitz_constant(signals.matrix)] * num_iterations
    found = {}
    for name, kind in (("ISTA", ProximalGradient), ("FISTA", Fista)):

        def errors(weight: float, batch: Any, kind: Any = kind) -> list[float]:
            start = 0 * batch.target
            points = iterates(kind(L1(weight)), batch.data, start, gammas)
            return [normalised_error(point, batch.target) for point in points]

        weight = best_weight(WEIGHTS, lambda weight, errors=errors: errors(weight, tuning)[-1])  # type: ignore[misc]
        found[f"{name}, weight {weight:.2g}"] = errors(weight, sample)
    return found


def known_support_error(signals: SparseSignals, sample: Any, *, num_signals: int = 100) -> float:
    """Error in dB of the posterior mean for somebody who knows which entries are not 0."""
    matrix = signals.matrix.double().numpy()
    errors = powers = 0.0
    for target, seen in zip(
        sample.target.double().numpy()[:num_signals],
        sample.data.rhs.double().numpy()[:num_signals],
        strict=True,
    ):
        columns = matrix[:, target != 0]
        gram = columns.T @ columns + signals.noise_variance * np.eye(columns.shape[1])
        values = np.linalg.solve(gram, columns.T @ seen)
        errors += float(((values - target[target != 0]) ** 2).sum())
        powers += float((target**2).sum())
    return float(10 * np.log10(errors / powers))


@experiment(
    "tista",
    seconds=330,
    quick={
        "num_layers": 6,
        "num_unknowns": 200,
        "num_rows": 100,
        "num_iterations": 12,
        "batch_size": 100,
    },
)
def tista(
    *,
    num_layers: Annotated[int, Between(1, 32)] = 12,
    num_unknowns: Annotated[int, Between(2, 5000)] = 500,
    num_rows: Annotated[int, Between(1, 5000)] = 250,
    num_iterations: MiniBatches = 200,
    batch_size: Annotated[int, Between(1, 100_000)] = 1000,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Trainable ISTA recovers sparse signals in a dozen layers; ISTA and FISTA need hundreds.

    Args:
        num_layers: T, the number of layers.
        num_unknowns: n, entries of a signal.
        num_rows: m, products seen of it, at most n.
        num_iterations: Mini-batches per stage.
        batch_size: Signals in a mini-batch.
        seed: Seed of the training data.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded.networks.sparse_signals import SparseSignals, normalised_error
    from stepfold.unfolded.networks.tista import tista as build

    task = build(
        num_layers=num_layers,
        num_unknowns=num_unknowns,
        num_rows=num_rows,
        batch_size=batch_size,
    )
    signals = SparseSignals(num_unknowns, num_rows, batch_size=1000)
    sample = signals(np.random.default_rng([2**32, 0]))
    tuning = SparseSignals(num_unknowns, num_rows, batch_size=200)(
        np.random.default_rng([2**32, 1])
    )

    def errors() -> FloatArray:
        outputs = layers(task.network, sample)
        return np.array([normalised_error(output, sample.target) for output in outputs])

    untrained = errors()
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    learned = errors()
    rows = {
        "TISTA, learned steps": learned,
        "TISTA, steps 1": untrained,
        **rivals(signals, sample, tuning, num_layers),
    }
    bound = known_support_error(signals, sample)
    rival_errors = np.array([values for name, values in rows.items() if "TISTA" not in name])
    best_rival = float(rival_errors[:, -1].min())
    published = (num_layers, num_unknowns, num_rows) == (12, 500, 250) and num_iterations >= 200
    return Outcome(
        title="Sparse signals in a dozen layers",
        summary=(
            f"After {num_layers} layers TISTA's normalised mean squared error is "
            f"{learned[-1]:.2f} dB; the better of ISTA and FISTA, with the penalty that suits it "
            f"best, is at {best_rival:.2f} dB after as many iterations. Somebody who knew which "
            f"entries are not 0 would reach {bound:.2f} dB."
        ),
        sections=[
            Section(
                "Error by layer",
                (
                    f"Signals of {num_unknowns} entries, a tenth of them not 0, are seen through "
                    f"{num_rows} random products at 40 dB. ISTA and FISTA shrink every entry by a "
                    "threshold; TISTA replaces it by its mean given what is seen, which needs the "
                    "variance of the error, and estimates that from the residual. Its only trained "
                    f"numbers are {num_layers} steps. Errors are those of 1000 signals that "
                    "training does not see.",
                ),
                figure=Figure(
                    "error_by_layer",
                    "Normalised mean squared error by layer",
                    "Error in dB against layer. TISTA with learned steps falls far below ISTA and "
                    "FISTA, close to the level of known support.",
                    curves(rows, style="both", emphasis=("TISTA, learned steps",)),
                    Axis("layer (iteration)"),
                    Axis("normalised mean squared error in dB"),
                    (Level("support known", bound),),
                ),
                table=_table(rows, num_layers),
            ),
            Section(
                "The steps",
                (
                    "Small and large steps take turns, as in learned gradient descent. The linear "
                    "part of a layer multiplies the error in the row space of A by 1 − γ, and "
                    "leaves the rest alone.",
                ),
                figure=_step_figure(run.schedule),
            ),
        ],
        checks=[
            *(
                [
                    Check(
                        "NMSE of TISTA after 12 layers in dB", "below −35", learned[-1], upper=-35
                    ),
                    Check(
                        "dB by which TISTA is ahead of ISTA and FISTA, smallest over layers",
                        "above 1",
                        float((rival_errors - learned)[:, 1:].min()),
                        lower=1,
                    ),
                ]
                if published
                else []
            ),
            Check(
                "dB by which TISTA is ahead of ISTA and FISTA at the end",
                "above 3",
                best_rival - learned[-1],
                lower=3,
            ),
            Check(
                "dB by which learned steps are ahead of steps 1",
                "above 1",
                untrained[-1] - learned[-1],
                lower=1,
            ),
            Check(
                "dB by which TISTA is above the error with known support",
                "not below −0.5: that is a bound, up to the draw",
                learned[-1] - bound,
                lower=-0.5,
            ),
        ],
        parameters={"learning rate": 0.04},
        records={
            "schedules/learned": run.schedule.to_dict(),
            "errors": {name: [float(value) for value in values] for name, values in rows.items()},
        },
    )


def _step_figure(schedule: Schedule) -> Figure:
    numbers = np.arange(1, schedule.period + 1)
    return Figure(
        "learned_steps",
        "Learned steps in the order of the layers",
        "Step size against layer: short and long steps alternate.",
        (Curve("learned", numbers, schedule.steps, style="both", emphasis=True),),
        Axis("layer"),
        Axis("step size γ"),
        (Level("before training", 1.0),),
    )


def _table(rows: dict[str, Any], num_layers: int) -> Table:
    shown = sorted({1, num_layers // 4, num_layers // 2, 3 * num_layers // 4, num_layers} - {0})
    return Table(
        ("NMSE in dB after", *(str(layer) for layer in shown)),
        tuple((name, *(f"{values[k]:.2f}" for k in shown)) for name, values in rows.items()),
    )
