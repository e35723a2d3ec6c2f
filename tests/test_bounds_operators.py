"""Every kind of operator gives the bounds of its matrix, and misbehaving ones are told apart."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from stepfold import LeastSquares, Quadratic
from stepfold.problems import Composite, Logistic
from stepfold.problems.penalties import L1
from stepfold.spectrum import (
    Exact,
    Gram,
    Lanczos,
    Norms,
    SpectralBounds,
    estimate_bounds,
    exact_eigenvalues,
)

RNG = np.random.default_rng(0)
FACTOR = RNG.standard_normal((40, 25))
HESSIAN = FACTOR.T @ FACTOR
TRUTH = np.linalg.eigvalsh(HESSIAN)
VALUES = np.linspace(1.0, 2.0, 6)


class StandIn:
    """What pylops' operators look like from outside; they are not instances of SciPy's."""

    def __init__(self, matrix):
        self._matrix = matrix
        self.shape = matrix.shape
        self.dtype = matrix.dtype

    def matvec(self, x):
        return self._matrix @ x

    def rmatvec(self, x):
        return self._matrix.T @ x

    @property
    def T(self):
        return StandIn(self._matrix.T)

    def __matmul__(self, x):
        return self.matvec(x)

    def __call__(self, x):
        return self.matvec(x)


OPERATORS = {
    "dense": np.asarray,
    "read-only": lambda matrix: np.frombuffer(matrix.tobytes()).reshape(matrix.shape),
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "sparse matrix": sp.csr_matrix,
    "linear operator": aslinearoperator,
    "stand-in for pylops": StandIn,
    "tensor": torch.tensor,
}
NARROW = {
    "dense": lambda matrix: matrix.astype(np.float32),
    "csr": lambda matrix: sp.csr_array(matrix.astype(np.float32)),
    "linear operator": lambda matrix: aslinearoperator(matrix.astype(np.float32)),
    "stand-in": lambda matrix: StandIn(matrix.astype(np.float32)),
    "tensor": lambda matrix: torch.tensor(matrix, dtype=torch.float32),
}
METHODS = {"default": None, "lanczos": Lanczos()}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("convert", OPERATORS.values(), ids=OPERATORS)
def test_a_hessian_of_any_kind_is_bounded(convert, method):
    bounds = estimate_bounds(convert(HESSIAN), method=method)
    assert TRUTH[-1] * (1 - 1e-12) <= bounds.upper <= 1.03 * TRUTH[-1]
    assert bounds.lower <= TRUTH[0] * (1 + 1e-9)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("convert", OPERATORS.values(), ids=OPERATORS)
def test_a_factor_of_any_kind_is_bounded(convert, method):
    bounds = estimate_bounds(Gram(convert(FACTOR)), method=method)
    assert TRUTH[-1] * (1 - 1e-12) <= bounds.upper <= 1.03 * TRUTH[-1]
    assert bounds.lower <= TRUTH[0] * (1 + 1e-9)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("convert", NARROW.values(), ids=NARROW)
def test_float32_operators_are_bounded(convert, method):
    narrow = FACTOR.astype(np.float32).astype(np.float64)
    truth = np.linalg.norm(narrow, 2) ** 2
    bounds = estimate_bounds(Gram(convert(FACTOR)), method=method)
    assert truth * (1 - 1e-12) <= bounds.upper <= 1.03 * truth


@pytest.mark.parametrize("convert", NARROW.values(), ids=NARROW)
def test_float32_hessians_are_bounded(convert):
    bounds = estimate_bounds(convert(HESSIAN), method=Lanczos())
    assert TRUTH[-1] <= bounds.upper <= 1.03 * TRUTH[-1]


def test_an_integer_tensor_is_not_rounded():
    bounds = estimate_bounds(torch.tensor([[2, 1], [1, 2]]), method=Lanczos())
    assert bounds.upper == pytest.approx(3.0, rel=1e-6)


def test_a_tensor_that_needs_gradients_is_bounded_and_left_alone():
    matrix = torch.tensor(HESSIAN, requires_grad=True)
    assert estimate_bounds(matrix, method=Lanczos()).upper >= TRUTH[-1]
    assert matrix.grad is None
    assert exact_eigenvalues(matrix)[-1] == pytest.approx(TRUTH[-1])


def test_a_function_is_bounded_as_its_matrix():
    bounds = estimate_bounds(lambda v: HESSIAN @ v, shape=(25, 25))
    assert TRUTH[-1] <= bounds.upper <= 1.03 * TRUTH[-1]
    assert bounds == estimate_bounds(aslinearoperator(HESSIAN))


def test_a_function_that_returns_its_own_buffer_is_left_alone():
    buffer = np.empty(25)

    def product(v):
        np.matmul(HESSIAN, v, out=buffer)
        kept = buffer.copy()
        calls.append((buffer, kept))
        return buffer

    calls: list[tuple[np.ndarray, np.ndarray]] = []
    bounds = estimate_bounds(product, shape=(25, 25))
    assert bounds == estimate_bounds(lambda v: HESSIAN @ v, shape=(25, 25))
    np.testing.assert_array_equal(*calls[-1])


def test_a_function_that_returns_its_argument_is_the_identity():
    bounds = estimate_bounds(lambda v: v, shape=(30, 30))
    assert bounds.upper == pytest.approx(1.0)


def test_the_products_counted_are_the_products_made():
    calls = []
    bounds = estimate_bounds(lambda v: (calls.append(1), HESSIAN @ v)[1], shape=(25, 25))
    assert bounds.num_products == len(calls)


def test_the_products_of_a_gram_count_both_ways():
    calls = []
    operator = LinearOperator(
        FACTOR.shape,
        matvec=lambda v: (calls.append(1), FACTOR @ v)[1],
        rmatvec=lambda u: (calls.append(1), FACTOR.T @ u)[1],
        dtype=np.float64,
    )
    assert estimate_bounds(Gram(operator)).num_products == len(calls)


@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_the_hessians_of_problems_are_bounded(ridge):
    problem = LeastSquares(FACTOR, np.ones(40), ridge=ridge)
    assert estimate_bounds(problem).upper == pytest.approx(TRUTH[-1] + ridge)
    assert estimate_bounds(Quadratic(HESSIAN, np.ones(25))).upper == pytest.approx(TRUTH[-1])


@pytest.mark.parametrize("method", [None, Lanczos(), Norms()])
@pytest.mark.parametrize("seed", [0, 5])
def test_the_bounds_of_a_problem_are_those_of_its_hessian(method, seed):
    labels = np.where(np.arange(40) % 3 == 0, 1.0, -1.0)
    smooth = LeastSquares(FACTOR, np.ones(40), ridge=0.5)
    for problem in (smooth, Logistic(FACTOR, labels), Quadratic(HESSIAN, np.ones(25))):
        expected = estimate_bounds(problem.hessian, method=method, seed=seed)
        assert estimate_bounds(problem, method=method, seed=seed) == expected
    expected = estimate_bounds(smooth.hessian, method=method, seed=seed)
    assert estimate_bounds(Composite(smooth, L1(0.1)), method=method, seed=seed) == expected


def test_a_problem_says_itself_what_shape_it_has():
    with pytest.raises(ValueError, match=r"`shape` must be that of `hessian`, \(25, 25\)"):
        estimate_bounds(Quadratic(HESSIAN, np.ones(25)), shape=(3, 3))
    with pytest.raises(TypeError, match="`hessian`"):
        estimate_bounds(SpectralBounds(1.0, 2.0))


# Operators that misbehave


def test_a_function_needs_a_shape():
    with pytest.raises(TypeError, match=r"`shape` must be given for a callable"):
        estimate_bounds(lambda v: v)


@pytest.mark.parametrize("shape", [(3, 4), (4, 3)])
def test_a_function_needs_a_square_shape(shape):
    with pytest.raises(ValueError, match="`hessian` must be square"):
        estimate_bounds(lambda v: v, shape=shape)


@pytest.mark.parametrize("shape", [(0, 0), (-1, -1)])
def test_a_shape_has_at_least_one_row(shape):
    with pytest.raises(ValueError, match="`shape` must be an integer of at least 1"):
        estimate_bounds(lambda v: v, shape=shape)


@pytest.mark.parametrize("shape", [(3,), (3, 3, 3), 3])
def test_a_shape_is_a_pair(shape):
    with pytest.raises(ValueError, match=r"`shape` must be a pair \(n, n\), got"):
        estimate_bounds(lambda v: v, shape=shape)


def test_a_shape_beside_a_matrix_must_be_its_own():
    with pytest.raises(ValueError, match=r"`shape` must be that of `hessian`, \(25, 25\)"):
        estimate_bounds(HESSIAN, shape=(24, 24))


def test_something_without_products_is_refused():
    with pytest.raises(TypeError, match="must be a matrix or a linear operator"):
        estimate_bounds(3.0)


@pytest.mark.parametrize("result", [np.ones(4), np.ones((5, 1)), 1.0])
def test_products_of_the_wrong_shape_are_refused(result):
    with pytest.raises(ValueError, match=r"must have shape \(5,\), got"):
        estimate_bounds(lambda _: result, shape=(5, 5))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("call", [1, 3])
def test_products_that_are_not_finite_are_refused_at_any_step(bad, call):
    calls = []

    def product(v):
        calls.append(1)
        return bad * v if len(calls) == call else HESSIAN @ v

    with pytest.raises(ValueError, match="must be finite, got NaN or infinity"):
        estimate_bounds(product, shape=(25, 25))


def test_a_complex_function_must_be_hermitian():
    with pytest.raises(ValueError, match="must be symmetric"):
        estimate_bounds(lambda v: 1j * np.arange(1, 6) * v, shape=(5, 5))


def test_skew_hermitian_operators_are_refused():
    with pytest.raises(ValueError, match="must be symmetric"):
        estimate_bounds(aslinearoperator(np.diag(np.arange(1.0, 6.0)) * 1j))


def test_a_skew_map_is_refused():
    skew = np.triu(np.ones((20, 20)), 1)
    with pytest.raises(ValueError, match="must be symmetric: the randomised test"):
        estimate_bounds(lambda v: (skew - skew.T) @ v, shape=(20, 20))


@pytest.mark.parametrize("wrong", [FACTOR.T * 1.01, FACTOR.T[::-1], -FACTOR.T])
def test_a_wrong_adjoint_is_refused_by_a_random_vector(wrong):
    operator = LinearOperator(
        FACTOR.shape, matvec=lambda v: FACTOR @ v, rmatvec=lambda u: wrong @ u, dtype=np.float64
    )
    with pytest.raises(ValueError, match=r"randomised test uᵀ\(Av\) = \(Aᵀu\)ᵀv failed"):
        estimate_bounds(Gram(operator))


def test_an_adjoint_that_errs_by_a_skew_map_is_refused_by_the_second_pair():
    skew = np.triu(np.ones((20, 20)), 1)
    wrong = np.eye(20) + (skew - skew.T)
    operator = LinearOperator(
        (20, 20), matvec=lambda v: v.copy(), rmatvec=lambda u: wrong @ u, dtype=np.float64
    )
    with pytest.raises(ValueError, match="check the operator's adjoint"):
        estimate_bounds(Gram(operator))


def test_an_indefinite_function_is_refused_with_the_evidence():
    values = np.linspace(-0.5, 1.0, 100)
    with pytest.raises(ValueError, match=r"an eigenvalue of at most -0\.\d"):
        estimate_bounds(lambda v: values * v, shape=(100, 100))


def test_a_matrix_free_map_has_no_exact_eigenvalues():
    with pytest.raises(TypeError, match="must be a dense or sparse matrix"):
        estimate_bounds(lambda v: v, shape=(5, 5), method=Exact())


def test_a_tall_sparse_factor_is_not_made_dense():
    # 1e6 rows of 1000 columns would take 8 GB.
    rows = np.arange(1_000_000)
    factor = sp.csr_array((np.ones(rows.size), (rows, rows % 1000)), shape=(1_000_000, 1000))
    bounds = estimate_bounds(Gram(factor))
    assert 1000.0 * (1 - 1e-12) <= bounds.upper <= 1030.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors_are_diagonalised_in_float64(dtype):
    matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0])).to(dtype)
    assert estimate_bounds(matrix).upper == pytest.approx(4.0, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_in_half_precision_leave_loose_bounds_on_the_right_side(dtype):
    matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0])).to(dtype)
    bounds = estimate_bounds(matrix, method=Lanczos())
    assert bounds.lower <= 1.0
    assert bounds.upper >= 4.0
    assert bounds.upper_uncertainty > 0.03


def test_a_function_may_write_into_its_argument():
    bounds = estimate_bounds(lambda v: np.multiply(v, VALUES, out=v), shape=(6, 6))
    assert bounds == estimate_bounds(lambda v: v * VALUES, shape=(6, 6))


def test_a_function_that_returns_nothing_is_refused():
    with pytest.raises(
        TypeError, match="products of `hessian` must be arrays of numbers, got NoneType"
    ):
        estimate_bounds(lambda _: None, shape=(5, 5))


def test_rounding_in_float32_contradicts_no_guaranteed_bound():
    bounds = estimate_bounds(torch.eye(2000) * 3.1)
    assert bounds.lower == bounds.upper == pytest.approx(3.1, rel=1e-6)


def large_grid(side):
    def product(v):
        field = v.reshape(side, side)
        result = 4 * field
        result[1:] -= field[:-1]
        result[:-1] -= field[1:]
        result[:, 1:] -= field[:, :-1]
        result[:, :-1] -= field[:, 1:]
        return result.ravel()

    return product


def test_a_large_map_takes_fewer_than_twelve_vectors_of_memory():
    side = 300
    tracemalloc.start()
    bounds = estimate_bounds(large_grid(side), shape=(side**2, side**2))
    vectors = tracemalloc.get_traced_memory()[1] / (8 * side**2)
    tracemalloc.stop()
    assert vectors < 12
    assert 1 <= bounds.upper / (8 * math.cos(math.pi / (2 * side + 2)) ** 2) <= 1.03


def test_a_large_factor_takes_fewer_than_twelve_vectors_of_memory():
    size = 100_000
    values = np.linspace(0.5, 1.0, size)
    operator = LinearOperator(
        (size, size), matvec=lambda v: values * v, rmatvec=lambda u: values * u, dtype=np.float64
    )
    tracemalloc.start()
    bounds = estimate_bounds(Gram(operator))
    vectors = tracemalloc.get_traced_memory()[1] / (8 * size)
    tracemalloc.stop()
    assert vectors < 12
    assert 1.0 <= bounds.upper <= 1.03
    assert 0.25 * 0.75 <= bounds.lower <= 0.25
