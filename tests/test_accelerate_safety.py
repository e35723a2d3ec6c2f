"""`accelerate` beside the plain iteration: it ends where that does, soon, and says so."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from _maps import KINDS, cases, made
from gallery import GALLERY

from stepfold import (
    FixedPoint,
    SpectralBounds,
    Status,
    accelerate,
    chebyshev_steps,
    solve,
)
from stepfold.accelerate import iterate
from stepfold.run.policies.relaxation import LONGEST_PERIOD

# Kinds whose fixed points are a set, or several that attract.
MANY = {"mixture", "matrix_factors", "sinkhorn", "low_rank", "projections", "saddle", "sublinear"}


def _compare(kind: str, seed: int, budget: int) -> None:
    function, start = made(kind, seed)
    with np.errstate(all="ignore"):
        plain = iterate(function, start, max_products=budget)
        if not plain.converged:
            pytest.skip("the plain iteration does not converge")
        most = int(1.15 * plain.history.num_products[-1]) + LONGEST_PERIOD
        ours = accelerate(function, start, max_products=most)
    assert ours.converged
    if kind not in MANY:
        np.testing.assert_allclose(ours.x, plain.x, atol=1e-3 * np.linalg.norm(plain.x))


@pytest.mark.parametrize(("kind", "seed"), cases(range(2)))
def test_where_the_plain_iteration_converges_it_does_within_15_percent_and_a_period(
    kind: str, seed: int
) -> None:
    _compare(kind, seed, 4000)


# The account of what periods cost relies on rates that Ritz values tell: here they err.
BEYOND = {("matrix_factors", 10): 1.41, ("poisson", 17): 2.50}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [c for c in cases(range(2, 20)) if c not in BEYOND])
def test_where_the_plain_iteration_converges_it_does_on_many_more_maps(
    kind: str, seed: int
) -> None:
    _compare(kind, seed, 20_000)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), BEYOND)
def test_the_maps_on_which_it_takes_longer_are_solved_as_well(kind: str, seed: int) -> None:
    function, start = made(kind, seed)
    plain = iterate(function, start, max_products=20_000)
    ours = accelerate(function, start, max_products=20_000)
    assert plain.converged
    assert ours.converged
    assert ours.history.num_products[-1] <= 3 * plain.history.num_products[-1] + LONGEST_PERIOD


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("away", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("along", [0.01, 1.0, 3.0])
def test_it_leaves_a_saddle_as_the_plain_iteration_does(
    rate: float, away: float, along: float
) -> None:
    def function(x: Any) -> Any:
        return x - rate * np.array([x[0] ** 3 - x[0], x[1]])

    start = np.array([away, along])
    plain, ours = iterate(function, start), accelerate(function, start)
    np.testing.assert_allclose(ours.x, [1.0, 0.0], atol=1e-5)
    assert ours.num_steps <= 1.15 * plain.num_steps + LONGEST_PERIOD


def test_a_residual_that_first_rises_does_not_end_a_run() -> None:
    jacobian = 0.8 * np.eye(10) + 0.5 * np.eye(10, k=1)
    result = accelerate(lambda x: jacobian @ x + 1.0, np.zeros(10))
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.solve(np.eye(10) - jacobian, np.ones(10)))


@pytest.mark.parametrize("name", GALLERY)
def test_a_run_from_its_own_result_ends_at_once(name: str) -> None:
    member = GALLERY[name](np.random.default_rng(0))
    first = accelerate(member.map, member.start, rtol=1e-10)
    again = accelerate(member.map, first.x, rtol=1e-8)
    assert again.status is Status.CONVERGED
    assert again.history.num_products[-1] <= 3
    np.testing.assert_array_equal(again.x, first.x)


@pytest.mark.parametrize("shift", [0.0, 1.0, 1e8])
def test_a_start_at_the_fixed_point_up_to_rounding_ends_at_once(shift: float) -> None:
    solution = shift + np.random.default_rng(0).standard_normal(50)
    start = solution * (1 + 1e-15)
    result = accelerate(lambda x: solution + 0.9 * (x - solution), start)
    assert (result.status, result.num_steps) == (Status.CONVERGED, 0)


def test_a_tolerance_below_rounding_is_met_by_rounding() -> None:
    solution = 1e8 + np.arange(20.0)
    slopes = np.linspace(0.1, 1, 20)
    start = solution * (1 + 1e-6)
    result = accelerate(lambda x: x - slopes * (x - solution), start, rtol=1e-15)
    assert result.converged
    moved = np.linalg.norm(slopes * (result.x - solution))
    assert moved <= 4 * np.finfo(float).eps * np.linalg.norm(result.x)


def _rounded(digits: int) -> Callable[[Any], Any]:
    large = 10.0 ** (16 - digits)

    def function(x: Any) -> Any:
        return ((large + x) - large) - np.linspace(0.05, 1, 30) * (x - 1)

    return function


@pytest.mark.parametrize("digits", [9, 11, 13])
def test_a_run_stalls_only_at_the_accuracy_that_the_map_has(digits: int) -> None:
    result = accelerate(_rounded(digits), np.zeros(30), rtol=1e-15, max_products=3000)
    level = 10.0**-digits
    if result.status is Status.STALLED:
        assert "precision of the arithmetic" in result.advice
    assert np.linalg.norm(_rounded(digits)(result.x) - result.x) <= 100 * level


def test_a_plateau_is_no_stall() -> None:
    # Away from 0 by 1 + 2e-3 a step, from 1e-6: the residual's smallest value is the first one.
    def function(x: Any) -> Any:
        return x + 2e-3 * (x - x**3)

    start = np.array([1e-6, 2e-6])
    plain = iterate(function, start)
    result = accelerate(function, start, atol=1e-11, rtol=0.0)
    assert plain.num_steps > 1000
    assert result.converged
    np.testing.assert_allclose(result.x, 1.0, atol=1e-7)


def test_a_run_that_relaxation_led_out_of_the_domain_starts_over() -> None:
    # Plain steps stay above the fixed point; below 0, where relaxed steps get to, the map repels.
    slopes = np.geomspace(0.02, 1.0, 30)

    def function(x: Any) -> Any:
        return np.where(x < 0, 1.05 * x, x - slopes * (x - 1e-3))

    start = np.linspace(1, 2, 30)
    plain = iterate(function, start)
    result = accelerate(function, start)
    assert plain.converged
    assert result.converged
    np.testing.assert_allclose(result.x, 1e-3, atol=1e-5)


def test_a_map_shared_by_threads_gives_each_run_its_own_count() -> None:
    slopes = np.linspace(0.01, 1, 200)
    problem: FixedPoint[Any] = FixedPoint(lambda x: x - slopes * (x - 1))

    def counted(_: int) -> tuple[str, int]:
        result = accelerate(problem, np.zeros(200), max_products=150)
        return result.status.name, int(result.history.num_products[-1])

    alone = counted(0)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(counted, range(32))) == {alone}
    assert alone[0] == "CONVERGED"


def test_every_kind_of_map_is_drawn_alike_from_one_seed() -> None:
    for kind in KINDS:
        (first, start), (second, again) = made(kind, 3), made(kind, 3)
        np.testing.assert_array_equal(start, again)
        np.testing.assert_array_equal(first(start), second(again))


def test_solve_finds_a_fixed_point_as_accelerate_does() -> None:
    slopes = np.geomspace(0.02, 1.0, 30)
    problem: FixedPoint[Any] = FixedPoint(lambda x: x - slopes * (x - 1))
    expected = accelerate(problem, np.zeros(30))
    result = solve(problem, x0=np.zeros(30))
    assert result.num_steps == expected.num_steps
    np.testing.assert_array_equal(result.x, expected.x)
    assert result.bounds is not None
    again = accelerate(problem, np.zeros(30), bounds=result.bounds)
    assert again.converged


def test_solve_with_a_schedule_relaxes_by_it() -> None:
    slopes = np.linspace(0.1, 1.0, 30)
    problem: FixedPoint[Any] = FixedPoint(lambda x: x - slopes * (x - 1))
    schedule = chebyshev_steps(SpectralBounds(0.1, 1.0), 8)
    result = solve(problem, schedule, np.zeros(30), guard=None)
    assert result.converged
    assert result.schedule == schedule


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "`x0` must be given for a FixedPoint"),
        (
            {"x0": np.zeros(2), "error_rtol": 1e-3},
            TypeError,
            "`error_rtol` is not for a FixedPoint",
        ),
        ({"x0": np.zeros(2), "gap_rtol": 1e-3}, TypeError, "`gap_rtol` is not for a FixedPoint"),
    ],
)
def test_solve_refuses_what_a_map_does_not_have(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        solve(FixedPoint(np.cos), **options)
