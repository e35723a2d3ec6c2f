"""The loop that every training shares, and the state of it that a checkpoint keeps."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stepfold.iterations import Iteration
from stepfold.unfolded import distributed
from stepfold.unfolded.checkpoints import load_checkpoint, remove_drafts, save_checkpoint
from stepfold.unfolded.choice import as_loss
from stepfold.unfolded.losses import Loss, check_loss_value
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.options import Options, settings_of
from stepfold.unfolded.progress import Progress
from stepfold.unfolded.samplers import Sampler
from stepfold.unfolded.stages import Stage


@dataclasses.dataclass
class Counts:
    """Where the training is; all of it goes into checkpoints."""

    stage: int = 0
    iteration: int = 0
    num_skipped: int = 0
    num_skipped_in_a_row: int = 0
    best_loss: float = math.inf
    num_looks: int = 0
    seconds: float = 0.0


class _Objective(nn.Module):
    """The loss as a module: DistributedDataParallel then sees every use of the parameters."""

    def __init__(self, network: UnfoldedIteration, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, num_layers: int, rng: np.random.Generator) -> Tensor:
        return self.loss(self.network, num_layers, rng)


class Loop:
    """One training under way."""

    def __init__(self, network: UnfoldedIteration, loss: Loss | Sampler, options: Options) -> None:
        self.network = network
        self.loss = as_loss(network, loss)
        held_out = options.held_out
        self.held_out_loss = None if held_out is None else as_loss(network, held_out.loss)
        self.options = options
        self.trained = [p for p in network.parameters() if p.requires_grad]
        if not self.trained:
            raise ValueError("`network` must have something to train; its steps are fixed")
        self.device = self.trained[0].device
        # Steps are in every layer; a function may ignore them, or a shallow stage another value.
        plain = isinstance(network.iteration, Iteration) and len(network.stacked_parameters()) == 1
        self.objective = distributed.wrapped(
            _Objective(network, self.loss), self.device, may_leave_out=not plain
        )
        self.rngs = {
            batch: _generator(options.seed, batch)
            for batch in range(distributed.rank(), options.batches_per_step, _size())
        }
        self.counts = Counts()
        self.best: dict[str, Tensor] | None = None
        self.losses = [np.full(stage.num_iterations, math.nan) for stage in options.stages]
        self.rows: list[dict[str, Any]] = []
        self._begun = time.perf_counter()
        self._make_optimizer()
        self.settings = (
            settings_of(network, self.loss, self.optimizer, self.scheduler, options)
            if options.checkpoint
            else {}
        )

    def run(self, watch: Callable[[Progress], bool] | None) -> bool:
        """Train to the end; false if ``watch`` stopped it."""
        counts, options = self.counts, self.options
        while counts.stage < len(options.stages):
            stage = options.stages[counts.stage]
            if counts.iteration == 0:
                self._begin(stage)
            while counts.iteration < stage.num_iterations and not self._is_stale():
                loss = self._iterate(stage)
                if watch and watch(self._progress(stage, loss)):
                    self.save()
                    return False
                every = options.checkpoint_every
                if every and counts.iteration % every == 0:
                    self.save()
            self._end(stage)
            self.save()
        return True

    def row(self) -> dict[str, Any]:
        """Measurements of the stage under way, as `TrainingHistory` names them."""
        stage = self.options.stages[self.counts.stage]
        return {
            "steps": self.network.layer_steps().detach().double().cpu().numpy(),
            "seconds": self.seconds(),
            "num_layers": stage.num_layers,
            "held_out_losses": self.counts.best_loss,
            "num_skipped": self.counts.num_skipped - sum(row["num_skipped"] for row in self.rows),
        }

    def seconds(self) -> float:
        """Time spent, earlier processes included."""
        return self.counts.seconds + time.perf_counter() - self._begun

    def _make_optimizer(self) -> None:
        self.optimizer = self.options.optimizer(self.trained)
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
        make = self.options.scheduler
        self.scheduler = None if make is None else make(self.optimizer)

    def _begin(self, stage: Stage) -> None:
        if self.options.restart_optimizer and self.counts.stage:
            self._make_optimizer()
        self.counts.best_loss, self.counts.num_looks, self.best = math.inf, 0, None
        if self.options.held_out:
            self._look(stage)

    def _end(self, stage: Stage) -> None:
        held_out = self.options.held_out
        if held_out:
            if self.counts.iteration % held_out.every:
                self._look(stage)
            if self.best is not None:
                self.network.load_state_dict(self.best)
        self.rows.append(self.row())
        self.counts.stage += 1
        self.counts.iteration = 0

    def _iterate(self, stage: Stage) -> float:
        self.optimizer.zero_grad()
        counts = self.counts
        total = 0.0
        for index, rng in enumerate(self.rngs.values(), start=1):
            if index < len(self.rngs) and _size() > 1:
                with self.objective.no_sync():  # type: ignore[operator]
                    total += self._backward(stage, rng)
            else:
                total += self._backward(stage, rng)
        (total,) = distributed.summed([total], self.device)
        loss = total / self.options.batches_per_step
        self.losses[counts.stage][counts.iteration] = loss
        if math.isfinite(loss) and all(_is_finite(p.grad) for p in self.trained):
            counts.num_skipped_in_a_row = 0
            self._step(stage, loss)
        else:
            self._skip(loss)
        counts.iteration += 1
        held_out = self.options.held_out
        if held_out is None:
            counts.best_loss = (
                min(counts.best_loss, loss) if math.isfinite(loss) else counts.best_loss
            )
        elif counts.iteration % held_out.every == 0:
            self._look(stage)
        return loss

    def _backward(self, stage: Stage, rng: np.random.Generator) -> float:
        value = check_loss_value(self.objective(stage.num_layers, rng))
        if not value.requires_grad:
            raise ValueError(
                "`loss` must depend on the network's parameters, got a constant; compute it from "
                "what the network returns, without `detach` or NumPy"
            )
        (value if len(self.rngs) == 1 else value / len(self.rngs)).backward()
        return value.item()

    def _step(self, stage: Stage, loss: float) -> None:
        if self.options.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, self.options.clip_norm)
        kept = self._earlier_layers(stage)
        before = [rows.clone() for rows in kept]
        self.optimizer.step()
        # Gradients of 0 would not do: momentum goes on, and so does weight decay.
        for rows, values in zip(kept, before, strict=True):
            rows.copy_(values)
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(loss)
        elif self.scheduler is not None:
            self.scheduler.step()

    def _earlier_layers(self, stage: Stage) -> list[Tensor]:
        """Values of the layers that the stage keeps; views of the parameters."""
        if stage.first_layer == 0:
            return []
        return [
            values.detach()[: stage.first_layer]
            for values in self.network.stacked_parameters()
            if len(values) == self.network.num_layers
        ]

    def _skip(self, loss: float) -> None:
        counts = self.counts
        counts.num_skipped += 1
        counts.num_skipped_in_a_row += 1
        if counts.num_skipped_in_a_row > self.options.most_skipped:
            what = "gradient is not finite" if math.isfinite(loss) else f"loss is {loss}"
            again = (
                f", the {counts.num_skipped_in_a_row}th time in a row,"
                if self.options.most_skipped
                else ""
            )
            raise ArithmeticError(
                f"the {what}{again} in generation {counts.stage + 1}, iteration "
                f"{counts.iteration}; lower the learning rate or the initial steps"
            )

    def _look(self, stage: Stage) -> None:
        held_out = self.options.held_out
        if held_out is None or self.held_out_loss is None:
            return
        with torch.no_grad():
            rng = np.random.default_rng(held_out.seed)
            value = check_loss_value(self.held_out_loss(self.network, stage.num_layers, rng)).item()
        # All processes must come to the same decision.
        value = distributed.gathered(value)[0]
        if value < self.counts.best_loss:
            self.counts.best_loss, self.counts.num_looks = value, 0
            self.best = copy.deepcopy(self.network.state_dict())
        else:
            self.counts.num_looks += 1

    def _is_stale(self) -> bool:
        held_out = self.options.held_out
        return held_out is not None and self.counts.num_looks >= held_out.patience

    def _progress(self, stage: Stage, loss: float) -> Progress:
        counts, stages = self.counts, self.options.stages
        before = sum(other.num_iterations for other in stages[: counts.stage])
        return Progress(
            stage=counts.stage,
            num_layers=stage.num_layers,
            iteration=counts.iteration,
            num_iterations=stage.num_iterations,
            loss=loss,
            best_loss=counts.best_loss,
            num_skipped=counts.num_skipped,
            done=before + counts.iteration,
            total=sum(other.num_iterations for other in stages),
            seconds=self.seconds(),
        )

    def save(self) -> None:
        """Replace the checkpoint, where there is to be one."""
        path = self.options.checkpoint
        if path is None:
            return
        generators = distributed.gathered(
            (
                {batch: rng.bit_generator.state for batch, rng in self.rngs.items()},
                distributed.generator_state(),
            )
        )
        if distributed.rank():
            return
        state = {
            "counts": dataclasses.asdict(self.counts) | {"seconds": self.seconds()},
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "loss": self.loss.state_dict() if hasattr(self.loss, "state_dict") else None,
            "data": {batch: s for states, _ in generators for batch, s in states.items()},
            "torch": [states for _, states in generators],
            "best": self.best,
            "losses": self.losses[: self.counts.stage + 1],
            "rows": self.rows,
        }
        save_checkpoint(path, self.settings, state)

    def load(self) -> None:
        """Go on from the checkpoint."""
        path = self.options.checkpoint
        if path is None:
            return
        state = load_checkpoint(path, self.settings)
        if distributed.rank() == 0:
            remove_drafts(path)
        self.network.load_state_dict(state["network"])
        _restore(self.optimizer, state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if hasattr(self.loss, "load_state_dict"):
            self.loss.load_state_dict(state["loss"])
        for batch, rng in self.rngs.items():
            rng.bit_generator.state = state["data"][batch]
        states = state["torch"]
        if distributed.rank() < len(states):
            distributed.set_generator_state(states[distributed.rank()])
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


def _is_finite(gradient: Tensor | None) -> bool:
    # A finite sum has finite terms, and is one pass; finite terms may have a sum that is not.
    if gradient is None or math.isfinite(abs(gradient.sum().item())):
        return True
    return bool(gradient.isfinite().all())


def _size() -> int:
    return distributed.num_processes()
