"""`chebyshev`: a solver with the arguments and return codes of ``scipy.sparse.linalg.cg``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._arrays import norms, row_dots
from stepfold._checks import check_callable, check_count, check_entries, check_matrix, check_square
from stepfold.interop.scipy._inputs import (
    as_vector,
    check_tolerance,
    convert,
    posed,
    system_dtype,
)
from stepfold.iterations import GradientDescent
from stepfold.planner import shortest_good_period
from stepfold.problems import Preconditioned, Quadratic, QuadraticProblem
from stepfold.result import Status
from stepfold.run import Budgets, Policy, Terms
from stepfold.run.measures import GradientNorm
from stepfold.run.policies.automatic import Automatic
from stepfold.run.policies.cycle import Cycle
from stepfold.run.policies.guard import Guard, watch_for
from stepfold.run.start import run_quadratic
from stepfold.run.units import Units, in_units_near_one, scaled_bounds
from stepfold.schedules import chebyshev_steps
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.bounds import check_positive_bounds

# Steps of a schedule for bounds that are given without a lower end.
PERIOD_WITHOUT_LOWER = 64


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

    With ``bounds`` by Chebyshev steps: one product with A and one with M per iteration, and no
    inner products but for a look at the residual at the end of a period; bounds that turn out to be
    wrong are put right on the way. Without them by conjugate gradients, which need the fewest
    products where no bounds are known; what `stepfold.solve` does without a schedule.

    Args:
        A: Matrix of shape (n, n): ndarray, sparse array, ``LinearOperator`` or anything with
            ``shape`` and ``matvec``; real or complex. Integers become float64.
        b: Right-hand side of shape (n,) or (n, 1).
        x0: Start; 0 if not given, ``M @ b`` for "Mb". Not written to.
        rtol: Stop when ``norm(b - A @ x) <= max(rtol*norm(b), atol)``; the residual is computed
            from x, never carried along.
        atol: See ``rtol``.
        maxiter: Most iterations; 10 n if not given.
        M: Hermitian positive definite approximation of the inverse of A.
        callback: Called as ``callback(xk)`` after each iteration; not to be written to. If it
            raises StopIteration, the run ends there and returns ``xk``.
        bounds: Interval of the eigenvalues of A, or of MA where M is given. A lower end of 0 means
            that it is not known.

    Returns:
        The solution of shape (n,), in the common type of A and b; and 0 if the tolerance was met,
        else the number of iterations taken, as ``cg`` has it (for ``maxiter=0`` that is 0 too). If
        it was not met, the solution is the best one seen. There may be fewer than ``maxiter``
        iterations then: they end where the attainable accuracy is reached, because rounding is all
        that is left or because a singular system has no solution.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes do not fit, an entry is not finite, a tolerance or ``maxiter`` is
            negative, or a direction shows that A or M is not positive definite.

    >>> chebyshev(np.diag([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0]), rtol=1e-10)
    (array([1., 1., 1.]), 0)
    """
    matrix = check_matrix("A", A, allow_complex=True, looks=False)
    check_square("A", matrix)
    size = matrix.shape[0]
    inverse = None if M is None else check_matrix("M", M, allow_complex=True, looks=False)
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
    tolerances = (
        check_tolerance("rtol", rtol, allow_infinite=True),
        check_tolerance("atol", atol, allow_infinite=True),
    )
    limit = 10 * size if maxiter is None else check_count("maxiter", maxiter, minimum=0)
    check_positive_bounds(bounds)
    check_callable("callback", callback)
    if not rhs.any():
        return rhs, 0
    start = None if x0 is None else _start(x0, rhs, inverse)
    problem = posed(Quadratic, convert(matrix, dtype), rhs)
    units = in_units_near_one(problem)
    inner: QuadraticProblem[Any] = units.problem
    term = inner.linear_term
    atols = tolerances[1] if units.gradient is None else tolerances[1] / units.gradient
    measure = GradientNorm(tolerances[0], atols, None, norms(term), is_preconditioned=False)
    if inverse is not None:
        _check_definite(inverse, rhs)
        inverse, unit = _in_units_near_one(convert(inverse, dtype), term)
        inner = Preconditioned(inner, inverse)
        if bounds is not None:
            bounds = scaled_bounds(bounds, 1 / unit)
    watch = None if callback is None else (lambda _, x: callback(x))
    policy = policy_for(bounds, units, tolerances[0], limit)
    scaled = Units(inner, units.hessian, units.solution, units.gradient)
    terms = Terms(budgets=Budgets(max_steps=limit), callback=watch)
    loop = run_quadratic(scaled, start, term, measure, policy, terms)
    if policy.indefinite is not None:
        squares = "pᴴp" if inverse is None else "pᴴM⁻¹p"
        raise ValueError(
            f"`A` must be positive definite, got a direction p with pᴴAp/{squares} = "
            f"{policy.indefinite * units.hessian:.3g}; for indefinite systems use "
            "`scipy.sparse.linalg.minres`"
        )
    ledger = loop.ledger
    solved = ledger.status is Status.CONVERGED
    return units.posed(ledger.best), 0 if solved else (max(ledger.num_steps, 1) if limit else 0)


def _start(x0: Any, rhs: Any, inverse: Any) -> Any:
    if isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f'`x0` must be a vector or "Mb", got {x0!r}')
        return rhs.copy() if inverse is None else np.asarray(inverse @ rhs).astype(rhs.dtype)
    return as_vector("x0", x0, rhs.size, rhs.dtype)


def _check_definite(inverse: Any, vector: Any) -> None:
    quotient = float(row_dots(vector, inverse @ vector)[0]) / float(norms(vector)[0]) ** 2
    if not quotient > 0:
        raise ValueError(
            f"`M` must be positive definite, got a residual r with rᴴMr/rᴴr = {quotient:.3g}; "
            "check the preconditioner"
        )


def _in_units_near_one(inverse: Any, vector: Any) -> tuple[Any, float]:
    """M divided by a power of two near its size, and that; directions and steps stay the same."""
    ratio = float(norms(inverse @ vector)[0] / norms(vector)[0])
    unit = math.ldexp(1.0, math.frexp(ratio)[1]) if 0 < ratio < math.inf else 1.0
    exact = unit if np.dtype(inverse.dtype).kind != "f" else inverse.dtype.type(unit)
    return inverse * (1 / exact), unit


def policy_for(bounds: SpectralBounds | None, units: Units, rtol: float, limit: int) -> Policy:
    """Chebyshev steps for bounds that are given, in periods that fit the limit; else automatic."""
    bounds = scaled_bounds(bounds, units.per_hessian)
    if bounds is None:
        return Automatic(rtol)
    rtol = min(max(rtol, 1e-15), 0.1)
    if bounds.lower > 0:
        period = min(shortest_good_period(bounds, rtol), max(limit, 1))
        schedule = chebyshev_steps(bounds, period)
    else:
        schedule = chebyshev_steps(bounds, min(PERIOD_WITHOUT_LOWER, max(limit, 1)), kind=4)
    return Cycle(schedule, GradientDescent(), watch_for(Guard(lowers=True), schedule))
