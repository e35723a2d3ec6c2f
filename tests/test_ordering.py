"""Every order is a permutation, as published; what an order does to rounding is measured right."""

import math

import numpy as np
import pytest

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.schedules import ORDERS, roundoff_amplification, safe_order
from stepfold.schedules.fractal import fractal_order
from stepfold.schedules.ordering import lebedev_order, leja_order, outside_in_order, random_order

KAPPA = 1e4
BOUNDS = SpectralBounds(1.0, KAPPA)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("period", [1, 2, 3, 4, 7, 12, 31, 32, 100])
def test_every_order_is_a_permutation(name: str, period: int) -> None:
    steps = np.geomspace(0.1, 1, period)
    given = steps.copy()
    assert sorted(ORDERS[name](steps).tolist()) == list(range(period))
    assert steps.tobytes() == given.tobytes()


@pytest.mark.parametrize("name", ORDERS)
def test_repeated_steps_have_an_order_too(name: str) -> None:
    steps = np.array([0.1, 0.1, 0.1, 0.5, 0.5, 1.0])
    assert sorted(ORDERS[name](steps).tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 3.0, 1e150, 1e300])
def test_an_order_does_not_depend_on_the_scale(name: str, scale: float) -> None:
    steps = np.sort(chebyshev_steps(BOUNDS, 16).steps)
    assert ORDERS[name](scale * steps).tolist() == ORDERS[name](steps).tolist()


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (1, [1]),
        (2, [1, 2]),
        (4, [1, 4, 2, 3]),
        (8, [1, 8, 4, 5, 2, 7, 3, 6]),
        (16, [1, 16, 8, 9, 4, 13, 5, 12, 2, 15, 7, 10, 3, 14, 6, 11]),
        # 11 = 2·5 + 1, 5 = 2·2 + 1: Samarskii's Eqs. (44)–(46).
        (11, [1, 11, 5, 7, 2, 10, 4, 8, 3, 9, 6]),
    ],
)
def test_the_lebedev_order_is_the_published_one(period: int, expected: list[int]) -> None:
    assert (lebedev_order(np.arange(period)) + 1).tolist() == expected


def test_the_fractal_order_is_lebedev_s_counted_from_the_largest() -> None:
    assert (8 - fractal_order(np.ones(8))).tolist() == [1, 8, 4, 5, 2, 7, 3, 6]


def test_the_random_order_is_that_of_its_generator() -> None:
    steps = np.arange(20.0)
    assert random_order(steps).tolist() == random_order(steps).tolist()
    other = random_order(steps, np.random.default_rng(1))
    assert other.tolist() != random_order(steps).tolist()


@pytest.mark.parametrize("period", [2, 5, 12])
def test_each_leja_root_has_the_largest_product_of_distances(period: int) -> None:
    steps = np.sort(np.random.default_rng(period).uniform(0.1, 1.0, period))
    order = leja_order(steps)
    roots = 1 / steps
    products = [np.abs(roots[:, None] - roots[order[:k]]).prod(axis=1) for k in range(1, period)]
    assert [int(p.argmax()) for p in products] == order[1:].tolist()
    assert order[0] == roots.argmax()


def test_a_million_chebyshev_steps_are_a_permutation_of_the_roots() -> None:
    # In Leja order these would take an hour.
    steps = chebyshev_steps(BOUNDS, 1_000_001).steps
    angles = (2 * np.arange(steps.size) + 1) * (np.pi / (4 * steps.size))
    roots = BOUNDS.lower * np.sin(angles) ** 2 + BOUNDS.upper * np.cos(angles) ** 2
    assert np.allclose(np.sort(steps), np.sort(1 / roots), rtol=1e-12, atol=0)


def test_an_order_that_would_take_minutes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`steps` must be at most 50,000 .* take Lebedev order"):
        leja_order(np.linspace(1.0, 2.0, 50_001))


def test_the_leja_order_survives_products_beyond_the_floats() -> None:
    steps = np.sort(chebyshev_steps(SpectralBounds(1e-3, 1e3), 400).steps)
    assert sorted(leja_order(steps).tolist()) == list(range(400))


@pytest.mark.parametrize(("period", "expected"), [(1, [0]), (5, [4, 0, 3, 1, 2])])
def test_outside_in_alternates_between_the_ends(period: int, expected: list[int]) -> None:
    assert outside_in_order(np.arange(period)).tolist() == expected


@pytest.mark.parametrize(
    ("period", "name"), [(1, "lebedev"), (7, "leja"), (64, "lebedev"), (10_001, "lebedev")]
)
def test_the_safe_order_is_lebedev_s_where_it_costs_much_less(period: int, name: str) -> None:
    assert safe_order(period) == name
    assert chebyshev_steps(BOUNDS, period).order == name


@pytest.mark.parametrize("order", ["lebedev", "random", "outside-in"])
@pytest.mark.parametrize("period", [1, 2, 5, 64, 200])
def test_amplification_agrees_with_a_hundredfold_finer_grid(order: str, period: int) -> None:
    steps = chebyshev_steps(BOUNDS, period).reordered(order).steps
    angles = np.linspace(0, np.pi / 2, 400 * period + 1)
    grid = np.cos(angles) ** 2 + KAPPA * np.sin(angles) ** 2
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(1 - steps[:, None] * grid))
    heads = math.exp(max(np.cumsum(logs, axis=0).max(), 0.0))
    tails = math.exp(max(np.cumsum(logs[::-1], axis=0).max(), 0.0))
    found = roundoff_amplification(steps, BOUNDS)
    assert found[0] == pytest.approx(heads, rel=1e-4)
    assert found[1] == pytest.approx(tails, rel=1e-4)
    assert found[0] >= heads * (1 - 1e-9)
    assert found[1] >= tails * (1 - 1e-9)


def test_amplification_finds_an_extremum_between_close_roots() -> None:
    # Degree 3 with its interior maximum at an irrational place: the grid alone misses it.
    steps = [1.0, 1 / 3, 1 / 7]
    derivative = np.polynomial.Polynomial([1.0])
    for gamma in steps:
        derivative = derivative * np.polynomial.Polynomial([1.0, -gamma])
    places = derivative.deriv().roots()
    expected = np.abs(derivative(places[(places > 2.0) & (places < 7.0)])).max()
    found, _ = roundoff_amplification(steps, SpectralBounds(2.0, 7.0))
    head_of_two = abs((1 - 7.0) * (1 - 7.0 / 3))
    assert found == pytest.approx(max(expected, head_of_two, 6.0), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_amplification_does_not_depend_on_the_scale(scale: float) -> None:
    steps = chebyshev_steps(BOUNDS, 20).steps
    scaled = roundoff_amplification(steps / scale, SpectralBounds(scale, KAPPA * scale))
    assert scaled == pytest.approx(roundoff_amplification(steps, BOUNDS), rel=1e-9)


def test_an_amplification_beyond_the_floats_is_infinite() -> None:
    steps = chebyshev_steps(SpectralBounds(1.0, 1e6), 1024).reordered("descending")
    assert roundoff_amplification(steps, SpectralBounds(1.0, 1e6))[0] == np.inf
