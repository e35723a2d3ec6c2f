"""Plans for ill-posed and ill-conditioned problems are kept; what is no problem is refused."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

from stepfold import LeastSquares, Quadratic, SpectralBounds, estimate_bounds, solve
from stepfold.planner import HOPELESS, LONGEST_PERIOD, plan
from stepfold.polynomial import worst_case_period_rate
from stepfold.problems import Composite
from stepfold.problems._content import gradient_content
from stepfold.problems.penalties import L1
from stepfold.spectrum import Certainty


def hilbert(size: int) -> np.ndarray:
    return 1 / (np.arange(size)[:, None] + np.arange(size) + 1.0)


def blur(size: int, width: float) -> np.ndarray:
    index = np.arange(size)
    matrix = np.exp(-((index[:, None] - index) ** 2) / (2 * width**2))
    return matrix / matrix.sum(1, keepdims=True)


def kernel(size: int, ridge: float) -> np.ndarray:
    points = np.random.default_rng(size).random((size, 2))
    distances = ((points[:, None] - points[None]) ** 2).sum(-1)
    return np.exp(-distances / 0.18) + ridge * np.eye(size)


def graded(size: int) -> np.ndarray:
    basis = np.linalg.qr(np.random.default_rng(size).standard_normal((size, size)))[0]
    matrix = (basis * np.logspace(0, -12, size)) @ basis.T
    return (matrix + matrix.T) / 2


@functools.cache
def problem_of(name: str) -> Any:
    rng = np.random.default_rng(sum(map(ord, name)))
    kind, *numbers = name.split()
    first, *rest = map(float, numbers)
    size = int(first)
    if kind == "hilbert":
        return Quadratic(hilbert(size), hilbert(size).sum(1))
    if kind == "hilbert-least-squares":
        return LeastSquares(hilbert(size), hilbert(size).sum(1))
    if kind == "blur":
        signal = np.sin(np.arange(size) / 15) + (np.arange(size) > size / 2)
        matrix = blur(size, rest[0])
        return LeastSquares(matrix, matrix @ signal, ridge=rest[1])
    if kind == "vandermonde":
        points = np.linspace(0, 1, 20 * size)
        noise = 1e-3 * rng.standard_normal(points.size)
        matrix = np.vander(points, size)
        return LeastSquares(matrix, np.cos(4 * points) + noise, ridge=rest[0])
    if kind == "kernel":
        matrix = kernel(size, rest[0])
        return Quadratic(matrix, matrix @ rng.standard_normal(size))
    if kind == "wishart":
        matrix = rng.standard_normal((size, size))
        return Quadratic(matrix.T @ matrix, matrix.T @ (matrix @ np.ones(size)))
    if kind == "square":
        return LeastSquares(rng.standard_normal((size, size)), rng.standard_normal((3, size)))
    if kind == "wide":
        return LeastSquares(rng.standard_normal((size // 2, size)), rng.standard_normal(size // 2))
    if kind == "graded":
        return Quadratic(graded(size), graded(size) @ np.ones(size))
    raise KeyError(kind)


PROBLEMS = [
    *(f"hilbert {size}" for size in range(4, 15)),
    *(f"hilbert-least-squares {size}" for size in (5, 9, 13)),
    *(f"blur {size} {width} {ridge}" for size in (60, 200) for width in (1.0, 4.0, 9.0)
      for ridge in (0.0, 1e-12, 1e-8, 1e-4)),
    *(f"vandermonde {size} {ridge}" for size in (8, 12) for ridge in (0.0, 1e-6)),
    *(f"kernel {size} {ridge}" for size in (60, 150) for ridge in (0.0, 1e-10, 1e-6, 1e-2)),
    *(f"wishart {size}" for size in (40, 100, 101)),
    *(f"square {size}" for size in (30, 90)),
    "wide 120",
    *(f"graded {size}" for size in (8, 14, 30)),
]  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-8])
def test_what_is_recommended_reaches_the_tolerance_within_its_prediction(
    name: str, rtol: float
) -> None:
    problem = problem_of(name)
    advice = plan(problem, rtol=rtol)
    if advice.num_steps > 20_000:  # a prediction, too, but one that takes minutes to check
        assert rtol == 1e-8 or not name.startswith(("hilbert", "blur", "wishart"))
        return
    result = solve(problem, advice.schedule, rtol=rtol, max_steps=int(advice.num_steps))
    assert result.converged
    rows = np.atleast_2d(problem.gradient(result.x))
    starts = np.linalg.norm(np.atleast_2d(problem.linear_term), axis=1)
    assert (np.linalg.norm(rows, axis=1) <= rtol * starts).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_plan_calls_noise_a_guaranteed_eigenvalue(name: str) -> None:
    bounds = plan(problem_of(name)).bounds
    noise = bounds.lower < 1e-14 * bounds.upper
    if noise and problem_of(name).products_per_gradient == 1:
        assert bounds.lower_certainty is not Certainty.GUARANTEED


@pytest.mark.parametrize("name", ["hilbert 7", "vandermonde 8 1e-6", "wide 120", "square 30"])
def test_the_content_of_the_gradient_is_that_of_an_eigendecomposition(name: str) -> None:
    problem = problem_of(name)
    content = gradient_content(problem)
    assert content is not None
    size = problem.hessian.shape[0]
    hessian = np.stack([problem.hessian @ row for row in np.eye(size)])
    values, vectors = np.linalg.eigh(hessian)
    terms = np.atleast_2d(problem.linear_term)
    squares = (terms @ vectors) ** 2 / (terms**2).sum(1, keepdims=True)
    for degree in range(5):
        moment = (content.shares * content.eigenvalues**degree).sum(1)
        np.testing.assert_allclose(moment, (squares * values**degree).sum(1), rtol=1e-9)


def test_a_complex_problem_has_the_content_of_its_real_form() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((9, 5)) + 1j * rng.standard_normal((9, 5))
    rhs = rng.standard_normal(9) + 1j * rng.standard_normal(9)
    real = np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])
    content = gradient_content(LeastSquares(matrix, rhs))
    twin = gradient_content(LeastSquares(real, np.concatenate([rhs.real, rhs.imag])))
    assert content is not None
    assert twin is not None
    for degree in range(6):
        one, other = (float((c.shares * c.eigenvalues**degree).sum()) for c in (content, twin))
        assert one == pytest.approx(other, rel=1e-10)


@pytest.mark.parametrize("wrap", [sp.csr_array, aslinearoperator])
def test_fourth_kind_steps_are_taken_where_the_worst_case_is_hopeless(wrap: Any) -> None:
    # Too large for eigenvectors: what is promised is the worst case of the steps themselves.
    size = 1200
    diagonal = np.geomspace(1e-9, 1.0, size)
    problem = LeastSquares(wrap(np.diag(np.sqrt(diagonal))), np.ones(size), ridge=1e-9)
    advice = plan(problem, rtol=1e-3)
    assert advice.schedule.name == "Chebyshev, fourth kind"
    assert 128 <= advice.schedule.period <= LONGEST_PERIOD
    assert advice.bounds.lower >= 1e-9
    rate = worst_case_period_rate(advice.schedule, advice.bounds)
    assert rate < 1
    assert HOPELESS < advice.num_steps < math.inf
    assert rate ** (advice.num_steps / advice.schedule.period) <= 1e-3
    assert any("First-kind steps would take" in sentence for sentence in advice.advice)


def test_an_inconsistent_system_is_told_with_its_share() -> None:
    size = 50
    laplacian = 2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    laplacian[0, 0] = laplacian[-1, -1] = 1.0
    rhs = np.random.default_rng(0).standard_normal(size)
    advice = plan(Quadratic(laplacian, rhs))
    assert advice.num_steps == math.inf
    share = abs(rhs.sum()) / math.sqrt(size) / np.linalg.norm(rhs)
    told = next(sentence for sentence in advice.advice if "singular and inconsistent" in sentence)
    assert f"{share:.2g}" in told
    consistent = Quadratic(laplacian, rhs - rhs.mean())
    advice = plan(consistent)
    assert advice.num_steps < math.inf
    result = solve(consistent, advice.schedule, rtol=1e-6, max_steps=int(advice.num_steps))
    assert result.converged


def test_a_wide_operator_has_the_lower_end_of_its_rows() -> None:
    matrix = np.random.default_rng(0).standard_normal((400, 2600))
    problem = LeastSquares(aslinearoperator(matrix), np.ones(400))
    advice = plan(problem)
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    assert 0.5 * values[-1] < advice.bounds.lower <= values[-1]
    assert advice.bounds.lower_certainty is Certainty.ASSUMED
    result = solve(problem, advice.schedule, rtol=1e-6, max_steps=int(advice.num_steps))
    assert result.converged


@pytest.mark.parametrize(
    "thing",
    [
        np.eye(3),
        sp.eye_array(3).tocsr(),
        [[1.0]],
        None,
        Composite(LeastSquares(np.eye(3), np.ones(3)), L1(0.1)),
    ],
    ids=["array", "sparse", "list", "none", "composite"],
)
def test_what_is_no_problem_is_refused_by_name(thing: Any) -> None:
    with pytest.raises(
        TypeError, match=r"`problem` must be a problem with a Hessian.*LeastSquares\("
    ):
        plan(thing)


def test_bounds_of_a_matrix_are_planned_for() -> None:
    assert plan(estimate_bounds(np.diag([1.0, 4.0]))).bounds.upper == 4.0
    assert plan(SpectralBounds(1.0, 4.0)).num_steps < math.inf


def test_a_right_hand_side_of_zeros_says_nothing_and_the_worst_case_stands() -> None:
    matrix = blur(60, 2.0)
    advice = plan(LeastSquares(matrix, np.zeros(60), ridge=1e-6))
    assert advice.num_steps == plan(advice.bounds).num_steps


def test_given_bounds_are_obeyed() -> None:
    problem = problem_of("hilbert 6")
    advice = plan(problem, bounds=SpectralBounds(1e-3, 1.7))
    assert advice.schedule.name == "Chebyshev"
    assert advice.num_steps == plan(SpectralBounds(1e-3, 1.7)).num_steps


@pytest.mark.parametrize("rank", [3, 20])
def test_a_wide_operator_with_a_ridge_is_planned_for_its_range(rank: int) -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((20, rank)) @ rng.standard_normal((rank, 50))
    problem = LeastSquares(matrix, rng.standard_normal(20), ridge=0.25)
    advice = plan(problem, rtol=1e-8)
    values = np.sort(np.linalg.svd(matrix, compute_uv=False))[::-1] ** 2
    lower = 0.25 + (values[-1] if rank == 20 else 0.0)
    assert advice.bounds.lower == pytest.approx(lower, rel=1e-9)
    certainty = Certainty.ASSUMED if rank == 20 else Certainty.GUARANTEED
    assert advice.bounds.lower_certainty is certainty
    result = solve(problem, advice.schedule, rtol=1e-8, max_steps=int(advice.num_steps))
    assert result.converged
    normal = np.linalg.solve(matrix.T @ matrix + 0.25 * np.eye(50), matrix.T @ problem.rhs)
    np.testing.assert_allclose(result.x, normal, rtol=1e-5, atol=1e-7)


def test_products_of_a_first_look_are_counted() -> None:
    # 80 Lanczos steps do not see the lower end; the plan looks longer.
    operator = aslinearoperator(np.diag(np.geomspace(1e-4, 1.0, 600)))
    advice = plan(Quadratic(operator, np.ones(600)))
    assert advice.bounds.num_products > 80
    first = estimate_bounds(operator).num_products
    steps = int(advice.bounds.method.split()[0])
    assert advice.bounds.num_products == first + steps


def test_bounds_that_are_none_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="`bounds` must be SpectralBounds or None, got tuple"):
        plan(problem_of("hilbert 4"), bounds=(1.0, 2.0))  # type: ignore[arg-type]
