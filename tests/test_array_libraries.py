"""The pipeline on arrays of a library that keeps to the array API standard and to no more."""

import array_api_strict as xp
import numpy as np
import pytest

from stepfold import (
    LeastSquares,
    Quadratic,
    SpectralBounds,
    Status,
    _arrays,
    accelerate,
    chebyshev_steps,
    estimate_bounds,
    lanczos_measure,
    solve,
)
from stepfold.accelerate import Anderson, iterate
from stepfold.measure import error_measure, exact_measure, residual_measure
from stepfold.problems import Preconditioned
from stepfold.problems.jacobian import jacobian_spectrum
from stepfold.spectrum import Gershgorin, Gram, Lanczos, Norms

RNG = np.random.default_rng(0)
FACTOR = RNG.standard_normal((50, 40)) / np.sqrt(40)
HESSIAN = FACTOR.T @ FACTOR + np.eye(40)
ROWS = RNG.standard_normal((3, 40))


@pytest.mark.parametrize(
    ("method", "as_gram"),
    [
        (None, False),
        (Lanczos(), False),
        (Gershgorin(), False),
        (Norms(), False),
        (None, True),
        (Lanczos(), True),
        (Norms(), True),
    ],
)
def test_bounds_are_those_of_the_same_matrix_in_numpy(method, as_gram) -> None:
    mine, theirs = (
        Gram(make(FACTOR)) if as_gram else make(HESSIAN) for make in (xp.asarray, np.asarray)
    )
    found = estimate_bounds(mine, method=method)
    expected = estimate_bounds(theirs, method=method)
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), rel=1e-9)


def test_bounds_of_a_complex_hermitian_matrix_are_those_of_numpy() -> None:
    factor = FACTOR + 1j * RNG.standard_normal(FACTOR.shape)
    matrix = factor.conj().T @ factor
    found, expected = estimate_bounds(xp.asarray(matrix)), estimate_bounds(matrix)
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), rel=1e-9)


def test_measures_are_those_of_the_same_matrix_in_numpy() -> None:
    errors, matrix, factor = xp.asarray(ROWS), xp.asarray(HESSIAN), xp.asarray(FACTOR)
    residual = FACTOR @ ROWS[0]
    pairs = [
        (lanczos_measure(matrix, num_nodes=5), lanczos_measure(HESSIAN, num_nodes=5)),
        (error_measure(matrix, errors, num_steps=4), error_measure(HESSIAN, ROWS, num_steps=4)),
        (exact_measure(matrix), exact_measure(HESSIAN)),
        (
            residual_measure(factor, xp.asarray(residual), num_nodes=4),
            residual_measure(FACTOR, residual, num_nodes=4),
        ),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(found.nodes, expected.nodes, rtol=1e-8)
        np.testing.assert_allclose(found.weights, expected.weights, atol=1e-9)


@pytest.mark.parametrize("batch", [False, True])
def test_gradients_and_steps_are_those_of_numpy(batch) -> None:
    x = ROWS if batch else ROWS[0]
    seen = x @ FACTOR.T
    for mine, theirs in (
        (Quadratic(xp.asarray(HESSIAN), xp.asarray(x)), Quadratic(HESSIAN, x)),
        (
            LeastSquares(xp.asarray(FACTOR), xp.asarray(seen), ridge=0.5),
            LeastSquares(FACTOR, seen, ridge=0.5),
        ),
    ):
        for call in (
            lambda p, v: p.gradient(v),
            lambda p, v: p.gradient_step(v, 0.25),
            lambda p, v: p.linear_term + 0 * v,
        ):
            found, expected = call(mine, xp.asarray(2 * x)), call(theirs, 2 * x)
            np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-12)


def test_a_period_of_steps_contracts_as_its_schedule_says() -> None:
    bounds = estimate_bounds(xp.asarray(HESSIAN))
    problem = Quadratic(xp.asarray(HESSIAN), xp.asarray(np.zeros(40)))
    x = xp.asarray(ROWS[0])
    for gamma in chebyshev_steps(SpectralBounds(bounds.lower, bounds.upper), 16):
        x = problem.gradient_step(x, gamma)
    assert np.linalg.norm(np.asarray(x)) < 1e-3 * np.linalg.norm(ROWS[0])


ELSEWHERE = xp.Device("device1")


def on_device(values: np.ndarray) -> object:
    return xp.asarray(values, device=ELSEWHERE)


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: _arrays.from_host(np.ones(40), rows),
        lambda rows: _arrays.column(np.ones(3), rows),
        lambda rows: _arrays.put_rows(rows, [2, 0], rows[:2, ...]),
        lambda rows: _arrays.take(rows, [1]),
        lambda rows: _arrays.empty_rows(2, rows),
        lambda rows: _arrays.cast(rows, "float32"),
        lambda rows: _arrays.copy_of(rows),
        lambda rows: _arrays.zeros_like(rows),
        lambda rows: _arrays.reshaped(rows, (-1,)),
        lambda rows: _arrays.sigmoid(rows),
    ],
)
def test_arrays_that_are_made_stay_on_the_device(make) -> None:
    assert make(on_device(ROWS)).device == ELSEWHERE


def test_norms_and_products_come_to_the_host_from_a_device() -> None:
    rows = on_device(ROWS)
    np.testing.assert_allclose(_arrays.norms(rows), np.linalg.norm(ROWS, axis=1))
    np.testing.assert_allclose(_arrays.row_dots(rows, rows), (ROWS * ROWS).sum(1))
    np.testing.assert_array_equal(_arrays.to_host(rows), ROWS)


def test_bounds_and_measures_are_made_on_the_device() -> None:
    matrix = on_device(HESSIAN)
    found, expected = (estimate_bounds(each, method=Lanczos()) for each in (matrix, HESSIAN))
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), rel=1e-9)
    np.testing.assert_allclose(
        error_measure(matrix, on_device(ROWS), num_steps=4).nodes,
        error_measure(HESSIAN, ROWS, num_steps=4).nodes,
        rtol=1e-8,
    )


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("steps", [None, 16])
@pytest.mark.parametrize("kind", [Quadratic, LeastSquares])
def test_a_solution_has_a_small_gradient_and_is_of_the_library(kind, steps, batch) -> None:
    matrix = HESSIAN if kind is Quadratic else np.vstack([FACTOR, np.eye(40)])
    rhs = (ROWS if batch else ROWS[0]) @ matrix.T
    problem = kind(xp.asarray(matrix), xp.asarray(rhs))
    schedule = None if steps is None else chebyshev_steps(estimate_bounds(problem), steps)
    result = solve(problem, schedule, rtol=1e-9)
    assert result.status is Status.CONVERGED
    assert type(result.x) is type(xp.asarray(rhs))
    np.testing.assert_allclose(np.asarray(result.x), ROWS if batch else ROWS[0], atol=1e-6)


@pytest.mark.parametrize("batch", [False, True])
def test_a_map_is_accelerated_to_its_fixed_point(batch) -> None:
    matrix = 0.95 * HESSIAN / np.linalg.norm(HESSIAN, 2)
    own, rhs = xp.asarray(matrix), xp.asarray(ROWS if batch else ROWS[0])
    result = accelerate(
        lambda x: (own @ x.T).T + rhs if batch else own @ x + rhs,
        xp.asarray(np.zeros(rhs.shape)),
        batch=batch,
        rtol=1e-9,
    )
    assert result.status is Status.CONVERGED
    expected = np.linalg.solve(np.eye(40) - matrix, np.asarray(rhs).T).T
    np.testing.assert_allclose(np.asarray(result.x), expected, rtol=1e-6, atol=1e-6)


def test_andersons_method_and_the_spectrum_of_a_jacobian_take_arrays_of_the_standard() -> None:
    matrix = 0.95 * HESSIAN / np.linalg.norm(HESSIAN, 2)
    own, zero = xp.asarray(matrix), xp.asarray(np.zeros(40))
    result = iterate(lambda x: own @ x + 1.0, zero, Anderson(), rtol=1e-9)
    expected = np.linalg.solve(np.eye(40) - matrix, np.ones(40))
    np.testing.assert_allclose(np.asarray(result.x), expected, rtol=1e-6)
    bounds = jacobian_spectrum(lambda x: own @ x, zero)
    values = np.linalg.eigvalsh(np.eye(40) - matrix)
    assert bounds.lower <= values[0] * (1 + 1e-6)
    assert bounds.upper >= values[-1] * (1 - 1e-6)


@pytest.mark.parametrize("kind", [Quadratic, LeastSquares])
def test_a_preconditioned_problem_has_the_bounds_and_the_solution_of_numpy(kind) -> None:
    matrix = HESSIAN if kind is Quadratic else np.vstack([FACTOR, np.eye(40)])
    mine = kind(xp.asarray(matrix), xp.asarray(matrix @ ROWS[0]))
    theirs = kind(matrix, matrix @ ROWS[0])
    diagonal = np.linspace(1.0, 2.0, 40)
    problem = Preconditioned(mine, xp.asarray(diagonal))
    found, expected = (
        estimate_bounds(each) for each in (problem, Preconditioned(theirs, diagonal))
    )
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), rel=1e-9)
    result = solve(problem, chebyshev_steps(found, 16), rtol=1e-9)
    np.testing.assert_allclose(np.asarray(result.x), ROWS[0], atol=1e-6)


def test_arrays_of_two_libraries_are_refused() -> None:
    with pytest.raises(TypeError, match="must be of one library, got ndarray and Array; pass"):
        Quadratic(xp.asarray(HESSIAN), ROWS[0])
    with pytest.raises(TypeError, match="must be of one library, got Array and ndarray"):
        Quadratic(HESSIAN, xp.asarray(ROWS[0]))


def test_entries_that_are_not_finite_are_refused() -> None:
    bad = HESSIAN.copy()
    bad[3, 4] = np.nan
    with pytest.raises(ValueError, match="`hessian` must be finite, got NaN or infinity in an"):
        estimate_bounds(xp.asarray(bad))
