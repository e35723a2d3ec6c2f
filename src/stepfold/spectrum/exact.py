"""All eigenvalues of small matrices, and the messages for matrices that have no such spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._arrays import is_torch
from stepfold._checks import check_matrix
from stepfold._typing import FloatArray, Operator
from stepfold.spectrum.bounds import Certainty, SpectralBounds
from stepfold.spectrum.complex_form import is_complex, real_form
from stepfold.spectrum.gram import Gram
from stepfold.spectrum.target import Target, has_entries, tensor_to_numpy


def exact_eigenvalues(hessian: Operator) -> FloatArray:
    """All eigenvalues of a symmetric or Hermitian semidefinite map, ascending, of shape (n,).

    For a `Gram` they are squared singular values of its factor, hence accurate where they are
    small. What rounding leaves of a zero eigenvalue is returned as 0.

    Raises:
        TypeError: If the entries of ``hessian`` are not known (a matrix-free operator).
        ValueError: If the matrix is not square, not symmetric, or has a negative eigenvalue; or if
            the eigenvalues of a `Gram` overflow or underflow.

    >>> exact_eigenvalues(np.diag([2.0, 1.0]))
    array([1., 2.])
    """
    if is_complex(hessian):
        return exact_eigenvalues(real_form(hessian))[::2]  # each eigenvalue comes twice
    if isinstance(hessian, Gram):
        factor, eps = _dense("factor", hessian.factor)
        values = np.linalg.svd(factor, compute_uv=False)[::-1]
        values[values <= values[-1] * max(factor.shape) * eps] = 0.0
        with np.errstate(over="ignore", under="ignore"):
            squares = values**2
        check_range(float(values[-1]), float(squares[-1]))
        return np.concatenate([np.zeros(factor.shape[1] - values.size), squares]) + hessian.shift
    matrix, eps = _dense("hessian", check_matrix("hessian", hessian))
    check_square(matrix.shape)
    scale = np.abs(matrix).max()
    asymmetry = np.abs(matrix - matrix.T).max()
    # √eps: computed inverses and products are symmetric to rounding times their conditioning.
    if asymmetry > np.sqrt(eps) * scale:
        raise not_symmetric(f"entries differ from the transpose's by up to {asymmetry:.3g}")
    values = np.linalg.eigvalsh(matrix)
    rounding = matrix.shape[0] * eps * np.abs(values).max()
    if values[0] < -rounding:
        raise indefinite(values[0])
    values[values <= rounding] = 0.0
    return np.asarray(values, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Exact:
    """All eigenvalues, by dense factorisation: O(n³) work, no random start.

    >>> from stepfold.spectrum import estimate_bounds
    >>> estimate_bounds(np.diag([1.0, 0.0]), method=Exact()).method
    'all eigenvalues (singular: rank 1 of 2 to rounding)'
    """

    def bounds(self, target: Target) -> SpectralBounds:
        """Bounds equal to the extreme eigenvalues."""
        values = exact_eigenvalues(target.hessian)
        lower, upper = float(values[0]), float(values[-1])
        rank = int((values > 0).sum())
        singular = f" (singular: rank {rank} of {values.size} to rounding)" if lower == 0 else ""
        sure = Certainty.GUARANTEED
        return SpectralBounds(
            lower,
            upper,
            sure,
            sure,
            method="all eigenvalues" + singular,
            reached_lower=lower,
            reached_upper=upper,
        )


def check_range(norm: float, square: float) -> None:
    """Raise if ``norm²`` left the range of floating point on the way to an eigenvalue of AᵀA."""
    if norm > 0 and not np.finfo(np.float64).tiny <= square < np.inf:
        raise ValueError(
            f"`factor` has norm {norm:.3g}, whose square is outside the range of float64; "
            "divide the matrix by its norm first"
        )


def check_real_tensor(name: str, matrix: Any) -> None:
    """Raise for a complex tensor, whose dtype does not say so the way NumPy's do."""
    if is_torch(matrix) and matrix.is_complex():
        raise TypeError(f"`{name}` must be real, got dtype {matrix.dtype}")


def check_square(shape: tuple[int, int]) -> None:
    """Raise unless a Hessian is square."""
    if shape[0] != shape[1]:
        raise ValueError(
            f"`hessian` must be square, got shape {tuple(shape)}; "
            "for least squares with this matrix pass `Gram(matrix)`"
        )


def not_symmetric(evidence: str) -> ValueError:
    """Error for a Hessian that is not symmetric."""
    return ValueError(
        f"`hessian` must be symmetric: {evidence}; "
        "for least squares with this matrix pass `Gram(matrix)`"
    )


def indefinite(eigenvalue: float) -> ValueError:
    """Error for a Hessian with a negative eigenvalue."""
    return ValueError(
        "`hessian` must be positive semidefinite, but it has an eigenvalue of at most "
        f"{eigenvalue:.6g}; for least squares with this matrix pass `Gram(matrix)`"
    )


def _dense(name: str, matrix: Any) -> tuple[Any, float]:
    """The matrix in float64, and the precision that its entries came in."""
    if not has_entries(matrix):
        raise TypeError(
            f"`{name}` must be a dense or sparse matrix to have all its eigenvalues computed, got "
            f"{type(matrix).__name__}; `estimate_bounds` needs products only"
        )
    if is_torch(matrix):
        check_real_tensor(name, matrix)
        matrix, eps = tensor_to_numpy(matrix)
    else:
        matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
        eps = float(np.finfo(matrix.dtype).eps) if matrix.dtype.kind == "f" else 0.0
    return matrix.astype(np.float64), max(eps, float(np.finfo(np.float64).eps))
