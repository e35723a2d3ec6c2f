"""Whether multigrid is cheaper: for matrices as of elliptic equations, and by counted steps.

Algebraic multigrid is reliable for M-matrices (symmetric, off-diagonal entries ≤ 0, weakly dominant
diagonal), with a cost per unknown that does not depend on the grid. That cost, set-up included, is
compared with what conjugate gradients take, which Lanczos steps from the right-hand side tell
without a solution: with pivots d of their matrix, ‖r_k‖ = ‖r₀‖ ∏ β_j/d_j.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np

from stepfold._extras import how_to_install
from stepfold._krylov import Tridiagonal, lanczos
from stepfold.planner.other_tools import Alternative
from stepfold.problems import Quadratic, QuadraticProblem

# Steps of conjugate gradients to be counted; from them the whole is extrapolated.
COUNTED = 400
# From this many unknowns, the fewest and the most steps of conjugate gradients in whose time
# smoothed aggregation solved, set-up included: grids in the plane and in space with jumps,
# anisotropy and random coefficients, and meshes.
COSTS = {2**14: (440, 1100), 2**16: (270, 800)}
# What rounding may leave of a sum of a row that is 0, in units of the precision.
ROUNDING = 64


def multigrid_advice(
    problem: QuadraticProblem[Any] | None, rtol: float
) -> tuple[str, Alternative] | None:
    """Advice and a row for the table, or None where multigrid is not known to be cheaper."""
    if not isinstance(problem, Quadratic):
        return None
    from scipy.sparse import issparse

    matrix: Any = problem.hessian
    is_sparse: bool = issparse(problem.hessian)
    if not (is_sparse and matrix.shape[0] >= min(COSTS)):
        return None
    diagonal = _dominant_diagonal(matrix.tocsr())
    if diagonal is None:
        return None
    rhs = np.atleast_2d(problem.linear_term)[0]
    is_given = bool(np.any(rhs))
    if not is_given:
        rhs = np.random.default_rng(0).standard_normal(rhs.shape)
    num_steps = _steps_of_conjugate_gradients(matrix, diagonal, rhs, rtol)
    least, most = COSTS[max(size for size in COSTS if matrix.shape[0] >= size)]
    if num_steps < most:
        return None
    # To hundreds: it is an extrapolation, which was right to a third.
    count = f"{round(num_steps, -2):.0f}" if num_steps < 1e9 else f"far more than {COUNTED}"
    how = f'`stepfold.interop.pyamg.solver(A).solve(b, tol={rtol:g}, accel="cg")`'
    if importlib.util.find_spec("pyamg") is None:
        how += f"; it needs PyAMG, which is not installed: {how_to_install('pyamg')}"
    whose = "this right-hand side" if is_given else "a random right-hand side"
    return (
        "Multigrid is probably cheaper. A has the signs of an elliptic equation, and conjugate "
        f"gradients, even scaled by the diagonal, take about {count} products for {whose} "
        f"(extrapolated from {COUNTED}). On such matrices multigrid took as long as {least} to "
        f"{most} of these, set-up included. Take {how}.",
        Alternative(
            "multigrid (PyAMG, our smoothers)",
            math.inf,
            "elliptic equations such as this one: 45 to 215 products to 1e-8 where measured",
        ),
    )


def _dominant_diagonal(matrix: Any) -> Any:
    """The diagonal of an M-matrix; None if it is none, or so sparse that elimination has no fill.

    Trees and chains have at most three entries in a row on average.
    """
    if matrix.dtype.kind != "f" or matrix.nnz <= 3 * matrix.shape[0]:
        return None
    diagonal = matrix.diagonal().astype(np.float64)
    sums = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    # All positive entries are the diagonal's, exactly if their sums agree.
    positive = np.maximum(matrix.data, 0).sum(dtype=np.float64)
    rounding = ROUNDING * float(np.finfo(matrix.dtype).eps)
    is_dominant = diagonal.min() > 0 and bool((sums >= -rounding * diagonal).all())
    if not is_dominant or positive > diagonal.sum() * (1 + rounding):
        return None
    return diagonal


def _steps_of_conjugate_gradients(matrix: Any, diagonal: Any, rhs: Any, rtol: float) -> float:
    """Steps to the tolerance with the diagonal as preconditioner: counted, or extrapolated."""
    log_residual = best = 0.0
    pivot = 1.0

    def is_enough(found: Tridiagonal) -> bool:
        nonlocal log_residual, best, pivot
        k = found.diagonal.size - 1
        coupling = found.off_diagonal[k - 1] ** 2 / pivot if k else 0.0
        pivot = found.diagonal[k] - coupling
        if pivot <= 0 or found.off_diagonal[k] == 0:
            best = -math.inf
            return True
        log_residual += math.log(found.off_diagonal[k] / pivot)
        best = min(best, log_residual)
        return best <= math.log(rtol)

    found = lanczos(
        lambda v: matrix @ v,
        np.asarray(rhs, dtype=np.float64),
        COUNTED,
        precondition=lambda u: u / diagonal,
        stop=is_enough,
        reorthogonalise=False,
    )
    if best <= math.log(rtol):
        return found.diagonal.size
    return COUNTED * math.log(rtol) / best if best < 0 else math.inf
