"""Units do not matter: work is done on numbers near 1, whatever the data are in.

Products of entries of 1e-25 vanish in float32, and an ``Aᵀb`` that vanished is no right-hand side
of zero. Where the data are far from 1 the problem is scaled by powers of two, which costs no digit:
for ``A = αA'`` and ``b = βb'`` the solution is ``x = (β/α) x'``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import (
    column,
    is_array,
    is_sparse_tensor,
    largest_entry,
    namespace,
    tiny,
    to_host,
)
from stepfold._typing import FloatArray
from stepfold.problems import LeastSquares, Problem, Quadratic

# Entries that are looked at to find out the units of a matrix.
NUM_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Units:
    """A problem in units near 1.

    Args:
        problem: The problem that is solved.
        hessian: Unit of the Hessian: steps are divided by it, bounds multiplied.
        solution: Unit of x, for each row: a solution is this many times that of ``problem``.
        gradient: Unit of the gradient, for each row.
        rhs: Unit of the right-hand side, for each row.
    """

    problem: Any
    hessian: float = 1.0
    solution: FloatArray | None = None
    gradient: FloatArray | None = None
    rhs: FloatArray | None = None

    @property
    def per_hessian(self) -> float:
        """What bounds are multiplied by on their way in; infinite where the unit underflows."""
        return 1 / self.hessian if self.hessian else math.inf

    def posed(self, x: Any) -> Any:
        """A solution in the units of the problem as it was posed."""
        return x if self.solution is None else x * column(self.solution, x)

    def scaled(self, x: Any) -> Any:
        """A solution in units near 1."""
        return x if self.solution is None else x / column(self.solution, x)


def in_units_near_one(problem: Problem[Any]) -> Units:
    """The problem itself where its numbers are harmless, else a twin that is scaled.

    Raises:
        ValueError: If a solution cannot be written in the dtype of the data.
    """
    if not isinstance(problem, (LeastSquares, Quadratic)):
        return Units(problem)
    is_squared = isinstance(problem, LeastSquares)
    matrix: Any = problem.operator if isinstance(problem, LeastSquares) else problem.hessian
    rhs: Any = problem.rhs
    # Fourth powers of entries of A are among the numbers of a run, and squares of gradients.
    widest = -math.log2(tiny(rhs)) / 4
    matrix_exponent = _exponent(_size_of_entries(matrix))
    alpha = 2.0**matrix_exponent if abs(matrix_exponent) > widest else 1.0
    peaks = np.atleast_1d(to_host(namespace(rhs).max(namespace(rhs).abs(rhs), axis=-1)))
    exponents = np.array([_exponent(float(peak)) for peak in peaks])
    if is_squared and alpha == 1:
        exponents = exponents + matrix_exponent  # of Aᵀb
    if alpha == 1 and (abs(exponents) <= widest).all():
        return Units(problem)
    with np.errstate(over="ignore", under="ignore"):
        beta = np.ldexp(1.0, exponents)
        solution = beta / alpha
    largest = np.finfo(np.float64).max if tiny(rhs) < 1e-40 else 1e38
    if not ((solution > tiny(rhs)) & (solution < largest)).all():
        raise ValueError(
            f"`problem` must have a solution that {rhs.dtype} can hold, got entries near "
            f"{2.0**matrix_exponent:.3g} in the matrix and {peaks.max():.3g} in the right-hand "
            "side; change their units"
        )
    scaled = matrix if alpha == 1 else _divided(matrix, alpha)
    rhs = _rows_divided(rhs, exponents)
    twin: Any
    if isinstance(problem, LeastSquares):
        twin = LeastSquares(scaled, rhs, ridge=problem.ridge / alpha / alpha)
    else:
        twin = Quadratic(scaled, rhs)
    hessian = alpha * alpha if is_squared else alpha
    with np.errstate(over="ignore", under="ignore"):
        gradient = beta * alpha if is_squared else beta
    return Units(twin, hessian, solution, gradient, beta)


def by_linear_term(units: Units, term: Any) -> tuple[Units, Any]:
    """Units in which squares of gradients are numbers, where the entries of a matrix are not known.

    Args:
        units: Those of `in_units_near_one`.
        term: The linear term of the problem in the usual inner product.

    Returns:
        Units and the linear term in them; what was given where that is harmless.
    """
    posed = units.problem
    inner = posed.euclidean
    if not isinstance(inner, (LeastSquares, Quadratic)):
        return units, term
    matrix: Any = inner.operator if isinstance(inner, LeastSquares) else inner.hessian
    if inner is posed and (is_array(matrix) or hasattr(matrix, "tocsr")):
        return units, term
    peaks = np.atleast_1d(to_host(namespace(term).max(namespace(term).abs(term), axis=-1)))
    exponents = np.array([_exponent(float(peak)) for peak in peaks])
    if (abs(exponents) <= -math.log2(tiny(term)) / 16).all():
        return units, term
    # Of the right-hand side alone; of what was scaled already, the entries are not known either.
    before = np.ones(1) if units.solution is None else units.solution
    beta = np.ldexp(before, exponents)
    if not (beta > tiny(term)).all() or not np.isfinite(beta).all():
        return units, term
    twin: Any = inner.with_rhs(_rows_divided(inner.rhs, exponents))
    if inner is not posed:
        twin = posed.of(twin)
    return Units(twin, 1.0, beta, beta, beta), _rows_divided(term, exponents)


def _exponent(size: float) -> int:
    # 2¹⁰²⁴ is no number.
    return min(math.frexp(size)[1], 1023) if 0 < size < math.inf else 0


def _size_of_entries(matrix: Any) -> float:
    """About the largest entry, from a sample; 0 where entries are not known."""
    entries = matrix.data if hasattr(matrix, "tocsr") else matrix
    if isinstance(entries, np.ndarray):
        flat = entries.reshape(-1, order="A") if entries.flags.forc else entries[:64].reshape(-1)
        sample = flat[:: max(1, flat.size // NUM_SAMPLES)]
        largest = float(abs(sample).max(initial=0.0))
        return largest if largest > 0 else float(abs(flat).max(initial=0.0))
    if is_array(matrix):
        values = matrix.values() if is_sparse_tensor(matrix) else matrix
        return largest_entry(values) if math.prod(values.shape) else 0.0
    return 0.0


def _divided(values: Any, unit: float) -> Any:
    """``values/unit`` for a power of two, in two halves: 1/unit may be out of range."""
    exponent = math.frexp(unit)[1] - 1
    half = exponent // 2
    dtype = getattr(values, "dtype", None)
    is_narrow = isinstance(dtype, np.dtype) and dtype.kind == "f"
    for part in (half, exponent - half):
        power = 2.0**-part
        values = values * (dtype.type(power) if is_narrow else power)  # type: ignore[union-attr]
    return values


def _rows_divided(rows: Any, exponents: NDArray[np.int64]) -> Any:
    """Each row divided by its power of two, in two halves."""
    half = exponents // 2
    for part in (half, exponents - half):
        rows = rows * column(np.ldexp(1.0, -part), rows)
    return rows
