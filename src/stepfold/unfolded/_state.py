"""All that changes as a training goes on, and so all that its checkpoint keeps."""

from __future__ import annotations

import dataclasses
import inspect
import math
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stepfold.unfolded import distributed
from stepfold.unfolded._held import described
from stepfold.unfolded._objective import Objective
from stepfold.unfolded._warnings import quiet
from stepfold.unfolded.checkpoints import load_checkpoint, save_checkpoint
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
        objective: The network, the loss, and the modules of the loss.
        trained: What the optimiser changes, parameters that it alone has included.
        optimizer: Of the stage under way.
        scheduler: Of its learning rate, where there is one.
        scaler: Of the loss, where there is one.
        rngs: Generators of the mini-batches that fall to this process, by their numbers.
        counts: Where the training is.
        best: Values of the network with which the held-out loss of the stage was smallest.
        losses: Of every iteration, NaN where it has not been; an array for each stage.
        rows: Measurements of the stages that have ended.
    """

    def __init__(self, objective: Objective, options: Options) -> None:
        self.objective = objective
        self.network, self.loss = objective.network, objective.loss
        self._own = [p for p in objective.parameters() if p.requires_grad]
        if not self._own:
            raise ValueError("`network` must have something to train; its steps are fixed")
        self._options = options
        self.scaler = options.scaler
        first, size = distributed.rank(), distributed.num_processes()
        self.rngs = {
            batch: _generator(options.seed, batch)
            for batch in range(first, options.batches_per_step, size)
        }
        self.counts = Counts()
        self.best: dict[str, dict[str, Tensor]] | None = None
        self.losses = [np.full(stage.num_iterations, math.nan) for stage in options.stages]
        self.rows: list[dict[str, Any]] = []
        self._begun = time.perf_counter()
        self.make_optimizer()
        self._settings = (
            settings_of(objective, self.optimizer, self.scheduler, options)
            if options.checkpoint
            else {}
        )

    def make_optimizer(self) -> None:
        """Begin with a new optimiser, and a new scheduler of it."""
        try:
            with warnings.catch_warnings():
                # What is named twice is taken once, below.
                warnings.filterwarnings("ignore", "optimizer contains a parameter group with dupl")
                self.optimizer = self._made()
        except ValueError as error:
            if "more than one parameter group" not in str(error):
                raise
            raise ValueError(
                "`optimizer` puts a parameter into two groups: it is handed all that is trained, "
                'modules of the step included; give a part its settings by `groups={"name": {…}}`'
            ) from error
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
        self._take_foreign()
        make = self._options.scheduler
        self.scheduler = None if make is None else make(self.optimizer)
        if make is not None and not hasattr(self.scheduler, "step"):
            raise TypeError(
                "`scheduler` must make a learning-rate scheduler, such as those of "
                f"torch.optim.lr_scheduler, got {type(self.scheduler).__name__}"
            )

    def _made(self) -> torch.optim.Optimizer:
        groups = self._options.groups
        if not groups:
            return self._options.optimizer(self._own)
        known = self.objective.groups()
        if unknown := groups.keys() - known.keys():
            raise ValueError(
                f"`groups` must be of {', '.join(known)}, got {', '.join(sorted(unknown))}"
            )
        left = {id(parameter): parameter for parameter in self._own}
        made: list[dict[str, Any]] = []
        for name, settings in groups.items():
            own = [left.pop(id(each)) for each in known[name] if id(each) in left]
            if not own:
                raise ValueError(
                    f"`groups` must have something to train in each, got {name!r}, whose values "
                    "are frozen or in another group"
                )
            made.append({"params": own, **settings})
        if left:
            made.insert(0, {"params": list(left.values())})
        optimizer = self._options.optimizer(made)
        known_settings = getattr(optimizer, "defaults", {})
        for name, settings in groups.items():
            if unknown := settings.keys() - known_settings.keys():
                raise ValueError(
                    f"`groups` must give settings of {type(optimizer).__name__}, "
                    f"{', '.join(known_settings)}, got {', '.join(sorted(unknown))} for {name!r}"
                )
        return optimizer

    def _take_foreign(self) -> None:
        """Parameters that the optimiser alone has are cleared, clipped and checked like others."""
        known = {id(parameter): parameter for parameter in self._own}
        for group in self.optimizer.param_groups:
            # What is named twice counts once: the optimiser would take two steps.
            group["params"] = list({id(each): each for each in group["params"]}.values())
            for each in group["params"]:
                if id(each) in known:
                    continue
                if self._options.checkpoint or distributed.num_processes() > 1:
                    raise ValueError(
                        f"`optimizer` has {described(each)}, which the network does not have, and "
                        "which neither checkpoints nor other processes would see; give the network "
                        'its module by `modules={"name": module}`'
                    )
                known[id(each)] = each
        self.trained: list[nn.Parameter] = list(known.values())

    def values(self) -> dict[str, dict[str, Tensor]]:
        """Values of the network and of the modules of the loss, not copied."""
        with quiet():
            return {
                "network": self.network.state_dict(),
                "criterion": self.objective.criterion.state_dict(),
            }

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
            **self.values(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "loss": self.loss.state_dict() if hasattr(self.loss, "state_dict") else None,
            "data": {batch: s for states in generators for batch, s in states.items()},
            "best": self.best,
            "losses": self.losses[: self.counts.stage + 1],
            "rows": self.rows,
        }
        save_checkpoint(path, self._settings, state)

    def load(self, path: Path, *, extend: bool = False) -> None:
        """Go on from the checkpoint at ``path``; with ``extend`` beyond the end that it has."""
        state = load_checkpoint(path, self._settings, extend=extend)
        with quiet():
            self.network.load_state_dict(state["network"])
        self.objective.criterion.load_state_dict(state["criterion"])
        _restore(self.optimizer, state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        if hasattr(self.loss, "load_state_dict"):
            self.loss.load_state_dict(state["loss"])
        for batch, rng in self.rngs.items():
            rng.bit_generator.state = state["data"][batch]
        self.counts = Counts(**state["counts"])
        self.best = state["best"]
        self.rows = state["rows"]
        for stored, losses in zip(state["losses"], self.losses, strict=False):
            losses[: len(stored)] = stored
        if extend:
            self._reopen(len(state["stages"]), state["stages"][-1][1])
        self._begun = time.perf_counter()

    def _reopen(self, num_stages: int, num_iterations: int) -> None:
        """Take back the end of the last stage that there was, if it is longer now."""
        counts = self.counts
        if counts.stage != num_stages or len(self.losses[num_stages - 1]) == num_iterations:
            return
        seen = np.flatnonzero(~np.isnan(self.losses[num_stages - 1]))
        counts.stage -= 1
        # A stage that held-out data ended early goes on from there, with new patience.
        counts.iteration = num_iterations if self._options.held_out is None else int(seen[-1]) + 1
        counts.num_looks = 0
        self.rows.pop()


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
