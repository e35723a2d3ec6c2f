"""An unfolded network is the iteration that it unrolls, with trainable positive steps."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from stepfold import LeastSquares, Quadratic, Schedule, SpectralBounds, chebyshev_steps, solve
from stepfold.iterations import GradientDescent, Iteration
from stepfold.unfolded import UnfoldedIteration

NUM_STEPS = 8


class HeavyBall(Iteration[Any, Any]):
    """``x ← x − γ∇f(x) + β(x − x₋₁)``, written in the test to try the seam."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def init(self, problem, x0):  # noqa: ARG002
        return x0, x0

    def step(self, problem, state, gamma, gradient=None):
        x, previous = state
        gradient = problem.gradient(x) if gradient is None else gradient
        return x - gamma * gradient + self.beta * (x - previous), x

    def iterate(self, state):
        return state[0]


def _orthogonal(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def _data(shape: tuple[int, ...], *, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """A matrix whose Hessian has its spectrum in [1, 9], and right-hand sides."""
    rng = np.random.default_rng(3)
    right = _orthogonal(6, rng)
    if symmetric:
        matrix = right @ np.diag(np.linspace(1, 9, 6)) @ right.T
        return (matrix + matrix.T) / 2, rng.standard_normal((*shape, 6))
    left = _orthogonal(10, rng)[:, :6]
    matrix = left @ np.diag(np.sqrt(np.linspace(1, 9, 6))) @ right.T
    return matrix, rng.standard_normal((*shape, 10))


def _twins(shape: tuple[int, ...], *, symmetric: bool) -> tuple[Any, Any]:
    kind: Any = Quadratic if symmetric else LeastSquares
    matrix, rhs = _data(shape, symmetric=symmetric)
    return kind(matrix, rhs), kind(torch.tensor(matrix), torch.tensor(rhs))


@pytest.fixture
def schedule() -> Schedule:
    return chebyshev_steps(SpectralBounds(1.0, 9.0), NUM_STEPS)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (5,)])
def test_the_network_is_one_period_of_solve(schedule, shape, symmetric) -> None:
    numpy_problem, torch_problem = _twins(shape, symmetric=symmetric)
    expected = solve(numpy_problem, schedule, rtol=0.0, max_steps=NUM_STEPS)
    assert expected.num_steps == NUM_STEPS
    output = UnfoldedIteration(schedule)(torch_problem)
    np.testing.assert_allclose(output.detach().numpy(), expected.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_the_network_is_a_numpy_loop_over_the_same_steps(shape) -> None:
    matrix, rhs = _data(shape, symmetric=False)
    gammas = [0.3, 0.05, 0.2, 0.11]
    x = np.ones((*shape, 6))
    for gamma in gammas:
        x = x - gamma * (x @ matrix.T - rhs) @ matrix
    problem = LeastSquares(torch.tensor(matrix), torch.tensor(rhs))
    start = torch.ones((*shape, 6), dtype=torch.float64)
    output = UnfoldedIteration(Schedule(gammas))(problem, start)
    np.testing.assert_allclose(output.detach().numpy(), x, rtol=1e-12, atol=1e-12)
    assert start.eq(1).all()


@pytest.mark.parametrize("num_layers", [1, 3, NUM_STEPS])
def test_the_first_layers_are_a_network_of_the_first_steps(schedule, num_layers) -> None:
    _, problem = _twins((2,), symmetric=True)
    head = UnfoldedIteration(Schedule(schedule.steps[:num_layers]))
    whole = UnfoldedIteration(schedule)
    assert torch.equal(whole(problem, num_layers=num_layers), head(problem))
    assert whole.schedule(num_layers) == head.schedule()


def test_heavy_ball_unrolls_to_what_solve_runs(schedule) -> None:
    numpy_problem, torch_problem = _twins((3,), symmetric=True)
    steps = Schedule(0.5 * schedule.steps)
    expected = solve(numpy_problem, steps, iteration=HeavyBall(0.2), rtol=0.0, max_steps=NUM_STEPS)
    output = UnfoldedIteration(steps, iteration=HeavyBall(0.2))(torch_problem)
    np.testing.assert_allclose(output.detach().numpy(), expected.x, rtol=0, atol=1e-12)


def test_gradients_of_the_steps_are_those_of_finite_differences() -> None:
    _, problem = _twins((2,), symmetric=True)
    network = UnfoldedIteration(Schedule([0.2, 0.1, 0.15]))
    network(problem).square().sum().backward()
    gradient = network.step_values.raw.grad
    differences = []
    for index in range(3):
        ends = []
        for sign in (1, -1):
            steps = np.array([0.2, 0.1, 0.15])
            steps[index] += sign * 1e-6
            ends.append(UnfoldedIteration(Schedule(steps))(problem).square().sum().item())
        differences.append((ends[0] - ends[1]) / 2e-6)
    np.testing.assert_allclose(gradient.numpy(), differences, rtol=1e-7)


@pytest.mark.filterwarnings("ignore:`state_dict` holds raw values")
def test_steps_are_absolute_values_of_the_parameters() -> None:
    network = UnfoldedIteration(Schedule([0.5, 0.25]))
    network.load_state_dict({"step_values.raw": torch.tensor([-0.5, 0.25])})
    assert network.steps.tolist() == [0.5, 0.25]
    assert network.schedule() == Schedule([0.5, 0.25], "learned")
    network.steps.sum().backward()
    assert network.step_values.raw.grad.tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_dict_brings_every_bit_back(schedule, dtype) -> None:
    network = UnfoldedIteration(schedule, dtype=dtype)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    buffer.seek(0)
    other = UnfoldedIteration(Schedule(np.ones(NUM_STEPS)), dtype=dtype)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other.steps, network.steps)
    assert other.schedule() == network.schedule()


def test_a_state_dict_of_another_depth_is_refused(schedule) -> None:
    other = UnfoldedIteration(Schedule([1.0]))
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(UnfoldedIteration(schedule).state_dict())


def test_float32_problems_stay_float32(schedule) -> None:
    matrix, rhs = _data((), symmetric=True)
    problem = Quadratic(torch.tensor(matrix).float(), torch.tensor(rhs).float())
    assert UnfoldedIteration(schedule)(problem).dtype == torch.float32


def test_its_schedule_is_a_copy_that_goes_into_solve(schedule) -> None:
    network = UnfoldedIteration(schedule)
    learned = network.schedule()
    with torch.no_grad():
        network.step_values.raw.mul_(3.0)
    np.testing.assert_array_equal(learned.steps, schedule.steps)
    problem, _ = _twins((), symmetric=True)
    assert solve(problem, learned).converged


@pytest.mark.parametrize("num_layers", [0, -1, True])
def test_layers_below_one_are_refused(schedule, num_layers) -> None:
    _, problem = _twins((), symmetric=True)
    with pytest.raises(ValueError, match=r"`num_layers` must be an integer of at least 1"):
        UnfoldedIteration(schedule)(problem, num_layers=num_layers)


def test_layers_beyond_the_last_are_refused(schedule) -> None:
    with pytest.raises(ValueError, match=r"`num_layers` must be at most the network's 8, got 9"):
        UnfoldedIteration(schedule).schedule(9)


def test_half_layers_are_refused(schedule) -> None:
    with pytest.raises(TypeError, match=r"`num_layers` must be an integer, got 2\.5"):
        UnfoldedIteration(schedule).schedule(2.5)


def test_bare_step_sizes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`schedule` must be a Schedule, got list; wrap"):
        UnfoldedIteration([0.1, 0.2])


def test_a_numpy_problem_is_refused(schedule) -> None:
    problem, _ = _twins((), symmetric=True)
    with pytest.raises(TypeError, match=r"made of torch tensors, got ndarray.*through `solve`"):
        UnfoldedIteration(schedule)(problem)


def test_gradient_descent_is_what_a_layer_does_by_default(schedule) -> None:
    assert isinstance(UnfoldedIteration(schedule).iteration, GradientDescent)
