"""`lsq_chebyshev` by one-pass sweeps for one right-hand side, and by a Gram matrix for many."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import lsqr

from stepfold import kernels, solve
from stepfold.interop.scipy import lsq_chebyshev
from stepfold.problems import LeastSquares
from stepfold.run.policies.automatic import FIRST_ESTIMATE
from stepfold.run.policies.gram import FactoredGram, gram_pays


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SMALLEST_DENSE", 0)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kernels for small matrices too; the list has an entry for each sweep."""
    monkeypatch.setattr(kernels, "SMALLEST_DENSE", 0)
    made: list[int] = []
    for name in ("gradient", "gradient_step"):
        method = getattr(LeastSquares, name)

        def counted(self: Any, *arguments: Any, method: Any = method) -> Any:
            made.append(1)
            return method(self, *arguments)

        monkeypatch.setattr(LeastSquares, name, counted)
    return made


def data(matrix: Any, *, noise: float, batch: tuple[int, ...] = ()) -> tuple[Any, Any]:
    """Right-hand sides, and the solutions that they have."""
    rng = np.random.default_rng(11)
    solutions = rng.standard_normal((*batch, matrix.shape[1]))
    outside = rng.standard_normal((*batch, matrix.shape[0]))
    outside -= np.linalg.lstsq(matrix, outside.T)[0].T @ matrix.T
    return solutions @ matrix.T + noise * outside, solutions


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("damp", [0.0, 0.5])
@pytest.mark.parametrize("noise", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("kappa", [3.0, 100.0])
def test_norms_that_no_sweep_tells_are_those_of_the_residual(
    factor_with: Callable[..., np.ndarray], kappa: float, noise: float, damp: float
) -> None:
    matrix = np.ascontiguousarray(factor_with(np.geomspace(1.0, kappa, 40), 120))
    b, _ = data(matrix, noise=noise)
    result = lsq_chebyshev(matrix, b, damp, 1e-9, 1e-9)
    r = b - matrix @ result.x
    gradient = matrix.T @ r - damp**2 * result.x
    assert result.istop in (1, 2)
    assert result.r1norm == pytest.approx(np.linalg.norm(r), rel=1e-6, abs=1e-14)
    assert result.arnorm == pytest.approx(np.linalg.norm(gradient), rel=1e-3, abs=1e-12)
    norm = np.hypot(kappa, damp)
    small = np.linalg.norm(r) <= 1e-9 * (np.linalg.norm(b) + 1.1 * norm * np.linalg.norm(result.x))
    r2norm = np.hypot(np.linalg.norm(r), damp * np.linalg.norm(result.x))
    assert small or np.linalg.norm(gradient) <= 1.1e-9 * norm * r2norm


@pytest.mark.parametrize("kappa", [3.0, 30.0])
def test_an_iteration_is_one_sweep(
    factor_with: Callable[..., np.ndarray], sweeps: list[int], kappa: float
) -> None:
    matrix = np.ascontiguousarray(factor_with(np.linspace(1.0, kappa, 60), 200))
    b, solution = data(matrix, noise=1.0)
    result = lsq_chebyshev(matrix, b, 0.0, 1e-10, 1e-10)
    np.testing.assert_allclose(result.x, solution, atol=1e-7)
    # What is computed anew every few digits, and in the end, comes on top.
    assert result.itn <= len(sweeps) <= 1.1 * result.itn + 4
    assert result.num_products == 2 * len(sweeps) + 1


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("kappa", [1e2, 1e3, 1e4])
def test_ill_conditioned_systems_lose_no_more_digits_than_with_lsqr(
    factor_with: Callable[..., np.ndarray], kappa: float, noise: float
) -> None:
    # Forming AᵀA p at once, κ² eps would be lost: 1e-8 of the solution at the least.
    matrix = np.ascontiguousarray(factor_with(np.geomspace(1 / kappa, 1.0, 40), 300))
    b, solution = data(matrix, noise=noise)
    ours = lsq_chebyshev(matrix, b, 0.0, 1e-14, 1e-14, 3000).x
    theirs = lsqr(matrix, b, 0.0, 1e-14, 1e-14, conlim=0, iter_lim=3000)[0]
    allowed = max(5 * np.linalg.norm(theirs - solution), 1e-13 * kappa**1.5)
    assert np.linalg.norm(ours - solution) <= allowed


@pytest.mark.usefixtures("swept")
def test_float32_is_solved_by_sweeps(factor_with: Callable[..., np.ndarray]) -> None:
    matrix = np.ascontiguousarray(factor_with(np.linspace(1.0, 20.0, 40), 200)).astype("f4")
    b, solution = data(matrix.astype("f8"), noise=1.0)
    result = lsq_chebyshev(matrix, b.astype("f4"), 0.0, 1e-5, 1e-5)
    assert (result.istop, result.x.dtype) == (2, np.float32)
    np.testing.assert_allclose(result.x, solution, atol=1e-3)


@pytest.mark.usefixtures("swept")
def test_what_is_not_finite_is_named_as_a(factor_with: Callable[..., np.ndarray]) -> None:
    matrix = np.ascontiguousarray(factor_with(np.linspace(1.0, 20.0, 40), 200))
    matrix[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"`A` must be finite, got nan at index \(3, 5\)"):
        lsq_chebyshev(matrix, np.ones(200))


# Many right-hand sides.


@pytest.mark.parametrize("damp", [0.0, 2.0])
@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("kappa", [3.0, 50.0, 1e3])
def test_many_rows_reach_full_precision_with_a_gram_matrix_in_few_bits(
    factor_with: Callable[..., np.ndarray], kappa: float, noise: float, damp: float
) -> None:
    matrix = factor_with(np.geomspace(1.0, kappa, 30), 400)
    rows, _ = data(matrix, noise=noise, batch=(12,))
    result = lsq_chebyshev(matrix, rows, damp, 1e-12, 1e-12, 20_000)
    tall = np.vstack([matrix, damp * np.eye(30)])
    expected = np.linalg.lstsq(tall, np.hstack([rows, np.zeros((12, 30))]).T)[0].T
    assert set(np.unique(result.istop)) <= {1, 2}
    np.testing.assert_allclose(result.x, expected, rtol=0, atol=1e-11 * kappa**2)
    # Some steps that tell the condition number, and a few refinements.
    assert result.num_products <= 2 * FIRST_ESTIMATE + 40


def test_rows_that_cancel_are_solved_all_the_same(factor_with: Callable[..., np.ndarray]) -> None:
    matrix = factor_with(np.linspace(1.0, 10.0, 30), 400)
    rows, solutions = data(matrix, noise=1.0, batch=(2,))
    rows[1], solutions[1] = -rows[0], -solutions[0]
    result = lsq_chebyshev(matrix, rows, 0.0, 1e-12, 1e-12)
    np.testing.assert_allclose(result.x, solutions, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_units_of_the_matrix_do_not_matter_in_few_bits(
    factor_with: Callable[..., np.ndarray], scale: float
) -> None:
    matrix = factor_with(np.linspace(1.0, 10.0, 30), 400)
    rows, solutions = data(matrix, noise=1.0, batch=(12,))
    result = lsq_chebyshev(scale * matrix, rows, 0.0, 1e-12, 1e-12)
    np.testing.assert_allclose(scale * result.x, solutions, atol=1e-9)


@pytest.mark.parametrize(("m", "n", "ridge"), [(400, 30, 0.0), (400, 30, 2.0), (30, 400, 0.0)])
def test_a_correction_brings_the_gradient_to_0_up_to_rounding_in_few_bits(
    factor_with: Callable[..., np.ndarray], m: int, n: int, ridge: float
) -> None:
    matrix = factor_with(np.linspace(1.0, 10.0, 30), 400)
    matrix = np.ascontiguousarray(matrix if m > n else matrix.T)
    scales = np.array([[1e-60], [1.0], [0.0]])
    problem = LeastSquares(matrix, np.random.default_rng(2).standard_normal((3, m)) * scales)
    problem.ridge = ridge
    gram = FactoredGram.of(problem)
    assert gram is not None
    residual, gradient = -problem.rhs, -problem.linear_term
    x = gram.correction(problem, residual, gradient)
    left, first = (np.linalg.norm(g, axis=1) for g in (problem.gradient(x), gradient))
    assert np.all(left <= 1e-4 * first)


def test_a_singular_gram_matrix_is_not_factored(factor_with: Callable[..., np.ndarray]) -> None:
    matrix = np.hstack([factor_with(np.linspace(1.0, 10.0, 30), 400), np.zeros((400, 1))])
    assert FactoredGram.of(LeastSquares(matrix, np.ones((2, 400)))) is None
    assert FactoredGram.of(LeastSquares(np.zeros((9, 4)), np.ones((2, 9)))) is None


def test_a_gram_matrix_is_formed_where_it_takes_fewer_operations() -> None:
    problem = LeastSquares(np.ones((1000, 200)), np.ones(1000))
    assert gram_pays(problem, np.zeros((64, 200)), 400.0, 1e-10)
    assert not gram_pays(problem, np.zeros((1, 200)), 4.0, 1e-10)
    assert not gram_pays(problem, np.zeros((64, 200)), 1.1, 1e-2)
    assert not gram_pays(
        LeastSquares(np.ones((200, 1000)), np.ones(200), ridge=1.0),
        np.zeros((64, 1000)),
        400.0,
        1e-10,
    )


@pytest.mark.parametrize(("m", "n", "ridge"), [(400, 30, 0.0), (400, 30, 2.0), (30, 400, 0.0)])
def test_a_factored_gram_matrix_tells_the_ends_of_the_spectrum(
    factor_with: Callable[..., np.ndarray], m: int, n: int, ridge: float
) -> None:
    matrix = factor_with(np.linspace(1.0, 10.0, 30), 400)
    matrix = np.ascontiguousarray(matrix if m > n else matrix.T)
    rows = np.random.default_rng(2).standard_normal((200, m))
    result = solve(LeastSquares(matrix, rows, ridge=ridge), rtol=1e-10)
    assert result.bounds is not None
    assert result.bounds.lower == pytest.approx(1.0 + ridge, rel=1e-3)
    assert 100.0 + ridge <= result.bounds.upper <= 1.05 * (100.0 + ridge)
    again = solve(LeastSquares(matrix, rows[0], ridge=ridge), result.schedule)
    assert again.converged
    assert again.events == ()
