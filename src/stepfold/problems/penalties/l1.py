"""The L1 norm ``μ‖x‖₁``: its proximal operator is soft thresholding."""

from __future__ import annotations

import math
from typing import Any

from stepfold._typing import ArrayT
from stepfold.problems.penalties.base import PENALTIES, Penalty


@PENALTIES.register("l1")
class L1(Penalty):
    """``μ‖x‖₁``.

    Args:
        weight: μ, at least 0.

    Raises:
        ValueError: If ``weight`` is negative or not finite.

    >>> L1(2.0).prox(np.array([3.0, -0.5, -4.0]), 0.5)
    array([ 2.,  0., -3.])
    """

    def __init__(self, weight: float) -> None:
        if not 0 <= weight < math.inf:
            raise ValueError(f"`weight` must be at least 0 and finite, got {weight!r}")
        self.weight = weight

    def value(self, x: Any) -> Any:
        """``μ Σ|xᵢ|``."""
        return self.weight * abs(x).sum(-1)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """``v − clip(v, −step·μ, step·μ)``: soft thresholding."""
        threshold = step * self.weight
        vector: Any = v
        shrunk: ArrayT = vector - vector.clip(-threshold, threshold)
        return shrunk
