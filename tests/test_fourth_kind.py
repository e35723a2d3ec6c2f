"""Fourth-kind Chebyshev steps, the constant 1/b, and the weighted worst case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.polynomial import (
    chebyshev_period_rate,
    fourth_kind_period_rate,
    residual_polynomial,
    worst_case_period_rate,
)
from stepfold.schedules import SCHEDULES, inverse_upper_bound_steps

NEEDS_A_LOWER_BOUND = ["chebyshev", "chebyshev-second-kind", "constant"]
NEEDS_NO_LOWER_BOUND = [
    "chebyshev-fourth-kind",
    "chebyshev-fourth-kind-optimised",
    "inverse-upper-bound",
    "silver",
    "silver-convex",
]


@pytest.mark.parametrize("period", [1, 2, 3, 8, 31, 100, 1024])
def test_the_weighted_maximum_is_root_b_over_2t_plus_1(period):
    bounds = SpectralBounds(0.0, 7.0)
    steps = chebyshev_steps(bounds, period, kind=4)
    assert worst_case_period_rate(steps, bounds, power=0.5) == pytest.approx(
        fourth_kind_period_rate(bounds, period), rel=1e-9
    )


@pytest.mark.parametrize("period", [1, 2, 5, 16])
def test_the_weighted_polynomial_has_t_plus_1_equal_extrema_of_alternating_sign(period):
    angles = (2 * np.arange(period + 1) + 1) * np.pi / (2 * (2 * period + 1))
    eigenvalues = 7.0 * np.sin(angles) ** 2
    steps = chebyshev_steps(SpectralBounds(0.0, 7.0), period, kind=4)
    values = np.sqrt(eigenvalues) * residual_polynomial(steps, eigenvalues)
    expected = np.sqrt(7.0) / (2 * period + 1) * (-1.0) ** np.arange(period + 1)
    np.testing.assert_allclose(values, expected, rtol=1e-11)


@given(st.lists(st.floats(0.05, 50.0), min_size=1, max_size=12))
def test_no_schedule_has_a_smaller_weighted_maximum(steps):
    bounds = SpectralBounds(0.0, 1.0)
    weighted = worst_case_period_rate(steps, bounds, power=0.5)
    assert weighted >= fourth_kind_period_rate(bounds, len(steps)) * (1 - 1e-9)


@pytest.mark.parametrize("period", [1, 4, 9])
def test_the_steps_follow_the_cosine_formula(period):
    k = np.arange(1, period + 1)
    formula = 2 / (3.0 * (1 - np.cos(2 * k * np.pi / (2 * period + 1))))
    steps = chebyshev_steps(SpectralBounds(0.0, 3.0), period, kind=4).steps
    np.testing.assert_allclose(np.sort(steps), np.sort(formula), rtol=1e-12)


@pytest.mark.parametrize("period", [1, 6, 33])
def test_no_error_grows_over_a_period(period):
    bounds = SpectralBounds(0.0, 3.0)
    assert worst_case_period_rate(chebyshev_steps(bounds, period, kind=4), bounds) == 1.0


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("steps", [[0.3], [0.9, 0.2, 0.2], [5.0, 1.0, 0.125, 0.3]])
def test_the_weighted_worst_case_agrees_with_a_fine_grid(power, steps):
    eigenvalues = np.linspace(0.0, 8.0, 400_001)
    on_grid = np.abs(eigenvalues**power * residual_polynomial(steps, eigenvalues)).max()
    exact = worst_case_period_rate(steps, SpectralBounds(0.0, 8.0), power=power)
    assert exact == pytest.approx(on_grid, rel=1e-8)


@pytest.mark.parametrize("kappa", [1.0 + 1e-9, 2.0, 1e4, 1e12])
@pytest.mark.parametrize("period", [1, 2, 7, 64])
def test_second_kind_steps_have_the_closed_form_rate(kappa, period):
    bounds = SpectralBounds(1.0, kappa)
    measured = worst_case_period_rate(chebyshev_steps(bounds, period, kind=2), bounds)
    closed = chebyshev_period_rate(bounds, period, kind=2)
    if closed > 1e-250:
        assert measured == pytest.approx(closed, rel=1e-5 if kappa < 1.1 else 1e-9)


def test_the_inverse_upper_bound_contracts_by_one_minus_a_over_b():
    bounds = SpectralBounds(1.0, 4.0)
    rate = worst_case_period_rate(inverse_upper_bound_steps(bounds, 3), bounds)
    assert rate == pytest.approx(0.75**3, rel=1e-14)


@pytest.mark.parametrize("name", NEEDS_A_LOWER_BOUND)
def test_a_missing_lower_bound_is_refused_with_the_fourth_kind_as_remedy(name):
    with pytest.raises(ValueError, match=r"needs `bounds.lower > 0`, got 0.0.*kind=4.*ridge"):
        SCHEDULES[name](SpectralBounds(0.0, 1.0), 4)


@pytest.mark.parametrize("name", NEEDS_NO_LOWER_BOUND)
def test_a_missing_lower_bound_is_no_matter(name):
    assert SCHEDULES[name](SpectralBounds(0.0, 1.0), 4).period == 4


@pytest.mark.parametrize("name", NEEDS_NO_LOWER_BOUND)
def test_the_zero_operator_is_refused(name):
    with pytest.raises(ValueError, match=r"needs `bounds.upper > 0`, got 0.0"):
        SCHEDULES[name](SpectralBounds(0.0, 0.0), 4)


def test_a_rate_of_the_fourth_kind_is_asked_for_by_its_name():
    with pytest.raises(ValueError, match="take `fourth_kind_period_rate`"):
        chebyshev_period_rate(SpectralBounds(1.0, 2.0), 4, kind=4)


@pytest.mark.parametrize("power", [-0.5, float("nan"), float("inf")])
def test_a_negative_power_is_refused(power):
    with pytest.raises(ValueError, match="`power` must be at least 0 and finite"):
        worst_case_period_rate([1.0], SpectralBounds(0.0, 1.0), power=power)


@pytest.mark.parametrize("name", NEEDS_NO_LOWER_BOUND)
def test_steps_beyond_the_floats_are_refused_as_not_finite(name):
    with pytest.raises(ValueError, match="`steps` must be finite"):
        SCHEDULES[name](SpectralBounds(0.0, 1e-310), 64)
