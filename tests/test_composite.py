"""Composite objectives: gaps that bound, maps whose fixed points minimise, one door to solve."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from _penalties import PLAIN, SIZE, example
from scipy.optimize import lsq_linear, nnls
from sklearn.linear_model import ElasticNet as SklearnElasticNet
from sklearn.linear_model import Lasso as SklearnLasso
from sklearn.linear_model import LogisticRegression

from stepfold import LeastSquares, Quadratic, Schedule, Status, estimate_bounds, solve
from stepfold.iterations import Fista, ProximalGradient
from stepfold.problems import Composite, Logistic, Preconditioned, landweber, lasso
from stepfold.problems.penalties import (
    L1,
    Ball,
    Box,
    ElasticNet,
    GroupL1,
    NuclearNorm,
    Simplex,
    TotalVariation,
    nonnegative,
)
from stepfold.unfolded import UnfoldedIteration

METHODS = {
    "fista": Fista,
    "fista without restart": partial(Fista, restart=False),
    "proximal gradient": ProximalGradient,
}


def _data(rows: int = 30, columns: int = SIZE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, columns)), rng.standard_normal(rows)


def _sparse_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((50, 80))
    return matrix, matrix[:, :5] @ np.ones(5) + 0.1 * rng.standard_normal(50)


@pytest.mark.parametrize("given", [{"weight": 0.1}, {"weight": 0.0}, {"ratio": 0.5}])
@pytest.mark.parametrize("method", METHODS)
def test_the_solution_for_a_matrix_of_zeros_is_zero(method: str, given: dict[str, float]) -> None:
    objective = lasso(np.zeros((3, 2)), np.ones(3), **given)
    result = solve(objective, iteration=METHODS[method])
    assert (result.status, result.num_steps) == (Status.CONVERGED, 0)
    assert result.x.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("method", METHODS)
def test_the_lasso_agrees_with_scikit_learn(method: str) -> None:
    matrix, rhs = _sparse_data()
    result = solve(
        lasso(matrix, rhs, weight=5.0), iteration=METHODS[method], gap_rtol=1e-13, max_steps=50_000
    )
    model = SklearnLasso(alpha=5.0 / 50, fit_intercept=False, tol=1e-13, max_iter=100_000)
    np.testing.assert_allclose(result.x, model.fit(matrix, rhs).coef_, atol=1e-6)
    assert result.converged


def test_the_elastic_net_agrees_with_scikit_learn_in_both_its_forms() -> None:
    matrix, rhs = _sparse_data()
    weight, ridge = 5.0, 2.0
    model = SklearnElasticNet(
        alpha=(weight + ridge) / 50,
        l1_ratio=weight / (weight + ridge),
        fit_intercept=False,
        tol=1e-13,
        max_iter=100_000,
    ).fit(matrix, rhs)
    as_penalty = Composite(LeastSquares(matrix, rhs), ElasticNet(weight, ridge))
    as_ridge = lasso(matrix, rhs, weight=weight, ridge=ridge)
    for objective in (as_penalty, as_ridge):
        result = solve(objective, gap_rtol=1e-14)
        np.testing.assert_allclose(result.x, model.coef_, atol=1e-7)


def test_sparse_logistic_regression_agrees_with_scikit_learn() -> None:
    matrix, rhs = _sparse_data()
    labels = np.sign(rhs)
    # Its order of coordinates is random, and a tolerance of 1e-12 is at the level of rounding.
    model = LogisticRegression(
        l1_ratio=1.0,
        C=0.5,
        fit_intercept=False,
        solver="liblinear",
        tol=1e-9,
        max_iter=100_000,
        random_state=0,
    ).fit(matrix, labels)
    result = solve(Composite(Logistic(matrix, labels), L1(2.0)), gap_atol=1e-12)
    np.testing.assert_allclose(result.x, model.coef_[0], atol=1e-5)


def test_nonnegative_least_squares_agree_with_scipy() -> None:
    matrix, rhs = _data()
    result = solve(Composite(LeastSquares(matrix, rhs), nonnegative()), rtol=1e-12)
    np.testing.assert_allclose(result.x, nnls(matrix, rhs)[0], atol=1e-9)


def test_projected_gradient_is_the_proximal_one_of_a_box() -> None:
    matrix, rhs = _data()
    result = solve(
        Composite(LeastSquares(matrix, rhs), Box(-0.05, 0.1)),
        iteration=ProximalGradient,
        gap_rtol=1e-14,
    )
    expected = lsq_linear(matrix, rhs, bounds=(-0.05, 0.1), method="bvls", tol=1e-14).x
    np.testing.assert_allclose(result.x, expected, atol=1e-8)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["least squares", "logistic"])
def test_the_gap_is_above_the_distance_to_the_minimum_and_closes(
    kind: str, ridge: float, name: str
) -> None:
    matrix, rhs = _data()
    problem: Any = LeastSquares(matrix, rhs, ridge=ridge)
    if kind == "logistic":
        problem = Logistic(matrix, np.sign(rhs), ridge=ridge)
    objective: Composite[Any] = Composite(problem, example(name))
    result = solve(objective, rtol=1e-11, max_steps=20_000)
    least = float(objective.value(result.x))
    assert result.converged
    if not objective.has_gap:
        assert name in ("nonnegative", "half-bounded box", "l1 of weight 0")
        return
    assert float(objective.gap(result.x)) <= 1e-8 * (1 + abs(least))
    for seed in range(5):
        point = np.random.default_rng(seed).standard_normal(SIZE)
        point = objective.penalty.prox(point, 0.5)
        above = float(objective.value(point)) - least
        assert float(objective.gap(point)) >= above - 1e-9 * (1 + abs(above))


@pytest.mark.parametrize("name", ["ball", "simplex", "box", "elastic net"])
def test_quadratics_have_a_gap_where_the_conjugate_is_finite(name: str) -> None:
    matrix, rhs = _data()
    objective = Composite(Quadratic(matrix.T @ matrix, matrix.T @ rhs), example(name))
    result = solve(objective, gap_atol=1e-11)
    assert result.converged
    same = solve(Composite(LeastSquares(matrix, rhs), example(name)), gap_rtol=1e-13)
    np.testing.assert_allclose(result.x, same.x, atol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_minimisers_are_the_fixed_points_of_the_map_for_every_step(name: str) -> None:
    matrix, rhs = _data()
    objective = Composite(LeastSquares(matrix, rhs), example(name))
    x = solve(objective, rtol=1e-12).x
    for gamma in (0.3 * objective.step, 1.7 * objective.step):
        np.testing.assert_allclose(objective.fixed_point(gamma).map(x), x, atol=1e-9)


def test_gaps_and_measures_of_a_batch_are_those_of_its_rows() -> None:
    matrix, rhs = _data()
    batch = np.stack([rhs, 3 * rhs])
    objective, alone = lasso(matrix, batch, weight=1.0), lasso(matrix, 3 * rhs, weight=1.0)
    x = np.random.default_rng(3).standard_normal((2, SIZE))
    assert objective.gap(x)[1] == pytest.approx(float(alone.gap(x[1])))
    assert objective.value(x)[1] == pytest.approx(float(alone.value(x[1])))
    assert objective.optimality(x)[1] == pytest.approx(float(alone.optimality(x[1])))


def test_rows_of_a_batch_restart_by_themselves() -> None:
    matrix, rhs = _sparse_data()
    batch = np.stack([rhs, np.random.default_rng(5).standard_normal(50)])
    options: dict[str, Any] = {"rtol": 0.0, "max_steps": 200}
    schedule = Schedule(np.full(10, lasso(matrix, rhs, weight=3.0).step))
    together = solve(lasso(matrix, batch, weight=3.0), schedule, **options).x
    for row, vector in zip(together, batch, strict=True):
        alone = solve(lasso(matrix, vector, weight=3.0), schedule, **options).x
        np.testing.assert_allclose(row, alone, atol=1e-10)


def test_restart_needs_fewer_steps_than_plain_momentum_where_there_is_curvature() -> None:
    matrix, rhs = _data(60, 40)
    objective = lasso(matrix, rhs, ratio=0.05)
    with_restart, without = (
        solve(objective, iteration=METHODS[name], rtol=1e-10, max_steps=100_000)
        for name in ("fista", "fista without restart")
    )
    assert with_restart.num_steps <= 0.5 * without.num_steps


def test_tensors_are_solved_like_arrays() -> None:
    matrix, rhs = _sparse_data()
    expected = solve(lasso(matrix, rhs, weight=5.0), gap_rtol=1e-12)
    found = solve(lasso(torch.tensor(matrix), torch.tensor(rhs), weight=5.0), gap_rtol=1e-12)
    np.testing.assert_allclose(found.x.numpy(), expected.x, atol=1e-6)


@pytest.mark.parametrize("kind", [ProximalGradient, Fista])
def test_proximal_steps_unfold_into_layers_whose_steps_have_derivatives(kind: Any) -> None:
    matrix, rhs = _sparse_data()
    steps = Schedule(np.linspace(0.5, 1.0, 10) * lasso(matrix, rhs, weight=5.0).step)
    expected = solve(lasso(matrix, rhs, weight=5.0), steps, iteration=kind, rtol=0.0, max_steps=10)
    network = UnfoldedIteration(steps, iteration=kind(L1(5.0)))
    x = network(LeastSquares(torch.tensor(matrix), torch.tensor(rhs)))
    np.testing.assert_allclose(x.detach().numpy(), expected.x, atol=1e-12)
    (x**2).sum().backward()
    for parameter in network.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad != 0).all()


def test_single_precision_stays_single() -> None:
    matrix, rhs = (a.astype(np.float32) for a in _sparse_data())
    result = solve(lasso(matrix, rhs, weight=5.0), gap_rtol=1e-4)
    assert (result.x.dtype, result.status) == (np.float32, Status.CONVERGED)


def test_products_are_counted(counting: Any) -> None:
    matrix, rhs = _sparse_data()
    operator = counting(matrix)
    objective = Composite(LeastSquares(operator, rhs), L1(5.0))
    schedule = Schedule(np.full(10, 1e-3))
    before = operator.counter[0]
    result = solve(objective, schedule, rtol=0.0, max_steps=100)
    # One was made when the objective was posed: Aᵀb.
    assert result.history.num_products[-1] == operator.counter[0] - before + 1
    # A look at the end of each period, and at most ten to find out why it did not converge.
    assert 0 <= result.history.num_products[-1] - (1 + 2 + 10 * (20 + 2)) <= 10


def test_proximal_gradient_takes_the_gradient_of_the_check() -> None:
    matrix, rhs = _sparse_data()
    result = solve(
        lasso(matrix, rhs, weight=5.0),
        Schedule(np.full(10, 1e-3)),
        iteration=ProximalGradient,
        rtol=0.0,
        max_steps=100,
    )
    assert 0 <= result.history.num_products[-1] - (1 + 2 + 10 * 20) <= 10


def test_steps_that_are_too_long_are_a_status() -> None:
    matrix, rhs = _sparse_data()
    objective = lasso(matrix, rhs, weight=5.0)
    schedule = Schedule(np.full(5, 3 * objective.step))
    result = solve(objective, schedule, iteration=ProximalGradient)
    assert result.status is Status.DIVERGED
    assert np.isfinite(result.x).all()


def test_a_tolerance_below_rounding_is_a_stall() -> None:
    matrix, rhs = _sparse_data()
    result = solve(lasso(matrix, rhs, weight=5.0), gap_rtol=0.0, gap_atol=1e-300)
    assert result.status is Status.STALLED
    assert "duality gap came down to" in result.advice


def test_budgets_are_kept() -> None:
    matrix, rhs = _sparse_data()
    objective = lasso(matrix, rhs, weight=0.01)
    assert solve(objective, iteration=Fista, max_steps=35).num_steps == 30
    assert 30 <= solve(objective, max_steps=35).num_steps <= 35
    result = solve(objective, max_products=100)
    assert (result.status, result.history.num_products[-1] <= 100) == (Status.BUDGET, True)
    assert solve(objective, max_steps=0).num_steps == 0


def test_an_interrupted_run_returns_its_best_iterate() -> None:
    matrix, rhs = _sparse_data()

    def stop(num_steps: int, x: Any) -> None:
        if num_steps == 25:
            raise KeyboardInterrupt

    result = solve(lasso(matrix, rhs, weight=5.0), callback=stop)
    assert (result.status, result.num_steps) == (Status.INTERRUPTED, 25)
    assert result.history.num_steps[-1] == 20


def test_the_ratio_of_1_gives_zero_and_a_little_less_does_not() -> None:
    matrix, rhs = _sparse_data()
    assert not solve(lasso(matrix, rhs, ratio=1.0)).x.any()
    assert solve(lasso(matrix, rhs, ratio=0.99)).x.any()


def test_landweber_is_richardson_on_the_normal_equations() -> None:
    matrix, rhs = _data()
    x = np.random.default_rng(1).standard_normal(SIZE)
    found = landweber(LeastSquares(matrix, rhs), 0.01).map(x)
    np.testing.assert_allclose(found, x + 0.01 * matrix.T @ (rhs - matrix @ x))


def test_landweber_chooses_a_step_that_converges() -> None:
    matrix, rhs = _data()
    map_ = landweber(LeastSquares(matrix, rhs)).map
    x = np.zeros(SIZE)
    for _ in range(500):
        x = map_(x)
    np.testing.assert_allclose(x, np.linalg.lstsq(matrix, rhs)[0], atol=1e-8)


@pytest.mark.parametrize("margin", [-800.0, -1.0, 0.0, 1.0, 800.0])
def test_logistic_gradients_are_the_derivative_and_do_not_overflow(margin: float) -> None:
    problem = Logistic(np.array([[1.0]]), np.array([1.0]), ridge=0.1)
    objective = Composite(problem, L1(0.0))
    x = np.array([margin])
    ahead, behind = (float(objective.value(x + d)) for d in (1e-5, -1e-5))
    assert problem.gradient(x)[0] == pytest.approx((ahead - behind) / 2e-5, abs=1e-5)


def test_the_hessian_of_logistic_regression_bounds_every_other() -> None:
    matrix, rhs = _data()
    problem = Logistic(matrix, np.sign(rhs), ridge=0.2)
    upper = np.linalg.eigvalsh(matrix.T @ matrix / 4 + 0.2 * np.eye(SIZE))[-1]
    assert upper * (1 - 1e-12) <= estimate_bounds(Composite(problem, L1(1.0))).upper <= 1.05 * upper


def test_total_variation_restores_a_signal_of_plateaus() -> None:
    rng = np.random.default_rng(0)
    signal = np.repeat(rng.standard_normal(4), 10)
    blur = np.eye(40) + 0.2 * np.eye(40, k=1) + 0.2 * np.eye(40, k=-1)
    blurred = blur @ signal + 0.1 * rng.standard_normal(40)
    objective = Composite(LeastSquares(blur, blurred), TotalVariation(0.2, max_iterations=300))
    result = solve(objective, rtol=1e-3, max_steps=100)
    assert result.converged
    assert not objective.has_gap
    before = np.linalg.norm(np.linalg.solve(blur, blurred) - signal)
    assert np.linalg.norm(result.x - signal) < 0.6 * before


def test_a_matrix_of_low_rank_is_completed() -> None:
    rng = np.random.default_rng(0)
    truth = np.outer(rng.uniform(1, 2, 12), rng.uniform(-2, -1, 12)).ravel()
    seen = np.sort(rng.permutation(144)[:100])
    problem = LeastSquares(np.eye(144)[seen], truth[seen])
    objective = Composite(problem, NuclearNorm(1e-3, (12, 12)))
    result = solve(objective, rtol=1e-8, max_steps=20_000)
    assert np.linalg.norm(result.x - truth) < 0.02 * np.linalg.norm(truth)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: Composite(p, 0.1), TypeError, "`penalty` must be a Penalty, got float"),
        (lambda _: Composite("A", L1(1.0)), TypeError, "`problem` must be a Problem"),
        (
            lambda p: Composite(Preconditioned(p, np.ones(SIZE)), L1(1.0)),
            TypeError,
            "not preconditioned",
        ),
        (lambda p: solve(p, gap_rtol=1e-3), TypeError, "`gap_rtol` is for problems with a penalty"),
        (
            lambda p: solve(Composite(p, L1(1.0)), error_rtol=1e-3),
            TypeError,
            "`error_rtol` is for problems without a penalty",
        ),
        (
            lambda p: solve(Composite(p, L1(1.0)), [0.1]),
            TypeError,
            "`schedule` must be a Schedule or None, got list",
        ),
        (
            lambda p: solve(Composite(p, L1(1.0)), iteration=lambda _: 3),
            TypeError,
            "`iteration` must make an Iteration",
        ),
        (
            lambda p: solve(Composite(p, nonnegative()), gap_rtol=1e-6),
            ValueError,
            "none is known for Box on LeastSquares",
        ),
        (lambda p: Composite(p, nonnegative()).gap(np.ones(SIZE)), ValueError, "judge by"),
        (
            lambda p: solve(Composite(p, L1(1.0)), x0=np.zeros(3)),
            ValueError,
            "`x0` must have shape",
        ),
        (
            lambda p: solve(Composite(p, L1(1.0)), gap_rtol=-1.0),
            ValueError,
            "`gap_rtol` must be at least 0",
        ),
        (
            lambda p: solve(Composite(p, L1(1.0)), gap_atol="a"),
            TypeError,
            "`gap_atol` must be a real number, got str",
        ),
        (lambda p: Composite(p, L1(1.0)).fixed_point(0.0), ValueError, "`gamma` must be above 0"),
        (lambda _: lasso(np.eye(2), np.ones(2)), ValueError, "exactly one of `weight` and `ratio`"),
        (lambda _: lasso(np.eye(2), np.ones(2), weight=-1.0), ValueError, "`weight` must be"),
        (lambda _: lasso(np.eye(2), np.ones(2), ratio=-1.0), ValueError, "`ratio` must be"),
        (lambda _: Logistic(np.eye(2), np.array([0.0, 1.0])), ValueError, "2 [*] labels - 1"),
        (
            lambda _: landweber(LeastSquares(np.zeros((2, 2)), np.ones(2))),
            ValueError,
            "nothing to take steps on",
        ),
    ],
)
def test_bad_arguments_are_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(LeastSquares(*_data()))


def test_the_simplex_may_be_infeasible_at_zero() -> None:
    matrix, rhs = _data()
    result = solve(Composite(LeastSquares(matrix, rhs), Simplex()), gap_rtol=1e-9, gap_atol=1e-9)
    assert result.converged
    assert result.x.sum() == pytest.approx(1.0)


COMPLEX = {
    "l1": lambda: L1(2.0),
    "elastic net": lambda: ElasticNet(1.0, 0.5),
    "group l1": lambda: GroupL1(2.0, [0, 1, 2, 3, 0, 1, 2, 3]),
    "nuclear norm": lambda: NuclearNorm(2.0, (2, 4)),
    "ball": lambda: Ball(0.1),
}


def _complex_data(rows: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    return draw(rows, SIZE), draw(rows)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_data_are_solved_to_a_small_gap(name: str, method: str) -> None:
    objective = Composite(LeastSquares(*_complex_data()), COMPLEX[name]())
    result = solve(objective, iteration=METHODS[method], gap_rtol=1e-12, max_steps=50_000)
    assert result.converged
    least = float(objective.value(result.x))
    rng = np.random.default_rng(0)
    for size in (1e-3, 1.0):
        step = rng.standard_normal(SIZE) + 1j * rng.standard_normal(SIZE)
        point = objective.penalty.prox(result.x + size * step, 1e-9)
        above = float(objective.value(point)) - least
        assert above >= -1e-9 * least
        assert float(objective.gap(point)) >= above - 1e-9 * least


def test_a_complex_lasso_is_the_group_lasso_of_real_and_imaginary_parts() -> None:
    matrix, rhs = _complex_data()
    real = np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])
    labels = np.tile(np.arange(SIZE), 2)
    pairs = solve(
        Composite(LeastSquares(real, np.r_[rhs.real, rhs.imag]), GroupL1(2.0, labels)),
        gap_rtol=1e-14,
    ).x
    x = solve(Composite(LeastSquares(matrix, rhs), L1(2.0)), gap_rtol=1e-14).x
    np.testing.assert_allclose(x, pairs[:SIZE] + 1j * pairs[SIZE:], atol=1e-6)


def test_complex_data_with_a_penalty_of_real_vectors_are_refused() -> None:
    with pytest.raises(TypeError, match="must be real with the penalty Box, got complex"):
        Composite(LeastSquares(*_complex_data()), nonnegative())


def test_an_intercept_that_is_not_penalised_is_found() -> None:
    matrix, rhs = _sparse_data()
    rhs = rhs + 7.0
    with_ones = np.hstack([matrix, np.ones((50, 1))])
    weights = np.r_[5.0 * np.ones(80), 0.0]
    result = solve(
        Composite(LeastSquares(with_ones, rhs), L1(weights)), rtol=1e-11, max_steps=50_000
    )
    model = SklearnLasso(alpha=5.0 / 50, tol=1e-13, max_iter=100_000).fit(matrix, rhs)
    assert result.converged
    np.testing.assert_allclose(result.x[:80], model.coef_, atol=1e-6)
    assert result.x[80] == pytest.approx(model.intercept_, abs=1e-6)
