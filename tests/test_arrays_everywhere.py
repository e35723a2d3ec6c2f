"""Problems, penalties, iterations and periods on arrays of several libraries, against NumPy's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
from _penalties import PLAIN, SIZE, example

from stepfold import (
    LeastSquares,
    Logistic,
    Quadratic,
    Status,
    accelerate,
    chebyshev_steps,
    constant_steps,
    estimate_bounds,
    period,
    solve,
)
from stepfold.iterations import (
    BarzilaiBorwein,
    GradientDescent,
    HeavyBall,
    Nesterov,
    SemiIteration,
    semi_iteration,
)
from stepfold.problems import Composite

jax = pytest.importorskip("jax")

RNG = np.random.default_rng(0)
FACTOR = RNG.standard_normal((40, SIZE))
HESSIAN = FACTOR.T @ FACTOR
TRUE = RNG.standard_normal((3, SIZE))
NOISE = RNG.standard_normal((3, 40))

MAKERS = {
    "numpy": np.asarray,
    "array_api_strict": array_api_strict.asarray,
    "jax": lambda values: jax.numpy.asarray(values),
    "torch": torch.tensor,
}
# Penalties use methods such as `sum` and `clip`, which arrays of the bare standard do not have.
WITH_METHODS = ["jax", "torch"]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def problems(make: Any, rows: np.ndarray) -> dict[str, Any]:
    seen = rows @ FACTOR.T + NOISE[: len(rows)] if rows.ndim > 1 else FACTOR @ rows + NOISE[0]
    return {
        "quadratic": Quadratic(make(HESSIAN), make(rows @ HESSIAN)),
        "least squares": LeastSquares(make(FACTOR), make(seen), ridge=0.5),
        "logistic": Logistic(make(FACTOR), make(np.sign(seen)), ridge=0.3),
    }


def host(x: Any) -> np.ndarray:
    return np.asarray(x)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("kind", ["quadratic", "least squares", "logistic"])
@pytest.mark.parametrize("library", MAKERS)
def test_a_solution_is_that_of_numpy_and_of_the_library(
    library: str, kind: str, batch: bool
) -> None:
    if (library, kind) == ("array_api_strict", "logistic"):
        pytest.skip("soft thresholding calls `clip`, which arrays of the bare standard lack")
    rows = TRUE if batch else TRUE[0]
    mine, theirs = (problems(make, rows)[kind] for make in (MAKERS[library], np.asarray))
    found, expected = solve(mine, rtol=1e-9), solve(theirs, rtol=1e-9)
    assert found.status is expected.status is Status.CONVERGED
    assert type(found.x) is type(MAKERS[library](rows))
    np.testing.assert_allclose(host(found.x), expected.x, rtol=1e-6, atol=1e-7)
    mine, theirs = estimate_bounds(mine), estimate_bounds(theirs)
    assert mine.upper == pytest.approx(theirs.upper, rel=1e-8)


@pytest.mark.parametrize(
    "iteration",
    [GradientDescent(), HeavyBall(0.3), Nesterov(0.3), BarzilaiBorwein(), None],
    ids=["gradient", "heavy ball", "nesterov", "barzilai borwein", "semi-iteration"],
)
@pytest.mark.parametrize("library", MAKERS)
def test_every_iteration_ends_where_numpy_does(library: str, iteration: Any) -> None:
    if library == "array_api_strict" and isinstance(iteration, BarzilaiBorwein):
        pytest.skip("it calls `max`, which arrays of the bare standard lack")
    mine, theirs = (
        problems(make, TRUE[0])["least squares"] for make in (MAKERS[library], np.asarray)
    )
    bounds = estimate_bounds(theirs)
    schedule = constant_steps(bounds)
    if iteration is None:
        schedule, iteration = semi_iteration(bounds, 8)
        assert isinstance(iteration, SemiIteration)
    found, expected = (
        solve(each, schedule, iteration=iteration, rtol=1e-8) for each in (mine, theirs)
    )
    assert found.status is expected.status
    np.testing.assert_allclose(host(found.x), expected.x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("library", WITH_METHODS)
def test_every_penalty_has_the_proximal_operator_and_the_value_of_numpy(
    library: str, name: str
) -> None:
    penalty, make = example(name), MAKERS[library]
    rows = TRUE[0]
    expected = penalty.prox(rows, 0.4)
    found = penalty.prox(make(rows), 0.4)
    np.testing.assert_allclose(host(found), expected, atol=1e-6)
    value = float(penalty.value(make(expected)))
    assert value == pytest.approx(float(penalty.value(expected)), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("library", WITH_METHODS)
def test_a_composite_problem_ends_where_numpy_does(library: str, name: str) -> None:
    mine, theirs = (
        Composite(problems(make, TRUE)["least squares"], example(name))
        for make in (MAKERS[library], np.asarray)
    )
    found, expected = solve(mine, rtol=1e-7), solve(theirs, rtol=1e-7)
    assert found.status is expected.status
    np.testing.assert_allclose(host(found.x), expected.x, atol=1e-4)


@pytest.mark.parametrize("library", MAKERS)
def test_a_map_is_accelerated_to_the_fixed_point_of_numpy(library: str) -> None:
    make = MAKERS[library]
    matrix, shift = 0.9 * HESSIAN / np.linalg.norm(HESSIAN, 2), TRUE[0]
    own, rhs = make(np.eye(SIZE) - matrix), make(shift)
    result = accelerate(lambda x: own @ x + rhs, make(np.zeros(SIZE)), rtol=1e-9)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(host(result.x), np.linalg.solve(matrix, shift), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradient", *PLAIN])
def test_a_period_under_jit_is_the_period_without(name: str) -> None:
    if name == "nuclear norm":
        pytest.skip("its proximal operator decides by a number, which a traced array has not")
    problem: Any = problems(MAKERS["jax"], TRUE[0])["least squares"]
    bounds = estimate_bounds(problem)
    if name != "gradient":
        problem = Composite(problem, example(name))
    advance = period(problem, chebyshev_steps(bounds, 8))
    x = jax.numpy.asarray(TRUE[1])
    np.testing.assert_allclose(host(jax.jit(advance)(x)), host(advance(x)), atol=1e-9)


def test_a_derivative_by_the_start_is_the_residual_polynomial_of_the_hessian() -> None:
    problem = Quadratic(jax.numpy.asarray(HESSIAN), jax.numpy.asarray(TRUE[0]))
    schedule = chebyshev_steps(estimate_bounds(problem), 8)
    found = jax.jit(jax.grad(lambda x: period(problem, schedule)(x).sum()))(
        jax.numpy.asarray(TRUE[1])
    )
    expected = np.ones(SIZE)
    for gamma in schedule:
        expected = expected - gamma * HESSIAN @ expected
    np.testing.assert_allclose(host(found), expected, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.5, 1e-7])
def test_a_status_in_single_precision_of_jax_is_true_of_the_solution(ridge: float) -> None:
    with jax.enable_x64(False):
        factor, seen = jax.numpy.asarray(FACTOR), jax.numpy.asarray(FACTOR @ TRUE[0] + NOISE[0])
        assert seen.dtype == "float32"
        problem = LeastSquares(factor, seen, ridge=ridge)
        loose, tight = solve(problem), solve(problem, rtol=1e-12)
    assert loose.status is Status.CONVERGED
    assert loose.x.dtype == "float32"
    assert tight.status is not Status.CONVERGED  # 1e-12 is below what 24 bits can hold
    seen = FACTOR @ TRUE[0] + NOISE[0]
    for each in (loose, tight):
        x = host(each.x).astype(float)
        gradient = FACTOR.T @ (FACTOR @ x - seen) + ridge * x
        assert np.linalg.norm(gradient) <= 1e-4 * np.linalg.norm(FACTOR.T @ seen)
