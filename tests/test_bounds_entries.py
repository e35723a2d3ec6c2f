"""Guaranteed bounds from entries, and bounds from what the caller knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepfold.spectrum import (
    Certainty,
    Convolution,
    GaussianFactor,
    Gershgorin,
    Gram,
    Lanczos,
    Norms,
    Tightest,
    estimate_bounds,
)

FORMATS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "tensor": torch.tensor,
}
FROM_ENTRIES = [
    pytest.param(Gershgorin(), id="gershgorin"),
    pytest.param(Gershgorin(sweeps=4), id="rescaled"),
    pytest.param(Norms(), id="norms"),
]


def random_hessian(seed, size=12):
    factor = np.random.default_rng(seed).standard_normal((size, size))
    return factor.T @ factor


def laplacian(side):
    one = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    eye = sp.eye_array(side)
    return (sp.kron(one, eye) + sp.kron(eye, one)).tocsr()


@pytest.mark.parametrize("method", FROM_ENTRIES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), exponent=st.integers(-140, 140))
def test_no_eigenvalue_lies_above_what_entries_prove(method, seed, exponent):
    unit = 10.0**exponent
    hessian = random_hessian(seed)
    bounds = estimate_bounds(hessian * unit, method=method)
    assert bounds.upper >= np.linalg.eigvalsh(hessian)[-1] * unit * (1 - 1e-12)
    assert bounds.upper_certainty is Certainty.GUARANTEED


@pytest.mark.parametrize("method", FROM_ENTRIES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(9, 5), (5, 9), (1, 4), (4, 1)]))
def test_no_squared_singular_value_lies_above_what_entries_prove(method, seed, shape):
    factor = np.random.default_rng(seed).standard_normal(shape)
    bounds = estimate_bounds(Gram(factor), method=method)
    assert bounds.upper >= np.linalg.norm(factor, 2) ** 2 * (1 - 1e-12)


@pytest.mark.parametrize("method", FROM_ENTRIES)
@pytest.mark.parametrize("convert", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_bounds_of_the_dense_matrix(method, convert, monkeypatch):
    monkeypatch.setattr("stepfold.spectrum.entries.BLOCK", 20)  # several blocks
    factor = np.random.default_rng(0).standard_normal((11, 7))
    expected = estimate_bounds(Gram(factor), method=method).upper
    assert estimate_bounds(Gram(convert(factor)), method=method).upper == pytest.approx(expected)


def test_gershgorin_is_never_above_the_product_of_the_norms():
    factor = np.random.default_rng(0).standard_normal((30, 20))
    norms = np.linalg.norm(factor, 1) * np.linalg.norm(factor, np.inf)
    assert estimate_bounds(Gram(factor), method=Gershgorin()).upper <= norms * (1 + 1e-12)


def test_the_frobenius_norm_wins_on_rank_one():
    factor = np.outer([1.0, 2.0], [3.0, 1.0, 2.0])
    bounds = estimate_bounds(Gram(factor), method=Norms())
    assert bounds.upper == pytest.approx(np.linalg.norm(factor, 2) ** 2)
    assert bounds.method == "Frobenius norm"


def test_rescaled_discs_reach_the_largest_eigenvalue_of_a_positive_matrix():
    hessian = np.abs(random_hessian(3)) + 1
    bounds = estimate_bounds(hessian, method=Gershgorin(sweeps=40))
    assert bounds.upper == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-9)


def test_strict_diagonal_dominance_proves_the_lower_end():
    hessian = laplacian(6) + 0.5 * sp.eye_array(36)
    bounds = estimate_bounds(hessian, method=Gershgorin())
    assert bounds.lower == pytest.approx(0.5)
    assert bounds.lower_certainty is Certainty.GUARANTEED


def test_zero_row_sums_leave_no_rounding_as_a_lower_end():
    weights = np.random.default_rng(0).random((40, 40))
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    bounds = estimate_bounds(np.diag(weights.sum(0)) - weights, method=Gershgorin())
    assert bounds.lower == 0.0


@pytest.mark.parametrize("method", FROM_ENTRIES)
def test_a_matrix_of_zeros_has_both_ends_zero(method):
    bounds = estimate_bounds(sp.csr_array((5, 5)), method=method)
    assert (bounds.lower, bounds.upper) == (0.0, 0.0)


@pytest.mark.parametrize("method", FROM_ENTRIES)
def test_a_matrix_that_is_not_symmetric_is_refused_by_a_random_vector(method):
    with pytest.raises(ValueError, match="randomised test Hv = Hᵀv failed"):
        estimate_bounds(np.triu(np.ones((5, 5))), method=method)


def test_a_negative_diagonal_entry_is_evidence_of_indefiniteness():
    with pytest.raises(ValueError, match=r"positive semidefinite.*at most -2"):
        estimate_bounds(np.diag([3.0, -2.0]), method=Gershgorin())


@pytest.mark.parametrize("method", FROM_ENTRIES)
def test_entries_that_are_not_known_are_asked_for(method):
    with pytest.raises(TypeError, match="reads entries and needs a dense or sparse matrix"):
        estimate_bounds(lambda v: v, shape=(3, 3), method=method)


def test_a_tight_guaranteed_bound_wins_spares_products_and_is_named():
    hessian = laplacian(45)  # 2025 unknowns: too many to diagonalise by default
    bounds = estimate_bounds(hessian)
    assert bounds.upper == 8.0
    assert bounds.upper_certainty is Certainty.GUARANTEED
    assert bounds.method == "Gershgorin discs"
    assert bounds.lower == 0.0
    assert bounds.lower_certainty is Certainty.GUARANTEED  # diagonally dominant
    assert bounds.reached_lower is not None
    assert bounds.num_products < estimate_bounds(hessian, method=Lanczos()).num_products / 2


def test_a_loose_guaranteed_bound_loses():
    factor = np.random.default_rng(0).standard_normal((80, 60))
    bounds = estimate_bounds(Gram(factor), method=Tightest((Norms(), Lanczos())))
    assert bounds.upper_certainty is Certainty.ESTIMATED
    assert bounds.upper < 1.03 * np.linalg.norm(factor, 2) ** 2


def test_a_proved_lower_end_spares_products():
    hessian = sp.diags_array(np.linspace(1.0, 2.0, 3000)).tocsr()
    bounds = estimate_bounds(hessian)
    assert (bounds.lower, bounds.upper) == (1.0, 2.0)
    assert bounds.lower_certainty is Certainty.GUARANTEED
    assert bounds.num_products < 15


def test_sums_that_overflow_are_refused():
    with pytest.raises(ValueError, match="too large for `Gershgorin discs`"):
        estimate_bounds(np.full((3, 3), 1.7e308), method=Gershgorin())


def test_sweeps_are_counted():
    with pytest.raises(ValueError, match="`sweeps` must be an integer of at least 1"):
        Gershgorin(sweeps=0)


# Convolutions


def circulant(kernel, size):
    columns = [np.zeros(size) for _ in range(size)]
    for j in range(size):
        for k, value in enumerate(kernel):
            columns[j][(j + k - len(kernel) // 2) % size] += value
    return np.array(columns).T


@pytest.mark.parametrize("exponent", [-150, 0, 150])
@pytest.mark.parametrize("kernel", [[1.0, 2.0, 1.0], [1.0, -3.0, 0.5, 2.0], [2.0]])
@pytest.mark.parametrize("size", [3, 8, 9])
def test_a_periodic_convolution_has_its_transform_for_eigenvalues(kernel, size, exponent):
    factor = circulant(np.array(kernel), size)
    values = np.linalg.svd(factor, compute_uv=False) ** 2
    unit = 10.0**exponent
    method = Convolution(np.array(kernel) * unit, (size,))
    bounds = estimate_bounds(Gram(factor * unit), method=method)
    assert float(np.longdouble(bounds.upper) / unit / unit) == pytest.approx(values[0])
    assert float(np.longdouble(bounds.lower) / unit / unit) == pytest.approx(values[-1], abs=1e-12)
    assert bounds.upper_certainty is Certainty.ASSUMED


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("seed", range(10))
def test_a_section_of_a_convolution_stays_below_the_symbol(mode, seed):
    kernel = np.random.default_rng(seed).standard_normal(5)
    factor = np.array([np.convolve(row, kernel, mode) for row in np.eye(200)]).T
    bounds = estimate_bounds(Gram(factor), method=Convolution(kernel, (200,), periodic=False))
    truth = np.linalg.norm(factor, 2) ** 2
    assert truth <= bounds.upper <= 1.03 * truth
    assert bounds.lower == 0.0


def test_a_two_dimensional_kernel_is_transformed_on_both_axes():
    kernel = np.array([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
    bounds = estimate_bounds(laplacian(30), method=Convolution(kernel, (30, 30), periodic=False))
    assert 8 * math.cos(math.pi / 62) ** 2 <= bounds.upper <= 1.02 * 8


def test_a_hessian_that_is_a_convolution_needs_a_symmetric_kernel():
    with pytest.raises(ValueError, match="kernel is not symmetric about its middle"):
        estimate_bounds(np.eye(5), method=Convolution([1.0, 2.0, 3.0], (5,)))


def test_a_hessian_that_is_a_convolution_needs_a_symbol_at_least_zero():
    with pytest.raises(ValueError, match="positive semidefinite"):
        estimate_bounds(np.eye(5), method=Convolution([1.0, 0.0, 1.0], (5,)))


def test_a_kernel_that_is_not_the_operators_is_refused():
    with pytest.raises(ValueError, match="operator is not what `method` was told"):
        estimate_bounds(np.eye(9) * 7.0, method=Convolution([1.0, 3.0, 1.0], (9,)))


def test_a_shape_that_does_not_fit_the_operator_is_refused():
    with pytest.raises(ValueError, match="`shape` of the convolution must have 9 entries"):
        estimate_bounds(np.eye(9), method=Convolution([1.0], (8,)))


@pytest.mark.parametrize("kernel", [np.ones((2, 2)), np.ones(0)])
def test_a_kernel_has_as_many_dimensions_as_its_array(kernel):
    with pytest.raises(ValueError, match="`kernel` must have as many dimensions"):
        Convolution(kernel, (8,))


# Gaussian matrices


@pytest.mark.parametrize("shape", [(300, 100), (100, 300), (200, 200)])
@pytest.mark.parametrize("seed", range(5))
def test_a_gaussian_matrix_lies_in_the_widened_marchenko_pastur_interval(shape, seed):
    factor = 0.1 * np.random.default_rng(seed).standard_normal(shape)
    values = np.linalg.svd(factor, compute_uv=False) ** 2
    bounds = estimate_bounds(Gram(factor), method=GaussianFactor(variance=0.01), seed=seed)
    assert bounds.upper >= values[0]
    assert bounds.lower <= (values[-1] if shape[0] >= shape[1] else 0.0)
    assert bounds.upper_certainty is Certainty.ASSUMED
    assert bounds.num_products == 1


def test_a_wrong_variance_is_refused_with_the_evidence():
    factor = np.random.default_rng(0).standard_normal((300, 100))
    with pytest.raises(ValueError, match=r"not what `method` was told.*Rayleigh quotient"):
        estimate_bounds(Gram(factor), method=GaussianFactor(variance=0.1))


def test_a_gaussian_matrix_is_a_factor_not_a_hessian():
    with pytest.raises(ValueError, match="needs a `Gram`"):
        estimate_bounds(np.eye(3), method=GaussianFactor(variance=1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variance": 0.0}, "`variance` must be positive"),
        ({"variance": 1.0, "failure_probability": 1.0}, "`failure_probability` must lie between"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GaussianFactor(**settings)
