"""Regressions: proximal and gradient steps as maps."""

from __future__ import annotations

import numpy as np

from gallery.base import GALLERY, GalleryMap
from stepfold._typing import FloatArray
from stepfold.problems.composite import Composite, lasso
from stepfold.problems.logistic import Logistic
from stepfold.problems.penalties import L1, nonnegative
from stepfold.problems.quadratic import LeastSquares


@GALLERY.register("lasso")
def lasso_map(rng: np.random.Generator) -> GalleryMap:
    """ISTA for a lasso: 256 × 512, 10 % of the true entries not 0, noise 0.1, ratio 0.1.

    The solution is by coordinate descent, then by the linear system that holds on its support.
    """
    matrix = rng.standard_normal((256, 512)) / 16
    truth = rng.standard_normal(512) * (rng.random(512) < 0.1)
    rhs = matrix @ truth + 0.1 * rng.standard_normal(256)
    objective = lasso(matrix, rhs, ratio=0.1)
    weight = 0.1 * float(abs(matrix.T @ rhs).max())
    return _of(objective, lasso_solution(matrix, rhs, weight))


@GALLERY.register("nonnegative_least_squares")
def nonnegative_map(rng: np.random.Generator) -> GalleryMap:
    """Projected gradient steps for least squares with x ≥ 0, 120 × 60; the solution is SciPy's."""
    from scipy.optimize import nnls

    matrix, rhs = rng.standard_normal((120, 60)), rng.standard_normal(120)
    return _of(Composite(LeastSquares(matrix, rhs), nonnegative()), nnls(matrix, rhs)[0])


@GALLERY.register("logistic")
def logistic_map(rng: np.random.Generator) -> GalleryMap:
    """Gradient steps for logistic regression, 200 × 20 with ridge 1; Newton's method solves it."""
    matrix = rng.standard_normal((200, 20)) * np.geomspace(0.3, 3.0, 20)
    labels = np.where(matrix @ rng.standard_normal(20) + rng.standard_normal(200) > 0, 1.0, -1.0)
    problem: Logistic[FloatArray] = Logistic(matrix, labels, ridge=1.0)
    solution = np.zeros(20)
    for _ in range(30):
        slopes = abs(problem.slopes(problem.margins(solution)))
        curvature = (matrix.T * (slopes * (1 - slopes))) @ matrix + np.eye(20)
        solution = solution - np.linalg.solve(curvature, problem.gradient(solution))
    return _of(Composite(problem, L1(0.0)), solution)


def _of(objective: Composite[FloatArray], solution: FloatArray) -> GalleryMap:
    start = np.zeros(solution.shape)
    return GalleryMap(objective.fixed_point().map, start, solution, objective)


def lasso_solution(matrix: FloatArray, rhs: FloatArray, weight: float) -> FloatArray:
    """Minimiser of ``½‖Ax − b‖² + weight·‖x‖₁``, to rounding; for small dense problems.

    Raises:
        ArithmeticError: If coordinate descent has not found the support.
    """
    gram, target = matrix.T @ matrix, matrix.T @ rhs
    x = np.zeros(len(target))
    product = np.zeros(len(target))  # gram @ x
    for _ in range(200):
        for i in range(len(x)):
            free = target[i] - product[i] + gram[i, i] * x[i]
            new = np.sign(free) * max(abs(free) - weight, 0.0) / gram[i, i]
            if new != x[i]:
                product += (new - x[i]) * gram[i]
                x[i] = new
    support = np.flatnonzero(x)
    signs = np.sign(x[support])
    x[support] = np.linalg.solve(gram[np.ix_(support, support)], target[support] - weight * signs)
    slopes = target - gram @ x
    if (np.sign(x[support]) != signs).any() or abs(slopes).max() > weight * (1 + 1e-9):
        raise ArithmeticError("coordinate descent has not found the support in 200 sweeps")
    return x
