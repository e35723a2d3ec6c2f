"""What holds for every member of the families: schedules, orders, bounds, iterations, problems."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepfold import (
    L1,
    Composite,
    Gram,
    LeastSquares,
    Logistic,
    Quadratic,
    Schedule,
    SpectralBounds,
    estimate_bounds,
    solve,
)
from stepfold.iterations import (
    BarzilaiBorwein,
    Fista,
    GradientDescent,
    HeavyBall,
    Nesterov,
    ProximalGradient,
    SemiIteration,
)
from stepfold.polynomial import chebyshev_period_rate, worst_case_period_rate
from stepfold.problems import Problem
from stepfold.schedules import ORDERS, SCHEDULES

LONG = settings(max_examples=12)
SIZES = st.integers(2, 9)
SEEDS = st.integers(0, 2**32 - 1)
BOUNDS = st.builds(
    lambda log_kappa, exponent: SpectralBounds(2.0**exponent, 2.0**exponent * 10**log_kappa),
    st.floats(0.01, 6.0),
    st.integers(-300, 300),
)


def spectrum(rng: np.random.Generator, size: int) -> np.ndarray:
    return 10 ** rng.uniform(-3, 3, size)


def symmetric(rng: np.random.Generator, eigenvalues: np.ndarray) -> np.ndarray:
    basis = np.linalg.qr(rng.standard_normal((eigenvalues.size, eigenvalues.size)))[0]
    matrix = (basis * eigenvalues) @ basis.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("name", SCHEDULES)
@given(bounds=BOUNDS, period=st.integers(1, 40))
@LONG
def test_schedules_are_positive_as_long_as_asked_and_never_better_than_the_best(
    name: str, bounds: SpectralBounds, period: int
) -> None:
    try:
        schedule = SCHEDULES[name](bounds, period)
    except ValueError as error:
        assert name == "optimal"
        assert "`period`" in str(error)  # noqa: PT017 (the promise holds for shorter ones)
        return
    assert schedule.period == period
    assert schedule.steps.min() > 0
    best = chebyshev_period_rate(bounds, period)
    assert worst_case_period_rate(schedule, bounds) >= best * (1 - 1e-9) - 1e-14
    again = Schedule.from_dict(json.loads(json.dumps(schedule.to_dict())))
    assert again == schedule
    assert again.steps.tobytes() == schedule.steps.tobytes()


@pytest.mark.parametrize("name", ORDERS)
@given(logs=st.lists(st.floats(-300, 300), min_size=1, max_size=60))
@LONG
def test_orders_lose_no_step_and_add_none(name: str, logs: list[float]) -> None:
    schedule = Schedule(np.exp(logs))
    reordered = schedule.reordered(name)
    assert np.sort(reordered.steps).tolist() == np.sort(schedule.steps).tolist()


@given(seed=SEEDS, size=SIZES)
def test_bounds_of_random_matrices_are_outside_and_turn_and_scale_with_them(
    seed: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    eigenvalues = spectrum(rng, size)
    matrix = symmetric(rng, eigenvalues)
    turned = symmetric(rng, eigenvalues)
    top, rounding = eigenvalues.max(), 1e-13 * eigenvalues.max()
    for each in (matrix, turned):
        found = estimate_bounds(each)
        assert found.upper >= top - rounding
        assert found.lower <= eigenvalues.min() + rounding
        assert found.upper <= 1.03 * top + rounding
    scale = 2.0 ** int(rng.integers(-200, 200))
    plain, scaled = estimate_bounds(matrix), estimate_bounds(scale * matrix)
    assert scaled.upper == pytest.approx(scale * plain.upper, rel=1e-12)
    assert scaled.lower == pytest.approx(scale * plain.lower, rel=1e-12)


@given(seed=SEEDS, rows=SIZES, columns=SIZES)
def test_bounds_of_a_gram_are_outside_the_squared_singular_values(
    seed: int, rows: int, columns: int
) -> None:
    factor = np.random.default_rng(seed).standard_normal((rows, columns))
    values = np.linalg.svd(factor, compute_uv=False) ** 2
    least = values.min() if rows >= columns else 0.0
    found = estimate_bounds(Gram(factor))
    assert found.upper >= values.max() * (1 - 1e-13)
    assert found.lower <= least + 1e-13 * values.max()


PLAIN: dict[str, Any] = {
    "gradient descent": GradientDescent(),
    "heavy ball": HeavyBall(0.4),
    "Nesterov": Nesterov(0.4),
    "Nesterov without a known momentum": Nesterov(None),
    "semi-iteration": SemiIteration(0.8),
    "Barzilai–Borwein": BarzilaiBorwein(),
    "ISTA without a penalty": ProximalGradient(L1(0.0)),
    "FISTA without a penalty": Fista(L1(0.0)),
}


def iterates(iteration: Any, problem: Any, x0: Any, steps: list[float]) -> list[Any]:
    state = iteration.init(problem, x0)
    found = []
    for gamma in steps:
        state = iteration.step(problem, state, gamma)
        found.append(iteration.iterate(state))
    return found


@pytest.mark.parametrize("name", PLAIN)
@given(seed=SEEDS, size=SIZES)
@LONG
def test_the_exact_solution_is_a_fixed_point_of_every_iteration(
    name: str, seed: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    diagonal = 2.0 ** rng.integers(-3, 4, size)
    solution = rng.integers(-8, 9, size).astype(float)
    problem = Quadratic(np.diag(diagonal), diagonal * solution)  # no operation on it is rounded
    for x in iterates(PLAIN[name], problem, solution.copy(), [0.25, 0.125, 0.25]):
        assert x.tolist() == solution.tolist()


@pytest.mark.parametrize("name", PLAIN)
@given(seed=SEEDS, size=SIZES, batch=st.integers(1, 4))
@LONG
def test_batches_are_their_rows_and_tensors_are_arrays(
    name: str, seed: int, size: int, batch: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = symmetric(rng, rng.uniform(1, 9, size))
    rhs, start = rng.standard_normal((2, batch, size))
    steps = [0.1, 0.2, 0.15, 0.1]
    whole = iterates(PLAIN[name], Quadratic(matrix, rhs), start.copy(), steps)[-1]
    for row in range(batch):
        alone = iterates(PLAIN[name], Quadratic(matrix, rhs[row]), start[row].copy(), steps)[-1]
        np.testing.assert_allclose(whole[row], alone, rtol=1e-9, atol=1e-9)
    problem = Quadratic(torch.tensor(matrix), torch.tensor(rhs))
    tensor = iterates(PLAIN[name], problem, torch.tensor(start), steps)[-1]
    np.testing.assert_allclose(tensor.numpy(), whole, rtol=1e-9, atol=1e-9)


def problem_of(kind: str, rng: np.random.Generator, size: int) -> Problem[Any]:
    matrix = rng.standard_normal((size + 2, size))
    rows = rng.standard_normal(size + 2)
    if kind == "quadratic":
        return Quadratic(matrix.T @ matrix, rows[:size])
    if kind == "least squares":
        return LeastSquares(matrix, rows, ridge=float(rng.uniform()))
    return Logistic(matrix, np.where(rows > 0, 1.0, -1.0), ridge=0.1)


KINDS = ["quadratic", "least squares", "logistic"]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, size=SIZES)
@LONG
def test_the_gradient_is_the_derivative_of_the_value(kind: str, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    problem: Any = problem_of(kind, rng, size)
    x, direction = rng.standard_normal((2, size))
    h = 1e-5
    difference = (problem.value(x + h * direction) - problem.value(x - h * direction)) / (2 * h)
    slope = float(problem.gradient(x) @ direction)
    scale = np.linalg.norm(problem.gradient(x)) * np.linalg.norm(direction) + abs(problem.value(x))
    assert abs(difference - slope) <= 1e-6 * scale


@given(seed=SEEDS, rows=SIZES, columns=SIZES, is_complex=st.booleans())
def test_the_adjoint_of_least_squares_is_one(
    seed: int, rows: int, columns: int, is_complex: bool
) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((rows, columns)) + 1j * is_complex * rng.standard_normal(
        (rows, columns)
    )
    factor = factor if is_complex else factor.real
    u = rng.standard_normal(rows).astype(factor.dtype)
    v = rng.standard_normal(columns).astype(factor.dtype)
    problem = LeastSquares(factor, u)
    left = np.vdot(u, factor @ v)
    right = np.vdot(problem.adjoint_product(u), v)
    assert abs(left - right) <= 1e-12 * np.linalg.norm(factor) * np.linalg.norm(u) * np.linalg.norm(
        v
    )


@given(seed=SEEDS, size=SIZES, weight=st.floats(0.01, 2.0))
@LONG
def test_a_converged_composite_meets_the_conditions_of_a_minimiser(
    seed: int, size: int, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    matrix, rhs = rng.standard_normal((size + 2, size)), rng.standard_normal(size + 2)
    problem = Composite(LeastSquares(matrix, rhs, ridge=0.1), L1(weight))
    result = solve(problem, rtol=1e-7)
    assert result.converged
    gradient = matrix.T @ (matrix @ result.x - rhs) + 0.1 * result.x
    slack = 1e-4 * (weight + np.abs(matrix.T @ rhs).max())
    assert (np.abs(gradient) <= weight + slack).all()
    active = result.x != 0
    assert (np.abs(gradient + weight * np.sign(result.x))[active] <= slack).all()


@pytest.mark.parametrize("kappa", [1.0, 1e2, 1e4])
@given(seed=SEEDS, size=st.integers(2, 30))
@LONG
def test_the_default_policy_says_converged_only_of_small_gradients(
    kappa: float, seed: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = symmetric(rng, np.geomspace(1, kappa, size))
    rhs = rng.standard_normal(size)
    result = solve(Quadratic(matrix, rhs), rtol=1e-6)
    assert result.converged
    assert np.linalg.norm(matrix @ result.x - rhs) <= 1e-6 * np.linalg.norm(rhs) * (1 + 1e-6)
