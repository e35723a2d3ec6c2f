"""`lsq_chebyshev`: least squares with the arguments and stopping rules of SciPy's ``lsqr``."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import epsilon, norms, row_dots, take, without_labels
from stepfold._checks import check_count, check_matrix, check_unmasked
from stepfold._typing import FloatArray
from stepfold.interop.scipy._inputs import (
    as_vector,
    check_tolerance,
    convert,
    posed,
    system_dtype,
)
from stepfold.interop.scipy.linear import policy_for
from stepfold.problems import LeastSquares
from stepfold.result import Status
from stepfold.run import Budgets, Measure, Seen, Terms
from stepfold.run.measures import RESTING, Places
from stepfold.run.start import run_quadratic
from stepfold.run.units import in_units_near_one, scaled_bounds
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.bounds import check_positive_bounds

# Share of a squared norm, as a power of the machine's epsilon, below which a difference of such
# squares is not trusted: seven digits are left in float64, three in float32.
CANCELLED = 0.4


class LsqResult(NamedTuple):
    """What `lsq_chebyshev` returns; the first nine fields are ``lsqr``'s, in its order.

    With k right-hand sides ``x`` has as many columns (or rows, if ``b`` has), and the norms and
    ``istop`` have shape (k,).

    >>> found = lsq_chebyshev(np.diag([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> found.x.round(6)
    array([1., 2.])
    """

    x: Any
    """The solution, shape (n,), or (n, k) for k columns of ``b``, or (k, n) for k rows."""
    istop: Any
    """0: ``x = 0`` is the solution. 1: ``Ax = b`` to ``btol`` and ``atol``.
    2: least squares to ``atol``. 7: ``iter_lim`` was reached.
    8: the attainable accuracy is reached; only rounding is left."""
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

    With ``bounds`` by Chebyshev steps, which make no inner products; bounds that turn out to be
    wrong are put right on the way. Without them by conjugate gradients on ``AᴴA + damp²I``, never
    formed: one sweep over A per iteration where the operator allows it; what `stepfold.solve` does
    without a schedule. Many right-hand sides share every product, and take their steps with a
    factor of ``AᵀA`` in few bits where that is less work, with residuals from A.

    Args:
        A: Matrix of shape (m, n): ndarray, sparse array or ``LinearOperator`` with ``rmatvec``;
            real or complex. Integers become float64.
        b: Right-hand side of shape (m,) or (m, 1), or k of them as columns, shape (m, k), as for
            ``numpy.linalg.lstsq``. Rows, shape (k, m), are taken too unless k = m. Each right-hand
            side is judged by its own norms. For m = 1 a number will do.
        damp: Weight of the ridge term, at least 0; ``damp`` counts squared.
        atol: See ``btol``; also stop when ``norm(A.H @ r) <= atol * norm(A) * norm(r)``. A with
            damp below it, and r likewise, as in ``lsqr``; the norm of A is its spectral norm, which
            is smaller than ``lsqr``'s Frobenius norm, so the rules are stricter.
        btol: Stop when ``norm(r) <= atol * norm(A) * norm(x) + btol * norm(b)``.
        iter_lim: Most iterations; 2 n, as for ``lsqr``, but at least 1000 if not given, since there
            is no end after n iterations in exact arithmetic.
        x0: Start of the shape of the solution; 0 if not given.
        bounds: Interval of the eigenvalues of ``AᴴA + damp²I``. A lower end of 0 means that it is
            not known.

    Returns:
        A named tuple that begins like ``lsqr``'s; see `LsqResult`. A run that does not converge
        ends with the best iterate and ``istop`` 7 or 8.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes do not fit, an entry is not finite, a number is negative, or the
            solution is out of the range of its dtype.

    >>> A = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> result = lsq_chebyshev(A, np.array([1.0, 4.0, 3.0]))
    >>> result.x.round(6), result.istop, round(result.r1norm, 6)
    (array([1., 2.]), 2, 3.0)
    """
    matrix = check_matrix("A", A, allow_complex=True, looks=False)
    x0 = without_labels("x0", x0)
    num_rows, num_columns = matrix.shape
    data, is_columns = _as_rows("b", b, num_rows)
    dtypes = [data.dtype, matrix.dtype, None if x0 is None else np.asarray(x0).dtype]
    data = data.astype(system_dtype(*dtypes))
    start = None if x0 is None else _start(x0, data, num_columns, is_columns=is_columns)
    for name, value in (("damp", damp), ("atol", atol), ("btol", btol)):
        check_tolerance(name, value)
    if damp > 1e150:
        raise ValueError(f"`damp` must be at most 1e150, got {damp!r}: its square is the ridge")
    if iter_lim is None:
        iter_lim = max(2 * num_columns, 1000)
    limit = check_count("iter_lim", iter_lim, minimum=0)
    check_positive_bounds(bounds)
    pose = functools.partial(LeastSquares[Any], ridge=damp**2)
    problem = posed(pose, convert(matrix, data.dtype), data)
    if start is not None:
        # In terms of d = x − x₀ the ridge is about 0.
        problem = problem.with_rhs(-problem.residual(start))
    units = in_units_near_one(problem)
    inner: LeastSquares[Any] = units.problem
    rhs_unit = np.ones(1) if units.rhs is None else units.rhs
    shift = None if start is None else units.scaled(start)
    measure = LsqrRules((atol, btol), norms(data) / rhs_unit, shift, norms(inner.rhs))
    reduction = max(min(atol, btol), 1e-15)
    policy = policy_for(bounds, units, reduction, limit)
    if policy.bounds is not None:
        measure.upper = policy.bounds.upper
    terms = Terms(budgets=Budgets(max_steps=limit))
    loop = run_quadratic(units, None, inner.linear_term, measure, policy, terms)
    ledger = loop.ledger
    if ledger.status is not Status.CONVERGED:
        # The best iterate need not be the one looked at last.
        measure.look_closely(inner, ledger.best)
        ledger.num_products += measure.num_products
    tired = [7 if status is Status.BUDGET else 8 for status in ledger.statuses]
    istop = np.where(measure.rules > 0, measure.rules, tired)
    istop[(norms(data) == 0) & (ledger.ended_at == 0)] = 0
    found = scaled_bounds(policy.bounds, units.hessian)
    x = units.posed(ledger.best)
    x = x if start is None else start + x
    gradient_unit = np.ones(1) if units.gradient is None else units.gradient
    numbers = (
        istop,
        rhs_unit * measure.residual,
        rhs_unit * measure.damped,
        gradient_unit * measure.gradient,
        norms(x),
    )
    istop, residual, damped, gradient, size = (
        values if ledger.is_batch else values[0].item() for values in numbers
    )
    return LsqResult(
        x.T if is_columns else x,
        istop,
        ledger.num_steps,
        residual,
        damped,
        math.sqrt(measure.upper * units.hessian),
        math.nan if found is None else math.sqrt(found.condition_number),
        gradient,
        size,
        found,
        ledger.num_products,
    )


def _start(x0: Any, data: Any, num_columns: int, *, is_columns: bool) -> Any:
    """x₀ in the type of the data and with as many rows."""
    start, has_columns = _as_rows("x0", x0, num_columns)
    if data.ndim == 2 and start.ndim == 2 and is_columns != has_columns:
        start = np.asarray(x0).T if is_columns else np.asarray(x0)
    if start.shape[:-1] != data.shape[:-1]:
        raise ValueError(
            f"`x0` must have one row for each right-hand side, got shape {np.shape(x0)} "
            f"for {data.shape[0] if data.ndim == 2 else 1} of them"
        )
    return start.astype(data.dtype)


def _as_rows(name: str, values: Any, length: int) -> tuple[Any, bool]:
    """A finite vector, or rows, as a copy; and whether it was given as columns."""
    check_unmasked(name, values)
    array = np.asarray(without_labels(name, values))
    if array.shape == (length, 1) or (array.ndim == 0 and length == 1):
        array = array.reshape(length)
    is_columns = array.ndim == 2 and array.shape[0] == length
    if is_columns:
        array = array.T
    if array.ndim not in (1, 2) or array.shape[-1] != length or array.size == 0:
        raise ValueError(
            f"`{name}` must have shape ({length},) or ({length}, k) for k right-hand sides as "
            f"columns, or (k, {length}) as rows, got {np.shape(values)}"
        )
    return as_vector(name, array.ravel(), array.size).reshape(array.shape), is_columns


class LsqrRules(Measure):
    """The two stopping rules of ``lsqr``, for each right-hand side.

    1: ``‖r‖ ≤ btol·‖b‖ + atol·‖A‖·‖x‖``; 2: ``‖Aᴴr‖ ≤ atol·‖A‖·‖r‖``, with damp below A.

    One sweep over A does not tell the norm of r. It comes from two gradients: with G at x and Γ at
    y, ``‖r(x)‖² + μ‖x‖² = ‖r(y)‖² + μ‖y‖² + (x − y)·(G + Γ)``, exactly, because the function is
    quadratic. Where digits cancel, r is computed from x.

    Args:
        tolerances: atol and btol.
        data_sizes: ‖b‖.
        shift: x₀, which x is counted from; None for 0.
        first: ‖r‖ at the start.
    """

    is_of_gradient = True

    def __init__(
        self,
        tolerances: tuple[float, float],
        data_sizes: FloatArray,
        shift: Any,
        first: FloatArray,
    ) -> None:
        super().__init__()
        self._atol, self._btol = tolerances
        self._data_sizes, self._shift, self._first = data_sizes, shift, first**2
        self._place: tuple[Places, Any, Any] | None = None
        count = first.size
        self._totals = first**2
        self._trusted = 0.0
        self.residual, self.damped = first.copy(), first.copy()
        self.gradient = np.zeros(count)
        self.rules = np.zeros(count, dtype=np.int64)

    def look(self, problem: LeastSquares[Any], places: Places, x: Any, known: Any = None) -> Seen:
        """Look at the gradient, and at what it tells of the residual."""
        dual = problem.gradient(x) if known is None else known
        self._trusted = epsilon(x) ** CANCELLED
        squares = problem.ridge * norms(x) ** 2
        totals = self._total(places, x, dual)
        if totals is None:
            self.num_products += 1
            totals = norms(problem.residual(x)) ** 2 + squares
        self._place = places, x, dual
        self._totals[places] = totals
        self.gradient[places] = norms(dual)
        self.damped[places] = np.sqrt(totals)
        self.residual[places] = np.sqrt(np.maximum(totals - squares, 0.0))
        self.rules[places] = self._rules(places, x, self.gradient[places], totals - squares, totals)
        floor = RESTING * epsilon(x) * problem.gradient_magnitude(norms(x), self.upper)
        sizes = self.gradient[places].copy()
        return Seen(sizes, self.rules[places] > 0, floor, dual, dual)

    def look_closely(self, problem: LeastSquares[Any], x: Any) -> None:
        """Look at all rows, with the residual computed from x."""
        self._place = None
        places = np.arange(self.rules.size)
        self.num_products = problem.products_per_gradient
        self.look(problem, places, x)

    def _total(self, places: Places, x: Any, dual: Any) -> FloatArray | None:
        """``‖r‖² + μ‖x‖²``; None if digits have cancelled in one of them."""
        if self._place is None:
            # The first look is at 0.
            return self._first[places] if not norms(x).any() else None
        before, y, known = self._place
        if before.size != places.size:
            rows = np.searchsorted(before, places)
            y, known = take(y, rows), take(known, rows)
        first = self._totals[places]
        totals = first + row_dots(x - y, dual + known)
        trusted = totals > self._trusted * np.maximum(first, self._first[places])
        return totals if np.all(trusted | (self._first[places] == 0)) else None

    def _rules(
        self, places: Places, x: Any, gradient: FloatArray, squares: FloatArray, totals: FloatArray
    ) -> Any:
        norm = math.sqrt(self.upper)
        shift = 0.0 if self._shift is None else self._shift
        if self._shift is not None and x.ndim == 2:
            shift = take(self._shift, places)
        allowed = self._btol * self._data_sizes[places] + self._atol * norm * norms(shift + x)
        compatible = np.sqrt(np.maximum(squares, 0.0)) <= allowed
        stationary = gradient <= self._atol * norm * np.sqrt(np.maximum(totals, 0.0))
        return np.where(compatible, 1, np.where(stationary, 2, 0))

    def loses_track(self, places: Places, gain: FloatArray) -> bool:
        """Whether a difference of squared norms has cancelled."""
        totals = self._totals[places] - gain
        return bool((totals <= self._trusted * self._totals[places]).any())

    def may_be_met(
        self, places: Places, x: Any, sizes: FloatArray, gain: FloatArray
    ) -> NDArray[np.bool_]:
        """For which rows a rule holds by what was carried along."""
        totals = self._totals[places] - gain
        met: NDArray[np.bool_] = self._rules(places, x, sizes, totals, totals) > 0
        return met & (totals > self._trusted * self._totals[places])
