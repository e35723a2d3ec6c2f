"""Compiled steps of conjugate gradients are those of the formula, at the end and on the way."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sparse

from stepfold import LeastSquares, Quadratic, Status, kernels, solve
from stepfold.kernels import conjugate
from stepfold.run.policies import conjugate as policy
from stepfold.run.policies import small
from stepfold.run.policies.conjugate import ConjugateGradients

SIDE = 24


@pytest.fixture(params=[0, 1, 2, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Kernels for small matrices too, by so many threads; with 0 steps without a kernel."""
    if request.param == 0:
        monkeypatch.setattr(kernels, "SMALLEST_BLOCK", 2**40)
        return 0
    monkeypatch.setattr(kernels, "SMALLEST_SPARSE", 0)
    monkeypatch.setattr(kernels, "SMALLEST_BLOCK", 0)
    monkeypatch.setattr(conjugate, "LEAST_ROWS", 16)
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(request.param))
    return int(request.param)


def poisson(dtype: str = "float64", shift: float = 0.0) -> Any:
    line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(SIDE, SIDE))
    eye = sparse.eye_array(SIDE)
    plane = sparse.kron(line, eye) + sparse.kron(eye, line) + shift * sparse.eye_array(SIDE**2)
    return sparse.csr_array(plane, dtype=dtype)


def rhs_of(matrix: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(matrix.shape[0]).astype(matrix.dtype)


def without_kernel(problem: Any) -> Any:
    """The same run with the formula as it stands; a callback wants to see every step."""
    return solve(problem, callback=lambda *_: None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_is_that_of_the_formula(threads: int, dtype: str) -> None:
    matrix = poisson(dtype)
    problem = Quadratic(matrix, rhs_of(matrix))
    ours, formula = solve(problem), without_kernel(problem)
    assert ours.status is formula.status is Status.CONVERGED
    assert abs(ours.num_steps - formula.num_steps) <= 2
    assert len(ours.history.num_steps) == len(formula.history.num_steps)
    first = slice(0, 10)
    np.testing.assert_allclose(
        ours.history.gradient_norms[first], formula.history.gradient_norms[first], rtol=1e-4
    )
    assert ours.bounds is not None
    assert formula.bounds is not None
    assert ours.bounds.upper == pytest.approx(formula.bounds.upper, rel=1e-3)
    left = np.linalg.norm(matrix @ ours.x - problem.rhs)
    assert left <= (1e-8 if dtype == "float64" else 1e-4) * np.linalg.norm(problem.rhs)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_small_least_squares_are_as_by_the_formula(dtype: str, ridge: float, make: Any) -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((60, 40)).astype(dtype) * np.geomspace(1, 30, 40)
    rhs = rng.standard_normal(60).astype(dtype)
    if dtype == "complex128":
        matrix, rhs = matrix * np.exp(1j * matrix), rhs * np.exp(2j * rhs)
    problem = LeastSquares(make(matrix), rhs, ridge=ridge)
    for x0 in (None, np.ones(40, dtype)):
        ours = solve(problem, x0=x0, rtol=1e-10)
        formula = solve(problem, x0=x0, rtol=1e-10, callback=lambda *_: None)
        assert ours.status is formula.status is Status.CONVERGED
        assert abs(ours.num_steps - formula.num_steps) <= 3 + 0.1 * formula.num_steps
        gram = matrix.conj().T @ matrix + ridge * np.eye(40)
        np.testing.assert_allclose(ours.x, np.linalg.solve(gram, matrix.conj().T @ rhs), atol=1e-8)
        expected = formula.history.gradient_norms[:10]
        np.testing.assert_allclose(ours.history.gradient_norms[:10], expected, rtol=1e-6)


def test_the_steps_of_the_history_are_consecutive(threads: int) -> None:
    matrix = poisson()
    found = solve(Quadratic(matrix, rhs_of(matrix)))
    assert (np.diff(found.history.num_steps) >= 0).all()
    assert set(found.history.num_steps.tolist()) == set(range(found.num_steps + 1))
    assert (np.diff(found.history.num_products) >= 0).all()


def test_the_same_threads_give_the_same_bits(threads: int) -> None:
    matrix = poisson()
    problem = Quadratic(matrix, rhs_of(matrix))
    assert (solve(problem).x == solve(problem).x).all()


@pytest.mark.parametrize("max_steps", [0, 1, 7, 33])
def test_a_budget_is_kept_to_the_step(threads: int, max_steps: int) -> None:
    matrix = poisson()
    found = solve(Quadratic(matrix, rhs_of(matrix)), max_steps=max_steps)
    assert found.status is Status.BUDGET
    assert found.num_steps == max_steps


@pytest.mark.parametrize("max_products", [1, 2, 3, 10, 40])
def test_products_are_never_more_than_allowed(threads: int, max_products: int) -> None:
    matrix = poisson()
    found = solve(Quadratic(matrix, rhs_of(matrix)), max_products=max_products)
    assert found.status is Status.BUDGET
    assert found.history.num_products[-1] <= max_products


def test_an_indefinite_matrix_is_shown_by_its_direction(threads: int) -> None:
    matrix = poisson(shift=-1.0)
    found = solve(Quadratic(matrix, rhs_of(matrix)))
    assert found.status is Status.DIVERGED
    assert "indefinite" in found.advice
    assert "indefinite" in without_kernel(Quadratic(matrix, rhs_of(matrix))).advice


def test_a_singular_matrix_with_a_solution_is_solved(threads: int) -> None:
    matrix = poisson()
    matrix = sparse.csr_array(sparse.block_diag([matrix, sparse.csr_array((5, 5))]))
    rhs = matrix @ rhs_of(matrix)
    found = solve(Quadratic(matrix, rhs))
    assert found.converged
    assert np.linalg.norm(matrix @ found.x - rhs) <= 1e-8 * np.linalg.norm(rhs)


def test_a_right_hand_side_that_is_not_finite_is_not_hidden(threads: int) -> None:
    matrix = poisson()
    matrix.data[7] = 1e308  # its squares overflow
    found = solve(Quadratic(matrix, rhs_of(matrix)), max_steps=200)
    formula = without_kernel(Quadratic(matrix, rhs_of(matrix)))
    assert found.converged == formula.converged


def test_the_best_iterate_includes_those_before_a_hump(threads: int) -> None:
    # Eigenvalues over ten decades: gradient norms of conjugate gradients rise and fall.
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    matrix = sparse.csr_array((basis * np.geomspace(1e-10, 1, 60)) @ basis.T)
    rhs = rng.standard_normal(60)
    for max_steps in (20, 40, 60):
        found = solve(Quadratic(matrix, rhs), max_steps=max_steps)
        true = np.linalg.norm(matrix @ found.x - rhs)
        carried = found.history.gradient_norms
        assert true <= 1.2 * carried.min()


def test_blocks_and_single_steps_go_on_from_each_other(threads: int, monkeypatch: Any) -> None:
    block, turn = ConjugateGradients.block, [0]

    def every_other(*arguments: Any) -> bool | None:
        turn[0] += 1
        return block(*arguments) if turn[0] % 2 else None

    matrix = poisson()
    problem = Quadratic(matrix, rhs_of(matrix))
    whole = solve(problem)

    def five_steps(*arguments: Any, num_steps: int, **settings: Any) -> Any:
        return small.small_steps(*arguments, num_steps=min(num_steps, 5), **settings)

    monkeypatch.setattr(ConjugateGradients, "block", every_other)
    monkeypatch.setattr(conjugate, "MOST_ENTRIES", 5 * matrix.nnz)
    monkeypatch.setattr(policy, "small_steps", five_steps)
    mixed = solve(problem)
    assert turn[0] > 5
    assert abs(mixed.num_steps - whole.num_steps) <= 2
    np.testing.assert_allclose(mixed.x, whole.x, rtol=1e-5, atol=1e-7)


def test_runs_of_many_threads_do_not_wait_for_each_other(threads: int) -> None:
    matrix = poisson()
    found: dict[int, Any] = {}

    def one(seed: int) -> None:
        found[seed] = solve(Quadratic(matrix, rhs_of(matrix, seed)))

    runs = [threading.Thread(target=one, args=(seed,)) for seed in range(6)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert sorted(found) == list(range(6))
    assert all(result.converged for result in found.values())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")  # from Python, and from JAX
def test_a_child_process_has_threads_of_its_own(threads: int) -> None:
    matrix = poisson()
    problem = Quadratic(matrix, rhs_of(matrix))
    assert solve(problem).converged
    child = os.fork()
    if child == 0:
        os._exit(0 if solve(problem).converged else 1)
    assert os.waitpid(child, 0)[1] == 0
