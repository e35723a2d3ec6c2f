"""`lsq_chebyshev`: least squares with the arguments and stopping rules of SciPy's ``lsqr``."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from stepfold._checks import check_count
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
from stepfold.problems import LeastSquares
from stepfold.problems.base import apply
from stepfold.spectrum import SpectralBounds


class LsqResult(NamedTuple):
    """What `lsq_chebyshev` returns; the first nine fields are ``lsqr``'s, in its order.

    With ``b`` of shape (k, m) ``x`` has k rows, and the norms and ``istop`` have shape (k,).
    """

    x: Any
    """The solution, shape (n,) or (k, n)."""
    istop: Any
    """1: ``Ax = b`` to ``btol`` and ``atol``. 2: least squares to ``atol``.
    7: ``iter_lim`` was reached. 8: nothing improved any more; only rounding is left."""
    itn: Any
    """Iterations: one product with A and one with its adjoint each."""
    r1norm: Any
    """``norm(b - A @ x)``."""
    r2norm: Any
    """``sqrt(r1norm**2 + damp**2 * norm(x - x0)**2)``."""
    anorm: Any
    """Spectral norm of A with damp below it: the root of the upper bound used, where ``lsqr``
    returns a Frobenius norm, which is larger."""
    acond: Any
    """Root of the condition number of the bounds used."""
    arnorm: Any
    """``norm(A.conj().T @ r - damp**2 * (x - x0))``."""
    xnorm: Any
    """``norm(x)``."""
    bounds: SpectralBounds | None
    """Interval of the eigenvalues of ``AᴴA + damp²I`` that was used in the end; give it to the
    next call with the same A and damp. None if there was no step."""
    num_products: Any
    """Products with A and with its adjoint, counted singly, checks included; a product with k rows
    counts once."""


def lsq_chebyshev(
    A: Any,
    b: Any,
    damp: float = 0.0,
    atol: float = 1e-6,
    btol: float = 1e-6,
    iter_lim: int | None = None,
    x0: Any = None,
    *,
    bounds: SpectralBounds | None = None,
) -> LsqResult:
    """Minimise ``‖Ax − b‖² + damp²‖x − x0‖²``; stands beside SciPy's ``lsqr``.

    Chebyshev semi-iteration on ``AᴴA + damp²I``, never formed: one sweep over A per iteration where
    the operator allows it. Without ``bounds`` the first iterations are those of LSQR, as conjugate
    gradients on the normal equations; their coefficients, Golub and Kahan's, tell the ends of the
    spectrum, so that looking at the spectrum is not work lost. (As in `chebyshev` they go on to
    their end where √κ exceeds n/4, κ being that of AᴴA.)

    Args:
        A: Matrix of shape (m, n): ndarray, sparse array or ``LinearOperator`` with ``rmatvec``;
            real or complex. Integers become float64.
        b: Right-hand side of shape (m,) or (m, 1); or, as everywhere in stepfold, k of them as
            rows, shape (k, m). They share every sweep over A and stop together, each
            judged by its own norms. (A column (m, 1) is one right-hand side.)
        damp: Weight of the ridge term, at least 0; ``damp`` counts squared.
        atol: See ``btol``; also stop when ``norm(A.H @ r) <= atol * norm(A) * norm(r)``. A with
            damp below it, and r likewise, as in ``lsqr``; the norm of A is its spectral norm, which
            is smaller than ``lsqr``'s Frobenius norm, so the rules are stricter.
        btol: Stop when ``norm(r) <= atol * norm(A) * norm(x) + btol * norm(b)``.
        iter_lim: Most iterations; 2 n, as for ``lsqr``, but at least 1000 if not given, since there
            is no end after n iterations in exact arithmetic.
        x0: Start of shape (n,), or (k, n) for k right-hand sides; 0 if not given.
        bounds: Interval of the eigenvalues of ``AᴴA + damp²I``. A lower end of 0 means that it is
            not known.

    Returns:
        A named tuple that begins like ``lsqr``'s; see `LsqResult`. A run that does not converge
        ends with the best iterate and ``istop`` 7 or 8.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes do not fit, an entry is not finite, or a number is negative.

    >>> A = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> result = lsq_chebyshev(A, np.array([1.0, 4.0, 3.0]))
    >>> result.x.round(6), result.istop, result.r1norm
    (array([1., 2.]), 2, 3.0)
    """
    matrix = as_matrix("A", A)
    data = _as_rows("b", b, matrix.shape[0])
    data = data.astype(system_dtype(data.dtype, matrix.dtype))
    start = None if x0 is None else _start(x0, data, matrix.shape[1])
    for name, value in (("damp", damp), ("atol", atol), ("btol", btol)):
        check_tolerance(name, value)
    if iter_lim is None:
        iter_lim = max(2 * matrix.shape[1], 1000)
    limit = check_count("iter_lim", iter_lim, minimum=0)
    # Squares of small entries would vanish, and a row in small units would be lost in the rounding
    # of the others.
    scales = powers_of_two(data)
    start = None if start is None else start / scales
    system = _Normal(convert(matrix, data.dtype), data / scales, start, (damp, atol, btol))
    run = Run(system, 0 * system.start, limit, None)
    ends = interval(bounds)
    system.squared_norm = 0.0 if ends is None else ends[1]
    with np.errstate(over="ignore", invalid="ignore"):
        solved = run.solve(ends)
    if not solved:
        system.residual(run.x)
    if not math.isnan(run.upper) and (bounds is None or run.num_corrections):
        bounds = SpectralBounds(run.lower, run.upper, method="semi-iteration")
    scale = scales[..., 0]
    x = system.start + run.x
    rules = system.rules(run.x)
    return LsqResult(
        scales * x,
        _plain(np.where(rules > 0, rules, 7 if run.num_steps >= limit else 8)),
        run.num_steps,
        _plain(scale * system.data_norm),
        _plain(scale * system.residual_norm),
        math.sqrt(system.squared_norm),
        math.nan if bounds is None else math.sqrt(bounds.condition_number),
        _plain(scale * system.gradient_norm),
        _plain(scale * _norms(x)),
        bounds,
        system.num_products,
    )


def _start(x0: Any, data: Any, num_columns: int) -> Any:
    """x₀ in the type of the data and with as many rows."""
    start = _as_rows("x0", x0, num_columns)
    if start.dtype.kind == "c" and data.dtype.kind != "c":
        raise TypeError(f"`x0` must be real for a real system, got dtype {start.dtype}")
    if start.shape[:-1] != data.shape[:-1]:
        raise ValueError(
            f"`x0` must have one row for each right-hand side, got shape {np.shape(x0)} "
            f"for {data.shape[0] if data.ndim == 2 else 1} of them"
        )
    return start.astype(data.dtype)


def _plain(values: Any) -> Any:
    """A Python number for one right-hand side, an array for several."""
    return values.item() if np.ndim(values) == 0 else values


def _as_rows(name: str, values: Any, length: int) -> Any:
    """A finite vector (length,) or (length, 1), or rows (k, length), as a copy."""
    array = np.asarray(values)
    if array.shape == (length, 1):
        array = array.ravel()
    if array.ndim not in (1, 2) or array.shape[-1] != length or array.size == 0:
        raise ValueError(
            f"`{name}` must have shape ({length},) or ({length}, 1), or (k, {length}) for k "
            f"right-hand sides as rows, got {array.shape}"
        )
    return as_vector(name, array.ravel(), array.size).reshape(array.shape)


def _norms(rows: Any) -> Any:
    return np.linalg.norm(rows, axis=-1)


class _Normal(System):
    """``(AᴴA + damp²I) d = Aᴴ(b − Ax₀)``, d = x − x₀, with the criteria of ``lsqr``.

    Args:
        matrix: A.
        data: b, shape (m,) or (k, m).
        start: x₀, of the shape of the solution; None for 0.
        settings: damp, atol and btol.
    """

    def __init__(
        self, matrix: Any, data: Any, start: Any, settings: tuple[float, float, float]
    ) -> None:
        self._matrix, self._transpose = matrix, matrix.T
        self._damp, self._atol, self._btol = settings
        self._ridge = self._damp**2
        self._complex = data.dtype.kind == "c"
        self._data_size = _norms(data)
        self.num_products = 0
        if start is None:
            self.start = np.zeros((*data.shape[:-1], matrix.shape[1]), data.dtype)
            self._data = data
        else:
            self.start = start
            self._data = data - self._forward(start)
        self._remainder = self._image = self._data
        self.gradient_norm = self.data_norm = self.residual_norm = self._data_size

    @functools.cached_property
    def _problem(self) -> LeastSquares[Any] | None:
        # It hides the one-pass kernels, and is real. Made when the entries have been seen to be
        # finite, or its own complaint would come first.
        if self._complex:
            return None
        return LeastSquares(self._matrix, self._data, ridge=self._ridge)

    def check(self) -> None:
        check_entries("A", self._matrix)

    def _forward(self, x: Any) -> Any:
        self.num_products += 1
        return apply(self._matrix, x)

    def _backward(self, y: Any) -> Any:
        self.num_products += 1
        if self._complex:
            return np.conj(apply(self._transpose, np.conj(y)))
        return apply(self._transpose, y)

    def _gradient(self, x: Any) -> Any:
        gradient = self._backward(self._remainder)
        if self._ridge:
            gradient -= self._ridge * x
        self._measure(x, gradient)
        return gradient

    def _measure(self, x: Any, gradient: Any) -> None:
        self.data_norm = _norms(self._remainder)
        self.residual_norm = np.hypot(self.data_norm, self._damp * _norms(x))
        self.gradient_norm = _norms(gradient)

    def residual(self, x: Any) -> Any:
        # The start is 0 always, and its product known.
        self._remainder = self._data - self._forward(x) if x.any() else self._data
        return self._gradient(x)

    def advance(self, x: Any, gamma: float) -> Any:
        if self._problem is None:
            return x + gamma * self.residual(x)
        self.num_products += 2
        return self._problem.gradient_step(x, gamma)

    def precondition(self, residual: Any) -> Any:
        return residual

    def probe(self, direction: Any) -> float:
        self._image = self._forward(direction)
        square = float(np.vdot(self._image, self._image).real)
        return square + self._ridge * float(np.vdot(direction, direction).real)

    def follow(self, x: Any, residual: Any, direction: Any, step: float) -> Any:
        x += step * direction
        self._remainder = self._remainder - step * self._image
        return self._gradient(x)

    def _excesses(self, x: Any) -> tuple[Any, Any]:
        """How many times its tolerance each row's residual and gradient are."""
        norm = math.sqrt(self.squared_norm)
        allowed = self._btol * self._data_size + self._atol * norm * _norms(self.start + x)
        least = self._atol * norm * self.residual_norm
        return _over(self.residual_norm, allowed), _over(self.gradient_norm, least)

    def rules(self, x: Any) -> Any:
        """Which rule holds for each row, 1 or 2 as in ``lsqr``; 0 if none does."""
        compatible, stationary = self._excesses(x)
        return np.where(compatible <= 1, 1, np.where(stationary <= 1, 2, 0))

    def excess(self, x: Any, residual: Any) -> float:
        return float(np.max(np.minimum(*self._excesses(x))))


def _over(values: Any, allowed: Any) -> Any:
    """``values/allowed``; 0 for ``0/0``, infinite for what is not 0 over 0."""
    ratio = values / np.where(allowed > 0, allowed, 1.0)
    return np.where(allowed > 0, ratio, np.where(values == 0, 0.0, np.inf))
