"""Values from theory beside trained ones and FISTA, for every named network, at equal layers.

How much of what training gains over FISTA do a few forward passes gain, in which share of its time,
and how many mini-batches does a training need that starts there?
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves
from stepfold.lab.experiments._fista import PLAIN, fista_error, fista_outputs
from stepfold.lab.experiments._trainings import spread
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source

if TYPE_CHECKING:
    from stepfold.unfolded import Progress
    from stepfold.unfolded.networks import Task

SIZES: dict[str, dict[str, int]] = {
    "binary_least_squares": {"num_layers": 16, "num_unknowns": 60, "num_rows": 60},
    "box_least_squares": {"num_problems": 1000},
    "consensus": {},
    "deblurring": {},
    "du_ridge": {},
    "dugd": {},
    "learned_ista": {},
    "learned_sor": {},
    "lista": {},
    "logistic": {},
    "mri": {"num_layers": 8, "side": 32},
    "tista": {"num_unknowns": 200, "num_rows": 100, "batch_size": 200},
    "tomography": {"side": 32, "num_angles": 24},
    "tpg_detector": {"num_layers": 12, "num_sending": 20, "num_receiving": 14},
}
"""Settings by network, smaller than the published ones where those train for minutes."""
MOST_AGAIN = 600
"""Mini-batches of a training from theory."""
NUM_HELD_OUT = 6
SHOWN = "tomography"
"""The network of which both trainings are drawn."""
TARGET = 0.9


@dataclass(frozen=True)
class Comparison:
    """One network and one seed: errors in dB, seconds, counts."""

    fista: float
    theory: float
    trained: float
    again: float
    passes: float
    seconds: tuple[float, float]
    num_batches: int
    num_again: float
    curves: Mapping[str, FloatArray]

    @property
    def share(self) -> float:
        """What theory gains over FISTA, over what training gains."""
        return (self.fista - self.theory) / (self.fista - self.trained)


@experiment(
    "theory_start",
    source=Source(OWN, "values of all layers without training"),
    seconds=550,
    quick={"num_seeds": 1, "portion": 0.01},
)
def theory_start(
    *,
    num_seeds: Annotated[int, Between(1, 20)] = 3,
    portion: Annotated[float, Between(0.001, 1)] = 1.0,
) -> Outcome:
    """Steps, relaxations and thresholds from theory beside trained ones, for every network.

    Args:
        num_seeds: Trainings of each network.
        portion: Share of the networks' mini-batches that trainings take.
    """
    found = {name: [compared(name, seed, portion) for seed in range(num_seeds)] for name in SIZES}
    shares = {name: [each.share for each in rows] for name, rows in found.items()}
    medians = {name: float(np.median(values)) for name, values in shares.items()}
    reached = [name for name, share in medians.items() if share >= TARGET]
    short = [name for name in found if name not in reached]
    times = {
        name: float(np.median([each.seconds[0] / each.seconds[1] for each in rows]))
        for name, rows in found.items()
    }
    most_passes = max(each.passes for rows in found.values() for each in rows)
    ahead = [
        name
        for name, rows in found.items()
        if np.median([each.theory - each.fista for each in rows]) < 0
    ]
    batches = {
        name: float(np.median([each.num_again / each.num_batches for each in rows]))
        for name, rows in found.items()
    }
    places = np.arange(1, len(found) + 1)
    is_full = portion >= 1
    return Outcome(
        title="Networks without training",
        summary=(
            f"In at most {most_passes:.0f} forward passes theory gains at least 90 % of what "
            f"training gains over FISTA on {len(reached)} of {len(found)} networks "
            f"({', '.join(reached) or 'none'}), in {_percent(times)} "
            "of the time of training in the median. Training that starts there needs "
            f"{_percent(batches)} of the mini-batches to be as good, "
            "in the median."
        ),
        sections=[
            Section(
                "Errors after the last layer",
                (
                    "Every network is trained as published, or nearly so, from the values that "
                    "are its own start. FISTA has the plain prior that is nearest to the "
                    "network's, with a weight that is tuned on one mini-batch; theory looks at "
                    "the same mini-batch. Errors are what training minimises, on held-out "
                    f"mini-batches; medians of {num_seeds} seeds, with their range. "
                    "Where the loss knows its spectrum (consensus, dugd) theory takes the optimal "
                    "steps, and needs no pass.",
                    "Theory sets one number for the steps, and one for each layer and threshold, "
                    "slope or width; matrices and convolutions it leaves alone. Where what is "
                    "learned is more than that, or where values of many layers must be chosen "
                    "together, training stays ahead" + (f": {', '.join(short)}." if short else "."),
                ),
                figure=Figure(
                    "share_of_gain",
                    "Gain over FISTA as a share of what training gains",
                    "One point for each network: values from theory lie between FISTA at 0 and "
                    "training at 1, some above.",
                    curves(
                        {
                            "from theory, untrained": np.array(
                                [
                                    [shares[name][seed] for name in found]
                                    for seed in range(num_seeds)
                                ]
                            )
                        },
                        places,
                        style="points",
                        roles={"from theory, untrained": "chebyshev"},
                    ),
                    Axis("network, in the order of the table"),
                    Axis("share of the gain in dB"),
                    (Level("trained", 1.0), Level("target", TARGET), Level("FISTA", 0.0)),
                ),
                table=Table(
                    (
                        "network",
                        "FISTA, dB",
                        "from theory",
                        "trained",
                        "share of the gain",
                        "passes",
                        "time over training's",
                    ),
                    tuple(
                        (
                            name,
                            spread([each.fista for each in rows], 4),
                            spread([each.theory for each in rows], 4),
                            spread([each.trained for each in rows], 4),
                            spread(shares[name]),
                            spread([each.passes for each in rows], 3),
                            f"{100 * times[name]:.2g} %",
                        )
                        for name, rows in found.items()
                    ),
                ),
            ),
            Section(
                "Training from there",
                (
                    "Trained on from theory, all layers at once on the logarithm of the error, "
                    "with the network's own learning rate, which falls to a twentieth. Counted "
                    "are mini-batches until the error on held-out data is that of the published "
                    f"training, looked at every few; at most {MOST_AGAIN} are tried, and inf "
                    "means that these did not do. On quadratics of a known spectrum theory is "
                    "the optimum, and training on loses some of it.",
                ),
                figure=Figure(
                    "training_from_theory",
                    f"Two trainings: {SHOWN}",
                    "Error against mini-batches: the training from theory starts lower and is "
                    "soon where the other ends.",
                    curves(
                        {
                            label: np.array([each.curves[label][1] for each in found[SHOWN]])
                            for label in ("learned from its own start", "learned from theory")
                        },
                        found[SHOWN][0].curves["learned from theory"][0],
                        emphasis=("learned from theory",),
                    ),
                    Axis("mini-batches"),
                    Axis("held-out error in dB"),
                ),
                table=Table(
                    (
                        "network",
                        "mini-batches as published",
                        "from theory until as good",
                        "dB as published",
                        "dB from theory in the end",
                    ),
                    tuple(
                        (
                            name,
                            f"{rows[0].num_batches}",
                            spread([each.num_again for each in rows]),
                            spread([each.trained for each in rows], 4),
                            spread([each.again for each in rows], 4),
                        )
                        for name, rows in found.items()
                    ),
                ),
            ),
        ],
        checks=[
            Check("forward passes that theory takes, the most", "at most 20", most_passes, 0, 20),
            Check(
                "networks whose values from theory are ahead of FISTA",
                f"all {len(found)}",
                len(ahead),
                lower=len(found),
            ),
        ]
        + (
            [
                Check(
                    "networks on which theory gains 90 % of what training gains",
                    "at least 5",
                    len(reached),
                    lower=5,
                ),
                Check(
                    "time of theory over that of training, median of the networks",
                    "at most 0.01",
                    float(np.median(list(times.values()))),
                    0,
                    0.01,
                ),
            ]
            if is_full
            else []
        ),
        records={
            "comparisons": {
                name: [
                    {
                        key: value
                        for key, value in dataclasses.asdict(each).items()
                        if key not in ("curves", "num_again")
                    }
                    for each in rows
                ]
                for name, rows in found.items()
            }
        },
    )


def compared(name: str, seed: int, portion: float) -> Comparison:
    """Train a network twice, and set it from theory."""
    from stepfold.unfolded.networks import NETWORKS
    from stepfold.unfolded.theory import start_from_theory

    def made() -> Task:
        task = NETWORKS[name](**SIZES[name])
        count = max(2, round(portion * task.training.num_iterations))
        return dataclasses.replace(
            task, training=dataclasses.replace(task.training, num_iterations=count, seed=seed)
        )

    task = made()
    held_out = [_drawn(task, [2**32, seed, index]) for index in range(NUM_HELD_OUT)]
    num_stages = 1 if task.training.strategy == "all-at-once" else task.network.num_layers
    num_batches = num_stages * task.training.num_iterations
    began = time.perf_counter()
    first = _watched(task, held_out, num_batches)
    trained = first[1][-1]
    seconds = time.perf_counter() - began - first[2]
    task = made()
    began = time.perf_counter()
    found = start_from_theory(task.network, task.loss, seed=seed)
    of_theory = time.perf_counter() - began
    theory = _error(task, held_out)
    training = dataclasses.replace(
        task.training,
        strategy="all-at-once",
        num_iterations=max(2, round(portion * MOST_AGAIN)),
        final_learning_rate=task.training.learning_rate / 20,
        relative=True,
    )
    task = dataclasses.replace(task, training=training)
    second = _watched(task, held_out, training.num_iterations)
    enough = np.flatnonzero(second[1] <= trained)
    return Comparison(
        fista=_fista_error(task, name, seed, held_out),
        theory=theory,
        trained=trained,
        again=second[1][-1],
        passes=0.0 if found is None else found.num_passes,
        seconds=(of_theory, seconds),
        num_batches=num_batches,
        num_again=float(second[0][enough[0]]) if len(enough) else np.inf,
        curves={
            "learned from its own start": _on(second[0], first),
            "learned from theory": np.array([second[0], second[1]]),
        },
    )


def _on(places: FloatArray, run: tuple[FloatArray, FloatArray, float]) -> FloatArray:
    """Errors of a run at other counts of mini-batches; its last one beyond its end."""
    return np.array([places, np.interp(places, run[0], run[1])])


def _watched(task: Task, held_out: Any, num_batches: int) -> tuple[FloatArray, FloatArray, float]:
    """Train; mini-batches, errors in dB at full depth, and the seconds that looking took."""
    every = max(1, num_batches // 60)
    counts, errors, spent = [0.0], [_error(task, held_out)], 0.0

    def watch(now: Progress) -> None:
        nonlocal spent
        if now.done % every and now.done != now.total:
            return
        began = time.perf_counter()
        counts.append(float(now.done))
        errors.append(_error(task, held_out))
        spent += time.perf_counter() - began

    task.train(callback=watch)
    return np.array(counts), np.array(errors), spent


def _drawn(task: Task, seed: list[int]) -> Any:
    """A mini-batch; None where the loss is exact."""
    from stepfold.unfolded import Sample

    sampler: Any = getattr(task.loss, "sampler", None)
    return None if sampler is None else Sample(*sampler(np.random.default_rng(seed)))


def _error(task: Task, held_out: Any) -> float:
    """Error of the network in dB."""
    import torch

    loss: Any = task.loss
    if held_out[0] is None:
        return _decibels([loss.mean_squared_error(task.network.schedule())])
    with torch.no_grad():
        starts = (
            torch.zeros_like(batch.target) if batch.start is None else batch.start
            for batch in held_out
        )
        return _decibels(
            [
                float(loss.criterion(task.network(batch.data, start), batch))
                for batch, start in zip(held_out, starts, strict=True)
            ]
        )


def _fista_error(task: Task, name: str, seed: int, held_out: Any) -> float:
    loss: Any = task.loss
    if name not in PLAIN:
        return _decibels([fista_error(loss.measure, task.network.num_layers)])
    tuning = _drawn(task, [seed, 2**32 + 1])
    outputs, _ = fista_outputs(task, name, tuning, held_out)
    return _decibels(
        [float(loss.criterion(x, batch)) for x, batch in zip(outputs, held_out, strict=True)]
    )


def _percent(shares: Mapping[str, float]) -> str:
    """The median in per cent, to two digits."""
    return f"{float(f'{100 * np.median(list(shares.values())):.2g}'):g} %"


def _decibels(errors: list[float]) -> float:
    return float(10 * np.log10(np.mean(errors)))
