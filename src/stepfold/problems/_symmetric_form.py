"""A preconditioned problem in coordinates in which its inner product is the usual one.

With ``M⁻¹ = L Lᴴ`` and ``x = L y`` the Hessian of y is ``LᴴHL``: symmetric, with the spectrum of
``M⁻¹H``, and the norm of a gradient there is ``√(uᴴM⁻¹u)``, u the gradient of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._arrays import dot, is_foreign, to_host
from stepfold._typing import FloatArray
from stepfold.problems.base import QuadraticProblem
from stepfold.problems.quadratic import LeastSquares, Quadratic
from stepfold.spectrum import Gram, fits_dense_eigensolver
from stepfold.spectrum.target import dense, has_entries

# Up to this size matrices are factored.
DENSE_UP_TO = 1500


def symmetric_form(
    problem: QuadraticProblem[Any], diagonal: Any, inverse: Any
) -> QuadraticProblem[Any] | None:
    """The problem of y; None where it takes entries that are not known, or too much work.

    Args:
        problem: The problem of x.
        diagonal: That of M, or None.
        inverse: M⁻¹, where ``diagonal`` is None.
    """
    least_squares = problem if isinstance(problem, LeastSquares) else None
    matrix: Any = problem.hessian if least_squares is None else least_squares.operator
    if not has_entries(matrix) or matrix.shape[0] == 0:
        return None
    size = int(problem.hessian.shape[0])
    has_ridge = least_squares is not None and least_squares.ridge > 0
    is_small = size <= DENSE_UP_TO and _is_small(problem, size if has_ridge else 0)
    if not is_small and (has_ridge or diagonal is None or is_foreign(matrix)):
        return None
    if diagonal is None:
        if not has_entries(inverse):
            return None
        root = np.linalg.cholesky(dense(inverse))
    else:
        root = 1 / np.sqrt(np.asarray(to_host(diagonal), dtype=np.float64))
    matrix = to_host(matrix) if is_foreign(matrix) else matrix
    if least_squares is None:
        term = to_host(problem.linear_term)
        rows = term * root if root.ndim == 1 else term @ root.conj()
        return Quadratic(_times(_times(matrix, root).conj().T, root), rows)
    rhs = to_host(least_squares.rhs)
    scaled = _times(matrix, root)
    if has_ridge:
        # ½μ‖x‖² = ½‖√μ L y‖²: rows of their own.
        scaled = np.concatenate(
            [dense(scaled), np.sqrt(least_squares.ridge) * _times(np.eye(size), root)]
        )
        rhs = np.concatenate([rhs, np.zeros((*rhs.shape[:-1], size), rhs.dtype)], axis=-1)
    return LeastSquares(scaled, rhs)


def check_definite(inverse: Any) -> None:
    """Raise unless a matrix is symmetric (Hermitian) and positive definite, as far as it is small.

    Raises:
        ValueError: If it is not; the message names `preconditioner`.
    """
    if not has_entries(inverse):
        return
    diagonal = np.asarray(to_host(inverse.diagonal())).real.astype(np.float64)
    if not diagonal.min() > 0:
        index = int(diagonal.argmin())
        raise _not_definite(f"its diagonal is {diagonal[index]:g} at index {index}")
    if inverse.shape[0] > DENSE_UP_TO:
        return
    entries = dense(inverse)
    root = np.sqrt(diagonal)
    entries = entries / root / root[:, None]
    asymmetry = float(np.abs(entries - entries.conj().T).max())
    if asymmetry > 1e-4:
        raise ValueError(
            "`preconditioner` must be symmetric: entries differ from the transpose's by up to "
            f"{asymmetry:.3g} of the diagonal; take its symmetric part, or a symmetric method "
            "(incomplete Cholesky, symmetric Gauss–Seidel)"
        )
    try:
        pivots = np.diag(np.linalg.cholesky((entries + entries.conj().T) / 2)).real ** 2
    except np.linalg.LinAlgError:
        raise _not_definite("it has an eigenvalue that is negative or 0") from None
    if pivots.min() <= entries.shape[0] * np.finfo(np.float64).eps:
        raise _not_definite("it is singular to rounding")


def _not_definite(evidence: str) -> ValueError:
    return ValueError(
        f"`preconditioner` must be positive definite, but {evidence}; what it maps to 0 the "
        "iteration never sees"
    )


def _is_small(problem: QuadraticProblem[Any], more_rows: int) -> bool:
    hessian: Any = problem.hessian
    if not fits_dense_eigensolver(hessian):
        return False
    if not isinstance(hessian, Gram) or more_rows == 0:
        return True
    rows = hessian.factor.shape[0] + more_rows
    return fits_dense_eigensolver(np.broadcast_to(0.0, (rows, hessian.shape[0])))


def _times(matrix: Any, root: FloatArray) -> Any:
    """``A L`` for a lower triangular L, or for a diagonal one of shape (n,)."""
    if root.ndim == 2:
        return dense(matrix) @ root
    root = root.astype(matrix.dtype)
    if hasattr(matrix, "tocsr"):
        from scipy.sparse import diags_array

        return matrix @ diags_array(root)
    return matrix * root


class Definite:
    """``u → M⁻¹u`` that raises once ``uᵀM⁻¹u`` is not positive, rounding aside."""

    def __init__(self, precondition: Callable[[Any], Any]) -> None:
        self._precondition = precondition
        self._scale = 0.0
        self._is_first = True

    def __call__(self, dual: Any) -> Any:
        primal = self._precondition(dual)
        square, size = dot(dual, primal), math.sqrt(dot(dual, dual))
        if not math.isfinite(square):
            raise ValueError(
                "products of `preconditioner` with a finite vector must be finite, got NaN or "
                "infinity; check what it does"
            )
        # An exhausted recurrence goes on with rounding errors, whose products have any sign.
        if not square > 0 and size > 1e-8 * self._scale:
            length = size * math.sqrt(dot(primal, primal))
            raise ValueError(
                "`preconditioner` must be positive definite, but uᵀM⁻¹u is "
                f"{square / length if length > 0 else 0.0:.3g}·‖u‖‖M⁻¹u‖ for a vector u; give the "
                "products of a symmetric positive definite M⁻¹"
            )
        # The first vector is the start; the others are images of the Hessian, in its units.
        if not self._is_first:
            self._scale = max(self._scale, size)
        self._is_first = False
        return primal
