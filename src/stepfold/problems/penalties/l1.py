"""The L1 norm ``μ‖x‖₁``: its proximal operator is soft thresholding."""

from __future__ import annotations

from typing import Any

from stepfold._checks import check_nonnegative
from stepfold._typing import ArrayT
from stepfold.problems._rows import indicator, largest
from stepfold.problems.penalties.base import (
    PENALTIES,
    ConjugatePenalty,
    DualDomain,
    check_step,
)


@PENALTIES.register("l1")
class L1(ConjugatePenalty):
    """``μ‖x‖₁``.

    Args:
        weight: μ, at least 0.

    Raises:
        ValueError: If ``weight`` is negative or not finite.

    >>> L1(2.0).prox(np.array([3.0, -0.5, -4.0]), 0.5)
    array([ 2.,  0., -3.])
    """

    def __init__(self, weight: float) -> None:
        self.weight = check_nonnegative("weight", weight)

    def value(self, x: Any) -> Any:
        """``μ Σ|xᵢ|``."""
        return self.weight * abs(x).sum(-1)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """``v − clip(v, −step·μ, step·μ)``: soft thresholding."""
        check_step(step)
        return soft_threshold(v, step * self.weight)

    @property
    def dual_domain(self) -> DualDomain:
        """The cube ``|vᵢ| ≤ μ``; for μ = 0 a point, which nothing enters."""
        return "star" if self.weight > 0 else "other"

    def conjugate(self, v: Any) -> Any:
        """0 in the cube ``|vᵢ| ≤ μ``."""
        return indicator(largest(abs(v)) - self.weight, self.weight)

    def dual_scale(self, v: Any) -> Any:
        """``min(1, μ/max|vᵢ|)``."""
        return norm_scale(largest(abs(v)), self.weight)


def soft_threshold(v: ArrayT, threshold: Any) -> ArrayT:
    """``sign(v)·max(|v| − threshold, 0)``."""
    vector: Any = v
    shrunk: ArrayT = vector - vector.clip(-threshold, threshold)
    return shrunk


def norm_scale(dual_norm: Any, weight: float) -> Any:
    """``min(1, weight/dual_norm)``, and 1 for a dual norm of 0."""
    if weight == 0:
        return (dual_norm == 0) * 1.0
    return weight / dual_norm.clip(weight, None)
