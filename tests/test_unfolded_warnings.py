"""What a training warns of: equal steps, values that do not learn, losses that rise."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stepfold import LeastSquares, Schedule, SpectralMeasure, chebyshev_steps
from stepfold.iterations import HeavyBall, ProximalGradient
from stepfold.problems.penalties import L1
from stepfold.unfolded import (
    Sample,
    SampledLoss,
    SpectralLoss,
    Trainable,
    TrainingWarning,
    UnfoldedIteration,
    all_at_once,
    greedy_then_refined,
    incremental,
    train,
)

MEASURE = SpectralMeasure.marchenko_pastur(0.5)
MATRIX = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 8)) / 3)


def _draw(rng: np.random.Generator) -> Sample:
    x = torch.from_numpy(rng.standard_normal((10, 8)))
    return Sample(LeastSquares(MATRIX, x @ MATRIX.T), x)


def _caught(*arguments: Any, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        train(*arguments, **options)
    assert all(each.category is TrainingWarning for each in seen)
    return [str(each.message) for each in seen]


@pytest.mark.parametrize("steps", [[0.4] * 4, [0.4, 0.5, 0.4, 0.6]])
@pytest.mark.parametrize("loss", [SpectralLoss(MEASURE), SampledLoss(_draw)])
def test_equal_steps_that_stay_equal_are_told(steps: list[float], loss: Any) -> None:
    network = UnfoldedIteration(Schedule(steps))
    with pytest.warns(TrainingWarning, match=r"steps 0,.* are equal, 0\.4, .*incremental"):
        run = train(network, loss, all_at_once(4, 30))
    learned = run.schedule.steps[np.array(steps) == 0.4]
    assert np.ptp(learned) < 1e-6


@pytest.mark.parametrize("depth", [2, 5])
def test_nothing_is_told_of_trainings_that_learn(depth: int) -> None:
    equal, spread = Schedule(np.full(depth, 0.4)), chebyshev_steps(MEASURE.bounds, depth)
    loss = SpectralLoss(MEASURE)
    assert not _caught(UnfoldedIteration(equal), loss, incremental(depth, 30))
    assert not _caught(UnfoldedIteration(spread), loss, all_at_once(depth, 100))
    assert not _caught(UnfoldedIteration(equal), loss, greedy_then_refined(depth, 30))
    # Momentum tells layers apart, and has nothing to act on in the first.
    ball = UnfoldedIteration(equal, iteration=HeavyBall(0.0), parameters={"momentum": 0.2})
    assert not _caught(ball, SampledLoss(_draw), all_at_once(depth, 15))
    ista = UnfoldedIteration(
        equal, iteration=ProximalGradient(L1(0.01)), parameters={"penalty.weight": 0.01}
    )
    assert not _caught(ista, SampledLoss(_draw), incremental(depth, 15))
    # One step that all layers share.
    shared = UnfoldedIteration(Schedule([0.4]), num_layers=depth)
    assert not _caught(shared, loss, all_at_once(depth, 15))


def test_thresholds_above_everything_are_told() -> None:
    network = UnfoldedIteration(
        Schedule([0.4, 0.5]),
        iteration=ProximalGradient(L1(1.0)),
        parameters={"penalty.weight": 100.0},
    )
    with pytest.warns(TrainingWarning, match=r"layer 0, 1 \(from 0\) were exactly 0 in 10 it"):
        train(network, SampledLoss(_draw), all_at_once(2, 20))


def test_a_threshold_that_kills_one_layer_is_told_with_that_and_those_before() -> None:
    def step(x: Tensor, params: Any, problem: Any) -> Tensor:
        v = problem.gradient_step(x, params.step)
        return v - v.clip(-params.threshold, params.threshold)

    network = UnfoldedIteration(
        Schedule([0.4, 0.5, 0.6]),
        iteration=step,
        parameters={"threshold": Trainable([0.01, 100.0, 0.01])},
    )
    told = _caught(network, SampledLoss(_draw), all_at_once(3, 20))
    assert len(told) == 1
    assert "layer 0, 1 (from 0)" in told[0]
    assert "(step, threshold)" in told[0]


@pytest.mark.parametrize("period", [None, 1])
def test_a_parameter_that_the_step_does_not_use_is_told_by_name(period: int | None) -> None:
    network = UnfoldedIteration(
        Schedule([0.4, 0.5]),
        iteration=lambda x, params, problem: problem.gradient_step(x, params.step),
        parameters={"drift": Trainable(0.1, period=period)},
    )
    with pytest.warns(TrainingWarning, match="the gradient of 'drift' was exactly 0"):
        train(network, SampledLoss(_draw), all_at_once(2, 20))


def _hidden(prior: Any) -> Any:
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: Tensor) -> Any:
            return prior(x)

        @staticmethod
        def backward(_context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient

    return Hidden.apply


@pytest.mark.parametrize(
    "use",
    [
        _hidden,
        lambda prior: lambda x: prior(x).detach(),
        lambda prior: torch.no_grad()(prior),
        lambda prior: lambda x: x * (prior is not None),
    ],
    ids=["function", "detached", "no_grad", "unused"],
)
def test_a_module_that_no_gradient_reaches_is_told_by_name(use: Any) -> None:
    prior = torch.nn.Linear(8, 8).double()
    denoise = use(prior)
    network = UnfoldedIteration(
        Schedule([0.4, 0.5]),
        iteration=lambda x, params, problem: (
            problem.gradient_step(x, params.step) + 0.1 * denoise(x)
        ),
        modules={"denoiser": prior},
    )
    told = _caught(network, SampledLoss(_draw), all_at_once(2, 12))
    assert len(told) == 1
    assert "no gradient has reached 'denoiser' in 10 iterations" in told[0]
    prior.requires_grad_(False)
    assert not _caught(network, SampledLoss(_draw), all_at_once(2, 12))


def test_raw_values_that_are_negative_are_told_where_they_are_taken_or_given() -> None:
    network = UnfoldedIteration(Schedule([0.5, 0.3]))
    plain = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network.stacked_parameters()[0].mul_(-1)
    with pytest.warns(TrainingWarning, match="raw values of 'steps'.*`network.export"):
        negative = network.state_dict()
    with pytest.warns(TrainingWarning, match="absolute values"):
        UnfoldedIteration(Schedule([0.5, 0.3])).load_state_dict(negative)
    network.load_state_dict(plain)
    assert network.export()


def test_a_loss_that_rises_is_told_with_its_numbers() -> None:
    network = UnfoldedIteration(chebyshev_steps(MEASURE.bounds, 3))

    def rising(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.01, maximize=True)

    with pytest.warns(TrainingWarning, match=r"the loss rose in stage 1, from .* to .*clip_norm"):
        train(network, SpectralLoss(MEASURE), all_at_once(3, 40), optimizer=rising)


def test_a_loss_that_is_noise_is_not_told() -> None:
    def noise(network: UnfoldedIteration, _num_layers: int, rng: np.random.Generator) -> Tensor:
        return network.steps.sum() * 0 + network.steps[0] + float(rng.random())

    def still(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.0)

    for seed in range(20):
        network = UnfoldedIteration(Schedule([0.5]))
        assert not _caught(network, noise, all_at_once(1, 30), optimizer=still, seed=seed)


@pytest.mark.parametrize(
    ("step", "target", "message"),
    [
        (
            lambda x, p, _y: x + p.step * (x * torch.nan if p.layer == 1 else 1.0),
            1.0,
            r"not finite after layer 1 \(from 0\)",
        ),
        (lambda x, p, y: x + p.step * (y - x), np.nan, "all iterates are finite and the loss is n"),
    ],
)
def test_a_training_that_is_not_finite_is_told_where(
    step: Any, target: float, message: str
) -> None:
    def draw(rng: np.random.Generator) -> Sample:
        y = torch.from_numpy(rng.standard_normal((4, 3)))
        return Sample(y, y + target, 0 * y)

    network = UnfoldedIteration(Schedule([0.4, 0.5]), iteration=step)
    with pytest.raises(ArithmeticError, match=f"the loss is nan.*{message}"):
        train(network, SampledLoss(draw), all_at_once(2, 20))
