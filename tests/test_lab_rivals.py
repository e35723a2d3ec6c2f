"""Chebyshev steps tuned on other data: the search finds what theory knows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.lab.experiments._rivals import ORDERS, ChebyshevRival, tuned_chebyshev


@pytest.mark.parametrize(("lower", "upper"), [(0.03, 1.0), (0.2, 0.9), (0.01, 0.5)])
@pytest.mark.parametrize("num_layers", [4, 6])
def test_the_search_finds_nearly_the_best_interval_of_a_quadratic(lower, upper, num_layers) -> None:
    eigenvalues = np.linspace(lower, upper, 200)

    def error(steps, _) -> float:
        return float(np.abs(np.prod(1 - np.outer(steps, eigenvalues), axis=0)).max())

    found = tuned_chebyshev(error, num_layers)
    # Chebyshev's bound: the smallest maximum of such a polynomial on [a, b].
    best = 1 / np.cosh(num_layers * np.arccosh((upper + lower) / (upper - lower)))
    reached = error(found.steps(num_layers), None)
    # Lower ends on the grid are 1.7 times apart; the plain step leaves 10 to 1000 times more.
    assert best * (1 - 1e-9) <= reached <= 2 * best
    assert found.period == num_layers


def test_units_of_the_largest_eigenvalue_scale_the_steps() -> None:
    def error(steps, _, scale=1.0) -> float:
        return float(np.abs(np.prod(1 - np.outer(steps, [0.1 * scale, scale]), axis=0)).max())

    one = tuned_chebyshev(error, 4)
    large = tuned_chebyshev(lambda steps, _: error(steps, None, 50.0), 4, largest=50.0)
    np.testing.assert_allclose(50.0 * large.steps(4), one.steps(4), rtol=1e-12)


@pytest.mark.parametrize("right", [0.5, 2.0, 8.0])
def test_the_number_of_the_prior_is_found(right) -> None:
    def error(steps, prior) -> float:
        return abs(math.log(prior / right)) + float(np.abs(steps - 1).max())

    assert tuned_chebyshev(error, 4, priors=(0.5, 1.0, 2.0, 4.0, 8.0)).prior == right


def test_what_is_not_finite_loses() -> None:
    def error(steps, _) -> float:
        return math.nan if steps.max() > 3 else -float(steps.max())

    found = tuned_chebyshev(error, 6)
    assert 2 < found.steps(6).max() <= 3


def test_a_search_without_any_finite_error_ends() -> None:
    assert isinstance(tuned_chebyshev(lambda *_: math.inf, 6), ChebyshevRival)


@pytest.mark.parametrize("num_layers", [1, 5, 12])
def test_periods_divide_the_number_of_layers(num_layers) -> None:
    seen = []

    def error(steps, _) -> float:
        seen.append(steps)
        return float(np.abs(steps).sum())

    found = tuned_chebyshev(error, num_layers)
    assert num_layers % found.period == 0
    assert {steps.size for steps in seen} == {num_layers}


@pytest.mark.parametrize("order", ORDERS)
def test_steps_repeat_in_their_order(order) -> None:
    rival = ChebyshevRival(0.1, 1.0, 3, order)
    steps = rival.steps(9)
    np.testing.assert_array_equal(steps, np.tile(steps[:3], 3))
    assert sorted(steps[:3]) == pytest.approx(
        sorted(chebyshev_steps(SpectralBounds(0.1, 1.0), 3).steps)
    )
    assert (list(steps[:3]) == sorted(steps[:3])) == (order == "ascending")
    assert "T = 3" in str(rival)
