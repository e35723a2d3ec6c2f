"""Steps of many right-hand sides by the Gram matrix, in few bits, with residuals from A itself.

A step on k right-hand sides takes 4mnk operations with A of shape (m, n), and 2n²k with ``AᵀA``,
which takes mn² to form. Its rounding does no harm, though its condition number is the square of
A's: the gradient at x is

    g(x) = g(y) − (AᵀA + μI)(x − y),

where g(y) was computed with A, in full precision, and y moves to x every few steps. It is iterative
refinement: what is rounded is the correction, never the solution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# Products of the Gram matrix's rounding and the condition number up to which corrections converge
# as fast as Chebyshev's polynomials say.
MOST_ROUNDING = 1e-3
# Residuals with A, in full precision, that a run makes beside its steps.
NUM_RESIDUALS = 4


class RoundedGram:
    """``AᵀA + μI``, formed once.

    Args:
        matrix: A, an ndarray of shape (m, n), real.
        ridge: μ.
        largest: About the largest eigenvalue, for the units of what is in few bits.
        dtype: That of the Gram matrix.
    """

    def __init__(self, matrix: Any, ridge: float, largest: float, dtype: Any) -> None:
        num_rows, size = matrix.shape
        self.eps = float(np.finfo(dtype).eps)
        self._unit = math.ldexp(1.0, math.frexp(math.sqrt(largest))[1])
        self._gram = np.zeros((size, size), dtype)
        # Blocks in few bits of no more rows than columns: three times the result at the most.
        for start in range(0, num_rows, size):
            block = matrix[start : start + size]
            part = np.multiply(
                block, 1 / self._unit, out=np.empty(block.shape, dtype), casting="same_kind"
            )
            self._gram += part.T @ part
        self._gram[np.diag_indices(size)] += ridge / self._unit**2

    def serves(self, condition: float) -> bool:
        """Whether refinement converges at this condition number."""
        return self.eps * condition <= MOST_ROUNDING

    def product(self, rows: Any) -> Any:
        """``(AᵀA + μI) v`` for each row v, in its own precision up to rounding."""
        # Of entries up to 1: corrections must not vanish in few bits.
        peak = abs(rows).max(-1, keepdims=True)
        peak[peak == 0] = 1
        image = (rows / peak).astype(self._gram.dtype, copy=False) @ self._gram
        return (self._unit**2 * peak) * image


class GramSteps:
    """The Gram matrix in the fewest bits that serve, formed when it first pays.

    Args:
        matrix: A, an ndarray of shape (m, n), real.
        ridge: μ.
        largest: About the largest eigenvalue of ``AᵀA + μI``.
        num_rows: Right-hand sides.
        digits: Logarithm of the reduction that is wanted.
    """

    def __init__(
        self, matrix: Any, ridge: float, largest: float, num_rows: int, digits: float
    ) -> None:
        self._matrix, self._ridge, self._largest = matrix, ridge, largest
        self._num_rows, self._digits = num_rows, digits
        self._gram: RoundedGram | None = None

    def at(self, condition: float) -> RoundedGram | None:
        """The one to step with at this condition number; None where steps with A are less work."""
        if self._gram is None or not self._gram.serves(condition):
            dtype = gram_dtype(self._matrix.dtype, condition)
            self._gram = None
            if dtype is not None and self._pays(condition, dtype.itemsize / self._matrix.itemsize):
                self._gram = RoundedGram(self._matrix, self._ridge, self._largest, dtype)
        return self._gram

    def _pays(self, condition: float, share: float) -> bool:
        num_steps = self._digits / (2 * math.atanh(min(condition**-0.5, 0.99)))
        return gram_pays(self._matrix.shape, self._num_rows, num_steps, share)


def gram_dtype(data_dtype: Any, condition: float) -> Any | None:
    """The fewest bits in which refinement converges; None if there are none."""
    for dtype in (np.float32, np.float64):
        few = np.finfo(dtype).eps >= np.finfo(data_dtype).eps
        if few and np.finfo(dtype).eps * condition <= MOST_ROUNDING:
            return np.dtype(dtype)
    return None


def gram_pays(shape: tuple[int, int], num_rows: int, num_steps: float, share: float) -> bool:
    """Whether forming the Gram matrix and stepping with it takes fewer operations than A.

    Args:
        shape: (m, n) of A.
        num_rows: Right-hand sides.
        num_steps: Steps that will be needed.
        share: Time of an operation in the Gram matrix's precision, in those of the data's.
    """
    m, n = shape
    with_matrix = 4.0 * m * n * num_rows
    with_gram = 2.0 * n * n * num_rows
    formed = share * (float(m) * n * n + num_steps * with_gram)
    return formed + NUM_RESIDUALS * with_matrix < num_steps * with_matrix
