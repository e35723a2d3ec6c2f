"""Optimal steps: their accuracy against mpmath, and that nothing beats them."""

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_digits

from stepfold import Schedule, SpectralBounds, SpectralMeasure, optimal_steps
from stepfold.measure import error_measure
from stepfold.polynomial import (
    marchenko_pastur_mean_squared_error,
    mean_squared_error,
    optimal_mean_squared_error,
)
from stepfold.schedules.optimal import (
    longest_optimal_period,
    nearly_optimal_steps,
    optimal_roots,
)
from stepfold.spectrum import Gram, exact_eigenvalues

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
    measure = SpectralMeasure(nodes, weights)
    np.testing.assert_allclose(
        optimal_roots(measure, period),
        exact_roots(measure.nodes, measure.weights, period),
        rtol=DIGITS[name],
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
    roots = optimal_roots(SpectralMeasure.from_eigenvalues(nodes), period)
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


@pytest.mark.parametrize("period", [5, 20, 40])
def test_the_weight_of_the_radau_node_is_the_smallest_error(period: int) -> None:
    eigenvalues = np.linspace(0.01, 1.0, 60)
    measure = error_measure(np.diag(eigenvalues), np.ones(60), num_steps=period)
    optimum = optimal_mean_squared_error(SpectralMeasure.from_eigenvalues(eigenvalues), period)
    assert measure.weights[0] == pytest.approx(optimum, rel=1e-8)


# In floating point


def exact_optimum(measure: SpectralMeasure, period: int) -> float:
    """The optimum by the recurrence at 0, in 200 digits."""
    with mpmath.workdps(200):
        points = [mpmath.mpf(float(x)) for x in measure.nodes]
        mass = [mpmath.mpf(float(w)) for w in measure.weights]
        mass = [w / mpmath.fsum(mass) for w in mass]
        before, now = [mpmath.mpf(0)] * len(points), [mpmath.mpf(1)] * len(points)
        before_at_zero, at_zero, beta, total = mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(0), 1
        for _ in range(period):
            alpha = mpmath.fsum(w * x * p * p for w, x, p in zip(mass, points, now, strict=True))
            after = [
                (x - alpha) * p - beta * q for x, p, q in zip(points, now, before, strict=True)
            ]
            at_after = -alpha * at_zero - beta * before_at_zero
            beta = mpmath.sqrt(mpmath.fsum(w * p * p for w, p in zip(mass, after, strict=True)))
            before, now = now, [p / beta for p in after]
            before_at_zero, at_zero = at_zero, at_after / beta
            total += at_zero**2
        return float(1 / total)


# Real data, ill-posed problems and random matrices, by their eigenvalues.
def eigenvalues_of(name: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if name == "outliers":
        return np.concatenate([np.linspace(1.0, 10.0, 60), [1e5, 1e6, 1.1e6]])
    if name == "geometric":
        return np.geomspace(1e-8, 1.0, 100)
    if name == "graded":
        return 10.0 ** -np.arange(14.0)
    if name == "kernel":
        points = rng.random((80, 2))
        distances = ((points[:, None] - points[None]) ** 2).sum(-1)
        return np.linalg.eigvalsh(np.exp(-distances / 0.18) + 1e-6 * np.eye(80))
    matrices = {
        "digits": lambda: load_digits().data,
        "cancer": lambda: load_breast_cancer().data,
        "Vandermonde": lambda: np.vander(np.linspace(0, 1, 200), 12),
        "Wishart": lambda: rng.standard_normal((60, 60)),
    }
    return exact_eigenvalues(Gram(matrices[name]()))


REAL = ["digits", "cancer", "Vandermonde", "Wishart", "kernel", "graded", "geometric", "outliers"]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("period", [1, 4, 7, 11, 16, 25, 40])
def test_the_optimum_has_nearly_all_its_digits(name: str, period: int) -> None:
    measure = SpectralMeasure.from_eigenvalues(eigenvalues_of(name))
    all_steps = period >= np.count_nonzero(measure.nodes)
    expected = 0.0 if all_steps else exact_optimum(measure, period)
    # 40 steps for outliers reach 6e-23, where rounding has taken the digits.
    found = optimal_mean_squared_error(measure, period)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-22)


def dense_run(steps: np.ndarray, measure: SpectralMeasure, seed: int) -> float:
    """Squared error of gradient descent in float64 on a dense matrix with these eigenvalues."""
    rng = np.random.default_rng(seed)
    size = measure.nodes.size
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    matrix = (basis * measure.nodes) @ basis.T
    solution = basis @ (np.sqrt(measure.weights) * rng.choice([-1.0, 1.0], size))
    rhs, x = matrix @ solution, np.zeros(size)
    for gamma in steps.tolist():
        x = x - gamma * (matrix @ x - rhs)
    return float(np.linalg.norm(x - solution) ** 2)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("period", [2, 3, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64])
def test_optimal_steps_keep_their_promise_in_float64_or_are_refused(name: str, period: int) -> None:
    measure = SpectralMeasure.from_eigenvalues(eigenvalues_of(name))
    optimum = optimal_mean_squared_error(measure, period)
    longest = longest_optimal_period(measure, period)
    if longest < period:
        with pytest.raises(ValueError, match=f"at most {longest} for|distinct") as error:
            optimal_steps(measure, period)
        assert "`period`" in str(error.value)
        period, optimum = longest, optimal_mean_squared_error(measure, longest)
    steps = optimal_steps(measure, period).steps
    assert steps.size == period
    # As many steps as eigenvalues have the optimum 0, of which rounding leaves some digits.
    assert mean_squared_error(steps, measure) <= (1.5 * optimum or 1e-15)
    # Rounding in a run: a little more, and nothing below the digits of float64.
    reached = min(dense_run(steps, measure, seed) for seed in range(2))
    assert reached <= (max(2 * optimum, 1e-15) if optimum else 1e-11)


@pytest.mark.parametrize(
    ("name", "period"), [("digits", 16), ("digits", 40), ("kernel", 20), ("geometric", 40)]
)
def test_roots_that_need_more_digits_are_repeated_and_hardly_cost(name: str, period: int) -> None:
    measure = SpectralMeasure.from_eigenvalues(eigenvalues_of(name))
    optimum = optimal_mean_squared_error(measure, period)
    naive = Schedule(1 / optimal_roots(measure, period)).reordered("leja")
    assert mean_squared_error(naive, measure) > 1e3 * optimum
    assert mean_squared_error(optimal_steps(measure, period), measure) < 1.5 * optimum


def test_where_digits_suffice_the_roots_are_those_of_the_quadrature() -> None:
    measure = SpectralMeasure.from_eigenvalues(np.linspace(0.01, 1.0, 100))
    roots = np.sort(1 / nearly_optimal_steps(measure, 24))
    np.testing.assert_allclose(roots, optimal_roots(measure, 24), rtol=1e-15)


@pytest.mark.parametrize("ratio", [1.5, 4.0, 30.0])
@pytest.mark.parametrize("period", [1, 3, 16, 64, 200, 300])
def test_the_weight_of_zero_is_the_floor_of_every_optimum(ratio: float, period: int) -> None:
    measure = SpectralMeasure.marchenko_pastur(ratio)
    at_zero = 1 - 1 / ratio
    optimum = optimal_mean_squared_error(measure, period)
    assert at_zero * (1 - 1e-15) <= optimum
    # The rest is that of HHᵀ, of aspect 1/ratio and total weight 1/ratio.
    rest = marchenko_pastur_mean_squared_error(1 / ratio, period) / ratio
    assert optimum == pytest.approx(at_zero + rest, rel=1e-9)


@pytest.mark.parametrize("period", [1, 2, 5, 9, 30])
def test_an_atom_at_zero_adds_its_weight_to_the_optimum_of_the_rest(period: int) -> None:
    rng = np.random.default_rng(period)
    nodes, weights = rng.uniform(0.1, 3.0, 40), rng.random(40)
    rest = optimal_mean_squared_error(SpectralMeasure(nodes, weights), period)
    weights = 0.3 * weights / weights.sum()
    measure = SpectralMeasure(np.append(nodes, [0.0, 0.0]), np.append(weights, [0.5, 0.2]))
    assert optimal_mean_squared_error(measure, period) == pytest.approx(0.7 + 0.3 * rest, rel=1e-12)
    twin = SpectralMeasure(nodes, weights)
    np.testing.assert_allclose(
        optimal_steps(measure, period).steps, optimal_steps(twin, period).steps, rtol=1e-10
    )


def test_an_error_on_eigenvalue_zero_alone_stays() -> None:
    measure = SpectralMeasure([0.0, 0.0], [1.0, 2.0])
    assert optimal_mean_squared_error(measure, 3) == 1.0
    with pytest.raises(ValueError, match="distinct eigenvalues above 0, which is 0"):
        optimal_steps(measure, 1)


@pytest.mark.parametrize("scatter", [0.0, 4e-16, 3e-15])
@pytest.mark.parametrize("seed", range(4))
def test_eigenvalues_that_differ_by_rounding_are_one(scatter: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    distinct = np.sort(rng.uniform(0.5, 20.0, 4))
    nodes = np.repeat(distinct, [3, 1, 5, 2])
    nodes = nodes * (1 + scatter * rng.uniform(-1, 1, nodes.size))
    weights = rng.random(nodes.size)
    measure = SpectralMeasure(nodes, weights)
    merged = SpectralMeasure(distinct, np.add.reduceat(weights, [0, 3, 4, 9]))
    for period in (1, 2, 3):
        np.testing.assert_allclose(
            optimal_steps(measure, period).steps, optimal_steps(merged, period).steps, rtol=1e-12
        )
    roots = np.sort(1 / optimal_steps(measure, 4).steps)
    np.testing.assert_allclose(roots, distinct, rtol=1e-14)
    assert measure.quadrature(9).nodes.size == 4
    with pytest.raises(ValueError, match="distinct eigenvalues above 0, which is 4, got 5"):
        optimal_steps(measure, 5)
