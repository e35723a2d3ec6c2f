"""The elastic net ``μ‖x‖₁ + ½ρ‖x‖²``: soft thresholding, then shrinkage.

References:
    Zou and Hastie, Regularization and variable selection via the elastic net (J. R. Statist. Soc. B
    67, 2005), section 2.
"""

from __future__ import annotations

from typing import Any

from stepfold._checks import check_nonnegative
from stepfold._typing import ArrayT
from stepfold.problems.penalties.base import (
    PENALTIES,
    ConjugatePenalty,
    DualDomain,
    check_step,
)
from stepfold.problems.penalties.l1 import L1, soft_threshold


@PENALTIES.register("elastic_net")
class ElasticNet(ConjugatePenalty):
    """``μ‖x‖₁ + ½ρ‖x‖²``.

    Args:
        weight: μ, at least 0.
        ridge: ρ, at least 0; 0 is `L1`.

    Raises:
        ValueError: If one is negative or not finite.

    >>> ElasticNet(2.0, 2.0).prox(np.array([3.0, -0.5, -4.0]), 0.5)
    array([ 1. ,  0. , -1.5])
    """

    def __init__(self, weight: float, ridge: float) -> None:
        self.weight = check_nonnegative("weight", weight)
        self.ridge = check_nonnegative("ridge", ridge)

    def value(self, x: Any) -> Any:
        """``μ Σ|xᵢ| + ½ρ Σxᵢ²``."""
        return self.weight * abs(x).sum(-1) + self.ridge / 2 * (x * x).sum(-1)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """Soft thresholding by ``step·μ``, divided by ``1 + step·ρ``."""
        check_step(step)
        shrunk: Any = soft_threshold(v, step * self.weight)
        scaled: ArrayT = shrunk / (1 + step * self.ridge)
        return scaled

    @property
    def dual_domain(self) -> DualDomain:
        """Everything, for ρ > 0."""
        return "whole" if self.ridge > 0 else L1(self.weight).dual_domain

    def conjugate(self, v: Any) -> Any:
        """``Σ max(|vᵢ| − μ, 0)²/(2ρ)``."""
        if self.ridge == 0:
            return L1(self.weight).conjugate(v)
        excess = (abs(v) - self.weight).clip(0, None)
        return (excess * excess).sum(-1) / (2 * self.ridge)

    def dual_scale(self, v: Any) -> Any:
        """1, for ρ > 0."""
        return L1(self.weight).dual_scale(v) if self.ridge == 0 else 0 * v.sum(-1) + 1.0
