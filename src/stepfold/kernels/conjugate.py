"""Steps of conjugate gradients with a sparse matrix, many to a call.

A step has three parts that wait for each other: direction, product, update. Where each of them is a
call of its own, waking threads and interpreting what is between takes longer than the arithmetic.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stepfold._typing import FloatArray
from stepfold.kernels._compiler import Argument, compiled
from stepfold.kernels._threads import num_threads, run_together, split_by_weight

# Threads meet three times a step: more of them on fewer unknowns would only wait for each other.
LEAST_ROWS = 2**13
MOST_THREADS = 16
# Stored entries that a call reads at the most: it takes a few hundredths of a second.
MOST_ENTRIES = 2**24
# Numbers between what two threads write, as in `_conjugate_loops`, which loads numba.
APART = 16


@dataclass(frozen=True, eq=False)
class Steps:
    """What a call did.

    Args:
        done: A row (β, pᵀp, pᵀAp, α, gᵀg after it) for each step.
        failed: β, pᵀp and pᵀAp of a step that was not made, because pᵀAp is not positive.
        saved: The last iterate that was saved, and gᵀg there; None if there was none.
    """

    done: FloatArray
    failed: FloatArray | None
    saved: tuple[Any, float] | None


class ConjugateBlock:
    """Conjugate gradients on ``½xᵀAx − bᵀx`` for one right-hand side.

    Args:
        matrix: A, CSR and symmetric, kept and never written to.
        loop: The compiled loop.
    """

    def __init__(self, matrix: Any, loop: Any) -> None:
        self.matrix, self._loop = matrix, loop
        num_parts = max(1, min(num_threads(), MOST_THREADS, matrix.shape[0] // LEAST_ROWS))
        ranges = split_by_weight(matrix.indptr, num_parts)
        self._starts = np.array([0, *(stop for _, stop in ranges)], dtype=np.intp)

    @classmethod
    def of(cls, matrix: Any, x: Any) -> Self | None:
        """That of a matrix in a form that kernels take; None if the plain formula is to serve."""
        if not hasattr(os, "sched_yield"):
            return None
        number, index = str(x.dtype), str(matrix.indices.dtype)
        written = (number, 1)
        stored: list[Argument] = [(str(matrix.dtype), 1, "r"), (index, 1, "r")]
        stored.append((str(matrix.indptr.dtype), 1, "r"))
        numbers, written_numbers = ("float64", 1, "r"), ("float64", 1)
        loop = compiled(
            "_conjugate_loops",
            "conjugate",
            *stored,
            *[written] * 5,
            ("float64", 2),
            numbers,
            numbers,
            ("int64", 1),
            written_numbers,
            ("int64", 1),
            ("intp", 1, "r"),
            "intp",
        )
        return None if loop is None else cls(matrix, loop)

    def __call__(
        self,
        vectors: tuple[Any, Any, Any],
        scalars: tuple[float, float, float, bool],
        *,
        stop: float,
        better: tuple[float, float],
        flat: tuple[float, float],
        num_steps: int,
    ) -> Steps:
        """Make steps, in place.

        Args:
            vectors: x, the gradient g there, and the last direction p.
            scalars: ``gᵀg``, that before the last step, ``pᵀp``, and whether there is no p yet.
            stop: The square of a gradient norm to stop at.
            better: ``gᵀg`` below which x is saved before it grows, and what that of a saved one is
                multiplied by for the next.
            flat: The largest Rayleigh quotient so far, and the share of it up to which one is 0.
            num_steps: Most steps; fewer are made of a large matrix.
        """
        num_steps = max(1, min(num_steps, MOST_ENTRIES // max(1, self.matrix.nnz)))
        x, _, _ = vectors
        num_parts = len(self._starts) - 1
        image, saved = np.empty_like(x), np.empty_like(x)
        log = np.empty((num_steps, 5))
        limits = np.array([stop, *better, flat[1]])
        start = np.array([*scalars, flat[0]], dtype=np.float64)
        outcome = np.zeros(3, dtype=np.int64)
        sums = np.zeros(num_parts * APART)
        meetings = np.zeros(num_parts * APART, dtype=np.int64)
        matrix = self.matrix
        arrays = (matrix.data, matrix.indices, matrix.indptr, *vectors, image, saved)
        numbers = (log, limits, start, outcome, sums, meetings, self._starts)
        run_together(self._loop, [(*arrays, *numbers, part) for part in range(num_parts)])
        count, failed, saved_at = outcome.tolist()
        kept = None
        if saved_at >= 0:
            kept = saved, float(log[saved_at - 1, 4]) if saved_at else scalars[0]
        return Steps(log[:count], log[count, :3] if failed else None, kept)
