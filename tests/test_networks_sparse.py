"""TISTA and learned ISTA: the posterior mean, the variance that it needs, and what they reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from stepfold.iterations import ProximalGradient
from stepfold.problems.penalties import L1
from stepfold.schedules import Schedule
from stepfold.unfolded import UnfoldedIteration
from stepfold.unfolded.networks.learned_ista import learned_ista, lista
from stepfold.unfolded.networks.sparse_signals import (
    SparseSignals,
    normalised_error,
    soft_threshold,
)
from stepfold.unfolded.networks.tista import TistaStep, posterior_mean, tista


def normal(x: float, variance: float) -> float:
    return math.exp(-x * x / (2 * variance)) / math.sqrt(2 * math.pi * variance)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.7])
@pytest.mark.parametrize("variance", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("seen", [-3.0, -0.4, 0.2, 1.5])
def test_the_posterior_mean_is_the_integral_over_the_prior(seen, variance, density) -> None:
    def weight(x: float) -> float:
        return density * normal(x, 1.0) * normal(seen - x, variance)

    limits = seen - 12 * math.sqrt(variance) - 3, seen + 12 * math.sqrt(variance) + 3
    options = {"points": [0.0, seen], "limit": 200, "epsabs": 0, "epsrel": 1e-11}
    first = quad(lambda x: x * weight(x), *limits, **options)[0]
    total = quad(weight, *limits, **options)[0] + (1 - density) * normal(seen, variance)
    mean = posterior_mean(torch.tensor(seen).double(), torch.tensor(variance), density=density)
    assert mean.item() == pytest.approx(first / total, rel=1e-6)


@pytest.mark.parametrize("seen", [-2.0, -0.3, 0.0, 0.5, 4.0])
def test_the_gradient_of_the_posterior_mean_is_that_of_finite_differences(seen) -> None:
    values = torch.tensor([[seen]]).double().requires_grad_()
    variance = torch.tensor([[0.2]]).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, s: posterior_mean(v, s, density=0.1), (values, variance), eps=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("seen", [20.0, 1e4, -1e4])
def test_the_posterior_mean_of_a_large_value_is_the_value(seen) -> None:
    # As a ratio of densities in float32 this is 0/0: exp(−200) is 0 there.
    mean = posterior_mean(torch.tensor(seen), torch.tensor(1e-6), density=0.1)
    assert mean.item() == pytest.approx(seen, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.5])
def test_the_variance_is_that_of_the_error_after_the_linear_step(gamma) -> None:
    signals = SparseSignals(200, 100, batch_size=2000, snr=20.0, matrix_seed=10)
    problem, target, _ = signals(np.random.default_rng(110))
    step = TistaStep(signals)
    error = torch.from_numpy(np.random.default_rng(1010).normal(0, 0.3, target.shape)).float()
    x = target + error
    residual = problem.rhs - x @ problem.operator.T
    moved = x + gamma * (residual @ torch.linalg.pinv(signals.matrix).T)
    expected = ((moved - target) ** 2).mean().item()
    found = step.variance(residual, torch.tensor(gamma), 200).mean().item()
    assert found == pytest.approx(expected, rel=0.03)


def test_the_variance_is_positive_where_the_residual_is_below_the_noise() -> None:
    signals = SparseSignals(20, 10, batch_size=2)
    variance = TistaStep(signals).variance(torch.zeros(2, 10), torch.tensor(1.0), 20)
    assert (variance > 0).all()
    assert variance.shape == (2, 1)


def test_the_noise_has_the_ratio_asked_for() -> None:
    signals = SparseSignals(300, 150, snr=10.0, batch_size=3000)
    problem, target, _ = signals(np.random.default_rng(0))
    clean = target @ signals.matrix.T
    power = (clean**2).sum() / ((problem.rhs - clean) ** 2).sum()
    assert 10 * math.log10(power) == pytest.approx(10.0, abs=0.1)


def test_a_tenth_of_the_entries_is_not_zero() -> None:
    _, target, _ = SparseSignals(300, 150, batch_size=1000)(np.random.default_rng(0))
    assert (target != 0).double().mean().item() == pytest.approx(0.1, abs=0.003)
    assert target[target != 0].var().item() == pytest.approx(1.0, abs=0.03)


def test_soft_thresholding_is_the_proximal_operator_of_the_l1_norm() -> None:
    values = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(soft_threshold(values, 0.7), L1(0.7).prox(values, 1.0))


def test_learned_ista_before_training_is_ista() -> None:
    task = learned_ista(num_layers=6, num_unknowns=20, num_rows=10, batch_size=3, weight=0.05)
    problem, target, _ = task.loss.sampler(np.random.default_rng(0))
    steps = task.network.schedule()
    ista = UnfoldedIteration(steps, iteration=ProximalGradient(L1(0.05)), dtype=torch.float32)
    start = torch.zeros_like(target)
    torch.testing.assert_close(task.network(problem, start), ista(problem, start))


def test_lista_before_training_is_learned_ista_before_training() -> None:
    options = {"num_layers": 5, "num_unknowns": 20, "num_rows": 10, "batch_size": 3}
    first, second = learned_ista(**options), lista(**options)
    problem, target, _ = first.loss.sampler(np.random.default_rng(0))
    start = torch.zeros_like(target)
    torch.testing.assert_close(
        first.network(problem, start), second.network(problem, start), rtol=1e-4, atol=1e-5
    )


def test_the_normalised_error_of_nothing_is_0_dB() -> None:
    target = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert normalised_error(torch.zeros_like(target), target) == pytest.approx(0.0, abs=1e-6)


def test_a_small_signal_weighs_no_more_than_its_error() -> None:
    # As a mean of ratios this would be 10 log₁₀((0.01 + 9)/2) dB.
    target = torch.tensor([[0.1, 0.0], [1.0, 0.0]])
    output = torch.tensor([[0.4, 0.0], [0.9, 0.0]])
    expected = 10 * math.log10((0.09 + 0.01) / 1.01)
    assert normalised_error(output, target) == pytest.approx(expected, abs=1e-4)


def test_tista_without_training_recovers_noiseless_signals_of_full_rank() -> None:
    # With as many rows as unknowns and step 1 the linear step alone ends at the solution.
    task = tista(num_layers=1, num_unknowns=12, num_rows=12, batch_size=8, snr=120.0)
    problem, target, _ = task.loss.sampler(np.random.default_rng(3))
    assert isinstance(task.network.schedule(), Schedule)
    output = task.network(problem, torch.zeros_like(target))
    torch.testing.assert_close(output, target, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("density", [0.0, 1.0, math.nan])
def test_a_density_that_is_no_share_is_refused(density) -> None:
    with pytest.raises(ValueError, match="`density` must lie between 0 and 1"):
        SparseSignals(8, 4, density=density)


def test_a_ratio_that_is_not_finite_is_refused() -> None:
    with pytest.raises(
        ValueError, match="`snr` must be a finite number of dB, at most 300, got inf"
    ):
        SparseSignals(8, 4, snr=math.inf)


def test_a_tall_matrix_is_refused_by_tista() -> None:
    with pytest.raises(ValueError, match="`num_rows` must be at most `num_unknowns`, 4, got 5"):
        tista(num_unknowns=4, num_rows=5)
