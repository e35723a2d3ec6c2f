"""The L1 norm ``Σ μᵢ|xᵢ|``: its proximal operator is soft thresholding.

Of complex numbers it shrinks the moduli and keeps the phases.
"""

from __future__ import annotations

import math
from typing import Any

from stepfold._arrays import dtype_kind, namespace, zeros_like
from stepfold._typing import ArrayT
from stepfold.problems._rows import check_weight, weights_of
from stepfold.problems.penalties.base import PENALTIES, Face, SeparablePenalty, check_step
from stepfold.problems.penalties.weighted_norm import WeightedNorm


@PENALTIES.register("l1")
class L1(WeightedNorm, SeparablePenalty):
    """``Σ μᵢ|xᵢ|``, of real or complex entries.

    Args:
        weight: μ, at least 0: a number, or one for each entry. An entry of weight 0 is not
            penalised, as an intercept is not.

    Raises:
        ValueError: If ``weight`` is negative or not finite.

    >>> L1(2.0).prox(np.array([3.0, -0.5, -4.0]), 0.5)
    array([ 2.,  0., -3.])
    >>> L1([0.0, 1.0]).prox(np.array([3.0, 3.0]), 1.0)
    array([3., 2.])
    """

    def __init__(self, weight: Any) -> None:
        self.weight = check_weight("weight", weight)

    def sizes(self, x: Any) -> Any:
        """``|xᵢ|``."""
        return abs(x)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """Soft thresholding by ``step·μ``."""
        check_step(step)
        return soft_threshold(v, step * weights_of("weight", self.weight, v))

    def face(self, x: Any) -> Face:
        """Entries that are not 0 or not penalised are free, and keep their signs if they are."""
        return signed_face(x, weights_of("weight", self.weight, x), 0.0)


def signed_face(x: Any, weight: Any, ridge: Any) -> Face:
    """The face of ``Σ μᵢ|xᵢ| + ½ρᵢxᵢ²``."""
    xp = namespace(x)
    kinked = zeros_like(x) + weight > 0
    infinite = zeros_like(x) + math.inf
    zero = zeros_like(x)
    return Face(
        ~kinked | (x != 0),
        weight * xp.sign(x),
        ridge,
        xp.where(kinked & (x > 0), zero, -infinite),
        xp.where(kinked & (x < 0), zero, infinite),
    )


def soft_threshold(v: ArrayT, threshold: Any) -> ArrayT:
    """``v·max(1 − threshold/|v|, 0)``."""
    vector: Any = v
    if dtype_kind(vector.dtype) == "c":
        moduli = abs(vector)
        # An entry of 0 has modulus 1 here: it stays 0, and its derivative is a number.
        factors = (1 - threshold / (moduli + (moduli == 0))).clip(0, None)
        product: ArrayT = vector * factors
        return product
    shrunk: ArrayT = vector - vector.clip(-threshold, threshold)
    return shrunk
