"""Steps in few bits, gradients in many; and preconditioners."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from stepfold import (
    LeastSquares,
    Quadratic,
    SpectralBounds,
    Status,
    chebyshev_steps,
    estimate_bounds,
    solve,
)
from stepfold.iterations.base import Iteration

SIZE = 50
RHS = np.random.default_rng(0).standard_normal(SIZE)


def low_twin(problem: Any, dtype: Any) -> Any:
    def cast(array: Any) -> Any:
        return array.to(dtype) if isinstance(array, torch.Tensor) else array.astype(dtype)

    if isinstance(problem, LeastSquares):
        return LeastSquares(cast(problem.operator), cast(problem.rhs), ridge=problem.ridge)
    return Quadratic(cast(problem.hessian), cast(problem.rhs))


@pytest.mark.parametrize("kappa", [10.0, 1e3])
@pytest.mark.parametrize("convert", [np.asarray, sp.csr_array, torch.tensor])
def test_steps_in_float32_reach_the_accuracy_of_float64(
    symmetric_with: Callable[..., np.ndarray], kappa: float, convert: Callable[..., Any]
) -> None:
    hessian = symmetric_with(np.linspace(1.0, kappa, SIZE))
    rhs = torch.tensor(RHS) if convert is torch.tensor else RHS
    dtype = torch.float32 if convert is torch.tensor else np.float32
    problem = Quadratic(convert(hessian), rhs)
    schedule = chebyshev_steps(SpectralBounds(1.0, kappa * (1 + 1e-6)), 32)
    result = solve(problem, schedule, rtol=0.0, low_precision=low_twin(problem, dtype))
    assert result.status is Status.STALLED
    solution = np.linalg.solve(hessian, RHS)
    error = np.linalg.norm(np.asarray(result.x) - solution) / np.linalg.norm(solution)
    assert error <= 10 * kappa * np.finfo(float).eps
    assert np.asarray(result.x).dtype == np.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_matrix_in_sixteen_bits_reaches_float64_on_a_well_conditioned_problem(
    symmetric_with: Callable[..., np.ndarray], dtype: torch.dtype
) -> None:
    hessian = symmetric_with(np.linspace(1.0, 8.0, SIZE))
    problem = Quadratic(torch.tensor(hessian), torch.tensor(RHS))
    schedule = chebyshev_steps(SpectralBounds(1.0, 8.1), 8)
    result = solve(problem, schedule, rtol=1e-14, low_precision=low_twin(problem, dtype))
    assert result.converged
    np.testing.assert_allclose(result.x.numpy(), np.linalg.solve(hessian, RHS), rtol=0, atol=1e-13)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_an_inconsistent_least_squares_problem_reaches_float64_too(
    factor_with: Callable[..., np.ndarray], ridge: float
) -> None:
    factor = factor_with(np.linspace(1.0, 6.0, SIZE), 80)
    rhs = np.random.default_rng(1).standard_normal((3, 80))
    problem = LeastSquares(factor, rhs, ridge=ridge)
    schedule = chebyshev_steps(estimate_bounds(problem), 16)
    result = solve(problem, schedule, rtol=1e-14, low_precision=low_twin(problem, np.float32))
    augmented = np.vstack([factor, np.sqrt(ridge) * np.eye(SIZE)])
    padded = np.hstack([rhs, np.zeros((3, SIZE))])
    expected = np.linalg.lstsq(augmented, padded.T, rcond=None)[0].T
    assert result.converged
    np.testing.assert_allclose(result.x, expected, rtol=0, atol=1e-13)


def test_most_products_are_made_in_low_precision_and_all_are_counted(counting: type) -> None:
    class Counting(counting):  # type: ignore[misc, valid-type]
        dtype = property(lambda self: self.matrix.dtype)

    matrix = np.diag(np.linspace(1.0, 9.0, SIZE))
    high, low = Counting(matrix), Counting(matrix.astype(np.float32))
    result = solve(
        Quadratic(high, RHS),
        chebyshev_steps(SpectralBounds(1.0, 9.1), 8),
        rtol=1e-13,
        low_precision=Quadratic(low, RHS.astype(np.float32)),
    )
    num_periods = result.num_steps // 8
    assert high.counter[0] == num_periods
    assert low.counter[0] == 7 * num_periods
    assert result.history.num_products[-1] == high.counter[0] + low.counter[0]


@pytest.mark.parametrize("scale", [1e-250, 1e-60, 1e60, 1e250])
def test_corrections_neither_vanish_nor_overflow_in_few_bits(scale: float) -> None:
    matrix = np.diag(np.linspace(1.0, 9.0, SIZE))
    problem = Quadratic(matrix, scale * RHS)
    result = solve(
        problem,
        chebyshev_steps(SpectralBounds(1.0, 9.1), 8),
        rtol=1e-13,
        low_precision=Quadratic(matrix.astype(np.float32), RHS.astype(np.float32)),
    )
    assert result.converged
    np.testing.assert_allclose(result.x / scale, RHS / np.diag(matrix), rtol=1e-12)


def test_a_wrong_bound_in_low_precision_is_mended(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    problem = Quadratic(symmetric_with(np.linspace(1.0, 40.0, SIZE)), RHS)
    schedule = chebyshev_steps(SpectralBounds(1.0, 20.0), 32)
    result = solve(problem, schedule, rtol=1e-12, low_precision=low_twin(problem, np.float32))
    assert result.converged
    assert len(result.events) == 1


class Other(Iteration[Any, Any]):
    def init(self, _: Any, x0: Any) -> Any:
        return x0

    def step(self, problem: Any, state: Any, gamma: Any, _: Any = None) -> Any:
        return problem.gradient_step(state, gamma)

    def iterate(self, state: Any) -> Any:
        return state


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"low_precision": np.eye(2)},
            TypeError,
            "`low_precision` must be a QuadraticProblem, got ndarray",
        ),
        (
            {"low_precision": Quadratic(np.eye(3), np.ones(3))},
            ValueError,
            r"`low_precision` must have a Hessian of shape \(2, 2\), got \(3, 3\)",
        ),
        (
            {"low_precision": Quadratic(np.eye(2), np.ones(2)), "iteration": Other()},
            ValueError,
            "`low_precision` needs the iteration `GradientDescent`, got Other",
        ),
    ],
)
def test_a_twin_that_does_not_fit_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    schedule = chebyshev_steps(SpectralBounds(1.0, 2.0), 2)
    with pytest.raises(error, match=message):
        solve(Quadratic(np.eye(2), np.ones(2)), schedule, **arguments)
