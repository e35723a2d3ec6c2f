"""Lanczos and Golub–Kahan steps against dense decompositions, in every library."""

import tracemalloc

import array_api_strict
import numpy as np
import pytest
import scipy.linalg
import torch

from stepfold import _arrays
from stepfold._krylov import golub_kahan, lanczos

MAKERS = {"numpy": np.asarray, "torch": torch.tensor, "array_api_strict": array_api_strict.asarray}
SIZE = 12


def matrix(rows: int, columns: int, *, complex_: bool = False, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    real = rng.standard_normal((rows, columns))
    return real + 1j * rng.standard_normal((rows, columns)) if complex_ else real


def positive(size: int, *, complex_: bool = False, seed: int = 0) -> np.ndarray:
    factor = matrix(size, size, complex_=complex_, seed=seed)
    return factor @ factor.conj().T + np.eye(size)


@pytest.mark.parametrize("reorthogonalise", [True, False])
@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("library", MAKERS)
def test_all_lanczos_steps_give_the_eigenvalues(library, complex_, reorthogonalise) -> None:
    hermitian = positive(SIZE, complex_=complex_)
    start = matrix(1, SIZE, complex_=complex_, seed=1)[0]
    operator = MAKERS[library](hermitian)
    found = lanczos(
        lambda v: operator @ v, MAKERS[library](start), SIZE, reorthogonalise=reorthogonalise
    )
    rtol = 1e-10 if reorthogonalise else 1e-6
    np.testing.assert_allclose(found.eigh()[0], np.linalg.eigvalsh(hermitian), rtol=rtol)
    assert found.off_diagonal[-1] == 0


@pytest.mark.parametrize("reorthogonalise", [True, False])
@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("library", MAKERS)
def test_all_golub_kahan_steps_give_the_singular_values(library, complex_, reorthogonalise) -> None:
    dense = matrix(SIZE + 3, SIZE, complex_=complex_)
    factor, adjoint = MAKERS[library](dense), MAKERS[library](dense.conj().T.copy())
    start = MAKERS[library](matrix(1, SIZE, complex_=complex_, seed=1)[0])
    found = golub_kahan(
        lambda v: factor @ v,
        lambda u: adjoint @ u,
        start,
        SIZE,
        reorthogonalise=reorthogonalise,
    )
    rtol = 1e-10 if reorthogonalise else 1e-5
    expected = np.linalg.svd(dense, compute_uv=False)[::-1]
    np.testing.assert_allclose(found.svd()[1], expected, rtol=rtol)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("library", MAKERS)
def test_steps_in_the_inner_product_of_m_give_the_generalised_eigenvalues(
    library, complex_
) -> None:
    hessian, weight = positive(SIZE, complex_=complex_), positive(SIZE, complex_=complex_, seed=2)
    operator = MAKERS[library](hessian)
    inverse = MAKERS[library](np.linalg.inv(weight))
    basis: list = []
    found = lanczos(
        lambda v: operator @ v,
        MAKERS[library](matrix(1, SIZE, complex_=complex_, seed=1)[0]),
        SIZE,
        precondition=lambda u: inverse @ u,
        basis=basis,
    )
    expected = scipy.linalg.eigh(hessian, weight, eigvals_only=True)
    np.testing.assert_allclose(found.eigh()[0], expected, rtol=1e-9)
    rows = np.stack([_arrays.to_host(vector) for vector in basis])
    np.testing.assert_allclose(rows.conj() @ weight @ rows.T, np.eye(SIZE), atol=1e-10)


@pytest.mark.parametrize("precondition", [None, lambda u: u / np.linspace(1, 2, 60)])
def test_both_forms_take_the_same_first_steps(precondition) -> None:
    hessian, start = positive(60), matrix(1, 60, seed=1)[0]
    one, other = (
        lanczos(lambda v: hessian @ v, start, 8, precondition=precondition, reorthogonalise=kept)
        for kept in (True, False)
    )
    np.testing.assert_allclose(one.diagonal, other.diagonal, rtol=1e-9)
    np.testing.assert_allclose(one.off_diagonal, other.off_diagonal, rtol=1e-9)


@pytest.mark.parametrize("reorthogonalise", [True, False])
def test_a_product_that_hands_out_its_argument_or_its_own_buffer_is_left_alone(
    reorthogonalise,
) -> None:
    hessian, start = positive(SIZE), matrix(1, SIZE, seed=1)[0]
    given, buffer, seen = start.copy(), np.zeros(SIZE), []

    def product(vector):
        seen.append((vector, vector.copy()))
        np.matmul(hessian, vector, out=buffer)
        return buffer

    kept: list = []
    found = lanczos(product, start, 6, reorthogonalise=reorthogonalise, basis=kept)
    clean = lanczos(lambda v: hessian @ v, start, 6, reorthogonalise=reorthogonalise)
    np.testing.assert_array_equal(start, given)
    np.testing.assert_allclose(found.diagonal, clean.diagonal, rtol=1e-12)
    # Vectors that somebody wants to keep are not written into.
    for (vector, copy), mine in zip(seen, kept, strict=True):
        np.testing.assert_array_equal(vector, copy)
        assert mine is vector
    once = lanczos(lambda v: v, start, 6, reorthogonalise=reorthogonalise)
    np.testing.assert_allclose(once.diagonal, [1.0])
    assert once.off_diagonal.tolist() == [0.0]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("precondition", [None, lambda u: 2 * u])
def test_no_direction_gives_one_zero_and_costs_nothing(value, precondition) -> None:
    found = lanczos(pytest.fail, np.full(3, value), 3, precondition=precondition)
    assert (found.diagonal.tolist(), found.off_diagonal.tolist()) == ([0.0], [0.0])


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("precondition", [None, lambda u: 2 * u])
def test_the_scale_of_the_start_does_not_matter(scale, precondition) -> None:
    hessian, start = positive(SIZE), matrix(1, SIZE, seed=1)[0]
    one, other = (
        lanczos(lambda v: hessian @ v, size * start, 5, precondition=precondition)
        for size in (1.0, scale)
    )
    np.testing.assert_allclose(one.diagonal, other.diagonal, rtol=1e-10)


def test_a_product_that_overflows_ends_the_steps() -> None:
    counted: list = []

    def product(vector):
        counted.append(1)
        return np.full(SIZE, np.inf) if len(counted) == 3 else np.arange(SIZE) * vector

    with np.errstate(invalid="ignore"):
        found = lanczos(product, np.ones(SIZE), 8, reorthogonalise=False)
    assert len(counted) == found.diagonal.size == 3


@pytest.mark.parametrize(("steps", "products"), [(5, 5), (SIZE, SIZE), (40, SIZE)])
def test_a_step_costs_one_product_and_the_last_one_no_more(steps, products) -> None:
    hessian, counted = positive(SIZE), []

    def product(vector):
        counted.append(1)
        return hessian @ vector

    lanczos(product, matrix(1, SIZE, seed=1)[0], steps)
    assert len(counted) == products


def test_steps_without_a_basis_hold_five_vectors() -> None:
    size = 200_000
    start, spectrum = np.ones(size), np.linspace(1, 2, size)
    for run in (
        lambda: lanczos(lambda v: spectrum * v, start, 6, reorthogonalise=False),
        lambda: golub_kahan(
            lambda v: spectrum * v, lambda u: spectrum * u, start, 6, reorthogonalise=False
        ),
    ):
        tracemalloc.start()
        run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5.1 * start.nbytes
