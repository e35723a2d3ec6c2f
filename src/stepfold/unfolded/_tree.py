"""Nested Python values as JSON and named tensors, and back, to the last bit; no pickles.

Optimisers and schedulers keep dictionaries, tuples, numbers, counters and tensors; JSON alone would
turn tuples into lists and number keys into strings.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor


def flatten(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """JSON values in which tensors are replaced by their names; the tensors go into ``tensors``.

    Raises:
        TypeError: If something is neither data nor a tensor, with its place.
    """
    if isinstance(value, (np.ndarray, Tensor)):
        tensor = torch.as_tensor(value).detach()
        is_complex = tensor.is_complex()
        if is_complex:  # of which safetensors knows one precision only
            tensor = torch.view_as_real(tensor.resolve_conj())
        # A copy with plain strides, which `clone` would not make of one expanded number: training
        # goes on, and safetensors refuses tensors that share memory.
        tensors[path or "value"] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
        kind = "array" if isinstance(value, np.ndarray) else "tensor"
        return {"$": kind, "name": path or "value", **({"complex": True} if is_complex else {})}
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else {"$": "float", "value": str(number)}
    if isinstance(value, (list, tuple)):
        items = [flatten(item, tensors, f"{path}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$": "tuple", "items": items}
    if isinstance(value, dict):
        pairs = [
            [flatten(key, tensors, f"{path}.key"), flatten(item, tensors, f"{path}.{key}")]
            for key, item in value.items()
        ]
        return {"$": "counter" if isinstance(value, Counter) else "dict", "items": pairs}
    raise TypeError(
        f"a checkpoint cannot hold {path.lstrip('.')!r}, which is {type(value).__name__}; it keeps "
        "numbers, strings, lists, tuples, dictionaries and tensors only; leave it out of the "
        "`state_dict`, or train without a checkpoint"
    )


def unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What `flatten` was given."""
    if isinstance(value, list):
        return [unflatten(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value["$"]
    if kind in ("tensor", "array"):
        tensor = tensors[value["name"]]
        tensor = torch.view_as_complex(tensor) if value.get("complex") else tensor
        return tensor.numpy() if kind == "array" else tensor
    if kind == "float":
        return float(value["value"])
    if kind == "tuple":
        return tuple(unflatten(item, tensors) for item in value["items"])
    pairs = {unflatten(key, tensors): unflatten(item, tensors) for key, item in value["items"]}
    return Counter(pairs) if kind == "counter" else pairs
