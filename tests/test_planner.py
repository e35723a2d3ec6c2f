"""A plan promises no fewer steps than are taken, and says when another tool is better."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

from stepfold import Gram, LeastSquares, Quadratic, SpectralBounds, solve
from stepfold.planner import LONGEST_PERIOD, PERIOD_WITHOUT_LOWER, Plan, plan, relevant_bounds
from stepfold.polynomial import chebyshev_period_rate, worst_case_period_rate
from stepfold.spectrum import Certainty


def _spectrum(name: str) -> np.ndarray:
    return {
        "uniform": np.linspace(1.0, 100.0, 60),
        "geometric": np.geomspace(0.01, 10.0, 60),
        "clustered at both ends": np.r_[np.full(30, 1.0), np.full(30, 300.0)],
        "one small": np.r_[1e-3, np.linspace(1.0, 2.0, 59)],
        "one large": np.r_[np.linspace(1.0, 2.0, 59), 1e3],
        "identity": np.full(60, 2.5),
        "large": 1e120 * np.linspace(1.0, 50.0, 60),
        "small": 1e-120 * np.linspace(1.0, 50.0, 60),
    }[name]


NAMES = (
    "uniform",
    "geometric",
    "clustered at both ends",
    "one small",
    "one large",
    "identity",
    "large",
    "small",
)


def _symmetric(values: np.ndarray, seed: int = 0) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((values.size, values.size)))[0]
    matrix = (q * values) @ q.T
    return (matrix + matrix.T) / 2


def _least_squares(values: np.ndarray, num_rows: int = 80, *, seed: int = 1) -> np.ndarray:
    """Matrix whose Hessian has these eigenvalues."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((num_rows, values.size)))[0]
    right = np.linalg.qr(rng.standard_normal((values.size, values.size)))[0]
    return (left * np.sqrt(values)) @ right.T


def _taken(problem, advice: Plan) -> int:
    result = solve(problem, advice.schedule, rtol=advice.rtol, max_steps=10**6)
    assert result.converged
    return result.num_steps


@pytest.mark.parametrize("rtol", [1e-2, 1e-6, 1e-9])
@pytest.mark.parametrize("name", NAMES)
def test_systems_take_no_more_steps_than_predicted(name, rtol) -> None:
    problem = Quadratic(_symmetric(_spectrum(name)), np.random.default_rng(2).standard_normal(60))
    advice = plan(problem, rtol=rtol)
    assert _taken(problem, advice) <= advice.num_steps < math.inf
    assert advice.num_products == advice.num_steps


@pytest.mark.parametrize("rtol", [1e-3, 1e-8])
@pytest.mark.parametrize("name", ["uniform", "geometric", "one small", "one large"])
def test_least_squares_take_no_more_steps_than_predicted(name, rtol) -> None:
    matrix = _least_squares(_spectrum(name))
    problem = LeastSquares(matrix, np.random.default_rng(3).standard_normal((4, 80)))
    advice = plan(problem, rtol=rtol)
    assert _taken(problem, advice) <= advice.num_steps
    assert advice.num_products == 2 * advice.num_steps


def test_a_right_hand_side_along_the_worst_eigenvector_needs_all_predicted_periods() -> None:
    values = np.linspace(1.0, 100.0, 60)
    problem = Quadratic(np.diag(values), np.eye(60)[0])
    advice = plan(problem, rtol=1e-6)
    assert _taken(problem, advice) > advice.num_steps - advice.schedule.period


@pytest.mark.parametrize("wrap", [aslinearoperator, sp.csr_array])
def test_operators_of_every_kind_take_no_more_steps_than_predicted(wrap) -> None:
    size = 400
    chain = 2.1 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    problem = Quadratic(wrap(chain), np.ones(size))
    advice = plan(problem, rtol=1e-6)
    assert _taken(problem, advice) <= advice.num_steps < math.inf


@pytest.mark.parametrize("rtol", [0.5, 1e-2, 1e-6, 1e-12, 1e-100, 1e-300, 5e-324])
@pytest.mark.parametrize("kappa", [1 + 1e-12, 1.5, 4.0, 100.0, 1e4])
def test_the_period_costs_at_most_a_tenth_more_than_one_long_period(kappa, rtol) -> None:
    bounds = SpectralBounds(1.0, kappa)
    advice = plan(bounds, rtol=rtol)
    single = 1
    while math.log(chebyshev_period_rate(bounds, single) or 5e-324) > math.log(rtol) + 1e-9:
        single += max(1, single // 400)  # by at most a quarter of a per cent too long
    if single <= LONGEST_PERIOD:
        assert advice.num_steps <= 1.1 * single
    assert advice.schedule.period <= min(single, LONGEST_PERIOD)


@pytest.mark.parametrize("rtol", [1e-3, 1e-8])
@pytest.mark.parametrize("kappa", [10.0, 1e3, 1e5])
def test_no_shorter_number_of_equal_periods_would_do(kappa, rtol) -> None:
    # What the plan promises is the whole number of periods that the worst case asks for.
    bounds = SpectralBounds(1.0, kappa)
    advice = plan(bounds, rtol=rtol)
    periods = round(advice.num_steps / advice.schedule.period)
    rate = worst_case_period_rate(advice.schedule, bounds)
    assert rate**periods <= rtol * (1 + 1e-6)
    assert rate ** (periods - 1) > rtol


@pytest.mark.parametrize("period", [1, 7, 64])
def test_a_given_period_is_kept(period) -> None:
    bounds = SpectralBounds(1.0, 50.0)
    advice = plan(bounds, period=period)
    assert advice.schedule.period == period
    assert advice.num_steps % period == 0


def test_bounds_alone_are_enough_and_taken_on_trust() -> None:
    advice = plan(SpectralBounds(1.0, 100.0))
    assert (advice.schedule.period, advice.num_steps) == (38, 76)
    assert any("taken on trust" in sentence for sentence in advice.advice)
    assert [entry.name for entry in advice.alternatives] == [
        "constant step 2/(a + b)",
        "MINRES or conjugate gradients",
    ]


def test_given_bounds_replace_the_estimate() -> None:
    problem = Quadratic(np.diag([1.0, 2.0]), np.ones(2))
    bounds = SpectralBounds(0.5, 3.0)
    assert plan(problem, bounds=bounds).bounds is bounds


@pytest.mark.parametrize(
    ("kappa", "rtol", "dtype"),
    [(10.0, 1e-3, "float32"), (10.0, 1e-6, "float64"), (1e6, 1e-3, "float64")],
)
def test_the_dtype_leaves_the_tolerance_in_reach(kappa, rtol, dtype) -> None:
    advice = plan(SpectralBounds(1.0, kappa), rtol=rtol)
    assert advice.dtype == dtype
    assert not any("Rounding in float64" in sentence for sentence in advice.advice)
    values = np.geomspace(1.0, kappa, 40)
    rhs = np.random.default_rng(4).standard_normal(40)
    problem = Quadratic(_symmetric(values).astype(dtype), rhs.astype(dtype))
    result = solve(problem, advice.schedule, rtol=rtol, max_steps=20 * int(advice.num_steps))
    assert result.converged
    assert result.x.dtype == dtype


@pytest.mark.parametrize(("kappa", "rtol"), [(1e4, 1e-13), (1e12, 1e-6)])
def test_a_tolerance_below_rounding_is_told(kappa, rtol) -> None:
    advice = plan(SpectralBounds(1.0, kappa), rtol=rtol)
    assert advice.dtype == "float64"
    assert any("Rounding in float64 alone" in sentence for sentence in advice.advice)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_an_unknown_lower_end_gives_the_fourth_kind(scale) -> None:
    advice = plan(SpectralBounds(0.0, 9.0 * scale))
    assert advice.schedule.name == "Chebyshev, fourth kind"
    assert advice.schedule.period == PERIOD_WITHOUT_LOWER
    assert advice.num_steps == advice.num_products == math.inf
    assert any("No lower bound above 0 is known" in sentence for sentence in advice.advice)
    assert json.loads(json.dumps(advice.to_dict(), allow_nan=False))["num_steps"] is None


def test_a_singular_system_gives_the_fourth_kind() -> None:
    advice = plan(Quadratic(np.diag([0.0, 1.0, 2.0]), np.ones(3)))
    assert advice.schedule.name == "Chebyshev, fourth kind"
    assert advice.bounds.lower_certainty is Certainty.ASSUMED


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_rank_deficient_least_squares_look_at_the_positive_eigenvalues(shape) -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((shape[0], 5)) @ rng.standard_normal((5, shape[1]))
    rhs = rng.standard_normal(shape[0])
    problem = LeastSquares(matrix, rhs)
    advice = plan(problem, rtol=1e-9)
    values = np.linalg.svd(matrix, compute_uv=False)[:5] ** 2
    assert advice.bounds.lower == pytest.approx(values[-1], rel=1e-9)
    assert any("rank 5" in sentence for sentence in advice.advice)
    assert _taken(problem, advice) <= advice.num_steps
    result = solve(problem, advice.schedule, rtol=1e-9)
    np.testing.assert_allclose(result.x, np.linalg.pinv(matrix, rcond=1e-10) @ rhs, atol=1e-8)


def test_the_bounds_that_matter_are_those_of_the_range() -> None:
    bounds, notes = relevant_bounds(LeastSquares(np.diag([3.0, 2.0, 0.0]), np.ones(3)))
    assert (bounds.lower, bounds.upper) == pytest.approx((4.0, 9.0), rel=1e-12)
    assert len(notes) == 1


@pytest.mark.parametrize(
    "problem",
    [
        SpectralBounds(0.0, 0.0),
        Quadratic(np.zeros((3, 3)), np.ones(3)),
        LeastSquares(np.zeros((4, 3)), np.ones(4)),
        LeastSquares(sp.csr_array((4, 3)), np.ones(4)),
        Quadratic(np.zeros((1, 1)), np.ones(1)),
    ],
)
def test_the_zero_operator_is_refused(problem) -> None:
    with pytest.raises(ValueError, match=r"the operator is zero[;,] every x is a solution"):
        plan(problem)


def test_an_indefinite_operator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"positive semidefinite.*eigenvalue of at most -1"):
        plan(Quadratic(np.diag([-1.0, 1.0]), np.ones(2)))


@pytest.mark.parametrize("rtol", [0.0, 1.0, -1.0, 2.0, math.nan, math.inf])
def test_tolerances_outside_0_and_1_are_refused(rtol) -> None:
    with pytest.raises(ValueError, match=r"`rtol` must lie between 0 and 1, got"):
        plan(SpectralBounds(1.0, 2.0), rtol=rtol)


@pytest.mark.parametrize("period", [0, -1, True])
def test_periods_below_one_are_refused(period) -> None:
    with pytest.raises(ValueError, match=r"`period` must be an integer of at least 1"):
        plan(SpectralBounds(1.0, 2.0), period=period)


@pytest.mark.parametrize(
    ("lower", "upper"), [(1.0, 1e14), (1.0, 1e30), (1e-300, 1e300), (5e-324, 1e308)]
)
def test_ill_conditioned_bounds_are_planned_without_delay(lower, upper) -> None:
    # A loop over all numbers of periods took half a minute at κ = 1e14.
    advice = plan(SpectralBounds(lower, upper))
    assert advice.schedule.period == LONGEST_PERIOD
    assert any("Rounding in float64 alone" in sentence for sentence in advice.advice)
    assert json.dumps(advice.to_dict(), allow_nan=False)


def test_equal_ends_are_solved_in_one_step() -> None:
    advice = plan(SpectralBounds(3.0, 3.0))
    assert (advice.schedule.steps.tolist(), advice.num_steps) == ([1 / 3], 1)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Quadratic(np.diag([1.0, 2.0]), np.ones(2)), "Cholesky (scipy.linalg.solve)"),
        (Quadratic(sp.csr_array(np.diag([1.0, 2.0])), np.ones(2)), "sparse factorisation"),
        (LeastSquares(np.diag([1.0, 2.0]), np.ones(2)), "QR (numpy.linalg.lstsq)"),
    ],
)
def test_direct_methods_are_named_where_they_apply(problem, expected) -> None:
    assert plan(problem).alternatives[-1].name == expected


@pytest.mark.parametrize("num_rows", [60, 2000])
def test_a_direct_method_is_recommended_where_its_operations_are_fewer(num_rows) -> None:
    # Householder QR takes 2mn² operations and a gradient 4mn: n/2 gradients.
    values = np.linspace(1.0, 1e4, 20)
    advice = plan(LeastSquares(_least_squares(values, num_rows), np.ones(num_rows)))
    assert advice.num_steps > 10
    assert advice.alternatives[-1].comment == "costs as much as about 10 steps"


@pytest.mark.parametrize("rtol", [1e-1, 1e-3])
@pytest.mark.parametrize("kappa", [10.0, 1e3])
def test_the_smallest_gradient_of_any_method_is_reached_by_the_products_promised(
    kappa, rtol
) -> None:
    # What MINRES does, by least squares over all polynomials instead of its recurrence; the share
    # √λ of the gradient is one for which conjugate gradients take more steps than that.
    values = np.geomspace(1.0, kappa, 400)
    gradient = np.sqrt(values)
    promised = int(plan(SpectralBounds(1.0, kappa), rtol=rtol).alternatives[1].num_products)
    scaled = (2 * values - 1 - kappa) / (kappa - 1)
    basis = np.polynomial.chebyshev.chebvander(scaled, promised - 1) * values[:, None]
    basis *= gradient[:, None]
    left = basis @ np.linalg.lstsq(basis, gradient)[0] - gradient
    assert np.linalg.norm(left) <= rtol * np.linalg.norm(gradient)


def test_krylov_methods_are_given_fewer_products_and_constant_steps_far_more() -> None:
    values = np.linspace(1.0, 1000.0, 300)
    problem = Quadratic(np.diag(values), np.ones(300))
    advice = plan(problem, rtol=1e-6)
    krylov = advice.alternatives[1]
    assert krylov.name == "MINRES or conjugate gradients"
    assert krylov.num_products <= advice.num_products
    constant = advice.alternatives[0]
    assert constant.num_products > 5 * advice.num_products
    assert json.dumps([entry.to_dict() for entry in advice.alternatives], allow_nan=False)


def test_estimated_ends_are_told() -> None:
    rng = np.random.default_rng(6)
    operator = aslinearoperator(rng.standard_normal((900, 300)) / 30)
    advice = plan(LeastSquares(operator, rng.standard_normal(900)))
    assert any("upper bound is an estimate" in sentence for sentence in advice.advice)
    assert any("lower bound is not guaranteed" in sentence for sentence in advice.advice)
    assert [entry.name for entry in advice.alternatives][1:] == ["LSMR", "coordinate descent"]


def test_a_ridge_term_is_a_lower_bound() -> None:
    problem = LeastSquares(np.ones((4, 6)), np.ones(4), ridge=0.25)
    advice = plan(problem)
    assert advice.bounds.lower == pytest.approx(0.25, rel=1e-12)
    assert isinstance(problem.hessian, Gram)
    assert advice.schedule.name == "Chebyshev"
