"""The nuclear norm, the sum of singular values: a convex stand-in for the rank.

References:
    Cai, Candès and Shen, A singular value thresholding algorithm for matrix completion (SIAM J.
    Optim. 20, 2010), section 2.
"""

from __future__ import annotations

import math
from typing import Any

from stepfold._arrays import is_torch, namespace
from stepfold._checks import check_count, check_nonnegative
from stepfold._typing import ArrayT
from stepfold.problems.penalties.base import PENALTIES, check_step
from stepfold.problems.penalties.weighted_norm import WeightedNorm


@PENALTIES.register("nuclear_norm")
class NuclearNorm(WeightedNorm):
    """``μ Σ σᵢ(X)`` of the real or complex matrix X whose rows, one after the other, are x.

    Args:
        weight: μ, at least 0.
        shape: Rows and columns of X; their product is n.

    Raises:
        ValueError: If ``weight`` is negative, or ``shape`` is not two counts.

    >>> NuclearNorm(1.0, (2, 2)).prox(np.array([3.0, 0.0, 0.0, 0.5]), 1.0).round(6)
    array([2., 0., 0., 0.])
    """

    def __init__(self, weight: float, shape: tuple[int, int]) -> None:
        self.weight = check_nonnegative("weight", weight)
        self.shape = check_shape(shape)

    def sizes(self, x: Any) -> Any:
        """σᵢ(X), descending."""
        return self._decomposition(x)[1]

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """Soft thresholding of the singular values by ``step·μ``; its derivative is finite."""
        check_step(step)
        rows: Any = v
        tracked = is_torch(v) and (rows.requires_grad or getattr(step, "requires_grad", False))
        left, values, right = self._decomposition(rows.detach() if tracked else v)
        threshold = step * self.weight
        if tracked:
            from stepfold.problems.penalties._singular_values import thresholded

            matrices = as_matrices(v, self.shape)
            moved: Any = thresholded(matrices, left, values, right, threshold)
            return moved.reshape(v.shape)  # type: ignore[no-any-return]
        shrunk = (values - threshold).clip(0, None)
        product: ArrayT = ((left * shrunk[..., None, :]) @ right).reshape(v.shape)
        return product

    def _decomposition(self, x: Any) -> tuple[Any, Any, Any]:
        """Singular value decompositions; where an entry is not finite the values are NaN."""
        matrices, xp = as_matrices(x, self.shape), namespace(x)
        finite = xp.isfinite(matrices).all(-1).all(-1)
        # Whether all are is not asked of tensors: that would be a read from the device.
        if not is_torch(x) and bool(finite.all()):
            left, values, right = xp.linalg.svd(matrices, full_matrices=False)
            return left, values, right
        # LAPACK refuses those, and with them the rows of a batch that are well.
        safe = xp.where(finite[..., None, None], matrices, 0.0)
        left, values, right = xp.linalg.svd(safe, full_matrices=False)
        return left, xp.where(finite[..., None], values, math.nan), right


def check_shape(shape: Any) -> tuple[int, int]:
    """Return rows and columns as two counts."""
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise ValueError(f"`shape` must be two counts, rows and columns, got {shape!r}")
    return check_count("shape[0]", shape[0]), check_count("shape[1]", shape[1])


def as_matrices(x: Any, shape: tuple[int, int]) -> Any:
    """Vectors as the matrices whose rows, one after the other, they are."""
    if x.shape[-1] != shape[0] * shape[1]:
        raise ValueError(
            f"`shape` {shape} is that of {shape[0] * shape[1]} entries, got rows of length "
            f"{x.shape[-1]}"
        )
    return x.reshape((*x.shape[:-1], *shape))
