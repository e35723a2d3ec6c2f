"""The record of bounds, all eigenvalues, `Gram`, and what `estimate_bounds` refuses."""

from __future__ import annotations

import json
import math
import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from stepfold import LeastSquares, _checks
from stepfold.spectrum import (
    Certainty,
    Exact,
    Gram,
    Lanczos,
    NotSemidefiniteError,
    SpectralBounds,
    Tightest,
    estimate_bounds,
    exact_eigenvalues,
    tightest,
)

METHODS = [pytest.param(Exact(), id="exact"), pytest.param(Lanczos(), id="lanczos")]


def symmetric(eigenvalues, seed=0):
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))[0]
    matrix = (q * np.asarray(eigenvalues)) @ q.T
    return (matrix + matrix.T) / 2


# The record


@pytest.mark.parametrize("ends", [(2.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_bounds_that_are_no_interval_are_refused(ends):
    with pytest.raises(ValueError, match="0 <= lower <= upper < inf"):
        SpectralBounds(*ends)


def test_what_was_reached_lies_between_the_ends():
    with pytest.raises(ValueError, match=r"`reached_upper`.*must lie between.*got 5\.0"):
        SpectralBounds(1.0, 4.0, reached_upper=5.0)


def test_given_bounds_have_no_known_uncertainty():
    bounds = SpectralBounds(1.0, 4.0)
    assert bounds.lower_uncertainty is None
    assert bounds.upper_uncertainty is None


def test_an_unknown_lower_end_has_uncertainty_one_and_a_known_zero_has_none():
    assert SpectralBounds(0.0, 4.0, reached_lower=1.0).lower_uncertainty == 1.0
    assert SpectralBounds(0.0, 4.0, reached_lower=0.0).lower_uncertainty == 0.0


def test_a_record_survives_json():
    bounds = estimate_bounds(symmetric([1.0, 2.0, 5.0]), method=Lanczos(), seed=3)
    restored = SpectralBounds(**json.loads(json.dumps(bounds.to_dict())))
    assert restored == bounds


def test_a_shift_of_a_semidefinite_map_guarantees_the_lower_end():
    semidefinite = SpectralBounds(0.0, 4.0, Certainty.GUARANTEED, reached_lower=1.0)
    bounds = semidefinite.shifted(0.5)
    assert (bounds.lower, bounds.upper, bounds.reached_lower) == (0.5, 4.5, 1.5)
    assert bounds.lower_certainty is Certainty.GUARANTEED
    assert SpectralBounds(0.0, 4.0).shifted(0.5).lower_certainty is Certainty.ASSUMED


def test_a_shift_of_a_positive_estimate_stays_an_estimate():
    bounds = SpectralBounds(1.0, 4.0, Certainty.ESTIMATED).shifted(0.5)
    assert (bounds.lower, bounds.lower_certainty) == (1.5, Certainty.ESTIMATED)


@pytest.mark.parametrize("shift", [-1.0, math.inf, math.nan])
def test_a_shift_is_at_least_zero_and_finite(shift):
    with pytest.raises(ValueError, match="`shift` must be at least 0"):
        SpectralBounds(0.0, 4.0).shifted(shift)


# Intersection


def test_the_tighter_of_two_ends_wins_and_the_record_names_both_methods():
    proved = SpectralBounds(
        0.0, 4.0, Certainty.GUARANTEED, Certainty.GUARANTEED, method="discs", num_products=1
    )
    seen = SpectralBounds(
        1.0,
        4.5,
        Certainty.ESTIMATED,
        Certainty.ESTIMATED,
        method="steps",
        num_products=20,
        seed=7,
        reached_lower=1.1,
        reached_upper=3.9,
        failure_probability=1e-5,
    )
    joint = tightest([proved, seen])
    assert (joint.lower, joint.upper) == (1.0, 4.0)
    assert (joint.lower_certainty, joint.upper_certainty) == (
        Certainty.ESTIMATED,
        Certainty.GUARANTEED,
    )
    assert joint.method == "upper: discs (tighter than steps); lower: steps"
    assert (joint.num_products, joint.seed, joint.failure_probability) == (21, 7, 1e-5)


def test_bounds_that_contradict_a_rayleigh_quotient_are_refused():
    seen = SpectralBounds(1.0, 4.5, reached_upper=4.2)
    with pytest.raises(ValueError, match=r"upper end 4 from `told`.*Rayleigh quotient of 4\.2"):
        tightest([SpectralBounds(0.0, 4.0, method="told"), seen])


def test_an_intersection_of_no_methods_is_refused():
    with pytest.raises(ValueError, match="`methods` must hold at least one"):
        Tightest(())


# All eigenvalues


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12), st.integers(-150, 150))
def test_exact_bounds_are_the_extreme_eigenvalues_in_any_units(eigenvalues, exponent):
    unit = 10.0**exponent
    bounds = estimate_bounds(symmetric(eigenvalues) * unit)
    assert bounds.lower == pytest.approx(min(eigenvalues) * unit, rel=1e-8)
    assert bounds.upper == pytest.approx(max(eigenvalues) * unit, rel=1e-12)
    assert bounds.lower_certainty is bounds.upper_certainty is Certainty.GUARANTEED


def test_a_singular_matrix_has_lower_end_zero_and_says_so():
    bounds = estimate_bounds(symmetric([0.0, 0.0, 1.0, 2.0]))
    assert bounds.lower == 0.0
    assert bounds.lower_certainty is Certainty.ASSUMED  # rounding may hide a negative one
    assert "singular: rank 2 of 4" in bounds.method


def test_small_eigenvalues_of_a_gram_keep_their_digits():
    gram = Gram(np.diag([1.0, 1e-9]))
    assert estimate_bounds(gram).lower == pytest.approx(1e-18, rel=1e-6)


def test_more_columns_than_rows_mean_a_kernel():
    bounds = estimate_bounds(Gram(np.ones((2, 5))))
    assert bounds.lower == 0.0
    assert bounds.upper == pytest.approx(10.0)


def test_a_non_normal_square_is_bounded_through_its_gram():
    matrix = np.triu(np.ones((40, 40)))
    bounds = estimate_bounds(Gram(matrix))
    assert bounds.upper == pytest.approx(np.linalg.norm(matrix, 2) ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_ridge_guarantees_the_lower_end(method):
    bounds = estimate_bounds(Gram(np.ones((3, 8)), shift=0.25), method=method)
    assert bounds.lower == 0.25
    assert bounds.lower_certainty is Certainty.GUARANTEED
    assert "shift 0.25" in bounds.method


def test_float32_entries_are_diagonalised_in_float64():
    matrix = symmetric([1.0, 2.0, 3.0]).astype(np.float32)
    assert exact_eigenvalues(matrix).dtype == np.float64
    assert estimate_bounds(matrix).upper == pytest.approx(3.0, rel=1e-6)


@pytest.mark.parametrize("exponent", [-170, 170])
def test_a_gram_whose_eigenvalues_leave_the_range_of_floats_is_refused(exponent):
    with pytest.raises(ValueError, match="outside the range of float64; divide the matrix"):
        estimate_bounds(Gram(np.eye(3) * 10.0**exponent))


# Limits


@pytest.mark.parametrize("method", METHODS)
def test_a_number_is_its_own_bound(method):
    bounds = estimate_bounds(np.array([[3.0]]), method=method)
    assert bounds.lower == pytest.approx(3.0)
    assert bounds.upper == pytest.approx(3.0)


@pytest.mark.parametrize("method", METHODS)
def test_the_zero_map_has_both_ends_zero(method):
    bounds = estimate_bounds(np.zeros((7, 7)), method=method)
    assert (bounds.lower, bounds.upper) == (0.0, 0.0)
    assert bounds.upper_uncertainty == 0.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_the_zero_factor_has_both_ends_zero(method, shape):
    bounds = estimate_bounds(Gram(np.zeros(shape)), method=method)
    assert (bounds.lower, bounds.upper) == (0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_an_indefinite_matrix_is_refused_with_the_evidence(method):
    with pytest.raises(ValueError, match=r"positive semidefinite.*an eigenvalue of at most -[01]"):
        estimate_bounds(symmetric([-1.0, 2.0, 3.0, 4.0]), method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_that_is_not_symmetric_is_refused_with_the_evidence(method):
    matrix = symmetric(np.linspace(1, 2, 30))
    matrix[3, 5] += 1e-2
    with pytest.raises(ValueError, match=r"must be symmetric: .*differ.*`Gram\(matrix\)`"):
        estimate_bounds(matrix, method=method)


def test_the_randomised_test_is_named_in_the_message():
    with pytest.raises(ValueError, match=r"randomised test uᵀ\(Hv\) = vᵀ\(Hu\) failed"):
        estimate_bounds(np.triu(np.ones((30, 30))), method=Lanczos())


def test_a_rectangular_hessian_is_refused():
    with pytest.raises(ValueError, match=r"`hessian` must be square, got shape \(3, 2\).*Gram"):
        estimate_bounds(np.ones((3, 2)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_entries_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match=r"`hessian` must be finite"):
        estimate_bounds(np.diag([1.0, bad]))


def test_a_skew_hermitian_matrix_is_refused():
    with pytest.raises(ValueError, match="`hessian` must be symmetric"):
        estimate_bounds(np.eye(3) * 1j)


def test_something_else_than_a_method_is_refused():
    with pytest.raises(TypeError, match=r"`method` must be a method of bounding.*got 'lanczos'"):
        estimate_bounds(np.eye(3), method="lanczos")


@pytest.mark.parametrize("seed", [-1, 1.5])
def test_a_seed_is_a_natural_number(seed):
    with pytest.raises((TypeError, ValueError), match="`seed` must be an integer"):
        estimate_bounds(np.eye(3), seed=seed)


def test_lists_of_integers_are_matrices():
    assert estimate_bounds([[2, 0], [0, 1]]).upper == 2.0


# Fields that are no bounds


@pytest.mark.parametrize("name", ["lower_certainty", "upper_certainty"])
@pytest.mark.parametrize("value", ["junk", None, 1])
def test_a_certainty_that_is_none_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be one of 'guaranteed'.*got {value!r}"):
        SpectralBounds(1.0, 9.0, **{name: value})


def test_a_certainty_by_its_name_is_taken():
    bounds = SpectralBounds(1.0, 9.0, upper_certainty="guaranteed")
    assert bounds.upper_certainty is Certainty.GUARANTEED


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ({"lower": "1"}, TypeError),
        ({"method": 3}, TypeError),
        ({"num_products": -1}, ValueError),
        ({"num_products": 1.5}, TypeError),
        ({"seed": -1}, ValueError),
        ({"reached_upper": "4"}, TypeError),
        ({"failure_probability": 0.0}, ValueError),
        ({"failure_probability": math.nan}, ValueError),
    ],
)
def test_a_field_of_another_kind_is_refused_by_name(field, error):
    (name,) = field
    with pytest.raises(error, match=f"`{name}`"):
        SpectralBounds(**{"lower": 1.0, "upper": 9.0, **field})


# What rounding hides


@pytest.mark.parametrize("size", range(6, 15))
def test_no_eigenvalue_at_the_level_of_rounding_is_called_guaranteed(size):
    hilbert = 1 / (np.arange(size)[:, None] + np.arange(size) + 1.0)
    # Computed by mpmath with 60 digits.
    above = [1.0828e-7, 3.4939e-9, 1.1115e-10, 3.4997e-12, 1.0932e-13]
    below = [3.3932e-15, 1.0479e-16, 3.2229e-18, 9.8771e-20]
    true = [*above, *below][size - 6]
    bounds = estimate_bounds(hilbert)
    assert bounds.lower <= true * (1 + 1e-3)
    if size <= 10:
        assert bounds.lower >= 0.5 * true
    if bounds.lower == 0:
        assert bounds.lower_certainty is Certainty.ASSUMED


def test_the_lower_end_of_a_map_with_a_hidden_negative_eigenvalue_is_not_guaranteed():
    # One eigenvalue of −1e-9 among 1999 from 1e-9 to 1: 80 Lanczos steps cannot see it.
    diagonal = np.append(np.geomspace(1e-9, 1.0, 1999), -1e-9)
    bounds = estimate_bounds(lambda v: diagonal * v, shape=(2000, 2000))
    assert bounds.lower == 0.0
    assert bounds.lower_certainty is Certainty.ASSUMED


@pytest.mark.parametrize("method", [None, *(p.values[0] for p in METHODS)])
def test_an_indefinite_matrix_is_refused_with_its_evidence(method):
    hessian = symmetric([-1e-3, 0.5, 1.0])
    with pytest.raises(NotSemidefiniteError, match="positive semidefinite") as caught:
        estimate_bounds(hessian, method=method)
    error = pickle.loads(pickle.dumps(caught.value))
    assert -1e-3 * (1 + 1e-9) <= error.eigenvalue < -5e-4  # Lanczos sees it from inside
    assert 0 < error.rounding < 1e-12
    assert str(error) == str(caught.value)


# Tall and wide factors of moderate size


def _factor(kind, shape, kappa):
    rng = np.random.default_rng(8)
    size = min(shape)
    q = np.linalg.qr(rng.standard_normal((max(shape), size)))[0]
    p = np.linalg.qr(rng.standard_normal((size, size)))[0]
    tall = (q * np.geomspace(1 / kappa, 1.0, size)) @ p
    if kind == "complex":
        tall = tall * np.exp(1j * rng.uniform(0, 7, (max(shape), 1)))
    return tall if shape[0] >= shape[1] else tall.T.conj()


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("shape", [(20_000, 80), (80, 20_000), (900, 400)])
@pytest.mark.parametrize("kappa", [3.0, 1e3, 1e7])
def test_squared_or_not_the_ends_are_the_squared_singular_values(kind, shape, kappa):
    factor = _factor(kind, shape, kappa)
    bounds = estimate_bounds(Gram(factor), method=Exact())
    wide = shape[0] < shape[1]
    lower = 0.0 if wide else kappa**-2
    assert bounds.upper == pytest.approx(1.0, rel=1e-12)
    assert bounds.lower == pytest.approx(lower, rel=1e-4)
    assert bounds.lower <= lower * (1 + 1e-12)
    assert bounds.lower_certainty is Certainty.GUARANTEED
    assert bounds.num_products in (1, 2)
    values = exact_eigenvalues(Gram(factor.T.conj() if wide else factor))
    np.testing.assert_allclose(values[-min(shape) :], np.geomspace(kappa**-2, 1, min(shape)), 1e-6)


def test_a_sparse_factor_is_never_written_out():
    rng = np.random.default_rng(0)
    num_rows, num_columns = 60_000, 400
    columns = rng.integers(0, num_columns, num_rows)
    entries = rng.standard_normal(num_rows) * (1 + 1j)
    for values in (entries, entries.real.copy()):
        factor = sparse.csr_array((values, (np.arange(num_rows), columns)))
        size = factor.data.nbytes + factor.indices.nbytes + factor.indptr.nbytes
        gram = Gram(factor)
        tracemalloc.start()
        bounds = estimate_bounds(gram)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        squares = np.zeros(num_columns)
        np.add.at(squares, columns, np.abs(values) ** 2)
        assert squares.max() <= bounds.upper <= 1.031 * squares.max()
        assert bounds.lower <= squares.min() * (1 + 1e-12)
        # Dense, the factor takes 96 to 384 MB.
        assert peak < 8 * size + 8e6


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_entries_are_looked_at_once(kind, monkeypatch):
    looked = []
    real = _checks.check_finite

    def check_finite(name, array):
        looked.append(name)
        real(name, array)

    monkeypatch.setattr(_checks, "check_finite", check_finite)
    matrix = np.random.default_rng(0).standard_normal((300, 20))
    matrix = matrix if kind == "dense" else sparse.csr_array(matrix)
    estimate_bounds(LeastSquares(matrix, np.ones(300)))
    assert sorted(looked) == ["operator", "rhs"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(30_000, 60), (60, 30_000), (200, 60)])
def test_a_narrow_type_hides_no_spectrum_however_long_the_matrix(dtype, shape):
    factor = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    values = np.linalg.svd(factor.astype(np.float64), compute_uv=False) ** 2
    bounds = estimate_bounds(Gram(factor))
    assert bounds.upper == pytest.approx(values[0], rel=1e-6)
    lower = values[-1] if shape[0] > shape[1] else 0.0
    assert 0.8 * lower <= bounds.lower <= lower * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5000, 40), (90, 40), (40, 90)])
def test_a_rank_that_rounding_hides_is_seen_in_every_type(dtype, shape):
    rng = np.random.default_rng(1)
    factor = rng.standard_normal((shape[0], 7)) @ rng.standard_normal((7, shape[1]))
    bounds = estimate_bounds(Gram(factor.astype(dtype)))
    assert bounds.lower == 0.0
    assert "rank 7" in bounds.method
