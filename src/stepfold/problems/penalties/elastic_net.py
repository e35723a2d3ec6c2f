"""The elastic net ``Σ μᵢ|xᵢ| + ½ρᵢ|xᵢ|²``: soft thresholding, then shrinkage.

References:
    Zou and Hastie, Regularization and variable selection via the elastic net (J. R. Statist. Soc. B
    67, 2005), section 2.
"""

from __future__ import annotations

from typing import Any

from stepfold._typing import ArrayT
from stepfold.problems._rows import (
    check_weight,
    indicator,
    is_positive,
    largest,
    squares,
    top,
    weights_of,
)
from stepfold.problems.penalties.base import (
    PENALTIES,
    DualDomain,
    Face,
    SeparablePenalty,
    check_step,
)
from stepfold.problems.penalties.l1 import signed_face, soft_threshold
from stepfold.problems.penalties.weighted_norm import norm_scale


@PENALTIES.register("elastic_net")
class ElasticNet(SeparablePenalty):
    """``Σ μᵢ|xᵢ| + ½ρᵢ|xᵢ|²``, of real or complex entries.

    Args:
        weight: μ, at least 0: a number, or one for each entry.
        ridge: ρ, likewise; 0 is `L1`.

    Raises:
        ValueError: If one is negative or not finite.

    >>> ElasticNet(2.0, 2.0).prox(np.array([3.0, -0.5, -4.0]), 0.5)
    array([ 1. ,  0. , -1.5])
    """

    takes_complex = True

    def __init__(self, weight: Any, ridge: Any) -> None:
        self.weight = check_weight("weight", weight)
        self.ridge = check_weight("ridge", ridge)

    def _of(self, x: Any) -> tuple[Any, Any]:
        return weights_of("weight", self.weight, x), weights_of("ridge", self.ridge, x)

    def value(self, x: Any) -> Any:
        """``Σ μᵢ|xᵢ| + ½ρᵢ|xᵢ|²``."""
        weight, ridge = self._of(x)
        return (weight * abs(x) + ridge / 2 * squares(x)).sum(-1)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """Soft thresholding by ``step·μ``, divided by ``1 + step·ρ``."""
        check_step(step)
        weight, ridge = self._of(v)
        shrunk: Any = soft_threshold(v, step * weight)
        scaled: ArrayT = shrunk / (1 + step * ridge)
        return scaled

    @property
    def dual_domain(self) -> DualDomain:
        """Everything, where ρ > 0; ``|vᵢ| ≤ μᵢ`` in entries with ρᵢ = 0."""
        if is_positive(self.ridge):
            return "whole"
        # Of two arrays, or of an array and a number, the sum is above 0 where one of them is.
        return "star" if is_positive(self.weight + self.ridge) else "other"

    def conjugate(self, v: Any) -> Any:
        """``Σ max(|vᵢ| − μᵢ, 0)²/(2ρᵢ)``; where ρᵢ is 0 the square must be."""
        weight, ridge = self._of(v)
        is_zero = ridge == 0
        excess = (abs(v) - weight).clip(0, None)
        value = (excess * excess / (2 * (ridge + is_zero)) * (1 - 1.0 * is_zero)).sum(-1)
        return value + indicator(largest(excess * is_zero), top(self.weight))

    def dual_scale(self, v: Any) -> Any:
        """``min(1, μᵢ/|vᵢ|)`` over the entries with ρᵢ = 0."""
        weight, ridge = self._of(v)
        return norm_scale(abs(v) * (ridge == 0), weight)

    def face(self, x: Any) -> Face:
        """Entries that are not 0 or not penalised are free, and keep their signs if they are."""
        return signed_face(x, *self._of(x))
