"""`accelerate`: where it ends, what it counts, and what it does about maps that misbehave."""

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gallery import GALLERY
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag

from stepfold import FixedPoint, Schedule, SpectralBounds, Status, accelerate, chebyshev_steps
from stepfold.accelerate import Anderson, GradientWarning, iterate
from stepfold.problems.fixed_point import StochasticMapWarning

mixed = functools.partial(iterate, method=Anderson())

EIGENVALUES = np.geomspace(0.01, 1.0, 60)
START = np.random.default_rng(1).standard_normal(60)


@pytest.fixture(scope="module")
def matrix(symmetric_with: Callable[..., np.ndarray]) -> np.ndarray:
    return symmetric_with(EIGENVALUES)


def _map(matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    rhs = np.ones(len(matrix))
    return lambda x: x - matrix @ x + rhs


def test_the_answer_of_a_linear_map_is_that_of_a_direct_solver(matrix: np.ndarray) -> None:
    result = accelerate(_map(matrix), START, rtol=1e-12)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.x, np.linalg.solve(matrix, np.ones(60)), rtol=1e-8)


@pytest.mark.parametrize("rtol", [1e-2, 1e-6, 1e-10])
def test_converged_means_that_the_residual_at_the_result_is_small(
    matrix: np.ndarray, rtol: float
) -> None:
    function = _map(matrix)
    result = accelerate(function, START, rtol=rtol)
    first = np.linalg.norm(function(START) - START)
    assert np.linalg.norm(function(result.x) - result.x) <= rtol * first * (1 + 1e-6)


def test_evaluations_are_those_that_the_map_has_seen(matrix: np.ndarray) -> None:
    calls = []
    function = _map(matrix)

    def counted(x: np.ndarray) -> np.ndarray:
        calls.append(x)
        return function(x)

    problem = FixedPoint(counted)
    problem.residual(START)
    result = accelerate(problem, START)
    assert result.history.num_products[-1] == len(calls) - 1 == result.num_steps + 2


@given(
    lower=st.floats(1e-3, 0.9),
    upper=st.floats(1.0, 1.9),
    seed=st.integers(0, 2**31),
    size=st.integers(1, 40),
)
def test_on_symmetric_contractions_the_map_alone_is_enough(
    lower: float, upper: float, seed: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    eigenvalues = rng.uniform(lower, upper, size)
    target = rng.standard_normal(size)
    result = accelerate(lambda x: x - eigenvalues * (x - target), np.zeros(size), rtol=1e-6)
    assert result.converged
    residual = np.linalg.norm(eigenvalues * (result.x - target))
    assert residual <= 1e-6 * np.linalg.norm(eigenvalues * target) * (1 + 1e-6)


def test_a_map_that_overshoots_converges_where_the_plain_iteration_does_not() -> None:
    eigenvalues = np.linspace(0.5, 4.0, 30)  # of I − J: the plain iteration grows by 3 a step
    result = accelerate(lambda x: x - eigenvalues * (x - 1), np.zeros(30))
    assert result.converged
    np.testing.assert_allclose(result.x, 1.0, atol=1e-6)


def test_a_spectrum_on_both_sides_of_the_real_axis_is_accelerated() -> None:
    # Eigenvalues 1 ± 0.95 s i of I − J: the plain iteration's rate is 0.95, the ellipse's 0.40.
    turns = 0.95 * np.linspace(0, 1, 50)

    def function(x: np.ndarray) -> np.ndarray:
        turned = np.stack([-turns * x[:, 1], turns * x[:, 0]], axis=1)
        return turned + 1.0

    result = accelerate(function, np.zeros((50, 2)), rtol=1e-10)
    assert result.converged
    assert result.history.num_products[-1] <= 60
    np.testing.assert_allclose(function(result.x), result.x, atol=1e-8)


def test_superlinear_maps_are_left_alone() -> None:
    result = accelerate(lambda x: (x + 2 / x) / 2, np.array([5.0, 1.0, 30.0]), rtol=1e-12)
    assert result.converged
    assert result.history.num_products[-1] <= 14  # ten of them are Newton's


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 3)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    result = accelerate(np.cos, np.zeros(shape), rtol=1e-10)
    assert result.x.shape == shape
    np.testing.assert_allclose(result.x, 0.7390851332151607, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_tensors_give_what_arrays_give(shape: tuple[int, ...]) -> None:
    start = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    result = accelerate(torch.cos, start, rtol=1e-10)
    assert isinstance(result.x, torch.Tensor)
    assert not result.x.requires_grad
    np.testing.assert_allclose(result.x.numpy(), 0.7390851332151607, atol=1e-9)


def test_a_tensor_run_takes_the_steps_of_the_array_run(matrix: np.ndarray) -> None:
    # With bounds the steps are known beforehand; without, rounding takes a part in choosing them.
    options: dict[str, Any] = {"bounds": SpectralBounds(0.01, 1.0), "period": 16}
    weights = torch.from_numpy(matrix)
    expected = accelerate(_map(matrix), START, **options)
    result = accelerate(lambda x: x - weights @ x + 1, torch.from_numpy(START), **options)
    assert result.num_steps == expected.num_steps
    np.testing.assert_allclose(result.x.numpy(), expected.x, rtol=1e-10)


def test_a_tensor_run_without_bounds_ends_where_the_array_run_does(matrix: np.ndarray) -> None:
    weights = torch.from_numpy(matrix)
    result = accelerate(lambda x: x - weights @ x + 1, torch.from_numpy(START))
    assert result.converged
    function = _map(matrix)
    first = np.linalg.norm(function(START) - START)
    assert np.linalg.norm(function(result.x.numpy()) - result.x.numpy()) <= 1e-8 * first * 1.000001


def test_parameters_of_a_tensor_map_do_not_tie_the_run_to_its_graph() -> None:
    weight = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    with pytest.warns(GradientWarning):
        result = accelerate(lambda x: weight * x.sin() + 0.2, torch.ones(3, dtype=torch.float64))
    assert result.converged
    assert not result.x.requires_grad


def test_complex_arrays_stay_complex() -> None:
    turn = np.exp(1j * np.linspace(0, 0.5, 20))
    result = accelerate(lambda x: x - turn * (x - 1j), np.zeros(20, dtype=complex), rtol=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, 1j, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept_and_a_tolerance_below_rounding_ends_at_rounding(
    matrix: np.ndarray, dtype: type
) -> None:
    typed = matrix.astype(dtype)
    result = accelerate(
        lambda x: x - typed @ x + dtype(1), START.astype(dtype), rtol=0.0, max_products=5000
    )
    assert result.x.dtype == dtype
    # A residual of exactly 0 meets a tolerance of 0; whether a run comes upon one is chance.
    stalled = result.status is Status.STALLED
    assert stalled or result.history.gradient_norms[-1] == 0
    assert ("precision of the arithmetic" in result.advice) is stalled
    assert result.history.gradient_norms.min() <= 1e4 * np.finfo(dtype).eps


def test_a_start_at_the_fixed_point_ends_at_once() -> None:
    result = accelerate(lambda x: 0.5 * x, np.zeros(3))
    assert (result.status, result.num_steps) == (Status.CONVERGED, 0)


@pytest.mark.parametrize("budget", [2, 3, 7, 40])
def test_the_budget_is_never_exceeded(matrix: np.ndarray, budget: int) -> None:
    result = accelerate(_map(matrix), START, rtol=1e-14, max_products=budget)
    assert result.status is Status.BUDGET
    assert result.history.num_products[-1] == budget


@pytest.mark.parametrize("budget", [3, 20, 60])
def test_nothing_is_lost_when_the_budget_ends(matrix: np.ndarray, budget: int) -> None:
    norms = []
    function = _map(matrix)

    def watched(x: np.ndarray) -> np.ndarray:
        image = function(x)
        norms.append(float(np.linalg.norm(image - x)))
        return image

    result = accelerate(watched, START, rtol=1e-14, max_products=budget)
    best = min(norms)
    assert np.linalg.norm(function(result.x) - result.x) == pytest.approx(best)


def test_no_time_is_a_budget_too(matrix: np.ndarray) -> None:
    result = accelerate(_map(matrix), START, max_seconds=0.0)
    assert result.status is Status.BUDGET
    assert "max_seconds" in result.advice


@pytest.mark.parametrize("broken_from", [3, 9, 30])
def test_nan_ends_with_the_best_iterate_and_the_number_of_the_evaluation(
    matrix: np.ndarray, broken_from: int
) -> None:
    calls: list[float] = []
    function = _map(matrix)

    def breaks(x: np.ndarray) -> np.ndarray:
        image = function(x)
        calls.append(float(np.linalg.norm(image - x)))
        return image if len(calls) < broken_from else image * math.nan

    result = accelerate(breaks, START, rtol=1e-14)
    assert result.status is Status.DIVERGED
    assert f"Evaluation {len(calls)} of the map returned NaN" in result.advice
    best = min(calls[: broken_from - 1])
    assert np.linalg.norm(function(result.x) - result.x) == pytest.approx(best)


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("limit", [1.5, 3.0, 20.0])
def test_a_relaxation_that_the_map_cannot_follow_is_taken_back(value: float, limit: float) -> None:
    eigenvalues = np.geomspace(0.02, 1.0, 30)

    def function(x: np.ndarray) -> np.ndarray:
        image = x - eigenvalues * (x - 1)
        return image if np.abs(x).max() <= limit else np.full_like(x, value)

    result = accelerate(function, np.zeros(30))
    assert result.converged
    np.testing.assert_allclose(result.x, 1.0, atol=1e-5)


def test_a_relaxation_that_leaves_the_domain_is_taken_back() -> None:
    # √ of what is negative is NaN; the plain iteration stays in its domain.
    def function(x: np.ndarray) -> np.ndarray:
        return np.sqrt(x) * np.array([0.5, 1.2, 1.9])

    start = np.array([1e-6, 9.0, 50.0])
    result = accelerate(function, start, rtol=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, np.array([0.5, 1.2, 1.9]) ** 2, rtol=1e-8)


def test_a_map_that_repels_ends_as_diverged_with_advice() -> None:
    result = accelerate(lambda x: 1.5 * x + 1, np.array([1.0, 2.0]))
    assert result.status is Status.DIVERGED
    assert "no contraction" in result.advice
    assert "eigenvalue near 1.5" in result.advice


def test_a_run_that_relaxation_cannot_help_says_so() -> None:
    turn = 0.8 * np.exp(2j * np.pi * np.arange(40) / 40)  # J: a circle around 0
    result = accelerate(lambda x: turn * x + 1, np.zeros(40, dtype=complex))
    assert result.converged
    assert "Relaxation cannot help here: " in result.advice


def _fan(first: float, last: float, radius: float, count: int) -> np.ndarray:
    """A Jacobian that turns ``count`` planes, each by another angle."""
    angles = np.linspace(first, last, count)
    blocks = [[[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]] for t in angles]
    return radius * block_diag(*blocks)


@pytest.mark.parametrize(
    ("fan", "helps"),
    [
        ((0.3, 2.5, 0.9, 100), False),
        ((0.0, math.pi, 0.95, 30), False),
        ((0.3, 2.5, 0.97, 100), True),
        ((0.5, math.pi, 0.97, 100), True),
        ((0.8, math.pi, 0.9, 100), True),
        ((0.0, 0.5, 0.97, 30), True),
    ],
)
def test_the_advice_says_that_relaxation_cannot_help_where_it_does_not(
    fan: tuple[float, float, float, int], helps: bool
) -> None:
    turn = _fan(*fan)
    rhs = np.random.default_rng(0).standard_normal(len(turn))
    plain = iterate(lambda x: turn @ x + rhs, 0 * rhs)
    ours = accelerate(lambda x: turn @ x + rhs, 0 * rhs)
    share = ours.history.num_products[-1] / plain.history.num_products[-1]
    assert share < 0.75 if helps else 0.9 < share < 1.15
    assert ("Relaxation cannot help here" in ours.advice) is not helps


@pytest.mark.parametrize("name", GALLERY)
def test_the_advice_does_not_call_a_gain_none(name: str) -> None:
    member = GALLERY[name](np.random.default_rng(0))
    assert "cannot help" not in accelerate(member.map, member.start).advice


def test_periods_that_were_turned_down_are_counted() -> None:
    eigenvalues = np.linspace(0.2, 1.0, 20)
    result = accelerate(
        lambda x: x - eigenvalues * (x - 1), np.zeros(20), schedule=Schedule(np.full(8, 9.0))
    )
    assert "Periods of relaxation turned down: " in result.advice


def test_a_map_without_a_fixed_point_spends_its_budget_and_says_that_nothing_came_closer() -> None:
    result = accelerate(lambda x: x + 1, np.zeros(2), max_products=1000)
    assert result.status is Status.BUDGET
    assert "may have no fixed point" in result.advice
    assert result.history.num_products[-1] == 1000


def test_an_interrupt_returns_the_best_iterate(matrix: np.ndarray) -> None:
    function = _map(matrix)
    calls = []

    def interrupted(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return function(x)

    result = accelerate(interrupted, START, rtol=1e-14)
    assert result.status is Status.INTERRUPTED
    size = np.linalg.norm(function(result.x) - result.x)
    assert size < 0.2 * np.linalg.norm(function(START) - START)


@pytest.mark.parametrize(
    "method", [accelerate, iterate, functools.partial(iterate, method=Anderson())]
)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupt_at_the_start_returns_the_start(method: Any, at: int) -> None:
    calls = []

    def interrupted(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return x / 2

    result = method(interrupted, np.ones(3))
    assert (result.status, result.x.tolist()) == (Status.INTERRUPTED, [1.0, 1.0, 1.0])
    assert (result.history.num_products.size == 0) == (at <= 2)
    assert "interrupted" in result.to_dict()["advice"]


def test_a_stochastic_map_is_warned_of() -> None:
    rng = np.random.default_rng(0)
    with pytest.warns(StochasticMapWarning, match="two evaluations at x0 differ by"):
        accelerate(lambda x: 0.5 * x + rng.standard_normal(3), np.ones(3), max_products=50)


# Moves shrink until the noise over them looks like eigenvalues of 1e157 with these seeds.
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.filterwarnings("ignore::stepfold.problems.fixed_point.StochasticMapWarning")
def test_a_stochastic_map_runs_until_nothing_gets_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    result = accelerate(lambda x: 0.5 * x + 0.01 * rng.standard_normal(3), np.ones(3))
    assert result.status is Status.STALLED
    assert "noise of the map, which is stochastic" in result.advice
    assert np.abs(result.x).max() < 0.1


def test_stop_ends_the_run_with_the_iterate_it_saw(matrix: np.ndarray) -> None:
    seen: list[Any] = []

    def enough(x: np.ndarray) -> bool:
        seen.append(x)
        return len(seen) == 4

    result = accelerate(_map(matrix), START, rtol=0.0, stop=enough)
    assert result.status is Status.CONVERGED
    assert "`stop`" in result.advice
    np.testing.assert_array_equal(result.x, seen[-1])


def test_the_callback_sees_every_step(matrix: np.ndarray) -> None:
    counts: list[int] = []
    result = accelerate(_map(matrix), START, callback=lambda t, _: counts.append(t))
    assert counts == list(range(1, result.num_steps + 1))


def test_the_start_is_neither_changed_nor_shared(matrix: np.ndarray) -> None:
    start = START.copy()
    result = accelerate(_map(matrix), start, max_products=2)
    np.testing.assert_array_equal(start, START)
    assert not np.shares_memory(result.x, start)


def test_runs_repeat(matrix: np.ndarray) -> None:
    first, second = (accelerate(_map(matrix), START) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)


def test_the_record_is_json(matrix: np.ndarray) -> None:
    record = json.loads(json.dumps(accelerate(_map(matrix), START).to_dict()))
    assert record["status"] == "CONVERGED"
    assert record["advice"] == "The residual norm fell below the tolerance."


@pytest.mark.parametrize("period", [1, 4, 16])
def test_without_guard_each_period_is_the_chebyshev_polynomial(
    matrix: np.ndarray, period: int
) -> None:
    bounds = SpectralBounds(0.01, 1.0)
    schedule = chebyshev_steps(bounds, period)
    result = accelerate(
        _map(matrix),
        START,
        schedule=schedule,
        guard=False,
        rtol=0.0,
        max_products=2 + 2 * period,
    )
    polynomial = np.prod(1 - schedule.steps[:, None] * EIGENVALUES, axis=0)
    _, basis = np.linalg.eigh(matrix)
    error = basis.T @ (START - np.linalg.solve(matrix, np.ones(60)))
    expected = np.linalg.norm(EIGENVALUES * polynomial**2 * error)
    assert result.history.gradient_norms[-1] == pytest.approx(expected, rel=1e-6)


def test_with_right_bounds_the_guard_changes_no_step(matrix: np.ndarray) -> None:
    options: dict[str, Any] = {"bounds": SpectralBounds(0.01, 1.0), "period": 16}
    trusted = accelerate(_map(matrix), START, guard=False, **options)
    guarded = accelerate(_map(matrix), START, **options)
    assert guarded.num_steps == trusted.num_steps
    np.testing.assert_array_equal(guarded.x, trusted.x)


@pytest.mark.parametrize("upper", [0.5, 0.9])
def test_an_upper_bound_that_is_too_low_is_raised(matrix: np.ndarray, upper: float) -> None:
    bounds = SpectralBounds(0.01, upper)
    assert accelerate(_map(matrix), START, bounds=bounds, period=16).converged


@pytest.mark.parametrize("guard", [True, False])
def test_a_given_schedule_is_taken(matrix: np.ndarray, guard: bool) -> None:
    schedule = chebyshev_steps(SpectralBounds(0.01, 1.0), 8)
    result = accelerate(_map(matrix), START, schedule=schedule, guard=guard)
    assert result.converged
    assert result.schedule == schedule


def test_a_hopeless_schedule_costs_no_more_than_the_plain_iteration_allows() -> None:
    eigenvalues = np.linspace(0.2, 1.0, 20)
    calls = math.log(1e-8) / math.log(0.8)
    result = accelerate(
        lambda x: x - eigenvalues * (x - 1), np.zeros(20), schedule=Schedule(np.full(8, 9.0))
    )
    assert result.converged
    assert result.history.num_products[-1] <= 1.15 * calls + 32


def test_a_map_that_changes_the_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`map` must keep the shape, got \(1,\).*shape \(3,\)"):
        accelerate(lambda x: x[:1], np.ones(3))


def test_a_map_that_changes_the_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`map` must keep the dtype, got float32.*float64"):
        accelerate(lambda x: x.astype(np.float32), np.ones(3))


def test_a_map_that_leaves_torch_is_refused() -> None:
    with pytest.raises(TypeError, match="such an array as it is given, Tensor, got ndarray"):
        accelerate(lambda x: x.numpy(), torch.ones(3))


def test_a_map_that_writes_into_its_argument_is_refused() -> None:
    def writes(x: np.ndarray) -> np.ndarray:
        x *= 0.5
        return x

    with pytest.raises(ValueError, match="`map` changed its input array in place"):
        accelerate(writes, np.ones(3))


def test_a_map_that_is_not_finite_at_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="`map` must be finite at the start"):
        accelerate(np.sqrt, np.array([-1.0, 1.0]))


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        ("zero", TypeError, "`x0` must be an array, got str"),
        (np.zeros(0), ValueError, r"`x0` must hold at least one number, got shape \(0,\)"),
        (np.array([1.0, math.nan]), ValueError, "`x0` must be finite"),
        (np.array(["a"]), TypeError, "`x0` must be real or complex"),
    ],
)
def test_bad_starts_are_refused(start: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        accelerate(np.cos, start)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rtol": -1.0}, ValueError, "`rtol` must be at least 0"),
        ({"atol": math.inf}, ValueError, "`atol` must be at least 0 and finite"),
        ({"max_products": 1}, ValueError, "`max_products` must be an integer of at least 2"),
        ({"max_products": 2.5}, TypeError, "`max_products` must be an integer"),
        ({"max_seconds": math.nan}, ValueError, "`max_seconds` must be at least 0"),
        ({"period": 0}, ValueError, "`period` must be an integer of at least 1"),
        ({"schedule": [1.0]}, TypeError, "`schedule` must be a Schedule or None, got list"),
        ({"bounds": (0.1, 1.0)}, TypeError, "`bounds` must be SpectralBounds or an Ellipse"),
        ({"bounds": SpectralBounds(0.0, 1.0)}, ValueError, "`bounds.lower` must be above 0"),
        ({"guard": False}, ValueError, "`guard=False` needs a `schedule` or `bounds`"),
        (
            {"schedule": Schedule(np.ones(2)), "period": 2},
            ValueError,
            "`period` goes with bounds",
        ),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        accelerate(np.cos, np.zeros(2), **options)


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(TypeError, match="`map` must be callable, got ndarray"):
        accelerate(np.eye(2), np.zeros(2))  # type: ignore[arg-type]
