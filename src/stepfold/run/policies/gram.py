"""Corrections of many right-hand sides by a factored Gram matrix in few bits.

A gradient of k right-hand sides takes 4mnk operations with A of shape (m, n). ``AᵀA`` takes mn² to
form and n³/3 to factor, once; then a correction ``d = −(AᵀA + μI)⁻¹ g`` takes 2n²k. Its rounding
does no harm, though the condition number is the square of A's: the gradient g is computed with A,
in full precision, after every correction. It is iterative refinement: what is rounded is the
correction, never the solution.

Where A has fewer rows than columns and there is no ridge, ``d = −Aᵀ(AAᵀ)⁻¹r`` for the residual r:
with the last product in full precision iterates keep to the range of Aᵀ, where the solution of
smallest norm is.

References:
    Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 12 and 20.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from stepfold._krylov import lanczos
from stepfold.problems import LeastSquares
from stepfold.spectrum import Certainty, SpectralBounds

# Products of the factor's rounding and the condition number up to which corrections converge fast.
MOST_ROUNDING = 1e-3
# For the ends of the spectrum; the upper one is put a little farther out.
LANCZOS_STEPS, MARGIN = 20, 0.02
# Refinements, each a gradient in full precision, that a run makes.
NUM_REFINEMENTS = 4


def gram_pays(problem: LeastSquares[Any], x: Any, condition: float, rtol: float) -> bool:
    """Whether forming and factoring takes fewer operations than the steps that are left.

    Args:
        problem: What is solved.
        x: Its iterates, whose rows are as many right-hand sides.
        condition: What is known of the condition number of the Hessian, from below.
        rtol: The reduction that is wanted.
    """
    matrix = problem.operator
    if not isinstance(matrix, np.ndarray) or x.ndim != 2:
        return False
    if x.dtype.kind != "f" or matrix.dtype.kind != "f":
        return False
    num_rows, num_columns = matrix.shape
    small, large = sorted((num_rows, num_columns))
    if num_rows < num_columns and problem.ridge > 0:
        return False
    with_matrix = 4.0 * num_rows * num_columns * x.shape[0]
    share = float(np.dtype(np.float32).itemsize / matrix.itemsize)
    formed = share * (float(large) * small * small + small**3 / 3)
    refined = with_matrix + 2 * share * small * small * x.shape[0]
    num_steps = -math.log(rtol / 2) / (2 * math.atanh(min(condition**-0.5, 0.99)))
    return bool(formed + NUM_REFINEMENTS * refined < num_steps * with_matrix)


class FactoredGram:
    """Cholesky's factor of the smaller Gram matrix of A, in few bits.

    Args:
        factor: What ``scipy.linalg.cho_factor`` returns.
        unit: Power of two near the norm of A; the matrix factored has entries up to about 1.
        is_dual: Whether it is that of ``AAᵀ``.
    """

    def __init__(self, factor: Any, unit: float, *, is_dual: bool) -> None:
        self._factor, self._unit, self._is_dual = factor, unit, is_dual
        self.num_products = 2 if is_dual else 1
        """Products that a correction costs; one with the Gram matrix counts as one."""

    @classmethod
    def of(cls, problem: LeastSquares[Any]) -> Self | None:
        """That of a problem with a real ndarray, in the fewest bits that serve.

        Returns:
            None if it is singular to the bits of the data.
        """
        for dtype in (np.float32, np.float64):
            if np.dtype(dtype).itemsize <= problem.operator.itemsize:
                found = cls._in(np.dtype(dtype), problem)
                if found is not None:
                    return found
        return None

    @classmethod
    def _in(cls, dtype: np.dtype[Any], problem: LeastSquares[Any]) -> Self | None:
        from scipy.linalg import LinAlgError, cho_factor

        matrix: Any = problem.operator
        is_dual = matrix.shape[0] < matrix.shape[1]
        matrix = matrix.T if is_dual else matrix
        size = matrix.shape[1]
        # The Frobenius norm over √n: a mean of singular values, whose units are all that matters.
        stride = max(1, matrix.shape[0] // 64)
        sample = matrix[::stride].astype(np.float64)
        scale = math.sqrt(float((sample * sample).sum()) * stride)
        if not 0 < scale < math.inf:
            return None
        unit = math.ldexp(1.0, math.frexp(scale / math.sqrt(size))[1])
        gram = np.zeros((size, size), dtype)
        # Blocks in few bits of no more rows than columns: three times the result at the most.
        for start in range(0, matrix.shape[0], size):
            rows = matrix[start : start + size]
            block = np.empty(rows.shape, dtype)
            np.multiply(rows, 1 / unit, out=block, casting="same_kind")
            gram += block.T @ block
        gram[np.diag_indices(size)] += problem.ridge / unit**2
        try:
            factor, lower = cho_factor(gram, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        pivots = abs(np.diag(factor))
        least = math.sqrt(size * float(np.finfo(dtype).eps) / MOST_ROUNDING)
        if not (np.isfinite(pivots).all() and pivots.min() > least * pivots.max()):
            return None
        return cls((factor, lower), unit, is_dual=is_dual)

    def bounds(self) -> SpectralBounds:
        """Ends of the spectrum of the Hessian, by Lanczos steps with the factor and its inverse."""
        factor, _ = self._factor
        upper = np.triu(factor)
        start = np.random.default_rng(0).standard_normal(len(factor)).astype(factor.dtype)
        largest = lanczos(lambda v: upper.T @ (upper @ v), start, LANCZOS_STEPS).ends()
        inverse = lanczos(self._inverse_product, start, LANCZOS_STEPS).ends()
        unit = self._unit**2
        high = float(largest.high + largest.high_residual)
        low = 1 / float(inverse.high + inverse.high_residual)
        return SpectralBounds(
            min(low, high) * unit,
            (1 + MARGIN) * high * unit,
            Certainty.ESTIMATED,
            Certainty.ESTIMATED,
            method="a factored Gram matrix",
        )

    def _inverse_product(self, vector: Any) -> Any:
        from scipy.linalg import cho_solve

        return cho_solve(self._factor, vector, check_finite=False)

    def correction(self, problem: LeastSquares[Any], residual: Any, gradient: Any) -> Any:
        """The change of x that brings the gradient to 0, up to rounding in few bits.

        Args:
            problem: The problem of the rows in question.
            residual: ``Ax − b``, a row for each right-hand side.
            gradient: ``Aᵀ(Ax − b) + μx``, likewise.
        """
        target = residual if self._is_dual else gradient
        solved = self._solve(target)
        return problem.adjoint_product(solved) if self._is_dual else solved

    def _solve(self, rows: Any) -> Any:
        from scipy.linalg import cho_solve

        # Of entries up to 1: corrections must not vanish in few bits.
        peak = abs(rows).max(-1, keepdims=True)
        peak[peak == 0] = 1
        small = (rows / peak).astype(self._factor[0].dtype).T
        solved = cho_solve(self._factor, small, overwrite_b=True, check_finite=False).T
        return (-peak / self._unit**2) * solved.astype(rows.dtype)
