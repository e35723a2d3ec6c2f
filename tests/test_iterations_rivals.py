"""Momentum, semi-iteration and Barzilai–Borwein: through `solve`, on every kind of operator."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    solve,
)
from stepfold.iterations import (
    BarzilaiBorwein,
    GradientDescent,
    HeavyBall,
    Nesterov,
    SemiIteration,
    barzilai_borwein,
    heavy_ball,
    nesterov,
    semi_iteration,
)
from stepfold.polynomial import chebyshev_period_rate, first_order_lower_bound

MAKERS = {
    "heavy ball": heavy_ball,
    "Nesterov": nesterov,
    "semi-iteration": semi_iteration,
    "Barzilai–Borwein": barzilai_borwein,
}
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "column-major": np.asfortranarray,
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "operator": aslinearoperator,
    "torch": torch.tensor,
}


def walk(problem: Any, schedule: Any, iteration: Any, x0: Any, period: int) -> list[Any]:
    """Iterates x₀ … of an iteration whose schedule repeats."""
    state = iteration.init(problem, x0)
    iterates = [iteration.iterate(state)]
    for t in range(period):
        state = iteration.step(problem, state, schedule(t))
        iterates.append(iteration.iterate(state))
    return iterates


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MAKERS)
def test_every_rival_solves_least_squares_on_every_kind_of_operator(
    factor_with: Callable[..., np.ndarray], name: str, kind: str
) -> None:
    matrix = factor_with(np.geomspace(1.0, 5.0, 6), 9)
    rhs = np.arange(9.0)
    schedule, iteration = MAKERS[name](SpectralBounds(1.0, 25.0))
    b = torch.tensor(rhs) if kind == "torch" else rhs
    result = solve(LeastSquares(KINDS[kind](matrix), b), schedule, iteration=iteration, rtol=1e-10)
    assert result.status is Status.CONVERGED
    expected = np.linalg.lstsq(matrix, rhs)[0]
    np.testing.assert_allclose(np.asarray(result.x), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAKERS)
def test_every_rival_keeps_the_dtype(name: str, dtype: Any) -> None:
    schedule, iteration = MAKERS[name](SpectralBounds(1.0, 9.0))
    problem = Quadratic(np.diag(np.array([1, 3, 9], dtype)), np.ones((2, 3), dtype))
    result = solve(problem, schedule, iteration=iteration, rtol=1e-5)
    assert (result.status, result.x.dtype) == (Status.CONVERGED, dtype)
    np.testing.assert_allclose(result.x, [[1, 1 / 3, 1 / 9]] * 2, rtol=1e-3)


@pytest.mark.parametrize("name", MAKERS)
def test_batches_are_their_rows_and_tensors_are_arrays(
    symmetric_with: Callable[..., np.ndarray], name: str
) -> None:
    hessian = symmetric_with(np.linspace(1.0, 20.0, 7))
    rhs = np.random.default_rng(0).standard_normal((3, 7)) * [[1e-3], [1.0], [1e3]]
    schedule, iteration = MAKERS[name](SpectralBounds(1.0, 20.0))
    batch = walk(Quadratic(hessian, rhs), schedule, iteration, 0 * rhs, 20)[-1]
    tensors = Quadratic(torch.tensor(hessian), torch.tensor(rhs))
    tensor = walk(tensors, schedule, iteration, torch.zeros(3, 7).double(), 20)[-1]
    rows = [walk(Quadratic(hessian, row), schedule, iteration, 0 * row, 20)[-1] for row in rhs]
    scale = np.linalg.norm(rhs, axis=1, keepdims=True)
    np.testing.assert_allclose(batch / scale, np.array(rows) / scale, atol=1e-8)
    np.testing.assert_allclose(tensor.numpy() / scale, batch / scale, atol=1e-8)


@pytest.mark.parametrize("name", MAKERS)
def test_a_known_gradient_changes_nothing(name: str) -> None:
    problem = Quadratic(np.diag([1.0, 2.0, 5.0]), np.ones(3))
    schedule, iteration = MAKERS[name](SpectralBounds(1.0, 5.0))
    one = other = iteration.init(problem, np.zeros(3))
    for _ in range(5):
        gradient = problem.gradient(iteration.iterate(one))
        one = iteration.step(problem, one, schedule(0), gradient)
        other = iteration.step(problem, other, schedule(0))
    np.testing.assert_allclose(iteration.iterate(one), iteration.iterate(other), atol=1e-14)


@pytest.mark.parametrize("name", MAKERS)
def test_products_are_counted_as_they_are_made(counting: Any, name: str) -> None:
    operator = counting(np.diag([1.0, 2.0, 5.0]))
    schedule, iteration = MAKERS[name](SpectralBounds(1.0, 5.0), 3)
    result = solve(Quadratic(operator, np.ones(3)), schedule, iteration=iteration)
    assert operator.counter[0] == result.history.num_products[-1]


@pytest.mark.parametrize("kappa", [1.0, 10.0, 1e4])
@pytest.mark.parametrize("name", MAKERS)
def test_every_rival_reaches_a_tight_tolerance_without_a_false_alarm(
    symmetric_with: Callable[..., np.ndarray], name: str, kappa: float
) -> None:
    hessian = symmetric_with(np.geomspace(1.0, kappa, 40))
    schedule, iteration = MAKERS[name](SpectralBounds(1.0, kappa))
    rhs = np.random.default_rng(1).standard_normal(40)
    result = solve(Quadratic(hessian, rhs), schedule, iteration=iteration, rtol=1e-9)
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize("name", ["heavy ball", "semi-iteration"])
def test_rivals_that_need_a_lower_bound_refuse_to_do_without(name: str) -> None:
    with pytest.raises(ValueError, match=r"`(heavy_ball|semi_iteration)` needs `bounds.lower > 0`"):
        MAKERS[name](SpectralBounds(0.0, 2.0))


@pytest.mark.parametrize("name", ["Nesterov", "Barzilai–Borwein"])
def test_rivals_without_a_lower_bound_refuse_the_zero_operator(name: str) -> None:
    with pytest.raises(ValueError, match=r"needs `bounds.upper > 0`"):
        MAKERS[name](SpectralBounds(0.0, 0.0))


@pytest.mark.parametrize("period", [0, -1])
@pytest.mark.parametrize("name", MAKERS)
def test_a_period_without_steps_is_refused(name: str, period: int) -> None:
    with pytest.raises(ValueError, match=r"`period` must be an integer of at least 1"):
        MAKERS[name](SpectralBounds(1.0, 2.0), period)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
@pytest.mark.parametrize("method", [HeavyBall, Nesterov])
def test_momentum_out_of_range_is_refused(method: Any, momentum: float) -> None:
    with pytest.raises(ValueError, match=r"`momentum` must be at least 0 and below 1, got"):
        method(momentum)


@pytest.mark.parametrize("contraction", [-0.1, 1.1, math.nan])
def test_contraction_out_of_range_is_refused(contraction: float) -> None:
    with pytest.raises(ValueError, match=r"`contraction` must lie between 0 and 1, got"):
        SemiIteration(contraction)


@pytest.mark.parametrize("method", [HeavyBall(0.0), Nesterov(0.0), SemiIteration(0.0)])
def test_without_memory_it_is_gradient_descent(method: Any) -> None:
    problem = Quadratic(np.diag([1.0, 3.0]), np.array([1.0, 2.0]))
    schedule = Schedule([0.3, 0.5])
    plain = walk(problem, schedule, GradientDescent(), np.zeros(2), 6)
    np.testing.assert_array_equal(walk(problem, schedule, method, np.zeros(2), 6), plain)


def test_heavy_ball_shrinks_errors_at_the_first_order_lower_bound() -> None:
    bounds = SpectralBounds(1.0, 100.0)
    problem = Quadratic(np.diag(np.linspace(1.0, 100.0, 50)), np.zeros(50))
    schedule, iteration = heavy_ball(bounds)
    norms = np.linalg.norm(walk(problem, schedule, iteration, np.ones(50), 150), axis=1)
    assert (norms[150] / norms[50]) ** 0.01 == pytest.approx(
        first_order_lower_bound(bounds), rel=0.02
    )


def test_nesterov_without_a_lower_bound_keeps_its_guarantee_on_values() -> None:
    eigenvalues = np.geomspace(1e-6, 1.0, 60)
    problem = Quadratic(np.diag(eigenvalues), np.zeros(60))
    schedule, iteration = nesterov(SpectralBounds(0.0, 1.0))
    state = iteration.init(problem, np.ones(60))
    for t in range(1, 200):
        state = iteration.step(problem, state, schedule(0))
        value = 0.5 * eigenvalues @ state.x**2
        assert value <= 2 * 60 / (t + 1) ** 2  # 2L‖x₀ − x*‖²/(t + 1)²


def test_nesterov_shrinks_errors_at_its_rate_for_quadratics() -> None:
    kappa = 100.0
    problem = Quadratic(np.diag(np.linspace(1.0, kappa, 50)), np.zeros(50))
    schedule, iteration = nesterov(SpectralBounds(1.0, kappa))
    norms = np.linalg.norm(walk(problem, schedule, iteration, np.ones(50), 300), axis=1)
    assert (norms[300] / norms[100]) ** (1 / 200) == pytest.approx(0.9, rel=0.01)


@pytest.mark.parametrize("period", [1, 2, 3, 8, 16, 50])
def test_semi_iteration_is_t_chebyshev_steps_after_t_steps(
    symmetric_with: Callable[..., np.ndarray], period: int
) -> None:
    bounds = SpectralBounds(1.0, 30.0)
    problem = Quadratic(symmetric_with(np.linspace(1.0, 30.0, 20)), np.arange(20.0))
    x0 = np.linspace(-1.0, 1.0, 20)
    ours = walk(problem, *semi_iteration(bounds), x0, period)[-1]
    steps = chebyshev_steps(bounds, period)
    chebyshev = walk(problem, steps, GradientDescent(), x0, period)[-1]
    np.testing.assert_allclose(ours, chebyshev, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_periods", [2, 4])
def test_over_several_periods_semi_iteration_is_better_than_chebyshev_steps(
    num_periods: int,
) -> None:
    # Equal at T only: there it has the best polynomial of degree kT, they the k-th power of one.
    bounds = SpectralBounds(1.0, 30.0)
    eigenvalues = np.linspace(1.0, 30.0, 500)
    problem = Quadratic(np.diag(eigenvalues), np.zeros(500))
    error = walk(problem, *semi_iteration(bounds), np.ones(500), 8 * num_periods)[-1]
    best = chebyshev_period_rate(bounds, 8 * num_periods)
    assert abs(error).max() == pytest.approx(best, rel=1e-3)
    assert best < 0.8 * chebyshev_period_rate(bounds, 8) ** num_periods


def test_semi_iteration_overflows_at_no_number_of_steps() -> None:
    # The unscaled recurrence of the Chebyshev polynomials passes 1e308 at k = 1142 at this κ.
    bounds = SpectralBounds(1.0, 10.0)
    problem = Quadratic(np.diag([1.0, 4.0, 10.0]), np.array([1.0, 2.0, 3.0]))
    schedule, iteration = semi_iteration(bounds)
    state = iteration.init(problem, np.zeros(3))
    for _ in range(10_000):
        state = iteration.step(problem, state, schedule(0))
    np.testing.assert_allclose(iteration.iterate(state), [1.0, 0.5, 0.3], rtol=1e-15)
    sigma = iteration.contraction
    assert state.omega == pytest.approx(2 / (1 + math.sqrt(1 - sigma**2)), rel=1e-15)


@given(log_kappa=st.floats(0.01, 12.0), period=st.integers(1, 300))
def test_weights_are_ratios_of_chebyshev_polynomials(log_kappa: float, period: int) -> None:
    kappa = 10**log_kappa
    _, iteration = semi_iteration(SpectralBounds(1.0, kappa))
    state = iteration.init(None, np.zeros(1))
    nothing = np.zeros(1)
    for _ in range(period):
        state = iteration.step(None, state, 1.0, nothing)
    angle = 2 * math.atanh(1 / math.sqrt(kappa))
    grown = math.exp(-angle) * (1 + math.exp(-2 * period * angle))
    grown /= 1 + math.exp(-2 * (period + 1) * angle)
    assert state.omega == pytest.approx(2 * math.cosh(angle) * grown, rel=1e-9)


def test_no_bounds_are_needed_by_barzilai_and_borwein_without_them() -> None:
    problem = Quadratic(np.diag([1.0, 4.0, 10.0]), np.ones(3))
    result = solve(problem, Schedule([0.01] * 4), iteration=BarzilaiBorwein())
    assert result.converged


@pytest.mark.parametrize("short", [False, True])
def test_barzilai_and_borwein_take_the_textbook_steps(short: bool) -> None:
    hessian = np.diag([1.0, 4.0, 10.0])
    problem = Quadratic(hessian, np.array([1.0, 2.0, 3.0]))
    schedule, iteration = barzilai_borwein(SpectralBounds(1.0, 10.0), short=short)
    ours = walk(problem, schedule, iteration, np.zeros(3), 6)
    x, gamma, expected = np.zeros(3), 0.1, [np.zeros(3)]
    for _ in range(6):
        move = -gamma * problem.gradient(x)
        x = x + move
        change = hessian @ move
        gamma = move @ change / (change @ change) if short else move @ move / (move @ change)
        expected.append(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e200])
def test_barzilai_and_borwein_do_not_mind_units(scale: float) -> None:
    schedule, iteration = barzilai_borwein(SpectralBounds(1.0, 10.0))
    rhs = np.array([1.0, 2.0, 3.0])
    one, other = (
        walk(Quadratic(np.diag([1.0, 4.0, 10.0]), b), schedule, iteration, 0 * b, 8)[-1]
        for b in (rhs, scale * rhs)
    )
    np.testing.assert_allclose(other / scale, one, rtol=1e-10)


def test_a_row_that_is_solved_stays_where_it_is() -> None:
    schedule, iteration = barzilai_borwein(SpectralBounds(1.0, 10.0))
    problem = Quadratic(np.diag([1.0, 10.0]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    x = walk(problem, schedule, iteration, np.zeros((2, 2)), 60)[-1]
    np.testing.assert_allclose(x, [[0.0, 0.0], [1.0, 0.1]], atol=1e-12)


def test_steps_can_be_trained_through_every_rival_with_memory() -> None:
    problem = Quadratic(torch.diag(torch.tensor([1.0, 4.0])), torch.ones(2))
    gamma = torch.tensor(0.2, requires_grad=True)
    state = SemiIteration(0.6).init(problem, torch.zeros(2))
    for _ in range(3):
        state = SemiIteration(0.6).step(problem, state, gamma)
    state.x.sum().backward()
    assert gamma.grad is not None
    assert torch.isfinite(gamma.grad)
