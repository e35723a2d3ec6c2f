"""What vectors a map takes: their library, precision and device, and whether they are complex."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind, from_host, is_array, is_torch, library


class Vectors:
    """What vectors a map takes: an array such as they are, and whether products are complex."""

    def __init__(self, name: str, like: Any, hints: list[Any]) -> None:
        self.like = like
        self._name = name
        self.is_complex: bool | None = None
        self._hints = hints

    def tried(self, product: Callable[[Any], Any], vector: Any) -> Any:
        """The product with a vector of NumPy, as one of ``like``, or of what the map takes."""
        if self.like is not None:
            return product(from_host(vector, self.like))
        tensors = _tensors(self._hints)
        if not tensors:
            self.like = np.zeros(0)
            return product(vector.copy())
        # What holds tensors may take arrays, too, by way of conversions that NumPy gives up.
        candidates = [*tensors, np.zeros(0)] if self._hints else [np.zeros(0), *tensors]
        failures = []
        for like in candidates:
            try:
                image = product(from_host(vector, like))
                if is_torch(image) != is_torch(like):
                    raise TypeError(f"returned {type(image).__name__}")
            except Exception as error:  # noqa: BLE001 (whatever a function of another library does)
                failures.append((like, error))
                continue
            self.like = like
            return image
        tried = "; ".join(
            f"{library(like)} {like.dtype}: {type(error).__name__}: {str(error).split(chr(10))[0]}"
            for like, error in failures
        )
        raise TypeError(
            f"`{self._name}` must take vectors of NumPy or of torch, and none of those tried went "
            f"through; pass `like=`, an array or a tensor such as it takes. Tried: {tried}"
        ) from failures[0][1]


def _tensors(hints: list[Any]) -> list[Any]:
    """Empty tensors to try: double precision first, real first, where the hints are."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    devices = list(dict.fromkeys(str(hint.device) for hint in hints)) or ["cpu"]
    if devices == ["cpu"] and not hints and torch.cuda.is_available():
        devices.append("cuda")
    kinds = [torch.float64, torch.float32, *(hint.dtype for hint in hints)]
    kinds += [torch.complex128, torch.complex64]
    found = []
    for device in devices:
        for kind in dict.fromkeys(kinds):
            if "mps" in device and kind in (torch.float64, torch.complex128):
                continue
            found.append(torch.zeros(0, dtype=kind, device=device))
    return found


def prototype(like: Any, source: Any) -> Any:
    """An array such as the vectors are, as far as anybody says."""
    declared = like if like is not None else getattr(source, "dtype", None)
    torch = sys.modules.get("torch")
    if declared is None:
        return None
    if is_array(declared) and not isinstance(declared, type):
        return declared[..., :0].reshape(-1) if declared.ndim else declared.reshape(-1)
    if torch is not None and isinstance(declared, torch.dtype):
        device = getattr(source, "device", None) if like is None else None
        return torch.zeros(0, dtype=declared, device=device)
    if like is None and held_tensors(source):
        return None  # an object that works on tensors, and declares what NumPy calls their dtype
    try:
        kind = np.dtype(declared)
    except (TypeError, ValueError):
        raise TypeError(f"`like` must be an array or a dtype, got {declared!r}") from None
    return np.zeros(0, kind if kind.kind in "fc" else np.float64)


def held_tensors(source: Any) -> list[Any]:
    """Tensors of floating-point numbers that an object or a function holds: where it works."""
    if is_module(source):
        values = [*source.parameters(), *source.buffers()]
    else:
        inner = getattr(source, "func", source)
        owner = getattr(inner, "__self__", inner)
        cells = [
            cell.cell_contents for cell in getattr(inner, "__closure__", None) or () if _full(cell)
        ]
        code = getattr(inner, "__code__", None)
        named = [inner.__globals__.get(name) for name in code.co_names] if code else []
        values = [
            *getattr(owner, "__dict__", {}).values(),
            *cells,
            *named,
            *getattr(source, "args", ()),
        ]
        values += [p for value in values if is_module(value) for p in value.parameters()]
    return [value for value in values if is_torch(value) and dtype_kind(value.dtype) in "fc"]


def _full(cell: Any) -> bool:
    with contextlib.suppress(ValueError):
        return cell.cell_contents is not None
    return False


def is_module(source: Any) -> bool:
    """Whether it is a module of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)
