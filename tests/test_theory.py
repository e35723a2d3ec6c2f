"""The theorems the library rests on, each checked by program."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from stepfold import SpectralBounds, SpectralMeasure, chebyshev_steps
from stepfold.polynomial import (
    chebyshev_period_rate,
    first_order_lower_bound,
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    optimal_mean_squared_error,
    worst_case_period_rate,
)

BOUNDS = SpectralBounds(1.0, 9.0)


@given(st.lists(st.floats(0.02, 5.0), min_size=1, max_size=16))
def test_no_schedule_of_the_same_length_beats_chebyshev_steps(steps):
    assert worst_case_period_rate(steps, BOUNDS) >= chebyshev_period_rate(BOUNDS, len(steps)) * (
        1 - 1e-9
    )


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(1e-3, 0.5))
def test_no_perturbation_of_chebyshev_steps_improves_them(period, seed, size):
    noise = np.random.default_rng(seed).standard_normal(period)
    steps = chebyshev_steps(BOUNDS, period).steps * np.exp(size * noise)
    assert worst_case_period_rate(steps, BOUNDS) >= chebyshev_period_rate(BOUNDS, period) * (
        1 - 1e-9
    )


@pytest.mark.parametrize("period", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_restarted_numerical_optimisation_does_not_beat_chebyshev_steps(period, seed):
    start = np.random.default_rng(seed).uniform(-2.5, 0.5, period)
    found = minimize(
        lambda logs: worst_case_period_rate(np.exp(logs), BOUNDS),
        start,
        method="Nelder-Mead",
        options={"maxiter": 600, "xatol": 1e-10, "fatol": 1e-12},
    )
    assert found.fun >= chebyshev_period_rate(BOUNDS, period) * (1 - 1e-9)


@pytest.mark.parametrize("period", [1, 2, 3, 4, 5, 6])
def test_minimising_the_bound_on_the_spectral_radius_yields_the_chebyshev_steps(period):
    # Smallest level with |∏ (1 − λ/r)| ≤ level on a grid of [a, b], from equidistant roots r.
    grid = 5 - 4 * np.cos(np.linspace(0, np.pi, 60 * period + 1))

    def values(roots):
        return np.prod(1 - grid[:, None] / roots, axis=1)

    def slopes(roots):
        columns = [
            np.prod(1 - grid[:, None] / np.delete(roots, k), axis=1) * grid / roots[k] ** 2
            for k in range(period)
        ]
        return np.column_stack(columns)

    ones = np.ones((grid.size, 1))
    found = minimize(
        lambda v: v[-1],
        np.append(1 + 8 * (np.arange(period) + 0.5) / period, 1.0),
        jac=lambda _: np.eye(period + 1)[-1],
        constraints={
            "type": "ineq",
            "fun": lambda v: np.append(v[-1] - values(v[:-1]), v[-1] + values(v[:-1])),
            "jac": lambda v: np.block([[-slopes(v[:-1]), ones], [slopes(v[:-1]), ones]]),
        },
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 300},
    )
    expected = np.sort(chebyshev_steps(BOUNDS, period).steps)
    np.testing.assert_allclose(np.sort(1 / found.x[:-1]), expected, rtol=1e-8)
    assert found.fun == pytest.approx(chebyshev_period_rate(BOUNDS, period), rel=1e-8)


@pytest.mark.parametrize(
    ("period", "rate"), [(1, 0.8), (2, 0.68599), (4, 0.59402), (8, 0.54525), (16, 0.52214)]
)
def test_rates_per_step_at_condition_number_9_are_the_published_ones(period, rate):
    measured = worst_case_period_rate(chebyshev_steps(BOUNDS, period), BOUNDS) ** (1 / period)
    assert measured == pytest.approx(rate, abs=5e-6)


@pytest.mark.parametrize("kappa", [1.5, 9.0, 1e4])
def test_the_rate_per_step_falls_to_the_first_order_bound_like_the_t_th_root_of_2(kappa):
    bounds = SpectralBounds(1.0, kappa)
    limit = first_order_lower_bound(bounds)
    period = math.ceil(20 / -math.log(limit))
    excess = math.log(chebyshev_period_rate(bounds, period)) - period * math.log(limit)
    assert excess == pytest.approx(math.log(2), abs=1e-12)


@given(st.integers(1, 200), st.floats(1.001, 1e6))
def test_no_finite_schedule_reaches_the_first_order_bound(period, kappa):
    bounds = SpectralBounds(1.0, kappa)
    log_rate = math.log(max(chebyshev_period_rate(bounds, period), 1e-300)) / period
    assert log_rate >= math.log(first_order_lower_bound(bounds)) * (1 + 1e-12)


def semi_iteration(hessian, rhs, period, lower, upper):
    """Chebyshev semi-iteration by its three-term recurrence, written from the polynomials.

    With s = (b+a)/(b−a) the ratio ω_k = 2 s T_{k−1}(s) / T_k(s) of Chebyshev polynomials satisfies
    ω_{k+1} = 1/(1 − ω_k/(4 s²)).
    """
    centre, s = (upper + lower) / 2, (upper + lower) / (upper - lower)
    previous = np.zeros_like(rhs)
    current = rhs / centre
    omega = 2.0
    for _ in range(period - 1):
        omega = 1 / (1 - omega / (4 * s**2))
        following = omega * (current + (rhs - hessian * current) / centre - previous) + previous
        previous, current = current, following
    return current


@pytest.mark.parametrize("period", [1, 2, 3, 8, 17, 64])
def test_semi_iteration_and_chebyshev_steps_meet_at_the_end_of_the_period(period):
    rng = np.random.default_rng(0)
    hessian, rhs = rng.uniform(1.0, 100.0, 50), rng.standard_normal(50)
    x = np.zeros(50)
    for gamma in chebyshev_steps(SpectralBounds(1.0, 100.0), period):
        x = x - gamma * (hessian * x - rhs)
    np.testing.assert_allclose(x, semi_iteration(hessian, rhs, period, 1.0, 100.0), rtol=1e-9)


@pytest.mark.parametrize("period", [1, 2, 5, 11, 25, 60])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_second_kind_steps_are_optimal_for_marchenko_pastur(period, ratio):
    measure = SpectralMeasure.marchenko_pastur(ratio)
    edge = math.sqrt(ratio)
    steps = chebyshev_steps(SpectralBounds((1 - edge) ** 2, (1 + edge) ** 2), period, kind=2)
    closed = (1 - ratio) * ratio**period / (1 - ratio ** (period + 1))
    assert mean_squared_error(steps, measure) == pytest.approx(closed, rel=1e-7)
    assert marchenko_pastur_mean_squared_error(ratio, period) == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize("ratio", [1e-6, 1e-3])
def test_the_optimal_error_underflows_to_zero_and_not_to_an_exception(ratio):
    measure = SpectralMeasure.marchenko_pastur(ratio, num_nodes=300)
    assert optimal_mean_squared_error(measure, 290) == 0.0


def test_the_optimal_error_is_right_where_the_polynomials_are_scaled():
    measure = SpectralMeasure.marchenko_pastur(0.01, num_nodes=120)
    expected = marchenko_pastur_mean_squared_error(0.01, 100)
    assert optimal_mean_squared_error(measure, 100) == pytest.approx(expected, rel=1e-6)
