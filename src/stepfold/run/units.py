"""Units do not matter: work is done on numbers near 1, whatever the data are in.

Products of entries of 1e-25 vanish in float32, and an ``Aᵀb`` that vanished is no right-hand side
of zero. Where the data are far from 1 the problem is scaled by powers of two, which costs no digit:
for ``A = αA'`` and ``b = βb'`` the solution is ``x = (β/α) x'``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepfold._arrays import column, is_array, tiny
from stepfold._typing import FloatArray
from stepfold.problems import LeastSquares, Problem, Quadratic, QuadraticProblem
from stepfold.problems._units import Sizes, exponent_of, peaks, rows_divided
from stepfold.schedules import Schedule


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


def _widest(sizes: Sizes) -> float:
    """Powers of two up to which numbers are harmless."""
    # Fourth powers of entries of A are among the numbers of a run, and squares of gradients.
    return _range(sizes) / 4


def _range(sizes: Sizes) -> float:
    """Powers of two that the dtype has; of extended precision those of float64."""
    return -math.log2(max(sizes.tiny, float(np.finfo(np.float64).tiny)))


def unit_of_matrix(sizes: Sizes) -> int:
    """The power of two that a matrix is divided by; 0 where its entries are harmless."""
    exponent = exponent_of(sizes.matrix)
    return exponent if abs(exponent) > _widest(sizes) else 0


def check_range(problem: QuadraticProblem[Any]) -> None:
    """Raise if Hessian, gradient at 0 or solution are out of range; for runs that scale nothing.

    Raises:
        ValueError: With what to divide by.
    """
    sizes = problem.sizes()
    if sizes is None:
        return
    matrix, rhs = exponent_of(sizes.matrix), exponent_of(float(sizes.rhs.max()))
    hessian, term = (2 * matrix, matrix + rhs) if sizes.is_squared else (matrix, rhs)
    if max(abs(hessian), abs(term), abs(rhs - matrix)) > _range(sizes):
        raise ValueError(
            "`problem` must have a Hessian, a gradient and a solution that "
            f"{sizes.dtype} can hold, got entries near {2.0**matrix:.3g} in the matrix and "
            f"{2.0**rhs:.3g} in the right-hand side, which are not scaled where there is a "
            "penalty; divide each by its largest entry, and an L1 weight by the product of the two"
        )


def in_units_near_one(problem: Problem[Any]) -> Units:
    """The problem itself where its numbers are harmless, else a twin that is scaled.

    Raises:
        ValueError: If a solution cannot be written in the dtype of the data.
    """
    sizes = problem.sizes() if isinstance(problem, QuadraticProblem) else None
    if sizes is None or not isinstance(problem, QuadraticProblem):
        return Units(problem)
    widest, matrix_exponent = _widest(sizes), exponent_of(sizes.matrix)
    exponent = unit_of_matrix(sizes)
    alpha = 2.0**exponent
    exponents = np.array([exponent_of(float(peak)) for peak in sizes.rhs])
    if sizes.is_squared and exponent == 0:
        exponents = exponents + matrix_exponent  # of Aᵀb
    if exponent == 0 and (abs(exponents) <= widest).all():
        return Units(problem)
    with np.errstate(over="ignore", under="ignore"):
        beta = np.ldexp(1.0, exponents)
        solution = beta / alpha
    largest = np.finfo(np.float64).max if sizes.tiny < 1e-40 else 1e38
    if not ((solution > sizes.tiny) & (solution < largest)).all():
        raise ValueError(
            f"`problem` must have a solution that {sizes.dtype} can hold, got entries near "
            f"{2.0**matrix_exponent:.3g} in the matrix and {sizes.rhs.max():.3g} in the right-hand "
            "side; change their units"
        )
    twin = problem.divided(exponent, exponents)
    hessian = alpha * alpha if sizes.is_squared else alpha
    with np.errstate(over="ignore", under="ignore"):
        gradient = beta * alpha if sizes.is_squared else beta
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
    exponents = np.array([exponent_of(float(peak)) for peak in peaks(term)])
    if (abs(exponents) <= -math.log2(tiny(term)) / 16).all():
        return units, term
    # Of the right-hand side alone; of what was scaled already, the entries are not known either.
    before = np.ones(1) if units.solution is None else units.solution
    beta = np.ldexp(before, exponents)
    if not (beta > tiny(term)).all() or not np.isfinite(beta).all():
        return units, term
    twin: Any = inner.with_rhs(rows_divided(inner.rhs, exponents))
    if inner is not posed:
        twin = posed.of(twin)
    return Units(twin, 1.0, beta, beta, beta), rows_divided(term, exponents)


def scaled_bounds(bounds: Any, unit: float) -> Any:
    """Bounds of the Hessian times ``unit``; None of None."""
    if bounds is None or unit == 1:
        return bounds
    ends: dict[str, Any] = {
        name: None if getattr(bounds, name) is None else getattr(bounds, name) * unit
        for name in ("lower", "upper", "reached_lower", "reached_upper")
    }
    if not 0 < ends["upper"] < np.inf:
        return None  # out of range in these units
    return replace(bounds, **ends)


def scaled_schedule(schedule: Schedule, unit: float) -> Schedule:
    """Steps for the Hessian times ``unit``."""
    if unit == 1:
        return schedule
    bounds = scaled_bounds(schedule.bounds, unit)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        steps = schedule.steps / unit
    if not (np.isfinite(steps) & (steps > 0)).all():
        return Schedule(np.ones(1), "out of range in these units", "none")
    return replace(schedule, steps=schedule.steps / unit, bounds=bounds)
