"""`solve` without a schedule against the plain tools: never unsolved where they solve, nor dearer.

Products are counted by the operator itself; a product with the transpose counts like one with it.
"""

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import cg, lsqr, minres

from stepfold import LeastSquares, Quadratic, solve

RTOL = 1e-7
# Looks at the true gradient, beside the steps.
SHARE, EXTRA = 1.2, 8


class Counting:
    """A matrix that counts its products."""

    def __init__(self, matrix: np.ndarray, root: "Counting | None" = None) -> None:
        self.matrix, self._root = matrix, root or self
        self.shape, self.dtype, self.count = matrix.shape, matrix.dtype, 0

    @property
    def T(self) -> "Counting":
        return Counting(self.matrix.T, self._root)

    def __matmul__(self, x: np.ndarray) -> Any:
        self._root.count += 1
        return self.matrix @ x


def definite(rng: np.random.Generator) -> np.ndarray:
    size = int(rng.integers(2, 200))
    vectors = np.linalg.qr(rng.standard_normal((size, size)))[0]
    matrix = (vectors * np.geomspace(1, 10 ** rng.uniform(0, 6), size)) @ vectors.T
    return (matrix + matrix.T) / 2


def kernel(rng: np.random.Generator) -> np.ndarray:
    points = rng.random((int(rng.integers(2, 200)), 2))
    distances = ((points[:, None] - points[None]) ** 2).sum(-1)
    ridge = 10 ** rng.uniform(-6, -2)
    return np.exp(-distances / 10 ** rng.uniform(-2, 0)) + ridge * np.eye(len(points))


def tall(rng: np.random.Generator) -> np.ndarray:
    size = int(rng.integers(2, 200))
    scales = 10 ** rng.uniform(-rng.uniform(0, 2), 0, size)
    return rng.standard_normal((size + int(rng.integers(0, 100)), size)) * scales


def square_or_wide(rng: np.random.Generator) -> np.ndarray:
    size = int(rng.integers(2, 200))
    return rng.standard_normal((size, size + int(rng.choice([0, 20]))))


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 60))]
)
@pytest.mark.parametrize("make", [definite, kernel])
def test_systems_that_cg_or_minres_solve_are_solved_in_as_many_products(
    make: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = make(rng)
    b = rng.standard_normal(len(matrix))
    b = matrix @ b if seed % 2 else b
    counting, steps = Counting(matrix), [0]

    def count(_: Any) -> None:
        steps[0] += 1

    def left(x: np.ndarray) -> float:
        return float(np.linalg.norm(matrix @ x - b) / np.linalg.norm(b))

    result = solve(Quadratic(counting, b), rtol=RTOL)
    theirs = cg(matrix, b, rtol=RTOL, maxiter=10_000, callback=count)[0]
    minimal = minres(matrix, b, rtol=1e-3 * RTOL, maxiter=20_000)[0]
    assert result.converged == (left(result.x) <= RTOL)
    if min(left(theirs), left(minimal)) <= RTOL:
        assert result.converged
    if left(theirs) <= RTOL:
        assert counting.count <= SHARE * steps[0] + EXTRA
    assert result.history.num_products[-1] == counting.count


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 60))]
)
@pytest.mark.parametrize("make", [tall, square_or_wide])
def test_least_squares_that_lsqr_solves_are_solved_in_as_many_products(
    make: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = make(rng)
    b = matrix @ rng.standard_normal(matrix.shape[1])
    b += (seed % 2) * 0.1 * rng.standard_normal(len(matrix))
    counting = Counting(matrix)

    def left(x: np.ndarray) -> float:
        gradient = matrix.T @ (matrix @ x - b)
        return float(np.linalg.norm(gradient) / np.linalg.norm(matrix.T @ b))

    def after(count: int) -> float:
        return left(lsqr(matrix, b, atol=0, btol=0, conlim=0, iter_lim=count)[0])

    result = solve(LeastSquares(counting, b), rtol=RTOL)
    assert result.converged == (left(result.x) <= RTOL)
    steps = 1
    while after(steps) > RTOL and steps < 10_000:
        steps = int(1.1 * steps) + 1
    if after(steps) <= RTOL:
        assert result.converged
        assert counting.count <= SHARE * 2 * steps + EXTRA
    assert result.history.num_products[-1] == counting.count


@pytest.mark.parametrize("scale", [1e-140, 1e-25, 1e22, 1e140])
@pytest.mark.parametrize("make", [definite, tall])
def test_units_do_not_change_what_is_found(make: Any, scale: float) -> None:
    rng = np.random.default_rng(7)
    matrix = make(rng)
    b = rng.standard_normal(len(matrix))
    pose = Quadratic if make is definite else LeastSquares
    plain = solve(pose(matrix, b), rtol=1e-9)
    scaled = solve(pose(scale * matrix, b), rtol=1e-9)
    assert plain.converged
    assert scaled.converged
    np.testing.assert_allclose(scale * scaled.x, plain.x, rtol=0, atol=1e-3 * abs(plain.x).max())
