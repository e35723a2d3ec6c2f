"""Rows of others beside one's own, so that several known steps take one exchange.

A step's entries at own unknowns need x at those that own rows touch. The entries of a second step
need the first one there, and so x at what those rows touch in turn: with the rows of others within
k − 1 edges, and x within k, k steps are made without a message in between. What is far away is
right for fewer steps than what is near, and is sent anew when its turn ends. The steps must be
known beforehand: conjugate gradients would need sums in between.

References:
    Demmel, Hoemmen, Mohiyuddin and Yelick, Avoiding communication in sparse matrix computations
    (IPDPS 2008), for powers of a matrix; with known steps nothing is said of a basis.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepfold.distributed.group import Group
from stepfold.distributed.layout import Halo, Layout
from stepfold.problems import Quadratic


class DeepHalo:
    """The problem at own unknowns and those of others around them.

    Args:
        rows: Own rows of A, CSR with the numbers of all unknowns as columns.
        rhs: b of the same unknowns, shape (mᵢ,), or (batch, mᵢ).
        layout: Who owns what.
        depth: k, at least 2; the same on all processes, which all make one.
        group: The processes.

    Attributes:
        depth: k.
        num_rows: Rows of others that are held.
    """

    def __init__(
        self, rows: Any, rhs: NDArray[Any], layout: Layout, depth: int, group: Group
    ) -> None:
        import scipy.sparse

        self.depth = depth
        held, entries = [rows], [rhs]
        numbers = [layout.own]
        reach = rows.indices
        for _ in range(depth - 1):
            around = np.setdiff1d(reach, np.concatenate(numbers))
            halo = Halo(layout, around, group)
            if not halo.is_needed:
                break  # all have reached all that they can reach
            held.append(halo.rows(rows))
            entries.append(halo.begin(rhs)())
            numbers.append(halo.numbers)
            reach = held[-1].indices
        self.num_rows = sum(one.size for one in numbers[1:])
        # The last ones have no rows here: a step leaves their entries as they are.
        numbers.append(np.setdiff1d(reach, np.concatenate(numbers)))
        last = numbers[-1].size
        entries.append(np.zeros((*rhs.shape[:-1], last), rhs.dtype))
        everything = np.concatenate(numbers)
        size = everything.size
        self._halo = Halo(layout, everything, group)
        places = np.empty(layout.size, np.int64)
        places[everything] = np.arange(size)
        self._beyond = places[self._halo.numbers]
        stacked = scipy.sparse.vstack(held, format="csr")
        pointers = np.concatenate([stacked.indptr, np.full(last, stacked.nnz)])
        kind = np.int32 if max(stacked.nnz, size) < 2**31 else np.int64
        columns = places[stacked.indices].astype(kind)
        matrix = scipy.sparse.csr_array(
            (stacked.data, columns, pointers.astype(kind)), shape=(size, size)
        )
        self._problem: Any = Quadratic(matrix, np.concatenate(entries, axis=-1))

    def filled(self, own: NDArray[Any]) -> NDArray[Any]:
        """Own entries of a vector, and those of others around them; one exchange."""
        finish = self._halo.begin(own)
        found = np.empty((*own.shape[:-1], self._problem.rhs.shape[-1]), own.dtype)
        found[..., : own.shape[-1]] = own
        found[..., self._beyond] = finish()
        return found

    def gradient_step(self, x: NDArray[Any], gamma: Any) -> NDArray[Any]:
        """A step; what is farthest away is not right any more."""
        step: NDArray[Any] = self._problem.gradient_step(x, gamma)
        return step

    def rows_of(self, places: Sequence[int]) -> Self:
        """That of some right-hand sides."""
        return self._with(self._problem.rows_of(places))

    def divided(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> Self:
        """That of A and b divided by powers of two."""
        return self._with(self._problem.divided(exponent, rhs_exponents))

    def _with(self, problem: Any) -> Self:
        twin = copy.copy(self)
        twin._problem = problem
        return twin
