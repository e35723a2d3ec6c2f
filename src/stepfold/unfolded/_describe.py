"""What a training is, as JSON values, so that a checkpoint can tell whether it belongs to it.

Numbers are compared to nine digits, arrays by two norms to six: what was computed from the same
data by other numbers of threads differs in the last bits, and is the same training.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 4


def describe(value: Any, depth: int = 0) -> Any:
    """Plain values as they are, arrays by shape and checksum, objects by class and settings.

    Attributes are looked at in this package's classes and in dataclasses only: others may count
    their own calls.

    >>> describe(np.eye(2)), describe(0.002)
    ('float64 of shape (2, 2), checksum 1.41421 4.12311', 0.002)
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(f"{value:.9g}") if np.isfinite(value) else str(value)
    if isinstance(value, Tensor):
        stored = value.detach()
        if stored.layout is not torch.strided:
            stored = (stored.coalesce() if stored.is_sparse else stored).values()
        stored = stored.cpu() if stored.is_complex() else stored.cpu().double()
        return _digest(str(value.dtype).removeprefix("torch."), tuple(value.shape), stored.numpy())
    if isinstance(value, np.ndarray):
        return _digest(str(value.dtype), value.shape, value)
    if isinstance(value, functools.partial):
        settings = {name: describe(item, depth + 1) for name, item in value.keywords.items()}
        return {"kind": describe(value.func), **settings}
    if isinstance(value, (list, tuple)):
        return [describe(item, depth + 1) for item in value]
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"{value.__module__}.{name}"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    ours = kind.startswith("stepfold.") and not isinstance(value, nn.Module)
    if depth < DEEPEST and (ours or dataclasses.is_dataclass(value)):
        fields = vars(value) if hasattr(value, "__dict__") else {}
        settings = {key.lstrip("_"): describe(item, depth + 1) for key, item in fields.items()}
        return {"kind": kind, **settings}
    return kind


def _digest(kind: str, shape: tuple[int, ...], array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind not in "buifc":
        return f"{kind} of shape {shape}"
    sizes = np.abs(array.ravel())
    # The second norm tells the order of the entries; neither suffers from cancellation.
    norms = [np.linalg.norm(sizes), np.linalg.norm(sizes * np.arange(1, sizes.size + 1))]
    checksum = " ".join(f"{norm:.6g}" for norm in norms)
    return f"{kind} of shape {shape}, checksum {checksum}"
