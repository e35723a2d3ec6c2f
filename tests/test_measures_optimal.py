"""Optimal steps: their accuracy against mpmath, and that nothing beats them."""

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize

from stepfold import SpectralBounds, SpectralMeasure, optimal_steps
from stepfold.measure import error_measure
from stepfold.polynomial import (
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    optimal_mean_squared_error,
)

SPECTRA = {
    "log 1e4": np.geomspace(1e-4, 1.0, 64),
    "log 1e12": np.geomspace(1e-12, 1.0, 64),
    "uniform 1e12": np.linspace(1e-12, 1.0, 64),
    "clustered": np.concatenate([np.geomspace(1e-12, 1e-6, 32), 1 + 1e-7 * np.arange(32)]),
}


def exact_roots(nodes: np.ndarray, weights: np.ndarray, period: int) -> np.ndarray:
    """Gauss nodes of λ dμ from the Stieltjes procedure in 700 digits."""
    with mpmath.workdps(700):
        points = [mpmath.mpf(float(node)) for node in nodes]
        mass = [mpmath.mpf(float(w)) * x for w, x in zip(weights, points, strict=True)]
        before = [mpmath.mpf(0)] * len(points)
        now = [1 / mpmath.sqrt(mpmath.fsum(mass))] * len(points)
        beta = mpmath.mpf(0)
        jacobi = mpmath.zeros(period)
        for k in range(period):
            alpha = mpmath.fsum(w * x * p * p for w, x, p in zip(mass, points, now, strict=True))
            jacobi[k, k] = alpha
            following = [
                (x - alpha) * p - beta * q for x, p, q in zip(points, now, before, strict=True)
            ]
            beta = mpmath.sqrt(mpmath.fsum(w * p * p for w, p in zip(mass, following, strict=True)))
            if k + 1 < period:
                jacobi[k, k + 1] = jacobi[k + 1, k] = beta
                before, now = now, [p / beta for p in following]
        values = mpmath.eigsy(jacobi, eigvals_only=True)
        return np.array([float(value) for value in sorted(values)])


# Golub–Kahan loses no more than √κ·ε, 2e-10 here; only a gap of six decades shows it, and how much
# (2e-12 to 3e-11) depends on the BLAS kernels of the processor.
DIGITS = {"log 1e4": 1e-14, "log 1e12": 1e-14, "uniform 1e12": 1e-14, "clustered": 2e-10}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("period", [4, 24])
def test_every_root_has_nearly_all_its_digits_however_small(name: str, period: int) -> None:
    nodes = SPECTRA[name]
    weights = np.random.default_rng(2).random(nodes.size)
    steps = optimal_steps(SpectralMeasure(nodes, weights), period).steps
    weights = SpectralMeasure(nodes, weights).weights
    np.testing.assert_allclose(
        np.sort(1 / steps), exact_roots(np.sort(nodes), weights, period), rtol=DIGITS[name]
    )


@pytest.mark.parametrize("period", [2, 25, 100, 256])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.97])
def test_marchenko_pastur_roots_are_second_kind_chebyshev_roots(period: int, ratio: float) -> None:
    measure = SpectralMeasure.marchenko_pastur(ratio, num_nodes=period + 1)
    half_angles = np.arange(1, period + 1) * (np.pi / (2 * (period + 1)))
    lower, upper = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    expected = lower * np.sin(half_angles) ** 2 + upper * np.cos(half_angles) ** 2
    steps = optimal_steps(measure, period).steps
    np.testing.assert_allclose(np.sort(1 / steps), np.sort(expected), rtol=2e-12)


@pytest.mark.parametrize("period", [16, 256])
def test_roots_for_a_power_weight_are_jacobi_roots(period: int) -> None:
    # λ dλ on [0, 1]: with λ = 1/4·2·(1 + x), the weight (1 + x) of Jacobi polynomials.
    from scipy.special import roots_jacobi

    measure = SpectralMeasure.uniform(SpectralBounds(0.0, 1.0), num_nodes=period + 1)
    expected = (1 + roots_jacobi(period, 0, 1)[0]) / 2
    steps = optimal_steps(measure, period).steps
    np.testing.assert_allclose(np.sort(1 / steps), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["log 1e4", "uniform 1e12"])
@pytest.mark.parametrize("period", [1, 7, 25])
def test_roots_are_distinct_and_inside_the_support(name: str, period: int) -> None:
    nodes = SPECTRA[name]
    roots = np.sort(1 / optimal_steps(SpectralMeasure.from_eigenvalues(nodes), period).steps)
    assert np.all(np.diff(roots) > 0)
    # Inside in exact arithmetic; a root may be closer to the end than a float can tell.
    assert nodes.min() <= roots[0]
    assert roots[-1] <= nodes.max()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("period", [2, 3, 4])
def test_optimisation_from_any_start_ends_no_lower_and_at_the_same_steps(
    period: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    measure = SpectralMeasure(rng.uniform(0.05, 3.0, 30), rng.random(30) + 0.1)
    best = optimal_steps(measure, period)
    error = mean_squared_error(best, measure)

    def objective(log_steps: np.ndarray) -> float:
        return float(np.log(mean_squared_error(np.exp(log_steps), measure)))

    start = rng.uniform(-2.0, 3.0, period)
    found = minimize(
        objective,
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000, "maxfev": 4000},
    )
    found = minimize(objective, found.x, method="BFGS", options={"gtol": 1e-9})
    assert found.fun >= np.log(error) - 1e-12
    np.testing.assert_allclose(np.sort(np.exp(found.x)), np.sort(best.steps), rtol=1e-3)


@pytest.mark.parametrize("index", range(12))
@pytest.mark.parametrize("factor", [0.97, 1.001, 1.05])
def test_changing_any_step_makes_the_error_larger(index: int, factor: float) -> None:
    measure = SpectralMeasure.marchenko_pastur(0.6)
    best = optimal_steps(measure, 12)
    changed = best.steps.copy()
    changed[index] *= factor
    assert mean_squared_error(changed, measure) > mean_squared_error(best, measure)


@pytest.mark.parametrize("period", [1, 5, 25])
def test_the_optimum_over_marchenko_pastur_has_a_closed_form(period: int) -> None:
    measure = SpectralMeasure.marchenko_pastur(0.5)
    expected = marchenko_pastur_mean_squared_error(0.5, period)
    steps = optimal_steps(measure, period)
    assert mean_squared_error(steps, measure) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("period", [5, 20, 40])
def test_the_weight_of_the_radau_node_is_the_smallest_error(period: int) -> None:
    eigenvalues = np.linspace(0.01, 1.0, 60)
    measure = error_measure(np.diag(eigenvalues), np.ones(60), num_steps=period)
    optimum = optimal_mean_squared_error(SpectralMeasure.from_eigenvalues(eigenvalues), period)
    assert measure.weights[0] == pytest.approx(optimum, rel=1e-8)


def test_the_published_setting_has_its_published_optimum() -> None:
    matrix = np.random.RandomState(12).normal(0, 1 / np.sqrt(300), (300, 600))
    measure = SpectralMeasure.from_eigenvalues(np.linalg.svd(matrix, compute_uv=False) ** 2)
    error = mean_squared_error(optimal_steps(measure, 25), measure)
    assert error == pytest.approx(8.61e-9, rel=2e-3)
