"""Steps for noisy data: the objective, its exact optimum, and what real steps reach."""

import numpy as np
import pytest
from scipy.optimize import minimize

from stepfold import (
    LeastSquares,
    SpectralBounds,
    SpectralMeasure,
    chebyshev_steps,
    optimal_steps,
    solve,
)
from stepfold.schedules.noisy import (
    noise_aware_ridge,
    noise_aware_steps,
    noisy_mean_squared_error,
)

MEASURES = {
    "Marchenko–Pastur": SpectralMeasure.marchenko_pastur(0.5),
    "nearly square": SpectralMeasure.marchenko_pastur(0.9),
    "logarithmic": SpectralMeasure.from_eigenvalues(np.geomspace(1e-3, 1.0, 50)),
    "with a kernel": SpectralMeasure.marchenko_pastur(2.0, num_nodes=40),
}
NOISES = [1e-6, 1e-2, 0.3, 10.0]


def ridge_error(measure: SpectralMeasure, period: int, noise: float) -> float:
    values = noise_aware_ridge(measure, period, noise=noise).residual_polynomial(measure.nodes)
    kernel = measure.nodes == 0
    safe = np.where(kernel, 1.0, measure.nodes)
    return measure.mean(values**2 + noise * np.where(kernel, 0.0, (1 - values) ** 2 / safe))


def linear_optimum(measure: SpectralMeasure, period: int, noise: float) -> float:
    """Smallest error of any polynomial 1 − λq, complex roots allowed: linear least squares."""
    nodes, weights = measure.nodes[measure.nodes > 0], measure.weights[measure.nodes > 0]
    scaled = 2 * nodes / nodes.max() - 1
    q = np.polynomial.chebyshev.chebvander(scaled, period - 1)
    bias = np.sqrt(weights)[:, None] * nodes[:, None] * q
    variance = np.sqrt(noise * weights * nodes)[:, None] * q
    matrix = np.vstack([bias, variance])
    target = np.concatenate([np.sqrt(weights), np.zeros(nodes.size)])
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return float(((target - matrix @ solution) ** 2).sum() + 1 - weights.sum())


def test_the_objective_is_what_gradient_descent_does_to_noisy_data() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((30, 20)) / np.sqrt(30)
    spread, deviation = 1.7, 0.4
    truth = spread * rng.standard_normal((40_000, 20))
    data = truth @ matrix.T + deviation * rng.standard_normal((40_000, 30))
    steps = [0.9, 0.4, 1.3, 0.6]
    x = np.zeros_like(truth)
    for gamma in steps:
        x = x - gamma * (x @ matrix.T - data) @ matrix
    observed = ((x - truth) ** 2).sum() / (40_000 * 20 * spread**2)
    measure = SpectralMeasure.from_eigenvalues(np.linalg.svd(matrix, compute_uv=False) ** 2)
    expected = noisy_mean_squared_error(steps, measure, noise=(deviation / spread) ** 2)
    assert observed == pytest.approx(expected, rel=0.01)


def test_the_objective_with_a_prior_counts_noise_on_every_eigenvalue() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((30, 10)) / np.sqrt(30)
    variances = np.geomspace(0.05, 5.0, 10)  # along the eigenvectors
    _, values, vectors = np.linalg.svd(matrix, full_matrices=False)
    truth = rng.standard_normal((40_000, 10)) * np.sqrt(variances) @ vectors
    data = truth @ matrix.T + 0.3 * rng.standard_normal((40_000, 30))
    x = np.zeros_like(truth)
    for gamma in (0.9, 0.5, 1.2):
        x = x - gamma * (x @ matrix.T - data) @ matrix
    observed = ((x - truth) ** 2).sum() / (40_000 * variances.sum())
    expected = noisy_mean_squared_error(
        [0.9, 0.5, 1.2],
        SpectralMeasure(values**2, variances),
        noise=10 * 0.3**2 / variances.sum(),
        noise_measure=SpectralMeasure.from_eigenvalues(values**2),
    )
    assert observed == pytest.approx(expected, rel=0.015)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("period", [1, 2, 5, 9])
def test_the_ridge_form_is_the_linear_optimum(name: str, noise: float, period: int) -> None:
    expected = linear_optimum(MEASURES[name], period, noise)
    assert ridge_error(MEASURES[name], period, noise) == pytest.approx(expected, rel=1e-9)


def test_the_ridge_form_runs_as_a_ridge_problem() -> None:
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((30, 20)) / np.sqrt(30)
    data = rng.standard_normal(30)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    record = noise_aware_ridge(SpectralMeasure.from_eigenvalues(values**2), 6, noise=0.2)
    problem = LeastSquares(matrix, data, ridge=record.ridge)
    x = solve(problem, record.schedule, max_steps=6, rtol=0.0).x
    filtered = (1 - record.residual_polynomial(values**2)) / values
    np.testing.assert_allclose(x, right.T @ (filtered * (left.T @ data)), rtol=1e-12)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("period", [1, 4, 16])
def test_the_steps_of_the_ridge_form_are_positive(noise: float, period: int) -> None:
    record = noise_aware_ridge(MEASURES["nearly square"], period, noise=noise)
    assert record.schedule.steps.min() > 0
    assert record.schedule.steps.max() < 1 / noise


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("period", [1, 4, 12])
def test_no_optimal_steps_of_any_length_are_better(name: str, noise: float, period: int) -> None:
    measure = MEASURES[name]
    error = noisy_mean_squared_error(
        noise_aware_steps(measure, period, noise=noise), measure, noise=noise
    )
    rivals = [
        noisy_mean_squared_error(optimal_steps(measure, length), measure, noise=noise)
        for length in range(1, period + 1)
    ]
    assert error <= min(rivals) * (1 + 1e-10)


@pytest.mark.parametrize("name", ["Marchenko–Pastur", "nearly square", "logarithmic"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("period", [8, 12])
def test_no_early_stopped_chebyshev_steps_are_better(name: str, noise: float, period: int) -> None:
    measure = MEASURES[name]
    error = noisy_mean_squared_error(
        noise_aware_steps(measure, period, noise=noise), measure, noise=noise
    )
    chebyshev = chebyshev_steps(measure.bounds, period).steps
    rivals = [
        noisy_mean_squared_error(chebyshev[:count], measure, noise=noise)
        for count in range(period + 1)
    ]
    assert error <= min(rivals) * (1 + 1e-10)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("period", [1, 3, 8])
def test_real_steps_are_within_a_tenth_of_the_optimum(name: str, noise: float, period: int) -> None:
    measure = MEASURES[name]
    steps = noise_aware_steps(measure, period, noise=noise)
    error = noisy_mean_squared_error(steps, measure, noise=noise)
    optimum = ridge_error(measure, period, noise)
    assert optimum * (1 - 1e-10) <= error <= 1.1 * optimum


@pytest.mark.parametrize("name", ["Marchenko–Pastur", "logarithmic"])
@pytest.mark.parametrize("period", [2, 6])
def test_with_little_noise_the_optimum_is_reached(name: str, period: int) -> None:
    measure = MEASURES[name]
    steps = noise_aware_steps(measure, period, noise=1e-4)
    error = noisy_mean_squared_error(steps, measure, noise=1e-4)
    assert error == pytest.approx(ridge_error(measure, period, 1e-4), rel=1e-11)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_restarted_optimisation_finds_nothing_better(noise: float, seed: int) -> None:
    measure = MEASURES["nearly square"]
    steps = noise_aware_steps(measure, 3, noise=noise).steps
    error = noisy_mean_squared_error(steps, measure, noise=noise)

    def objective(log_steps: np.ndarray) -> float:
        return noisy_mean_squared_error(np.exp(log_steps), measure, noise=noise)

    start = np.random.default_rng(seed).normal(-1.0, 1.0, 3)
    found = minimize(objective, start, method="Nelder-Mead", options={"fatol": 1e-13})
    assert found.fun >= error * (1 - 1e-9)


def test_a_prior_is_heeded() -> None:
    eigenvalues = np.geomspace(0.01, 1.0, 30)
    prior = SpectralMeasure(eigenvalues, eigenvalues**2)
    counts = SpectralMeasure.from_eigenvalues(eigenvalues)
    knowing = noise_aware_steps(prior, 5, noise=0.05, noise_measure=counts)
    ignorant = noise_aware_steps(prior, 5, noise=0.05)
    errors = [
        noisy_mean_squared_error(steps, prior, noise=0.05, noise_measure=counts)
        for steps in (knowing, ignorant)
    ]
    assert errors[0] < 0.9 * errors[1]


def test_without_noise_the_steps_are_the_optimal_ones() -> None:
    measure = MEASURES["Marchenko–Pastur"]
    steps = noise_aware_steps(measure, 7, noise=0.0)
    np.testing.assert_array_equal(steps.steps, optimal_steps(measure, 7).steps)


@pytest.mark.parametrize("scale", [1e-150, 1e-9, 1e9, 1e150])
def test_noise_aware_steps_scale_with_the_hessian(scale: float) -> None:
    measure = MEASURES["logarithmic"]
    scaled = SpectralMeasure(measure.nodes * scale, measure.weights)
    steps = noise_aware_steps(measure, 4, noise=1e-3).steps
    rescaled = noise_aware_steps(scaled, 4, noise=1e-3 * scale).steps * scale
    np.testing.assert_allclose(np.sort(rescaled), np.sort(steps), rtol=1e-6)


def test_where_floats_cannot_express_the_optimum_a_shorter_schedule_comes_back() -> None:
    measure = SpectralMeasure.from_eigenvalues(np.geomspace(1e-8, 1.0, 300))
    steps = noise_aware_steps(measure, 48, noise=1e-4)
    assert noisy_mean_squared_error(steps, measure, noise=1e-4) < 0.65


def test_a_single_eigenvalue_is_weighed_against_its_noise() -> None:
    steps = noise_aware_steps(SpectralMeasure([4.0], [1.0]), 1, noise=2.0)
    np.testing.assert_allclose(steps.steps, [1 / 6])


def test_more_steps_than_eigenvalues_are_refused() -> None:
    with pytest.raises(ValueError, match="`period` must not exceed the number of distinct"):
        noise_aware_steps(SpectralMeasure([4.0], [1.0]), 2, noise=2.0)


@pytest.mark.parametrize("noise", [-1.0, np.nan, np.inf])
def test_noise_that_is_no_variance_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="`noise` must be at least 0 and finite, got"):
        noise_aware_steps(MEASURES["logarithmic"], 2, noise=noise)


def test_a_ridge_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="without noise take `optimal_steps`"):
        noise_aware_ridge(MEASURES["logarithmic"], 2, noise=0.0)


def test_no_steps_at_all_have_error_one() -> None:
    assert noisy_mean_squared_error([], MEASURES["logarithmic"], noise=0.5) == 1.0


def test_ridge_records_are_data() -> None:
    record = noise_aware_ridge(SpectralMeasure.uniform(SpectralBounds(1.0, 2.0)), 2, noise=0.5)
    assert record.to_dict() == {"schedule": record.schedule.to_dict(), "ridge": 0.5}
