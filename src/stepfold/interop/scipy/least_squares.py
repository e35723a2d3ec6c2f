"""`lsq_chebyshev`: least squares with the arguments and stopping rules of SciPy's ``lsqr``."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stepfold._checks import check_count, check_unmasked
from stepfold.interop.scipy._adaptive import Run
from stepfold.interop.scipy._ends import LOOKING_STEPS
from stepfold.interop.scipy._gram import GramSteps, gram_pays
from stepfold.interop.scipy._inputs import (
    as_matrix,
    as_vector,
    check_tolerance,
    convert,
    interval,
    powers_of_two,
    system_dtype,
)
from stepfold.interop.scipy._normal import Normal, norms
from stepfold.spectrum import SpectralBounds

# Steps after which the ends of the spectrum are known well enough to tell many steps from few.
FIRST_LOOK = 8


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
    their end where √κ exceeds n/4, κ being that of AᴴA; and where each is one sweep, until the
    lower end has been seen.) Many right-hand sides take their steps with ``AᵀA`` in few bits where
    that is less work, and their residuals from A; that takes n² numbers of memory.

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
        ValueError: If shapes do not fit, an entry is not finite, a number is negative, or the norm
            of A is so large or small that its fourth power is out of range.

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
    matrix, settings = convert(matrix, data.dtype), (damp, atol, btol)
    system = Normal(matrix, data / scales, start, settings)
    run = Run(system, 0 * system.start, limit, None)
    ends = interval(bounds)
    if limit > 0 and data.any():
        _consider_gram(system, matrix, data / scales, settings, ends)
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
        _plain(scale * norms(x)),
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
    check_unmasked(name, values)
    array = np.asarray(values)
    if array.shape == (length, 1):
        array = array.ravel()
    if array.ndim not in (1, 2) or array.shape[-1] != length or array.size == 0:
        raise ValueError(
            f"`{name}` must have shape ({length},) or ({length}, 1), or (k, {length}) for k "
            f"right-hand sides as rows, got {array.shape}"
        )
    return as_vector(name, array.ravel(), array.size).reshape(array.shape)


def _consider_gram(
    system: Normal,
    matrix: Any,
    data: Any,
    settings: tuple[float, float, float],
    ends: tuple[float, float] | None,
) -> None:
    """Let many right-hand sides take their steps by a Gram matrix, where that is less work.

    How many steps there are depends on the ends of the spectrum. If they are not known, a few steps
    of one combination of the right-hand sides give a first idea: where A is read from memory they
    cost a fraction of a step on all.
    """
    is_dense = isinstance(matrix, np.ndarray) and matrix.dtype.kind == "f"
    if not is_dense or data.ndim == 1 or not gram_pays(matrix.shape, len(data), LOOKING_STEPS, 0.5):
        return
    damp, atol, btol = settings
    if ends is None:
        # Weights without a pattern, so that no two rows cancel.
        weights = 1 + (np.arange(1, len(data) + 1) * (math.sqrt(5) - 1) / 2) % 1
        one = Normal(matrix, (weights @ data).astype(data.dtype), None, (damp, 0.0, 0.0))
        ends = Run(one, one.start, FIRST_LOOK, None).find_ends()
        system.num_products += one.num_products
        if ends is None:
            return
    system.condition = ends[1] / ends[0]
    digits = -math.log(max(min(atol, btol), float(np.finfo(data.dtype).eps)))
    system.use(GramSteps(matrix, damp**2, ends[1], len(data), digits))
