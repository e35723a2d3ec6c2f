"""Half precision in training: casts that autocast keeps, and scaled losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import Schedule
from stepfold.unfolded import (
    HeldOut,
    Sample,
    SampledLoss,
    UnfoldedIteration,
    all_at_once,
    train,
)

SIZE = 6


class _Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(SIZE, SIZE, bias=False)

    def forward(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
        return (x + params.step * self.inner(y)).to(x.dtype)


def _draw(rng: np.random.Generator) -> Sample:
    y = torch.from_numpy(rng.standard_normal((32, SIZE))).float()
    return Sample(y, 2 * y, 0 * y)


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.02)


def _network(step: Any = None) -> UnfoldedIteration:
    return UnfoldedIteration(Schedule([1.0]), iteration=step or _Step(), dtype=torch.float32)


def _closure() -> Any:
    step = _Step()
    return lambda x, params, y: step(x, params, y)


@pytest.mark.parametrize("make", [_Step, _closure])
@pytest.mark.parametrize(
    "options", [{}, {"batches_per_step": 2}, {"held_out": HeldOut(SampledLoss(_draw), every=10)}]
)
@pytest.mark.parametrize("looked_at_before", [False, True])
def test_training_inside_autocast_uses_the_weights_as_they_are(
    make: Any, options: dict[str, Any], looked_at_before: bool
) -> None:
    # autocast keeps casts of weights until its context ends, those without gradients too.
    network = _network(make())
    y = torch.ones(1, SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        if looked_at_before:
            with torch.no_grad():
                network(y, 0 * y)
        run = train(network, SampledLoss(_draw), all_at_once(1, 150), optimizer=_adam, **options)
        inside = network(y, 0 * y).detach()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(y, 0 * y).detach(), inside, rtol=0, atol=0)
    losses = run.history.losses[0]
    losses = losses[np.isfinite(losses)]
    assert losses[-1] < 0.02 * losses[0]


def test_a_scaler_changes_nothing_but_rounding() -> None:
    runs = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        network = _network()
        train(
            network,
            SampledLoss(_draw),
            all_at_once(1, 20),
            optimizer=_adam,
            scaler=scaler,
            clip_norm=0.5,
        )
        runs.append(network.iteration.inner.weight.detach())
    torch.testing.assert_close(runs[1], runs[0], rtol=1e-5, atol=1e-6)


def test_a_scale_that_is_too_large_is_lowered_and_counted() -> None:
    def criterion(output: Tensor, sample: Sample) -> Tensor:
        return 100 * (output - sample.target).square().mean()

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    loss = SampledLoss(_draw, criterion=criterion)
    run = train(_network(), loss, all_at_once(1, 40), optimizer=_adam, scaler=scaler)
    assert 1 <= run.history.num_skipped[0] <= 10
    assert scaler.get_scale() == 2.0 ** (127 - run.history.num_skipped[0])
    assert run.history.losses[0][-1] < run.history.losses[0][0]


def test_a_resumed_training_with_a_scaler_ends_with_the_same_bits(tmp_path: Any) -> None:
    class Stopped(Exception):
        pass

    def run(at: int = 0, **options: Any) -> tuple[dict[str, Tensor], float]:
        def watch(progress: Any) -> None:
            if progress.done == at:
                raise Stopped

        network = _network(_closure())
        # A scale that grows every few iterations must be in the checkpoint.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**125, growth_interval=3)
        train(
            network,
            SampledLoss(_draw),
            all_at_once(1, 20),
            scaler=scaler,
            callback=watch,
            **options,
        )
        return network.state_dict(), scaler.get_scale()

    whole, scale = run()
    path = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        run(11, checkpoint=path, checkpoint_every=2)
    resumed, same = run(checkpoint=path, resume=True)
    assert same == scale
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_something_else_than_a_scaler_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`scaler` must be a torch\.amp\.GradScaler, got float"):
        train(_network(), SampledLoss(_draw), all_at_once(1, 2), scaler=1024.0)


@pytest.mark.parametrize("size", [1e25, 1e-30])
def test_gradients_whose_norm_overflows_are_finite(size: float) -> None:
    weight = nn.Parameter(torch.ones(3))
    network = UnfoldedIteration(
        Schedule([1.0]),
        iteration=lambda x, params, _y: x + params.step * weight,
        dtype=torch.float32,
    )

    def draw(_rng: np.random.Generator) -> Sample:
        x = torch.zeros(3)
        return Sample(x, x, x)

    def criterion(output: Tensor, _sample: Sample) -> Tensor:
        return size * output.sum()

    run = train(network, SampledLoss(draw, criterion=criterion), all_at_once(1, 3))
    assert run.history.num_skipped[0] == 0


def test_complex_and_sparse_gradients_are_checked() -> None:
    table = nn.Embedding(5, 3, sparse=True)
    turn = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    network = UnfoldedIteration(
        Schedule([1.0]),
        iteration=lambda x, params, y: x + params.step * (table(y) * turn).real,
        dtype=torch.float32,
    )

    def draw(rng: np.random.Generator) -> Sample:
        y = torch.from_numpy(rng.integers(0, 5, 4))
        return Sample(y, torch.ones(4, 3), torch.zeros(4, 3))

    before = turn.detach().clone()
    train(
        network,
        SampledLoss(draw),
        all_at_once(1, 5),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )
    assert not torch.equal(turn.detach(), before)
