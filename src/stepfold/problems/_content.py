"""How the gradient at 0 is spread over the eigenvalues, and what a schedule leaves of it.

From x0 = 0 the gradient after k periods is ``p(H)ᵏ ∇f(0)``. With ``wᵢ`` the share of ‖∇f(0)‖² along
the i-th eigenvector its norm is ``√(Σ wᵢ p(λᵢ)²ᵏ)`` times that at 0: no worst case, but the one of
this right-hand side. On ill-posed problems the two differ by orders of magnitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind, to_host
from stepfold._typing import FloatArray
from stepfold.polynomial import residual_polynomial
from stepfold.problems.base import QuadraticProblem
from stepfold.problems.quadratic import LeastSquares
from stepfold.spectrum import fits_dense_eigensolver
from stepfold.spectrum.target import dense, has_entries

# Up to this many eigenvectors are computed: about a second.
EIGENVECTORS_UP_TO = 1000
MOST_PERIODS = 2**40


@dataclass(frozen=True, eq=False)
class GradientContent:
    """Eigenvalues of the Hessian, and the share of each in the gradient at 0.

    Args:
        eigenvalues: λ, shape (k,).
        shares: Of ‖∇f(0)‖² for each right-hand side, shape (rows, k); a row sums to 1, or is 0.
    """

    eigenvalues: FloatArray
    shares: FloatArray

    @property
    def stuck(self) -> float:
        """Largest share of ‖∇f(0)‖ over the rows that lies on the eigenvalue 0: it stays."""
        return math.sqrt(float(self.shares[:, self.eigenvalues == 0].sum(axis=1).max()))

    def num_periods(self, steps: Any, rtol: float) -> float:
        """Fewest periods after which ‖∇f(x)‖ ≤ ``rtol``·‖∇f(0)‖ in every row, if rounding is none.

        Infinite beyond `MOST_PERIODS`.
        """
        values = np.abs(residual_polynomial(steps, self.eigenvalues))

        def is_enough(num_periods: int) -> bool:
            with np.errstate(over="ignore", under="ignore"):
                squares = self.shares @ values ** (2.0 * num_periods)
            return bool(squares.max() <= rtol**2)

        high = 1
        while not is_enough(high):
            high *= 2
            if high > MOST_PERIODS:
                return math.inf
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_enough(middle) else (middle, high)
        return high

    def rounding(self, steps: Any, num_periods: float) -> float:
        """What rounding leaves of ‖∇f‖/‖∇f(0)‖ after so many periods, over the precision.

        A step γ rounds the iterate by ¼ε of its norm and the gradient by ¼ε‖H‖ times that, in all
        directions alike; the rest of the period multiplies it. Dense runs left 0.3 to 5 times this
        (Hilbert, Wishart and geometric spectra, κ from 1e3 to 1e7, T from 64 to 1024, both kinds).
        """
        steps = np.asarray(steps, dtype=np.float64)
        unit = float(self.eigenvalues[-1]) or 1.0
        eigenvalues, gammas = self.eigenvalues / unit, steps * unit
        # At λ = 0 the limit, which bounds the others.
        fitted = np.abs(1 - residual_polynomial(gammas, eigenvalues) ** num_periods)
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = np.fmin(fitted / eigenvalues, num_periods * gammas.sum())
        tails = np.array(eigenvalues)
        total = 0.0
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for gamma in gammas[::-1].tolist():
                total += (1 + gamma * gamma) * float(tails @ tails)
                tails *= 1 - gamma * eigenvalues
            largest = float((self.shares @ sizes**2).max())
            return 0.25 * math.sqrt(total / eigenvalues.size) * math.sqrt(largest)


def gradient_content(problem: QuadraticProblem[Any]) -> GradientContent | None:
    """The content of the gradient at 0; None where it is 0, or entries unknown or too many."""
    form = problem.symmetric_form()
    if form is None:
        return None
    least_squares = form if isinstance(form, LeastSquares) else None
    matrix: Any = form.hessian if least_squares is None else least_squares.operator
    if not has_entries(matrix) or min(matrix.shape) > EIGENVECTORS_UP_TO:
        return None
    if not fits_dense_eigensolver(form.hessian):
        return None
    matrix, exponent = _scaled(matrix)
    if least_squares is None:
        values, vectors = np.linalg.eigh(dense(matrix))
        coefficients = _rows(form.linear_term) @ vectors.conj()
        return _content(np.ldexp(values, exponent), coefficients)
    rhs = _rows(least_squares.rhs)
    if matrix.shape[0] >= matrix.shape[1]:
        adjoint = matrix.conj().T
        values, vectors = np.linalg.eigh(dense(adjoint @ matrix))
        coefficients = (adjoint @ rhs.T).T @ vectors.conj()
    else:
        values, vectors = np.linalg.eigh(dense(matrix @ matrix.conj().T))
        coefficients = np.sqrt(np.maximum(values, 0.0)) * (rhs @ vectors.conj())
    return _content(np.ldexp(values, 2 * exponent) + least_squares.ridge, coefficients)


def _content(values: FloatArray, coefficients: Any) -> GradientContent | None:
    squares = np.abs(coefficients) ** 2
    sums = squares.sum(axis=1, keepdims=True)
    if not sums.any():
        return None
    shares = np.divide(squares, sums, out=np.zeros_like(squares), where=sums > 0)
    return GradientContent(np.maximum(values, 0.0), shares)


def _scaled(matrix: Any) -> tuple[Any, int]:
    """The matrix of NumPy or SciPy in double precision, divided by a power of two."""
    matrix = matrix if hasattr(matrix, "tocsr") else to_host(matrix)
    double = np.complex128 if dtype_kind(matrix.dtype) == "c" else np.float64
    entries = matrix.data if hasattr(matrix, "tocsr") else matrix
    peak = float(np.abs(entries).max()) if entries.size else 0.0
    exponent = int(np.frexp(peak)[1])
    return matrix.astype(double) * 2.0**-exponent, exponent


def _rows(vectors: Any) -> Any:
    rows = np.atleast_2d(to_host(vectors))
    rows = rows.astype(np.complex128 if rows.dtype.kind == "c" else np.float64)
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    return np.divide(rows, peaks, out=np.zeros_like(rows), where=peaks > 0)
