"""What a training changes: the network, and the modules that the loss holds."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from stepfold.unfolded._held import described, held_by, register
from stepfold.unfolded.losses import Loss
from stepfold.unfolded.module import UnfoldedIteration


class Objective(nn.Module):
    """The loss as a module: DistributedDataParallel then sees every use of the parameters.

    What the loss itself holds, or its criterion, is trained; what samplers hold makes the data and
    does not learn.

    Attributes:
        network: The network.
        loss: The loss.
        criterion: The modules and parameters of the loss, by name.

    Raises:
        ValueError: If the step, or the loss, holds a tensor with gradients that is no parameter.
    """

    def __init__(self, network: UnfoldedIteration, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        found = held_by(getattr(loss, "criterion", loss), [self], root="criterion")
        self.criterion = nn.Module()
        register(self.criterion, {**found.modules, **found.parameters})
        for name, tensor in (found.tensors | network.register_held().tensors).items():
            if tensor.is_leaf:
                raise ValueError(
                    f"`{name}`, {described(tensor)}, has `requires_grad` and is no parameter, so "
                    "that it cannot be registered; write `nn.Parameter(tensor)`, or detach it"
                )
            raise ValueError(
                f"`{name}`, {described(tensor)}, was computed from trained values before the "
                "training; compute it in the step, or detach it"
            )
        self.criterion.to(next(network.parameters()).device)

    def forward(self, num_layers: int, rng: np.random.Generator) -> Tensor:
        """The loss of the first ``num_layers`` layers on fresh data."""
        return self.loss(self.network, num_layers, rng)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimiser changes, by the names that ``train(groups=…)`` takes."""
        groups = self.network.groups()
        if isinstance(self.loss, nn.Module):
            groups["loss"] = list(self.loss.parameters())
        for name, module in self.criterion.named_children():
            groups[name] = list(module.parameters())
        return groups | {name: [x] for name, x in self.criterion.named_parameters(recurse=False)}
