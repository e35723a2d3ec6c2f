"""What a named network is: a function of plain settings that makes everything training needs.

The published values are the defaults. Parameters of such a function are keywords of type int,
float, bool, str or ``FloatArray | None`` (a matrix, for which a settings file names a file), so
that a file can set every one of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.optim.lr_scheduler import ExponentialLR

from stepfold._checks import check_choice, check_count, check_positive
from stepfold._registry import Registry
from stepfold.result import TrainingRun
from stepfold.unfolded.losses import Loss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.options import HeldOut
from stepfold.unfolded.stages import Stage, all_at_once, greedy_then_refined, incremental
from stepfold.unfolded.training import train

STRATEGIES: dict[str, Callable[[int, int], list[Stage]]] = {
    "incremental": incremental,
    "all-at-once": all_at_once,
    "greedy": greedy_then_refined,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a named network is trained, in plain values, so that a file can give them.

    Args:
        strategy: How depth grows: "incremental", "all-at-once" or "greedy" (then refined).
        start: "theory" sets all layers by `theory_start` first; None keeps the network's values.
        num_iterations: Mini-batches per stage.
        optimizer: "adam", "adamw", "rmsprop" or "sgd".
        learning_rate: Its learning rate.
        final_learning_rate: What that falls to, geometrically, over all iterations, or over those
            of a stage if each begins with a new optimiser; None keeps it.
        relative: Whether gradients are those of the loss's logarithm.
        restart_optimizer: Whether each stage begins with a new one.
        clip_norm: Longest gradient; None clips nothing.
        patience: Looks at the held-out loss without a new best one that end a stage; None takes
            all iterations.
        look_every: Iterations between two looks.
        batches_per_step: Mini-batches averaged in a step; the number of processes if None.
        seed: Seed of the data.

    Raises:
        TypeError: If a value is of another type, such as a number in quotes.
        ValueError: If there is no such strategy or optimiser, or a number is out of range.

    >>> TrainingSettings(num_iterations=100).optimizer
    'adam'
    """

    strategy: str = "incremental"
    num_iterations: int = 500
    optimizer: str = "adam"
    learning_rate: float = 0.002
    final_learning_rate: float | None = None
    relative: bool = False
    restart_optimizer: bool = False
    clip_norm: float | None = None
    patience: int | None = None
    look_every: int = 50
    batches_per_step: int | None = None
    seed: int = 0
    start: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("strategy", STRATEGIES), ("optimizer", OPTIMIZERS)):
            check_choice(name, getattr(self, name), known)
        if self.start is not None and not (isinstance(self.start, str) and self.start == "theory"):
            raise ValueError(f'`start` must be "theory" or None, got {self.start!r}')
        check_count("num_iterations", self.num_iterations)
        check_positive("learning_rate", self.learning_rate, "0.002 is the published one")
        if self.final_learning_rate is not None:
            check_positive("final_learning_rate", self.final_learning_rate, "None keeps the rate")
        for name in ("relative", "restart_optimizer"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be true or false, got {getattr(self, name)!r}")
        if self.clip_norm is not None:
            check_positive("clip_norm", self.clip_norm, "None clips nothing")
        check_count("look_every", self.look_every)
        for name in ("patience", "batches_per_step"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_count("seed", self.seed, minimum=0)


TOGETHER = TrainingSettings(
    strategy="all-at-once",
    num_iterations=400,
    learning_rate=0.05,
    final_learning_rate=0.0025,
    relative=True,
)
"""Training of all layers together, by a rate that falls to a twentieth."""
FROM_THEORY = dataclasses.replace(
    TOGETHER, num_iterations=1000, learning_rate=0.01, final_learning_rate=1e-4
)
"""Training of steps that are good already: errors of 1e-16 are far below what Adam calls 0."""


@dataclass(frozen=True, eq=False)
class Task:
    """A network with what it is trained on.

    Args:
        network: At its initial values.
        loss: What training minimises.
        training: How, with the published values.
        held_out: Loss on held-out data; if not given ``loss``, drawn from another seed.
        evaluate: Figures of merit of the network as it is, by name; None if the loss tells all.
    """

    network: UnfoldedIteration
    loss: Loss
    training: TrainingSettings = TrainingSettings()
    held_out: Loss | None = None
    evaluate: Callable[[UnfoldedIteration], Mapping[str, float]] | None = None

    def train(self, **options: Any) -> TrainingRun:
        """Train the network in place, as ``training`` says; ``options`` are those of `train`.

        Raises:
            TypeError: If `train` has no such option.
        """
        settings = self.training
        held_out = None
        if settings.patience is not None:
            held_out = HeldOut(self.held_out or self.loss, settings.look_every, settings.patience)
        stages = STRATEGIES[settings.strategy](self.network.num_layers, settings.num_iterations)
        optimizer = functools.partial(OPTIMIZERS[settings.optimizer], lr=settings.learning_rate)
        scheduler = None
        if settings.final_learning_rate is not None:
            length = settings.num_iterations * (1 if settings.restart_optimizer else len(stages))
            ratio = settings.final_learning_rate / settings.learning_rate
            scheduler = functools.partial(ExponentialLR, gamma=ratio ** (1 / length))
        chosen: dict[str, Any] = {
            "start": settings.start,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "relative": settings.relative,
            "restart_optimizer": settings.restart_optimizer,
            "clip_norm": settings.clip_norm,
            "held_out": held_out,
            "batches_per_step": settings.batches_per_step,
            "seed": settings.seed,
            "progress": False,
        }
        return train(self.network, self.loss, stages, **{**chosen, **options})


class NetworkBuilder(Protocol):
    """Makes a task; keywords of plain types, with the published values as defaults."""

    def __call__(self) -> Task:
        """Make the task with its defaults."""


NETWORKS: Registry[NetworkBuilder] = Registry(
    "network", "stepfold.unfolded.networks", "stepfold.networks"
)
