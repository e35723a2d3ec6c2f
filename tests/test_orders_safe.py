"""Orders: permutations for any T, the published ones, and safe ones in real arithmetic."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from stepfold import Quadratic, Schedule, SpectralBounds, SpectralMeasure, chebyshev_steps
from stepfold.schedules import ORDERS, SCHEDULES, roundoff_amplification
from stepfold.schedules.fractal import fractal_order
from stepfold.schedules.ordering import lebedev_order, leja_order, random_order

KAPPA = 1e4
BOUNDS = SpectralBounds(1.0, KAPPA)
SAFE = ["lebedev", "leja", "fractal"]
LENGTHS = [1, 2, 3, 5, 7, 12, 31, 33, 63, 65, 81, 100, 127, 129, 243, 255, 257, 300]
CLUSTERS = {
    "two-wide": np.concatenate([np.linspace(1, 2, 80), np.linspace(9e3, 1e4, 80)]),
    "three-narrow": np.concatenate(
        [
            1 + 1e-3 * np.linspace(0, 1, 50),
            100 + 0.1 * np.linspace(0, 1, 50),
            1e4 - 10 * np.linspace(0, 1, 50),
        ]
    ),
}


def spread_eigenvalues():
    angles = np.linspace(0, np.pi / 2, 160)
    return np.cos(angles) ** 2 + KAPPA * np.sin(angles) ** 2


def floor_of(schedule, eigenvalues, dtype, max_steps):
    """Relative error, in units of the machine's, that is left after whole periods of the steps."""
    rng = np.random.default_rng(3)
    size = eigenvalues.size
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    hessian = (basis * eigenvalues) @ basis.T
    hessian = ((hessian + hessian.T) / 2).astype(dtype)
    rhs = (hessian.astype(np.float64) @ rng.standard_normal(size)).astype(dtype)
    truth = np.linalg.solve(hessian.astype(np.float64), rhs.astype(np.float64))
    problem = Quadratic(hessian, rhs)
    x = np.zeros_like(rhs)
    for _ in range(math.ceil(max_steps / schedule.period)):
        for gamma in schedule:
            x = problem.gradient_step(x, gamma)
    assert x.dtype == dtype
    error = np.linalg.norm(x - truth) / np.linalg.norm(truth)
    return error / np.finfo(dtype).eps


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("period", [1, 2, 3, 4, 7, 12, 31, 32, 100])
def test_every_order_is_a_permutation(name, period):
    steps = np.geomspace(0.1, 1, period)
    np.testing.assert_array_equal(np.sort(ORDERS[name](steps)), np.arange(period))


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_takes_repeated_steps(name):
    steps = np.array([0.1, 0.1, 0.1, 0.5, 0.5, 1.0])
    np.testing.assert_array_equal(np.sort(ORDERS[name](steps)), np.arange(6))


def test_lebedev_order_of_8_is_the_published_one():
    assert (lebedev_order(np.ones(8)) + 1).tolist() == [1, 8, 4, 5, 2, 7, 3, 6]


def test_lebedev_order_of_16_is_the_published_one():
    # Samarskii's Θ₁₆, of odd integers.
    odd = [1, 31, 15, 17, 7, 25, 9, 23, 3, 29, 13, 19, 5, 27, 11, 21]
    assert (2 * lebedev_order(np.ones(16)) + 1).tolist() == odd


def test_lebedev_order_of_an_odd_number_puts_the_middle_last():
    # 11 = 2·5 + 1, 5 = 2·2 + 1: Samarskii's Eqs. (44)–(46).
    assert (lebedev_order(np.ones(11)) + 1).tolist() == [1, 11, 5, 7, 2, 10, 4, 8, 3, 9, 6]


def test_fractal_order_of_8_is_lebedevs_counted_from_the_largest():
    assert (8 - fractal_order(np.ones(8))).tolist() == [1, 8, 4, 5, 2, 7, 3, 6]


def test_random_order_is_reproducible_and_follows_its_generator():
    steps = np.arange(20.0)
    np.testing.assert_array_equal(random_order(steps), random_order(steps))
    other = random_order(steps, np.random.default_rng(1))
    assert not np.array_equal(other, random_order(steps))


def test_leja_order_maximises_the_product_of_distances():
    roots = np.random.default_rng(0).uniform(1, 10, 12)
    steps = np.sort(1 / roots)
    order = leja_order(steps)
    chosen = 1 / steps[order]
    assert chosen[0] == roots.max()
    for k in range(1, 12):
        products = np.abs(chosen[k:, None] - chosen[:k]).prod(axis=1)
        assert products[0] == pytest.approx(products.max(), rel=1e-12)


def test_leja_order_of_4096_steps_takes_less_than_a_second():
    steps = np.sort(chebyshev_steps(BOUNDS, 4096).steps)
    start = time.process_time()
    leja_order(steps)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("period", LENGTHS)
@pytest.mark.parametrize("kind", [1, 2, 4])
@pytest.mark.parametrize("order", SAFE)
def test_no_product_of_factors_exceeds_a_few_kappa_in_a_safe_order(order, kind, period):
    schedule = chebyshev_steps(BOUNDS, period, kind=kind).reordered(order)
    heads, tails = roundoff_amplification(schedule, BOUNDS)
    assert heads <= 4 * KAPPA
    assert tails <= 4 * KAPPA


@pytest.mark.parametrize("period", LENGTHS)
def test_no_tail_exceeds_1_in_fractal_order(period):
    schedule = chebyshev_steps(BOUNDS, period).reordered("fractal")
    assert roundoff_amplification(schedule, BOUNDS)[1] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("order", ["ascending", "descending", "outside-in", "random"])
def test_other_orders_lose_all_digits(order):
    schedule = chebyshev_steps(BOUNDS, 128).reordered(order)
    assert max(roundoff_amplification(schedule, BOUNDS)) > 1e16


@pytest.mark.parametrize("order", ["lebedev", "random", "outside-in"])
@pytest.mark.parametrize("period", [1, 2, 5, 64, 200])
def test_amplification_agrees_with_a_hundredfold_finer_grid(order, period):
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


def test_amplification_finds_an_extremum_between_close_roots():
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


def test_amplification_beyond_the_floats_is_infinite():
    schedule = chebyshev_steps(BOUNDS, 1024).reordered("ascending")
    assert roundoff_amplification(schedule, BOUNDS)[1] == math.inf


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_amplification_does_not_depend_on_the_scale(scale):
    steps = chebyshev_steps(BOUNDS, 20).steps
    scaled = roundoff_amplification(steps / scale, SpectralBounds(scale, KAPPA * scale))
    assert scaled == pytest.approx(roundoff_amplification(steps, BOUNDS), rel=1e-9)


@pytest.mark.parametrize("name", ["chebyshev", "chebyshev-second-kind", "chebyshev-fourth-kind"])
@pytest.mark.parametrize("period", [64, 100, 129, 256])
def test_default_orders_reach_the_precision_of_float32(name, period):
    schedule = SCHEDULES[name](BOUNDS, period)
    assert floor_of(schedule, spread_eigenvalues(), np.float32, 2000) < KAPPA


@pytest.mark.parametrize("name", ["chebyshev", "chebyshev-second-kind", "chebyshev-fourth-kind"])
@pytest.mark.parametrize("period", [100, 243, 1000, 1024])
def test_default_orders_reach_the_precision_of_float64(name, period):
    schedule = SCHEDULES[name](BOUNDS, period)
    assert floor_of(schedule, spread_eigenvalues(), np.float64, 30_000) < KAPPA


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("period", [8, 16, 27, 64])
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_leja_order_of_optimal_steps_of_clusters_reaches_the_precision(cluster, period, dtype):
    measure = SpectralMeasure.from_eigenvalues(CLUSTERS[cluster])
    steps = 1 / measure.gauss_nodes_of_weighted(period)
    schedule = Schedule(steps, "optimal").reordered("leja")
    assert floor_of(schedule, CLUSTERS[cluster], dtype, 1200) < 3 * KAPPA


@pytest.mark.parametrize(
    ("period", "dtype"), [(256, np.float32), (256, np.float64), (1024, np.float64)]
)
def test_leja_order_of_many_optimal_steps_of_clusters_reaches_the_precision(period, dtype):
    import scipy.sparse

    eigenvalues = np.concatenate([np.linspace(1, 2, 1100), np.linspace(9e3, 1e4, 1100)])
    measure = SpectralMeasure.from_eigenvalues(eigenvalues)
    steps = 1 / measure.gauss_nodes_of_weighted(period)
    hessian = scipy.sparse.diags_array(eigenvalues.astype(dtype), format="csr")
    truth = np.random.default_rng(0).standard_normal(eigenvalues.size).astype(dtype)
    problem = Quadratic(hessian, hessian @ truth)
    x = np.zeros_like(truth)
    for gamma in Schedule(steps).reordered("leja"):
        x = problem.gradient_step(x, gamma)
    assert x.dtype == dtype
    error = np.linalg.norm(x - truth) / np.linalg.norm(truth)
    assert error < 100 * np.finfo(dtype).eps


@pytest.mark.parametrize("order", ORDERS)
def test_no_order_saves_optimal_steps_of_a_few_far_outliers(order):
    # Optimal steps hit each outlier once, where p is so steep that no float is close enough.
    eigenvalues = np.concatenate([np.linspace(1, 10, 156), [100.0, 1000.0, 5000.0, 1e4]])
    measure = SpectralMeasure.from_eigenvalues(eigenvalues)
    steps = 1 / measure.gauss_nodes_of_weighted(8)
    schedule = Schedule(steps, "optimal").reordered(order)
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(1 - schedule.steps[:, None] * eigenvalues))
    tails = np.cumsum(logs[::-1], axis=0).max()
    heads = np.cumsum(logs, axis=0).max()
    assert max(heads, tails) > math.log(1e12)
