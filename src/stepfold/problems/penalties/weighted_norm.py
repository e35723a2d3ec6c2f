"""Norms ``Σ μₖ sₖ(x)`` of sizes: of entries, of groups, of singular values.

The conjugate is 0 where no size exceeds its weight.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from stepfold.problems._rows import indicator, is_positive, largest, top, weights_of
from stepfold.problems.penalties.base import ConjugatePenalty, DualDomain


class WeightedNorm(ConjugatePenalty):
    """``Σ μₖ sₖ(x)`` with the weights μ in ``weight``, a number or one for each size."""

    takes_complex = True
    weight: Any

    @abstractmethod
    def sizes(self, x: Any) -> Any:
        """sₖ(x), shape (…, sizes)."""

    def value(self, x: Any) -> Any:
        """``Σ μₖ sₖ(x)``."""
        sizes = self.sizes(x)
        return (weights_of("weight", self.weight, sizes) * sizes).sum(-1)

    @property
    def dual_domain(self) -> DualDomain:
        """Where ``sₖ(v) ≤ μₖ``; flat, so that nothing enters it, where a weight is 0."""
        return "star" if is_positive(self.weight) else "other"

    def conjugate(self, v: Any) -> Any:
        """0 where ``sₖ(v) ≤ μₖ`` for all k."""
        sizes = self.sizes(v)
        return indicator(
            largest(sizes - weights_of("weight", self.weight, sizes)), top(self.weight)
        )

    def dual_scale(self, v: Any) -> Any:
        """``min(1, μₖ/sₖ(v))`` over all k."""
        sizes = self.sizes(v)
        return norm_scale(sizes, weights_of("weight", self.weight, sizes))


def norm_scale(sizes: Any, weight: Any) -> Any:
    """``min(1, weight/size)`` over the last axis; a size of 0 allows 1."""
    allowed = sizes.clip(weight, None)
    # In the precision of the sizes: a number and truth values make singles in torch.
    is_zero = 0 * allowed + (allowed == 0)
    return -largest(-(weight + is_zero) / (allowed + is_zero))
