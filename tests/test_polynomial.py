"""Rates, bounds and errors against closed forms, dense grids and arithmetic of many digits."""

import math
from collections.abc import Callable
from functools import partial

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stepfold import SpectralBounds, SpectralMeasure, chebyshev_steps, constant_steps, optimal_steps
from stepfold.polynomial import (
    chebyshev_period_rate,
    chebyshev_rate,
    constant_rate,
    first_order_lower_bound,
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    mean_squared_error_path,
    num_steps_to,
    optimal_mean_squared_error,
    residual_polynomial,
    spectral_radius,
    worst_case_period_rate,
)

step_lists = st.lists(st.floats(1e-3, 2.0), min_size=1, max_size=12)
any_steps = st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=12)
eigenvalue_lists = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=20)
condition_numbers = st.floats(0.01, 10).map(lambda exponent: 10**exponent)
ONE_TO_FIFTY = SpectralBounds(1.0, 50.0)


@given(any_steps, eigenvalue_lists)
def test_the_residual_polynomial_is_the_product_of_its_factors(
    steps: list[float], eigenvalues: list[float]
) -> None:
    expected = np.prod(1 - np.outer(steps, eigenvalues), axis=0)
    np.testing.assert_allclose(residual_polynomial(steps, eigenvalues), expected, rtol=1e-13)


@given(any_steps)
def test_the_residual_polynomial_is_one_at_zero(steps: list[float]) -> None:
    assert residual_polynomial(steps, 0.0) == 1.0


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,)])
def test_the_residual_polynomial_has_the_shape_of_the_eigenvalues(shape: tuple[int, ...]) -> None:
    assert np.shape(residual_polynomial([0.5, 0.25], np.ones(shape))) == shape


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("period", [1024, 4096])
def test_a_thousand_factors_do_not_overflow_on_the_way(order: str, period: int) -> None:
    bounds = SpectralBounds(1.0, 1e4)
    steps = chebyshev_steps(bounds, period).reordered(order).steps
    eigenvalues = np.geomspace(1.0, 1e4, 300)
    rate = chebyshev_period_rate(bounds, period)
    values = np.abs(residual_polynomial(steps, eigenvalues))
    assert values.max() <= rate * (1 + 1e-6)
    assert values[0] == pytest.approx(rate, rel=1e-6)


def test_a_product_beyond_the_floats_is_infinite_and_one_below_them_zero() -> None:
    assert residual_polynomial([1.0] * 2000, [3.0, -2.0, 0.9]).tolist() == [math.inf, math.inf, 0.0]


def test_the_spectral_radius_is_taken_over_the_eigenvalues_only() -> None:
    assert spectral_radius([1.0], [0.5, 1.0, 1.25]) == 0.5


@given(any_steps, st.floats(1.01, 100.0))
def test_the_worst_case_is_that_of_a_dense_grid(steps: list[float], upper: float) -> None:
    bounds = SpectralBounds(1.0, upper)
    grid = np.linspace(1.0, upper, 4001)
    on_grid = np.abs(residual_polynomial(steps, grid)).max()
    worst = worst_case_period_rate(steps, bounds)
    assert worst >= on_grid * (1 - 1e-12)
    # Between grid points p² is a parabola about its maximum, with curvature of Markov's size.
    assert worst <= on_grid * (1 + 2 * (len(steps) ** 2 / 4000) ** 2) + 1e-300


@pytest.mark.parametrize("steps", [[0.0], [0.0, 0.0], [0.5, 0.5, 0.5], [-1.0, 0.0, 0.2]])
def test_the_worst_case_exists_for_zero_repeated_and_negative_steps(steps: list[float]) -> None:
    grid = np.linspace(1.0, 50.0, 200_001)
    expected = np.abs(np.prod(1 - np.outer(steps, grid), axis=0)).max()
    assert worst_case_period_rate(steps, ONE_TO_FIFTY) == pytest.approx(expected, rel=1e-9)


def test_the_worst_case_over_a_point_is_the_value_there() -> None:
    assert worst_case_period_rate([0.25, 1.0], SpectralBounds(3.0, 3.0)) == 0.5


@given(st.integers(1, 64), condition_numbers)
def test_chebyshev_steps_attain_the_chebyshev_rate(period: int, kappa: float) -> None:
    bounds = SpectralBounds(1.0, kappa)
    rate = worst_case_period_rate(chebyshev_steps(bounds, period), bounds)
    assert rate == pytest.approx(chebyshev_period_rate(bounds, period), rel=1e-7)


@given(st.integers(1, 12), condition_numbers)
def test_the_chebyshev_polynomial_equioscillates(period: int, kappa: float) -> None:
    bounds = SpectralBounds(1.0, kappa)
    extrema = (1 + kappa) / 2 + (kappa - 1) / 2 * np.cos(np.arange(period + 1) * np.pi / period)
    values = residual_polynomial(chebyshev_steps(bounds, period), extrema[::-1])
    signs = (-1.0) ** np.arange(period + 1)
    rate = chebyshev_period_rate(bounds, period)
    np.testing.assert_allclose(values, signs * rate, rtol=1e-6)


@given(step_lists, st.floats(1.5, 1e4))
def test_no_steps_beat_the_chebyshev_rate(steps: list[float], kappa: float) -> None:
    bounds = SpectralBounds(1.0, kappa)
    assert worst_case_period_rate(steps, bounds) >= chebyshev_period_rate(bounds, len(steps)) * (
        1 - 1e-9
    )


@given(
    st.integers(1, 10),
    st.lists(st.floats(-0.3, 0.3), min_size=10, max_size=10),
    st.floats(1.5, 1e4),
)
def test_changing_chebyshev_steps_makes_the_worst_case_worse(
    period: int, change: list[float], kappa: float
) -> None:
    assume(max(np.abs(change[:period])) > 1e-3)
    bounds = SpectralBounds(1.0, kappa)
    steps = chebyshev_steps(bounds, period).steps * np.exp(change[:period])
    assert worst_case_period_rate(steps, bounds) > chebyshev_period_rate(bounds, period)


@pytest.mark.parametrize("kappa", ["1.000000000000001", "1.0001", "2", "9", "1e4", "1e10"])
@pytest.mark.parametrize("period", [1, 2, 7, 64])
def test_the_chebyshev_rate_is_the_hyperbolic_secant(kappa: str, period: int) -> None:
    bounds = SpectralBounds(1.0, float(kappa))
    with mpmath.workdps(60):
        exact = mpmath.mpf(bounds.upper)
        expected = float(mpmath.sech(period * mpmath.acosh((exact + 1) / (exact - 1))))
    assert chebyshev_period_rate(bounds, period) == pytest.approx(expected, rel=1e-13, abs=0)


@pytest.mark.parametrize("kappa", [np.nextafter(1, 2), 1.0001, 2.0, 1e10, 1e16])
def test_the_lower_bound_keeps_its_digits(kappa: float) -> None:
    with mpmath.workdps(60):
        root = mpmath.sqrt(mpmath.mpf(float(kappa)))
        expected = float((root - 1) / (root + 1))
    assert first_order_lower_bound(SpectralBounds(1.0, kappa)) == pytest.approx(expected, rel=1e-14)


@given(st.integers(1, 200), condition_numbers)
def test_the_rate_per_step_falls_towards_the_first_order_lower_bound(
    period: int, kappa: float
) -> None:
    bounds = SpectralBounds(1.0, kappa)
    per_step, next_one = (chebyshev_rate(bounds, t) for t in (period, period + 1))
    limit = first_order_lower_bound(bounds)
    assert limit * (1 - 1e-12) <= next_one <= per_step * (1 + 1e-12)
    assert per_step <= limit * 2 ** (1 / period) * (1 + 1e-12)


@given(st.integers(1, 200), condition_numbers, st.sampled_from([1, 2]))
def test_the_rate_of_a_period_is_that_of_its_steps_multiplied(
    period: int, kappa: float, kind: int
) -> None:
    bounds = SpectralBounds(1.0, kappa)
    expected = chebyshev_rate(bounds, period, kind=kind) ** period
    assert chebyshev_period_rate(bounds, period, kind=kind) == pytest.approx(expected, rel=1e-9)


def test_the_rate_per_step_does_not_underflow_with_that_of_a_long_period() -> None:
    bounds = SpectralBounds(1.0, 9.0)
    assert chebyshev_period_rate(bounds, 4096) == 0
    assert chebyshev_rate(bounds, 4096) == pytest.approx(0.5, rel=1e-3)


def test_where_the_ends_are_equal_one_step_solves() -> None:
    assert chebyshev_rate(SpectralBounds(2.0, 2.0), 3) == 0
    assert chebyshev_period_rate(SpectralBounds(2.0, 2.0), 3, kind=2) == 0


@given(condition_numbers)
def test_one_chebyshev_step_is_the_constant_step(kappa: float) -> None:
    bounds = SpectralBounds(1.0, kappa)
    assert chebyshev_period_rate(bounds, 1) == pytest.approx(constant_rate(bounds), rel=1e-12)
    assert worst_case_period_rate(constant_steps(bounds), bounds) == pytest.approx(
        constant_rate(bounds)
    )


def test_rates_on_a_point_are_zero_and_without_a_lower_end_one() -> None:
    rates = (constant_rate, partial(chebyshev_period_rate, period=3), first_order_lower_bound)
    assert [rate(SpectralBounds(2.0, 2.0)) for rate in rates] == [0.0, 0.0, 0.0]
    assert [rate(SpectralBounds(0.0, 2.0)) for rate in rates] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "rate", [constant_rate, first_order_lower_bound, partial(chebyshev_period_rate, period=2)]
)
def test_the_rate_of_a_zero_operator_is_refused(rate: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match=r"`bounds.upper` must be positive, got 0.0; the operator"):
        rate(SpectralBounds(0.0, 0.0))


@given(any_steps, eigenvalue_lists)
def test_the_squared_radius_lies_between_the_error_and_n_times_it(
    steps: list[float], eigenvalues: list[float]
) -> None:
    error = mean_squared_error(steps, SpectralMeasure.from_eigenvalues(eigenvalues))
    squared_radius = spectral_radius(steps, eigenvalues) ** 2
    assert error <= squared_radius * (1 + 1e-12)
    assert squared_radius <= len(eigenvalues) * error * (1 + 1e-12)


def test_the_mean_squared_error_is_that_of_sampled_errors() -> None:
    rng = np.random.default_rng(0)
    eigenvalues, steps = np.array([0.5, 1.0, 2.0, 3.0]), [0.4, 0.7]
    errors = rng.standard_normal((200_000, 4))
    left = errors * np.prod(1 - np.outer(steps, eigenvalues), axis=0)
    expected = (left**2).sum() / (errors**2).sum()
    measure = SpectralMeasure.from_eigenvalues(eigenvalues)
    assert mean_squared_error(steps, measure) == pytest.approx(expected, rel=0.01)


def test_the_errors_on_the_way_end_in_the_error_after_all_steps() -> None:
    measure, steps = SpectralMeasure.from_eigenvalues([1.0, 3.0]), [1.0, 0.2, 0.4]
    errors = mean_squared_error_path(steps, measure)
    assert errors.shape == (4,)
    assert errors[[0, 1]].tolist() == [1.0, 2.0]
    assert errors[3] == mean_squared_error(steps, measure)


def test_an_error_beyond_the_floats_is_infinite() -> None:
    assert mean_squared_error([3.0] * 600, SpectralMeasure.from_eigenvalues([1.0])) == math.inf


def least_squares_optimum(measure: SpectralMeasure, period: int) -> float:
    """Oracle: min ∫(1 − λ q(λ))² dμ over q of degree T − 1, by QR in a Chebyshev basis."""
    scaled = measure.nodes / measure.nodes.max() * 2 - 1
    basis = np.polynomial.chebyshev.chebvander(scaled, period - 1)
    columns = np.sqrt(measure.weights)[:, None] * measure.nodes[:, None] * basis
    target = np.sqrt(measure.weights)
    solution = np.linalg.lstsq(columns, target, rcond=None)[0]
    return float(np.sum((target - columns @ solution) ** 2))


MEASURES = {
    "eigenvalues": SpectralMeasure.from_eigenvalues(np.geomspace(0.1, 10.0, 40)),
    "weighted": SpectralMeasure(np.linspace(1.0, 30.0, 50), np.linspace(1.0, 0.0, 50) ** 3),
    "uniform": SpectralMeasure.uniform(SpectralBounds(1.0, 20.0)),
    "Marchenko–Pastur": SpectralMeasure.marchenko_pastur(0.5),
    "atom at zero": SpectralMeasure.marchenko_pastur(2.0),
}


@pytest.mark.parametrize("period", [1, 2, 3, 8, 15])
@pytest.mark.parametrize("name", MEASURES)
def test_the_smallest_error_is_that_of_a_least_squares_fit(name: str, period: int) -> None:
    smallest = optimal_mean_squared_error(MEASURES[name], period)
    assert smallest == pytest.approx(least_squares_optimum(MEASURES[name], period), rel=1e-7)


@pytest.mark.parametrize("period", [1, 2, 3, 8, 15])
@pytest.mark.parametrize("name", MEASURES)
def test_optimal_steps_attain_the_smallest_error(name: str, period: int) -> None:
    error = mean_squared_error(optimal_steps(MEASURES[name], period), MEASURES[name])
    assert error == pytest.approx(optimal_mean_squared_error(MEASURES[name], period), rel=1e-9)


@pytest.mark.parametrize("period", [3, 4, 50])
def test_an_error_on_the_kernel_stays_whatever_the_number_of_steps(period: int) -> None:
    measure = SpectralMeasure([0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0])
    assert optimal_mean_squared_error(measure, period) == pytest.approx(0.25, rel=1e-12)


def test_as_many_steps_as_eigenvalues_leave_nothing() -> None:
    measure = SpectralMeasure.from_eigenvalues([1.0, 2.0, 2.0, 3.0])
    assert optimal_mean_squared_error(measure, 2) > 0
    assert optimal_mean_squared_error(measure, 3) == 0.0


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("period", [1, 10, 120, 250])
def test_the_smallest_error_of_marchenko_pastur_has_a_closed_form(
    ratio: float, period: int
) -> None:
    measure = SpectralMeasure.marchenko_pastur(ratio, scale=3.0, num_nodes=300)
    expected = marchenko_pastur_mean_squared_error(ratio, period)
    assert optimal_mean_squared_error(measure, period) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.5, -0.5, math.nan])
def test_the_closed_form_exists_for_ratios_below_one(ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"`ratio` must lie between 0 and 1, got {ratio}; from 1"):
        marchenko_pastur_mean_squared_error(ratio, 3)


@given(st.floats(1e-12, 0.9), st.floats(0.01, 0.99), st.integers(1, 20))
def test_steps_to_a_target_are_the_fewest_whole_periods(
    rtol: float, rate: float, period: int
) -> None:
    periods, remainder = divmod(num_steps_to(rtol, rate, period), period)
    assert remainder == 0
    assert rate**periods <= rtol * (1 + 1e-9)
    assert periods == 1 or rate ** (periods - 1) > rtol * (1 - 1e-9)


def test_steps_to_a_target_at_the_ends_of_the_rates() -> None:
    assert num_steps_to(0.1, 0.0, 7) == 7
    assert num_steps_to(0.1, 1.0) == math.inf
    assert num_steps_to(0.1, math.inf) == math.inf


@pytest.mark.parametrize("rtol", [0.0, 1.0, -1.0, math.nan])
def test_targets_outside_zero_to_one_are_refused(rtol: float) -> None:
    with pytest.raises(ValueError, match=rf"`rtol` must lie between 0 and 1, got {rtol}"):
        num_steps_to(rtol, 0.5)


@pytest.mark.parametrize("rate", [-0.5, math.nan])
def test_negative_rates_are_refused(rate: float) -> None:
    with pytest.raises(
        ValueError, match=rf"`period_rate` must be at least 0, got {rate}; take its abs"
    ):
        num_steps_to(0.1, rate)


@pytest.mark.parametrize(
    "function",
    [chebyshev_period_rate, optimal_mean_squared_error, marchenko_pastur_mean_squared_error],
)
def test_no_steps_at_all_are_refused(function: Callable[..., float]) -> None:
    argument = {
        chebyshev_period_rate: ONE_TO_FIFTY,
        optimal_mean_squared_error: MEASURES["uniform"],
        marchenko_pastur_mean_squared_error: 0.5,
    }[function]
    with pytest.raises(ValueError, match=r"`period` must be an integer of at least 1, got 0"):
        function(argument, 0)


@pytest.mark.parametrize("period", [1, 2, 3, 8, 31])
@pytest.mark.parametrize("kappa", [1.5, 9.0, 400.0])
def test_the_factor_of_second_kind_steps_is_what_they_leave_in_the_worst_case(
    period: int, kappa: float
) -> None:
    bounds = SpectralBounds(0.5, 0.5 * kappa)
    measured = worst_case_period_rate(chebyshev_steps(bounds, period, kind=2), bounds)
    factor = chebyshev_period_rate(bounds, period, kind=2)
    assert factor == pytest.approx(measured, rel=1e-9)
    assert chebyshev_rate(bounds, period, kind=2) ** period == pytest.approx(factor, rel=1e-12)


def test_a_kind_without_a_closed_form_is_refused_with_the_function_that_has_one() -> None:
    with pytest.raises(
        ValueError, match=r"`kind` must be 1 or 2, got 4.*`fourth_kind_period_rate`"
    ):
        chebyshev_period_rate(ONE_TO_FIFTY, 3, kind=4)


@given(step_lists, st.sampled_from([0.5, 1.0, 2.0]), st.floats(0.0, 0.5))
def test_a_weighted_worst_case_is_the_largest_value_on_a_dense_grid(
    steps: list[float], power: float, lower: float
) -> None:
    bounds = SpectralBounds(lower, 2.0)
    grid = np.linspace(lower, 2.0, 20_001)
    values = grid**power * abs(residual_polynomial(steps, grid))
    found = worst_case_period_rate(steps, bounds, power=power)
    # Between two points of the grid the values bend by no more than their second derivative allows.
    assert values.max() <= found * (1 + 1e-12)
    assert found <= values.max() * (1 + 1e-3) + 1e-12


@pytest.mark.parametrize("rate", [constant_rate, first_order_lower_bound])
def test_a_rate_needs_bounds(rate: Callable[[SpectralBounds], float]) -> None:
    with pytest.raises(TypeError, match="`bounds` must be SpectralBounds"):
        rate(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: residual_polynomial([], [1.0]), "steps"),
        (lambda: spectral_radius([0.5], []), "eigenvalues"),
        (lambda: worst_case_period_rate([], ONE_TO_FIFTY), "steps"),
        (lambda: worst_case_period_rate([0.5], ONE_TO_FIFTY, power=-1), "power"),
        (lambda: mean_squared_error_path([], SpectralMeasure([1.0], [1.0])), "steps"),
    ],
)
def test_a_bad_argument_is_called_by_its_name(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^`{name}` must"):
        call()
