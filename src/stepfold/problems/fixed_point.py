"""Fixed points ``x = f(x)`` of any map: what is iterated is ``x ← x + ω(f(x) − x)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from stepfold._typing import ArrayT


class FixedPoint(Generic[ArrayT]):
    """The equation ``x = f(x)``.

    Args:
        map: f, from arrays of NumPy or torch, of any shape, to arrays of the same shape.

    >>> FixedPoint(np.cos).residual(np.array([0.0]))
    array([1.])
    """

    def __init__(self, map: Callable[[ArrayT], ArrayT]) -> None:  # noqa: A002 (the field's word)
        if not callable(map):
            raise TypeError(f"`map` must be callable, got {type(map).__name__}")
        self.map = map

    def residual(self, x: ArrayT) -> ArrayT:
        """``f(x) − x``, of the shape of ``x``."""
        image: Any = self.map(x)
        residual: ArrayT = image - x
        return residual

    def relaxation_step(self, x: ArrayT, omega: Any) -> ArrayT:
        """``x + omega·(f(x) − x)``."""
        moved: ArrayT = x + omega * self.residual(x)
        return moved
