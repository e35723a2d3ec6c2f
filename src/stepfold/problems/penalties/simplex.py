"""The indicator of the simplex ``x ≥ 0, Σxᵢ = total``; its proximal operator is the projection.

The projection is ``max(v − τ, 0)`` with the τ for which the sum is right; sorted entries tell how
many stay positive.

References:
    Duchi, Shalev-Shwartz, Singer and Chandra, Efficient projections onto the l1-ball for learning
    in high dimensions (ICML 2008), section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import from_host, namespace
from stepfold._checks import check_nonnegative
from stepfold._typing import ArrayT
from stepfold.problems._rows import check_is_real, indicator, largest
from stepfold.problems.penalties.base import (
    PENALTIES,
    ConjugatePenalty,
    DualDomain,
)


@PENALTIES.register("simplex")
class Simplex(ConjugatePenalty):
    """0 where every entry is at least 0 and their sum is ``total``, infinite elsewhere.

    Args:
        total: At least 0.

    Raises:
        ValueError: If ``total`` is negative or not finite.

    >>> Simplex().prox(np.array([0.5, 1.5, -1.0]), 1.0)
    array([0., 1., 0.])
    """

    def __init__(self, total: float = 1.0) -> None:
        self.total = float(check_nonnegative("total", total))

    def value(self, x: Any) -> Any:
        """0 in the simplex, up to rounding."""
        check_is_real("a simplex", x)
        below = largest((-x).clip(0, None))
        return indicator(below + abs(x.sum(-1) - self.total), self.total * x.shape[-1])

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """The nearest point of the simplex, whatever the step."""
        rows: Any = v
        check_is_real("a simplex", v)
        # Of numbers near 0: sums of large ones would lose the digits of ``total``.
        shifted = rows - largest(rows)[..., None]
        ordered = -namespace(rows).sort(-shifted, axis=-1)
        counts = from_host(np.arange(1.0, rows.shape[-1] + 1), rows)
        thresholds = (ordered.cumsum(-1) - self.total) / counts
        positive = (ordered > thresholds).sum(-1)[..., None].clip(1, None)
        threshold = (thresholds * (counts == positive)).sum(-1)[..., None]
        nearest: ArrayT = (shifted - threshold).clip(0, None)
        return nearest

    @property
    def dual_domain(self) -> DualDomain:
        """Everything."""
        return "whole"

    def conjugate(self, v: Any) -> Any:
        """``total·max vᵢ``."""
        return self.total * largest(v)
