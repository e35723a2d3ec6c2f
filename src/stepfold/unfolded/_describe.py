"""What a training is, as JSON values, so that a checkpoint can tell whether it belongs to it."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 4


def describe(value: Any, depth: int = 0) -> Any:
    """Plain values as they are, arrays by shape and checksum, objects by class and settings.

    Attributes are looked at in this package's classes and in dataclasses only: others may count
    their own calls.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return _digest(value.dtype, value.shape, value.reshape(-1).contiguous().view(torch.uint8))
    if isinstance(value, np.ndarray):
        return _digest(value.dtype, value.shape, np.ascontiguousarray(value).reshape(-1))
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


def _digest(dtype: Any, shape: Any, content: Any) -> str:
    checksum = zlib.crc32(np.asarray(content).tobytes())
    return f"{dtype} of shape {tuple(shape)}, checksum {checksum}"
