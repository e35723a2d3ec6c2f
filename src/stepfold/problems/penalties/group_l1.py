"""The group L1 norm ``Σ_g μ_g‖x_g‖₂``: whole groups are shrunk, or vanish together.

References:
    Yuan and Lin, Model selection and estimation in regression with grouped variables (J. R.
    Statist. Soc. B 68, 2006), section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import from_host
from stepfold._typing import ArrayT
from stepfold.problems._rows import check_weight, squares, weights_of
from stepfold.problems.penalties.base import PENALTIES, check_step
from stepfold.problems.penalties.weighted_norm import WeightedNorm


@PENALTIES.register("group_l1")
class GroupL1(WeightedNorm):
    """``Σ_g μ_g‖x_g‖₂`` over groups that do not overlap, of real or complex entries.

    Args:
        weight: μ, at least 0: a number, or one for each group, in ascending order of labels.
        groups: For each of the n entries the label of its group, any integers, shape (n,).

    Raises:
        TypeError: If labels are not integers.
        ValueError: If ``weight`` is negative, or ``groups`` is not one row of labels.

    >>> GroupL1(1.0, [0, 0, 1]).prox(np.array([3.0, 4.0, 0.5]), 1.0)
    array([2.4, 3.2, 0. ])
    """

    def __init__(self, weight: Any, groups: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        self.weight = check_weight("weight", weight)
        labels = np.asarray(groups)
        if labels.ndim != 1 or labels.size == 0:
            raise ValueError(
                f"`groups` must hold one label for each entry, got shape {labels.shape}"
            )
        if labels.dtype.kind not in "iu":
            raise TypeError(f"`groups` must hold integers, got dtype {labels.dtype}")
        _, self._labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        count = math.prod(getattr(self.weight, "shape", ()))
        if count not in (1, sizes.size):
            raise ValueError(
                f"`weight` must be a number, or one for each of the {sizes.size} groups, got "
                f"{count} numbers"
            )
        # Members of each group, padded to the largest; the padding is masked out of sums.
        self._mask = np.arange(sizes.max()) < sizes[:, None]
        self._members = np.zeros(self._mask.shape, dtype=np.intp)
        self._members[self._mask] = np.argsort(self._labels, kind="stable")

    def sizes(self, x: Any) -> Any:
        """``‖x_g‖``."""
        return self._squares(x) ** 0.5

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """``max(1 − step·μ/‖v_g‖, 0)·v_g`` in each group."""
        check_step(step)
        squares = self._squares(v)
        # A group of zeros has norm 1 here: it stays zero, and its derivative is a number.
        norms = (squares + (squares == 0)) ** 0.5
        factors = (1 - step * weights_of("weight", self.weight, norms) / norms).clip(0, None)
        shrunk: ArrayT = v * factors[..., self._labels]
        return shrunk

    def _squares(self, x: Any) -> Any:
        """``‖x_g‖²``, shape (…, groups)."""
        if x.shape[-1] != self._labels.size:
            raise ValueError(
                f"`groups` labels {self._labels.size} entries, got rows of length {x.shape[-1]}"
            )
        members = x[..., self._members] * from_host(self._mask, x)
        return squares(members).sum(-1)
