"""Composed, anytime and random steps against worst cases that PEPit finds over all functions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from stepfold import (
    LeastSquares,
    Logistic,
    Quadratic,
    SpectralBounds,
    Status,
    estimate_bounds,
    solve,
)
from stepfold.iterations import ProximalGradient
from stepfold.polynomial import first_order_lower_bound
from stepfold.problems import Composite
from stepfold.problems.penalties import L1
from stepfold.schedules import (
    Schedule,
    anytime_steps,
    arcsine_steps,
    composed_period_rate,
    obs_f_steps,
    obs_g_steps,
    obs_s_steps,
    silver_convex_steps,
)

UNIT = SpectralBounds(0.0, 1.0)
LENGTHS = [1, 2, 3, 4, 6, 7, 12, 31, 100]


def worst_case(steps, *, gradient=False, proximal=False):
    """PEPit's largest f(x_T) − f*, ‖x₀ − x*‖ ≤ 1; of ‖∇f(x_T)‖², f(x₀) − f* ≤ 1; of f + g."""
    pepit = pytest.importorskip("PEPit", reason="PEPit is not installed")
    from PEPit.functions import ConvexFunction, SmoothConvexFunction
    from PEPit.primitive_steps import proximal_step

    programme = pepit.PEP()
    f = programme.declare_function(SmoothConvexFunction, L=1.0)
    g = programme.declare_function(ConvexFunction) if proximal else None
    whole = f if g is None else f + g
    solution = whole.stationary_point()
    x = programme.set_initial_point()
    first = f(x) - f(solution) if gradient else (x - solution) ** 2
    programme.set_initial_condition(first <= 1)
    value = 0.0
    for gamma in steps:
        x = x - gamma * f.gradient(x)
        if g is not None:
            x, _, value = proximal_step(x, g, gamma)
    last = f(x) + value - whole(solution)
    programme.set_performance_metric(f.gradient(x) ** 2 if gradient else last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the solvers' packages
        return programme.solve(verbose=0, wrapper="cvxpy")


def huber(steps, kink):
    """f and f' after gradient steps from 1 on the function with slope x inside ±kink."""
    x = 1.0
    for gamma in steps:
        x -= gamma * min(max(x, -kink), kink)
    size = abs(x)
    value = size**2 / 2 if size <= kink else kink * (size - kink / 2)
    return value, min(size, kink)


@pytest.mark.parametrize("period", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("build", [obs_s_steps, obs_f_steps])
def test_the_rate_is_the_worst_case_over_all_functions(build, period):
    schedule = build(UNIT, period)
    assert worst_case(schedule) == pytest.approx(composed_period_rate(schedule), rel=1e-4)


@pytest.mark.parametrize("period", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("build", [obs_s_steps, obs_g_steps])
def test_the_rate_of_the_gradient_is_the_worst_case_over_all_functions(build, period):
    schedule = build(UNIT, period)
    expected = 4 * composed_period_rate(schedule)
    assert worst_case(schedule, gradient=True) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ended", [2, 4, 8, 12])
def test_anytime_steps_have_their_rate_where_a_silver_schedule_ends(ended):
    schedule = anytime_steps(UNIT, ended)
    assert worst_case(schedule) == pytest.approx(composed_period_rate(schedule), rel=1e-4)


@pytest.mark.parametrize("ended", range(1, 13))
def test_anytime_steps_keep_their_order_of_convergence_after_every_step(ended):
    # The largest constant is 0.309, after 9 steps: the first joint in front of a block of three.
    assert worst_case(anytime_steps(UNIT, 12)[:ended]) <= 0.31 / ended**1.119


@pytest.mark.parametrize("period", [1, 2, 3, 5, 7])
def test_proximal_steps_have_the_worst_case_of_one_over_four_sums(period):
    schedule = obs_s_steps(UNIT, period)
    expected = 1 / (4 * sum(schedule))
    assert worst_case(schedule, proximal=True) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("period", LENGTHS)
@pytest.mark.parametrize("build", [obs_s_steps, obs_f_steps])
def test_a_huber_function_attains_the_rate_and_no_other_kink_exceeds_it(build, period):
    schedule = build(UNIT, period)
    rate = composed_period_rate(schedule)
    values = [huber(schedule, kink)[0] for kink in np.geomspace(1e-4, 1, 301)]
    assert max(values) <= rate * (1 + 1e-12)
    assert huber(schedule, 1 / (1 + 2 * sum(schedule)))[0] == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("period", LENGTHS)
def test_obs_f_balances_a_quadratic_and_a_huber_function(period):
    schedule = obs_f_steps(UNIT, period)
    on_quadratic = math.prod(1 - gamma for gamma in schedule) ** 2 / 2
    assert on_quadratic == pytest.approx(composed_period_rate(schedule), rel=1e-11)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_obs_s_steps_of_a_silver_length_are_silver(k):
    ours, silver = obs_s_steps(UNIT, 2**k - 1), silver_convex_steps(UNIT, 2**k - 1)
    np.testing.assert_allclose(ours, silver, rtol=1e-11)


def test_two_obs_f_steps_are_as_good_as_the_best_that_branch_and_bound_found():
    # Das Gupta, Van Parys and Ryu (arXiv:2203.07305), Table 11.
    assert composed_period_rate(obs_f_steps(UNIT, 2)) == pytest.approx(0.065946, abs=5e-7)


@pytest.mark.parametrize("period", LENGTHS)
def test_obs_f_has_a_better_rate_than_obs_s_and_obs_s_than_constant_steps(period):
    rates = [composed_period_rate(build(UNIT, period)) for build in (obs_f_steps, obs_s_steps)]
    assert rates[0] < rates[1] < 1 / (4 * period + 2)


def test_obs_g_is_obs_f_backwards():
    np.testing.assert_array_equal(obs_g_steps(UNIT, 25).steps, obs_f_steps(UNIT, 25).steps[::-1])


@pytest.mark.parametrize("build", [obs_s_steps, obs_f_steps, obs_g_steps])
def test_a_longer_schedule_has_a_larger_sum(build):
    sums = [sum(build(UNIT, period)) for period in range(1, 65)]
    assert min(np.diff(sums)) > 1


def test_anytime_steps_begin_with_every_shorter_schedule():
    long = anytime_steps(UNIT, 200).steps
    for period in (1, 2, 3, 17, 100):
        np.testing.assert_array_equal(anytime_steps(UNIT, period).steps, long[:period])


@pytest.mark.parametrize("build", [obs_s_steps, obs_f_steps, obs_g_steps, anytime_steps])
def test_steps_scale_with_the_upper_bound(build):
    np.testing.assert_allclose(
        build(SpectralBounds(1.0, 1e25), 9).steps * 1e25, build(UNIT, 9).steps, rtol=1e-14
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("build", [obs_s_steps, obs_f_steps, anytime_steps])
def test_logistic_losses_keep_the_guarantee(build, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((60, 5))
    labels = np.where(rows @ rng.standard_normal(5) + rng.standard_normal(60) > 0, 1.0, -1.0)
    problem = Logistic(rows, labels)
    schedule = build(estimate_bounds(problem), 24)
    best = solve(problem, max_steps=20_000).x
    run = solve(problem, schedule, np.zeros(5), max_steps=24, rtol=0.0, atol=1e-300)
    above = problem.value(run.x) - problem.value(best)
    assert run.num_steps == 24
    assert above <= composed_period_rate(schedule) * (best @ best)


def test_a_semidefinite_quadratic_is_solved_by_periods_of_obs_f():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    hessian = basis * np.array([0.0, *np.linspace(0.05, 1.0, 11)]) @ basis.T
    problem = Quadratic(hessian, hessian @ rng.standard_normal(12))
    result = solve(problem, obs_f_steps(SpectralBounds(0.0, 1.0), 31), rtol=1e-8, max_steps=5000)
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize("seed", range(3))
def test_a_lasso_takes_fewer_silver_steps_than_constant_ones(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((60, 120))
    truth = np.where(np.arange(120) < 8, 3.0, 0.0)
    problem = Composite(LeastSquares(matrix, matrix @ truth), L1(2.0))
    bounds = estimate_bounds(problem.problem)
    taken = [
        solve(problem, schedule, iteration=ProximalGradient, rtol=1e-8, max_steps=20_000)
        for schedule in (
            obs_s_steps(bounds, 15),
            Schedule(np.full(15, 1 / bounds.upper)),
        )
    ]
    assert [run.status for run in taken] == [Status.CONVERGED] * 2
    assert taken[0].num_steps <= 0.7 * taken[1].num_steps


@pytest.mark.parametrize("eigenvalue", [1.0, 1.7, 10.0, 49.0, 100.0])
def test_arcsine_steps_are_equally_good_for_every_eigenvalue(eigenvalue):
    bounds = SpectralBounds(1.0, 100.0)
    steps = arcsine_steps(bounds, 400_000, rng=np.random.default_rng(3)).steps
    logarithms = np.log(np.abs(1 - steps * eigenvalue))
    error = 5 * logarithms.std() / math.sqrt(steps.size)
    assert abs(logarithms.mean() - math.log(first_order_lower_bound(bounds))) <= error


@pytest.mark.parametrize(("inside", "outside"), [(100.0, 1.0), (1.0, 100.0)])
@pytest.mark.parametrize("kink", [1e-3, 0.3])
def test_arcsine_steps_are_as_good_for_a_kinked_function_of_one_variable(inside, outside, kink):
    bounds, num_steps, draws = SpectralBounds(1.0, 100.0), 40, 4000
    steps = arcsine_steps(bounds, num_steps * draws, rng=np.random.default_rng(1)).steps
    x = np.ones(draws)
    for gamma in steps.reshape(num_steps, draws):
        beyond = outside * x + (inside - outside) * kink * np.sign(x)
        x = x - gamma * np.where(np.abs(x) <= kink, inside * x, beyond)
    logarithms = np.log(np.abs(x))
    error = 5 * logarithms.std() / math.sqrt(draws)
    expected = num_steps * math.log(first_order_lower_bound(bounds))
    assert abs(logarithms.mean() - expected) <= error


def test_most_arcsine_steps_solve_a_quadratic_in_a_run_of_their_own_length():
    eigenvalues = np.geomspace(1.0, 50.0, 20)
    problem = Quadratic(np.diag(eigenvalues), np.ones(20))
    schedule = arcsine_steps(SpectralBounds(1.0, 50.0), 100, rng=np.random.default_rng(1))
    result = solve(problem, schedule, rtol=1e-6, max_steps=100)
    assert result.status is Status.CONVERGED


def test_arcsine_steps_are_the_same_for_the_same_seed_and_new_for_a_used_generator():
    bounds, rng = SpectralBounds(1.0, 9.0), np.random.default_rng(0)
    first, second = arcsine_steps(bounds, 5, rng=rng), arcsine_steps(bounds, 5, rng=rng)
    assert first == arcsine_steps(bounds, 5)
    assert first != second
    assert (first.steps >= 1 / 9).all()
    assert (first.steps <= 1).all()


def test_another_schedule_s_sum_is_no_guarantee():
    with pytest.raises(ValueError, match=r"`schedule` must be obs-s, .*got mine in order given"):
        composed_period_rate(Schedule([1.0], "mine"))
    with pytest.raises(ValueError, match=r"in order ascending"):
        composed_period_rate(obs_f_steps(UNIT, 5).reordered("ascending"))


def test_anytime_steps_that_end_within_a_silver_schedule_have_no_guarantee_by_their_sum():
    with pytest.raises(ValueError, match=r"got period 10; take 8 or 12"):
        composed_period_rate(anytime_steps(UNIT, 10))


@pytest.mark.parametrize("build", [obs_s_steps, obs_f_steps, obs_g_steps, anytime_steps])
def test_the_zero_operator_is_refused(build):
    with pytest.raises(ValueError, match=r"`(obs_.|anytime)_steps` needs `bounds.upper > 0`"):
        build(SpectralBounds(0.0, 0.0), 4)


def test_arcsine_steps_need_a_lower_bound():
    with pytest.raises(ValueError, match=r"`arcsine_steps` needs `bounds.lower > 0`"):
        arcsine_steps(UNIT, 4)


def test_a_seed_is_no_generator_and_a_number_no_schedule():
    with pytest.raises(TypeError, match=r"`rng` must be a numpy.random.Generator or None, got int"):
        arcsine_steps(SpectralBounds(1.0, 2.0), 4, rng=3)
    with pytest.raises(TypeError, match=r"`schedule` must be a Schedule, got float"):
        composed_period_rate(0.5)
