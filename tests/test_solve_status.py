"""How a run ends, what it records on the way, and what `solve` refuses."""

import dataclasses
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stepfold import (
    LeastSquares,
    Quadratic,
    Result,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    solve,
)
from stepfold.polynomial import chebyshev_period_rate

EIGENVALUES = np.linspace(1.0, 25.0, 12)
BOUNDS = SpectralBounds(1.0, 25.0)
CHEBYSHEV = chebyshev_steps(BOUNDS, 8)
RHS = np.random.default_rng(1).standard_normal(12)


@pytest.fixture(scope="module")
def hessian(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    return symmetric_with(EIGENVALUES)


def gradient_norm(hessian: np.ndarray, x: np.ndarray, rhs: np.ndarray = RHS) -> float:
    return float(np.linalg.norm(hessian @ x - rhs))


@pytest.mark.parametrize("rtol", [1e-3, 1e-8, 1e-13])
def test_converged_means_that_the_gradient_at_the_result_is_small(
    hessian: np.ndarray, rtol: float
) -> None:
    result = solve(Quadratic(hessian, RHS), CHEBYSHEV, rtol=rtol)
    assert result.status is Status.CONVERGED
    assert result.converged
    assert gradient_norm(hessian, result.x) <= rtol * np.linalg.norm(RHS) * (1 + 1e-2)
    assert result.history.gradient_norms[-2] > rtol * np.linalg.norm(RHS)


def test_an_absolute_tolerance_suffices_too(hessian: np.ndarray) -> None:
    result = solve(Quadratic(hessian, RHS), CHEBYSHEV, rtol=0.0, atol=0.1)
    assert result.status is Status.CONVERGED
    assert result.history.gradient_norms[-1] <= 0.1 < result.history.gradient_norms[-2]


def test_the_number_of_steps_is_what_the_rate_promises(hessian: np.ndarray) -> None:
    result = solve(Quadratic(hessian, RHS), CHEBYSHEV)
    periods = math.ceil(math.log(1e-8) / math.log(chebyshev_period_rate(BOUNDS, 8)))
    assert result.num_steps <= 8 * periods


@pytest.mark.parametrize(
    ("max_steps", "taken"), [(0, 0), (7, 0), (8, 8), (15, 8), (np.int64(16), 16)]
)
def test_a_period_that_does_not_fit_the_budget_of_steps_is_not_begun(
    hessian: np.ndarray, max_steps: int, taken: int
) -> None:
    result = solve(Quadratic(hessian, RHS), CHEBYSHEV, rtol=1e-14, max_steps=max_steps)
    assert (result.status, result.num_steps) == (Status.BUDGET, taken)
    assert not result.converged


def test_no_steps_return_the_start(hessian: np.ndarray) -> None:
    result = solve(Quadratic(hessian, RHS), CHEBYSHEV, np.full(12, 3.0), max_steps=0)
    assert result.x.tolist() == [3.0] * 12
    assert result.history.num_steps.tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_tolerance_below_rounding_stalls_at_the_precision_of_the_dtype(
    hessian: np.ndarray, dtype: type
) -> None:
    problem = Quadratic(hessian.astype(dtype), RHS.astype(dtype))
    result = solve(problem, CHEBYSHEV, rtol=0.0)
    assert result.status is Status.STALLED
    assert result.num_steps < 1000
    relative = gradient_norm(hessian, result.x) / np.linalg.norm(RHS)
    assert relative < 100 * np.finfo(dtype).eps


def test_a_least_squares_solution_of_an_unreachable_rhs_stalls_or_converges_at_zero() -> None:
    # b is orthogonal to the range up to rounding: the gradient at 0 is rounding already.
    factor = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 4)))[0]
    rhs = np.ones(9) - factor @ (factor.T @ np.ones(9))
    result = solve(LeastSquares(factor, rhs), Schedule([0.9]))
    assert result.status in (Status.STALLED, Status.CONVERGED)
    assert np.abs(result.x).max() < 1e-14


@pytest.mark.parametrize("upper", [15.0, 22.0, 23.0])
def test_an_upper_bound_too_low_diverges_unguarded_and_the_best_iterate_is_kept(
    hessian: np.ndarray, upper: float
) -> None:
    schedule = chebyshev_steps(SpectralBounds(1.0, upper), 8)
    result = solve(Quadratic(hessian, RHS), schedule, guard=None)
    assert result.status is Status.DIVERGED
    norms = result.history.gradient_norms
    assert norms[-1] > 1e8 * norms[0]
    assert gradient_norm(hessian, result.x) == pytest.approx(norms.min(), rel=1e-12)


def test_steps_that_diverge_slowly_are_not_called_stalled() -> None:
    result = solve(Quadratic(np.diag([1.0, 2.0]), np.ones(2)), Schedule([1.01]))
    assert result.status is Status.DIVERGED


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("step", [1e30, 1e3])
def test_an_iterate_beyond_the_floats_diverges_without_a_warning(dtype: type, step: float) -> None:
    problem = Quadratic(np.diag([1.0, 2.0]).astype(dtype), np.ones(2, dtype))
    result = solve(problem, Schedule([step] * 50))
    assert result.status is Status.DIVERGED
    assert result.x.tolist() == [0.0, 0.0]


def interrupt_at(step: int) -> Callable[[int, Any], None]:
    def callback(count: int, x: Any) -> None:
        if count == step:
            raise KeyboardInterrupt

    return callback


def test_an_interruption_returns_the_best_iterate_at_a_period_s_end(hessian: np.ndarray) -> None:
    problem = Quadratic(hessian, RHS)
    result = solve(problem, CHEBYSHEV, callback=interrupt_at(20))
    assert (result.status, result.num_steps) == (Status.INTERRUPTED, 20)
    assert result.history.num_steps.tolist() == [0, 8, 16]
    assert result.x.tolist() == solve(problem, CHEBYSHEV, max_steps=16).x.tolist()


def test_an_interruption_in_the_first_gradient_returns_the_start(hessian: np.ndarray) -> None:
    class Interrupted:
        shape = (12, 12)
        T = property(lambda self: self)

        def __matmul__(self, x: Any) -> Any:
            raise KeyboardInterrupt

    result = solve(Quadratic(Interrupted(), RHS), CHEBYSHEV, np.ones(12))
    assert (result.status, result.num_steps) == (Status.INTERRUPTED, 0)
    assert result.x.tolist() == [1.0] * 12
    assert result.history.num_steps.size == 0
    assert json.dumps(result.to_dict())


def test_a_zero_right_hand_side_is_solved_by_zero(hessian: np.ndarray) -> None:
    result = solve(Quadratic(hessian, np.zeros(12)), CHEBYSHEV)
    assert (result.status, result.num_steps) == (Status.CONVERGED, 0)
    assert result.x.tolist() == [0.0] * 12


def test_a_zero_right_hand_side_is_solved_from_elsewhere_too(hessian: np.ndarray) -> None:
    result = solve(Quadratic(hessian, np.zeros(12)), CHEBYSHEV, np.ones(12))
    assert result.status is Status.CONVERGED
    norms = result.history.gradient_norms
    assert norms[-1] <= 1e-8 * norms[0] < norms[-2]


def test_an_exact_start_takes_no_steps(hessian: np.ndarray) -> None:
    solution = np.linalg.solve(hessian, RHS)
    result = solve(Quadratic(hessian, RHS), CHEBYSHEV, solution)
    assert (result.status, result.num_steps) == (Status.CONVERGED, 0)
    assert result.x.tolist() == solution.tolist()


def test_every_row_of_a_batch_meets_its_own_tolerance(hessian: np.ndarray) -> None:
    rhs = np.stack([1e-200 * RHS, np.zeros(12), RHS[::-1], 1e200 * RHS])
    result = solve(Quadratic(hessian, rhs), CHEBYSHEV)
    assert result.status is Status.CONVERGED
    left = np.abs(result.x @ hessian - rhs).max(axis=1)
    assert np.all(left <= 1e-8 * np.abs(rhs).max(axis=1) * 4)


def test_rounding_in_one_row_does_not_hide_progress_of_a_smaller_one(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    eigenvalues = np.linspace(1.0, 100.0, 30)
    hessian = symmetric_with(eigenvalues)
    vectors = np.linalg.eigh(hessian)[1]
    fast, slow = vectors[:, 14] + vectors[:, 15], 1e-20 * vectors[:, 0]
    result = solve(Quadratic(hessian, np.stack([fast, slow])), Schedule([2 / 101]))
    assert result.status is Status.CONVERGED


def test_the_history_has_one_entry_a_period_and_the_norms_of_the_iterates(
    hessian: np.ndarray,
) -> None:
    iterates = {0: np.zeros(12)}
    result = solve(Quadratic(hessian, RHS), CHEBYSHEV, callback=iterates.__setitem__)
    history = result.history
    assert history.num_steps.tolist() == list(range(0, result.num_steps + 1, 8))
    expected = [gradient_norm(hessian, iterates[t]) for t in history.num_steps.tolist()]
    np.testing.assert_allclose(history.gradient_norms, expected, rtol=1e-9, atol=1e-14)
    assert np.all(np.diff(history.seconds) >= 0)
    assert result.x.tolist() == iterates[result.num_steps].tolist()


def test_the_history_of_a_batch_has_a_column_for_each_row(hessian: np.ndarray) -> None:
    result = solve(Quadratic(hessian, np.stack([RHS, 2 * RHS])), CHEBYSHEV)
    norms = result.history.gradient_norms
    assert norms.shape == (result.history.num_steps.size, 2)
    np.testing.assert_allclose(norms[:, 1], 2 * norms[:, 0], rtol=1e-6)


def test_the_norms_on_the_way_stay_below_the_rate(hessian: np.ndarray) -> None:
    norms = solve(Quadratic(hessian, RHS), CHEBYSHEV, rtol=1e-10).history.gradient_norms
    assert np.all(norms[1:] / norms[:-1] <= chebyshev_period_rate(BOUNDS, 8) * (1 + 1e-4))


def test_the_history_counts_the_products_of_a_quadratic(
    hessian: np.ndarray, counting: type
) -> None:
    operator = counting(hessian)
    result = solve(Quadratic(operator, RHS), CHEBYSHEV)
    assert result.history.num_products[-1] == operator.counter[0] == result.num_steps


def test_the_history_counts_the_products_of_least_squares_and_of_the_linear_term(
    counting: type,
) -> None:
    operator = counting(np.diag([1.0, 2.0, 5.0]))
    result = solve(LeastSquares(operator, np.ones(3)), CHEBYSHEV)
    assert result.history.num_products[-1] == operator.counter[0] == 2 * result.num_steps + 1


def test_a_run_stopped_by_its_budget_counts_no_product_twice(
    hessian: np.ndarray, counting: type
) -> None:
    operator = counting(hessian)
    result = solve(Quadratic(operator, RHS), CHEBYSHEV, rtol=0.0, max_steps=24)
    # Finding out why it did not converge takes ten products more, at most.
    assert 24 <= operator.counter[0] == result.history.num_products[-1] <= 34


def test_the_callback_sees_every_step_and_its_iterate(hessian: np.ndarray) -> None:
    seen: list[tuple[int, np.ndarray]] = []
    result = solve(
        Quadratic(hessian, RHS), Schedule([0.01, 0.02]), max_steps=4,
        callback=lambda step, x: seen.append((step, x)),
    )  # fmt: skip
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    np.testing.assert_allclose(seen[0][1], 0.01 * RHS)
    assert seen[-1][1].tolist() == result.x.tolist()


def test_an_error_in_a_callback_is_not_swallowed(hessian: np.ndarray) -> None:
    def callback(step: int, x: Any) -> None:
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        solve(Quadratic(hessian, RHS), CHEBYSHEV, callback=callback)


def test_a_result_is_a_frozen_printable_record(hessian: np.ndarray) -> None:
    result: Result[np.ndarray] = solve(Quadratic(hessian, RHS), CHEBYSHEV)
    assert re.match(
        r"Result\(CONVERGED after \d+ steps: The gradient norm",
        repr(result),
    )
    record = json.loads(json.dumps(result.to_dict()))
    assert record["x"] == result.x.tolist()
    assert (record["status"], record["num_steps"]) == ("CONVERGED", result.num_steps)
    assert record["history"]["gradient_norms"] == result.history.gradient_norms.tolist()
    assert Schedule.from_dict(record["schedule"]) == CHEBYSHEV
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.x = RHS  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        result.history.gradient_norms[0] = 0.0


@pytest.mark.parametrize("status", Status)
def test_every_status_is_advice_in_a_sentence(status: Status) -> None:
    assert status.value[0].isupper()
    assert status.value.endswith(".")


@pytest.mark.parametrize("schedule", [[0.1, 0.2], 0.1, np.array([0.1])])
def test_a_schedule_that_is_none_is_refused_with_a_remedy(
    hessian: np.ndarray, schedule: Any
) -> None:
    with pytest.raises(TypeError, match=r"`schedule` must be a Schedule or None, got .*; wrap"):
        solve(Quadratic(hessian, RHS), schedule)


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_tolerances_that_are_negative_or_not_finite_are_refused(
    hessian: np.ndarray, name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be at least 0 and finite, got {value}"):
        solve(Quadratic(hessian, RHS), CHEBYSHEV, **{name: value})


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (2.5, TypeError), (True, ValueError)]
)
def test_a_budget_that_is_no_count_is_refused(
    hessian: np.ndarray, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"`max_steps` must be an integer"):
        solve(Quadratic(hessian, RHS), CHEBYSHEV, max_steps=value)


@pytest.mark.parametrize("shape", [(11,), (1, 13), (2, 2, 12), (), (0, 12)])
def test_a_start_that_does_not_fit_is_refused(hessian: np.ndarray, shape: tuple[int, ...]) -> None:
    message = f"`x0` must have shape (12,) or (batch, 12) to fit the problem, got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        solve(Quadratic(hessian, RHS), CHEBYSHEV, np.ones(shape))


@pytest.mark.parametrize("shape", [(1, 12), (3, 12)])
def test_a_batch_of_starts_for_one_problem_is_refused(
    hessian: np.ndarray, shape: tuple[int, ...]
) -> None:
    message = f"`x0` must have the shape of the solution, (12,), got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        solve(Quadratic(hessian, RHS), CHEBYSHEV, np.ones(shape))


def test_a_start_that_is_no_array_is_refused(hessian: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"`x0` must be an array, got str"):
        solve(Quadratic(hessian, RHS), CHEBYSHEV, "zero")  # type: ignore[arg-type]


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_a_start_that_is_not_finite_is_refused(convert: Callable[..., Any]) -> None:
    problem = Quadratic(convert([[1.0, 0.0], [0.0, 2.0]]), convert([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"`x0` must be finite, got"):
        solve(problem, CHEBYSHEV, convert([1.0, math.nan]))


@pytest.mark.parametrize("schedule", [None, CHEBYSHEV])
def test_a_callback_that_raises_stop_iteration_ends_the_run_at_its_iterate(
    hessian: np.ndarray, schedule: Any
) -> None:
    seen: list[np.ndarray] = []

    def watch(count: int, x: np.ndarray) -> None:
        seen.append(x.copy())
        if count == 3:
            raise StopIteration

    result = solve(Quadratic(hessian, RHS), schedule, callback=watch)
    assert (result.status, result.num_steps) == (Status.INTERRUPTED, 3)
    np.testing.assert_array_equal(result.x, seen[-1])
