"""How to train: optimiser, early stop, checkpoints; and the same as JSON, for checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stepfold._checks import check_count, check_positive
from stepfold.unfolded._describe import describe
from stepfold.unfolded._objective import Objective
from stepfold.unfolded._warnings import quiet
from stepfold.unfolded.losses import Loss, check_loss
from stepfold.unfolded.progress import Progress
from stepfold.unfolded.samplers import Sampler
from stepfold.unfolded.stages import Stage

OptimizerFactory = Callable[[Iterable[Any]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], Any]
Callback = Callable[[Progress], bool | None]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Early stop: a stage ends when the loss on held-out data no longer falls.

    The stage then goes back to the values with which that loss was smallest.

    Args:
        loss: Loss on held-out data, or their sampler, as in `train`; it is handed the same
            generator state every time.
        every: Iterations between two looks.
        patience: Looks in a row without a new best loss after which the stage ends.
        seed: Seed of the held-out data; another one than the training's.

    Raises:
        TypeError: If ``loss`` cannot be called, or a count is not an integer.
        ValueError: If a count is not positive.

    >>> from stepfold import SpectralMeasure
    >>> from stepfold.unfolded import SpectralLoss
    >>> HeldOut(SpectralLoss(SpectralMeasure([1.0], [1.0])), patience=3).every
    50
    """

    loss: Loss | Sampler
    every: int = 50
    patience: int = 5
    seed: int = 2**32

    def __post_init__(self) -> None:
        check_loss("loss", self.loss)
        check_count("every", self.every)
        check_count("patience", self.patience)
        check_count("seed", self.seed, minimum=0)


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train, checked."""

    stages: Sequence[Stage]
    optimizer: OptimizerFactory
    scheduler: SchedulerFactory | None
    restart_optimizer: bool
    relative: bool
    clip_norm: float | None
    held_out: HeldOut | None
    batches_per_step: int
    most_skipped: int
    seed: int
    checkpoint: Path | None
    checkpoint_every: int | None
    groups: Mapping[str, Mapping[str, Any]] | None
    scaler: Any

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("`stages` must hold at least one stage, got none")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise TypeError(
                    "`stages` must be a list of Stage, such as `incremental(num_layers)` makes, "
                    f"with {type(stage).__name__} in it"
                )
        for name in ("optimizer", "scheduler"):
            check_factory(name, getattr(self, name))
        if self.held_out is not None and not isinstance(self.held_out, HeldOut):
            raise TypeError(
                f"`held_out` must be a HeldOut, got {type(self.held_out).__name__}; write "
                "`HeldOut(loss)`"
            )
        if self.scaler is not None and not hasattr(self.scaler, "unscale_"):
            raise TypeError(
                "`scaler` must be a torch.amp.GradScaler, got "
                f'{type(self.scaler).__name__}; write `torch.amp.GradScaler("cuda")`'
            )
        if self.groups is not None and not (
            isinstance(self.groups, Mapping)
            and all(isinstance(settings, Mapping) for settings in self.groups.values())
        ):
            raise TypeError(
                "`groups` must be a dictionary of settings by names, such as "
                f'`{{"prior": {{"lr": 1e-4}}}}`, got {self.groups!r}'
            )
        if self.clip_norm is not None:
            check_positive("clip_norm", self.clip_norm, "None clips nothing")


def check_factory(name: str, make: Any) -> None:
    """Raise unless it makes an optimiser of parameters, or a scheduler of an optimiser."""
    if make is not None and not callable(make):
        argument = {"optimizer": "parameters", "scheduler": "optimizer"}[name]
        raise TypeError(
            f"`{name}` must be a function of the {argument} that makes one, got "
            f"{type(make).__name__}; write `lambda {argument}: …`"
        )


def settings_of(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    options: Options,
) -> dict[str, Any]:
    """What makes this training differ from another one, as JSON values; before it begins."""
    compared = (
        "restart_optimizer",
        "relative",
        "clip_norm",
        "held_out",
        "batches_per_step",
        "seed",
        "groups",
    )
    network = objective.network
    return {
        "network": {
            "iteration": describe(network.iteration),
            "num_layers": network.num_layers,
            "trained": [name for name, x in network.named_parameters() if x.requires_grad],
            "values": _shapes(network),
        },
        "loss": describe(objective.loss),
        "criterion": _shapes(objective.criterion),
        "stages": [dataclasses.astuple(stage) for stage in options.stages],
        "optimizer": _class_and_numbers(optimizer, optimizer.defaults),
        "scaler": None if options.scaler is None else describe(type(options.scaler)),
        "scheduler": scheduler and _class_and_numbers(scheduler, scheduler.state_dict()),
        **{name: describe(getattr(options, name)) for name in compared},
    }


def _shapes(module: nn.Module) -> dict[str, str]:
    with quiet():
        values = module.state_dict()
    return {name: f"{x.dtype} of shape {tuple(x.shape)}" for name, x in values.items()}


def _class_and_numbers(owner: Any, values: dict[str, Any]) -> dict[str, Any]:
    plain = (bool, int, float, str, list, tuple, type(None))
    numbers = {name: describe(x) for name, x in values.items() if isinstance(x, plain)}
    return {"kind": describe(type(owner)), **numbers}
