"""Minimax steps for spectra with gaps, against closed forms, a linear programme, a real solve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from stepfold import Quadratic, SpectralBounds, Status, chebyshev_steps, solve
from stepfold.polynomial import chebyshev_period_rate, residual_polynomial
from stepfold.schedules import (
    chebyshev_steps_for_intervals,
    minimax_period_rate,
    roundoff_amplification,
    spectral_intervals,
    worst_case_period_rate_on_intervals,
)

TWO = [(1.0, 2.0), (4.0, 5.0)]
OUTLIERS = np.concatenate([np.linspace(1, 10, 156), [100.0, 1000.0, 5000.0, 1e4]])


def alternations(steps, intervals):
    """How many extrema of full height with alternating signs p has on the intervals."""
    grid = np.concatenate(
        [
            low + (high - low) * np.sin(np.linspace(0, np.pi / 2, 4001)) ** 2
            for low, high in intervals
        ]
    )
    values = residual_polynomial(steps, grid)
    high = values[np.abs(values) >= np.abs(values).max() * (1 - 1e-4)]
    return 1 + int((np.diff(np.sign(high)) != 0).sum())


@pytest.mark.parametrize("half", [1, 2, 3, 10, 40])
def test_two_intervals_of_equal_length_have_the_rate_of_their_image_under_a_parabola(half):
    # λ (a + d − λ) maps both [a, b] and [c, d] onto [a d, b c].
    expected = chebyshev_period_rate(SpectralBounds(1 * 5, 2 * 4), half)
    assert minimax_period_rate(TWO, 2 * half) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("half", [1, 2, 7])
def test_two_intervals_of_equal_length_have_the_preimages_as_roots(half):
    images = 1 / chebyshev_steps(SpectralBounds(5.0, 8.0), half).steps
    roots = np.concatenate([3 - np.sqrt(9 - images), 3 + np.sqrt(9 - images)])
    steps = chebyshev_steps_for_intervals(TWO, 2 * half).steps
    np.testing.assert_allclose(np.sort(1 / steps), np.sort(roots), rtol=1e-8)


@pytest.mark.parametrize("period", [1, 2, 5, 16, 100])
def test_a_single_interval_gives_chebyshev_steps(period):
    steps = chebyshev_steps_for_intervals([(1.0, 100.0)], period).steps
    expected = chebyshev_steps(SpectralBounds(1.0, 100.0), period).steps
    np.testing.assert_allclose(np.sort(steps), np.sort(expected), rtol=1e-6)


@pytest.mark.parametrize("period", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize(
    "intervals",
    [TWO, [(1.0, 1.5), (2.0, 9.0)], [(1.0, 2.0), (3.0, 3.0), (7.0, 9.0)]],
    ids=["equal", "unequal", "with-a-point"],
)
def test_a_linear_programme_finds_no_smaller_maximum(period, intervals):
    grid = np.concatenate([np.linspace(low, high, 300) for low, high in intervals])
    top = grid.max()
    # p(λ) = 1 + ∑ c_k (T_k(s) − T_k(s₀)) with s = 2λ/top − 1: p(0) = 1 in a basis that stays tame.
    basis = np.polynomial.chebyshev.chebvander(2 * grid / top - 1, period)[:, 1:]
    basis = basis - (-1.0) ** np.arange(1, period + 1)
    ones = np.ones((grid.size, 1))
    programme = linprog(
        np.append(np.zeros(period), 1.0),
        A_ub=np.block([[basis, -ones], [-basis, -ones]]),
        b_ub=np.concatenate([-np.ones(grid.size), np.ones(grid.size)]),
        bounds=[(None, None)] * period + [(0, None)],
    )
    assert programme.status == 0
    # The programme sees a grid only, and so a maximum that is a little too small.
    assert minimax_period_rate(intervals, period) == pytest.approx(programme.fun, rel=3e-3)
    assert minimax_period_rate(intervals, period) >= programme.fun * (1 - 1e-7)


@pytest.mark.parametrize("period", [1, 2, 3, 7, 12])
@pytest.mark.parametrize(
    "intervals",
    [TWO, [(1.0, 10.0), (90.0, 100.0)], [(1.0, 2.0), (3.0, 4.0), (50.0, 51.0)]],
    ids=["equal", "far", "three"],
)
def test_the_polynomial_alternates_t_plus_1_times(period, intervals):
    steps = chebyshev_steps_for_intervals(intervals, period)
    assert alternations(steps, intervals) == period + 1


@pytest.mark.parametrize("period", [2, 3, 8, 33])
def test_all_roots_are_simple_and_inside_the_hull(period):
    roots = np.sort(1 / chebyshev_steps_for_intervals(TWO, period).steps)
    assert roots[0] > 1.0
    assert roots[-1] < 5.0
    assert np.diff(roots).min() > 0


def test_an_odd_number_of_steps_puts_one_root_into_a_symmetric_gap():
    roots = 1 / chebyshev_steps_for_intervals(TWO, 3).steps
    assert np.count_nonzero((roots > 2.0) & (roots < 4.0)) == 1


@given(
    st.lists(st.floats(0.01, 100.0), min_size=2, max_size=8, unique=True),
    st.integers(1, 20),
)
def test_a_gap_never_costs_anything(ends, period):
    ends = sorted(ends)[: len(ends) // 2 * 2]
    intervals = list(zip(ends[::2], ends[1::2], strict=True))
    hull = chebyshev_period_rate(SpectralBounds(ends[0], ends[-1]), period)
    assert minimax_period_rate(intervals, period) <= hull * (1 + 1e-6) + 1e-14


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_steps_scale_inversely_with_the_operator(scale):
    reference = chebyshev_steps_for_intervals(TWO, 7).steps
    scaled = chebyshev_steps_for_intervals([(scale, 2 * scale), (4 * scale, 5 * scale)], 7).steps
    np.testing.assert_allclose(scaled * scale, reference, rtol=1e-9)


def test_overlapping_and_unsorted_intervals_are_merged():
    merged = chebyshev_steps_for_intervals([(4.0, 5.0), (1.5, 2.0), SpectralBounds(1.0, 1.7)], 5)
    np.testing.assert_array_equal(merged.steps, chebyshev_steps_for_intervals(TWO, 5).steps)


def test_known_eigenvalues_are_hit_better_than_their_hull():
    points = [(float(x), float(x)) for x in np.linspace(1, 50, 12)]
    assert minimax_period_rate(points, 8) < 0.9 * chebyshev_period_rate(
        SpectralBounds(1.0, 50.0), 8
    )


def test_a_spectrum_is_cut_where_chebyshev_roots_would_be_wasted():
    intervals = spectral_intervals(OUTLIERS, 3, margin=0)
    ends = [(i.lower, i.upper) for i in intervals]
    assert ends == [(1.0, 1000.0), (5000.0, 5000.0), (1e4, 1e4)]


@pytest.mark.parametrize("period", [16, 32, 64])
def test_outliers_are_solved_within_a_sixth_of_the_steps_for_the_hull(period):
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.standard_normal((OUTLIERS.size, OUTLIERS.size)))
    hessian = (basis * OUTLIERS) @ basis.T
    hessian = (hessian + hessian.T) / 2
    truth = rng.standard_normal(OUTLIERS.size)
    schedule = chebyshev_steps_for_intervals(spectral_intervals(OUTLIERS, 5), period)
    result = solve(Quadratic(hessian, hessian @ truth), schedule, rtol=1e-10)
    assert result.status is Status.CONVERGED
    assert result.num_steps < 300
    np.testing.assert_allclose(result.x, truth, rtol=1e-7, atol=1e-7)


def test_a_margin_keeps_rounding_errors_from_being_amplified():
    def tails(margin):
        intervals = spectral_intervals(OUTLIERS, 5, margin=margin)
        schedule = chebyshev_steps_for_intervals(intervals, 32)
        return max(roundoff_amplification(schedule, interval)[1] for interval in intervals)

    assert tails(1e-4) < 3e4
    assert tails(1e-12) > 1e9


def test_no_interval_is_refused():
    with pytest.raises(ValueError, match="`intervals` must hold at least one pair"):
        chebyshev_steps_for_intervals([], 3)


@pytest.mark.parametrize(
    "pair", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (1.0, np.inf), (np.nan, 1.0)]
)
def test_an_interval_out_of_order_is_refused(pair):
    with pytest.raises(ValueError, match=r"`intervals` must satisfy 0 < lower <= upper < inf"):
        chebyshev_steps_for_intervals([(3.0, 4.0), pair], 3)


@pytest.mark.parametrize("intervals", [[1.0, 2.0], [(1.0, 2.0, 3.0)], [("a", "b")]])
def test_what_is_not_a_pair_is_refused(intervals):
    with pytest.raises(TypeError, match="`intervals` must hold pairs of numbers"):
        chebyshev_steps_for_intervals(intervals, 3)


def test_as_many_steps_as_points_are_refused():
    with pytest.raises(ValueError, match=r"number of eigenvalues .* which is 2, got 2"):
        chebyshev_steps_for_intervals([(1.0, 1.0), (3.0, 3.0)], 2)


def test_more_intervals_than_eigenvalues_are_refused():
    with pytest.raises(ValueError, match=r"`num_intervals` must not exceed .* 2, got 3"):
        spectral_intervals([1.0, 2.0, 2.0], 3)


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_margin_that_reaches_zero_is_refused(margin):
    with pytest.raises(ValueError, match="`margin` must be at least 0 and below 1"):
        spectral_intervals([1.0, 2.0], 2, margin=margin)


def test_a_zero_eigenvalue_is_refused():
    with pytest.raises(ValueError, match=r"`eigenvalues` must be positive, got 0\.0"):
        spectral_intervals([0.0, 2.0])


def test_the_rate_on_intervals_ignores_the_gap():
    steps = chebyshev_steps_for_intervals([(1.0, 2.0), (90.0, 100.0)], 4)
    assert worst_case_period_rate_on_intervals(steps, [(1.0, 2.0), (90.0, 100.0)]) < 1
    assert worst_case_period_rate_on_intervals(steps, [(1.0, 100.0)]) > 10


def test_intervals_that_span_more_than_the_floats_are_refused():
    with pytest.raises(ValueError, match="must not span more than the floats do"):
        chebyshev_steps_for_intervals([(1e-300, 1e-300), (1.0, 1e300)], 3)


@pytest.mark.parametrize("period", [1, 3, 5])
def test_an_interval_of_a_few_floats_gives_steps_inside_it(period):
    steps = chebyshev_steps_for_intervals([(1.0, 1.0 + 1e-14)], period).steps
    np.testing.assert_allclose(steps, 1.0, rtol=1e-13)
