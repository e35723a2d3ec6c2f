"""Optimised fourth-kind steps: the published table, the closed form, and what they guarantee."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.polynomial import residual_polynomial
from stepfold.schedules import SCHEDULES, optimised_fourth_kind_steps, smoothing_constant

# The weights β of Lottes (arXiv:2202.08830), as published: 14 decimals.
TABLE = """
1.12500000000000
1.02387287570313 1.26408905371085
1.00842544782028 1.08867839208730 1.33753125909618
1.00391310427285 1.04035811188593 1.14863498546254 1.38268869241000
1.00212930146164 1.02173711549260 1.07872433192603 1.19810065292663 1.41322542791682
1.00128517255940 1.01304293035233 1.04678215124113 1.11616489419675 1.23829020218444
  1.43524297106744
1.00083464397912 1.00843949430122 1.03008707768713 1.07408384092003 1.15036186707366
  1.27116474046139 1.45186658649364
1.00057246631197 1.00577427662415 1.02050187922941 1.05019803444565 1.10115572984941
  1.18086042806856 1.29838585382576 1.46486073151099
1.00040960072832 1.00412439506106 1.01460212148266 1.03561113626671 1.07139972529194
  1.12688273710962 1.20785219140729 1.32121930716746 1.47529642820699
1.00030312229652 1.00304840660796 1.01077022715387 1.02619011597640 1.05231724933755
  1.09255743207549 1.15083376663972 1.23172250870894 1.34060802024460 1.48386124407011
1.00023058595209 1.00231675024028 1.00817245396304 1.01982986566342 1.03950210235324
  1.06965042700541 1.11305754295742 1.17290876275564 1.25288300576792 1.35725579919519
  1.49101672564139
1.00017947200828 1.00180189139619 1.00634861907307 1.01537864566306 1.03056942830760
  1.05376019693943 1.08699862592072 1.13259183097913 1.19316273358172 1.27171293675110
  1.37169337969799 1.49708418575562
1.00014241921559 1.00142906932629 1.00503028986298 1.01216910518495 1.02414874342792
  1.04238158880820 1.06842008128700 1.10399010936759 1.15102748242645 1.21171811910125
  1.28854264865128 1.38432619380991 1.50229418757368
1.00011490538261 1.00115246376914 1.00405357333264 1.00979590573153 1.01941300472994
  1.03401425035436 1.05480599606629 1.08311420301813 1.12040891660892 1.16833095655446
  1.22872122288238 1.30365305707817 1.39546814053678 1.50681646209583
1.00009404750752 1.00094291696343 1.00331449056444 1.00800294833816 1.01584236259140
  1.02772083317705 1.04459535422831 1.06750761206125 1.09760092545889 1.13613855366157
  1.18452361426236 1.24432087304475 1.31728069083392 1.40536543893560 1.51077872501845
1.00007794828179 1.00078126847253 1.00274487974401 1.00662291017015 1.01309858836971
  1.02289448329337 1.03678321409983 1.05559875719896 1.08024848405560 1.11172607131497
  1.15112543431072 1.19965584614973 1.25865841744946 1.32962412656664 1.41421360695576
  1.51427891730346
"""
WEIGHTS = [
    np.array(row.split(), dtype=float) for row in TABLE.strip().replace("\n  ", " ").split("\n")
]


def test_the_table_holds_degrees_1_to_16():
    assert [len(row) for row in WEIGHTS] == list(range(1, 17))


@pytest.mark.parametrize("weights", WEIGHTS, ids=len)
def test_the_closed_form_is_the_published_table_to_its_14_decimals(weights):
    # Lottes adds βᵢ times the i-th correction of the plain fourth-kind iteration, whose error
    # polynomial is wᵢ(sin²φ) = sin((2i+1)φ) / ((2i+1) sin φ): p = 1 + Σ βᵢ (wᵢ − wᵢ₋₁).
    phi = np.linspace(0.01, math.pi / 2, 4 * len(weights) + 3)
    degrees = np.arange(len(weights) + 1)[:, None]
    w = np.sin((2 * degrees + 1) * phi) / ((2 * degrees + 1) * np.sin(phi))
    eigenvalues = np.sin(phi) ** 2
    steps = optimised_fourth_kind_steps(SpectralBounds(0.0, 1.0), len(weights))
    p = residual_polynomial(steps, eigenvalues)
    fitted, *_ = np.linalg.lstsq(np.diff(w, axis=0).T, p - 1)
    # The last decimal of the table is not rounded: in 40 digits they differ by up to 1.2e-14.
    np.testing.assert_allclose(fitted, weights, rtol=0, atol=2e-14)


@pytest.mark.parametrize("period", [1, 2, 3, 4, 9, 32, 200])
def test_the_steps_follow_the_cosine_formula(period):
    theta, j = math.pi / (4 * period + 2), np.arange(1, period + 1)
    formula = 2 * np.cos(theta) ** 2 / (3.0 * (np.cos((4 * j - 2) * theta) + np.cos(2 * theta)))
    steps = optimised_fourth_kind_steps(SpectralBounds(0.0, 3.0), period).steps
    np.testing.assert_allclose(np.sort(steps), np.sort(formula), rtol=1e-11)


@pytest.mark.parametrize("period", [1, 2, 3, 8, 31])
def test_the_residual_polynomial_is_a_third_kind_one_in_closed_form(period):
    theta = math.pi / (4 * period + 2)
    phi = np.linspace(0.0, math.pi - 2 * theta, 400)
    eigenvalues = 5.0 * (np.cos(phi) + np.cos(2 * theta)) / (1 + np.cos(2 * theta))
    closed = np.sin(theta) * np.cos((2 * period + 1) * phi / 2) / np.cos(phi / 2)
    steps = optimised_fourth_kind_steps(SpectralBounds(0.0, 5.0), period)
    values = residual_polynomial(steps, eigenvalues)
    np.testing.assert_allclose(values, (-1) ** period * closed, rtol=0, atol=1e-12)


def largest_quotient(steps, upper):
    """``max λp²/(1 − p²)`` on a grid that is fine where p oscillates; p(0) = 1 by its limit."""
    eigenvalues = upper * np.sin(np.linspace(0.0, math.pi / 2, 20_001)[1:]) ** 2
    squares = residual_polynomial(steps, eigenvalues) ** 2
    if squares.max() >= 1:
        return math.inf
    return max(float((eigenvalues * squares / (1 - squares)).max()), 1 / (2 * np.sum(steps)))


@pytest.mark.parametrize("period", [1, 2, 3, 4, 8, 20])
def test_the_guarantee_is_attained_and_the_plain_fourth_kind_has_its_own(period):
    bounds = SpectralBounds(0.0, 2.5)
    optimised = largest_quotient(optimised_fourth_kind_steps(bounds, period), 2.5)
    plain = largest_quotient(chebyshev_steps(bounds, period, kind=4), 2.5)
    assert optimised == pytest.approx(smoothing_constant(bounds, period), rel=1e-5)
    assert plain == pytest.approx(3 * 2.5 / (4 * period * (period + 1)), rel=1e-5)
    assert optimised < plain


@given(st.lists(st.floats(0.05, 30.0), min_size=1, max_size=8))
def test_no_steps_have_a_smaller_constant(steps):
    constant = smoothing_constant(SpectralBounds(0.0, 1.0), len(steps))
    assert largest_quotient(steps, 1.0) >= constant * (1 - 1e-4)


@pytest.mark.parametrize("period", [1, 2, 4, 7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_neighbour_of_the_optimum_is_better(period, seed):
    rng = np.random.default_rng(seed)
    steps = optimised_fourth_kind_steps(SpectralBounds(0.0, 1.0), period).steps
    moved = steps * (1 + 0.02 * rng.standard_normal((50, period)))
    constant = smoothing_constant(SpectralBounds(0.0, 1.0), period)
    assert min(largest_quotient(row, 1.0) for row in moved) >= constant


def test_the_family_is_found_by_name_and_rebuilt_for_other_bounds():
    schedule = SCHEDULES["chebyshev-fourth-kind-optimised"](SpectralBounds(0.0, 2.0), 6)
    wider = SpectralBounds(0.0, 4.0)
    assert schedule.rebuilt(wider) == optimised_fourth_kind_steps(wider, 6)
    np.testing.assert_allclose(2 * schedule.rebuilt(wider).steps, schedule.steps, rtol=1e-14)


def test_the_zero_operator_is_refused():
    with pytest.raises(ValueError, match=r"`optimised_fourth_kind_steps` needs `bounds.upper > 0`"):
        optimised_fourth_kind_steps(SpectralBounds(0.0, 0.0), 2)
    with pytest.raises(ValueError, match=r"`bounds.upper` must be positive"):
        smoothing_constant(SpectralBounds(0.0, 0.0), 2)
