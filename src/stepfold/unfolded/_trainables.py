"""What the layers of a network have of their own that is trained: steps, and other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stepfold._checks import check_depth
from stepfold._typing import FloatArray
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import is_list
from stepfold.unfolded.parameters import Constraint, LayerValues, Trainable


class TrainableLayers(nn.Module):
    """Step sizes and parameters of T layers, by name.

    Args:
        schedule: Initial step sizes; layers share them periodically.
        num_layers: T.
        parameters: Further values by name, as in `UnfoldedIteration`.
        constraint: What keeps the steps in their range.
        dtype: Floating-point type.
    """

    iteration: Any
    """What a layer does, or a list of it for each; whoever adds layers sets it."""

    def __init__(
        self,
        schedule: Schedule,
        num_layers: int,
        parameters: Mapping[str, Any],
        constraint: Constraint | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        trainable = Trainable(schedule, schedule.period, constraint)
        self.step_values = LayerValues("steps", trainable, num_layers, dtype)
        self._names: dict[str, str] = {}
        self.extra = nn.ModuleDict()
        for name, trainable in parameters.items():
            if not isinstance(trainable, Trainable):
                trainable = Trainable(trainable)
            key = name.replace(".", "__")
            self.extra[key] = LayerValues(name, trainable, num_layers, dtype)
            self._names[name] = key

    @property
    def steps(self) -> Tensor:
        """Step sizes, shape (period,); see the class."""
        return self.step_values.stacked

    @steps.setter
    def steps(self, values: Any) -> None:
        self.step_values.stacked = values

    def __setattr__(self, name: str, value: Any) -> None:
        # torch would register an `nn.Parameter` under a name that is taken, and raise a KeyError.
        is_parameter = name == "steps" and isinstance(value, nn.Parameter)
        super().__setattr__(name, value.detach() if is_parameter else value)

    def check_num_layers(self, num_layers: int | None, *, deeper: bool = True) -> int:
        """Return ``num_layers``, or T for None, after checking its range.

        Args:
            num_layers: At most T; more if layers share all that they have, and ``deeper`` is true.
            deeper: Whether that is allowed.
        """
        if num_layers is None:
            return self.num_layers
        if check_depth(num_layers) > self.num_layers:
            own = self._own_values()
            if own or not deeper:
                reason = (
                    f"each layer has a copy of its own of {', '.join(own)}; layers that share "
                    "everything run deeper"
                    if own
                    else "make the network deeper to train more layers"
                )
                raise ValueError(
                    f"`num_layers` must be at most the network's {self.num_layers}, got "
                    f"{num_layers}; {reason}"
                )
        return num_layers

    def _own_values(self) -> list[str]:
        """What each layer has of its own."""
        copies = {"its step": len(self.steps)}
        copies |= {repr(name): len(self.values(name)) for name in self._names}
        if is_list(self.iteration):
            copies["the iteration"] = len(self.iteration)
        return [name for name, number in copies.items() if number == self.num_layers]

    def layer_steps(self, num_layers: int | None = None) -> Tensor:
        """Step sizes of the first ``num_layers`` layers, shape (num_layers,), for autograd."""
        num_layers = self.check_num_layers(num_layers)
        steps = self.step_values.values()
        period = steps.shape[0]
        if period < num_layers:
            steps = steps.repeat(-(-num_layers // period))
        return steps if period == num_layers else steps[:num_layers]

    def stacked_parameters(self) -> list[nn.Parameter]:
        """What the optimiser changes, of shapes (copies, …): the steps first, then the others."""
        return [values.raw for values in self.layer_values().values()]

    def layer_values(self) -> dict[str, LayerValues]:
        """What holds the steps and the other parameters, by name."""
        extra: Any = self.extra
        return {
            "steps": self.step_values,
            **{name: extra[key] for name, key in self._names.items()},
        }

    def values(self, name: str) -> Tensor:
        """Copies of the parameter ``name``, shape (copies, …); written into as ``steps`` are.

        Raises:
            KeyError: If there is no such parameter.
        """
        if name not in self._names:
            raise KeyError(
                f"there is no parameter {name!r}; there are {', '.join(self._names) or 'none'}"
            )
        return self.layer_values()[name].stacked

    def learned(self) -> dict[str, FloatArray]:
        """Copies of all parameters beside the steps, by name, as arrays of shape (copies, …)."""
        return {name: self.values(name).detach().cpu().numpy().copy() for name in self._names}

    def set_values(self, steps: Any, parameters: Mapping[str, Any]) -> None:
        """Set the steps, shape (period,), and parameters by name, shape (copies, …)."""
        held = self.layer_values()
        for name, values in {"steps": steps, **parameters}.items():
            held[name].stacked = values

    def schedule(self, num_layers: int | None = None) -> Schedule:
        """Step sizes of the first ``num_layers`` layers as data, in the order of the layers.

        >>> from stepfold import Schedule
        >>> from stepfold.unfolded import UnfoldedIteration
        >>> UnfoldedIteration(Schedule([0.5, 0.25])).schedule().name
        'learned'
        """
        steps = self.layer_steps(num_layers).detach().double().cpu().numpy()
        return Schedule(steps, "learned", signed=bool(steps.min() <= 0))
