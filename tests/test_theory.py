"""The theorems the library rests on, each checked by program."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from stepfold import SpectralBounds, SpectralMeasure, chebyshev_steps
from stepfold.polynomial import (
    chebyshev_period_rate,
    first_order_lower_bound,
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    optimal_mean_squared_error,
)

BOUNDS = SpectralBounds(1.0, 9.0)


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


@pytest.mark.parametrize("kappa", [1.5, 9.0, 1e4])
def test_the_rate_per_step_falls_to_the_first_order_bound_like_the_t_th_root_of_2(kappa):
    bounds = SpectralBounds(1.0, kappa)
    limit = first_order_lower_bound(bounds)
    period = math.ceil(20 / -math.log(limit))
    excess = math.log(chebyshev_period_rate(bounds, period)) - period * math.log(limit)
    assert excess == pytest.approx(math.log(2), abs=1e-12)


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
