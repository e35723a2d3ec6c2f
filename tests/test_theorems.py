"""Statements that the theory pages prove, against numerical oracles."""

from __future__ import annotations

import numpy as np
import pytest

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.polynomial import chebyshev_period_rate, residual_polynomial
from stepfold.schedules import constant_steps, obs_f_steps, obs_s_steps, silver_convex_steps

UNIT = SpectralBounds(0.0, 1.0)


@pytest.mark.parametrize("kappa", [1.5, 9.0, 400.0])
@pytest.mark.parametrize("period", [1, 2, 5, 9])
def test_there_is_an_error_that_no_first_order_method_shrinks_more_than_chebyshev_steps(
    kappa: float, period: int
) -> None:
    bounds = SpectralBounds(1.0, kappa)
    angles = np.arange(period + 1) * np.pi / period
    extrema = (1 + kappa) / 2 + (kappa - 1) / 2 * np.cos(angles)
    heights = residual_polynomial(chebyshev_steps(bounds, period), extrema)
    differences = extrema[:, None] - extrema
    np.fill_diagonal(differences, 1.0)
    weights = 1 / differences.prod(axis=1) / (extrema * heights)
    weights /= weights.sum()
    assert (weights > 0).all()
    # Any method leaves q(λ) with q(0) = 1: the best q is a weighted least-squares problem. Its
    # unknowns are the values of a polynomial of degree T − 1 in a Chebyshev basis.
    basis = np.polynomial.chebyshev.chebvander((2 * extrema - 1 - kappa) / (kappa - 1), period - 1)
    rows = np.sqrt(weights)[:, None]
    columns = rows * extrema[:, None] * basis
    found = np.linalg.lstsq(columns, -np.sqrt(weights), rcond=None)[0]
    least = np.linalg.norm(np.sqrt(weights) + columns @ found)
    assert least == pytest.approx(chebyshev_period_rate(bounds, period), rel=1e-9)


@pytest.mark.parametrize(
    "steps",
    [
        constant_steps(SpectralBounds(1.0, 1.0), 5).steps,
        silver_convex_steps(UNIT, 7).steps,
        obs_s_steps(UNIT, 6).steps,
        obs_f_steps(UNIT, 9).steps,
        np.random.default_rng(0).uniform(0.1, 3.0, 12),
    ],
    ids=["constant", "silver", "S", "F", "random"],
)
def test_on_a_huber_function_any_positive_steps_leave_what_their_sum_says(
    steps: np.ndarray,
) -> None:
    total = float(steps.sum())
    kink, x = 1 / (1 + 2 * total), 1.0
    for gamma in steps:
        x -= gamma * min(max(x, -kink), kink)
    assert kink * (x - kink / 2) == pytest.approx(1 / (2 + 4 * total), rel=1e-12)


def test_the_coefficients_of_conjugate_gradients_are_those_of_lanczos_steps() -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((30, 20))
    hessian, residual = factor.T @ factor, rng.standard_normal(20)
    vectors, alphas, betas = [], [], []
    direction = residual
    for k in range(6):
        vectors.append((-1) ** k * residual / np.linalg.norm(residual))
        product = hessian @ direction
        alphas.append(residual @ residual / (direction @ product))
        new = residual - alphas[-1] * product
        betas.append(new @ new / (residual @ residual))
        residual, direction = new, new + betas[-1] * direction
    basis = np.array(vectors)
    diagonal = 1 / np.array(alphas)
    diagonal[1:] += np.array(betas[:-1]) / np.array(alphas[:-1])
    off = np.sqrt(betas[:-1]) / np.array(alphas[:-1])
    expected = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
    np.testing.assert_allclose(basis @ hessian @ basis.T, expected, atol=1e-8 * diagonal.max())
