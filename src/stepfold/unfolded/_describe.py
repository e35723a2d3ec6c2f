"""What a training is, as JSON values, so that a checkpoint can tell whether it belongs to it.

Numbers are compared to nine digits, arrays by their norm and one projection: what was computed from
the same data by other numbers of threads differs in the last bits, and is the same training, which
a checksum of the bytes would refuse.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

DEEPEST = 6
# Longer lists of numbers, such as the indices of a subset, are described as arrays are.
LONGEST = 100
PLAIN = (int, float, np.integer, np.floating)


def describe(value: Any, depth: int = 0) -> Any:
    """Plain values as they are, arrays by shape and checksum, objects by class and settings.

    Attributes are looked at in this package's classes, torch's own data sets and dataclasses only:
    others may count their own calls. Of other data sets the length is told.

    >>> describe(np.eye(2)), describe(0.002)
    ('float64 of shape (2, 2), checksum 1.41421 -0.08014', 0.002)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (complex, range, torch.dtype, torch.device)):
        return str(value)
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
        described = {"kind": describe(value.func), **describe(value.keywords, depth)}
        if value.args:
            described["arguments"] = describe(value.args, depth)
        return described
    if isinstance(value, types.MethodType) and depth < DEEPEST:
        return {"kind": describe(value.__func__), "of": describe(value.__self__, depth + 1)}
    if isinstance(value, (list, tuple)):
        if len(value) > LONGEST and all(isinstance(item, PLAIN) for item in value):
            return f"{type(value).__name__} {describe(np.array(value, dtype=np.float64))}"
        return [describe(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(name): describe(item, depth + 1) for name, item in value.items()}
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"{value.__module__}.{name}"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    ours = kind.startswith("stepfold.") and not isinstance(value, nn.Module)
    is_data = isinstance(value, Dataset)
    ours = ours or (is_data and kind.startswith("torch."))
    if depth < DEEPEST and (ours or dataclasses.is_dataclass(value)):
        fields = vars(value) if hasattr(value, "__dict__") else {}
        settings = {key.lstrip("_"): describe(item, depth + 1) for key, item in fields.items()}
        return {"kind": kind, **settings}
    # Its items may be drawn at random each time.
    return {"kind": kind, "length": len(value)} if is_data and hasattr(value, "__len__") else kind


def _digest(kind: str, shape: tuple[int, ...], array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind not in "buifc":
        return f"{kind} of shape {shape}"
    is_complex = array.dtype.kind == "c"
    entries = array.ravel().astype(np.complex128 if is_complex else np.float64)
    # Signs and order are in the projection, on a fixed vector: one entry moves it by its share of
    # the norm, while rounding in single precision stays below its last digit.
    with np.errstate(all="ignore"):
        norm = float(np.linalg.norm(entries))
        share = complex(np.cos(np.arange(1.0, entries.size + 1)) @ entries / (norm or 1.0))
    parts = [share.real, share.imag] if is_complex else [share.real]
    projection = " ".join(f"{part:z.5f}" for part in parts)
    return f"{kind} of shape {shape}, checksum {norm:.6g} {projection}"
