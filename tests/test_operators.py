"""Operators that are known by their products: functions, objects and modules."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stepfold import (
    L1,
    Composite,
    Gram,
    LeastSquares,
    Logistic,
    Quadratic,
    Schedule,
    chebyshev_steps,
    estimate_bounds,
    lanczos_measure,
    lasso,
    optimal_steps,
    period,
    plan,
    solve,
)
from stepfold.measure import residual_measure
from stepfold.operators import LinearMap, linear_map
from stepfold.problems import ImageProblem, Preconditioned
from stepfold.unfolded import UnfoldedIteration

RNG = np.random.default_rng(7)
REAL = RNG.standard_normal((40, 24))
COMPLEX = REAL + 1j * RNG.standard_normal((40, 24))
RIGHT = np.random.default_rng(8).standard_normal((3, 40))
DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64]


def tensor(dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(COMPLEX if dtype.is_complex else REAL).to(dtype)


class Conjugating:
    """Products with vectors only, and an adjoint."""

    def __init__(self, matrix: torch.Tensor, declared: Any = None) -> None:
        self.matrix, self.shape = matrix, tuple(matrix.shape)
        if declared is not None:
            self.dtype = declared

    def __matmul__(self, x: torch.Tensor) -> torch.Tensor:
        assert x.ndim == 1, "vectors only"
        return self.matrix @ x

    @property
    def H(self) -> Any:
        twin = copy.copy(self)
        twin.matrix, twin.shape = self.matrix.mH, self.shape[::-1]
        return twin


class Transposing:
    """Products with vectors and columns, and a transpose."""

    def __init__(self, matrix: Any) -> None:
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def __matmul__(self, x: Any) -> Any:
        return self.matrix @ x

    @property
    def T(self) -> Any:
        return Transposing(self.matrix.T)


class Pair:
    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.shape = matrix, tuple(matrix.shape)


class Matvec(Pair):
    def matvec(self, x: torch.Tensor) -> torch.Tensor:
        return self.matrix @ x

    def rmatvec(self, y: torch.Tensor) -> torch.Tensor:
        return self.matrix.mH @ y


class Forward(Pair):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.matrix @ x

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.matrix.mH @ y


class Layer(nn.Module):
    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.shape = nn.Parameter(matrix), tuple(matrix.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T


def bare(matrix: torch.Tensor) -> LinearMap:
    return linear_map(lambda x: matrix @ x, shape=tuple(matrix.shape))


KINDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "H": Conjugating,
    "T": Transposing,
    "matvec": Matvec,
    "forward": Forward,
    "pair": lambda matrix: (lambda x: matrix @ x, lambda y: matrix.mH @ y),
    "module": Layer,
    "function": bare,
    "partial": lambda matrix: linear_map(
        functools.partial(torch.mv, matrix), shape=tuple(matrix.shape)
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_operator_has_the_gradient_of_its_matrix(
    kind: str, dtype: torch.dtype
) -> None:
    matrix, rows = tensor(dtype), torch.from_numpy(RIGHT).to(dtype)
    wanted, got = (LeastSquares(each, rows) for each in (matrix, KINDS[kind](matrix)))
    x = torch.from_numpy(RIGHT[:, :24]).to(dtype)
    tolerance = 1e-4 if dtype in (torch.float32, torch.complex64) else 1e-11
    torch.testing.assert_close(got.gradient(x), wanted.gradient(x), rtol=tolerance, atol=tolerance)
    one = LeastSquares(KINDS[kind](matrix), rows[0]).gradient(x[0])
    torch.testing.assert_close(one, wanted.gradient(x)[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_operator_has_the_bounds_of_its_matrix(kind: str, dtype: torch.dtype) -> None:
    matrix = tensor(dtype)
    largest = float(torch.linalg.matrix_norm(matrix.to(torch.complex128), 2)) ** 2
    problem = LeastSquares(KINDS[kind](matrix), torch.ones(40, dtype=dtype))
    bounds = estimate_bounds(problem)
    assert largest * (1 - 1e-6) <= bounds.upper <= 1.03 * largest
    assert plan(problem).bounds.upper == pytest.approx(bounds.upper, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_operator_is_solved_and_unfolded(kind: str) -> None:
    matrix, rows = tensor(torch.float64), torch.from_numpy(RIGHT)
    wanted = torch.linalg.lstsq(matrix, rows.T).solution.T
    problem = LeastSquares(KINDS[kind](matrix), rows)
    schedule = chebyshev_steps(estimate_bounds(problem), 8)
    for result in (solve(problem), solve(problem, schedule)):
        assert result.converged
        assert not result.x.requires_grad
        torch.testing.assert_close(result.x, wanted, rtol=1e-6, atol=1e-6)
    network = UnfoldedIteration(schedule)
    output = network(problem, torch.zeros(3, 24, dtype=torch.float64))
    dense = network(LeastSquares(matrix, rows), torch.zeros(3, 24, dtype=torch.float64))
    torch.testing.assert_close(output, dense, rtol=1e-10, atol=1e-10)
    (got,) = torch.autograd.grad(output.square().sum(), network.stacked_parameters()[0])
    (expected,) = torch.autograd.grad(dense.square().sum(), network.stacked_parameters()[0])
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_operator_has_a_lasso(kind: str) -> None:
    matrix, rows = tensor(torch.complex128), torch.from_numpy(RIGHT[0]).to(torch.complex128)
    results = [solve(lasso(each, rows, ratio=0.3)) for each in (matrix, KINDS[kind](matrix))]
    assert all(result.converged for result in results)
    torch.testing.assert_close(results[0].x, results[1].x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("kind", ["H", "T", "matvec", "forward", "module", "function"])
def test_measures_of_an_operator_are_those_of_its_matrix(kind: str, dtype: torch.dtype) -> None:
    matrix = tensor(dtype)
    hessian = matrix.mH @ matrix
    wanted = np.linalg.eigvalsh(hessian.numpy())
    for operator in (KINDS[kind](hessian), Gram(KINDS[kind](matrix))):
        nodes = lanczos_measure(operator, num_nodes=48, num_probes=1).nodes
        assert nodes.max() == pytest.approx(wanted[-1], rel=1e-9)
        assert nodes.min() == pytest.approx(wanted[0], rel=1e-6)
    residual = torch.from_numpy(RIGHT[0]).to(dtype)
    steps = [
        optimal_steps(residual_measure(each, residual, num_nodes=6), 4).steps
        for each in (matrix, KINDS[kind](matrix))
    ]
    np.testing.assert_allclose(np.sort(steps[0]), np.sort(steps[1]), rtol=1e-8)


@pytest.mark.parametrize("declared", [None, torch.complex64, np.complex64, "complex64"])
def test_declaring_a_dtype_changes_nothing(declared: Any) -> None:
    matrix = tensor(torch.complex64)[:24]
    hessian = (matrix.mH @ matrix) / 24
    wanted = float(np.linalg.eigvalsh(hessian.numpy())[-1])
    for operator in (Conjugating(hessian, declared), Transposing(hessian)):
        if declared is not None:
            operator.dtype = declared
        assert wanted * (1 - 1e-6) <= estimate_bounds(operator).upper <= 1.03 * wanted
        rhs = torch.ones(24, dtype=torch.complex64)
        gradient = LeastSquares(operator, rhs).gradient(0 * rhs)
        torch.testing.assert_close(gradient, -(hessian.mH @ rhs), rtol=1e-4, atol=1e-4)


def test_a_function_of_torch_is_found_to_be_one() -> None:
    kernel = torch.tensor([[1.0, 2.0, 1.0]])

    def blur(v: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv1d(v[None, None], kernel[None], padding=1)[0, 0] + v

    bounds = estimate_bounds(blur, shape=(64, 64))  # its kernel is in single precision
    true = 3 + 2 * np.cos(np.pi / 65)
    assert true * (1 - 1e-6) <= bounds.upper <= 1.03 * true


GLOBAL = torch.linspace(1.0, 5.0, 30, dtype=torch.float64)


def test_a_function_of_a_global_tensor_is_tried_with_tensors_first() -> None:
    calls: list[Any] = []

    def function(x: Any) -> Any:
        calls.append(type(x))
        return GLOBAL * x

    bounds = estimate_bounds(function, shape=(30, 30))
    assert 5.0 * (1 - 1e-9) <= bounds.upper <= 5.15
    assert set(calls) == {torch.Tensor}
    assert bounds.num_products == len(calls)


def test_a_preconditioner_may_be_a_function() -> None:
    problem = Preconditioned(Quadratic(torch.diag(GLOBAL), GLOBAL), lambda x: x / GLOBAL)
    assert 1.0 <= estimate_bounds(problem).upper <= 1.04
    torch.testing.assert_close(solve(problem).x, torch.ones_like(GLOBAL))


def test_a_complex_function_has_the_bounds_of_its_matrix() -> None:
    size = 32
    weights = torch.linspace(1.0, 4.0, size, dtype=torch.float64)

    def filtered(v: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft(weights * torch.fft.fft(v))

    bounds = estimate_bounds(filtered, shape=(size, size))
    assert 4.0 * (1 - 1e-9) <= bounds.upper <= 4.12
    calls: list[int] = []

    def counted(v: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.fft.ifft(np.linspace(1.0, 4.0, size) * np.fft.fft(v))

    found = estimate_bounds(counted, shape=(size, size))
    assert 4.0 * (1 - 1e-9) <= found.upper <= 4.12
    assert found.num_products == len(calls) - 1  # one more told that it is complex


def test_the_caller_says_what_vectors_are() -> None:
    seen: list[torch.dtype] = []

    def function(v: torch.Tensor) -> torch.Tensor:
        seen.append(v.dtype)
        return 2 * v

    estimate_bounds(function, shape=(5, 5), like=torch.float32)
    estimate_bounds(function, shape=(5, 5), like=torch.zeros(1, dtype=torch.float32))
    assert set(seen) == {torch.float32}
    measure = lanczos_measure(function, shape=(5, 5), like=torch.float32, num_nodes=2)
    np.testing.assert_allclose(measure.nodes, 2.0, rtol=1e-6)


def test_a_function_that_takes_no_vector_is_refused_with_what_was_tried() -> None:
    def function(_: Any) -> Any:
        raise LookupError("no such key")

    with pytest.raises(TypeError, match=r"`hessian` must take vectors.*`like=`.*no such key"):
        estimate_bounds(function, shape=(5, 5))


WRONG: dict[str, Callable[[torch.Tensor], Any]] = {
    "pair": lambda matrix: (lambda x: matrix @ x, lambda y: (matrix.mH * 1.01) @ y),
    "transpose": lambda matrix: (lambda x: matrix @ x, lambda y: matrix.T @ y),
    "bias": lambda matrix: nn.Linear(24, 40, dtype=matrix.dtype),
    "nonlinear": lambda matrix: linear_map(lambda x: (matrix @ x).abs(), shape=(40, 24)),
}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("pair", torch.float64),
        ("pair", torch.float32),
        ("pair", torch.complex64),
        ("transpose", torch.complex128),
        ("bias", torch.float32),
        ("nonlinear", torch.float64),
    ],
)
def test_an_adjoint_that_is_none_is_refused(kind: str, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"adjoint of `operator` must satisfy.*check `\.H`"):
        LeastSquares(WRONG[kind](tensor(dtype)), torch.ones(40, dtype=dtype))


def test_a_transpose_is_no_adjoint_of_a_complex_map_of_real_data() -> None:
    matrix = tensor(torch.complex128)
    pair = (lambda x: matrix @ x.to(matrix.dtype), lambda y: matrix.T @ y.to(matrix.dtype))
    with pytest.raises(ValueError, match="adjoint of `operator` must satisfy"):
        LeastSquares(pair, torch.ones(40, dtype=torch.float64))  # type: ignore[arg-type]


def test_the_first_products_of_an_array_s_operator_test_its_adjoint() -> None:
    class Wrong(Transposing):
        count = 0

        def __matmul__(self, x: Any) -> Any:
            Wrong.count += 1
            return super().__matmul__(x)

        @property
        def T(self) -> Any:
            return Wrong(2 * self.matrix.T)

    problem = LeastSquares(Wrong(REAL), RIGHT[0])
    assert Wrong.count == 0
    with pytest.raises(ValueError, match="adjoint of `operator` must satisfy"):
        solve(problem)


def test_another_adjoint_of_a_tested_map_is_tested_too() -> None:
    def forward(x: Any) -> Any:
        return REAL @ x

    def adjoint(y: Any) -> Any:
        return REAL.T @ y

    LeastSquares((forward, adjoint), RIGHT[0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="adjoint of `operator` must satisfy"):
        LeastSquares((forward, lambda y: 2 * adjoint(y)), RIGHT[0])  # type: ignore[arg-type]


def test_an_operator_is_tested_once() -> None:
    calls: list[int] = []
    matrix = tensor(torch.float64)

    def forward(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return matrix @ x

    def adjoint(y: torch.Tensor) -> torch.Tensor:
        return matrix.T @ y

    rows = torch.from_numpy(RIGHT[0])
    LeastSquares((forward, adjoint), rows, shape=(40, 24))  # type: ignore[arg-type]
    first = len(calls)
    LeastSquares((forward, adjoint), rows, shape=(40, 24))  # type: ignore[arg-type]
    assert first == 1
    assert len(calls) == 1


def test_a_map_that_takes_matrices_for_something_else_goes_row_by_row() -> None:
    class Fourier:
        """Transforms along the last axis: wrong for columns."""

        shape = (8, 8)

        def __matmul__(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft(x, norm="ortho")

        @property
        def H(self) -> Any:
            return Inverse()

    class Inverse(Fourier):
        def __matmul__(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.ifft(x, norm="ortho")

        @property
        def H(self) -> Any:
            return Fourier()

    rows = torch.from_numpy(COMPLEX[:8, :8])
    result = solve(LeastSquares(Fourier(), rows))
    torch.testing.assert_close(result.x, torch.fft.ifft(rows, norm="ortho"))


def test_a_module_without_an_adjoint_takes_gradients_to_its_weights() -> None:
    layer = Layer(tensor(torch.float64))
    problem = LeastSquares(layer, torch.from_numpy(RIGHT))
    x = torch.from_numpy(RIGHT[:, :24])
    problem.gradient(x).square().sum().backward()
    weight = tensor(torch.float64).requires_grad_()
    (((x @ weight.T - torch.from_numpy(RIGHT)) @ weight).square().sum()).backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad)


def test_a_quadratic_takes_a_function_and_a_logistic_a_pair() -> None:
    diagonal = torch.linspace(1.0, 5.0, 24, dtype=torch.float64)
    result = solve(Quadratic(lambda x: diagonal * x, torch.ones(24, dtype=torch.float64)))  # type: ignore[arg-type]
    torch.testing.assert_close(result.x, 1 / diagonal)
    matrix = tensor(torch.float64)
    labels = torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0).double()
    pair = (lambda x: matrix @ x, lambda y: matrix.T @ y)
    found, wanted = (
        solve(Logistic(each, labels, ridge=1.0)).x
        for each in (pair, matrix)  # type: ignore[arg-type]
    )
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_images_go_through_as_images() -> None:
    kernel = torch.randn(
        4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )

    def forward(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, kernel, padding=1, stride=2)

    def backward(y: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv_transpose2d(y, kernel, padding=1, stride=2, output_padding=1)

    shapes = ((4, 8, 8), (3, 16, 16))
    images = torch.randn(
        5, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    for operator in (
        linear_map(forward, backward, shape=shapes),
        linear_map(forward, shape=shapes),
    ):
        assert operator.shape == (256, 768)
        torch.testing.assert_close(operator(images), forward(images))
        torch.testing.assert_close(operator.H(forward(images)), backward(forward(images)))
        torch.testing.assert_close(operator(images[0]), forward(images)[0])
        problem = LeastSquares(operator, forward(images).reshape(5, -1), ridge=0.1)
        assert solve(problem, Schedule([0.01]), max_steps=3).x.shape == (5, 768)
    with pytest.raises(ValueError, match=r"`x` must have shape \(3, 16, 16\)"):
        operator(images[..., :8])


def test_a_problem_of_images_is_that_of_their_rows() -> None:
    rng = torch.Generator().manual_seed(5)
    kernel = torch.randn(2, 3, 3, 3, dtype=torch.float64, generator=rng)
    blur = linear_map(
        lambda x: nn.functional.conv2d(x, kernel, padding=1),
        lambda y: nn.functional.conv_transpose2d(y, kernel, padding=1),
        shape=((2, 6, 5), (3, 6, 5)),
    )
    y = torch.randn(4, 60, dtype=torch.float64, generator=rng)
    flat = LeastSquares(blur, y, ridge=0.5)
    problem: ImageProblem[torch.Tensor] = ImageProblem(flat)
    bounds = estimate_bounds(problem)
    assert bounds == estimate_bounds(flat)
    x = torch.randn(4, 3, 6, 5, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(problem.value(x), flat.value(x.flatten(1)))
    torch.testing.assert_close(problem.gradient(x).flatten(1), flat.gradient(x.flatten(1)))
    schedule, shown = chebyshev_steps(bounds, 8), []
    for steps in (None, schedule):
        result = solve(problem, steps, x, keep_iterates=True, callback=lambda _, x: shown.append(x))
        assert result.converged
        assert result.x.shape == x.shape == shown[0].shape
        assert result.history.iterates is not None
        assert result.history.iterates[-1].shape == x.shape
        torch.testing.assert_close(result.x.flatten(1), solve(flat).x, rtol=1e-6, atol=1e-7)
    network = UnfoldedIteration(schedule)
    torch.testing.assert_close(network(problem).flatten(1), network(flat))
    torch.testing.assert_close(period(problem, schedule)(x), network(problem, x))
    with pytest.raises(ValueError, match=r"`x` must have shape \(3, 6, 5\) or \(batch, 3, 6, 5\)"):
        problem.gradient(x[:, :2])
    with pytest.raises(TypeError, match="`shape` must be given"):
        ImageProblem(LeastSquares(np.eye(4), np.ones(4)))
    with pytest.raises(ValueError, match="as many entries as the problem has unknowns, 4"):
        ImageProblem(LeastSquares(np.eye(4), np.ones(4)), (3, 2))
    with pytest.raises(TypeError, match="pass its `flat`"):
        Composite(problem, L1(0.1))


def test_a_module_of_another_precision_than_the_data_is_refused() -> None:
    message = r"`operator` must take vectors such as the right-hand side, .*torch\.float64 on cpu"
    with pytest.raises(TypeError, match=message):
        LeastSquares(nn.Linear(24, 40, bias=False), torch.ones(40, dtype=torch.float64))
