"""TISTA: learned steps and posterior means against ISTA and FISTA, at equal iterations.

What the posterior mean gains and what the learned steps gain are told apart: TISTA with one step
and with Chebyshev steps, and ISTA with Chebyshev steps, have their few numbers tuned on other data.

Ito, Takabe and Wadayama, Trainable ISTA for Sparse Signal Recovery (arXiv:1801.01978), on the
setting with Gaussian matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.iterations import Fista, ProximalGradient
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import Rival, tuned_chebyshev
from stepfold.lab.experiments._unfolded import MiniBatches, iterates, layers, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import TRAINABLE_ISTA, Source
from stepfold.problems.penalties import L1
from stepfold.schedules import Schedule

if TYPE_CHECKING:
    from stepfold.unfolded.networks.sparse_signals import SparseSignals

CONSTANTS = tuple(float(step) for step in np.linspace(0.5, 3, 26))
WEIGHTS = tuple(float(weight) for weight in np.geomspace(1e-3, 1, 16))


def rivals(
    signals: SparseSignals, sample: Any, tuning: Any, num_iterations: int
) -> dict[str, Rival]:
    """Errors of ISTA, FISTA and ISTA with Chebyshev steps by iteration, in dB.

    Each has what suits it best after the last iteration: the weight of its penalty, and the
    interval, the period and the order of the Chebyshev steps.

    Args:
        signals: Where the samples come from.
        sample: Where errors are measured.
        tuning: Where the numbers are chosen.
        num_iterations: Iterations.
    """
    from stepfold.unfolded.networks.sparse_signals import lipschitz_constant, normalised_error

    def errors(kind: Any, weight: float, gammas: Any, batch: Any) -> list[float]:
        points = iterates(kind(L1(weight)), batch.data, 0 * batch.target, gammas)
        return [normalised_error(point, batch.target) for point in points]

    largest = lipschitz_constant(signals.matrix)
    short = [1 / largest] * num_iterations
    found = {}
    for name, kind in (("ISTA", ProximalGradient), ("FISTA", Fista)):
        weight = min(WEIGHTS, key=lambda w, kind=kind: errors(kind, w, short, tuning)[-1])  # type: ignore[misc]
        found[name] = Rival(errors(kind, weight, short, sample), f"weight {weight:.2g}")
    best = tuned_chebyshev(
        lambda gammas, weight: errors(ProximalGradient, weight, gammas, tuning)[-1],
        num_iterations,
        largest=largest,
        priors=WEIGHTS,
    )
    found["ISTA, Chebyshev steps"] = Rival(
        errors(ProximalGradient, best.prior, best.steps(num_iterations), sample),
        f"weight {best.prior:.2g}, {best}",
    )
    return found


def tista_rivals(signals: SparseSignals, sample: Any, tuning: Any, num_layers: int) -> Any:
    """Errors of TISTA by layer, in dB, with one step for all and with Chebyshev steps.

    Args:
        signals: Where the samples come from.
        sample: Where errors are measured.
        tuning: Where the step, or the interval, the period and the order, are chosen.
        num_layers: T, the number of layers.
    """
    from stepfold.unfolded import UnfoldedIteration
    from stepfold.unfolded.networks.sparse_signals import normalised_error
    from stepfold.unfolded.networks.tista import TistaStep

    layer = TistaStep(signals)

    def errors(steps: Any, batch: Any) -> list[float]:
        schedule = Schedule(np.resize(steps, num_layers))
        network = UnfoldedIteration(schedule, iteration=layer, dtype=batch.target.dtype)
        return [normalised_error(output, batch.target) for output in layers(network, batch)]

    constant = min(CONSTANTS, key=lambda step: errors(step, tuning)[-1])
    best = tuned_chebyshev(lambda steps, _: errors(steps, tuning)[-1], num_layers)
    return {
        "TISTA, best constant step": Rival(errors(constant, sample), f"step {constant:.2g}"),
        "TISTA, Chebyshev steps": Rival(errors(best.steps(num_layers), sample), str(best)),
    }


def known_support_error(signals: SparseSignals, sample: Any, *, num_signals: int = 100) -> float:
    """Error in dB of the posterior mean where it is known which entries are not 0."""
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
    source=Source(TRAINABLE_ISTA, "Gaussian matrices at 40 dB"),
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
    sample = unseen(signals, 0)
    tuning = unseen(SparseSignals(num_unknowns, num_rows, batch_size=200), 1)

    def errors() -> FloatArray:
        outputs = layers(task.network, sample)
        return np.array([normalised_error(output, sample.target) for output in outputs])

    untrained = errors()
    run = trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
    learned = errors()
    with_mean = tista_rivals(signals, sample, tuning, num_layers)
    with_threshold = rivals(signals, sample, tuning, num_layers)
    rows = {
        "TISTA, learned steps": Rival(learned.tolist(), f"{num_layers} steps trained"),
        "TISTA, steps 1": Rival(untrained.tolist(), "nothing"),
        **with_mean,
        **with_threshold,
    }
    bound = known_support_error(signals, sample)
    rival_errors = np.array([rival.errors for rival in with_threshold.values()])
    best_rival = float(rival_errors[:, -1].min())
    final = {name: rival.errors[-1] for name, rival in rows.items()}
    chebyshev = final["TISTA, Chebyshev steps"]
    published = (num_layers, num_unknowns, num_rows) == (12, 500, 250) and num_iterations >= 200
    return Outcome(
        title="Sparse signals in a dozen layers",
        summary=(
            f"After {num_layers} layers TISTA's normalised mean squared error is "
            f"{learned[-1]:.2f} dB with learned steps, {chebyshev:.2f} dB with Chebyshev steps and "
            f"{final['TISTA, best constant step']:.2f} dB with one step, both tuned. ISTA with "
            f"Chebyshev steps is at {final['ISTA, Chebyshev steps']:.2f} dB, FISTA at "
            f"{final['FISTA']:.2f} dB. If it were known which entries are not 0, the error would "
            f"be {bound:.2f} dB."
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
                    "neither training nor tuning sees.",
                    "Two questions are told apart. What does the prior gain? ISTA with Chebyshev "
                    "steps has the theory's steps and a threshold, TISTA with Chebyshev steps the "
                    "same kind of steps and the posterior mean. What does training gain? TISTA "
                    "with Chebyshev steps has two numbers of an interval, a period and an order, "
                    "the best on 200 other signals; learned steps have a number for each layer.",
                ),
                figure=Figure(
                    "error_by_layer",
                    "Normalised mean squared error by layer",
                    "Error in dB against layer. TISTA with learned and with Chebyshev steps falls "
                    "far below ISTA and FISTA, close to the level of known support.",
                    curves(
                        {name: rival.errors for name, rival in rows.items()},
                        style="both",
                        emphasis=("TISTA, learned steps",),
                    ),
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
                figure=Figure(
                    "learned_steps",
                    "Learned steps in the order of the layers",
                    "Step size against layer: short and long steps alternate.",
                    curves(
                        {"learned": run.schedule.steps},
                        np.arange(1, num_layers + 1),
                        style="both",
                        emphasis=("learned",),
                    ),
                    Axis("layer"),
                    Axis("step size γ"),
                    (Level("before training", 1.0),),
                ),
            ),
        ],
        checks=[
            *(
                [
                    Check.below("NMSE of TISTA after 12 layers in dB", -35, learned[-1]),
                    Check(
                        "dB by which learned steps are ahead of tuned Chebyshev steps",
                        "between −1 and 1.5: two numbers of an interval do nearly all of it",
                        chebyshev - learned[-1],
                        -1,
                        1.5,
                    ),
                    Check.above(
                        "dB by which TISTA is ahead of ISTA and FISTA, smallest over layers",
                        1,
                        (rival_errors - learned)[:, 1:].min(),
                    ),
                ]
                if published
                else []
            ),
            Check.above(
                "dB by which TISTA is ahead of ISTA and FISTA at the end",
                3,
                best_rival - learned[-1],
            ),
            Check.above(
                "dB by which learned steps are ahead of steps 1", 1, untrained[-1] - learned[-1]
            ),
            Check.at_least(
                "dB by which TISTA is above the error with known support",
                -0.5,
                learned[-1] - bound,
                why="that is a bound, up to the draw",
            ),
        ],
        parameters={"learning rate": 0.04},
        records={
            "schedules/learned": run.schedule,
            "errors": {name: rival.errors for name, rival in rows.items()},
        },
    )


def _table(rows: dict[str, Rival], num_layers: int) -> Table:
    shown = sorted({1, num_layers // 4, num_layers // 2, 3 * num_layers // 4, num_layers} - {0})
    return Table(
        ("NMSE in dB after", *(str(layer) for layer in shown), "chosen on other signals"),
        tuple(
            (name, *(f"{rival.errors[k]:.2f}" for k in shown), rival.tuned)
            for name, rival in rows.items()
        ),
    )
