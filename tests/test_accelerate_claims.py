"""What is claimed of the guard and of the rates, on the gallery, lassos and published maps."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from gallery import GALLERY

from stepfold import FixedPoint, SpectralBounds, Status, accelerate, chebyshev_steps
from stepfold.accelerate import Anderson, Constant, Steffensen, iterate
from stepfold.iterations import Fista, ProximalGradient
from stepfold.polynomial import spectral_radius
from stepfold.problems import Composite, lasso
from stepfold.run.policies.relaxation import LONGEST_PERIOD
from stepfold.solve import solve

BUDGET = 20_000

mixed = functools.partial(iterate, method=Anderson())


@pytest.mark.parametrize("name", GALLERY)
def test_never_more_than_the_plain_iteration_and_a_little(name: str) -> None:
    member = GALLERY[name](np.random.default_rng(0))
    plain = iterate(member.map, member.start, max_products=BUDGET)
    ours = accelerate(member.map, member.start, max_products=BUDGET)
    assert plain.converged
    assert ours.converged
    most = 1.15 * plain.history.num_products[-1] + LONGEST_PERIOD
    assert ours.history.num_products[-1] <= most


@pytest.mark.parametrize("kappa", [10.0, 100.0, 1000.0])
def test_in_the_long_run_nine_tenths_of_the_predicted_rate_are_reached(kappa: float) -> None:
    # Predicted for periods of T = 1.5√κ (at most 32) on the interval that is [a, b] itself.
    eigenvalues = np.geomspace(1 / kappa, 1.0, 200)
    start = np.random.default_rng(0).standard_normal(200)
    result = accelerate(lambda x: x - eigenvalues * x, start, rtol=1e-11)
    norms, counts = result.history.gradient_norms, result.history.num_products
    late = np.flatnonzero(norms <= 1e-5 * norms[0])[0]
    seen = math.log(norms[-1] / norms[late]) / (counts[-1] - counts[late])
    period = min(math.ceil(1.5 * math.sqrt(kappa)), LONGEST_PERIOD)
    schedule = chebyshev_steps(SpectralBounds(1 / kappa, 1.0), period)
    predicted = math.log(spectral_radius(schedule.steps, eigenvalues)) / period
    assert seen <= 0.9 * predicted  # both are negative


def _published_jacobi() -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    factor = 0.03 * torch.randn(512, 512, generator=generator, dtype=torch.float32)
    factor = factor.double()
    matrix = (torch.eye(512, dtype=torch.float64) + factor.T @ factor).numpy()
    scale = 1 / np.sqrt(np.diag(matrix))
    values: np.ndarray = np.linalg.eigvalsh(scale[:, None] * matrix * scale)
    return values


def test_the_published_rates_of_jacobi() -> None:
    values = _published_jacobi()
    low, high = float(values[0]), float(values[-1])
    assert (low, high) == pytest.approx((0.67658, 1.92162), abs=6e-6)
    bounds = SpectralBounds(low, high)
    jacobi = np.abs(1 - values).max()
    constant = spectral_radius(np.array([2 / (low + high)]), values)
    chebyshev = spectral_radius(chebyshev_steps(bounds, 8).steps, values) ** (1 / 8)
    root = math.sqrt(high / low)
    assert jacobi == pytest.approx(0.92162, abs=6e-6)
    assert constant == pytest.approx(0.47919, abs=6e-6)
    assert chebyshev == pytest.approx(0.27830, abs=6e-6)
    assert (root - 1) / (root + 1) == pytest.approx(0.25520, abs=6e-6)


def _lasso(seed: int) -> Composite[Any]:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((256, 512)) / np.sqrt(256)
    x = np.zeros(512)
    x[rng.choice(512, 51, replace=False)] = rng.standard_normal(51)
    return lasso(matrix, matrix @ x + 0.1 * rng.standard_normal(256), ratio=0.1)


def _until_the_gap(objective: Composite[Any], **options: Any) -> int:
    result = accelerate(
        objective.fixed_point(),
        np.zeros(512),
        rtol=0.0,
        stop=lambda x: bool(objective.gap(x) <= 1e-6),
        max_products=2000,
        **options,
    )
    assert result.converged
    return int(result.history.num_products[-1])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("period", [8, 16, 32])
@pytest.mark.parametrize("ratio", [1e-1, 1e-2, 1e-3])
def test_a_lasso_is_solved_whatever_is_assumed(seed: int, period: int, ratio: float) -> None:
    bounds = SpectralBounds(ratio, 1.0)
    assert _until_the_gap(_lasso(seed), bounds=bounds, period=period) <= 1000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_a_guard_a_lasso_is_not(seed: int) -> None:
    objective = _lasso(seed)
    result = accelerate(
        objective.fixed_point(),
        np.zeros(512),
        bounds=SpectralBounds(1e-3, 1.0),
        period=32,
        guard=False,
        max_products=2000,
    )
    assert not result.converged


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_lasso_takes_fewer_steps_than_fista_and_a_share_of_ista(seed: int) -> None:
    objective = _lasso(seed)
    ours = _until_the_gap(objective)
    ista, fista = (
        solve(objective, iteration=iteration, gap_rtol=0.0, gap_atol=1e-6).num_steps
        for iteration in (ProximalGradient, lambda g: Fista(g, restart=False))
    )
    assert ours <= 0.6 * ista
    assert ours <= fista


MATRIX = np.random.default_rng(5).standard_normal((12, 12)) / 8
RHS = np.ones(12)


def _linear(x: Any) -> Any:
    return MATRIX @ x + RHS


@pytest.mark.parametrize("method", [iterate, mixed, accelerate])
def test_every_method_finds_the_solution_of_a_direct_solver(method: Any) -> None:
    result = method(_linear, np.zeros(12), rtol=1e-12)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.solve(np.eye(12) - MATRIX, RHS), rtol=1e-9)


@pytest.mark.parametrize("method", [iterate, mixed, accelerate])
def test_every_method_serves_tensors(method: Any) -> None:
    weights = torch.from_numpy(MATRIX)
    result = method(lambda x: weights @ x + 1, torch.zeros(12, dtype=torch.float64), rtol=1e-12)
    expected = np.linalg.solve(np.eye(12) - MATRIX, RHS)
    np.testing.assert_allclose(result.x.numpy(), expected, rtol=1e-9)


def test_anderson_with_full_memory_ends_as_gmres_does() -> None:
    result = iterate(_linear, np.zeros(12), Anderson(12), rtol=1e-10)
    assert result.num_steps <= 14


@pytest.mark.parametrize("memory", [1, 2, 5])
def test_anderson_keeps_no_more_than_its_memory(memory: int) -> None:
    assert iterate(np.cos, np.linspace(0, 1, 7), Anderson(memory)).converged


def test_the_best_constant_beats_the_plain_iteration_at_its_own_rate() -> None:
    eigenvalues = np.linspace(0.1, 1.0, 20)
    result = iterate(
        lambda x: x - eigenvalues * (x - 1), np.zeros(20), Constant(SpectralBounds(0.1, 1.0))
    )
    rate = (1.0 - 0.1) / (1.0 + 0.1)
    assert result.num_steps <= math.ceil(math.log(1e-8) / math.log(rate))


def test_steffensen_converges_quadratically() -> None:
    result = iterate(np.cos, np.array([1.0]), Steffensen(), rtol=1e-14)
    assert result.num_steps <= 8
    np.testing.assert_allclose(result.x, 0.7390851332151607, rtol=1e-13)


def test_steffensen_is_for_one_dimension() -> None:
    with pytest.raises(ValueError, match=r"`x0` must hold one number, got shape \(2,\)"):
        iterate(np.cos, np.zeros(2), Steffensen())


def test_a_constant_needs_bounds() -> None:
    with pytest.raises(ValueError, match="`bounds` must be SpectralBounds"):
        Constant(None)  # type: ignore[arg-type]


def test_a_plain_iteration_that_grows_ends_as_diverged() -> None:
    result = iterate(lambda x: 3 * x + 1, np.ones(2))
    assert result.status is Status.DIVERGED
    np.testing.assert_array_equal(result.x, np.ones(2))


@pytest.mark.parametrize("method", [iterate, mixed])
def test_rivals_keep_the_best_iterate_when_the_map_breaks(method: Any) -> None:
    calls: list[int] = []

    def breaks(x: Any) -> Any:
        calls.append(1)
        return _linear(x) * (1.0 if len(calls) < 9 else math.nan)

    result = method(FixedPoint(breaks), np.zeros(12))
    assert result.status is Status.DIVERGED
    assert "Evaluation 9 of the map returned NaN" in result.advice
    assert np.linalg.norm(_linear(result.x) - result.x) < np.linalg.norm(RHS)
