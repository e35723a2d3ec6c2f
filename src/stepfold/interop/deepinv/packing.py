"""Images and measurements of deepinv as rows of real numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Packing:
    """Tensors of one shape, or lists of them, as real rows and back."""

    def __init__(self, name: str, example: Any) -> None:
        self._list = None if isinstance(example, Tensor) else type(example)
        parts: list[Any] = [example] if self._list is None else list(example)
        for part in parts:
            if not isinstance(part, Tensor) or not (part.is_floating_point() or part.is_complex()):
                raise TypeError(
                    f"`{name}` must be a tensor of floating-point numbers, got "
                    f"{getattr(part, 'dtype', type(part).__name__)}"
                )
            if part.ndim < 2 or part.numel() == 0:
                raise ValueError(
                    f"`{name}` must have an axis for a batch in front and not be empty, got shape "
                    f"{tuple(part.shape)}; write `image[None]` for a single one"
                )
        self._shapes = [tuple(part.shape[1:]) for part in parts]
        self._complex = [part.is_complex() for part in parts]
        sizes = zip(self._shapes, self._complex, strict=True)
        self._lengths = [math.prod(shape) * (2 if double else 1) for shape, double in sizes]
        self.length = sum(self._lengths)
        self.batch = len(parts[0])
        self.dtype: torch.dtype = parts[0].real.dtype

    def rows(self, values: Any) -> Tensor:
        """One row of real numbers for each image of the batch."""
        parts = [values] if self._list is None else list(values)
        if [tuple(part.shape[1:]) for part in parts] != self._shapes:
            raise ValueError(
                f"tensors must have the shapes (batch, …) with … = {self._shapes}, got "
                f"{[tuple(part.shape) for part in parts]}"
            )
        real = [torch.view_as_real(part) if part.is_complex() else part for part in parts]
        flat = [part.reshape(len(part), -1) for part in real]
        return flat[0] if len(flat) == 1 else torch.cat(flat, 1)

    def values(self, rows: Tensor) -> Any:
        """What has these rows."""
        if not isinstance(rows, Tensor):
            raise TypeError(
                f"rows must be tensors, got {type(rows).__name__}; pose the problem on tensors, as "
                "by `torch.from_numpy`"
            )
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != self.length:
            raise ValueError(
                f"rows must have shape ({self.length},) or (batch, {self.length}), got "
                f"{tuple(rows.shape)}"
            )
        parts = []
        pieces: Sequence[Tensor] = torch.split(rows, self._lengths, 1)
        for piece, shape, double in zip(pieces, self._shapes, self._complex, strict=True):
            part = piece.reshape(len(piece), *shape, *((2,) if double else ()))
            parts.append(torch.view_as_complex(part.contiguous()) if double else part)
        return parts[0] if self._list is None else self._list(parts)
