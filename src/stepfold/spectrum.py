"""The interval that holds the eigenvalues of a Hessian, given or estimated.

An upper end that is too low makes every schedule diverge; one that is a little too high costs
almost nothing. Estimates therefore come from above: a Ritz value plus the norm of its residual.
"""

from __future__ import annotations

import enum
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stepfold._checks import check_count, check_matrix
from stepfold._krylov import Bidiagonal, Tridiagonal, golub_kahan, lanczos
from stepfold._typing import FloatArray, Operator


class Certainty(enum.StrEnum):
    """How far an end of the interval can be relied upon."""

    GUARANTEED = "guaranteed"
    """Computed from all eigenvalues, or proved: no eigenvalue lies beyond, up to rounding."""
    ESTIMATED = "estimated"
    """From a Krylov space with a random start: beyond it only with small probability."""
    ASSUMED = "assumed"
    """Given by the caller."""


@dataclass(frozen=True, slots=True)
class SpectralBounds:
    """Interval that contains every eigenvalue of the Hessian, in units of the Hessian.

    Args:
        lower: Lower end, at least 0.
        upper: Upper end, at least ``lower`` and finite.
        lower_certainty: How far the lower end can be relied upon.
        upper_certainty: How far the upper end can be relied upon.
        method: What the ends come from, for people to read.
        num_products: Products with the operator (and with its transpose, counted singly) spent.
        seed: Seed of the random start, if there was one.

    Raises:
        ValueError: Unless 0 <= lower <= upper < inf.

    >>> SpectralBounds(1.0, 9.0).condition_number
    9.0
    """

    lower: float
    upper: float
    lower_certainty: Certainty = Certainty.ASSUMED
    upper_certainty: Certainty = Certainty.ASSUMED
    method: str = "given"
    num_products: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lower <= self.upper < math.inf:
            raise ValueError(
                "bounds must satisfy 0 <= lower <= upper < inf, "
                f"got lower={self.lower!r}, upper={self.upper!r}"
            )
        object.__setattr__(self, "lower", float(self.lower))
        object.__setattr__(self, "upper", float(self.upper))

    @property
    def condition_number(self) -> float:
        """κ = upper / lower; infinite if ``lower`` is 0."""
        return self.upper / self.lower if self.lower > 0 else math.inf

    def __contains__(self, eigenvalue: float) -> bool:
        return self.lower <= eigenvalue <= self.upper

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON."""
        return asdict(self)


class Gram:
    """``AᵀA + shift·I`` as a linear map that remembers A: its spectrum is had without squaring.

    Args:
        factor: A, of shape (m, n); anything that has products ``A @ x`` and a transpose.
        shift: Number at least 0 added to every eigenvalue (the weight of a ridge term).

    >>> Gram(np.array([[3.0, 0.0], [0.0, 2.0]])) @ np.array([1.0, 1.0])
    array([9., 4.])
    """

    def __init__(self, factor: Operator, shift: float = 0.0) -> None:
        self.factor = check_matrix("factor", factor)
        if not 0 <= shift < math.inf:
            raise ValueError(f"`shift` must be at least 0 and finite, got {shift!r}")
        self.shift = float(shift)
        self.shape = (self.factor.shape[1], self.factor.shape[1])
        self.dtype = getattr(self.factor, "dtype", None)
        self._transpose = self.factor.T

    @property
    def T(self) -> Gram:  # noqa: N802, RUF100 (NumPy's name)
        """The transpose, which is the map itself."""
        return self

    def __matmul__(self, x: Any) -> Any:
        product = self._transpose @ (self.factor @ x)
        return product + self.shift * x if self.shift else product

    matvec = __matmul__  # SciPy's `aslinearoperator` asks for these names
    rmatvec = __matmul__


# Up to this many rows or columns all eigenvalues take a second or two; then Lanczos takes over.
EXACT_UP_TO = 1500


def exact_eigenvalues(hessian: Operator) -> FloatArray:
    """All eigenvalues of a symmetric positive semidefinite map, ascending, of shape (n,).

    For a `Gram` they are squared singular values of its factor, hence accurate where they are
    small. What rounding leaves of a zero eigenvalue is returned as 0.

    Raises:
        TypeError: If the entries of ``hessian`` are not known (a matrix-free operator).
        ValueError: If the matrix is not square, not symmetric, or has a negative eigenvalue.

    >>> exact_eigenvalues(np.diag([2.0, 1.0]))
    array([1., 2.])
    """
    if isinstance(hessian, Gram):
        factor = _dense("factor", hessian.factor)
        values = np.linalg.svd(factor, compute_uv=False)[::-1]
        values[values <= values[-1] * max(factor.shape) * np.finfo(factor.dtype).eps] = 0.0
        padding = np.zeros(factor.shape[1] - values.size)
        return np.concatenate([padding, values**2]).astype(np.float64) + hessian.shift
    matrix = _dense("hessian", check_matrix("hessian", hessian))
    _check_square(matrix.shape)
    scale = np.abs(matrix).max()
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > 1e-10 * scale:
        raise _not_symmetric(f"entries differ from the transpose's by up to {asymmetry:.3g}")
    values = np.linalg.eigvalsh(matrix).astype(np.float64)
    rounding = matrix.shape[0] * np.finfo(matrix.dtype).eps * np.abs(values).max()
    if values[0] < -rounding:
        raise _indefinite(values[0])
    values[values <= rounding] = 0.0
    return values


def estimate_bounds(
    hessian: Operator, *, num_steps: int = 60, rtol: float = 1e-2, seed: int = 0
) -> SpectralBounds:
    """Bounds of the spectrum of a symmetric positive semidefinite map, from outside.

    Matrices of at most `EXACT_UP_TO` rows or columns are diagonalised. Larger ones get Lanczos
    steps from a random start (Golub–Kahan steps on the factor of a `Gram`). The upper end is the
    largest Ritz value plus its residual norm, the lower end the smallest Ritz value minus its own;
    it is 0 (plus the shift of a `Gram`) as long as that difference is not positive, which means
    *unknown*.

    Args:
        hessian: Map of shape (n, n): dense, sparse, ``LinearOperator`` or `Gram`.
        num_steps: Most Lanczos steps to spend; as many n-vectors are kept.
        rtol: Stop once both residuals are below ``rtol`` times their Ritz values.
        seed: Seed of the random start; the same seed gives the same bounds.

    Raises:
        TypeError: If ``hessian`` is not a real linear map.
        ValueError: If it is not square, not symmetric, or not positive semidefinite.

    References:
        Parlett, The Symmetric Eigenvalue Problem (SIAM, 1998): residual bounds of Ritz values.

    >>> bounds = estimate_bounds(np.diag([1.0, 2.0, 4.0]))
    >>> bounds.lower, bounds.upper, str(bounds.upper_certainty)
    (1.0, 4.0, 'guaranteed')
    """
    num_steps = check_count("num_steps", num_steps, minimum=2)
    if isinstance(hessian, Gram):
        if min(hessian.factor.shape) <= EXACT_UP_TO and _has_entries(hessian.factor):
            return _exact_bounds(hessian)
        return _gram_bounds(hessian, num_steps, rtol, seed)
    matrix = check_matrix("hessian", hessian)
    _check_square(matrix.shape)
    if matrix.shape[0] <= EXACT_UP_TO and _has_entries(matrix):
        return _exact_bounds(matrix)
    return _lanczos_bounds(matrix, num_steps, rtol, seed)


def _exact_bounds(hessian: Operator) -> SpectralBounds:
    values = exact_eigenvalues(hessian)
    sure = Certainty.GUARANTEED
    return SpectralBounds(values[0], values[-1], sure, sure, method="all eigenvalues")


def _lanczos_bounds(matrix: Operator, num_steps: int, rtol: float, seed: int) -> SpectralBounds:
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(matrix.shape[0])
    image = matrix @ start
    probe = rng.standard_normal(matrix.shape[0])
    difference = probe @ image - start @ (matrix @ probe)
    if abs(difference) > 1e-8 * np.linalg.norm(probe) * np.linalg.norm(image):
        raise _not_symmetric(f"for random u and v, uᵀHv − vᵀHu = {difference:.3g}")

    def ends(projection: Tridiagonal) -> tuple[float, float, float, float]:
        values, vectors = projection.eigh()
        residuals = projection.off_diagonal[-1] * np.abs(vectors[-1])
        return values[0], residuals[0], values[-1], residuals[-1]

    def close_enough(projection: Tridiagonal) -> bool:
        lowest, lowest_residual, highest, highest_residual = ends(projection)
        return lowest_residual <= rtol * abs(lowest) and highest_residual <= rtol * abs(highest)

    projection = lanczos(lambda v: matrix @ v, start, num_steps, stop=close_enough)
    lowest, lowest_residual, highest, highest_residual = ends(projection)
    rounding = matrix.shape[0] * np.finfo(float).eps * abs(highest)
    if lowest < -rounding:
        raise _indefinite(lowest)
    return SpectralBounds(
        max(lowest - lowest_residual, 0.0),
        max(highest + highest_residual, 0.0),
        Certainty.ESTIMATED,
        Certainty.ESTIMATED,
        method=f"{projection.diagonal.size} Lanczos steps",
        num_products=projection.diagonal.size + 2,
        seed=seed,
    )


def _gram_bounds(gram: Gram, num_steps: int, rtol: float, seed: int) -> SpectralBounds:
    # The shorter side: AᵀA and AAᵀ share their eigenvalues but for zeros.
    factor = gram.factor if gram.shape[0] <= gram.factor.shape[0] else gram.factor.T
    transpose = factor.T
    start = np.random.default_rng(seed).standard_normal(factor.shape[1])

    def ends(projection: Bidiagonal) -> tuple[float, float, float, float]:
        left, values, _ = projection.svd()
        # AᵀA v − σ²v = σ β (last entry of the left singular vector) times a unit vector.
        residuals = values * projection.off_diagonal[-1] * np.abs(left[-1])
        return values[0] ** 2, residuals[0], values[-1] ** 2, residuals[-1]

    def close_enough(projection: Bidiagonal) -> bool:
        lowest, lowest_residual, highest, highest_residual = ends(projection)
        return lowest_residual <= rtol * lowest and highest_residual <= rtol * highest

    projection = golub_kahan(
        lambda v: factor @ v, lambda u: transpose @ u, start, num_steps, stop=close_enough
    )
    lowest, lowest_residual, highest, highest_residual = ends(projection)
    lower = max(lowest - lowest_residual, 0.0)
    if factor is not gram.factor:
        lower = 0.0  # more columns than rows
    only_shift = lower == 0.0 and gram.shift > 0
    num_steps = projection.diagonal.size
    return SpectralBounds(
        lower + gram.shift,
        highest + highest_residual + gram.shift,
        Certainty.GUARANTEED if only_shift else Certainty.ESTIMATED,
        Certainty.ESTIMATED,
        method=f"{num_steps} Golub–Kahan steps" + (", shift" if gram.shift else ""),
        num_products=2 * num_steps,
        seed=seed,
    )


def _has_entries(matrix: Any) -> bool:
    return isinstance(matrix, np.ndarray) or hasattr(matrix, "toarray")


def _dense(name: str, matrix: Any) -> Any:
    if hasattr(matrix, "toarray"):
        matrix = matrix.toarray()
    if not isinstance(matrix, np.ndarray):
        raise TypeError(
            f"`{name}` must be a dense or sparse matrix to have all its eigenvalues computed, got "
            f"{type(matrix).__name__}; `estimate_bounds` needs products only"
        )
    return matrix


def _check_square(shape: tuple[int, int]) -> None:
    if shape[0] != shape[1]:
        raise ValueError(
            f"`hessian` must be square, got shape {tuple(shape)}; "
            "for least squares with this matrix pass `Gram(matrix)`"
        )


def _not_symmetric(evidence: str) -> ValueError:
    return ValueError(
        f"`hessian` must be symmetric: {evidence}; "
        "for least squares with this matrix pass `Gram(matrix)`"
    )


def _indefinite(eigenvalue: float) -> ValueError:
    return ValueError(
        "`hessian` must be positive semidefinite, but it has an eigenvalue of at most "
        f"{eigenvalue:.6g}; for least squares with this matrix pass `Gram(matrix)`"
    )
