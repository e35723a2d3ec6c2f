"""Incremental training: generation g trains the first g layers together, then a layer is added.

Trained all at once, a deep unfolded network starts from an astronomically wrong loss or from one so
flat that nothing is learned; layer by layer, each generation starts close to a good point.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from stepfold._checks import check_count
from stepfold.polynomial import mean_squared_error, spectral_radius
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.unfolded.losses import Loss
from stepfold.unfolded.module import UnfoldedIteration

OptimizerFactory = Callable[[Iterable[Any]], torch.optim.Optimizer]


def train_incrementally(
    network: UnfoldedIteration,
    loss: Loss,
    *,
    num_iterations: int = 500,
    optimizer: OptimizerFactory | None = None,
    seed: int = 0,
    progress: bool = False,
) -> TrainingRun:
    """Train the steps of an unfolded network layer by layer, as published.

    One optimiser state is kept throughout. The network is trained in place.

    Args:
        network: T layers, at their initial steps.
        loss: What to minimise; fresh random data at every call.
        num_iterations: Mini-batches per generation.
        optimizer: Makes a torch optimiser of the parameters; Adam with learning rate 0.002, the
            published one, if not given.
        seed: Seed of the data; the same seed gives the same run.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The learned schedule and, for every generation, its steps, losses and, where
        ``loss.measure`` is known, exact mean squared error and spectral radius.

    Raises:
        ValueError: If ``num_iterations`` is not positive.
        ArithmeticError: If the loss is not finite; the message says when. The network is left as it
            was before that iteration.

    References:
        Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded
        Gradient Descent (arXiv:2001.05142), on incremental training.

    >>> from stepfold import Schedule, SpectralMeasure
    >>> from stepfold.unfolded import SpectralLoss
    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    >>> network = UnfoldedIteration(Schedule([0.3]))
    >>> run = train_incrementally(network, SpectralLoss(measure), num_iterations=300)
    >>> round(run.schedule[0], 2)  # the optimum is 0.4
    0.4
    """
    num_iterations = check_count("num_iterations", num_iterations)
    if optimizer is None:
        optimizer = functools.partial(torch.optim.Adam, lr=0.002)
    stepper = optimizer(network.parameters())
    rng = np.random.default_rng(seed)
    num_layers = network.num_layers
    losses = np.empty((num_layers, num_iterations))
    steps = np.empty((num_layers, num_layers))
    seconds = np.empty(num_layers)
    start = time.perf_counter()
    with _progress_bar(num_layers * num_iterations, shown=progress) as advance:
        for generation in range(1, num_layers + 1):
            for iteration in range(num_iterations):
                stepper.zero_grad()
                value = loss(network, generation, rng)
                losses[generation - 1, iteration] = value.item()
                if not math.isfinite(losses[generation - 1, iteration]):
                    raise ArithmeticError(
                        f"the loss is {value.item()} in generation {generation}, iteration "
                        f"{iteration}; lower the learning rate or the initial steps"
                    )
                value.backward()
                stepper.step()
                advance(generation, losses[generation - 1, iteration])
            steps[generation - 1] = network.steps.detach().double().cpu().numpy()
            seconds[generation - 1] = time.perf_counter() - start
    learned = [row[:generation] for generation, row in enumerate(steps, start=1)]
    mean_squared_errors = spectral_radii = None
    if loss.measure is not None:
        errors = [mean_squared_error(row, loss.measure) for row in learned]
        radii = [spectral_radius(row, loss.measure.nodes) for row in learned]
        mean_squared_errors, spectral_radii = np.array(errors), np.array(radii)
    history = TrainingHistory(
        steps=steps,
        losses=losses,
        seconds=seconds,
        mean_squared_errors=mean_squared_errors,
        spectral_radii=spectral_radii,
    )
    return TrainingRun(network.schedule(), history, num_iterations=num_iterations, seed=seed)


@contextlib.contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[int, float], None]]:
    if not shown:
        yield lambda _generation, _loss: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("generation {task.fields[generation]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.2e}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, generation=1, loss=math.nan)
        yield lambda generation, loss: bar.update(task, advance=1, generation=generation, loss=loss)
