"""What is found for one network and one seed: errors, times and counts of mini-batches."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.experiments.theory_start.fista import PLAIN, fista_error, fista_outputs

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
FROM_EQUAL = {"mri": "incremental", "tomography": "all-at-once"}
"""How networks whose trainings start from theory are trained from equal values: what is better."""
MOST_AGAIN = 600
"""Mini-batches of a training from theory."""
NUM_HELD_OUT = 6


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


def compared(name: str, seed: int, portion: float) -> Comparison:
    """Train a network twice, and set it from theory."""
    from stepfold.unfolded import TrainingWarning
    from stepfold.unfolded.networks import NETWORKS
    from stepfold.unfolded.theory import start_from_theory

    def made() -> Task:
        task = NETWORKS[name](**SIZES[name])
        training, num_layers = task.training, task.network.num_layers
        if training.start:
            training = dataclasses.replace(training, start=None, strategy=FROM_EQUAL[name])
            if training.strategy == "incremental":  # as much work: a stage has half the layers
                count = 2 * training.num_iterations // (num_layers + 1)
                training = dataclasses.replace(training, num_iterations=count)
        count = max(2, round(portion * training.num_iterations))
        return dataclasses.replace(
            task, training=dataclasses.replace(training, num_iterations=count, seed=seed)
        )

    task = made()
    held_out = [_drawn(task, [2**32, seed, index]) for index in range(NUM_HELD_OUT)]
    num_stages = 1 if task.training.strategy == "all-at-once" else task.network.num_layers
    num_batches = num_stages * task.training.num_iterations
    began = time.perf_counter()
    with warnings.catch_warnings():
        # Equal steps stay nearly equal all at once: that is what theory is compared with.
        warnings.simplefilter("ignore", TrainingWarning)
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


def _decibels(errors: list[float]) -> float:
    return float(10 * np.log10(np.mean(errors)))
