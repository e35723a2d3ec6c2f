"""Units do not matter: work is done on numbers near 1, whatever the data are in.

Products of entries of 1e-25 vanish in float32, and an ``Aᵀb`` that vanished is no right-hand side of
zero. Where the data are far from 1 the problem is scaled by powers of two, which costs no digit: for
``A = αA'`` and ``b = βb'`` the solution is ``x = (β/α) x'``.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._arrays import largest_entry, tiny
from stepfold.problems import LeastSquares, Problem, Quadratic

# Entries that are looked at to find out the units of a matrix.
NUM_SAMPLES = 4096


@dataclass(frozen=True)
class Units:
    """A problem in units near 1.

    Args:
        problem: The problem that is solved.
        solution: Unit of x: a solution is this many times that of ``problem``.
        hessian: Unit of the Hessian: steps are divided by it, bounds multiplied.
        gradient: Unit of the gradient.
    """

    problem: Any
    solution: float = 1.0
    hessian: float = 1.0
    gradient: float = 1.0

    @property
    def are_plain(self) -> bool:
        """Whether nothing was scaled."""
        return self.solution == self.hessian == self.gradient == 1.0


def in_units_near_one(problem: Problem[Any]) -> Units:
    """The problem itself where its numbers are harmless, else a twin that is scaled.

    Raises:
        ValueError: If a solution cannot be written in the dtype of the data.
    """
    if not isinstance(problem, (LeastSquares, Quadratic)):
        return Units(problem)
    is_squared = isinstance(problem, LeastSquares)
    matrix: Any = problem.operator if isinstance(problem, LeastSquares) else problem.hessian
    # Fourth powers of entries of A are among the numbers of a run, and squares of gradients.
    widest = -math.log2(tiny(problem.rhs)) / 4
    matrix_exponent = _exponent(_size_of_entries(matrix))
    rhs_exponent = _exponent(largest_entry(problem.rhs))
    alpha = 2.0**matrix_exponent if abs(matrix_exponent) > widest else 1.0
    if is_squared and alpha == 1:
        rhs_exponent += matrix_exponent  # of Aᵀb
    beta = 2.0**rhs_exponent if alpha != 1 or abs(rhs_exponent) > widest else 1.0
    if alpha == beta == 1:
        return Units(problem)
    solution = _ratio(beta, alpha)
    if solution == 0 or math.isinf(solution):
        raise ValueError(
            f"`problem` must have a solution that {problem.rhs.dtype} can hold, got entries near "
            f"{alpha:.3g} in the matrix and {beta:.3g} in the right-hand side; change their units"
        )
    twin = copy.copy(problem)
    scaled = matrix if alpha == 1 else _divided(matrix, alpha)
    rhs = problem.rhs if beta == 1 else _divided(problem.rhs, beta)
    if isinstance(problem, LeastSquares):
        twin = LeastSquares(scaled, rhs, ridge=problem.ridge / alpha / alpha)
    else:
        twin = Quadratic(scaled, rhs)
    hessian = alpha * alpha if is_squared else alpha
    return Units(twin, solution, hessian, alpha * beta if is_squared else beta)


def _ratio(beta: float, alpha: float) -> float:
    try:
        return beta / alpha
    except OverflowError:
        return math.inf


def _exponent(size: float) -> int:
    return math.frexp(size)[1] if 0 < size < math.inf else 0


def _size_of_entries(matrix: Any) -> float:
    """About the largest entry, from a sample; 0 where entries are not known."""
    entries = matrix.data if hasattr(matrix, "tocsr") else matrix
    if isinstance(entries, np.ndarray):
        flat = entries.reshape(-1, order="A") if entries.flags.forc else entries[:64].reshape(-1)
        sample = flat[:: max(1, flat.size // NUM_SAMPLES)]
        largest = float(abs(sample).max(initial=0.0))
        return largest if largest > 0 else float(abs(flat).max(initial=0.0))
    if hasattr(matrix, "new_tensor") and hasattr(matrix, "abs"):
        values = matrix.coalesce().values() if matrix.is_sparse else matrix
        return largest_entry(values) if math.prod(values.shape) else 0.0
    return 0.0


def _divided(values: Any, unit: float) -> Any:
    """``values/unit`` for a power of two, in two halves: 1/unit may be out of range."""
    exponent = math.frexp(unit)[1] - 1
    half = exponent // 2
    return values * _power(values, -half) * _power(values, half - exponent)


def _power(values: Any, exponent: int) -> Any:
    power = 2.0**exponent
    dtype = getattr(values, "dtype", None)
    return dtype.type(power) if isinstance(dtype, np.dtype) and dtype.kind == "f" else power
