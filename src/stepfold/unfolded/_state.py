"""All that changes as a training goes on, and so all that its checkpoint keeps."""

from __future__ import annotations

import dataclasses
import inspect
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stepfold.unfolded import distributed
from stepfold.unfolded.checkpoints import load_checkpoint, save_checkpoint
from stepfold.unfolded.losses import Loss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.options import Options, settings_of


@dataclasses.dataclass
class Counts:
    """Where the training is."""

    stage: int = 0
    iteration: int = 0
    num_skipped: int = 0
    num_skipped_in_a_row: int = 0
    best_loss: float = math.inf
    num_looks: int = 0
    seconds: float = 0.0


class State:
    """The state of one training in this process.

    Attributes:
        trained: What the optimiser changes.
        optimizer: Of the stage under way.
        scheduler: Of its learning rate, where there is one.
        rngs: Generators of the mini-batches that fall to this process, by their numbers.
        counts: Where the training is.
        best: Values of the network with which the held-out loss of the stage was smallest.
        losses: Of every iteration, NaN where it has not been; an array for each stage.
        rows: Measurements of the stages that have ended.
    """

    def __init__(self, network: UnfoldedIteration, loss: Loss, options: Options) -> None:
        self.network = network
        self.loss = loss
        self.trained: list[nn.Parameter] = [p for p in network.parameters() if p.requires_grad]
        if not self.trained:
            raise ValueError("`network` must have something to train; its steps are fixed")
        self._options = options
        first, size = distributed.rank(), distributed.num_processes()
        self.rngs = {
            batch: _generator(options.seed, batch)
            for batch in range(first, options.batches_per_step, size)
        }
        self.counts = Counts()
        self.best: dict[str, Tensor] | None = None
        self.losses = [np.full(stage.num_iterations, math.nan) for stage in options.stages]
        self.rows: list[dict[str, Any]] = []
        self._begun = time.perf_counter()
        self.make_optimizer()
        self._settings = (
            settings_of(network, loss, self.optimizer, self.scheduler, options)
            if options.checkpoint
            else {}
        )

    def make_optimizer(self) -> None:
        """Begin with a new optimiser, and a new scheduler of it."""
        self.optimizer = self._options.optimizer(self.trained)
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise TypeError(
                "`optimizer` must make a torch.optim.Optimizer, got "
                f"{type(self.optimizer).__name__}"
            )
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise TypeError(
                "`optimizer` must step without a closure, which would need the same random batch "
                f"again, got {type(self.optimizer).__name__}; take Adam, or SGD"
            )
        make = self._options.scheduler
        self.scheduler = None if make is None else make(self.optimizer)
        if make is not None and not hasattr(self.scheduler, "step"):
            raise TypeError(
                "`scheduler` must make a learning-rate scheduler, such as those of "
                f"torch.optim.lr_scheduler, got {type(self.scheduler).__name__}"
            )

    def seconds(self) -> float:
        """Time spent, earlier processes included."""
        return self.counts.seconds + time.perf_counter() - self._begun

    def save(self, path: Path) -> None:
        """Replace the checkpoint at ``path``; process 0 does it for all."""
        generators = distributed.gathered(
            {batch: rng.bit_generator.state for batch, rng in self.rngs.items()}
        )
        if distributed.rank():
            return
        state = {
            "counts": dataclasses.asdict(self.counts) | {"seconds": self.seconds()},
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "loss": self.loss.state_dict() if hasattr(self.loss, "state_dict") else None,
            "data": {batch: s for states in generators for batch, s in states.items()},
            "best": self.best,
            "losses": self.losses[: self.counts.stage + 1],
            "rows": self.rows,
        }
        save_checkpoint(path, self._settings, state)

    def load(self, path: Path) -> None:
        """Go on from the checkpoint at ``path``."""
        state = load_checkpoint(path, self._settings)
        self.network.load_state_dict(state["network"])
        _restore(self.optimizer, state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if hasattr(self.loss, "load_state_dict"):
            self.loss.load_state_dict(state["loss"])
        for batch, rng in self.rngs.items():
            rng.bit_generator.state = state["data"][batch]
        self.counts = Counts(**state["counts"])
        self.best = state["best"]
        self.rows = state["rows"]
        for stored, losses in zip(state["losses"], self.losses, strict=False):
            losses[:] = stored
        self._begun = time.perf_counter()


def _restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state to the last bit: torch would turn its scalars into the parameters' dtype."""
    optimizer.load_state_dict(state)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state["state"].items():
        own = optimizer.state[parameters[index]]
        for name, value in values.items():
            if isinstance(value, Tensor):
                own[name] = value.to(own[name].device, copy=True)


def _generator(seed: int, batch: int) -> np.random.Generator:
    """Generator of a step's mini-batches of one number; of the first, that of the seed alone."""
    key = (batch,) if batch else ()
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
