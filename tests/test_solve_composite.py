"""Penalties without a schedule: never worse than FISTA, faces, columns of different sizes."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import lsq_linear, nnls
from scipy.sparse.linalg import LinearOperator

from stepfold import (
    L1,
    Composite,
    LeastSquares,
    Logistic,
    Problem,
    Quadratic,
    Schedule,
    Status,
    lasso,
    solve,
)
from stepfold.iterations import Fista
from stepfold.problems.penalties import Box, ElasticNet, GroupL1, Penalty, nonnegative
from stepfold.run import Budgets, Ledger, Loop, ProximalStep
from stepfold.run.policies.face import descend
from stepfold.run.policies.proximal import Proximal

KINDS = ("independent", "offset", "equicorrelated", "smooth", "wide", "tall")


def _problem(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([KINDS.index(kind), seed])
    rows, columns = {"wide": (30, 90), "tall": (90, 30)}.get(kind, (50, 60))
    matrix = rng.standard_normal((rows, columns))
    if kind == "offset":
        matrix += 30.0
    if kind == "equicorrelated":
        matrix = 0.3 * matrix + rng.standard_normal((rows, 1))
    if kind == "smooth":
        places = np.linspace(0, 1, rows)[:, None] - np.linspace(0, 1, columns)
        matrix = np.exp(-((places / 0.04) ** 2))
    truth = np.where(rng.random(columns) < 0.1, rng.standard_normal(columns), 0.0)
    return matrix, matrix @ truth + 0.1 * rng.standard_normal(rows)


def _penalty(name: str, matrix: np.ndarray, rhs: np.ndarray) -> Penalty:
    largest = abs(matrix.T @ rhs).max()
    return {
        "l1": lambda: L1(0.05 * largest),
        "small l1": lambda: L1(0.003 * largest),
        "weights": lambda: L1(0.03 * largest * np.linspace(0.0, 2.0, matrix.shape[1])),
        "elastic net": lambda: ElasticNet(0.02 * largest, 0.05),
        "nonnegative": nonnegative,
        "box": lambda: Box(-0.1, np.linspace(0.0, 0.5, matrix.shape[1])),
    }[name]()


PENALTIES = ("l1", "small l1", "weights", "elastic net", "nonnegative", "box")


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_automatic_run_is_not_worse_than_fista_with_restart(kind: str, name: str) -> None:
    matrix, rhs = _problem(kind, 0)
    objective = Composite(LeastSquares(matrix, rhs), _penalty(name, matrix, rhs))
    ours = solve(objective, rtol=1e-7, max_steps=20_000)
    assert ours.converged
    limit = float(objective.optimality(np.zeros(matrix.shape[1])))
    assert float(objective.optimality(ours.x)) <= 1.01e-7 * limit
    plain = solve(objective, iteration=Fista, rtol=1e-7, max_steps=20_000)
    # A period of ten steps, its look, and what faces may cost at first: two products each.
    most = 1.15 * plain.history.num_products[-1] + 2 * 31
    assert ours.history.num_products[-1] <= most


def test_over_many_problems_faces_halve_the_products() -> None:
    ratios = []
    for seed, kind in enumerate(KINDS * 3):
        matrix, rhs = _problem(kind, seed)
        objective = Composite(LeastSquares(matrix, rhs), _penalty("l1", matrix, rhs))
        ours = solve(objective, rtol=1e-8, max_steps=50_000)
        plain = solve(objective, iteration=Fista, rtol=1e-8, max_steps=50_000)
        assert ours.converged
        ratios.append(ours.history.num_products[-1] / plain.history.num_products[-1])
    assert np.median(ratios) < 0.6


@pytest.mark.parametrize("decades", [3, 6])
def test_nonnegative_least_squares_with_badly_scaled_columns_are_solved(decades: int) -> None:
    rng = np.random.default_rng(decades)
    matrix = abs(rng.standard_normal((40, 15)))
    sizes = 10.0 ** rng.uniform(-decades / 2, decades / 2, 15)
    rhs = matrix @ rng.standard_normal(15)
    result = solve(Composite(LeastSquares(matrix * sizes, rhs), nonnegative()), rtol=1e-11)
    assert result.converged
    np.testing.assert_allclose(result.x * sizes, nnls(matrix, rhs)[0], atol=1e-8)


@pytest.mark.parametrize("kind", ["dense", "sparse", "tensor", "complex"])
def test_units_of_columns_do_not_matter(kind: str) -> None:
    matrix, rhs = _problem("tall", 1)
    sizes = 10.0 ** np.random.default_rng(0).uniform(-3, 3, matrix.shape[1])
    convert: Any = {
        "dense": np.asarray,
        "sparse": scipy.sparse.csr_array,
        "tensor": torch.tensor,
        "complex": lambda values: values * np.exp(1j),
    }[kind]
    operator, vector = convert(matrix * sizes), rhs
    weights: Any = 0.5 * sizes
    if kind == "tensor":
        vector, weights = torch.tensor(rhs), torch.tensor(weights)
    scaled = solve(Composite(LeastSquares(operator, vector), L1(weights)), gap_rtol=1e-13)
    assert scaled.converged
    x = np.asarray(scaled.x) * sizes * (np.exp(1j) if kind == "complex" else 1)
    expected = solve(lasso(matrix, rhs, weight=0.5), gap_rtol=1e-14).x
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_logistic_regression_with_badly_scaled_columns_is_solved() -> None:
    matrix, rhs = _problem("tall", 2)
    sizes = 10.0 ** np.random.default_rng(1).uniform(-2, 2, matrix.shape[1])
    labels = np.where(rhs > 0, 1.0, -1.0)
    scaled = solve(Composite(Logistic(matrix * sizes, labels), L1(0.8 * sizes)), gap_rtol=1e-10)
    expected = solve(Composite(Logistic(matrix, labels), L1(0.8)), gap_rtol=1e-10)
    assert scaled.converged
    np.testing.assert_allclose(scaled.x * sizes, expected.x, atol=1e-4)


def test_columns_of_one_size_and_penalties_that_join_entries_have_one_step() -> None:
    matrix, rhs = _problem("tall", 3)
    sizes = np.geomspace(1e-3, 1e3, matrix.shape[1])
    one = Composite(LeastSquares(matrix, rhs), L1(1.0))
    assert one.steps == one.step
    groups = Composite(LeastSquares(matrix * sizes, rhs), GroupL1(1.0, np.arange(30) // 3))
    assert groups.steps == groups.step
    many = Composite(LeastSquares(matrix * sizes, rhs), L1(1.0)).steps
    top = np.linalg.eigvalsh((matrix * sizes * many**0.5).T @ (matrix * sizes * many**0.5))[-1]
    assert 0.9 <= top <= 1.0 + 1e-12


def test_columns_of_zeros_stay_at_zero() -> None:
    matrix, rhs = _problem("tall", 4)
    matrix[:, 3] = 0.0
    result = solve(lasso(matrix, rhs, ratio=0.1), gap_rtol=1e-10)
    assert result.converged
    assert result.x[3] == 0.0


def test_a_step_for_each_entry_is_a_step_of_the_scaled_problem() -> None:
    matrix, rhs = _problem("tall", 5)
    sizes = np.geomspace(0.1, 10, matrix.shape[1])
    inner, outer = LeastSquares(matrix, rhs), LeastSquares(matrix * sizes, rhs)
    plain, scaled = Fista(L1(0.5)), Fista(L1(0.5 * sizes))
    gamma = 1 / np.linalg.norm(matrix, 2) ** 2
    z, x = plain.init(inner, np.zeros(30)), scaled.init(outer, np.zeros(30))
    for _ in range(60):
        z, x = plain.step(inner, z, gamma), scaled.step(outer, x, gamma / sizes**2)
        np.testing.assert_allclose(x.x * sizes, z.x, atol=1e-10)


@pytest.mark.parametrize("name", ["l1", "weights", "elastic net", "box", "nonnegative"])
def test_rows_of_a_batch_end_where_they_end_alone(name: str) -> None:
    matrix, rhs = _problem("equicorrelated", 6)
    rows = np.stack([rhs, 2 * rhs[::-1], 0 * rhs, rhs**3])
    penalty = _penalty(name, matrix, rhs)
    together = solve(Composite(LeastSquares(matrix, rows), penalty), rtol=1e-11, max_steps=50_000)
    assert together.converged
    for row, x in zip(rows, together.x, strict=True):
        alone = solve(Composite(LeastSquares(matrix, row), penalty), rtol=1e-11, max_steps=50_000)
        np.testing.assert_allclose(x, alone.x, atol=1e-6)


@pytest.mark.parametrize("name", PENALTIES)
def test_tensors_end_where_arrays_end(name: str) -> None:
    matrix, rhs = _problem("offset", 7)
    penalty = _penalty(name, matrix, rhs)
    array = solve(Composite(LeastSquares(matrix, rhs), penalty), rtol=1e-10, max_steps=50_000)
    tensors: Any = LeastSquares(torch.tensor(matrix), torch.tensor(rhs))
    tensor = solve(Composite(tensors, penalty), rtol=1e-10, max_steps=50_000)
    assert array.converged
    assert tensor.converged
    np.testing.assert_allclose(tensor.x.numpy(), array.x, atol=1e-5)


def test_a_quadratic_over_a_box_agrees_with_scipy() -> None:
    matrix, rhs = _problem("smooth", 8)
    problem = Quadratic(matrix.T @ matrix + 1e-3 * np.eye(60), matrix.T @ rhs)
    result = solve(Composite(problem, Box(-0.2, 0.3)), rtol=1e-11, max_steps=50_000)
    stacked = np.vstack([matrix, np.sqrt(1e-3) * np.eye(60)])
    expected = lsq_linear(
        stacked, np.r_[rhs, np.zeros(60)], bounds=(-0.2, 0.3), method="bvls", tol=1e-14
    ).x
    np.testing.assert_allclose(result.x, expected, atol=1e-7)


@pytest.mark.parametrize("name", PENALTIES)
def test_on_its_face_a_penalty_is_the_quadratic_that_it_says(name: str) -> None:
    matrix, rhs = _problem("tall", 9)
    penalty: Any = _penalty(name, matrix, rhs)
    rng = np.random.default_rng(0)
    x = penalty.prox(rng.standard_normal((4, 30)) * np.where(rng.random(30) < 0.3, 0.0, 1.0), 1e-3)
    face = penalty.face(x)
    moved = np.clip(x + rng.standard_normal(x.shape), face.lower, face.upper)
    y = np.where(face.free, moved, x)
    rise = (face.slope * (y - x) + face.ridge / 2 * (y**2 - x**2)).sum(-1)
    np.testing.assert_allclose(penalty.value(y) - penalty.value(x), rise, rtol=1e-9, atol=1e-9)
    # A face moves nothing at a kink, and something wherever it can.
    at_kink = penalty.prox(x, 1e-12) != x
    assert not (face.free & at_kink & (x == 0)).any()


@pytest.mark.parametrize("kind", ["offset", "equicorrelated", "wide"])
def test_a_gap_is_stalled_only_at_what_rounding_allows(kind: str) -> None:
    matrix, rhs = _problem(kind, 10)
    objective = lasso(matrix, rhs, ratio=0.05)
    result = solve(objective, gap_rtol=1e-18, max_steps=100_000)
    share = float(objective.gap(result.x)) / float(objective.value(np.zeros(matrix.shape[1])))
    assert result.status in (Status.STALLED, Status.CONVERGED)
    assert share <= 1e-12


@pytest.mark.parametrize("offset", [10.0, 1e3, 1e5])
def test_a_lasso_with_offset_columns_comes_to_its_gap(offset: float) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((80, 60))
    rhs = matrix[:, :4].sum(1) + 0.1 * rng.standard_normal(80)
    result = solve(lasso(matrix + offset, rhs, ratio=1e-3), gap_rtol=1e-6, max_steps=50_000)
    assert result.status is not Status.STALLED


def test_faces_keep_budgets_and_show_every_step() -> None:
    matrix, rhs = _problem("smooth", 11)
    objective, shown = lasso(matrix, rhs, ratio=1e-3), []
    for most in (0, 7, 40, 120, 333):
        shown.clear()
        result = solve(
            objective, rtol=1e-15, max_products=most, callback=lambda t, _: shown.append(t)
        )
        assert result.status is Status.BUDGET
        # The first look needs a step, and that bounds: they are spent whatever the budget is.
        assert result.history.num_products[-1] <= max(most, 3 + objective.products_on_bounds)
        assert shown == list(range(1, result.num_steps + 1))


def test_products_that_bounds_cost_are_in_the_count_of_the_run_that_needs_them() -> None:
    rng = np.random.default_rng(0)
    matrix, rhs = rng.standard_normal((600, 400)), rng.standard_normal(600)
    calls = [0]

    def counted(function: Any) -> Any:
        def call(x: Any) -> Any:
            calls[0] += 1
            return function(x)

        return call

    operator = LinearOperator(
        matrix.shape,
        matvec=counted(matrix.__matmul__),
        rmatvec=counted(matrix.T.__matmul__),
        dtype=np.float64,
    )
    objective = lasso(operator, rhs, weight=50.0)
    for _ in range(2):
        calls[0] = 0
        result = solve(objective, rtol=1e-6)
        assert result.converged
        # One product, with the transpose, is the linear term that another may have made before.
        assert abs(int(result.history.num_products[-1]) - calls[0]) <= 2
    assert objective.products_on_bounds > 0


def test_data_whose_squares_overflow_are_refused() -> None:
    objective = Composite(LeastSquares(1e200 * np.eye(3), np.ones(3)), L1(1.0))
    with pytest.raises(ValueError, match="divide each by its largest entry"):
        solve(objective, rtol=1e-8)


class _Huber(Problem[np.ndarray]):
    """What a user may write: a value and a gradient, and nothing else."""

    products_per_gradient = 2

    def __init__(self, matrix: np.ndarray, rhs: np.ndarray) -> None:
        self.matrix, self.rhs = matrix, rhs

    def value(self, x: np.ndarray) -> Any:
        sizes = abs(self.matrix @ x - self.rhs)
        return np.where(sizes < 1, sizes**2 / 2, sizes - 0.5).sum()

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.matrix.T @ np.clip(self.matrix @ x - self.rhs, -1, 1)


class _BoundedHuber(_Huber):
    @property
    def curvature_bound(self) -> float:
        return float(np.linalg.norm(self.matrix, 2) ** 2)


def test_a_smooth_problem_of_ones_own_is_solved_with_a_penalty() -> None:
    matrix, rhs = _problem("tall", 12)
    rhs = 5 * rhs
    start = np.zeros(30)
    by_bound = solve(Composite(_BoundedHuber(matrix, rhs), L1(2.0)), x0=start, rtol=1e-10)
    steps = Schedule(np.full(10, 1 / np.linalg.norm(matrix, 2) ** 2))
    by_steps = solve(Composite(_Huber(matrix, rhs), L1(2.0)), steps, start, rtol=1e-10)
    assert by_bound.converged
    assert by_steps.converged
    np.testing.assert_allclose(by_bound.x, by_steps.x, atol=1e-8)
    gradient = _Huber(matrix, rhs).gradient(by_bound.x)
    assert abs(gradient).max() <= 2.0 + 1e-7
    free = by_bound.x != 0
    np.testing.assert_allclose(gradient[free], -2.0 * np.sign(by_bound.x[free]), atol=1e-7)


def test_a_smooth_problem_without_a_bound_needs_a_schedule() -> None:
    matrix, rhs = _problem("tall", 12)
    with pytest.raises(TypeError, match="give bounds or a schedule"):
        solve(Composite(_Huber(matrix, rhs), L1(2.0)), x0=np.zeros(30))


def test_advice_names_badly_scaled_columns_where_they_cannot_be_scaled() -> None:
    matrix, rhs = _problem("tall", 13)
    sizes = np.geomspace(1e-2, 1e3, 30)
    objective = Composite(LeastSquares(matrix * sizes, rhs), GroupL1(1.0, np.arange(30) // 3))
    result = solve(objective, rtol=1e-10, max_steps=100)
    assert result.status is Status.BUDGET
    assert "columns of the operator are badly scaled" in result.advice
    assert "units in which the norms are alike" in result.advice
    separable = Composite(LeastSquares(matrix * sizes, rhs), L1(1.0))
    assert "scaled" not in solve(separable, rtol=1e-12, max_steps=3).advice


def test_a_complex_lasso_with_columns_of_many_sizes_is_solved() -> None:
    matrix, rhs = _problem("tall", 14)
    complex_matrix = matrix + 1j * matrix[::-1]
    sizes = np.geomspace(1e-2, 1e2, 30)
    expected = solve(lasso(complex_matrix, rhs, weight=1.0), gap_rtol=1e-13)
    result = solve(lasso(complex_matrix * sizes, rhs, weight=sizes), gap_rtol=1e-13)
    assert expected.converged
    assert result.converged
    np.testing.assert_allclose(result.x * sizes, expected.x, atol=1e-6)


@pytest.mark.parametrize("name", ["l1", "small l1", "elastic net", "box"])
def test_the_objective_never_grows_on_a_face(name: str) -> None:
    matrix, rhs = _problem("smooth", 15)
    penalty: Any = _penalty(name, matrix, rhs)
    objective = Composite(LeastSquares(matrix, rhs), penalty)
    start = penalty.prox(np.random.default_rng(0).standard_normal(60), objective.step)
    values: list[float] = []
    ledger = Ledger(start, None, Budgets())
    measure = ProximalStep(objective, objective.step, 1 / objective.step, 1e-9, 0.0, None, 0.0)
    loop = Loop(
        objective.problem,
        measure,
        Proximal(objective, measure),
        ledger,
        lambda _, x: values.append(float(objective.value(x))),
    )
    gradient = objective.problem.gradient(start)
    descend(loop, penalty, objective.step, start, gradient, np.zeros(1), 200)
    assert values
    highest = max(float(objective.value(start)), values[0])
    assert np.all(np.diff([highest, *values]) <= 1e-12 * highest)


def test_an_interrupt_on_a_face_returns_the_best_iterate_so_far() -> None:
    matrix, rhs = _problem("equicorrelated", 16)
    objective = lasso(matrix, rhs, ratio=0.003)
    whole = solve(objective, rtol=1e-9)

    def interrupt(count: int, _: np.ndarray) -> None:
        if count == whole.num_steps - 2:
            raise KeyboardInterrupt

    result = solve(objective, rtol=1e-9, callback=interrupt)
    assert result.status is Status.INTERRUPTED
    assert float(objective.value(result.x)) < float(objective.value(0 * result.x))
