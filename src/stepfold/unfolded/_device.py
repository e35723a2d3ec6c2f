"""Devices: which there are, and samples on that of the network, for samplers draw on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

_WHOLE = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device, nn.Module, type)


def moved(value: Any, device: torch.device) -> Any:
    """A copy whose tensors are on ``device``; in tuples, lists, dictionaries, and attributes.

    Functions and modules stay as they are.

    >>> moved((torch.ones(2), {"rows": 3}), torch.device("meta"))[0].device.type
    'meta'
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        items = [moved(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [moved(item, device) for item in value]
    if isinstance(value, dict):
        return {name: moved(item, device) for name, item in value.items()}
    if isinstance(value, _WHOLE) or not hasattr(value, "__dict__") or hasattr(value, "__code__"):
        return value
    clone = copy.copy(value)
    vars(clone).update(moved(vars(value), device))  # frozen ones, too
    return clone


def check_device(name: Any) -> None:
    """Raise unless torch can compute on the device of this name, here and now.

    Raises:
        ValueError: If it cannot.

    >>> check_device("cpu")
    """
    try:
        torch.ones(1, device=name).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(
            f"`device` must be one that torch finds here, got {name!r} ({reason}); take 'cpu'"
        ) from None
