"""Trainable values beside the steps: thresholds, momentum, noise levels, matrices.

A layer has a copy of its own, or layers share copies in turn: with period p layer t uses copy
``t mod p``, so that p = 1 is one value for all layers. Copies are stacked along a first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stepfold._checks import check_count
from stepfold.schedules import Schedule


class Positive(nn.Module):
    """Parametrisation by absolute values.

    Published training uses ``|γ|``: it keeps values positive, forbids no long step and, unlike a
    softplus, leaves the size of an Adam update alone. At 0 its slope is 1, so that a value may
    start there.

    >>> Positive()(torch.tensor([-0.5, 2.0])).tolist()
    [0.5, 2.0]
    """

    def forward(self, values: Tensor) -> Tensor:
        """``|values|``."""
        # torch's `abs` has slope 0 at 0, and what starts there would stay there.
        return torch.where(values < 0, -values, values)

    def right_inverse(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values


@dataclass(frozen=True, eq=False)
class Trainable:
    """A parameter of the layers of an `UnfoldedIteration`: where it starts, and who shares it.

    Args:
        initial: A number, array or tensor from which every copy starts; or a list, tuple or
            `Schedule` with one entry for each copy.
        period: None gives each layer a copy of its own, 1 lets all layers share one, p lets the
            layers use p copies in turn.
        constraint: Makes a module that maps what the optimiser changes to the values that layers
            see, and whose method ``right_inverse`` maps values back to one tensor that gives them;
            `Positive` if not given, None for values of either sign.

    Raises:
        TypeError: If ``constraint`` makes no module, or, when a network is made, ``initial`` is not
            made of real numbers.
        ValueError: If ``period`` is not positive, or, when a network is made, longer than that, or
            ``initial`` is not finite, or no value that ``constraint`` gives.

    >>> Trainable(0.1, period=1).initial
    0.1
    """

    initial: Any
    period: int | None = None
    constraint: Callable[[], nn.Module] | None = field(default=Positive)

    def __post_init__(self) -> None:
        if self.period is not None:
            check_count("period", self.period)
        if self.constraint is not None and not callable(self.constraint):
            raise TypeError(
                "`constraint` must make a module, as the class `Positive` does, or be None, got "
                f"{type(self.constraint).__name__}"
            )

    def copies(self, name: str, num_layers: int, dtype: torch.dtype) -> Tensor:
        """Initial values stacked, shape (copies, …)."""
        num_copies = num_layers if self.period is None else self.period
        if num_copies > num_layers:
            raise ValueError(
                f"`period` of {name!r} must be at most the number of layers, {num_layers}, got "
                f"{self.period}: copies that no layer uses would stay untrained; give a shorter "
                "period or more layers"
            )
        if isinstance(self.initial, Schedule):
            values = torch.tensor(self.initial.steps.tolist(), dtype=dtype)
        elif isinstance(self.initial, (list, tuple)):
            entries = [_tensor(name, entry, dtype) for entry in self.initial]
            if not entries or any(entry.shape != entries[0].shape for entry in entries):
                shapes = ", ".join(str(tuple(entry.shape)) for entry in entries)
                raise ValueError(
                    f"`initial` of {name!r} must be a list of one entry for each copy, of one "
                    f"shape, got {shapes or 'an empty list'}"
                )
            values = torch.stack(entries)
        else:
            one = _tensor(name, self.initial, dtype)
            values = one.expand(num_copies, *one.shape).clone()
        if len(values) != num_copies:
            raise ValueError(
                f"`initial` of {name!r} must have one entry for each of {num_copies} copies, got "
                f"{len(values)}; give one number or array for all, or another `period`"
            )
        if not values.numel():
            raise ValueError(
                f"`initial` of {name!r} must hold numbers, got shape {tuple(values.shape[1:])}"
            )
        if not bool(values.isfinite().all()):
            raise ValueError(f"`initial` of {name!r} must be finite, got a NaN or infinite entry")
        if self.constraint is Positive and bool((values < 0).any()):
            raise ValueError(
                f"`initial` of {name!r} must not be negative, got {values.min().item():g}; give "
                "`constraint=None` for values of either sign"
            )
        return values


def _tensor(name: str, value: Any, dtype: torch.dtype) -> Tensor:
    if isinstance(value, Tensor):
        tensor = value.detach()
    else:
        array = np.array(value)
        if array.dtype.kind not in "buifc":
            raise TypeError(
                f"`initial` of {name!r} must hold numbers, got {type(value).__name__} of dtype "
                f"{array.dtype}"
            )
        tensor = torch.from_numpy(array)
    if tensor.is_complex():
        raise TypeError(
            f"`initial` of {name!r} must be real, got {tensor.dtype}; train real and imaginary "
            "parts as two parameters"
        )
    return tensor.to(dtype)


def _check_constraint(name: str, constraint: Any, values: Tensor) -> None:
    """Raise unless it is a module that gives ``values``, from one tensor."""
    if not isinstance(constraint, nn.Module):
        raise TypeError(
            f"`constraint` of {name!r} must make a torch.nn.Module, got {type(constraint).__name__}"
        )
    there: Any = getattr(constraint, "right_inverse", None)
    with torch.no_grad():
        original = values if there is None else there(values)
        if not isinstance(original, Tensor):
            raise ValueError(
                f"`constraint` of {name!r} must have a `right_inverse` that returns one tensor, "
                f"got {type(original).__name__}"
            )
        given = constraint(original)
    if given.shape != values.shape or given.dtype != values.dtype:
        raise ValueError(
            f"`constraint` of {name!r} must keep shape and dtype, {tuple(values.shape)} of "
            f"{values.dtype}, got {tuple(given.shape)} of {given.dtype}"
        )
    # Inverses round, iterative ones more.
    rtol = max(1e-3, 8 * torch.finfo(values.dtype).eps)
    near = torch.allclose(given, values, rtol=rtol, atol=rtol * float(values.abs().max()))
    if near and not bool(original.isfinite().all()):
        raise ValueError(
            f"`constraint` of {name!r} reaches the initial values from infinity only, from which "
            "training does not return; give others"
        )
    if not near:
        worst = int((given - values).abs().nan_to_num(torch.inf).argmax())
        remedy = (
            "give it a method `right_inverse(values)` that returns what it maps to them"
            if there is None
            else "give `initial` values that it can take, or mend its `right_inverse`"
        )
        raise ValueError(
            f"`constraint` of {name!r} must give the initial values, and gives "
            f"{given.flatten()[worst].item():g} for {values.flatten()[worst].item():g}; {remedy}"
        )


class LayerValues(nn.Module):
    """The copies of one `Trainable`.

    Attributes:
        stacked: Tensor of shape (copies, …), after the constraint.
    """

    stacked: Tensor

    def __init__(
        self, name: str, trainable: Trainable, num_layers: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        values = trainable.copies(name, num_layers, dtype)
        self.stacked = nn.Parameter(values)
        if trainable.constraint is not None:
            constraint = trainable.constraint()
            _check_constraint(name, constraint, values)
            parametrize.register_parametrization(self, "stacked", constraint)

    def by_layer(self, num_layers: int) -> list[Tensor]:
        """Values of the first ``num_layers`` layers."""
        copies = self.stacked.unbind()
        return [copies[layer % len(copies)] for layer in range(num_layers)]
