"""SpectralMeasure: mixtures, Gauss rules, records, and the Marchenko–Pastur law."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepfold import SpectralMeasure, optimal_steps
from stepfold.polynomial import mean_squared_error

LOGARITHMIC = SpectralMeasure.from_eigenvalues(np.geomspace(1e-6, 1.0, 40))


def test_variances_become_weights() -> None:
    measure = SpectralMeasure.from_eigenvalues([1.0, 2.0], [1.0, 3.0])
    np.testing.assert_allclose(measure.weights, [0.25, 0.75])


def test_the_mean_over_a_mixture_is_the_weighted_mean_of_means() -> None:
    one = SpectralMeasure([1.0, 4.0], [0.5, 0.5])
    other = SpectralMeasure([2.0, 3.0, 9.0], [0.2, 0.2, 0.6])
    mixture = SpectralMeasure.mixture([one, other], [1.0, 4.0])
    expected = 0.2 * one.mean(np.sqrt) + 0.8 * other.mean(np.sqrt)
    assert mixture.mean(np.sqrt) == pytest.approx(expected, rel=1e-14)


def test_a_mixture_without_weights_counts_all_alike() -> None:
    measures = [SpectralMeasure([float(k)], [1.0]) for k in (1, 2, 6)]
    assert SpectralMeasure.mixture(measures).mean(lambda x: x) == pytest.approx(3.0)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="`measures` must hold at least one measure"):
        SpectralMeasure.mixture([])


def test_a_mixture_of_arrays_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"`measures` must hold SpectralMeasure.*ndarray at index 1"
    ):
        SpectralMeasure.mixture([LOGARITHMIC, np.ones(2)])  # type: ignore[list-item]


def test_too_few_mixture_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1 for 2 measures"):
        SpectralMeasure.mixture([LOGARITHMIC, LOGARITHMIC], [1.0])


def test_negative_mixture_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 0 and not all 0, got -1\.0 at index 1"):
        SpectralMeasure.mixture([LOGARITHMIC, LOGARITHMIC], [1.0, -1.0])


@pytest.mark.parametrize("degree", [0, 1, 5, 12, 19])
def test_a_gauss_rule_is_exact_below_twice_its_nodes(degree: int) -> None:
    rule = LOGARITHMIC.quadrature(10)
    expected = LOGARITHMIC.mean(lambda x: x**degree)
    assert rule.mean(lambda x: x**degree) == pytest.approx(expected, rel=1e-12)


def test_a_gauss_rule_is_not_exact_at_twice_its_nodes() -> None:
    degree = 6
    rule = LOGARITHMIC.quadrature(3)
    expected = LOGARITHMIC.mean(lambda x: x**degree)
    assert abs(rule.mean(lambda x: x**degree) / expected - 1) > 1e-6


@pytest.mark.parametrize("period", [1, 4, 9])
def test_optimal_steps_of_the_rule_are_those_of_the_measure(period: int) -> None:
    rule = LOGARITHMIC.quadrature(period + 1)
    steps = optimal_steps(LOGARITHMIC, period)
    np.testing.assert_allclose(optimal_steps(rule, period).steps, steps.steps, rtol=1e-10)
    error = mean_squared_error(steps, LOGARITHMIC)
    assert mean_squared_error(steps, rule) == pytest.approx(error, rel=1e-9)


def test_a_rule_of_all_nodes_is_the_measure() -> None:
    rule = LOGARITHMIC.quadrature(100)
    np.testing.assert_allclose(rule.nodes, LOGARITHMIC.nodes, rtol=1e-13)
    np.testing.assert_allclose(rule.weights, LOGARITHMIC.weights, rtol=1e-11)


def test_a_rule_keeps_an_atom_at_zero() -> None:
    rule = SpectralMeasure([0.0, 1.0, 2.0], [0.5, 0.25, 0.25]).quadrature(3)
    np.testing.assert_allclose(rule.nodes, [0.0, 1.0, 2.0], atol=1e-15)
    np.testing.assert_allclose(rule.weights, [0.5, 0.25, 0.25], rtol=1e-13)


def test_a_rule_of_the_zero_operator_is_one_node() -> None:
    rule = SpectralMeasure([0.0], [1.0]).quadrature(4)
    assert (rule.nodes.tolist(), rule.weights.tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_rules_scale_with_the_hessian(scale: float) -> None:
    scaled = SpectralMeasure(LOGARITHMIC.nodes * scale, LOGARITHMIC.weights).quadrature(7)
    rule = LOGARITHMIC.quadrature(7)
    np.testing.assert_allclose(scaled.nodes / scale, rule.nodes, rtol=1e-12)
    np.testing.assert_allclose(scaled.weights, rule.weights, rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    nodes=st.lists(st.floats(0.0, 1e3), min_size=1, max_size=12),
    num_nodes=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_every_rule_is_a_probability_measure_of_equal_mean(
    nodes: list[float], num_nodes: int, seed: int
) -> None:
    weights = np.random.default_rng(seed).random(len(nodes)) + 0.01
    measure = SpectralMeasure(np.array(nodes), weights)
    rule = measure.quadrature(num_nodes)
    assert rule.nodes.size <= num_nodes
    assert rule.weights.sum() == pytest.approx(1.0)
    mean = measure.mean(lambda x: x)
    assert rule.mean(lambda x: x) == pytest.approx(mean, rel=1e-9, abs=1e-9)


def test_the_cumulative_distribution_rises_at_the_nodes() -> None:
    measure = SpectralMeasure([1.0, 2.0, 5.0], [1.0, 1.0, 2.0])
    values = measure.cumulative([[0.0, 1.0], [4.999, 5.0]])
    np.testing.assert_allclose(values, [[0.0, 0.25], [0.5, 1.0]])


def test_records_survive_json_to_the_last_bit() -> None:
    copy = SpectralMeasure.from_dict(json.loads(json.dumps(LOGARITHMIC.to_dict())))
    assert copy.name == LOGARITHMIC.name
    np.testing.assert_array_equal(copy.nodes, LOGARITHMIC.nodes)
    np.testing.assert_allclose(copy.weights, LOGARITHMIC.weights, rtol=1e-15)


def test_records_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have format 'stepfold\.measure/1', got None"):
        SpectralMeasure.from_dict({"nodes": [1.0], "weights": [1.0]})


def test_incomplete_records_are_refused() -> None:
    with pytest.raises(
        ValueError, match="`SpectralMeasure` must have weights; it has format, nodes"
    ):
        SpectralMeasure.from_dict({"format": "stepfold.measure/1", "nodes": [1.0]})


def test_records_that_are_no_dict_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`SpectralMeasure` must be an object, got \[1\.0\]"):
        SpectralMeasure.from_dict([1.0])


@pytest.mark.parametrize("ratio", [0.05, 0.5, 1.0, 1.7, 20.0])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_marchenko_pastur_moments_are_narayana_polynomials(ratio: float, degree: int) -> None:
    narayana = {1: [1], 2: [1, 1], 3: [1, 3, 1], 4: [1, 6, 6, 1]}[degree]
    expected = sum(number * ratio**power for power, number in enumerate(narayana))
    measure = SpectralMeasure.marchenko_pastur(ratio, num_nodes=8)
    assert measure.mean(lambda x: x**degree) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ratio", [1.5, 4.0])
def test_marchenko_pastur_has_an_atom_where_the_matrix_is_wide(ratio: float) -> None:
    measure = SpectralMeasure.marchenko_pastur(ratio, scale=3.0)
    assert measure.cumulative(0.0) == pytest.approx(1 - 1 / ratio, rel=1e-12)
    lower = 3.0 * (1 - np.sqrt(ratio)) ** 2
    assert measure.nodes[measure.nodes > 0].min() >= lower


@pytest.mark.parametrize(("num_columns", "num_rows"), [(200, 400), (150, 150), (300, 100)])
def test_marchenko_pastur_is_what_gaussian_matrices_have(num_columns: int, num_rows: int) -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((num_rows, num_columns)) / np.sqrt(num_rows)
    drawn = SpectralMeasure.from_eigenvalues(np.linalg.eigvalsh(matrix.T @ matrix).clip(0))
    law = SpectralMeasure.marchenko_pastur(num_columns / num_rows, num_nodes=1000)
    grid = np.linspace(0.05, 7.0, 400)
    assert np.abs(drawn.cumulative(grid) - law.cumulative(grid)).max() < 0.02


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda measure: pickle.loads(pickle.dumps(measure))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_the_same_to_the_last_bit_and_read_only(copied) -> None:
    measure = SpectralMeasure([1.0, 2.0, 7.0], [0.3, 1.0, 0.1], "mine")
    twin = copied(measure)
    assert twin.name == "mine"
    for name in ("nodes", "weights"):
        np.testing.assert_array_equal(getattr(twin, name), getattr(measure, name))
        with pytest.raises(ValueError, match="read-only"):
            getattr(twin, name)[0] = 5.0


@pytest.mark.parametrize("name", ["nodes", "weights"])
def test_masked_arrays_are_refused(name) -> None:
    arrays = {"nodes": np.ones(2), "weights": np.ones(2)}
    arrays[name] = np.ma.masked_array([1.0, 2.0], [False, True])
    with pytest.raises(TypeError, match=f"`{name}` must be an array without a mask"):
        SpectralMeasure(**arrays)
