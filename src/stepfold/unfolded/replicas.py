"""Many trainings at once, in the eigenbasis: one for each spectrum and each seed of the data.

Gradient descent on quadratics with isotropic errors decouples along the eigenvectors, and so do
trainings of different seeds. The loss is ``∑ᵢ wᵢ p(λᵢ)²`` with ``p(λ) = ∏ₜ (1 − γₜλ)`` and random
weights wᵢ (see `SpectralLoss`); its slope along γₜ is ``−2 ∑ᵢ wᵢ p(λᵢ)² λᵢ / (1 − γₜλᵢ)``. So an
iteration of R trainings of T layers costs about 5·R·T·n operations and no backpropagation.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import (
    check_depth,
    check_items,
    check_positive,
    check_seed,
    check_size,
)
from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.measure.base import check_measure
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.schedules import Schedule
from stepfold.unfolded.progress import Progress, progress_bar

# Adam's constants, torch's defaults.
_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8
# Random weights are drawn this many mini-batches ahead.
_CHUNK = 50


@dataclass(frozen=True, eq=False)
class Replicas:
    """What R incremental trainings of T layers found; G = T stages of K mini-batches.

    Trainings that became not finite keep what they had until then, and NaN after it.

    Args:
        steps: All T steps at the end of each stage, shape (R, G, T).
        losses: Mini-batch losses, shape (R, G, K).
        mean_squared_error_path: Exact mean squared error of the layers in training, relative to the
            start: when a stage begins and after each of its mini-batches, shape (R, G, K + 1).
        spectral_radii: Largest ``|p(λ)|`` of these layers, of the same shape.
        num_stages: Stages that ended, shape (R,); less than T for a training that diverged.
        seeds: Seed of the data of each training, shape (R,).
        seconds: Wall-clock time at the end of each stage, shape (G,).
    """

    steps: FloatArray
    losses: FloatArray
    mean_squared_error_path: FloatArray
    spectral_radii: FloatArray
    num_stages: NDArray[np.int64]
    seeds: NDArray[np.int64]
    seconds: FloatArray

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            getattr(self, each.name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Which trainings became not finite, shape (R,)."""
        diverged: NDArray[np.bool_] = self.num_stages < self.steps.shape[1]
        return diverged

    def run(self, index: int) -> TrainingRun:
        """One training as `train_incrementally` would return it.

        Raises:
            ValueError: If it diverged in the first stage: there are no learned steps.
        """
        stages = int(self.num_stages[index])
        if stages == 0:
            raise ValueError(f"training {index} diverged in its first stage and learned no steps")
        history = TrainingHistory(
            self.steps[index, :stages],
            self.losses[index, :stages],
            self.seconds[:stages],
            self.mean_squared_error_path[index, :stages, -1],
            self.spectral_radii[index, :stages, -1],
        )
        steps = self.steps[index, stages - 1]
        return TrainingRun(
            Schedule(steps, "learned"),
            history,
            num_iterations=self.losses.shape[2],
            seed=int(self.seeds[index]),
            finished=stages == self.steps.shape[1],
        )


def train_replicas(
    measures: SpectralMeasure | Sequence[SpectralMeasure],
    num_layers: int,
    seeds: Sequence[int],
    *,
    num_iterations: int = 500,
    batch_size: int = 200,
    initial_step: float = 0.3,
    learning_rate: float = 0.002,
    progress: bool = False,
) -> Replicas:
    """Train gradient descent incrementally, as published, on every measure with every seed.

    Each training is the one that `train_incrementally` does with `SpectralLoss` and the same seed,
    up to rounding. (Rounding grows while training goes on; see the published experiment.)

    Args:
        measures: Eigenvalues and the weights of the initial error on them; one, or several of
            equal size.
        num_layers: T.
        seeds: Seeds of the data. Training r has measure ``r // len(seeds)`` and seed
            ``r % len(seeds)``.
        num_iterations: Mini-batches in a stage.
        batch_size: Problems in a mini-batch.
        initial_step: Of every layer, in units of 1 / Hessian.
        learning_rate: Of Adam, in units of 1 / Hessian.
        progress: Whether to show a progress bar on standard error.

    Returns:
        Steps, losses, and the exact mean squared error and spectral radius of every mini-batch.

    Raises:
        ValueError: If a number is out of range, there is no measure or seed, or the measures have
            different numbers of eigenvalues.

    References:
        Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded
        Gradient Descent (arXiv:2001.05142), on incremental training.

    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    >>> found = train_replicas(measure, 1, range(4), num_iterations=300)
    >>> found.steps[:, -1, 0].round(2)  # the optimum is 0.4
    array([0.4, 0.4, 0.4, 0.4])
    """
    training = _Training.of(measures, seeds, num_layers, num_iterations, batch_size, initial_step)
    check_positive("learning_rate", learning_rate, "the published one is 0.002")
    total = num_layers * num_iterations
    # A training that diverges is an outcome; it is stopped, and the others go on.
    with (
        np.errstate(over="ignore", invalid="ignore", divide="ignore"),
        progress_bar(total, 0, shown=progress) as show,
    ):
        for stage in range(num_layers):
            for iteration in range(num_iterations):
                training.iterate(stage, iteration, learning_rate)
                if progress:
                    show(training.progress(stage, iteration, total))
            training.end(stage)
    return training.replicas()


class _Training:
    """All trainings under way; their state has the first axis R."""

    @classmethod
    def of(
        cls,
        measures: SpectralMeasure | Sequence[SpectralMeasure],
        seeds: Sequence[int],
        num_layers: int,
        num_iterations: int,
        batch_size: int,
        initial_step: float,
    ) -> _Training:
        """Check the arguments, and begin."""
        if isinstance(measures, SpectralMeasure):
            measures = [measures]
        several = check_items("measures", measures, "SpectralMeasure")
        for each in several:
            check_measure(each, "measures")
        seeds = [check_seed("seeds", seed) for seed in check_items("seeds", seeds, "integers")]
        if not several or len(seeds) == 0:
            raise ValueError("`measures` and `seeds` must hold at least one each, got none")
        sizes = {each.nodes.size for each in several}
        if len(sizes) > 1:
            raise ValueError(
                f"`measures` must have equally many eigenvalues, got {sorted(sizes)}; "
                "train each size on its own"
            )
        check_positive("initial_step", initial_step, "the published one is 0.3")
        return cls(
            np.repeat([each.nodes for each in several], len(seeds), axis=0),
            np.repeat([each.weights for each in several], len(seeds), axis=0),
            np.tile(np.array(seeds, dtype=np.int64), len(several)),
            check_depth(num_layers),
            check_size("num_iterations", num_iterations),
            check_size("batch_size", batch_size),
            float(initial_step),
        )

    def __init__(
        self,
        eigenvalues: FloatArray,
        weights: FloatArray,
        seeds: NDArray[np.int64],
        num_layers: int,
        num_iterations: int,
        batch_size: int,
        initial_step: float,
    ) -> None:
        count, size = eigenvalues.shape
        self._eigenvalues, self._weights, self._seeds = eigenvalues, weights, seeds
        self._batch_size = batch_size
        self._rngs = [np.random.default_rng(int(seed)) for seed in seeds]
        self._drawn = np.empty((count, min(_CHUNK, num_iterations), size))
        # As published, layers use |γ|; what the optimiser changes may have either sign.
        self._values = np.full((count, num_layers), initial_step)
        self._means = np.zeros((count, num_layers))
        self._squares = np.zeros((count, num_layers))
        self._num_updates = 0
        self._alive = np.ones(count, dtype=bool)
        self._begun = time.perf_counter()
        path = (count, num_layers, num_iterations + 1)
        self._steps = np.full((count, num_layers, num_layers), math.nan)
        self._losses = np.full((count, num_layers, num_iterations), math.nan)
        self._errors, self._radii = np.full(path, math.nan), np.full(path, math.nan)
        self._num_stages = np.zeros(count, dtype=np.int64)
        self._seconds = np.zeros(num_layers)

    def iterate(self, stage: int, iteration: int, learning_rate: float) -> None:
        """One mini-batch of every training that is finite."""
        depth = stage + 1
        values, eigenvalues = self._values[:, :depth], self._eigenvalues
        factors = 1 - np.abs(values)[:, :, None] * eigenvalues[:, None, :]
        squares = self._note(stage, iteration, factors)
        weighted = self._draw(iteration) * squares
        losses = weighted.sum(1)
        # Where a factor is 0 so is p², and its slope.
        factors[factors == 0] = 1
        np.reciprocal(factors, out=factors)
        slopes = -2 * (factors @ (weighted * eigenvalues)[:, :, None])[:, :, 0]
        slopes = np.where(values < 0, -slopes, slopes)
        self._losses[self._alive, stage, iteration] = losses[self._alive]
        self._alive &= np.isfinite(losses) & np.isfinite(slopes).all(1)
        alive = self._alive[:, None]
        slopes = np.where(alive, slopes, 0.0)
        # Adam counts updates from the start of the training, for layers that join late, too.
        self._num_updates += 1
        self._means *= _MEAN_DECAY
        self._means[:, :depth] += (1 - _MEAN_DECAY) * slopes
        self._squares *= _SQUARE_DECAY
        self._squares[:, :depth] += (1 - _SQUARE_DECAY) * slopes * slopes
        size = np.sqrt(self._squares[:, :depth])
        size /= math.sqrt(1 - _SQUARE_DECAY**self._num_updates)
        rate = learning_rate / (1 - _MEAN_DECAY**self._num_updates)
        values -= np.where(alive, rate * self._means[:, :depth] / (size + _EPSILON), 0.0)

    def end(self, stage: int) -> None:
        """Note what a stage has found."""
        factors = 1 - np.abs(self._values[:, : stage + 1, None]) * self._eigenvalues[:, None, :]
        self._note(stage, -1, factors)
        self._steps[self._alive, stage] = np.abs(self._values[self._alive])
        self._num_stages += self._alive
        self._seconds[stage] = time.perf_counter() - self._begun

    def replicas(self) -> Replicas:
        """What the trainings have found."""
        return Replicas(
            self._steps,
            self._losses,
            self._errors,
            self._radii,
            self._num_stages,
            self._seeds,
            self._seconds,
        )

    def progress(self, stage: int, iteration: int, total: int) -> Progress:
        """Where the trainings are; the loss is their median."""
        num_iterations = self._losses.shape[2]
        done = stage * num_iterations + iteration + 1
        loss = float(np.median(self._losses[:, stage, iteration]))
        return Progress(
            stage=stage,
            num_layers=stage + 1,
            iteration=iteration + 1,
            num_iterations=num_iterations,
            loss=loss,
            best_loss=loss,
            num_skipped=int((~self._alive).sum()),
            done=done,
            total=total,
            seconds=time.perf_counter() - self._begun,
        )

    def _note(self, stage: int, place: int, factors: FloatArray) -> FloatArray:
        """Keep the exact error and the spectral radius; return p² at the eigenvalues."""
        squares: FloatArray = np.prod(factors, axis=1)
        squares *= squares
        alive = self._alive
        self._errors[alive, stage, place] = (self._weights * squares).sum(1)[alive]
        self._radii[alive, stage, place] = np.sqrt(squares.max(1))[alive]
        return squares

    def _draw(self, iteration: int) -> FloatArray:
        """Weights of a mini-batch: mean squares of a batch of normal errors, shape (R, n)."""
        chunk = self._drawn.shape[1]
        place = iteration % chunk
        if place == 0:
            count = min(chunk, self._losses.shape[2] - iteration)
            for rng, drawn, weights in zip(self._rngs, self._drawn, self._weights, strict=True):
                squares = rng.chisquare(self._batch_size, (count, weights.size))
                drawn[:count] = squares * (weights / self._batch_size)
        return self._drawn[:, place]
