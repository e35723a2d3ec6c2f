"""Splittings keep the solution fixed, are what the textbook says, and have the spectra promised."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from stepfold.accelerate import accelerate
from stepfold.problems import FixedPoint, gauss_seidel, jacobi_iteration, sor

SPLITTINGS: dict[str, Callable[[Any, Any], FixedPoint[Any]]] = {
    "jacobi": jacobi_iteration,
    "gauss-seidel": gauss_seidel,
    "symmetric gauss-seidel": lambda a, b: gauss_seidel(a, b, symmetric=True),
    "sor": lambda a, b: sor(a, b, 1.3),
    "symmetric sor": lambda a, b: sor(a, b, 1.3, symmetric=True),
    "under-relaxation": lambda a, b: sor(a, b, 0.4),
}
SYMMETRIC = ("jacobi", "symmetric gauss-seidel", "symmetric sor")
BACKENDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "csr": scipy.sparse.csr_array,
    "csc": scipy.sparse.csc_array,
    "tensor": torch.tensor,
}
N = 12


def _matrix(seed: int = 0) -> np.ndarray:
    """Symmetric positive definite, with zeros and an uneven diagonal."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((N, N)) * (rng.random((N, N)) < 0.3)
    return factor @ factor.T + np.diag(rng.uniform(0.5, 3.0, N))


def _like(backend: str, rows: np.ndarray) -> Any:
    return torch.tensor(rows) if backend == "tensor" else rows


def _textbook(name: str, matrix: np.ndarray) -> np.ndarray:
    """Iteration matrix ``I − M⁻¹A`` of each splitting."""
    diagonal, lower = np.diag(np.diag(matrix)), np.tril(matrix, -1)
    omega = {"sor": 1.3, "symmetric sor": 1.3, "under-relaxation": 0.4}.get(name, 1.0)
    if name == "jacobi":
        return np.eye(N) - np.linalg.solve(diagonal, matrix)
    forward = np.eye(N) - np.linalg.solve(diagonal / omega + lower, matrix)
    if not name.startswith("symmetric"):
        return forward
    return (np.eye(N) - np.linalg.solve(diagonal / omega + lower.T, matrix)) @ forward


def _without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepfold.problems.splittings.relax_rows", lambda *_, **__: None)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SPLITTINGS)
def test_the_exact_solution_stays_where_it_is(name: str, backend: str) -> None:
    matrix = _matrix()
    x = np.random.default_rng(1).standard_normal(N)
    map_ = SPLITTINGS[name](BACKENDS[backend](matrix), _like(backend, matrix @ x)).map
    np.testing.assert_allclose(np.asarray(map_(_like(backend, x))), x, atol=1e-13)


@pytest.mark.parametrize("compiler", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SPLITTINGS)
def test_errors_are_multiplied_by_the_textbook_matrix(
    name: str, backend: str, compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiler:
        _without_compiler(monkeypatch)
    matrix, rng = _matrix(), np.random.default_rng(2)
    x, errors = rng.standard_normal((3, N)), rng.standard_normal((3, N))
    map_ = SPLITTINGS[name](BACKENDS[backend](matrix), _like(backend, x @ matrix)).map
    found = np.asarray(map_(_like(backend, x + errors))) - x
    np.testing.assert_allclose(found, errors @ _textbook(name, matrix).T, atol=1e-12)


def test_nonsymmetric_matrices_are_swept_by_rows() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((N, N)) + 8 * np.eye(N)
    rhs = rng.standard_normal(N)
    x = start = rng.standard_normal(N)
    for i in range(N):  # the definition, one unknown after the other
        x = x.copy()
        x[i] = (rhs[i] - matrix[i] @ x + matrix[i, i] * x[i]) / matrix[i, i]
    for backend in (matrix, scipy.sparse.csr_array(matrix)):
        np.testing.assert_allclose(gauss_seidel(backend, rhs).map(start), x, atol=1e-13)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_splittings_have_a_real_positive_spectrum(name: str) -> None:
    eigenvalues = np.linalg.eigvals(np.eye(N) - _textbook(name, _matrix()))
    assert np.abs(eigenvalues.imag).max() < 1e-12
    assert eigenvalues.real.min() > 0
    if name != "jacobi":
        assert eigenvalues.real.max() <= 1 + 1e-12


@pytest.mark.parametrize("name", SYMMETRIC)
def test_relaxation_of_symmetric_splittings_needs_fewer_evaluations(name: str) -> None:
    grid = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(60, 60))
    matrix = scipy.sparse.csr_array(grid + 1e-3 * scipy.sparse.eye_array(60))
    x = np.random.default_rng(4).standard_normal(60)
    problem = SPLITTINGS[name](matrix, matrix @ x)
    plain, start = 0, np.zeros(60)
    while np.linalg.norm(start - x) > 1e-6 * np.linalg.norm(x):
        start, plain = problem.map(start), plain + 1
    result = accelerate(problem, np.zeros(60), rtol=1e-9)
    assert np.linalg.norm(result.x - x) <= 1e-6 * np.linalg.norm(x)
    assert result.history.num_products[-1] < 0.5 * plain


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sweeps_keep_the_dtype_and_do_not_write_to_their_argument(dtype: Any) -> None:
    matrix = scipy.sparse.csr_array(_matrix().astype(dtype))
    x = np.random.default_rng(5).standard_normal(N).astype(dtype)
    before = x.copy()
    assert gauss_seidel(matrix, np.ones(N, dtype)).map(x).dtype == dtype
    np.testing.assert_array_equal(x, before)


def test_a_start_of_another_dtype_takes_the_plain_way() -> None:
    matrix = scipy.sparse.csr_array(_matrix())
    x = np.random.default_rng(6).standard_normal(N)
    single = gauss_seidel(matrix, np.ones(N)).map(x.astype(np.float32))
    np.testing.assert_allclose(single, gauss_seidel(matrix, np.ones(N)).map(x), rtol=1e-5)


@pytest.mark.parametrize("backend", ["dense", "csr", "tensor"])
@pytest.mark.parametrize("make", [jacobi_iteration, gauss_seidel])
def test_a_zero_on_the_diagonal_is_refused(make: Callable[..., object], backend: str) -> None:
    matrix = _matrix()
    matrix[3, 3] = 0.0
    with pytest.raises(ValueError, match="no zero on its diagonal, got one at index 3"):
        make(BACKENDS[backend](matrix), _like(backend, np.ones(N)))


@pytest.mark.parametrize("omega", [0.0, 2.0, -1.0, float("nan")])
def test_a_relaxation_that_cannot_converge_is_refused(omega: float) -> None:
    with pytest.raises(ValueError, match="`omega` must be above 0 and below 2"):
        sor(_matrix(), np.ones(N), omega)


def test_rectangular_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`matrix` must be square, got shape \(3, 2\)"):
        gauss_seidel(np.ones((3, 2)), np.ones(3))


def test_operators_without_entries_are_refused() -> None:
    operator = scipy.sparse.linalg.aslinearoperator(_matrix())
    with pytest.raises(TypeError, match="a splitting needs its entries"):
        gauss_seidel(operator, np.ones(N))


def test_a_splitting_of_a_sparse_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"got a sparse tensor: .* `matrix.to_dense\(\)`"):
        jacobi_iteration(torch.eye(2).to_sparse(), torch.ones(2))
