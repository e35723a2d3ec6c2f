"""Iterations, and a second one defined here: the seam between schedule and iteration is real."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    solve,
)
from stepfold.iterations import GradientDescent, Iteration
from stepfold.polynomial import residual_polynomial

Pair = tuple[Any, Any]


class HeavyBall(Iteration[Pair, Any]):
    """Polyak's ``x ← x − γ∇f(x) + β(x − x_previous)``: all that a user would write."""

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum

    def init(self, problem: Any, x0: Any) -> Pair:  # noqa: ARG002
        return x0, x0

    def step(self, problem: Any, state: Pair, gamma: Any, gradient: Any = None) -> Pair:
        x, previous = state
        if gradient is None:
            gradient = problem.gradient(x)
        return x - gamma * gradient + self.momentum * (x - previous), x

    def iterate(self, state: Pair) -> Any:
        return state[0]


def heavy_ball(bounds: SpectralBounds) -> tuple[Schedule, HeavyBall]:
    root = np.sqrt(bounds.condition_number)
    momentum = float(((root - 1) / (root + 1)) ** 2)
    step = 2 * (1 + momentum) / (bounds.lower + bounds.upper)
    return Schedule([step], "heavy ball"), HeavyBall(momentum)


@pytest.mark.parametrize("kappa", [10.0, 100.0, 1e3, 1e4])
@pytest.mark.parametrize("start", ["lowest", "all", "highest"])
def test_heavy_ball_solves_through_the_same_loop(
    symmetric_with: Callable[..., np.ndarray], kappa: float, start: str
) -> None:
    hessian = symmetric_with(np.geomspace(1.0, kappa, 30))
    vectors = np.linalg.eigh(hessian)[1]
    rhs = {"lowest": vectors[:, 0], "highest": vectors[:, -1], "all": vectors.sum(axis=1)}[start]
    schedule, iteration = heavy_ball(SpectralBounds(1.0, kappa))
    result = solve(Quadratic(hessian, rhs), schedule, iteration=iteration)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.x, np.linalg.solve(hessian, rhs), atol=2e-8)


def test_heavy_ball_needs_fewer_steps_than_the_constant_step(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    bounds = SpectralBounds(1.0, 100.0)
    problem = Quadratic(symmetric_with(np.geomspace(1.0, 100.0, 30)), np.ones(30))
    schedule, iteration = heavy_ball(bounds)
    plain = solve(problem, Schedule([2 / 101]))
    assert 4 * solve(problem, schedule, iteration=iteration).num_steps < plain.num_steps


def test_heavy_ball_without_momentum_is_gradient_descent() -> None:
    problem = Quadratic(np.diag([1.0, 3.0]), np.array([1.0, 2.0]))
    schedule = Schedule([0.3, 0.5])
    ours, plain = (
        solve(problem, schedule, iteration=iteration, max_steps=6)
        for iteration in (HeavyBall(0.0), GradientDescent())
    )
    assert ours.x.tolist() == plain.x.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_heavy_ball_runs_on_tensors_and_batches_unchanged(dtype: torch.dtype) -> None:
    factor = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=dtype))
    rhs = torch.ones((2, 3), dtype=dtype)
    schedule, iteration = heavy_ball(SpectralBounds(1.0, 9.0))
    result = solve(LeastSquares(factor, rhs), schedule, iteration=iteration, rtol=1e-5)
    assert (result.status, result.x.dtype) == (Status.CONVERGED, dtype)
    expected = torch.tensor([[1.0, 1 / 2, 1 / 3]] * 2, dtype=dtype)
    torch.testing.assert_close(result.x, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("period", [1, 2, 5, 8])
def test_the_error_after_gradient_steps_is_the_residual_polynomial(
    symmetric_with: Callable[..., np.ndarray], period: int
) -> None:
    eigenvalues = np.array([1.0, 2.0, 5.0, 10.0])
    hessian = symmetric_with(eigenvalues)
    solution = np.arange(1.0, 5.0)
    problem = Quadratic(hessian, hessian @ solution)
    schedule = chebyshev_steps(SpectralBounds(1.0, 10.0), period)
    state = np.zeros(4)
    for gamma in schedule:
        state = GradientDescent().step(problem, state, gamma)
    basis = np.linalg.eigh(hessian)[1]
    expected = basis @ (residual_polynomial(schedule, eigenvalues) * (basis.T @ -solution))
    np.testing.assert_allclose(state - solution, expected, atol=1e-12)


def test_a_known_gradient_is_used_and_not_computed_again() -> None:
    step = GradientDescent().step(None, np.array([1.0]), 0.5, np.array([4.0]))  # type: ignore[arg-type]
    assert step.tolist() == [-1.0]


def test_the_state_of_gradient_descent_is_the_iterate() -> None:
    x = np.ones(2)
    assert GradientDescent().init(None, x) is x  # type: ignore[arg-type]
    assert GradientDescent().iterate(x) is x


def test_an_iteration_without_its_three_methods_is_refused() -> None:
    with pytest.raises(TypeError, match=r"abstract class Iteration.*init.*iterate.*step"):
        Iteration()  # type: ignore[abstract]
