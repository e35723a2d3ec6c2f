"""What experiments with trained networks share: iterates of a network and of its rivals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from stepfold.iterations import Iteration
from stepfold.lab.parameters import Between
from stepfold.result import TrainingRun

if TYPE_CHECKING:
    from stepfold.unfolded import Progress, Sample, UnfoldedIteration
    from stepfold.unfolded.networks import Task

MiniBatches = Annotated[int, Between(1, 100_000)]


def trained(
    task: Task,
    *,
    num_iterations: int,
    seed: int,
    progress: bool,
    after: Callable[[int], None] | None = None,
) -> TrainingRun:
    """Train a task's network in place, with as many mini-batches a stage.

    ``after`` is called at the end of every stage with its number of layers.
    """
    settings = dataclasses.replace(task.training, num_iterations=num_iterations, seed=seed)

    def watch(now: Progress) -> None:
        if after is not None and now.iteration == now.num_iterations:
            after(now.num_layers)

    return dataclasses.replace(task, training=settings).train(progress=progress, callback=watch)


def layers(network: UnfoldedIteration, sample: Sample) -> list[Any]:
    """Start and outputs of all layers on a batch."""
    import torch

    start = torch.zeros_like(sample.target) if sample.start is None else sample.start
    with torch.no_grad():
        return [start, *network(sample.data, start, every_layer=True)]


def iterates(
    iteration: Iteration[Any, Any], problem: Any, start: Any, gammas: Iterable[float]
) -> list[Any]:
    """Start and iterates of an iteration with these steps."""
    state = iteration.init(problem, start)
    seen = [iteration.iterate(state)]
    for gamma in gammas:
        state = iteration.step(problem, state, gamma)
        seen.append(iteration.iterate(state))
    return seen


def unseen(sampler: Callable[[np.random.Generator], Any], number: int) -> Any:
    """One of the batches that no training draws: for tests, and for tuning rivals."""
    return sampler(np.random.default_rng([2**32, number]))


def total_variation(pictures: Any, weight: float, *, num_iterations: int) -> Any:
    """Pictures as tensors, shape (batch, rows, columns), denoised by Chambolle's iteration."""
    from skimage.restoration import denoise_tv_chambolle

    moved: Any = denoise_tv_chambolle(  # type: ignore[no-untyped-call]
        pictures.numpy(), weight, eps=0, max_num_iter=num_iterations, channel_axis=0
    )
    return pictures.new_tensor(moved)
