"""Measures integrate polynomials exactly, and their nodes are those of high-precision algebra."""

import dataclasses
import json
import math
import re
from math import comb

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepfold import SpectralBounds, SpectralMeasure
from stepfold._krylov import lanczos

SCALES = [1e-100, 1e-8, 3.0, 1e100]


def jacobi_matrix(measure: SpectralMeasure, size: int) -> np.ndarray:
    """Diagonal and off-diagonal of the orthonormal polynomials' recurrence, shape (2, size)."""
    scale = measure.nodes[-1]
    found = lanczos(lambda v: measure.nodes / scale * v, np.sqrt(measure.weights), size)
    return scale * np.array([found.diagonal, found.off_diagonal])


def marchenko_pastur_moment(ratio: float, k: int) -> float:
    """∫ λᵏ of the Marchenko–Pastur law with mean 1: a sum of Narayana numbers."""
    return sum(ratio**j / (j + 1) * comb(k, j) * comb(k - 1, j) for j in range(k)) if k else 1.0


@pytest.mark.parametrize("num_nodes", [1, 2, 5, 20])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.0, 10.0])
def test_marchenko_pastur_moments_are_exact_below_twice_the_number_of_nodes(
    ratio: float, num_nodes: int
) -> None:
    measure = SpectralMeasure.marchenko_pastur(ratio, num_nodes=num_nodes)
    powers = range(2 * num_nodes)
    moments = [measure.mean(measure.nodes**k) for k in powers]
    expected = [marchenko_pastur_moment(ratio, k) for k in powers]
    np.testing.assert_allclose(moments, expected, rtol=1e-11)


@pytest.mark.parametrize("num_nodes", [1, 2, 5])
def test_marchenko_pastur_moments_are_wrong_from_twice_the_number_of_nodes_on(
    num_nodes: int,
) -> None:
    measure = SpectralMeasure.marchenko_pastur(0.5, num_nodes=num_nodes)
    k = 2 * num_nodes
    assert measure.mean(measure.nodes**k) < marchenko_pastur_moment(0.5, k)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_marchenko_pastur_nodes_lie_inside_the_support_and_fill_it(ratio: float) -> None:
    bounds = SpectralMeasure.marchenko_pastur(ratio).bounds
    lower, upper = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    assert lower < bounds.lower < lower + 2e-4
    assert upper - 1e-3 < bounds.upper < upper


@pytest.mark.parametrize("ratio", [1.5, 2.0, 100.0])
def test_a_wide_random_matrix_has_its_kernel_as_an_atom_at_zero(ratio: float) -> None:
    measure = SpectralMeasure.marchenko_pastur(ratio, scale=3.0)
    at_zero = measure.weights[measure.nodes == 0]
    assert at_zero.tolist() == pytest.approx([1 - 1 / ratio], rel=1e-12)
    assert measure.nodes[1] > 3 * (1 - math.sqrt(ratio)) ** 2
    assert measure.mean(measure.nodes) == pytest.approx(3.0, rel=1e-12)


@pytest.mark.parametrize(("num_rows", "num_columns"), [(600, 300), (300, 600), (800, 80)])
def test_marchenko_pastur_is_the_limit_of_sampled_spectra(num_rows: int, num_columns: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((num_rows, num_columns)) / math.sqrt(num_rows)
    sampled = np.linalg.eigvalsh(matrix.T @ matrix)
    measure = SpectralMeasure.marchenko_pastur(num_columns / num_rows)
    points = np.linspace(0.05, 5.0, 60)
    distribution = [measure.weights[measure.nodes <= x].sum() for x in points]
    np.testing.assert_allclose(distribution, [(sampled <= x).mean() for x in points], atol=0.03)


def test_marchenko_pastur_has_constant_recurrence_coefficients() -> None:
    alpha, beta = jacobi_matrix(SpectralMeasure.marchenko_pastur(0.25, scale=2.0, num_nodes=50), 20)
    np.testing.assert_allclose(alpha, 2.0 * np.array([1.0] + [1.25] * 19), rtol=1e-12)
    np.testing.assert_allclose(beta, np.full(20, 2.0 * 0.5), rtol=1e-12)


@pytest.mark.parametrize("num_nodes", [1, 2, 5, 20])
@pytest.mark.parametrize("lower", [0.0, 1.0, 2.9])
def test_uniform_moments_are_exact_below_twice_the_number_of_nodes(
    lower: float, num_nodes: int
) -> None:
    measure = SpectralMeasure.uniform(SpectralBounds(lower, 3.0), num_nodes=num_nodes)
    scaled = (measure.nodes - (lower + 3.0) / 2) / ((3.0 - lower) / 2)
    moments = [measure.mean(scaled**k) for k in range(2 * num_nodes)]
    expected = [0.0 if k % 2 else 1 / (k + 1) for k in range(2 * num_nodes)]
    np.testing.assert_allclose(moments, expected, atol=1e-13)


def test_the_uniform_measure_has_the_recurrence_of_legendre_polynomials() -> None:
    alpha, beta = jacobi_matrix(SpectralMeasure.uniform(SpectralBounds(1.0, 3.0), num_nodes=40), 20)
    k = np.arange(1, 21)
    np.testing.assert_allclose(alpha, np.full(20, 2.0), rtol=1e-12)
    np.testing.assert_allclose(beta, k / np.sqrt(4 * k**2 - 1), rtol=1e-12)


def test_the_uniform_measure_on_a_point_is_that_point() -> None:
    assert SpectralMeasure.uniform(SpectralBounds(2.0, 2.0)).nodes.tolist() == [2.0]


@given(
    st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.01, 1.0)), min_size=1, max_size=12),
    st.integers(1, 6),
)
def test_a_quadrature_has_the_moments_of_the_measure_below_twice_its_size(
    points: list[tuple[float, float]], num_nodes: int
) -> None:
    measure = SpectralMeasure(*zip(*points, strict=True))
    rule = measure.quadrature(num_nodes)
    powers = np.arange(2 * rule.nodes.size)
    found = rule.weights @ (rule.nodes[:, None] / 10.0) ** powers
    expected = measure.weights @ (measure.nodes[:, None] / 10.0) ** powers
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("nodes", [[0.0], [2.0], [1.0, 2.0], [1.0, 1.0, 2.0, 2.0]])
def test_a_quadrature_has_no_more_nodes_than_are_distinct(nodes: list[float]) -> None:
    rule = SpectralMeasure.from_eigenvalues(nodes).quadrature(9)
    np.testing.assert_allclose(rule.nodes, np.unique(nodes), rtol=1e-14)


def weighted_gauss_nodes(nodes: list[float], weights: list[float], size: int) -> list[float]:
    """Oracle: roots of the orthogonal polynomial of λ dμ from its moments, with 400 digits."""
    with mpmath.workdps(400):
        nodes, weights = [mpmath.mpf(x) for x in nodes], [mpmath.mpf(w) for w in weights]
        moment = [
            sum(w * x ** (k + 1) for x, w in zip(nodes, weights, strict=True))
            for k in range(2 * size)
        ]
        hankel = mpmath.matrix(size, size)
        for i in range(size):
            for j in range(size):
                hankel[i, j] = moment[i + j]
        right = mpmath.matrix([-moment[size + i] for i in range(size)])
        coefficients = mpmath.lu_solve(hankel, right)
        roots = mpmath.polyroots([1, *list(coefficients)[::-1]], maxsteps=500, extraprec=400)
        return sorted(float(mpmath.re(root)) for root in roots)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("kappa", [2.0, 1e3, 1e8])
def test_nodes_of_the_weighted_measure_are_those_of_its_moments(kappa: float, size: int) -> None:
    nodes = np.geomspace(1.0, kappa, 12)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, 12)
    found = SpectralMeasure(nodes, weights).gauss_nodes_of_weighted(size)
    expected = weighted_gauss_nodes(nodes.tolist(), weights.tolist(), size)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_nodes_far_below_the_largest_keep_their_digits() -> None:
    eigenvalues = np.array([1e-12, 1e-6, 1.0])
    found = SpectralMeasure.from_eigenvalues(eigenvalues).gauss_nodes_of_weighted(3)
    np.testing.assert_allclose(found, eigenvalues, rtol=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_recurrences_and_nodes_scale_with_the_eigenvalues(scale: float) -> None:
    nodes = np.linspace(1.0, 7.0, 20)
    measure = SpectralMeasure.from_eigenvalues(nodes)
    scaled = SpectralMeasure.from_eigenvalues(scale * nodes)
    np.testing.assert_allclose(
        scaled.gauss_nodes_of_weighted(6), scale * measure.gauss_nodes_of_weighted(6), rtol=1e-12
    )
    rules = scaled.quadrature(6), measure.quadrature(6)
    np.testing.assert_allclose(rules[0].nodes, scale * rules[1].nodes, rtol=1e-12)
    np.testing.assert_allclose(rules[0].weights, rules[1].weights, rtol=1e-11)


def test_a_zero_operator_has_no_nodes_above_zero() -> None:
    assert SpectralMeasure.from_eigenvalues([0.0, 0.0]).gauss_nodes_of_weighted(2).size == 0


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=9))
def test_nodes_are_sorted_and_weights_sum_to_one(nodes: list[float]) -> None:
    measure = SpectralMeasure(nodes, np.arange(1, len(nodes) + 1))
    assert measure.nodes.tolist() == sorted(nodes)
    assert measure.weights.sum() == pytest.approx(1.0, rel=1e-14)
    expected = np.average(nodes, weights=np.arange(1, len(nodes) + 1))
    assert measure.mean(lambda x: x) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("scale", [1e-300, 5e-324, 1e300, 1.7e308])
def test_weights_of_any_scale_are_normalised(scale: float) -> None:
    assert SpectralMeasure([1.0, 2.0], [scale, scale]).weights.tolist() == [0.5, 0.5]


def test_the_bounds_ignore_nodes_without_weight() -> None:
    bounds = SpectralMeasure([0.0, 1.0, 2.0, 9.0], [0.0, 1.0, 1.0, 0.0]).bounds
    assert (bounds.lower, bounds.upper) == (1.0, 2.0)


def test_a_measure_is_frozen_and_shares_no_memory_with_its_arguments() -> None:
    nodes, weights = np.array([1.0, 2.0]), np.array([0.5, 0.5])
    measure = SpectralMeasure(nodes, weights)
    nodes[:], weights[:] = 7.0, 7.0
    assert (measure.nodes.tolist(), measure.weights.tolist()) == ([1.0, 2.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="read-only"):
        measure.nodes[0] = 3.0
    with pytest.raises(ValueError, match="read-only"):
        measure.weights[0] = 3.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        measure.nodes = nodes  # type: ignore[misc]


def test_a_measure_survives_json() -> None:
    measure = SpectralMeasure([0.1, 0.7], [1.0, 2.0], "mine")
    record = json.loads(json.dumps(measure.to_dict()))
    assert record["name"] == "mine"
    assert (record["nodes"], record["weights"]) == (
        measure.nodes.tolist(),
        measure.weights.tolist(),
    )


@pytest.mark.parametrize(
    ("nodes", "weights", "message"),
    [
        ([1.0, 2.0], [1.0], "same length, got 2 nodes and 1 weights"),
        ([-1.0], [1.0], "`nodes` must be at least 0, got -1.0"),
        ([1.0], [-1.0], "`weights` must be at least 0, got -1.0"),
        ([1.0, 2.0], [0.0, 0.0], "`weights` must not all be 0; give at least one positive"),
        ([math.nan], [1.0], "`nodes` must be finite, got nan at index 0"),
        ([1.0], [math.inf], "`weights` must be finite, got inf at index 0"),
        ([], [], "`nodes` must be a one-dimensional array of at least one number, got shape (0,)"),
        ([[1.0]], [1.0], "`nodes` must be a one-dimensional array"),
    ],
)
def test_what_is_no_measure_is_refused(nodes: object, weights: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SpectralMeasure(nodes, weights)


def test_complex_nodes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`nodes` must hold real numbers, got dtype complex128"):
        SpectralMeasure([1j], [1.0])


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("label", ["ratio", "scale"])
def test_marchenko_pastur_refuses_what_is_not_positive(label: str, value: float) -> None:
    arguments = {"ratio": 0.5, "scale": 1.0, label: value}
    with pytest.raises(ValueError, match=rf"`{label}` must be positive and finite, got {value}"):
        SpectralMeasure.marchenko_pastur(**arguments)


def test_rules_without_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`num_nodes` must be an integer of at least 1, got 0"):
        SpectralMeasure.uniform(SpectralBounds(1.0, 2.0), num_nodes=0)
    with pytest.raises(ValueError, match=r"`num_nodes` must be an integer of at least 1, got 0"):
        SpectralMeasure.marchenko_pastur(0.5, num_nodes=0)
