"""Published and derived numbers, reproduced: what needs no training."""

import math

import numpy as np
import pytest

from stepfold import SpectralBounds, SpectralMeasure, chebyshev_steps, constant_steps, optimal_steps
from stepfold.polynomial import (
    chebyshev_period_rate,
    chebyshev_rate,
    constant_rate,
    first_order_lower_bound,
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    mean_squared_error_path,
    optimal_mean_squared_error,
    spectral_radius,
    worst_case_period_rate,
)


def figures(value: float, digits: int) -> float:
    """The value rounded as print shows it."""
    return float(f"{value:.{digits - 1}e}")


@pytest.fixture(scope="module")
def measure(published_eigenvalues: np.ndarray) -> SpectralMeasure:
    return SpectralMeasure.from_eigenvalues(published_eigenvalues)


@pytest.fixture(scope="module")
def bounds(measure: SpectralMeasure) -> SpectralBounds:
    return measure.bounds


def test_the_published_spectrum(bounds: SpectralBounds) -> None:
    assert bounds.condition_number == pytest.approx(30.828752475, rel=1e-10)
    assert bounds.upper == pytest.approx(5.678370598, rel=1e-9)
    assert bounds.lower == pytest.approx(0.184190736, rel=1e-8)


def test_errors_after_25_steps(measure: SpectralMeasure, bounds: SpectralBounds) -> None:
    constant = mean_squared_error(constant_steps(bounds, 25), measure)
    chebyshev = mean_squared_error(chebyshev_steps(bounds, 25), measure)
    optimal = mean_squared_error(optimal_steps(measure, 25), measure)
    assert figures(constant, 5) == 1.0482e-3
    assert figures(chebyshev, 3) == 2.45e-8
    assert figures(optimal, 3) == 8.61e-9


def test_the_published_training_ends_45_times_above_the_optimum(measure: SpectralMeasure) -> None:
    assert round(3.9e-7 / optimal_mean_squared_error(measure, 25)) == 45


def test_spectral_radii_after_25_steps(
    published_eigenvalues: np.ndarray, bounds: SpectralBounds
) -> None:
    chebyshev = spectral_radius(chebyshev_steps(bounds, 25), published_eigenvalues)
    constant = spectral_radius(constant_steps(bounds, 25), published_eigenvalues)
    assert figures(chebyshev, 3) == 2.22e-4
    assert figures(constant, 3) == 0.197


def test_errors_on_the_way_rise_above_1e4_in_the_zig_zag_order(
    measure: SpectralMeasure, bounds: SpectralBounds
) -> None:
    errors = mean_squared_error_path(chebyshev_steps(bounds, 25).reordered("outside-in"), measure)
    assert errors.max() > 1e4
    assert errors[-1] == pytest.approx(2.45e-8, rel=0.01)


@pytest.mark.parametrize(
    ("period", "optimal", "chebyshev", "constant"),
    [
        (2, "1.426e-01", "2.710e-01", "1.853e-01"),
        (5, "1.617e-02", "4.955e-02", "6.02e-02"),
        (8, "1.90e-03", "5.87e-03", "2.69e-02"),
        (11, "2.258e-04", None, None),
    ],
)
def test_errors_at_other_depths(
    measure: SpectralMeasure,
    bounds: SpectralBounds,
    period: int,
    optimal: str,
    chebyshev: str | None,
    constant: str | None,
) -> None:
    found = {
        optimal: mean_squared_error(optimal_steps(measure, period), measure),
        chebyshev: mean_squared_error(chebyshev_steps(bounds, period), measure),
        constant: mean_squared_error(constant_steps(bounds, period), measure),
    }
    expected = [text for text in found if text is not None]
    assert [f"{found[text]:.{len(text) - 6}e}" for text in expected] == expected


@pytest.mark.parametrize(
    ("period", "rate"), [(1, 0.8), (2, 0.68599), (4, 0.59402), (8, 0.54525), (16, 0.52214)]
)
def test_rates_per_step_at_condition_number_nine(period: int, rate: float) -> None:
    nine = SpectralBounds(1.0, 9.0)
    assert round(chebyshev_rate(nine, period), 5) == rate
    by_steps = worst_case_period_rate(chebyshev_steps(nine, period), nine) ** (1 / period)
    assert round(by_steps, 5) == rate


def test_the_limits_of_the_rates_at_condition_number_nine() -> None:
    nine = SpectralBounds(1.0, 9.0)
    assert constant_rate(nine) == pytest.approx(0.8, rel=1e-15)
    assert first_order_lower_bound(nine) == pytest.approx(0.5, rel=1e-15)


# Marchenko–Pastur at (300, 600): H has entries of variance 1/300, so the mean eigenvalue is 2.
RATIO = 0.5
EDGES = SpectralBounds(2 * (1 - math.sqrt(RATIO)) ** 2, 2 * (1 + math.sqrt(RATIO)) ** 2)


def largest_step_deviation(steps: np.ndarray, measure: SpectralMeasure) -> float:
    optimal = np.sort(optimal_steps(measure, steps.size).steps)
    return float(np.abs(np.sort(steps) / optimal - 1).max())


@pytest.mark.parametrize("period", range(1, 26))
def test_second_kind_steps_are_within_4_percent_of_the_finite_optimal_steps(
    measure: SpectralMeasure, period: int
) -> None:
    steps = chebyshev_steps(EDGES, period, kind=2).steps
    assert largest_step_deviation(steps, measure) < 0.04


@pytest.mark.parametrize(("period", "percent"), [(5, 72), (10, 30), (15, 20), (20, 13), (25, 11)])
def test_first_kind_steps_miss_the_optimal_steps_by_11_to_72_percent(
    measure: SpectralMeasure, bounds: SpectralBounds, period: int, percent: int
) -> None:
    steps = chebyshev_steps(bounds, period).steps
    assert round(100 * largest_step_deviation(steps, measure)) == percent


def excess(period: int, kind: int, measure: SpectralMeasure) -> float:
    error = mean_squared_error(chebyshev_steps(EDGES, period, kind=kind), measure)
    return error / optimal_mean_squared_error(measure, period) - 1


@pytest.mark.parametrize(("period", "limit"), [(5, 0.003), (10, 0.05), (15, 0.11), (25, 0.44)])
def test_the_error_of_second_kind_steps_is_near_the_finite_optimum(
    measure: SpectralMeasure, period: int, limit: float
) -> None:
    # 4 % holds for the steps, not for their error: it is 43 % above the optimum at T = 25.
    assert 0 <= excess(period, 2, measure) < limit
    assert excess(period, 1, measure) > 2.5


@pytest.mark.parametrize("period", [1, 2, 5, 8])
def test_the_closed_form_is_near_the_finite_optimum(measure: SpectralMeasure, period: int) -> None:
    expected = marchenko_pastur_mean_squared_error(RATIO, period)
    assert optimal_mean_squared_error(measure, period) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("factor", "growth"), [(0.98, 14), (0.95, 3000)])
def test_an_upper_bound_too_low_makes_a_period_grow(factor: float, growth: float) -> None:
    steps = chebyshev_steps(SpectralBounds(1.0, 100.0 * factor), 32)
    assert worst_case_period_rate(steps, SpectralBounds(1.0, 100.0)) == pytest.approx(
        growth, rel=0.15
    )


def test_an_upper_bound_10_percent_too_high_costs_almost_nothing() -> None:
    true = SpectralBounds(1.0, 100.0)
    cautious = worst_case_period_rate(chebyshev_steps(SpectralBounds(1.0, 110.0), 32), true)
    per_step = math.log(cautious) / math.log(chebyshev_period_rate(true, 32))
    assert per_step > 0.93


def test_a_lower_bound_too_low_only_slows() -> None:
    true = SpectralBounds(1.0, 100.0)
    rate = worst_case_period_rate(chebyshev_steps(SpectralBounds(0.5, 100.0), 32), true)
    assert chebyshev_period_rate(true, 32) < rate < 0.05
