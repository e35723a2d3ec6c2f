"""`chebyshev`: a solver with the arguments and return codes of ``scipy.sparse.linalg.cg``."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._checks import check_callable, check_count
from stepfold.interop.scipy._adaptive import Run, System
from stepfold.interop.scipy._inputs import (
    as_matrix,
    as_vector,
    check_entries,
    check_tolerance,
    convert,
    interval,
    powers_of_two,
    system_dtype,
)
from stepfold.problems import Quadratic
from stepfold.spectrum import SpectralBounds


def chebyshev(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Any], Any] | None = None,
    bounds: SpectralBounds | None = None,
) -> tuple[Any, int]:
    """Solve ``Ax = b`` for a Hermitian positive definite A; takes the place of SciPy's ``cg``.

    Chebyshev semi-iteration: one product with A and one with M per iteration, and no inner products
    but for an occasional look at the residual. Without ``bounds`` the first iterations, 32 at most,
    are those of conjugate gradients, whose coefficients tell the ends of the spectrum of MA; ends
    that turn out to be wrong are put right on the way. Where √κ shows itself to be above n/4,
    conjugate gradients end sooner and go on to their end.

    Args:
        A: Matrix of shape (n, n): ndarray, sparse array, ``LinearOperator`` or anything with
            ``shape`` and ``matvec``; real or complex. Integers become float64.
        b: Right-hand side of shape (n,) or (n, 1).
        x0: Start; 0 if not given. Not written to.
        rtol: Stop when ``norm(b - A @ x) <= max(rtol*norm(b), atol)``; the residual is computed
            from x, never carried along.
        atol: See ``rtol``.
        maxiter: Most iterations; 10 n if not given.
        M: Hermitian positive definite approximation of the inverse of A.
        callback: Called as ``callback(xk)`` after each iteration; not to be written to.
        bounds: Interval of the eigenvalues of A, or of MA where M is given. A lower end of 0 means
            that it is not known.

    Returns:
        The solution of shape (n,), in the common type of A and b; and 0 if the tolerance was met,
        else the number of iterations taken, as ``cg`` has it (for ``maxiter=0`` that is 0 too). If
        it was not met, the solution is the best one seen. There may be fewer than ``maxiter``
        iterations then: they end where nothing improves any more, because rounding is all that is
        left or because a singular system has no solution.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes do not fit, an entry is not finite, a tolerance or ``maxiter`` is
            negative, or a direction shows that A or M is not positive definite.

    >>> chebyshev(np.diag([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0]), rtol=1e-10)
    (array([1., 1., 1.]), 0)
    """
    matrix = as_matrix("A", A)
    size = matrix.shape[0]
    if matrix.shape != (size, size):
        raise ValueError(f"`A` must be square, got shape {tuple(matrix.shape)}")
    inverse = None if M is None else as_matrix("M", M)
    check_entries("M", inverse)
    if inverse is not None and inverse.shape != matrix.shape:
        raise ValueError(
            f"`M` must have the shape of `A`, {tuple(matrix.shape)}, got {tuple(inverse.shape)}"
        )
    rhs = as_vector("b", b, size)
    dtypes = [rhs.dtype, matrix.dtype, None if inverse is None else inverse.dtype]
    if inverse is not None and np.dtype(inverse.dtype).kind != "c":
        dtypes.pop()  # a real preconditioner adapts to the system
    dtype = system_dtype(*dtypes)
    rhs = rhs.astype(dtype)
    start = np.zeros(size, dtype) if x0 is None else as_vector("x0", x0, size, dtype)
    rtol, atol = check_tolerance("rtol", rtol), check_tolerance("atol", atol)
    limit = 10 * size if maxiter is None else check_count("maxiter", maxiter, minimum=0)
    ends = interval(bounds)
    check_callable("callback", callback)
    if not rhs.any():
        return rhs, 0
    # Squares of a right-hand side below 1e-160 (1e-20 in float32) would vanish in inner products.
    peak = float(abs(rhs).max())
    scale = 1.0 if 1e-10 < peak < 1e10 else float(powers_of_two(rhs).item())
    system = _Linear(
        convert(matrix, dtype),
        rhs / scale,
        None if inverse is None else convert(inverse, dtype),
        lambda norm: max(rtol * norm, atol / scale),
    )
    watch = callback if callback is None or scale == 1 else lambda x: callback(scale * x)
    run = Run(system, start / scale, limit, watch)
    with np.errstate(over="ignore", invalid="ignore"):
        solved = run.solve(ends)
    return scale * run.x, 0 if solved else (max(run.num_steps, 1) if limit else 0)


class _Linear(System):
    """``Ax = b`` with the residual norm as the criterion."""

    def __init__(
        self, matrix: Any, rhs: Any, inverse: Any, tolerance: Callable[[float], float]
    ) -> None:
        self._matrix, self._rhs, self._inverse = matrix, rhs, inverse
        self._tolerance = tolerance(float(np.linalg.norm(rhs)))
        self._image: Any = None

    @functools.cached_property
    def _problem(self) -> Quadratic[Any] | None:
        # It hides the one-pass kernels, and is real. Made when the entries have been seen to be
        # finite, or its own complaint would come first.
        if self._inverse is not None or self._rhs.dtype.kind == "c":
            return None
        return Quadratic(self._matrix, self._rhs)

    def check(self) -> None:
        check_entries("A", self._matrix)

    def residual(self, x: Any) -> Any:
        return self._rhs - self._matrix @ x

    def advance(self, x: Any, gamma: float) -> Any:
        if self._problem is not None:
            return self._problem.gradient_step(x, gamma)
        return x + gamma * self.precondition(self.residual(x))

    def precondition(self, residual: Any) -> Any:
        return residual if self._inverse is None else self._inverse @ residual

    def probe(self, direction: Any) -> float:
        self._image = self._matrix @ direction
        return float(np.vdot(direction, self._image).real)

    def follow(self, x: Any, residual: Any, direction: Any, step: float) -> Any:
        x += step * direction
        return residual - step * self._image

    def excess(self, x: Any, residual: Any) -> float:
        norm = float(np.linalg.norm(residual))
        if self._tolerance == 0:
            return math.inf if norm != 0 else 0.0
        return norm / self._tolerance
