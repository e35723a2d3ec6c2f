"""Budgets of products and seconds; error bounds; the best iterate at the level of rounding."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    solve,
)
from stepfold.solve import Guard

SIZE = 40
BOUNDS = SpectralBounds(1.0, 100.0 * (1 + 1e-12))
SCHEDULE = chebyshev_steps(BOUNDS, 8)


@pytest.fixture(scope="module")
def hessian(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    return symmetric_with(np.linspace(1.0, 100.0, SIZE))


@pytest.fixture(scope="module")
def rhs() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SIZE)


@pytest.mark.parametrize(("budget", "taken"), [(0, 0), (7, 0), (8, 8), (23, 16), (24, 24)])
def test_products_beyond_the_budget_are_never_made(
    hessian: np.ndarray, rhs: np.ndarray, counting: type, budget: int, taken: int
) -> None:
    operator = counting(hessian)
    result = solve(Quadratic(operator, rhs), SCHEDULE, max_products=budget)
    assert (result.status, result.num_steps) == (Status.BUDGET, taken)
    assert operator.counter[0] == result.history.num_products[-1] <= budget


@pytest.mark.parametrize("budget", [1, 20, 100])
def test_products_of_least_squares_beyond_the_budget_are_never_made(
    counting: type, budget: int
) -> None:
    operator = counting(np.diag(np.linspace(1.0, 10.0, SIZE)))
    result = solve(LeastSquares(operator, np.ones(SIZE)), SCHEDULE, max_products=budget)
    assert operator.counter[0] == result.history.num_products[-1] <= budget


def test_a_budget_without_room_for_a_period_says_so(hessian: np.ndarray, rhs: np.ndarray) -> None:
    result = solve(Quadratic(hessian, rhs), SCHEDULE, max_products=5)
    assert "no room for a period of 8 steps" in result.advice


def test_a_period_that_would_take_too_long_is_not_begun(
    rhs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]

    class Slow:
        shape = (SIZE, SIZE)
        T = property(lambda self: self)

        def __matmul__(self, x: Any) -> Any:
            clock[0] += 5.0  # seconds that nobody has to wait for
            return np.linspace(1.0, 100.0, SIZE) * x

    for name in ("perf_counter", "monotonic", "time"):
        monkeypatch.setattr(time, name, lambda: clock[0])
    result = solve(Quadratic(Slow(), rhs), SCHEDULE, max_seconds=200.0)
    assert result.status is Status.BUDGET
    assert result.num_steps > 0
    assert clock[0] <= 1200.0


def test_no_time_takes_no_step(hessian: np.ndarray, rhs: np.ndarray) -> None:
    result = solve(Quadratic(hessian, rhs), SCHEDULE, max_seconds=0.0)
    assert (result.status, result.num_steps) == (Status.BUDGET, 0)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-10])
def test_a_certain_error_is_certain(hessian: np.ndarray, rhs: np.ndarray, tolerance: float) -> None:
    result = solve(Quadratic(hessian, rhs), SCHEDULE, error_rtol=tolerance)
    solution = np.linalg.solve(hessian, rhs)
    error = np.linalg.norm(result.x - solution)
    assert result.converged
    assert error <= tolerance * np.linalg.norm(solution)
    assert error <= result.error_bound
    assert result.error_bound * (1 + tolerance) <= tolerance * np.linalg.norm(result.x)


def test_an_error_bound_and_a_tolerance_must_both_hold(
    hessian: np.ndarray, rhs: np.ndarray
) -> None:
    problem = Quadratic(hessian, rhs)
    loose = solve(problem, SCHEDULE, error_rtol=1e-2)
    both = solve(problem, SCHEDULE, error_rtol=1e-2, rtol=1e-8)
    assert loose.num_steps < both.num_steps == solve(problem, SCHEDULE).num_steps


def test_an_error_bound_of_bounds_told_to_the_guard(hessian: np.ndarray, rhs: np.ndarray) -> None:
    result = solve(
        Quadratic(hessian, rhs), Schedule(SCHEDULE.steps), error_rtol=1e-6, guard=Guard(BOUNDS)
    )
    assert result.converged


@pytest.mark.parametrize("schedule", [Schedule([0.01]), chebyshev_steps(BOUNDS, 8, kind=4)])
def test_without_a_lower_bound_no_error_is_certain(
    hessian: np.ndarray, rhs: np.ndarray, schedule: Schedule
) -> None:
    schedule = Schedule(schedule.steps, bounds=None)
    assert solve(Quadratic(hessian, rhs), schedule).error_bound is None
    with pytest.raises(ValueError, match=r"`error_rtol` needs a lower bound above 0"):
        solve(Quadratic(hessian, rhs), schedule, error_rtol=1e-3)


def test_each_row_of_a_batch_has_its_error_bound(hessian: np.ndarray, rhs: np.ndarray) -> None:
    rows = np.stack([rhs, 1e-3 * rhs[::-1], np.zeros(SIZE)])
    result = solve(Quadratic(hessian, rows), SCHEDULE, error_rtol=1e-6)
    errors = np.linalg.norm(result.x - np.linalg.solve(hessian, rows.T).T, axis=1)
    assert result.converged
    assert np.all(errors <= np.asarray(result.error_bound))


@pytest.mark.parametrize("kind", [1, 2, 4])
@pytest.mark.parametrize("period", [64, 1024])
def test_a_run_to_the_level_of_rounding_is_as_exact_as_the_plain_loop(
    symmetric_with: Callable[..., np.ndarray], kind: int, period: int
) -> None:
    angles = np.linspace(0, np.pi / 2, 100)
    hessian = symmetric_with(np.cos(angles) ** 2 + 1e4 * np.sin(angles) ** 2)
    rhs = hessian @ np.random.default_rng(0).standard_normal(100)
    solution = np.linalg.solve(hessian, rhs)
    schedule = chebyshev_steps(SpectralBounds(1 - 1e-9, 1e4 * (1 + 1e-12)), period, kind=kind)
    result = solve(Quadratic(hessian, rhs), schedule, rtol=0.0, max_steps=60_000)
    assert result.status is Status.STALLED
    plain = np.zeros(100)
    for t in range(result.num_steps):
        plain = plain - schedule(t) * (hessian @ plain - rhs)
    sizes = [np.linalg.norm(x - solution) / np.linalg.norm(solution) for x in (result.x, plain)]
    assert sizes[0] <= 3 * sizes[1]
    assert sizes[0] <= 1e4 * np.finfo(float).eps  # the condition number times the precision


def test_iterates_are_kept_on_request_only(hessian: np.ndarray, rhs: np.ndarray) -> None:
    problem = Quadratic(hessian, rhs)
    assert solve(problem, SCHEDULE).history.iterates is None
    result = solve(problem, SCHEDULE, keep_iterates=True)
    iterates = result.history.iterates
    assert iterates is not None
    norms = [float(np.linalg.norm(hessian @ x - rhs)) for x in iterates]
    np.testing.assert_allclose(norms, result.history.gradient_norms, rtol=1e-6)
    assert len(result.history.to_dict()["iterates"]) == len(iterates)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_products": -1}, ValueError, "`max_products` must be an integer of at least 0"),
        ({"max_products": 2.5}, TypeError, "`max_products` must be an integer"),
        ({"max_seconds": -1.0}, ValueError, "`max_seconds` must be at least 0, got -1.0"),
        ({"max_seconds": "a"}, TypeError, "`max_seconds` must be a real number, got str"),
        ({"rtol": "a"}, TypeError, "`rtol` must be a real number, got str"),
        ({"rtol": 1j}, TypeError, "`rtol` must be a real number, got complex"),
        ({"atol": np.ones(2)}, ValueError, r"`atol` must be one number, got shape \(2,\)"),
        ({"atol": None}, TypeError, "`atol` must be a real number, got NoneType"),
        ({"max_seconds": math.nan}, ValueError, "`max_seconds` must be at least 0, got nan"),
        ({"error_rtol": -1.0}, ValueError, "`error_rtol` must be at least 0 and finite"),
        ({"error_rtol": math.nan}, ValueError, "`error_rtol` must be at least 0 and finite"),
    ],
)
def test_budgets_and_tolerances_that_are_none_are_refused(
    hessian: np.ndarray,
    rhs: np.ndarray,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        solve(Quadratic(hessian, rhs), SCHEDULE, **arguments)


def test_two_runs_are_the_same_to_the_last_bit(hessian: np.ndarray, rhs: np.ndarray) -> None:
    schedule = chebyshev_steps(SpectralBounds(1.0, 50.0), 16)
    first, second = (solve(Quadratic(hessian, rhs), schedule) for _ in range(2))
    assert first.x.tobytes() == second.x.tobytes()
    assert first.events == second.events
