"""Exact training: the optimum that backpropagation approaches, from T products."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import minimize
from scipy.sparse.linalg import aslinearoperator

from stepfold import LeastSquares, Quadratic, Schedule, SpectralMeasure
from stepfold.problems import Preconditioned
from stepfold.schedules.noisy import noise_aware_ridge
from stepfold.unfolded import SampledLoss, UnfoldedIteration, train_exactly

ROWS, UNKNOWNS, BATCH = 60, 30, 40


def data(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((ROWS, UNKNOWNS)) / np.sqrt(ROWS)
    solutions = rng.standard_normal((BATCH, UNKNOWNS))
    rhs = solutions @ matrix.T + noise * rng.standard_normal((BATCH, ROWS))
    return matrix, rhs, solutions


def loss_of(steps: np.ndarray, matrix: np.ndarray, rhs: np.ndarray, wanted: np.ndarray) -> float:
    x = np.zeros_like(wanted)
    for gamma in steps:
        x = x - gamma * ((x @ matrix.T - rhs) @ matrix)
    return float(((x - wanted) ** 2).mean())


def best_in_krylov_space(
    matrix: np.ndarray, rhs: np.ndarray, wanted: np.ndarray, period: int
) -> float:
    """Smallest mean squared error of any polynomial, by dense least squares.

    The basis is made orthogonal twice in every step: powers of the Hessian alone would lose the
    third digit at 20 steps.
    """
    basis = np.empty((0, wanted.size))
    vector = rhs @ matrix
    for _ in range(period):
        column = vector.ravel()
        for _ in range(2):
            column = column - (basis @ column) @ basis
        basis = np.vstack([basis, column / np.linalg.norm(column)])
        vector = basis[-1].reshape(wanted.shape) @ (matrix.T @ matrix)
    residual = wanted.ravel() - (basis @ wanted.ravel()) @ basis
    return float((residual**2).mean())


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("period", [1, 3, 8])
def test_the_reported_loss_is_that_of_the_iteration(noise: float, period: int) -> None:
    matrix, rhs, solutions = data(noise)
    run = train_exactly(LeastSquares(matrix, rhs), solutions, period)
    expected = loss_of(run.schedule.steps, matrix, rhs, solutions)
    assert run.history.losses[0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("noise", "period"), [(0.0, 1), (0.0, 6), (0.03, 6), (0.3, 3)])
def test_no_polynomial_is_better_where_the_roots_are_real(noise: float, period: int) -> None:
    matrix, rhs, solutions = data(noise)
    run = train_exactly(LeastSquares(matrix, rhs), solutions, period)
    best = best_in_krylov_space(matrix, rhs, solutions, period)
    assert run.history.losses[0, 0] == pytest.approx(best, rel=1e-8)


def test_a_ridge_of_the_noise_level_makes_the_roots_real() -> None:
    matrix, rhs, solutions = data(0.3, seed=3)
    problem = LeastSquares(matrix, rhs, ridge=0.3**2)
    run = train_exactly(problem, solutions, 8)
    gamma = run.schedule.steps
    x = np.zeros_like(solutions)
    for step in gamma:
        x = x - step * problem.gradient(x)
    best = best_in_krylov_space(matrix, rhs, solutions, 8)
    assert float(((x - solutions) ** 2).mean()) == pytest.approx(best, rel=1e-3)
    assert run.history.losses[0, 0] == pytest.approx(float(((x - solutions) ** 2).mean()), rel=1e-9)


def test_many_noisy_data_give_the_steps_of_theory() -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((20, 10)) / np.sqrt(20)
    solutions = rng.standard_normal((40_000, 10))
    rhs = solutions @ matrix.T + 0.2 * rng.standard_normal((40_000, 20))
    run = train_exactly(LeastSquares(matrix, rhs, ridge=0.04), solutions, 3)
    measure = SpectralMeasure.from_eigenvalues(np.linalg.eigvalsh(matrix.T @ matrix))
    theory = noise_aware_ridge(measure, 3, noise=0.04).schedule
    np.testing.assert_allclose(np.sort(run.schedule.steps), np.sort(theory.steps), rtol=0.01)


@pytest.mark.parametrize("seed", range(6))
def test_no_random_start_of_a_local_search_beats_the_fit_to_noisy_data(seed: int) -> None:
    matrix, rhs, solutions = data(0.3)
    run = train_exactly(LeastSquares(matrix, rhs), solutions, 4)
    start = np.random.default_rng(seed).uniform(0.05, 3.0, 4)
    found = minimize(
        lambda steps: loss_of(np.abs(steps), matrix, rhs, solutions), start, method="BFGS"
    )
    assert run.history.losses[0, 0] <= found.fun * (1 + 1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_backpropagation_ends_where_exact_training_starts(noise: float) -> None:
    matrix, rhs, solutions = data(noise)
    run = train_exactly(LeastSquares(matrix, rhs), solutions, 5)
    problem, target = LeastSquares(torch.tensor(matrix), torch.tensor(rhs)), torch.tensor(solutions)
    network = UnfoldedIteration(Schedule(np.linspace(0.4, 1.6, 5)))
    loss = SampledLoss(lambda _rng: (problem, target))
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=400, tolerance_grad=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(network, 5, np.random.default_rng(0))
        value.backward()
        return value.item()

    optimizer.step(closure)
    assert closure() == pytest.approx(run.history.losses[0, 0], rel=1e-7)
    learned = np.sort(network.schedule().steps)
    np.testing.assert_allclose(learned, np.sort(run.schedule.steps), rtol=1e-4)


def dense_tensor(matrix: np.ndarray) -> torch.Tensor:
    return torch.tensor(matrix)


KINDS: dict[str, Callable[[np.ndarray], object]] = {
    "sparse": scipy.sparse.csr_array,
    "LinearOperator": aslinearoperator,
    "tensor": dense_tensor,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_every_kind_of_operator_gives_the_same_steps(kind: str, noise: float) -> None:
    matrix, rhs, solutions = data(noise)
    expected = train_exactly(LeastSquares(matrix, rhs), solutions, 5).schedule.steps
    is_tensor = kind == "tensor"
    vectors = [torch.tensor(v) if is_tensor else v for v in (rhs, solutions)]
    problem = LeastSquares(KINDS[kind](matrix), vectors[0])
    steps = train_exactly(problem, vectors[1], 5).schedule.steps
    np.testing.assert_allclose(steps, expected, rtol=1e-9)


def test_single_precision_data_are_taken_for_exact() -> None:
    matrix, rhs, solutions = data(0.0)
    expected = train_exactly(LeastSquares(matrix, rhs), solutions, 6).schedule.steps
    problem = LeastSquares(torch.tensor(matrix).float(), torch.tensor(rhs).float())
    steps = train_exactly(problem, torch.tensor(solutions).float(), 6).schedule.steps
    np.testing.assert_allclose(steps, expected, rtol=1e-4)


# Half precision data differ from the others by up to 2⁻¹¹.
@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("kind", [LeastSquares, Quadratic])
def test_noisy_tensors_of_any_precision_give_the_steps_of_double(kind, dtype, rtol) -> None:
    matrix, rhs, solutions = data(0.1)
    if kind is Quadratic:
        matrix, rhs = matrix.T @ matrix, rhs @ matrix
    expected = train_exactly(kind(matrix, rhs), solutions, 3)
    tensors = [torch.tensor(values).to(dtype) for values in (matrix, rhs, solutions)]
    run = train_exactly(kind(*tensors[:2]), tensors[2], 3)
    np.testing.assert_allclose(run.schedule.steps, expected.schedule.steps, rtol=rtol)
    np.testing.assert_allclose(run.history.losses, expected.history.losses, rtol=rtol)


@pytest.mark.parametrize(
    ("unit", "options", "message"),
    [
        (1j, {"solutions": np.ones(2)}, r"`problem` must be real, got complex128; write real"),
        (1.0, {"solutions": 1j * np.ones(2)}, r"`solutions` must be real numbers, got complex"),
        (
            1.0,
            {"solutions": np.ones(2), "x0": 1j * np.ones(2)},
            r"`x0` must be real numbers, got complex",
        ),
    ],
)
def test_complex_data_are_refused(unit, options, message) -> None:
    problem = LeastSquares(unit * np.eye(2), unit * np.ones(2))
    with pytest.raises(TypeError, match=message):
        train_exactly(problem, period=1, **options)


EYE, ONES = torch.eye(2).double(), torch.ones(2).double()


@pytest.mark.parametrize(
    ("problem", "solutions", "error", "message"),
    [
        (LeastSquares(EYE, ONES), np.ones(2), TypeError, r"what the problem is made of, Tensor, g"),
        (LeastSquares(np.eye(2), np.ones(2)), ONES, TypeError, r"made of, ndarray, got Tensor; co"),
        (LeastSquares(EYE, ONES), ONES.float(), ValueError, r"torch\.float64 on cpu, got torch\.f"),
        (LeastSquares(EYE, ONES), ONES.to("meta"), ValueError, r"got torch\.float64 on meta; conv"),
        (
            LeastSquares(np.eye(2), np.ones(2)),
            np.ma.masked_array(np.ones(2), [True, False]),
            TypeError,
            r"`solutions` must be real numbers, got a masked array",
        ),
        (
            LeastSquares(300 * torch.eye(2).half(), torch.tensor([60, 90]).half()),
            torch.ones(2).half(),
            ValueError,
            r"`problem` overflows: .* not finite in torch\.float16; scale the data",
        ),
    ],
)
def test_data_that_do_not_fit_the_problem_are_refused(problem, solutions, error, message) -> None:
    with pytest.raises(error, match=message):
        train_exactly(problem, solutions, 1)


def test_a_start_moves_the_errors() -> None:
    matrix, rhs, solutions = data(0.0)
    x0 = np.random.default_rng(9).standard_normal(solutions.shape)
    moved = train_exactly(LeastSquares(matrix, rhs), solutions, 4, x0=x0)
    same = train_exactly(LeastSquares(matrix, rhs - x0 @ matrix.T), solutions - x0, 4)
    np.testing.assert_allclose(moved.schedule.steps, same.schedule.steps, rtol=1e-9)


def test_the_batch_costs_one_product_of_the_hessian_a_step(counting: type) -> None:
    rng = np.random.default_rng(0)
    hessian = np.diag(np.linspace(1.0, 5.0, 20))
    operator = counting(hessian)
    solutions = rng.standard_normal((7, 20))
    problem = Quadratic(operator, solutions @ hessian)
    train_exactly(problem, solutions, 6)
    # Three products show that the operator serves a batch, and one that it is real.
    assert operator.counter[0] <= 6 + 1 + 4


def test_an_iteration_that_is_no_gradient_descent_is_refused() -> None:
    problem = Preconditioned(Quadratic(np.eye(2), np.ones(2)), np.ones(2))
    with pytest.raises(TypeError, match="LeastSquares or Quadratic, got Preconditioned"):
        train_exactly(problem, np.ones(2), 1)


def test_solutions_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`solutions` must have the shape .*\(2,\), got \(3,\)"):
        train_exactly(Quadratic(np.eye(2), np.ones(2)), np.ones(3), 1)


def test_solutions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="`solutions` must be finite"):
        train_exactly(Quadratic(np.eye(2), np.ones(2)), np.array([1.0, np.nan]), 1)


def test_a_start_at_the_solution_is_refused() -> None:
    with pytest.raises(ValueError, match="must differ from the start"):
        train_exactly(Quadratic(np.eye(2), np.zeros(2)), np.zeros(2), 1)


def test_more_steps_than_distinct_eigenvalues_are_refused() -> None:
    problem = Quadratic(np.diag([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 2.1]))
    with pytest.raises(ValueError, match=r"`period` must be at most 2, .*got 3"):
        train_exactly(problem, np.array([1.0, 2.0, 1.0]), 3)


def test_depth_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="`period`"):
        train_exactly(Quadratic(np.eye(2), np.ones(2)), np.ones(2), 0)
