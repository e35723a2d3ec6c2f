"""Measures from products: probes, errors, residuals; against the eigen-decomposition."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from stepfold import Gram, SpectralMeasure, optimal_steps
from stepfold.measure import error_measure, exact_measure, lanczos_measure, residual_measure
from stepfold.polynomial import mean_squared_error

RNG = np.random.default_rng(11)
MATRIX = RNG.standard_normal((60, 40)) @ np.diag(np.geomspace(0.03, 1.0, 40))
HESSIAN = MATRIX.T @ MATRIX
ERRORS = RNG.standard_normal((5, 40)) * np.linspace(1.0, 3.0, 40)
EIGENVALUES, EIGENVECTORS = np.linalg.eigh(HESSIAN)
EIGENVALUES = np.linalg.svd(MATRIX, compute_uv=False)[::-1] ** 2
TRUTH = SpectralMeasure(EIGENVALUES, ((ERRORS @ EIGENVECTORS) ** 2).sum(axis=0))

OPERATORS = {
    "dense": lambda: HESSIAN,
    "csr": lambda: scipy.sparse.csr_array(HESSIAN),
    "coo": lambda: scipy.sparse.coo_array(HESSIAN),
    "operator": lambda: scipy.sparse.linalg.aslinearoperator(HESSIAN),
    "torch": lambda: torch.tensor(HESSIAN),
    "gram": lambda: Gram(MATRIX),
    "sparse gram": lambda: Gram(scipy.sparse.csr_array(MATRIX)),
    "operator gram": lambda: Gram(scipy.sparse.linalg.aslinearoperator(MATRIX)),
    "torch gram": lambda: Gram(torch.tensor(MATRIX)),
}


def roots(measure: SpectralMeasure, period: int) -> np.ndarray:
    return np.sort(1 / optimal_steps(measure, period).steps)


class CountedProducts(scipy.sparse.linalg.LinearOperator):
    """The Hessian, counting products with whole batches."""

    def __init__(self) -> None:
        super().__init__(np.float64, HESSIAN.shape)
        self.count = 0

    def _matmat(self, x: np.ndarray) -> np.ndarray:
        self.count += 1
        return HESSIAN @ x

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        self.count += 1
        return HESSIAN @ x


@pytest.mark.parametrize("name", OPERATORS)
def test_steps_of_an_error_measure_are_those_of_the_eigendecomposition(name: str) -> None:
    measure = error_measure(OPERATORS[name](), ERRORS, num_steps=6)
    np.testing.assert_allclose(roots(measure, 6), roots(TRUTH, 6), rtol=1e-9)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_error_measure_knows_the_error_of_its_steps(name: str) -> None:
    measure = error_measure(OPERATORS[name](), ERRORS, num_steps=6)
    steps = optimal_steps(measure, 6)
    rows = ERRORS
    for gamma in steps:
        rows = rows - gamma * rows @ HESSIAN
    expected = (rows**2).sum() / (ERRORS**2).sum()
    assert mean_squared_error(steps, measure) == pytest.approx(expected, rel=1e-9)
    assert measure.weights[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("period", [1, 3, 8])
def test_an_error_measure_costs_one_batched_product_a_step(period: int) -> None:
    operator = CountedProducts()
    error_measure(operator, ERRORS, num_steps=period)
    assert operator.count == period


@pytest.mark.parametrize("period", [1, 2, 3])
def test_numerical_optimisation_ends_at_the_steps_of_the_batch(period: int) -> None:
    def error(log_steps: np.ndarray) -> float:
        rows = ERRORS
        for gamma in np.exp(log_steps):
            rows = rows - gamma * rows @ HESSIAN
        return float((rows**2).sum())

    start = np.linspace(-4.0, 0.0, period)
    found = minimize(error, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    steps = optimal_steps(error_measure(HESSIAN, ERRORS, num_steps=period), period)
    np.testing.assert_allclose(np.sort(np.exp(found.x)), np.sort(steps.steps), rtol=1e-5)


def test_one_error_is_a_batch_of_one() -> None:
    one = error_measure(HESSIAN, ERRORS[0], num_steps=4)
    batch = error_measure(HESSIAN, ERRORS[:1], num_steps=4)
    np.testing.assert_array_equal(one.nodes, batch.nodes)


def test_as_many_steps_as_eigenvalues_give_the_measure_itself() -> None:
    measure = error_measure(Gram(np.diag([1.0, 2.0, 3.0])), np.ones(3), num_steps=5)
    np.testing.assert_allclose(measure.nodes, [1.0, 4.0, 9.0], rtol=1e-13)
    np.testing.assert_allclose(measure.weights, np.full(3, 1 / 3), rtol=1e-13)


def test_a_ridge_term_moves_the_nodes_and_not_the_weights() -> None:
    measure = error_measure(Gram(MATRIX, 0.7), ERRORS, num_steps=6)
    truth = SpectralMeasure(EIGENVALUES + 0.7, TRUTH.weights)
    np.testing.assert_allclose(roots(measure, 6), roots(truth, 6), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
@pytest.mark.parametrize("name", ["dense", "gram"])
def test_error_measures_scale(name: str, scale: float) -> None:
    hessian = HESSIAN * scale if name == "dense" else Gram(MATRIX * scale)
    unit = scale if name == "dense" else scale**2
    measure = error_measure(hessian, ERRORS * scale, num_steps=5)
    plain = error_measure(OPERATORS[name](), ERRORS, num_steps=5)
    np.testing.assert_allclose(measure.nodes / unit, plain.nodes, rtol=1e-10)
    np.testing.assert_allclose(measure.weights, plain.weights, rtol=1e-10)


def test_small_eigenvalues_of_a_gram_survive() -> None:
    singular_values = np.geomspace(1e-6, 1.0, 12)
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    measure = error_measure(
        Gram(singular_values[:, None] * orthogonal), orthogonal.T @ np.ones(12), num_steps=12
    )
    np.testing.assert_allclose(measure.nodes, singular_values**2, rtol=1e-8)


def test_a_kernel_is_an_atom_at_zero() -> None:
    hessian = np.diag([0.0, 1.0, 2.0])
    measure = error_measure(hessian, np.ones(3), num_steps=3)
    np.testing.assert_allclose(measure.nodes, [0.0, 1.0, 2.0], atol=1e-12)
    np.testing.assert_allclose(measure.weights, np.full(3, 1 / 3), rtol=1e-9)


def test_a_large_kernel_stays_at_zero() -> None:
    wide = MATRIX @ MATRIX.T
    measure = lanczos_measure(wide, num_nodes=60, num_probes=2)
    assert measure.nodes.min() == 0.0
    assert measure.cumulative(0.0) == pytest.approx(1 / 3, abs=0.15)


@pytest.mark.parametrize("name", OPERATORS)
def test_all_lanczos_nodes_of_one_vector_are_the_eigenvalues(name: str) -> None:
    measure = lanczos_measure(OPERATORS[name](), num_nodes=40, start=ERRORS[0])
    weights = (ERRORS[0] @ EIGENVECTORS) ** 2
    expected = SpectralMeasure(EIGENVALUES, weights)
    grid = np.geomspace(1e-3, 60.0, 50)
    np.testing.assert_allclose(measure.cumulative(grid), expected.cumulative(grid), atol=1e-6)


def test_a_batch_as_start_gives_the_gauss_rule_of_the_batch() -> None:
    measure = lanczos_measure(HESSIAN, num_nodes=5, start=ERRORS)
    np.testing.assert_allclose(measure.nodes, TRUTH.quadrature(5).nodes, rtol=1e-9)
    np.testing.assert_allclose(measure.weights, TRUTH.quadrature(5).weights, rtol=1e-9)


def test_probes_average_to_the_eigenvalues() -> None:
    measure = lanczos_measure(Gram(MATRIX), num_nodes=40, num_probes=300)
    expected = SpectralMeasure.from_eigenvalues(EIGENVALUES)
    assert measure.mean(lambda x: x) == pytest.approx(expected.mean(lambda x: x), rel=0.05)
    grid = np.geomspace(0.1, 60.0, 30)
    assert np.abs(measure.cumulative(grid) - expected.cumulative(grid)).max() < 0.05


def test_probes_are_no_row_of_a_matrix_drawn_with_the_same_seed() -> None:
    matrix = np.random.default_rng(0).standard_normal((2000, 50))
    measure = lanczos_measure(Gram(matrix[:1]), num_nodes=2, num_probes=1, seed=0)
    assert measure.weights[-1] < 0.5


def test_the_same_seed_gives_the_same_measure() -> None:
    one = lanczos_measure(HESSIAN, num_nodes=5, seed=4)
    other = lanczos_measure(HESSIAN, num_nodes=5, seed=4)
    np.testing.assert_array_equal(one.nodes, other.nodes)
    assert not np.array_equal(one.nodes, lanczos_measure(HESSIAN, num_nodes=5, seed=5).nodes)


def test_arguments_are_left_alone() -> None:
    hessian, errors = HESSIAN.copy(), ERRORS.copy()
    error_measure(hessian, errors, num_steps=3)
    np.testing.assert_array_equal(hessian, HESSIAN)
    np.testing.assert_array_equal(errors, ERRORS)


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(1, 11),
    num_columns=st.integers(1, 11),
    rank=st.integers(1, 11),
    period=st.integers(1, 15),
    batch=st.integers(1, 3),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-60, 1.0, 1e60]),
)
def test_measures_hold_for_any_rank_and_beyond_the_last_eigenvalue(
    num_rows: int, num_columns: int, rank: int, period: int, batch: int, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    rank = min(rank, num_rows, num_columns)
    left = rng.standard_normal((num_rows, rank)) * np.exp(rng.uniform(-6, 0, rank))
    matrix = left @ rng.standard_normal((rank, num_columns))
    errors = rng.standard_normal((batch, num_columns))
    _, values, vectors = np.linalg.svd(matrix)
    nodes = np.zeros(num_columns)
    nodes[:rank] = values[:rank] ** 2
    truth = SpectralMeasure(nodes / nodes.max(), ((errors @ vectors.T) ** 2).sum(axis=0))
    degrees = np.arange(min(2 * period, 7) + 1)[:, None]
    moments = (truth.nodes**degrees) @ truth.weights

    measure = error_measure(Gram(matrix * scale), errors, num_steps=period)
    found = (measure.nodes / scale**2 / nodes.max()) ** degrees @ measure.weights
    np.testing.assert_allclose(found, moments, rtol=1e-8, atol=1e-11)
    measure = error_measure(matrix.T @ matrix * scale, errors, num_steps=period)
    found = (measure.nodes / scale / nodes.max()) ** degrees @ measure.weights
    np.testing.assert_allclose(found, moments, rtol=1e-8, atol=1e-11)
    measure = residual_measure(matrix * scale, errors @ matrix.T, num_nodes=period)
    found = (measure.nodes / scale**2 / nodes.max()) ** degrees @ measure.weights
    known = slice(1, 2 * period + 1)
    np.testing.assert_allclose(
        found[known] / found[1], moments[known] / moments[1], rtol=1e-7, atol=1e-10
    )


FACTORS = {
    "dense": lambda: MATRIX,
    "csr": lambda: scipy.sparse.csr_array(MATRIX),
    "operator": lambda: scipy.sparse.linalg.aslinearoperator(MATRIX),
    "torch": lambda: torch.tensor(MATRIX),
}


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("period", [1, 4, 9])
def test_a_residual_gives_the_best_steps_for_the_unknown_error(name: str, period: int) -> None:
    measure = residual_measure(FACTORS[name](), ERRORS @ MATRIX.T, num_nodes=period)
    np.testing.assert_allclose(roots(measure, period), roots(TRUTH, period), rtol=1e-9)


def test_a_residual_of_a_wide_matrix_ignores_the_kernel() -> None:
    wide = MATRIX.T
    solution = np.random.default_rng(5).standard_normal(60)
    left, values, _ = np.linalg.svd(wide, full_matrices=False)
    weights = (left.T @ wide @ solution) ** 2 / values**2  # of the nearest solution
    truth = SpectralMeasure(values**2, weights)
    measure = residual_measure(wide, wide @ solution, num_nodes=6)
    np.testing.assert_allclose(roots(measure, 6), roots(truth, 6), rtol=1e-9)


@pytest.mark.parametrize("misfit", [1e-3, 0.3, 30.0])
def test_a_known_misfit_is_taken_out(misfit: float) -> None:
    outside = np.linalg.svd(MATRIX)[0][:, 50]
    residual = MATRIX @ ERRORS[0] + misfit * outside
    truth = SpectralMeasure(EIGENVALUES, (ERRORS[0] @ EIGENVECTORS) ** 2)
    measure = residual_measure(MATRIX, residual, num_nodes=7, misfit=misfit)
    np.testing.assert_allclose(roots(measure, 7), roots(truth, 7), rtol=1e-8)


def test_all_nodes_of_a_residual_with_misfit_are_the_error_measure() -> None:
    matrix = np.vstack([np.diag([1.0, 2.0, 3.0]), np.zeros(3)])
    measure = residual_measure(matrix, np.array([1.0, 2.0, 3.0, 5.0]), num_nodes=9, misfit=5.0)
    np.testing.assert_allclose(measure.nodes, [1.0, 4.0, 9.0], rtol=1e-12)
    np.testing.assert_allclose(measure.weights, np.full(3, 1 / 3), rtol=1e-8)


def test_without_its_misfit_a_residual_that_cannot_be_fitted_misleads() -> None:
    outside = np.linalg.svd(MATRIX)[0][:, 50]
    residual = MATRIX @ ERRORS[0] + 5.0 * outside
    truth = SpectralMeasure(EIGENVALUES, (ERRORS[0] @ EIGENVECTORS) ** 2)
    misled = optimal_steps(residual_measure(MATRIX, residual, num_nodes=6), 6)
    best = mean_squared_error(optimal_steps(truth, 6), truth)
    assert mean_squared_error(misled, truth) > 1.1 * best


def test_steps_for_the_residual_need_no_misfit() -> None:
    outside = np.linalg.svd(MATRIX)[0][:, 50]
    rhs = MATRIX @ ERRORS[0] + 5.0 * outside
    steps = optimal_steps(error_measure(Gram(MATRIX.T), rhs, num_steps=6), 6)
    x = np.zeros(40)
    for gamma in steps:
        x = x + gamma * MATRIX.T @ (rhs - MATRIX @ x)
    reference = scipy.sparse.linalg.lsqr(MATRIX, rhs, iter_lim=6, atol=0, btol=0)[0]
    np.testing.assert_allclose(x, reference, rtol=1e-7, atol=1e-9)


def test_a_misfit_larger_than_the_residual_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`misfit` must not exceed the norm.*got 1000\.0"):
        residual_measure(MATRIX, MATRIX @ ERRORS[0], num_nodes=5, misfit=1000.0)


def test_a_misfit_larger_than_what_is_left_is_refused() -> None:
    outside = np.linalg.svd(MATRIX)[0][:, 50]
    with pytest.raises(ValueError, match=r"`misfit` must not exceed the norm"):
        residual_measure(MATRIX, MATRIX @ ERRORS[0] + outside, num_nodes=30, misfit=3.0)


def test_a_negative_misfit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`misfit` must be at least 0 and finite, got -1\.0"):
        residual_measure(MATRIX, MATRIX @ ERRORS[0], num_nodes=5, misfit=-1.0)


def test_a_residual_at_a_solution_is_refused() -> None:
    matrix = np.vstack([np.diag([1.0, 2.0]), np.zeros(2)])
    with pytest.raises(ValueError, match="`residual` must not be orthogonal to the range"):
        residual_measure(matrix, np.array([0.0, 0.0, 3.0]), num_nodes=2)


def test_exact_measures_of_a_matrix_and_of_its_gram_agree() -> None:
    covariance = ERRORS.T @ ERRORS
    dense = exact_measure(HESSIAN, covariance=covariance)
    gram = exact_measure(Gram(MATRIX), covariance=covariance)
    np.testing.assert_allclose(gram.nodes, TRUTH.nodes, rtol=1e-12)
    np.testing.assert_allclose(gram.weights, TRUTH.weights, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(dense.weights, TRUTH.weights, rtol=1e-6, atol=1e-12)


def test_an_exact_measure_of_a_wide_gram_has_its_kernel() -> None:
    measure = exact_measure(Gram(MATRIX.T, 0.5))
    assert measure.cumulative(0.5) == pytest.approx(1 / 3)


def test_a_diagonal_covariance_is_a_vector() -> None:
    full = exact_measure(HESSIAN, covariance=np.diag(np.arange(1.0, 41.0)))
    short = exact_measure(HESSIAN, covariance=np.arange(1.0, 41.0))
    np.testing.assert_allclose(full.weights, short.weights, rtol=1e-12)


def test_a_covariance_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`covariance` must have shape \(40,\) or \(40, 40\)"):
        exact_measure(HESSIAN, covariance=np.ones(3))


def test_an_indefinite_covariance_is_refused() -> None:
    with pytest.raises(ValueError, match="positive semidefinite, but an eigenvector"):
        exact_measure(np.eye(2), covariance=[1.0, -1.0])


def test_an_exact_measure_needs_entries() -> None:
    with pytest.raises(TypeError, match="`lanczos_measure` needs products only"):
        exact_measure(scipy.sparse.linalg.aslinearoperator(HESSIAN))


MAKERS = {
    "lanczos": lambda hessian: lanczos_measure(hessian, num_nodes=3),
    "error": lambda hessian: error_measure(hessian, np.ones(3), num_steps=3),
    "exact": exact_measure,
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_indefinite_hessian_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"positive semidefinite.*pass `Gram\(matrix\)`"):
        MAKERS[name](np.diag([1.0, 2.0, -1.0]))


def test_a_rectangular_hessian_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`hessian` must be square, got shape \(60, 40\)"):
        error_measure(MATRIX, ERRORS, num_steps=3)


def test_an_unsymmetric_hessian_is_refused() -> None:
    with pytest.raises(ValueError, match="`hessian` must be symmetric"):
        lanczos_measure(np.array([[1.0, 1.0], [0.0, 1.0]]), num_nodes=2)


def test_an_unsymmetric_sparse_hessian_is_refused() -> None:
    with pytest.raises(ValueError, match="`hessian` must be symmetric"):
        lanczos_measure(scipy.sparse.csr_array([[1.0, 1.0], [0.0, 1.0]]), num_nodes=2)


def test_errors_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`errors` must have shape \(40,\) or \(batch, 40\)"):
        error_measure(HESSIAN, np.ones(3), num_steps=3)


def test_errors_that_are_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="`errors` must not be 0 everywhere"):
        error_measure(HESSIAN, np.zeros(40), num_steps=3)


def test_errors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="`start` must be finite, got nan at index 0"):
        lanczos_measure(np.eye(2), num_nodes=1, start=[np.nan, 1.0])


def test_complex_errors_are_refused() -> None:
    with pytest.raises(TypeError, match="`errors` must be real, got dtype complex128"):
        error_measure(np.eye(2), np.array([1j, 1.0]), num_steps=1)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`errors` must have shape .* got \(0, 40\)"):
        error_measure(HESSIAN, np.empty((0, 40)), num_steps=1)


def test_a_sparse_tensor_has_the_measure_of_the_dense_one() -> None:
    dense = torch.tensor(HESSIAN)
    matrices = (dense.to_sparse(), dense)
    found, wanted = (lanczos_measure(each, num_nodes=6, num_probes=1) for each in matrices)
    np.testing.assert_allclose(found.nodes, wanted.nodes, rtol=1e-10)
    with pytest.raises(TypeError, match=r"`start` must be a dense tensor.*to_dense\(\)"):
        lanczos_measure(dense, num_nodes=2, start=dense.to_sparse())


def test_zero_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_nodes` must be an integer of at least 1"):
        lanczos_measure(HESSIAN, num_nodes=0)


def test_the_zero_operator_has_one_atom() -> None:
    measure = error_measure(np.zeros((3, 3)), np.ones(3), num_steps=2)
    assert (measure.nodes.tolist(), measure.weights.tolist()) == ([0.0], [1.0])


def test_a_hessian_of_one_number_is_its_own_node() -> None:
    measure = error_measure(np.array([[2.0]]), np.ones(1), num_steps=3)
    np.testing.assert_allclose(measure.nodes, [2.0], rtol=1e-15)


def test_tensors_that_require_gradients_are_read() -> None:
    measure = error_measure(torch.tensor(HESSIAN, requires_grad=True), ERRORS, num_steps=2)
    assert measure.nodes.size == 3
