"""Classical iterations for ``Ax = b`` as maps: Jacobi, Gauss–Seidel, over-relaxation, symmetric.

With ``A = D + L + U`` each is ``x → x + M⁻¹(b − Ax)``: ``M = D`` for Jacobi, ``M = D/ω + L`` for
successive over-relaxation (SOR), Gauss–Seidel for ω = 1, and a forward followed by a backward sweep
for the symmetric ones. Written on residuals, each keeps the solution where it is.

What `accelerate` needs is the spectrum of ``I − J = M⁻¹A``. For a symmetric positive definite A it
is real and positive for Jacobi and for the symmetric sweeps (in (0, 1], for 0 < ω < 2); that of the
one-sided sweeps may be complex, so that Chebyshev steps gain little there.

References:
    Young, Iterative Solution of Large Linear Systems (1971), chapters 3 and 15. Golub and Van Loan,
    Matrix Computations (2013), section 11.2.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stepfold._arrays import from_host, is_array, is_sparse_tensor, namespace, solve_triangular
from stepfold._checks import check_matrix, check_real, check_square
from stepfold._typing import ArrayT, Operator
from stepfold.kernels.relaxation import relax_rows
from stepfold.operators import apply
from stepfold.problems.base import check_library, check_rows
from stepfold.problems.fixed_point import FixedPoint


def jacobi_iteration(matrix: Operator, rhs: ArrayT) -> FixedPoint[ArrayT]:
    """``x → x + D⁻¹(b − Ax)``, D the diagonal of A.

    Args:
        matrix: A, of shape (n, n): ndarray, SciPy sparse array or torch tensor, without zeros on
            the diagonal.
        rhs: b, of shape (n,), or (batch, n).

    Raises:
        TypeError: If an argument is no matrix of known entries, or not of real numbers.
        ValueError: If shapes do not fit, or a diagonal entry is 0.

    >>> jacobi_iteration(np.array([[2.0, 1.0], [1.0, 4.0]]), np.ones(2)).map(np.zeros(2))
    array([0.5 , 0.25])
    """
    system = _System(matrix, rhs)
    return FixedPoint(system.jacobi_step)


def gauss_seidel(matrix: Operator, rhs: ArrayT, *, symmetric: bool = False) -> FixedPoint[ArrayT]:
    """Gauss–Seidel: `sor` with ω = 1.

    Args:
        matrix: A, of shape (n, n).
        rhs: b, of shape (n,) or (batch, n).
        symmetric: Whether a backward sweep follows each forward one.

    >>> gauss_seidel(np.array([[2.0, 1.0], [1.0, 4.0]]), np.ones(2)).map(np.zeros(2))
    array([0.5  , 0.125])
    """
    return sor(matrix, rhs, 1.0, symmetric=symmetric)


def sor(
    matrix: Operator, rhs: ArrayT, omega: float, *, symmetric: bool = False
) -> FixedPoint[ArrayT]:
    """Successive over-relaxation: each equation solved for its own unknown, and ω times the change.

    Sparse matrices are swept by a compiled loop; without a compiler SciPy's triangular solver takes
    its place, as it does for dense ones.

    Args:
        matrix: See `jacobi_iteration`.
        rhs: Likewise.
        omega: ω, above 0 and below 2: outside no matrix with a real positive spectrum converges.
        symmetric: Whether a sweep in reverse order follows (SSOR).

    Raises:
        TypeError: If an argument is no matrix of known entries, or not of real numbers.
        ValueError: If shapes do not fit, a diagonal entry is 0, or ``omega`` is out of range.

    >>> sor(np.array([[2.0, 1.0], [1.0, 4.0]]), np.ones(2), 1.5).map(np.zeros(2))
    array([0.75   , 0.09375])
    """
    if not 0 < check_real("omega", omega) < 2:
        raise ValueError(f"`omega` must be above 0 and below 2, got {omega!r}")
    system = _System(matrix, rhs)
    return FixedPoint(functools.partial(system.relax, omega=omega, symmetric=symmetric))


class _System:
    """``Ax = b`` with a usable diagonal, and sweeps over it."""

    def __init__(self, matrix: Any, rhs: Any) -> None:
        self.matrix: Any = check_matrix("matrix", matrix)
        check_square("matrix", self.matrix)
        self._is_sparse = hasattr(self.matrix, "tocsr")
        if not (self._is_sparse or is_array(self.matrix)):
            raise TypeError(
                "`matrix` must be an ndarray, a sparse array or a tensor, got "
                f"{type(self.matrix).__name__}: a splitting needs its entries"
            )
        if is_sparse_tensor(self.matrix):
            raise TypeError(
                "`matrix` must be a dense tensor or a SciPy sparse array, got a sparse tensor: "
                "torch solves with no sparse triangle; pass `matrix.to_dense()`"
            )
        if self._is_sparse:
            self.matrix = self.matrix.tocsr()
        self.rhs: Any = check_rows("rhs", rhs, self.matrix.shape[0], "`matrix`")
        check_library("rhs", self.rhs, "`matrix`", self.matrix)
        self.diagonal: Any = self.matrix.diagonal()
        zeros = np.flatnonzero(np.asarray((self.diagonal == 0).tolist()))
        if zeros.size:
            raise ValueError(
                f"`matrix` must have no zero on its diagonal, got one at index {int(zeros[0])}; "
                "permute its rows, or solve the normal equations with `LeastSquares`"
            )
        same = (self.matrix.dtype, self.diagonal.dtype) == (self.rhs.dtype,) * 2
        self._compiled = self._is_sparse and same and str(self.rhs.dtype) in ("float32", "float64")
        self._triangles: dict[tuple[float, bool], Any] = {}

    def residual(self, x: Any) -> Any:
        """``b − Ax``."""
        if x.shape != self.rhs.shape:
            raise ValueError(
                f"`x` must have the shape of `rhs`, {tuple(self.rhs.shape)}, got {tuple(x.shape)}"
            )
        return self.rhs - apply(self.matrix, x)

    # Maps are methods and parts of them, which can be copied to other processes.
    def jacobi_step(self, x: Any) -> Any:
        """``x + D⁻¹(b − Ax)``."""
        return x + self.residual(x) / self.diagonal

    def relax(self, x: Any, *, omega: float, symmetric: bool) -> Any:
        """A forward sweep, followed by a backward one if ``symmetric``."""
        for backward in (False, True) if symmetric else (False,):
            x = self.sweep(x, omega, backward=backward)
        return x

    def sweep(self, x: Any, omega: float, *, backward: bool) -> Any:
        """One pass through the equations."""
        if self._compiled and x.dtype == self.rhs.dtype and x.shape == self.rhs.shape:
            moved = relax_rows(self.matrix, self.diagonal, self.rhs, x, omega, backward=backward)
            if moved is not None:
                return moved
        residual = self.residual(x)
        triangle = self._triangle(omega, backward)
        columns = residual.T if residual.ndim == 2 else residual[:, None]
        change = self._solve(triangle, columns, lower=not backward)
        return x + (change.T if residual.ndim == 2 else change[:, 0])

    def _triangle(self, omega: float, backward: bool) -> Any:
        key = (omega, backward)
        if key not in self._triangles:
            shift = (1 / omega - 1) * self.diagonal
            if self._is_sparse:
                import scipy.sparse

                cut = scipy.sparse.triu if backward else scipy.sparse.tril
                diagonal = scipy.sparse.diags_array(shift)
                triangle = (cut(self.matrix) + diagonal).tocsr()
            else:
                xp = namespace(self.matrix)
                part = xp.triu(self.matrix) if backward else xp.tril(self.matrix)
                triangle = part + shift * from_host(np.eye(shift.shape[0]), part)
            self._triangles[key] = triangle
        return self._triangles[key]

    def _solve(self, triangle: Any, columns: Any, *, lower: bool) -> Any:
        if self._is_sparse:
            from scipy.sparse.linalg import spsolve_triangular

            return spsolve_triangular(triangle, columns, lower=lower)
        return solve_triangular(triangle, columns, lower=lower)
