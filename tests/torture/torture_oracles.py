"""What is true of a case, in long double, and in 80 digits where long double does not suffice."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import scipy.sparse as sp

# Unknowns up to which an ill-conditioned system is solved in 80 digits.
MOST_IN_DIGITS = 24
# Unknowns up to which a system is solved at all.
MOST_SOLVED = 400


def wide(values: Any) -> Any:
    """The same numbers in long double, dense."""
    values = values.toarray() if sp.issparse(values) else np.asarray(values)
    return values.astype(np.clongdouble if values.dtype.kind == "c" else np.longdouble)


def norm(values: Any) -> Any:
    """Euclidean norm that neither overflows nor vanishes."""
    peak = np.abs(values).max(initial=0)
    if not peak > 0 or not np.isfinite(peak):
        return np.longdouble(peak)
    return peak * np.sqrt((np.abs(values / peak) ** 2).sum())


class Oracle:
    """Gradients, their rounding, and solutions of a quadratic case.

    Args:
        made: The case; its matrix, right-hand side, ridge and metric are read.
        most: Unknowns up to which a system is solved at all.
    """

    def __init__(self, made: Any, most: int = MOST_SOLVED) -> None:
        self.made, self._most = made, most
        self.matrix = wide(made.matrix)
        self.rhs = wide(made.rhs)
        self.ridge = np.longdouble(made.ridge)
        self.squares = made.form in ("least squares", "penalty")
        self.eps = float(np.finfo(np.result_type(made.rhs, made.matrix)).eps)

    def row(self, place: int | None) -> Any:
        """One right-hand side."""
        return self.rhs if place is None else self.rhs[place]

    def gradient(self, x: Any, rhs: Any) -> Any:
        """∇f(x)."""
        residual = self.matrix @ x - rhs
        if not self.squares:
            return residual
        return self.matrix.conj().T @ residual + self.ridge * x

    def rounding(self, x: Any, rhs: Any) -> Any:
        """What rounding can make of a gradient at most: a bound that holds for any order."""
        size = np.abs(self.matrix)
        magnitude = size @ np.abs(x) + np.abs(rhs)
        count = self.matrix.shape[1] + 2
        if self.squares:
            magnitude = size.T @ magnitude + self.ridge * np.abs(x)
            count += self.matrix.shape[0] + 2
        if self.matrix.dtype.kind == "c":
            count *= 2
        return self.eps * count * self.norm(magnitude)

    def norm(self, gradient: Any) -> Any:
        """Of a gradient: √(gᴴM⁻¹g) with a preconditioner."""
        metric = self.made.metric
        return norm(
            gradient if metric is None else gradient / np.sqrt(metric.astype(np.longdouble))
        )

    def error(self, x: Any, rhs: Any) -> Any:
        """‖x − x*‖, to about three digits; None where that cannot be had."""
        gradient = self.gradient(x, rhs)
        size = norm(gradient)
        if size == 0:
            return np.longdouble(0)
        n = self.matrix.shape[1]
        if n > self._most:
            return None
        # A power of two: a division must not round, or the solution is another one.
        alpha = np.ldexp(np.longdouble(1), int(np.frexp(np.abs(self.matrix).max())[1]))
        flat = self.matrix / alpha
        unit = alpha * alpha if self.squares else alpha
        ridge = self.ridge / unit
        found = _solve(flat, ridge, gradient / size, self.squares)
        if found is None and n <= MOST_IN_DIGITS:
            found = _solve_in_digits(flat, ridge, gradient / size, self.squares)
        return None if found is None else norm(found) * size / unit


def _solve(flat: Any, ridge: Any, rhs: Any, squares: bool) -> Any:
    """Solve H e = rhs: LAPACK in float64, refined in long double."""
    plain = flat.astype(np.complex128 if flat.dtype.kind == "c" else np.float64)
    n = plain.shape[1]
    if squares:
        stacked = plain
        if ridge > 0:
            stacked = np.vstack([plain, float(np.sqrt(ridge)) * np.eye(n)])
        if stacked.shape[0] < n:
            return None
        _, values, vectors = np.linalg.svd(stacked, full_matrices=False)
        if not values[-1] > 0:
            return None
        eigenvalues, vectors = values.astype(np.longdouble) ** 2, wide(vectors.conj().T)
    else:
        eigenvalues, vectors = np.linalg.eigh(plain)
        if not eigenvalues[0] > 0:
            return None
        eigenvalues, vectors = eigenvalues.astype(np.longdouble), wide(vectors)
    found = 0 * rhs
    for _ in range(8):
        image = flat @ found
        if squares:
            image = flat.conj().T @ image + ridge * found
        left = rhs - image
        found = found + vectors @ ((vectors.conj().T @ left) / eigenvalues)
    image = flat @ found
    if squares:
        image = flat.conj().T @ image + ridge * found
    # Twice over: the smallest eigenvalue itself is known to some digits only.
    uncertain = 2 * norm(rhs - image) / eigenvalues.min()
    trusted = eigenvalues.min() > 1e3 * n * np.finfo(np.float64).eps ** (2 if squares else 1)
    return found if trusted and uncertain <= 1e-3 * norm(found) else None


def _solve_in_digits(flat: Any, ridge: Any, rhs: Any, squares: bool) -> Any:
    with mpmath.workdps(80):
        matrix, vector = mpmath.matrix(_exact(flat)), mpmath.matrix(_exact(rhs[:, None]))
        if squares:
            matrix = matrix.transpose_conj() * matrix
            matrix += _number(ridge) * mpmath.eye(matrix.rows)
        try:
            solved = mpmath.lu_solve(matrix, vector)
        except ZeroDivisionError:
            return None
        return np.array([np.longdouble(mpmath.nstr(abs(entry), 25)) for entry in solved])


def _exact(values: Any) -> list[list[Any]]:
    return [[_number(entry) for entry in row] for row in values]


def _number(entry: Any) -> Any:
    """A long double in 80 digits, exactly: the sum of three doubles."""
    if isinstance(entry, np.complexfloating):
        return mpmath.mpc(_number(entry.real), _number(entry.imag))
    total = mpmath.mpf(0)
    for _ in range(3):
        part = float(entry)
        total += part
        entry = np.longdouble(entry) - np.longdouble(part)
    return total
