"""What can be seen early of a training that will learn nothing, each shown by its numbers.

Steps that are equal and whose gradients are equal stay equal: they do what one step does. A layer
whose gradients are exactly 0 does not learn; a threshold above all that it is compared with makes
one. A loss that rises over a stage was not minimised.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._typing import FloatArray
from stepfold.unfolded._layers import tensors_in
from stepfold.unfolded._objective import Objective
from stepfold.unfolded._warnings import TrainingWarning
from stepfold.unfolded.losses import Loss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.stages import Stage

# Iterations in which a gradient that is not 0 shows that a value learns.
MOST_LOOKS = 10
# Gradients of equal steps differ by rounding where the loss is symmetric in them.
SAME = 1e-5
# Losses of a stage that are compared, and by how much noise may move them.
FEWEST_LOSSES = 20
NOISE = 1.05


class Doubts:
    """Watches the stages of one training.

    Args:
        objective: What is trained.
        quiet: Whether another process speaks.
    """

    def __init__(self, objective: Objective, *, quiet: bool) -> None:
        network = objective.network
        names = ["step", *network.learned()]
        self._stacked = dict(zip(names, network.stacked_parameters(), strict=True))
        self._modules = {
            name: values
            for name, values in objective.groups().items()
            if name not in ("steps", *names) and any(each.requires_grad for each in values)
        }
        self._num_layers = network.num_layers
        self._quiet = quiet
        self._learns: dict[str, Tensor] | None = None
        self._num_looks = 0

    def begin(self) -> None:
        """Forget the stage before."""
        self._num_looks = 0
        self._still = set(self._modules)
        self._learns = {
            name: torch.zeros(len(raw), dtype=torch.bool, device=raw.device)
            for name, raw in self._stacked.items()
            if raw.requires_grad
        }

    def look(self, stage: Stage, loss: float) -> None:
        """See the gradients of an iteration; nothing after the first of a stage."""
        if self._learns is None or self._quiet or loss == 0:
            return
        if self._num_looks == 0:
            self._look_for_equal_steps(stage)
        for name, learns in self._learns.items():
            gradient = self._stacked[name].grad
            if gradient is not None:
                learns |= (gradient != 0).flatten(1).any(1) if gradient.ndim > 1 else gradient != 0
        for name in list(self._still):
            if any(map(_is_moved, self._modules[name])):
                self._still.discard(name)
        self._num_looks += 1
        if self._num_looks == min(MOST_LOOKS, stage.num_iterations):
            self._look_for_dead_values(stage, self._learns)
            self._look_for_still_modules(stage)
            self._learns = None

    def end(self, stage: int, losses: FloatArray) -> None:
        """See the losses of a stage."""
        losses = losses[np.isfinite(losses)]
        if losses.size < FEWEST_LOSSES or self._quiet:
            return
        few = max(FEWEST_LOSSES // 2, losses.size // 10)
        first, last = losses[:few], float(np.median(losses[-few:]))
        if last > NOISE * first.max():
            _warn(
                f"the loss rose in stage {stage + 1}, from {np.median(first):.3g} to {last:.3g} "
                f"(medians of {few} iterations); lower the learning rate, clip gradients by "
                "`clip_norm`, or stop early by `held_out`"
            )

    def _look_for_equal_steps(self, stage: Stage) -> None:
        raw = self._stacked["step"]
        if raw.grad is None:
            return
        first = stage.first_layer if len(raw) == self._num_layers else 0
        values = raw.detach()[first : stage.num_layers].tolist()
        gradients = raw.grad[first : stage.num_layers].tolist()
        alike: dict[float, list[int]] = defaultdict(list)
        for place, value in enumerate(values):
            alike[value].append(place)
        largest = max(map(abs, gradients), default=0.0)
        for value, places in alike.items():
            seen = [gradients[place] for place in places]
            if len(places) > 1 and largest > 0 and max(seen) - min(seen) <= SAME * largest:
                layers = ", ".join(str(first + place) for place in places)
                _warn(
                    f"steps {layers} (from 0) are equal, {value:.4g}, and so are their gradients: "
                    "trained together they stay equal and do what one step does; start from steps "
                    'that differ, such as `chebyshev_steps` or `start="theory"`, or train by '
                    "`incremental` stages"
                )

    def _look_for_dead_values(self, stage: Stage, learns: dict[str, Tensor]) -> None:
        seen = {name: values.tolist() for name, values in learns.items()}
        own = {name: x for name, x in seen.items() if len(x) == self._num_layers}
        layers = range(stage.first_layer, stage.num_layers)
        # Momentum has nothing to act on in the first layer; a step has.
        dead = [
            layer
            for layer in layers
            if own and not any(x[layer] for x in own.values()) and ("step" in own or layer > 0)
        ]
        if dead:
            _warn(
                f"all gradients of layer {', '.join(map(str, dead))} (from 0) were exactly 0 in "
                f"{self._num_looks} iterations ({', '.join(own)}): it does not learn; a threshold "
                "may be above everything that it is compared with, or a later layer forgets its "
                "output; begin with smaller thresholds"
            )
        for name, x in seen.items():
            used = x[layers.start : layers.stop] if name in own else x[: stage.num_layers]
            if len(layers) > 1 and not any(used) and len(dead) < len(layers):
                _warn(
                    f"the gradient of {name!r} was exactly 0 in all layers for {self._num_looks} "
                    "iterations: it does not learn; the step may not use it, or a threshold may be "
                    "above everything, or clamped; look at its name and its initial value"
                )

    def _look_for_still_modules(self, stage: Stage) -> None:
        # Modules of layers that a stage leaves out have no gradients, as it should be.
        if stage.first_layer == 0 and stage.num_layers == self._num_layers and self._still:
            _warn(
                f"no gradient has reached {', '.join(map(repr, sorted(self._still)))} in "
                f"{self._num_looks} iterations: its weights do not learn; it may not be used, or "
                "be used under `no_grad`, by `detach`, or in an autograd.Function; freeze it by "
                "`requires_grad_(False)` if that is meant"
            )


def _is_moved(parameter: Tensor) -> bool:
    gradient = parameter.grad
    if gradient is None:
        return False
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool((values != 0).any())


def _warn(message: str) -> None:
    warnings.warn(message, TrainingWarning, stacklevel=2)


def first_not_finite(network: UnfoldedIteration, loss: Loss, num_layers: int) -> str:
    """In words, the layer after which the iterate of another mini-batch is not finite; or ""."""
    bad: list[int] = []

    def watch(index: int, state: Any) -> None:
        if not bad and not all(bool(each.isfinite().all()) for each in tensors_in(state)):
            bad.append(index)

    with torch.no_grad(), network.watched(watch):
        value = float(loss(network, num_layers, np.random.default_rng(0)))
    if bad:
        return (
            f"; of another mini-batch the iterate is not finite after layer {bad[0]} (from 0): "
            "look at what that layer divides by, and at the data that it is given"
        )
    if not math.isfinite(value):
        return (
            "; of another mini-batch all iterates are finite and the loss is not: it overflows, or "
            "the criterion or the target is not finite"
        )
    return ""
