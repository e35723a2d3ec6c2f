"""Silver steps against published numbers, and against functions that are not quadratic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.polynomial import chebyshev_period_rate, worst_case_period_rate
from stepfold.schedules import (
    SCHEDULES,
    silver_convex_period_rate,
    silver_convex_steps,
    silver_period_rate,
    silver_steps,
)

RHO = 1 + math.sqrt(2)


def largest_contraction(steps, curvature_inside, curvature_outside):
    """Largest |x_T / x_0| on ½·inside·x² for |x| ≤ c, continued with the other curvature."""
    kinks = np.geomspace(1e-4, 1, 4001)
    x = np.ones_like(kinks)
    for gamma in steps:
        outside = curvature_outside * x + (curvature_inside - curvature_outside) * kinks * np.sign(
            x
        )
        x = x - gamma * np.where(np.abs(x) <= kinks, curvature_inside * x, outside)
    return np.abs(x).max()


def test_eight_steps_at_condition_number_32_have_the_published_worst_case():
    # Computed with a semidefinite programme over all functions in PEPit's example.
    rate = silver_period_rate(SpectralBounds(0.1, 3.2), 8)
    assert rate**2 == pytest.approx(0.22144968332063517, rel=1e-12)


def test_seven_convex_steps_have_the_published_guarantee():
    assert silver_convex_period_rate(SpectralBounds(0.0, 10.0), 7) == pytest.approx(
        0.343775, abs=5e-7
    )


def test_seven_convex_steps_meet_their_worst_case_on_a_huber_function():
    # PEPit's semidefinite programme over all functions gives 0.184215 for L = 10.
    steps = silver_convex_steps(SpectralBounds(0.0, 10.0), 7).steps
    kink = 1 / (2 * 10.0 * steps.sum() + 1)
    x = 1.0
    for gamma in steps:
        x -= gamma * 10.0 * min(max(x, -kink), kink)
    value = 10.0 * kink * (abs(x) - kink / 2)
    assert value == pytest.approx(0.184215, abs=5e-7)
    assert value == pytest.approx(10.0 / (4 * RHO**3 - 2), rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 6, 10])
def test_normalised_convex_steps_sum_to_a_power_of_the_silver_ratio(k):
    steps = silver_convex_steps(SpectralBounds(0.0, 1.0), 2**k - 1).steps
    assert steps.sum() == pytest.approx(RHO**k - 1, rel=1e-13)


def test_convex_steps_are_the_limit_of_strongly_convex_ones():
    limit = silver_convex_steps(SpectralBounds(0.0, 2.0), 15).steps
    near = silver_steps(SpectralBounds(1e-12, 2.0), 16).steps[:15]
    np.testing.assert_allclose(near, limit, rtol=1e-9)


def test_a_lower_bound_of_zero_gives_the_convex_steps():
    bounds = SpectralBounds(0.0, 2.0)
    np.testing.assert_array_equal(
        silver_steps(bounds, 11).steps, silver_convex_steps(bounds, 11).steps
    )


def test_one_silver_step_is_the_best_constant_step():
    assert silver_steps(SpectralBounds(1.0, 3.0), 1).steps[0] == pytest.approx(0.5, rel=1e-15)


def test_two_silver_steps_solve_the_quadratic_equation_they_come_from():
    # y = z (√(1+η²) − η) and z' = z (√(1+η²) + η) with η = 1 − z, at z = 1/κ = 1/8.
    bounds = SpectralBounds(1.0, 8.0)
    first, second = 8.0 * silver_steps(bounds, 2).steps
    y, z = ((h - 1) / (8.0 - h) for h in (first, second))
    assert y * z == pytest.approx(1 / 64, rel=1e-12)
    assert z - y == pytest.approx(2 * (1 / 8) * (1 - 1 / 8), rel=1e-12)


@pytest.mark.parametrize("period", [1, 2, 4, 8, 16, 32, 64])
def test_a_quadratic_attains_the_silver_rate(period):
    bounds = SpectralBounds(1.0, 32.0)
    steps = silver_steps(bounds, period)
    assert worst_case_period_rate(steps, bounds) == pytest.approx(
        silver_period_rate(bounds, period), rel=1e-9
    )


@pytest.mark.parametrize("period", [1, 2, 3, 8, 13, 32])
@pytest.mark.parametrize("curvatures", [(32.0, 1.0), (1.0, 32.0)])
def test_no_kinked_function_beats_the_silver_rate(period, curvatures):
    bounds = SpectralBounds(1.0, 32.0)
    worst = largest_contraction(silver_steps(bounds, period), *curvatures)
    assert worst <= silver_period_rate(bounds, period) * (1 + 1e-9)


def test_chebyshev_steps_break_their_rate_on_a_kinked_function():
    bounds = SpectralBounds(1.0, 32.0)
    worst = largest_contraction(chebyshev_steps(bounds, 8), 32.0, 1.0)
    assert worst > 2 * chebyshev_period_rate(bounds, 8)


@pytest.mark.parametrize("seed", range(5))
def test_silver_steps_contract_a_regularised_logistic_loss(seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, 6))
    upper = 0.05 + np.linalg.norm(rows, 2) ** 2 / 4
    bounds = SpectralBounds(0.05, upper)

    def gradient(x):
        return -rows.T @ (1 / (1 + np.exp(rows @ x))) + 0.05 * x

    solution = np.zeros(6)
    for _ in range(20_000):
        solution = solution - gradient(solution) / upper
    x = solution + rng.standard_normal(6)
    start = np.linalg.norm(x - solution)
    for gamma in silver_steps(bounds, 32):
        x = x - gamma * gradient(x)
    assert np.linalg.norm(x - solution) <= silver_period_rate(bounds, 32) * start


@given(st.floats(1.0, 1e8), st.integers(1, 200))
def test_the_silver_rate_lies_between_those_of_chebyshev_and_one_step_repeated(kappa, period):
    bounds = SpectralBounds(1.0, kappa)
    rate = silver_period_rate(bounds, period)
    assert chebyshev_period_rate(bounds, period) <= rate * (1 + 1e-9)
    assert rate <= ((kappa - 1) / (kappa + 1)) ** period * (1 + 1e-9)


@pytest.mark.parametrize("kappa", [1e3, 1e4, 1e5])
def test_steps_to_a_tolerance_grow_like_kappa_to_the_power_log_rho_2(kappa):
    def steps_needed(condition_number):
        bounds = SpectralBounds(1.0, condition_number)
        period = next(2**k for k in range(40) if silver_period_rate(bounds, 2**k) < 1e-6)
        return period * math.log(1e-6) / math.log(silver_period_rate(bounds, period))

    growth = math.log(steps_needed(RHO**4 * kappa) / steps_needed(kappa)) / math.log(RHO**4)
    assert growth == pytest.approx(math.log(2) / math.log(RHO), abs=0.02)


@pytest.mark.parametrize("period", [1, 2, 3, 4, 7, 12, 31, 100])
def test_convex_steps_never_increase_an_error_by_the_end_of_a_period(period):
    bounds = SpectralBounds(0.0, 5.0)
    assert worst_case_period_rate(silver_convex_steps(bounds, period), bounds) <= 1 + 1e-12


def test_both_families_are_registered():
    assert {"silver", "silver-convex"} <= set(SCHEDULES)


def test_a_rate_without_a_lower_bound_is_refused():
    with pytest.raises(ValueError, match=r"`silver_period_rate` needs `bounds.lower > 0`.*kind=4"):
        silver_period_rate(SpectralBounds(0.0, 1.0), 8)


def test_a_convex_rate_between_powers_of_two_names_its_neighbours():
    with pytest.raises(ValueError, match=r"got 9; take 7 or 15"):
        silver_convex_period_rate(SpectralBounds(0.0, 1.0), 9)


@pytest.mark.parametrize("builder", [silver_steps, silver_convex_steps])
def test_the_zero_operator_is_refused(builder):
    with pytest.raises(ValueError, match=r"needs `bounds.upper > 0`, got 0.0"):
        builder(SpectralBounds(0.0, 0.0), 4)
