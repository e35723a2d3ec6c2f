"""The loop that every training shares: gradients averaged over mini-batches, stage by stage."""

from __future__ import annotations

import contextlib
import copy
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stepfold.iterations import Iteration
from stepfold.unfolded import distributed
from stepfold.unfolded._doubts import Doubts, first_not_finite
from stepfold.unfolded._held import described, leaves_of
from stepfold.unfolded._layers import tensors_in
from stepfold.unfolded._objective import Objective
from stepfold.unfolded._state import State
from stepfold.unfolded._warnings import quiet
from stepfold.unfolded.choice import as_loss
from stepfold.unfolded.losses import Loss, check_loss_value
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.options import Options
from stepfold.unfolded.progress import Progress
from stepfold.unfolded.samplers import Sampler
from stepfold.unfolded.stages import Stage


class Loop:
    """One training under way.

    Attributes:
        state: All that changes, as it was when the latest iteration had ended.
        device: Where it takes place.
    """

    def __init__(self, network: UnfoldedIteration, loss: Loss | Sampler, options: Options) -> None:
        self.network = network
        self.loss = as_loss(network, loss)
        held_out = options.held_out
        self._held_out_loss = None if held_out is None else as_loss(network, held_out.loss)
        # Held-out data that remember: each look begins where the first did.
        sampler = getattr(self._held_out_loss, "sampler", None)
        self._held_out_data = sampler if hasattr(sampler, "load_state_dict") else None
        if self._held_out_data is not None:
            self._first = copy.deepcopy(self._held_out_data.state_dict())
        self.options = options
        objective = Objective(network, self.loss)
        self.state = State(objective, options)
        self.device = self.state.trained[0].device
        # Steps are in every layer; a function may ignore them, or a shallow stage another value.
        plain = isinstance(network.iteration, Iteration) and len(self.state.trained) == 1
        self._objective = distributed.wrapped(objective, self.device, may_leave_out=not plain)
        self._is_shared = distributed.num_processes() > 1
        self._buffers = list(objective.buffers())
        self._doubts = Doubts(objective, quiet=distributed.rank() > 0)
        self._is_seen = False
        self._stacked = network.stacked_parameters()
        stacked = {id(raw) for raw in self._stacked}
        self._weights = [each for each in self.state.trained if id(each) not in stacked]
        frozen = any(stage.first_layer for stage in options.stages)
        if hasattr(network, "_orig_mod") and self._weights and frozen:
            raise ValueError(
                "`stages` cannot leave modules of first layers alone in a compiled network, whose "
                "graph does not tell layers apart; train the network, then compile it"
            )

    def run(self, watch: Callable[[Progress], bool] | None) -> bool:
        """Train to the end; false if ``watch`` stopped it. Leaves torch's generators alone."""
        with torch.random.fork_rng():
            return self._run(watch)

    def _run(self, watch: Callable[[Progress], bool] | None) -> bool:
        counts, options = self.state.counts, self.options
        while counts.stage < len(options.stages):
            stage = options.stages[counts.stage]
            if counts.iteration == 0:
                self._begin(stage)
            self._kept = self._left_alone(stage)
            while counts.iteration < stage.num_iterations and not self._is_stale():
                loss = self._iterate(stage)
                if watch and watch(self._progress(stage, loss)):
                    self._save()
                    return False
                every = options.checkpoint_every
                if every and counts.iteration % every == 0:
                    self._save()
            self._end(stage)
            self._save()
        return True

    def row(self) -> dict[str, Any]:
        """Measurements of the stage under way, as `TrainingHistory` names them."""
        counts = self.state.counts
        skipped_before = sum(row["num_skipped"] for row in self.state.rows)
        return {
            "steps": self.network.layer_steps().detach().double().cpu().numpy(),
            "seconds": self.state.seconds(),
            "num_layers": self.options.stages[counts.stage].num_layers,
            "held_out_losses": counts.best_loss,
            "num_skipped": counts.num_skipped - skipped_before,
        }

    def _begin(self, stage: Stage) -> None:
        state, self._is_seen = self.state, False
        if self.options.restart_optimizer and state.counts.stage:
            state.make_optimizer()
        self._doubts.begin()
        state.counts.best_loss, state.counts.num_looks, state.best = math.inf, 0, None
        if self.options.held_out:
            self._look(stage)

    def _end(self, stage: Stage) -> None:
        state, held_out = self.state, self.options.held_out
        if held_out:
            if state.counts.iteration % held_out.every:
                self._look(stage)
            if state.best is None:
                raise ArithmeticError(
                    f"the held-out loss was never finite in stage {state.counts.stage + 1}; "
                    "look for NaN in the held-out data, or lower the initial steps"
                )
            with quiet():
                for name, values in state.best.items():
                    getattr(state.objective, name).load_state_dict(values)
            torch.clear_autocast_cache()
        row = self.row()
        if row["num_skipped"] == state.counts.iteration > 0:
            raise ArithmeticError(
                f"in stage {state.counts.stage + 1} every iteration, {row['num_skipped']}, "
                "was skipped for a loss or a gradient that is not finite; look for NaN in the "
                "data, or lower the initial steps"
            )
        state.rows.append(row)
        self._doubts.end(state.counts.stage, state.losses[state.counts.stage])
        state.counts.stage += 1
        state.counts.iteration = 0

    def _iterate(self, stage: Stage) -> float:
        state, counts = self.state, self.state.counts
        for parameter in state.trained:
            parameter.grad = None
        before = [values.clone() for values in self._buffers]
        self._late: set[int] = set()
        levels = []
        for index, batch in enumerate(state.rngs, start=1):
            if index < len(state.rngs) and self._is_shared:
                with self._objective.no_sync():  # type: ignore[operator]
                    levels.append(self._backward(stage, batch))
            else:
                levels.append(self._backward(stage, batch))
        if stage.first_layer:
            self._leave_first_layers(stage)
        if state.scaler is not None:
            state.scaler.unscale_(state.optimizer)
        loss, is_finite = self._read(levels)
        state.losses[counts.stage][counts.iteration] = loss
        if is_finite:
            self._doubts.look(stage, loss)
            counts.num_skipped_in_a_row = 0
            self._step(loss)
        else:
            for values, value in zip(self._buffers, before, strict=True):
                values.copy_(value)
            self._skip(stage, loss)
        if state.scaler is not None:
            state.scaler.update()
        counts.iteration += 1
        held_out = self.options.held_out
        if held_out is None:
            counts.best_loss = (
                min(counts.best_loss, loss) if math.isfinite(loss) else counts.best_loss
            )
        elif counts.iteration % held_out.every == 0:
            self._look(stage)
        return loss

    def _read(self, levels: list[Tensor]) -> tuple[float, bool]:
        """The loss, and whether it and all gradients are finite: one read from the device."""
        gradients = [each.grad for each in self.state.trained if each.grad is not None]
        numbers = [*levels, _norm(gradients)]
        if self.device.type == "cpu":
            *losses, length = [number.item() for number in numbers]
        else:
            *losses, length = torch.stack([number.to(numbers[0]) for number in numbers]).tolist()
        (total,) = distributed.summed([sum(losses)], self.device)
        # The norm of finite gradients may overflow.
        is_finite = math.isfinite(length) or all(bool(x.isfinite().all()) for x in gradients)
        return total / self.options.batches_per_step, math.isfinite(total) and is_finite

    def _backward(self, stage: Stage, batch: int) -> Tensor:
        # Torch's generators, too, depend on the batch alone, not on who computes it, or when.
        counts, scaler = self.state.counts, self.state.scaler
        _seed(self.device, self.options.seed, batch, counts.stage, counts.iteration)
        # Casts of weights that have moved since, or that were cast where no gradients were asked.
        torch.clear_autocast_cache()
        value = check_loss_value(self._value(stage, batch))
        if not value.requires_grad:
            raise ValueError(
                "`loss` must depend on the network's parameters, got a constant; compute it from "
                "what the network returns, without `detach` or NumPy"
            )
        if not self._is_seen:
            self._look_at(value)
        level = value.detach()
        if self.options.relative:
            # A loss of 0 has no logarithm; its gradient is 0 in any case.
            value = value / torch.where(level == 0, 1.0, level.abs())
        if len(self.state.rngs) > 1:
            value = value / len(self.state.rngs)
        (value if scaler is None else scaler.scale(value)).backward()
        return level

    def _value(self, stage: Stage, batch: int) -> Any:
        rng = self.state.rngs[batch]
        if not stage.first_layer or not self._weights:
            return self._objective(stage.num_layers, rng)
        handed_on: list[Any] = []

        def watch(index: int, state: Any) -> None:
            if index < stage.first_layer:  # a criterion may look at each of these iterates
                handed_on.extend(each.grad_fn for each in tensors_in(state))

        with self.network.watched(watch):
            value = self._objective(stage.num_layers, rng)
        if isinstance(value, Tensor):
            # Weights that are used behind that layer, too, are trained.
            self._late |= leaves_of(value, [each for each in handed_on if each]).keys()
        return value

    def _look_at(self, value: Tensor) -> None:
        """Raise if the loss depends on trainable values that nobody trains; once a stage."""
        self._is_seen = True
        known = {id(parameter) for parameter in self.state.trained}
        hidden = [leaf for number, leaf in leaves_of(value).items() if number not in known]
        if hidden:
            names = "; ".join(described(leaf) for leaf in hidden[:5])
            more = f" and {len(hidden) - 5} more" if len(hidden) > 5 else ""
            raise ValueError(
                f"`loss` depends on trained values that the network does not have: {names}{more}; "
                'give the network their modules by `modules={"name": module}`, or freeze them by '
                "`requires_grad_(False)`"
            )

    def _leave_first_layers(self, stage: Stage) -> None:
        """Drop gradients that would count in the norm, and in the optimiser's moments."""
        for each in self._stacked:
            if each.grad is not None and len(each) == self.network.num_layers:
                each.grad[: stage.first_layer] = 0
        for each in self._weights:
            if id(each) not in self._late:
                each.grad = None

    def _step(self, loss: float) -> None:
        state = self.state
        if self.options.clip_norm is not None:
            nn.utils.clip_grad_norm_(state.trained, self.options.clip_norm)
        before = [rows.clone() for rows in self._kept]
        if state.scaler is None:
            state.optimizer.step()
        else:
            state.scaler.step(state.optimizer)
        torch.clear_autocast_cache()
        # Gradients of 0 would not do: momentum goes on, and so does weight decay.
        for rows, values in zip(self._kept, before, strict=True):
            rows.copy_(values)
        if isinstance(state.scheduler, ReduceLROnPlateau):
            if self.options.held_out is None:
                state.scheduler.step(loss)
        elif state.scheduler is not None:
            state.scheduler.step()

    def _left_alone(self, stage: Stage) -> list[Tensor]:
        """Copies that only layers outside the stage use; views."""
        outside = []
        for values in (each.detach() for each in self._stacked):
            outside.append(values[stage.num_layers :])
            if len(values) == self.network.num_layers:
                outside.append(values[: stage.first_layer])
        return [rows for rows in outside if len(rows)]

    def _skip(self, stage: Stage, loss: float) -> None:
        counts = self.state.counts
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
                f"the {what}{again} in stage {counts.stage + 1}, iteration "
                f"{counts.iteration}; look for NaN in the data, or begin anew with a lower "
                "learning rate or smaller steps"
                f"{first_not_finite(self.network, self.loss, stage.num_layers)}"
            )

    def _look(self, stage: Stage) -> None:
        held_out = self.options.held_out
        if held_out is None or self._held_out_loss is None:
            return
        _seed(self.device, held_out.seed)
        torch.clear_autocast_cache()
        with torch.no_grad(), _evaluated(self.network), self._from_the_first():
            rng = np.random.default_rng(held_out.seed)
            loss = self._held_out_loss(self.network, stage.num_layers, rng)
        value = check_loss_value(loss).item()
        # All processes must come to the same decision.
        value = distributed.gathered(value)[0]
        counts = self.state.counts
        if value < counts.best_loss:
            counts.best_loss, counts.num_looks = value, 0
            self.state.best = copy.deepcopy(self.state.values())
        else:
            counts.num_looks += 1
        if isinstance(self.state.scheduler, ReduceLROnPlateau):
            self.state.scheduler.step(value)

    @contextlib.contextmanager
    def _from_the_first(self) -> Iterator[None]:
        """Let held-out data that remember begin where they began, without a trace."""
        data = self._held_out_data
        if data is None:
            yield
            return
        before = copy.deepcopy(data.state_dict())
        data.load_state_dict(self._first)
        try:
            yield
        finally:
            data.load_state_dict(before)

    def _is_stale(self) -> bool:
        held_out = self.options.held_out
        return held_out is not None and self.state.counts.num_looks >= held_out.patience

    def _progress(self, stage: Stage, loss: float) -> Progress:
        counts, stages = self.state.counts, self.options.stages
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
            seconds=self.state.seconds(),
        )

    def _save(self) -> None:
        if self.options.checkpoint is not None:
            self.state.save(self.options.checkpoint)


def _seed(device: torch.device, *numbers: int) -> None:
    """Let torch's generators start from what these numbers make."""
    seed = zlib.crc32(" ".join(map(str, numbers)).encode())
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)  # a hundredth of the time of the other
    else:
        torch.manual_seed(seed)


@contextlib.contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Without dropout and the like, and without a trace in running averages."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _norm(gradients: list[Tensor]) -> Tensor:
    """Length of all gradients together, without a read from the device."""
    plain = [x.coalesce().values() if x.is_sparse else x for x in gradients]
    values = plain[0]
    if len(plain) > 1:
        norms = torch._foreach_norm(plain)
        values = torch.stack([x.to(norms[0]) for x in norms])
    length: Tensor = torch.linalg.vector_norm(values)
    return length
