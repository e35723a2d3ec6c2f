"""Gradients of problems on every backend, and what the constructors refuse."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from stepfold import Gram, LeastSquares, Problem, Quadratic
from stepfold.problems import Logistic, jacobi_iteration
from stepfold.problems.base import check_library

MATRIX = np.random.default_rng(0).standard_normal((5, 3))
SYMMETRIC = MATRIX.T @ MATRIX
BACKENDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "list": lambda a: a.tolist(),
    "np.matrix": lambda a: a.view(np.matrix),
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "csr_matrix": sp.csr_matrix,
    "LinearOperator": aslinearoperator,
}
backends = pytest.mark.parametrize("backend", BACKENDS)
row_shapes = pytest.mark.parametrize("batch", [(), (1,), (4,)])


def rows(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@backends
@row_shapes
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_the_least_squares_gradient_is_that_of_its_rows(
    backend: str, batch: tuple[int, ...], ridge: float
) -> None:
    rhs, x = rows((*batch, 5)), rows((*batch, 3), seed=2)
    problem = LeastSquares(BACKENDS[backend](MATRIX), rhs, ridge=ridge)
    expected = (x @ MATRIX.T - rhs) @ MATRIX + ridge * x
    np.testing.assert_allclose(problem.gradient(x), expected, rtol=1e-12)
    np.testing.assert_allclose(problem.gradient_step(x, 0.25), x - 0.25 * expected, rtol=1e-12)
    np.testing.assert_allclose(problem.linear_term, rhs @ MATRIX, rtol=1e-12)
    assert problem.gradient(x).shape == x.shape


@backends
@row_shapes
def test_the_quadratic_gradient_is_that_of_its_rows(backend: str, batch: tuple[int, ...]) -> None:
    rhs, x = rows((*batch, 3)), rows((*batch, 3), seed=2)
    problem = Quadratic(BACKENDS[backend](SYMMETRIC), rhs)
    expected = x @ SYMMETRIC - rhs
    np.testing.assert_allclose(problem.gradient(x), expected, rtol=1e-12)
    np.testing.assert_allclose(problem.gradient_step(x, 0.25), x - 0.25 * expected, rtol=1e-12)
    assert problem.linear_term is problem.rhs


@row_shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_tensors_are_those_of_arrays(
    dtype: torch.dtype, batch: tuple[int, ...]
) -> None:
    rhs, x = rows((*batch, 5)), rows((*batch, 3), seed=2)
    tensors = [torch.tensor(array, dtype=dtype) for array in (MATRIX, rhs, x)]
    gradient = LeastSquares(*tensors[:2], ridge=0.5).gradient(tensors[2])
    assert gradient.dtype == dtype
    expected = LeastSquares(MATRIX, rhs, ridge=0.5).gradient(x)
    rtol = 1e-12 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=rtol)


def test_the_step_size_of_a_tensor_carries_its_gradient() -> None:
    problem = LeastSquares(torch.tensor(MATRIX), torch.tensor(rows((5,))))
    gamma = torch.tensor(0.1, requires_grad=True)
    x = torch.ones(3, dtype=torch.float64)
    problem.gradient_step(x, gamma).sum().backward()
    assert gamma.grad.item() == pytest.approx(-problem.gradient(x).sum().item(), rel=1e-6)


@pytest.mark.parametrize("problem_type", [LeastSquares, Quadratic])
def test_the_gradient_is_the_hessian_times_x_less_the_linear_term(
    problem_type: type[Problem],
) -> None:
    problem = problem_type(SYMMETRIC, rows((3,)))
    x = rows((3,), seed=2)
    expected = problem.hessian @ x - problem.linear_term
    np.testing.assert_allclose(problem.gradient(x), expected, rtol=1e-11)


def test_the_hessian_of_least_squares_remembers_its_factor() -> None:
    problem = LeastSquares(MATRIX, rows((5,)), ridge=0.5)
    assert isinstance(problem.hessian, Gram)
    assert problem.hessian.factor is problem.operator
    assert problem.hessian.shift == 0.5


@pytest.mark.parametrize("kind", [np.int32, np.uint8, bool])
def test_integers_become_float64(kind: type) -> None:
    problem = LeastSquares(np.eye(2, dtype=kind), np.array([1, 0], kind))
    assert (problem.operator.dtype, problem.rhs.dtype) == (np.float64, np.float64)


def test_integer_tensors_become_float64() -> None:
    problem = LeastSquares(torch.tensor([[2, 0], [0, 1]]), torch.tensor([1, 2]))
    assert problem.gradient(torch.zeros(2).double()).tolist() == [-2.0, -2.0]


def test_lists_serve_as_a_right_hand_side() -> None:
    assert LeastSquares(np.eye(2), [1, 2]).gradient(np.zeros(2)).tolist() == [-1.0, -2.0]


def test_float32_stays_float32() -> None:
    problem = LeastSquares(MATRIX.astype(np.float32), np.ones(5, np.float32), ridge=0.1)
    assert problem.gradient_step(np.ones(3, np.float32), 0.1).dtype == np.float32


def test_float_arguments_are_kept_and_not_copied() -> None:
    matrix, rhs = MATRIX.copy(), rows((5,))
    problem = LeastSquares(matrix, rhs)
    assert problem.operator is matrix
    assert problem.rhs is rhs


def test_products_per_gradient() -> None:
    assert LeastSquares(MATRIX, rows((5,))).products_per_gradient == 2
    assert Quadratic(SYMMETRIC, rows((3,))).products_per_gradient == 1


@pytest.mark.parametrize("shape", [(3,), (1, 4), (5, 3), (0, 5), (2, 2, 5), ()])
def test_right_hand_sides_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    message = f"`rhs` must have shape (5,) or (batch, 5) to fit the rows of `operator`, got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        LeastSquares(MATRIX, np.ones(shape))


def test_a_right_hand_side_that_does_not_fit_the_hessian_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`rhs` must have shape \(3,\).* to fit `hessian`, got"):
        Quadratic(SYMMETRIC, np.ones(4))


@pytest.mark.parametrize("rhs", ["b", None, {1, 2}, sp])
def test_right_hand_sides_that_are_no_arrays_are_refused(rhs: object) -> None:
    with pytest.raises(TypeError, match=r"`rhs` must be an array, got "):
        LeastSquares(MATRIX, rhs)


@pytest.mark.parametrize(
    "rhs", [np.array(["a"] * 5), np.zeros(5, "datetime64[s]"), np.zeros(5, object)]
)
def test_right_hand_sides_that_are_no_numbers_are_refused(rhs: object) -> None:
    with pytest.raises(TypeError, match=r"`rhs` must be real or complex, got dtype "):
        LeastSquares(MATRIX, rhs)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_right_hand_sides_that_are_not_finite_are_refused(
    convert: Callable[..., Any], value: float
) -> None:
    with pytest.raises(ValueError, match=r"`rhs` must be finite, got .*; remove or replace the"):
        LeastSquares(MATRIX, convert([1.0, value, 1.0, 1.0, 1.0]))


@pytest.mark.parametrize("ridge", [-1.0, math.nan, math.inf])
def test_a_negative_or_infinite_ridge_is_refused(ridge: float) -> None:
    with pytest.raises(ValueError, match=rf"`ridge` must be at least 0 and finite, got {ridge}"):
        LeastSquares(MATRIX, np.ones(5), ridge=ridge)


def test_a_rectangular_hessian_is_refused() -> None:
    message = r"`hessian` must be square, got shape \(5, 3\); for a rectangular matrix use `Least"
    with pytest.raises(ValueError, match=message):
        Quadratic(MATRIX, np.ones(5))


@pytest.mark.parametrize(
    ("problem_type", "name"), [(LeastSquares, "operator"), (Quadratic, "hessian")]
)
def test_what_is_no_matrix_is_refused_by_the_argument_s_name(
    problem_type: type[Problem], name: str
) -> None:
    with pytest.raises(TypeError, match=rf"`{name}` must be a matrix or a linear operator"):
        problem_type(3.0, np.ones(1))
    with pytest.raises(ValueError, match=rf"`{name}` must be finite, got nan"):
        problem_type(np.array([[np.nan]]), np.ones(1))


TWO_LIBRARIES = [
    (torch.eye(2), np.ones(2)),
    (np.eye(2), torch.ones(2)),
    (sp.csr_array(np.eye(2)), torch.ones(2)),
]


@pytest.mark.parametrize(("matrix", "rhs"), TWO_LIBRARIES)
@pytest.mark.parametrize(
    ("pose", "name"),
    [
        (LeastSquares, "operator"),
        (Quadratic, "hessian"),
        (Logistic, "operator"),
        (jacobi_iteration, "matrix"),
    ],
)
def test_data_of_two_libraries_are_refused(
    pose: Callable[..., object], name: str, matrix: object, rhs: object
) -> None:
    with pytest.raises(TypeError, match=rf"and `{name}` must be of one library, .*; pass `.*, or"):
        pose(matrix, rhs)


@pytest.mark.parametrize("pose", [LeastSquares, Quadratic])
def test_a_tensor_with_an_operator_of_scipy_is_refused(pose: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"must be of one library, .* pass `rhs.numpy\(\)`"):
        pose(aslinearoperator(np.eye(2)), torch.ones(2))


@pytest.mark.parametrize("pose", [LeastSquares, Quadratic])
def test_an_array_with_a_sparse_tensor_is_refused(pose: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"one library, .* pass `torch.from_numpy\(rhs\)`"):
        pose(torch.eye(2).to_sparse(), np.ones((3, 2)))


@pytest.mark.parametrize(
    ("pose", "name", "rows"),
    [
        (LeastSquares, "operator", "rhs"),
        (Quadratic, "hessian", "rhs"),
        (Logistic, "operator", "labels"),
        (jacobi_iteration, "matrix", "rhs"),
    ],
)
def test_tensors_of_two_dtypes_are_refused(
    pose: Callable[..., object], name: str, rows: str
) -> None:
    message = (
        rf"`{rows}` and `{name}` must be of one dtype, got torch.float64 and torch.float32: .*; "
        rf"pass `{rows}.to\(torch.float32\)`, or convert `{name}`"
    )
    with pytest.raises(TypeError, match=message):
        pose(torch.eye(2), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("convert", [lambda a: a.to_sparse(), lambda a: a.to_sparse_csr()])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_sparse_tensors_of_two_dtypes_are_refused(convert: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"must be of one dtype, got torch\.float64 and"):
        LeastSquares(convert(torch.eye(2)), torch.ones(2, dtype=torch.float64))


def test_a_complex_right_hand_side_of_a_real_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"pass `rhs.real`, or convert `operator`"):
        LeastSquares(torch.eye(2), 1j * torch.ones(2))


def test_tensors_on_two_devices_are_refused() -> None:
    message = r"must be of one device, got cpu and meta: .*; pass `rhs.to\('meta'\)`"
    with pytest.raises(TypeError, match=message):
        check_library("rhs", torch.ones(2), "`operator`", torch.empty(2, 2, device="meta"))


@pytest.mark.parametrize("pose", [LeastSquares, Quadratic])
def test_arrays_of_two_dtypes_are_promoted(pose: Callable[..., Any]) -> None:
    problem = pose(np.eye(2, dtype=np.float32), np.ones(2))
    assert problem.gradient(np.zeros(2)).dtype == np.float64


def test_an_operator_of_scipy_without_an_adjoint_is_refused_where_it_is_posed() -> None:
    operator = LinearOperator((3, 2), matvec=lambda x: np.ones((3, 2)) @ x, dtype=np.float64)
    with pytest.raises(TypeError, match=r"`operator` must have an adjoint.*rmatvec"):
        LeastSquares(operator, np.ones(3))
    assert Quadratic(LinearOperator((2, 2), matvec=lambda x: 2 * x), np.ones(2)).hessian.shape
