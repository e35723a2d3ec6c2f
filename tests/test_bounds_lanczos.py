"""The one-sided rule: ends lie outside the spectrum, close to it, in any units, for any seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stepfold._krylov import golub_kahan, lanczos
from stepfold.spectrum import Certainty, Gram, Lanczos, estimate_bounds
from stepfold.spectrum.one_sided import log_growth, log_growth_needed

NUM_SEEDS = 20


def marchenko_pastur(n, ratio):
    a, b = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    x = np.linspace(a, b, 20_001)
    mass = np.cumsum(np.sqrt(np.maximum((b - x) * (x - a), 0)) / x)
    return np.interp((np.arange(n) + 0.5) / n, mass / mass[-1], x)


def poisson(side):
    one = 2 - 2 * np.cos(np.pi * np.arange(1, side + 1) / (side + 1))
    return (one[:, None] + one).ravel()


N = 900
SPECTRA = {
    "Marchenko–Pastur, 1/2": marchenko_pastur(N, 0.5),
    "Marchenko–Pastur, 0.9": marchenko_pastur(N, 0.9),
    "clustered top": np.r_[np.linspace(0.1, 0.9, N // 2), np.linspace(0.999, 1.0, N - N // 2)],
    "log-uniform": np.geomspace(1e-6, 1.0, N),
    "arcsine": 1.0001 - np.cos(np.pi * (np.arange(N) + 0.5) / N),
    "outlier 0.1 % above": np.r_[np.linspace(0.01, 1, N - 1), 1.001],
    "outlier 1 % above": np.r_[np.linspace(0.01, 1, N - 1), 1.01],
    "outlier 3 % above": np.r_[np.linspace(0.01, 1, N - 1), 1.03],
    "outlier 6 % above": np.r_[np.linspace(0.01, 1, N - 1), 1.06],
    "outlier above a cluster": np.r_[np.linspace(1.0, 1.0001, N - 1), 1.05],
    "outlier below": np.r_[0.05, np.linspace(0.1, 1, N - 1)],
    "three points": np.r_[np.full(N // 2, 1.0), np.full(N - N // 2 - 1, 2.0), 2.02],
    "Poisson": poisson(30),
}


def diagonal_bounds(eigenvalues, seed=0, **settings):
    return estimate_bounds(
        lambda v: eigenvalues * v,
        shape=(eigenvalues.size,) * 2,
        method=Lanczos(**settings),
        seed=seed,
    )


def share_below(eigenvalues, seeds, **settings):
    tops = [diagonal_bounds(eigenvalues, seed, **settings).upper for seed in seeds]
    return np.mean(np.array(tops) < eigenvalues.max())


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
@pytest.mark.parametrize("name", SPECTRA)
def test_the_upper_end_is_above_and_within_three_per_cent(name, seed):
    eigenvalues = SPECTRA[name]
    bounds = diagonal_bounds(eigenvalues, seed, lower_rtol=None)
    assert 1.0 <= bounds.upper / eigenvalues.max() <= 1.03
    assert bounds.upper_certainty is Certainty.ESTIMATED


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", SPECTRA)
def test_the_lower_end_is_below_the_smallest_eigenvalue(name, seed):
    eigenvalues = SPECTRA[name]
    bounds = diagonal_bounds(eigenvalues, seed)
    assert bounds.lower <= eigenvalues.min() * (1 + 1e-12)
    assert eigenvalues.min() <= bounds.reached_lower * (1 + 1e-12)
    assert bounds.lower >= eigenvalues.min() * (1 - bounds.lower_uncertainty) * (1 - 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECTRA)
def test_no_upper_end_is_below_over_five_hundred_seeds(name):
    assert share_below(SPECTRA[name], range(100, 600), lower_rtol=None) == 0


@pytest.mark.parametrize("name", ["outlier 3 % above", "outlier 6 % above"])
def test_the_failure_probability_is_an_honest_one(name):
    # With one failure in four allowed, outliers are missed now and then, but no oftener than said.
    settings = {"lower_rtol": None, "failure_probability": 0.25}
    share = share_below(SPECTRA[name], range(200), **settings)
    assert 0 < share < 0.25 + 3 * math.sqrt(0.25 * 0.75 / 200)


def test_a_ritz_value_plus_its_residual_would_miss_an_outlier():
    # Why the one-sided rule exists: a start with almost nothing of the top eigenvector.
    eigenvalues = np.append(np.linspace(0.01, 1, 400), 1.05)
    start = np.random.default_rng(0).standard_normal(401)
    start[-1] = 1e-12
    projection = lanczos(lambda v: eigenvalues * v, start, 30)
    values, vectors = projection.eigh()
    assert values[-1] + projection.off_diagonal[-1] * abs(vectors[-1, -1]) < 1.02


@pytest.mark.parametrize("kappa", [1.5, 10.0])
def test_a_lower_end_within_reach_is_found_to_its_tolerance(kappa):
    eigenvalues = np.linspace(1.0, kappa, 2000)
    bounds = diagonal_bounds(eigenvalues, max_steps=150, lower_rtol=0.1)
    assert 0.9 <= bounds.lower <= 1.0
    assert bounds.lower_certainty is Certainty.ESTIMATED
    assert bounds.lower_uncertainty <= 0.1 + 1e-9


def test_a_lower_end_out_of_reach_is_zero_costs_nothing_and_says_so():
    bounds = diagonal_bounds(SPECTRA["log-uniform"])
    assert bounds.lower == 0.0
    assert bounds.lower_uncertainty == 1.0
    assert "smallest eigenvalue not resolved" in bounds.method
    only_upper = diagonal_bounds(SPECTRA["log-uniform"], lower_rtol=None)
    assert bounds.num_products == only_upper.num_products


def test_a_singular_map_has_lower_end_zero_and_says_so():
    eigenvalues = np.r_[np.zeros(10), np.linspace(1.0, 2.0, 90)]
    bounds = diagonal_bounds(eigenvalues, max_steps=100)
    assert bounds.lower == bounds.reached_lower == 0.0
    assert "singular to rounding" in bounds.method


@pytest.mark.parametrize("exponent", [-150, -20, 20, 150])
def test_a_hessian_in_other_units_has_the_same_relative_bounds(exponent):
    unit = 2.0 ** round(exponent / math.log10(2))
    eigenvalues = SPECTRA["Marchenko–Pastur, 1/2"]
    plain, scaled = diagonal_bounds(eigenvalues), diagonal_bounds(eigenvalues * unit)
    assert scaled.upper == plain.upper * unit
    assert scaled.lower == plain.lower * unit
    assert scaled.num_products == plain.num_products


@pytest.mark.parametrize("exponent", [-150, -4, 4, 150])
def test_a_factor_in_other_units_has_the_same_relative_bounds(exponent):
    factor = np.random.default_rng(0).standard_normal((60, 40))
    plain = estimate_bounds(Gram(factor), method=Lanczos())
    scaled = estimate_bounds(Gram(factor * 10.0**exponent), method=Lanczos())
    unit = np.longdouble(10.0) ** (2 * exponent)
    assert float(scaled.upper / unit) == pytest.approx(plain.upper, rel=1e-9)
    assert float(scaled.lower / unit) == pytest.approx(plain.lower, rel=1e-9)
    assert scaled.num_products == plain.num_products


@pytest.mark.parametrize("shape", [(200, 80), (80, 200), (90, 90)])
@pytest.mark.parametrize("seed", range(5))
def test_the_bounds_of_a_gram_are_outside_its_squared_singular_values(shape, seed):
    factor = np.random.default_rng(seed).standard_normal(shape)
    values = np.linalg.svd(factor, compute_uv=False) ** 2
    bounds = estimate_bounds(Gram(factor), method=Lanczos(), seed=seed)
    assert values[0] * (1 - 1e-13) <= bounds.upper <= 1.03 * values[0]
    assert bounds.lower <= (values[-1] if shape[0] >= shape[1] else 0.0)


def test_the_same_seed_gives_the_same_record_and_another_seed_another():
    eigenvalues = SPECTRA["Poisson"]
    assert diagonal_bounds(eigenvalues, 1) == diagonal_bounds(eigenvalues, 1)
    assert diagonal_bounds(eigenvalues, 1).upper != diagonal_bounds(eigenvalues, 2).upper


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_fewer_dimensions_than_steps_give_the_extreme_eigenvalues(size):
    eigenvalues = np.linspace(1.0, 2.0, size)
    bounds = diagonal_bounds(eigenvalues, lower_rtol=0.01, rtol=1e-6)
    assert bounds.lower == pytest.approx(1.0, rel=0.01)
    assert bounds.upper == pytest.approx(eigenvalues[-1], rel=1e-6)
    assert bounds.num_products <= size


def test_a_multiple_of_the_identity_takes_one_product():
    bounds = estimate_bounds(lambda v: 3.0 * v, shape=(50, 50))
    assert bounds.num_products == 1
    assert 3.0 * (1 - 1e-7) <= bounds.lower <= 3.0 <= bounds.upper <= 3.0 * (1 + 1e-7)


def test_a_spent_budget_leaves_a_bound_that_is_looser_and_says_how_loose():
    eigenvalues = SPECTRA["Marchenko–Pastur, 1/2"]
    bounds = diagonal_bounds(eigenvalues, max_steps=10)
    assert bounds.upper > eigenvalues.max()
    assert bounds.upper_uncertainty > 0.03
    assert bounds.num_products == 10


def test_bounds_do_not_need_orthogonality(monkeypatch):
    monkeypatch.setattr("stepfold.spectrum.lanczos.KEEP_BASIS_UP_TO", 0)
    eigenvalues = np.r_[np.linspace(0.1, 1.0, 500), 5.0, 50.0]
    bounds = diagonal_bounds(eigenvalues, max_steps=200, rtol=1e-9, lower_rtol=1e-3)
    assert 50.0 * (1 - 1e-12) <= bounds.upper <= 50.0 * (1 + 1e-9)
    assert 0.09 <= bounds.lower <= 0.1


@pytest.mark.parametrize("shape", [(60, 30), (30, 60)])
def test_a_gram_does_not_need_orthogonality_either(shape, monkeypatch):
    factor = np.random.default_rng(1).standard_normal(shape)
    kept = estimate_bounds(Gram(factor), method=Lanczos(max_steps=20))
    monkeypatch.setattr("stepfold.spectrum.lanczos.KEEP_BASIS_UP_TO", 0)
    short = estimate_bounds(Gram(factor), method=Lanczos(max_steps=20))
    assert short.upper == pytest.approx(kept.upper, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "`max_steps` must be an integer of at least 1"),
        ({"rtol": 0.0}, "`rtol` must be positive"),
        ({"lower_rtol": 1.0}, "`lower_rtol` must lie between 0 and 1"),
        ({"failure_probability": 0.0}, "`failure_probability` must lie between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Lanczos(**settings)


# The rule and the recurrences beneath


def test_the_growth_is_that_of_the_orthonormal_polynomials():
    nodes, weights = np.linspace(0.0, 1.0, 9), np.full(9, 1 / 9)
    projection = lanczos(lambda v: nodes * v, np.sqrt(weights), 4)
    # Oracle: orthonormal polynomials by Gram–Schmidt on monomials.
    vandermonde = np.vander(nodes, 5, increasing=True) * np.sqrt(weights)[:, None]
    upper = np.linalg.qr(vandermonde)[1]
    at = np.linalg.solve(upper.T, np.vander([1.5], 5, increasing=True)[0])
    growth = log_growth(projection.diagonal, projection.off_diagonal, 1.5)
    assert growth == pytest.approx(math.log(np.abs(at).max()), rel=1e-10)


def test_there_is_no_growth_inside_the_ritz_values():
    projection = lanczos(lambda v: np.arange(9.0) * v, np.ones(9), 4)
    assert log_growth(projection.diagonal, projection.off_diagonal, 4.0) == -math.inf


@pytest.mark.parametrize("size", [2, 3, 50])
def test_a_small_component_of_a_random_unit_vector_is_as_rare_as_said(size):
    delta = math.exp(-log_growth_needed(size, 0.2))
    starts = np.random.default_rng(0).standard_normal((20_000, size))
    components = np.abs(starts[:, 0]) / np.linalg.norm(starts, axis=1)
    assert np.mean(components < delta) <= 0.2 + 0.01


def test_without_a_basis_the_first_lanczos_steps_are_the_same():
    eigenvalues = np.linspace(1.0, 2.0, 300)
    start = np.random.default_rng(0).standard_normal(300)
    kept = lanczos(lambda v: eigenvalues * v, start, 12)
    short = lanczos(lambda v: eigenvalues * v, start, 12, reorthogonalise=False)
    np.testing.assert_allclose(short.diagonal, kept.diagonal, rtol=1e-10)
    np.testing.assert_allclose(short.off_diagonal, kept.off_diagonal, rtol=1e-10)


def test_without_a_basis_the_first_golub_kahan_steps_are_the_same():
    factor = np.random.default_rng(0).standard_normal((50, 30))
    start = np.random.default_rng(1).standard_normal(30)
    run = (lambda v: factor @ v, lambda u: factor.T @ u, start, 8)
    kept, short = golub_kahan(*run), golub_kahan(*run, reorthogonalise=False)
    np.testing.assert_allclose(short.diagonal, kept.diagonal, rtol=1e-10)
    np.testing.assert_allclose(short.off_diagonal, kept.off_diagonal, rtol=1e-10)


def test_steps_without_a_basis_end_where_the_krylov_space_does():
    projection = lanczos(lambda v: 2.0 * v, np.ones(5), 5, reorthogonalise=False)
    assert projection.diagonal == pytest.approx([2.0])
    bidiagonal = golub_kahan(
        lambda v: 2.0 * v, lambda u: 2.0 * u, np.ones(5), 5, reorthogonalise=False
    )
    assert bidiagonal.diagonal == pytest.approx([2.0])


def test_steps_without_a_basis_leave_the_start_alone():
    start = np.ones(6)
    lanczos(lambda v: np.arange(6.0) * v, start, 4, reorthogonalise=False)
    np.testing.assert_array_equal(start, np.ones(6))
