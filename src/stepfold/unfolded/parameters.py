"""Trainable values beside the steps: thresholds, momentum, noise levels, matrices.

A layer has a copy of its own, or layers share copies in turn: with period p layer t uses copy
``t mod p``, so that p = 1 is one value for all layers. Copies are stacked along a first axis.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stepfold._checks import check_period, check_real
from stepfold.schedules import Schedule
from stepfold.unfolded._warnings import TrainingWarning
from stepfold.unfolded._written import written

Constraint = nn.Module | Callable[[], nn.Module]


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
        return values * torch.ones_like(values).masked_fill_(values < 0, -1)

    def right_inverse(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values


class Bounded(nn.Module):
    """Parametrisation of values between two bounds: ``lower + (upper − lower)·sigmoid(v)``.

    Args:
        lower: Smallest value, approached and not reached.
        upper: Largest value, approached and not reached; 2/b, with b an upper bound of the Hessian,
            keeps every single step from diverging.

    Raises:
        ValueError: Unless lower < upper, both finite.

    >>> bounded = Bounded(0.0, 2.0)
    >>> [round(value, 3) for value in bounded(torch.tensor([-50.0, 0.0, 50.0])).tolist()]
    [0.0, 1.0, 2.0]
    >>> bounded.right_inverse(torch.tensor(1.0)).item()
    0.0
    """

    def __init__(self, lower: float, upper: float) -> None:
        super().__init__()
        self.lower, self.upper = (
            float(check_real("lower", lower)),
            float(check_real("upper", upper)),
        )
        if not (np.isfinite([self.lower, self.upper]).all() and self.lower < self.upper):
            raise ValueError(
                f"bounds must satisfy `lower` < `upper`, both finite, got lower={lower!r}, "
                f"upper={upper!r}"
            )

    def forward(self, values: Tensor) -> Tensor:
        """Values between the bounds."""
        return self.lower + (self.upper - self.lower) * torch.sigmoid(values)

    def right_inverse(self, values: Tensor) -> Tensor:
        """What `forward` maps to ``values``; infinite at a bound, NaN beyond."""
        return torch.logit((values - self.lower) / (self.upper - self.lower))

    def extra_repr(self) -> str:
        """The bounds."""
        return f"{self.lower:g}, {self.upper:g}"


@dataclass(frozen=True, eq=False)
class Trainable:
    """A parameter of the layers of an `UnfoldedIteration`: where it starts, and who shares it.

    Args:
        initial: A number, array or tensor from which every copy starts; or a list, tuple or
            `Schedule` with one entry for each copy.
        period: None gives each layer a copy of its own, 1 lets all layers share one, p lets the
            layers use p copies in turn.
        constraint: A module, or what makes one, that maps what the optimiser changes to the values
            that layers see, and whose method ``right_inverse`` maps values back to one tensor that
            gives them: `Positive` if not given, ``Bounded(lower, upper)``, None for values of
            either sign.

    Raises:
        TypeError: If ``constraint`` is no module and makes none, or, when a network is made,
            ``initial`` is not made of real numbers.
        ValueError: If ``period`` is not positive, or, when a network is made, longer than that, or
            ``initial`` is not finite, or no value that ``constraint`` gives.

    >>> Trainable(0.1, period=1).initial
    0.1
    """

    initial: Any
    period: int | None = None
    constraint: Constraint | None = field(default=Positive)

    def __post_init__(self) -> None:
        if self.period is not None:
            check_period(self.period)
        if self.constraint is not None and not callable(self.constraint):
            raise TypeError(
                "`constraint` must be a module, or make one, as the class `Positive` does, or be "
                f"None, got {type(self.constraint).__name__}"
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
        is_positive = self.constraint is Positive or isinstance(self.constraint, Positive)
        if is_positive and bool((values < 0).any()):
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


def _original(name: str, what: str, constraint: nn.Module, values: Tensor) -> Tensor:
    """The tensor that a constraint maps to ``values``; raises unless there is one."""
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
            f"`constraint` of {name!r} reaches the {what} from infinity only, from which "
            "training does not return; give others"
        )
    if not near:
        worst = int((given - values).abs().nan_to_num(torch.inf).argmax())
        remedy = (
            "give it a method `right_inverse(values)` that returns what it maps to them"
            if there is None
            else f"give {what} that it can take, or mend its `right_inverse`"
        )
        raise ValueError(
            f"`constraint` of {name!r} must give the {what}, and gives "
            f"{given.flatten()[worst].item():g} for {values.flatten()[worst].item():g}; {remedy}"
        )
    return original


class LayerValues(nn.Module):
    """The copies of one `Trainable`.

    Attributes:
        name: Of the parameter.
        raw: What the optimiser changes.
        constraint: Maps it to the values; None if they are the same.
    """

    def __init__(
        self, name: str, trainable: Trainable, num_layers: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        values = trainable.copies(name, num_layers, dtype)
        self.name = name
        made: Any = trainable.constraint
        if made is not None and not isinstance(made, nn.Module):
            made = made()
            if not isinstance(made, nn.Module):
                raise TypeError(
                    f"`constraint` of {name!r} must make a torch.nn.Module, got "
                    f"{type(made).__name__}"
                )
        self.constraint: nn.Module | None = made
        if made is not None:
            values = _original(name, "`initial` values", made, values)
        self.raw = nn.Parameter(values.clone())

    def values(self) -> Tensor:
        """Copies that layers use, shape (copies, …)."""
        values: Tensor = self.raw if self.constraint is None else self.constraint(self.raw)
        return values

    @property
    def is_positive(self) -> bool:
        """Whether they are absolute values."""
        return isinstance(self.constraint, Positive)

    @property
    def stacked(self) -> Tensor:
        """What `values` returns; written into in place, or assigned, it is what is trained next."""
        return self.raw if self.constraint is None else written(self.values(), self._set)

    @stacked.setter
    def stacked(self, values: Any) -> None:
        self._set(torch.as_tensor(values, dtype=self.raw.dtype, device=self.raw.device))

    def _set(self, values: Tensor) -> None:
        with torch.no_grad():
            shape = self.values().shape
            if values.shape != shape:
                raise ValueError(
                    f"{self.name!r} must have shape {tuple(shape)}, got {tuple(values.shape)}"
                )
            values = values.to(self.raw)
            if not bool(values.isfinite().all()):
                raise ValueError(f"{self.name!r} must be finite, got a NaN or infinite entry")
            if self.constraint is not None:
                values = _original(self.name, "values", self.constraint, values)
            self.raw.copy_(values)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        self._check_signs(self.raw)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._check_signs(self.raw)

    def _check_signs(self, raw: Tensor) -> None:
        if self.is_positive and raw.device.type != "meta" and bool((raw < 0).any()):
            warnings.warn(
                f"`state_dict` holds raw values of {self.name!r}, some of them negative, of which "
                "layers use the absolute values; take them from `network.steps`, "
                "`network.values(name)` or `network.export()`",
                TrainingWarning,
                stacklevel=2,
            )

    def settle(self) -> None:
        """Store positive values by themselves, whatever sign training has left."""
        if self.is_positive:
            self.raw.detach().abs_()

    def by_layer(self, num_layers: int) -> list[Tensor]:
        """Values of the first ``num_layers`` layers."""
        copies = self.values().unbind()
        return [copies[layer % len(copies)] for layer in range(num_layers)]
