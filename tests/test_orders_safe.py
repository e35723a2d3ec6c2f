"""Which orders of the steps keep rounding errors small, and which multiply them."""

from __future__ import annotations

import math
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
from stepfold.schedules import ORDERS, SCHEDULES, roundoff_amplification

KAPPA = 1e4
BOUNDS = SpectralBounds(1.0, KAPPA)
SAFE = ["lebedev", "leja", "fractal"]
LENGTHS = [1, 2, 3, 7, 12, 33, 64, 100, 129, 243, 255, 256]
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


@pytest.mark.parametrize("period", LENGTHS)
@pytest.mark.parametrize("kind", [1, 2])
def test_the_default_order_of_chebyshev_steps_amplifies_rounding_little(
    period: int, kind: int
) -> None:
    steps = chebyshev_steps(BOUNDS, period, kind=kind)
    assert max(roundoff_amplification(steps, BOUNDS)) < BOUNDS.condition_number


@pytest.mark.parametrize("period", LENGTHS)
def test_the_default_order_of_optimal_steps_amplifies_rounding_little(period: int) -> None:
    steps = optimal_steps(SpectralMeasure.uniform(BOUNDS, num_nodes=300), period)
    assert max(roundoff_amplification(steps, BOUNDS)) < BOUNDS.condition_number


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize(("period", "power"), [(16, 7), (32, 15), (64, 31), (256, 127)])
def test_monotone_orders_amplify_rounding_enormously(order: str, period: int, power: int) -> None:
    heads, tails = roundoff_amplification(chebyshev_steps(BOUNDS, period).reordered(order), BOUNDS)
    assert {"ascending": tails, "descending": heads}[order] > 10.0**power
    assert {"ascending": heads, "descending": tails}[order] == 1.0


@pytest.mark.parametrize("order", ["outside-in", "random"])
def test_neither_the_learned_order_nor_chance_is_safe_for_many_steps(order):
    steps = chebyshev_steps(BOUNDS, 128).reordered(order)
    assert max(roundoff_amplification(steps, BOUNDS)) > 1e16


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
@pytest.mark.parametrize("period", [64, 100])
def test_the_default_order_reaches_the_rate_of_exact_arithmetic(
    one_period: Callable[..., float], period: int, dtype: type, rounding: float
) -> None:
    schedule = chebyshev_steps(BOUNDS, period)
    assert one_period(schedule, dtype) <= chebyshev_period_rate(BOUNDS, period) + rounding


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("period", [100])
def test_monotone_orders_lose_every_digit(
    one_period: Callable[..., float], period: int, order: str, dtype: type
) -> None:
    schedule = chebyshev_steps(BOUNDS, period).reordered(order)
    assert not one_period(schedule, dtype) < 1e6
