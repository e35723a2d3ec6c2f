"""Lazy arrays of Dask in problems and `solve`, against NumPy's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepfold import (
    LeastSquares,
    Logistic,
    Quadratic,
    Status,
    accelerate,
    chebyshev_steps,
    estimate_bounds,
    solve,
)
from stepfold.iterations import BarzilaiBorwein, GradientDescent, HeavyBall
from stepfold.problems import Composite
from stepfold.problems.penalties import L1, Box

dask_array: Any = pytest.importorskip("dask.array")
callbacks: Any = pytest.importorskip("dask.callbacks")

RNG = np.random.default_rng(0)
FACTOR = RNG.standard_normal((60, 12))
HESSIAN = FACTOR.T @ FACTOR / 60
TRUE = np.where(RNG.uniform(size=12) < 0.5, 0.0, RNG.standard_normal(12))
SEEN = FACTOR @ TRUE + 0.1 * RNG.standard_normal(60)


def lazy(values: np.ndarray) -> Any:
    return dask_array.from_array(values, chunks=(20, *values.shape[1:]))


def problem(kind: str, make: Any) -> Any:
    match kind:
        case "quadratic":
            return Quadratic(make(HESSIAN), make(HESSIAN @ TRUE))
        case "least squares":
            return LeastSquares(make(FACTOR), make(SEEN), ridge=0.5)
        case "logistic":
            return Logistic(make(FACTOR), make(np.sign(SEEN)), ridge=5.0)
        case "lasso":
            return Composite(LeastSquares(make(FACTOR), make(SEEN)), L1(3.0))
        case _:
            return Composite(LeastSquares(make(FACTOR), make(SEEN)), Box(0.0, 0.5))


@pytest.mark.parametrize("kind", ["quadratic", "least squares", "logistic", "lasso", "box"])
def test_a_solution_is_that_of_numpy(kind: str) -> None:
    found, expected = solve(problem(kind, lazy)), solve(problem(kind, np.asarray))
    assert found.status is expected.status is Status.CONVERGED
    assert isinstance(found.x, dask_array.Array)
    np.testing.assert_allclose(found.x.compute(), expected.x, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("iteration", [GradientDescent(), HeavyBall(0.2), BarzilaiBorwein()])
def test_known_steps_end_where_numpy_does(iteration: Any) -> None:
    mine, theirs = problem("least squares", lazy), problem("least squares", np.asarray)
    bounds = estimate_bounds(theirs)
    assert estimate_bounds(mine).upper == pytest.approx(bounds.upper, rel=1e-8)
    schedule = chebyshev_steps(bounds, 1 if isinstance(iteration, HeavyBall) else 8)
    found, expected = (solve(each, schedule, iteration=iteration) for each in (mine, theirs))
    assert found.status is expected.status is Status.CONVERGED
    np.testing.assert_allclose(found.x.compute(), expected.x, rtol=1e-6)


def test_a_map_of_lazy_arrays_is_accelerated() -> None:
    matrix, term = lazy(HESSIAN), lazy(HESSIAN @ TRUE)
    found = accelerate(lambda x: x + 0.5 * (term - matrix @ x), lazy(np.zeros(12)))
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.x.compute(), TRUE, atol=1e-6)


class Tasks(callbacks.Callback):  # type: ignore[misc]  # Dask is untyped
    """Counts the tasks that Dask does."""

    def __init__(self) -> None:
        self.count = 0

    def _posttask(self, *_: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("is_known", [True, False])
def test_work_grows_in_proportion_to_the_steps(is_known: bool) -> None:
    # Without computing each step, four times the steps would be sixteen times the work.
    posed = problem("least squares", lazy)
    schedule = chebyshev_steps(estimate_bounds(posed), 8) if is_known else None
    counts = []
    for steps in (2, 8) if schedule is None else (16, 64):
        with Tasks() as tasks:
            assert solve(posed, schedule, max_steps=steps, rtol=1e-300).num_steps <= steps
        counts.append(tasks.count)
    assert counts[0] < counts[1] < 10 * counts[0]
