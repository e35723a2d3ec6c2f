"""What a training draws and keeps: the same for a seed, and nothing from looks, skips or others."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import Schedule, SpectralMeasure
from stepfold.unfolded import (
    HeldOut,
    SpectralLoss,
    Stage,
    UnfoldedIteration,
    all_at_once,
    train,
)
from stepfold.unfolded.networks import NETWORKS
from stepfold.unfolded.networks.base import TrainingSettings

SPECTRAL = SpectralLoss(SpectralMeasure.from_eigenvalues([1.0, 2.0, 3.0]))


class Layer(nn.Module):
    """A step with dropout and running averages."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(3, dtype=torch.float64)

    def forward(self, x: Tensor, params: Any, data: Tensor) -> Tensor:
        moved: Tensor = x - params.step * self.dropout(self.norm(x - data))
        return moved


def _with_randomness() -> UnfoldedIteration:
    return UnfoldedIteration(Schedule([0.5, 0.4]), iteration=Layer())


def _torch_loss(network: UnfoldedIteration, num_layers: int, _rng: Any) -> Tensor:
    data = torch.randn(4, 3, dtype=torch.float64)
    output = network(data, torch.ones(4, 3, dtype=torch.float64), num_layers=num_layers)
    squares: Tensor = (output - data).square()
    return squares.mean()


def test_the_same_seed_gives_the_same_run_with_torchs_generators() -> None:
    first, second = (
        train(_with_randomness(), _torch_loss, all_at_once(2, 8), seed=3) for _ in range(2)
    )
    assert first.schedule == second.schedule
    np.testing.assert_array_equal(first.history.losses, second.history.losses)
    assert np.unique(first.history.losses).size == 8
    other = train(_with_randomness(), _torch_loss, all_at_once(2, 8), seed=4)
    assert other.schedule != first.schedule


def test_torchs_generator_is_left_where_it_was() -> None:
    torch.manual_seed(5)
    train(_with_randomness(), _torch_loss, all_at_once(2, 3))
    found = torch.rand(2)
    torch.manual_seed(5)
    assert found.tolist() == torch.rand(2).tolist()


def test_batches_of_a_step_have_draws_of_their_own() -> None:
    seen: list[Tensor] = []

    def loss(network: UnfoldedIteration, _num_layers: int, _rng: Any) -> Tensor:
        seen.append(torch.rand(1))
        return network.steps.sum()

    train(UnfoldedIteration(Schedule([0.5])), loss, all_at_once(1, 3), batches_per_step=2)
    assert len({draw.item() for draw in seen}) == 6


def test_looking_at_held_out_data_changes_nothing() -> None:
    looks: list[float] = []

    def held_out(network: UnfoldedIteration, num_layers: int, rng: Any) -> Tensor:
        assert not network.training
        value = 100 * _torch_loss(network, num_layers, rng)
        looks.append(torch.rand(1).item())
        return value

    plain, looking = _with_randomness(), _with_randomness()
    run = train(plain, _torch_loss, all_at_once(2, 6))
    watched = train(
        looking, _torch_loss, all_at_once(2, 6), held_out=HeldOut(held_out, every=1, patience=99)
    )
    np.testing.assert_array_equal(watched.history.losses, run.history.losses)
    assert len(looks) == 7
    assert len(set(looks)) == 1
    assert looking.training
    assert looking.iteration.norm.training


def test_a_skipped_iteration_leaves_no_trace_in_buffers() -> None:
    calls = []

    def loss(network: UnfoldedIteration, num_layers: int, rng: Any) -> Tensor:
        calls.append(network.iteration.norm.running_mean.tolist())
        data = torch.full((4, 3), np.nan, dtype=torch.float64) if len(calls) == 2 else None
        if data is None:
            return _torch_loss(network, num_layers, rng)
        return network(data, data, num_layers=num_layers).sum()

    network = _with_randomness()
    run = train(network, loss, all_at_once(2, 4))
    assert run.history.num_skipped.tolist() == [1]
    assert calls[2] == calls[1]
    assert network.iteration.norm.running_mean.isfinite().all()


@pytest.mark.parametrize("stages", [[Stage(1, 5)], [Stage(3, 5), Stage(1, 5)]], ids=["one", "two"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.filterwarnings("ignore:steps .* are equal")
def test_layers_outside_a_stage_keep_their_values(optimizer, stages) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        settings = {"weight_decay": 0.5} if optimizer is torch.optim.AdamW else {}
        made: torch.optim.Optimizer = optimizer(parameters, lr=0.01, **settings)
        return made

    network = UnfoldedIteration(Schedule([0.3, 0.3, 0.3]))
    run = train(network, SPECTRAL, stages, optimizer=make)
    before = [0.3, 0.3] if len(stages) == 1 else run.history.steps[-2][1:].tolist()
    assert run.history.steps[-1][1:].tolist() == before
    assert run.history.steps[-1][0] != 0.3


def test_only_layers_of_the_stage_count_in_the_clipped_norm() -> None:
    network = UnfoldedIteration(Schedule([0.3, 0.3, 0.3]))
    run = train(
        network,
        SPECTRAL,
        [Stage(3, 1, first_layer=2)],
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        clip_norm=0.01,
    )
    moved = run.schedule.steps - 0.3
    np.testing.assert_allclose(np.abs(moved), [0, 0, 0.01], rtol=1e-4)


def test_gradients_that_the_optimiser_does_not_clear_are_cleared() -> None:
    network = UnfoldedIteration(Schedule([0.3]), iteration=Layer())
    norms = []

    def loss(network: UnfoldedIteration, num_layers: int, rng: Any) -> Tensor:
        norms.append(network.iteration.norm.weight.grad)
        return _torch_loss(network, num_layers, rng)

    train(
        network,
        loss,
        all_at_once(1, 3),
        optimizer=lambda parameters: torch.optim.SGD(list(parameters)[:1], lr=0.1),
    )
    assert norms == [None, None, None]


def test_a_plateau_is_one_of_the_held_out_loss_where_there_is_one() -> None:
    seen: list[float] = []

    class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics: Any, epoch: Any = None) -> None:
            seen.append(float(metrics))
            super().step(metrics, epoch)

    run = train(
        UnfoldedIteration(Schedule([0.3])),
        SPECTRAL,
        all_at_once(1, 6),
        scheduler=Plateau,
        held_out=HeldOut(lambda network, *_: network.steps.sum(), every=3),
    )
    assert len(seen) == 3  # at the start, and twice
    assert min(seen) == run.history.held_out_losses[0]


def test_a_named_network_stops_early_on_data_of_another_seed() -> None:
    task = NETWORKS["dugd"](num_layers=1, matrix=np.diag([1.0, 2.0]))
    settings = TrainingSettings(num_iterations=400, learning_rate=0.1, patience=2, look_every=5)
    run = dataclasses.replace(task, training=settings).train()
    assert np.isfinite(run.history.losses).sum() < 400
    assert run.history.held_out_losses is not None
