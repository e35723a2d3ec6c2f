"""Every order is a permutation; only the interleaved ones are safe in floating point."""

from collections.abc import Callable

import numpy as np
import pytest

from stepfold import (
    Quadratic,
    Schedule,
    SpectralBounds,
    SpectralMeasure,
    chebyshev_steps,
    optimal_steps,
    solve,
)
from stepfold.polynomial import chebyshev_period_rate
from stepfold.schedules import ORDERS, roundoff_amplification, safe_order
from stepfold.schedules.ordering import lebedev_order, leja_order, outside_in_order

BOUNDS = SpectralBounds(1.0, 1e4)
POWERS_OF_TWO_ONLY = {"fractal", "lebedev"}


@pytest.mark.parametrize("period", range(1, 65))
@pytest.mark.parametrize("name", ORDERS)
def test_every_order_is_a_permutation(name: str, period: int) -> None:
    if name in POWERS_OF_TWO_ONLY:
        period = 2 ** (period % 9)
    steps = np.sort(chebyshev_steps(BOUNDS, period).steps)
    given = steps.copy()
    order = ORDERS[name](steps)
    assert sorted(order.tolist()) == list(range(period))
    assert steps.tobytes() == given.tobytes()


@pytest.mark.parametrize("name", sorted(set(ORDERS) - POWERS_OF_TWO_ONLY))
def test_equal_steps_have_an_order_too(name: str) -> None:
    assert sorted(ORDERS[name](np.full(5, 0.5)).tolist()) == [0, 1, 2, 3, 4]


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
    ],
)
def test_the_lebedev_order_is_the_published_one(period: int, expected: list[int]) -> None:
    assert (lebedev_order(np.arange(period)) + 1).tolist() == expected


@pytest.mark.parametrize("period", [2, 5, 9])
def test_each_leja_root_has_the_largest_product_of_distances(period: int) -> None:
    steps = np.sort(np.random.default_rng(period).uniform(0.1, 1.0, period))
    order = leja_order(steps)
    roots = 1 / steps
    products = [np.abs(roots[:, None] - roots[order[:k]]).prod(axis=1) for k in range(1, period)]
    assert [int(p.argmax()) for p in products] == order[1:].tolist()
    assert order[0] == roots.argmax()


def test_the_leja_order_survives_products_beyond_the_floats() -> None:
    steps = np.sort(chebyshev_steps(SpectralBounds(1e-3, 1e3), 400).steps)
    assert sorted(leja_order(steps).tolist()) == list(range(400))


@pytest.mark.parametrize(("period", "expected"), [(1, [0]), (5, [4, 0, 3, 1, 2])])
def test_outside_in_alternates_between_the_ends(period: int, expected: list[int]) -> None:
    assert outside_in_order(np.arange(period)).tolist() == expected


@pytest.mark.parametrize(("period", "name"), [(1, "lebedev"), (7, "leja"), (64, "lebedev")])
def test_the_safe_order_is_lebedev_s_where_it_exists(period: int, name: str) -> None:
    assert safe_order(period) == name
    assert chebyshev_steps(BOUNDS, period).order == name


NUM_STEPS = [1, 2, 3, 5, 8, 13, 16, 31, 32, 33, 64, 100, 128, 200, 255, 256]


@pytest.mark.parametrize("period", NUM_STEPS)
@pytest.mark.parametrize("kind", [1, 2])
def test_the_default_order_of_chebyshev_steps_amplifies_rounding_little(
    period: int, kind: int
) -> None:
    steps = chebyshev_steps(BOUNDS, period, kind=kind)
    assert max(roundoff_amplification(steps, BOUNDS)) < BOUNDS.condition_number


@pytest.mark.parametrize("period", NUM_STEPS)
def test_the_default_order_of_optimal_steps_amplifies_rounding_little(period: int) -> None:
    steps = optimal_steps(SpectralMeasure.uniform(BOUNDS, num_nodes=300), period)
    assert max(roundoff_amplification(steps, BOUNDS)) < BOUNDS.condition_number


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize(("period", "power"), [(16, 7), (32, 15), (64, 31), (256, 127)])
def test_monotone_orders_amplify_rounding_enormously(order: str, period: int, power: int) -> None:
    heads, tails = roundoff_amplification(chebyshev_steps(BOUNDS, period).reordered(order), BOUNDS)
    assert {"ascending": tails, "descending": heads}[order] > 10.0**power
    assert {"ascending": heads, "descending": tails}[order] == 1.0


def test_the_outside_in_order_is_not_stable_for_many_steps() -> None:
    steps = chebyshev_steps(BOUNDS, 64).reordered("outside-in")
    assert max(roundoff_amplification(steps, BOUNDS)) > 1e15


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_the_amplification_is_the_largest_product_of_heads_and_tails(order: str) -> None:
    steps = chebyshev_steps(SpectralBounds(1.0, 100.0), 8).reordered(order).steps
    factors = 1 - steps[:, None] * np.linspace(1.0, 100.0, 100_001)
    heads = np.abs(np.cumprod(factors, axis=0)).max()
    tails = np.abs(np.cumprod(factors[::-1], axis=0)).max()
    found = roundoff_amplification(steps, SpectralBounds(1.0, 100.0))
    assert found == pytest.approx((max(heads, 1), max(tails, 1)), rel=1e-3)


def test_an_amplification_beyond_the_floats_is_infinite() -> None:
    steps = chebyshev_steps(SpectralBounds(1.0, 1e6), 1024).reordered("descending")
    assert roundoff_amplification(steps, SpectralBounds(1.0, 1e6))[0] == np.inf


@pytest.fixture(scope="module")
def one_period(symmetric_with: Callable[..., np.ndarray]) -> Callable[..., float]:
    """Relative error after one period on κ = 1e4, by `solve` in the given arithmetic."""
    # Not diagonal: there each component would keep its own rounding error, relative to itself.
    hessian = symmetric_with(np.geomspace(1.0, 1e4, 100))

    def run(schedule: Schedule, dtype: type) -> float:
        problem = Quadratic(hessian.astype(dtype), (hessian @ np.ones(100)).astype(dtype))
        last: list[np.ndarray] = []
        solve(
            problem,
            schedule,
            max_steps=schedule.period,
            callback=lambda _, x: last.append(x),
        )
        assert last[-1].dtype == dtype
        return float(np.linalg.norm(last[-1].astype(float) - 1) / 10)

    return run


@pytest.mark.parametrize(("dtype", "rounding"), [(np.float64, 1e-12), (np.float32, 1e-3)])
@pytest.mark.parametrize("period", [64, 100, 256])
def test_the_default_order_reaches_the_rate_of_exact_arithmetic(
    one_period: Callable[..., float], period: int, dtype: type, rounding: float
) -> None:
    schedule = chebyshev_steps(BOUNDS, period)
    assert one_period(schedule, dtype) <= chebyshev_period_rate(BOUNDS, period) + rounding


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("period", [64, 100])
def test_monotone_orders_lose_every_digit(
    one_period: Callable[..., float], period: int, order: str, dtype: type
) -> None:
    schedule = chebyshev_steps(BOUNDS, period).reordered(order)
    assert not one_period(schedule, dtype) < 1e6
