"""What every registered schedule does, and what Chebyshev, optimal and constant steps are."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stepfold import (
    Schedule,
    SpectralBounds,
    SpectralMeasure,
    chebyshev_steps,
    constant_steps,
    optimal_steps,
)
from stepfold.polynomial import (
    chebyshev_period_rate,
    optimal_mean_squared_error,
    worst_case_period_rate,
)
from stepfold.schedules import SCHEDULES

BOUNDS = SpectralBounds(1.0, 50.0)
# Lengths that every family has, those of the form 2ᵏ − 1 included.
NUM_STEPS = [1, 3, 7, 31]
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_length = pytest.mark.parametrize("period", NUM_STEPS)


@every_schedule
@every_length
def test_a_builder_returns_that_many_positive_steps(name: str, period: int) -> None:
    schedule = SCHEDULES[name](BOUNDS, period)
    assert isinstance(schedule, Schedule)
    assert schedule.steps.shape == (period,)
    assert schedule.steps.min() > 0
    assert schedule.name


@every_schedule
@every_length
def test_a_built_schedule_survives_json_to_the_last_bit(name: str, period: int) -> None:
    schedule = SCHEDULES[name](BOUNDS, period)
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


@every_schedule
@every_length
@pytest.mark.parametrize("scale", [1e-100, 7.0, 1e100])
def test_steps_and_their_order_are_in_units_of_one_over_the_hessian(
    name: str, period: int, scale: float
) -> None:
    scaled = SCHEDULES[name](SpectralBounds(scale, 50.0 * scale), period)
    expected = SCHEDULES[name](BOUNDS, period).steps
    np.testing.assert_allclose(scaled.steps * scale, expected, rtol=1e-11)


@every_schedule
@every_length
@pytest.mark.parametrize("kappa", [1.5, 50.0, 1e4])
def test_every_schedule_converges_on_its_bounds(name: str, period: int, kappa: float) -> None:
    bounds = SpectralBounds(1.0, kappa)
    assert worst_case_period_rate(SCHEDULES[name](bounds, period), bounds) < 1


@every_schedule
@every_length
@pytest.mark.parametrize("kappa", [1.5, 50.0, 1e4])
def test_no_schedule_beats_the_chebyshev_rate(name: str, period: int, kappa: float) -> None:
    bounds = SpectralBounds(1.0, kappa)
    rate = worst_case_period_rate(SCHEDULES[name](bounds, period), bounds)
    assert rate >= chebyshev_period_rate(bounds, period) * (1 - 1e-9)


@every_schedule
@pytest.mark.parametrize(
    ("period", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("3", TypeError)]
)
def test_a_number_of_steps_that_is_no_count_is_refused(
    name: str, period: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"`period` must be an integer"):
        SCHEDULES[name](BOUNDS, period)


@every_schedule
def test_building_twice_gives_the_same_schedule(name: str) -> None:
    assert SCHEDULES[name](BOUNDS, 7) == SCHEDULES[name](BOUNDS, 7)


@given(st.integers(1, 40), st.floats(0.01, 10).map(lambda e: 10**e))
def test_chebyshev_steps_are_reciprocals_of_chebyshev_roots(period: int, kappa: float) -> None:
    angles = (2 * np.arange(period) + 1) * np.pi / (2 * period)
    roots = (1 + kappa) / 2 + (kappa - 1) / 2 * np.cos(angles)
    steps = np.sort(chebyshev_steps(SpectralBounds(1.0, kappa), period).steps)
    # The textbook's form on the left cancels near a, hence the tolerance that grows with κ.
    np.testing.assert_allclose(1 / steps, roots, rtol=1e-14, atol=1e-15 * kappa)


@pytest.mark.parametrize("period", [1, 2, 5, 16])
def test_second_kind_steps_are_reciprocals_of_second_kind_roots(period: int) -> None:
    angles = np.arange(1, period + 1) * np.pi / (period + 1)
    roots = (1 + 50) / 2 + (50 - 1) / 2 * np.cos(angles)
    steps = np.sort(chebyshev_steps(BOUNDS, period, kind=2).steps)
    np.testing.assert_allclose(1 / steps, roots, rtol=1e-13)


@pytest.mark.parametrize("kind", [0, 3, 9, "1", None])
def test_another_kind_of_chebyshev_steps_is_refused(kind: object) -> None:
    with pytest.raises(ValueError, match=r"`kind` must be 1.*, got "):
        chebyshev_steps(BOUNDS, 3, kind=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("builder", [chebyshev_steps, constant_steps])
def test_a_lower_end_of_zero_is_refused_with_a_remedy(builder: object) -> None:
    message = rf"`{builder.__name__}` needs `bounds.lower > 0`, got 0.0; .*ridge term"
    with pytest.raises(ValueError, match=message):
        builder(SpectralBounds(0.0, 1.0), 3)


def test_the_constant_step_is_two_over_the_sum_of_the_ends() -> None:
    assert constant_steps(SpectralBounds(1.0, 4.0), 3).steps.tolist() == [0.4, 0.4, 0.4]
    assert len(constant_steps(BOUNDS)) == 1


@pytest.mark.parametrize("period", [1, 3, 8])
def test_equal_ends_give_the_one_step_that_solves(period: int) -> None:
    steps = chebyshev_steps(SpectralBounds(4.0, 4.0), period).steps
    np.testing.assert_allclose(steps, np.full(period, 0.25), rtol=1e-15)


RATIOS = [0.05, 0.5, 0.95]


@pytest.mark.parametrize("period", [1, 2, 8])
def test_the_atom_of_a_wide_matrix_does_not_change_its_optimal_steps(period: int) -> None:
    support = SpectralBounds((1 - math.sqrt(2)) ** 2, (1 + math.sqrt(2)) ** 2)
    found = optimal_steps(SpectralMeasure.marchenko_pastur(2.0), period)
    expected = chebyshev_steps(support, period, kind=2).steps
    np.testing.assert_allclose(np.sort(found.steps), np.sort(expected), rtol=1e-10)


@pytest.mark.parametrize("period", [1, 2, 5, 20])
def test_optimal_steps_for_the_arcsine_weight_over_lambda_are_first_kind_steps(
    period: int,
) -> None:
    # λ dμ is the arcsine law, whose Gauss nodes are the first-kind Chebyshev roots.
    nodes = 25.5 + 24.5 * np.cos((2 * np.arange(400) + 1) * np.pi / 800)
    found = optimal_steps(SpectralMeasure(nodes, 1 / nodes), period)
    expected = chebyshev_steps(BOUNDS, period)
    np.testing.assert_allclose(np.sort(found.steps), np.sort(expected.steps), rtol=1e-11)


measures = st.lists(
    st.tuples(st.floats(0.1, 10.0), st.floats(0.05, 1.0)), min_size=8, max_size=20
).map(lambda points: SpectralMeasure(*zip(*points, strict=True)))


@given(measures, st.integers(1, 4))
def test_optimal_steps_are_distinct_and_reciprocals_of_inner_points(
    measure: SpectralMeasure, period: int
) -> None:
    assume(np.unique(measure.nodes.round(2)).size > 4)
    roots = np.sort(1 / optimal_steps(measure, period).steps)
    assert measure.bounds.lower * (1 - 1e-9) < roots[0]
    assert roots[-1] < measure.bounds.upper * (1 + 1e-9)
    assert np.all(np.diff(roots) > 0)


@given(measures, st.integers(1, 4), st.floats(-100, 100).map(lambda e: 10**e))
def test_the_smallest_error_has_no_scale(
    measure: SpectralMeasure, period: int, scale: float
) -> None:
    assume(np.unique(measure.nodes.round(2)).size > 4)
    scaled = SpectralMeasure(measure.nodes * scale, measure.weights)
    expected = optimal_mean_squared_error(measure, period)
    found = optimal_mean_squared_error(scaled, period)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-20)


def test_as_many_steps_as_eigenvalues_are_their_reciprocals() -> None:
    steps = optimal_steps(SpectralMeasure.from_eigenvalues([1.0, 2.0, 4.0, 4.0, 0.0]), 3).steps
    np.testing.assert_allclose(np.sort(steps), [0.25, 0.5, 1.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("eigenvalues", "distinct"),
    [([1.0, 2.0, 2.0, 0.0], 2), ([3.0], 1), ([0.0], 0), ([1.0, 1e-40], 1)],
)
def test_more_optimal_steps_than_distinct_eigenvalues_are_refused(
    eigenvalues: list[float], distinct: int
) -> None:
    message = (
        "`period` must not exceed the number of distinct eigenvalues above 0, which is "
        f"{distinct}, got 5; {distinct} steps reach the smallest error already"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        optimal_steps(SpectralMeasure.from_eigenvalues(eigenvalues), 5)


@pytest.mark.parametrize("period", [1, 5, 300])
def test_optimal_steps_for_bounds_are_those_for_the_uniform_density(period: int) -> None:
    # λ dλ on [a, b] with a = 0: the nodes are roots of a Jacobi polynomial.
    from scipy.special import roots_jacobi

    roots = (roots_jacobi(period, 0, 1)[0] + 1) / 2
    found = optimal_steps(SpectralBounds(0.0, 1.0), period)
    np.testing.assert_allclose(np.sort(1 / found.steps), roots, rtol=1e-8)
