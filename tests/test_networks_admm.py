"""ADMM with networks in its layers: its data step, its fixed point, and what is shared."""

import dataclasses

import numpy as np
import pytest
import torch

from stepfold.unfolded.networks.admm import (
    Deconvolution,
    admm,
    admm_step,
    posed,
    posed_patches,
    untied,
)
from stepfold.unfolded.networks.blur import Blurred, BlurredPatches, blur_matrix
from stepfold.unfolded.networks.photographs import HELD_OUT, photographs
from stepfold.unfolded.samplers import Sample

SHAPE = (2, 9, 9)


@pytest.fixture
def blurred():
    generator = torch.Generator().manual_seed(0)
    return Blurred(blur_matrix(9, 0.8).double(), torch.rand(SHAPE, generator=generator).double())


@pytest.mark.parametrize("gamma", [0.1, 1.0, 300.0])
def test_the_data_step_is_the_proximal_operator_of_the_squares(blurred, gamma) -> None:
    v = torch.linspace(0, 1, 162, dtype=torch.float64).reshape(SHAPE)
    x = Deconvolution.of(blurred).proximal(v, gamma)
    # The gradient of ½‖Kx − y‖² + ‖x − v‖²/(2γ) is 0 there.
    gradient = x - blurred.gradient_step(x, 1.0) + (x - v) / gamma
    assert float(gradient.abs().max()) < 1e-12 * (1 + 1 / gamma)


def test_with_a_quadratic_prior_it_ends_at_the_ridge_solution(blurred) -> None:
    data, ridge, step = Deconvolution.of(blurred), 0.05, 0.02
    gamma = 100 * step
    state = (blurred.seen, torch.zeros(SHAPE, dtype=torch.float64))
    for _ in range(400):
        state = admm_step(state, data, step, lambda v: v / (1 + gamma * ridge))
    z = state[0]
    gradient = z - blurred.gradient_step(z, 1.0) + ridge * z
    assert float(gradient.abs().max()) < 1e-10


def test_before_training_layers_solve_for_the_data_and_correct_nothing() -> None:
    task = admm(num_layers=3, side=12, num_channels=2, batch_size=2)
    sample = posed_patches(_patches(), np.random.default_rng(0))
    with torch.no_grad():
        z, u = task.network(sample.data, sample.start)
    x = sample.start[0]
    for step in task.network.schedule():
        x = sample.data.proximal(x, 100 * step)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(u, torch.zeros_like(u))


def test_untied_layers_begin_as_the_shared_one_and_then_part() -> None:
    task = admm(num_layers=3, side=12, num_channels=2, batch_size=2, shared=True)
    _train(task, 3)
    network = untied(task.network)
    sample = posed_patches(_patches(), np.random.default_rng(1))
    with torch.no_grad():
        torch.testing.assert_close(
            network(sample.data, sample.start), task.network(sample.data, sample.start)
        )
    _train(dataclasses.replace(task, network=network), 3)
    last = [layer.prior[-1].weight for layer in network.iteration]
    assert not torch.equal(last[0], last[1])
    assert not torch.equal(last[1], last[2])


def test_a_shared_network_is_counted_once() -> None:
    sizes = [
        sum(
            p.numel()
            for p in admm(num_layers=4, num_channels=2, shared=shared).network.parameters()
        )
        for shared in (True, False)
    ]
    assert sizes[1] - 4 == 4 * (sizes[0] - 4)


def test_training_restores_other_photographs_better_than_the_layers_did_before() -> None:
    task = admm(num_layers=2, side=20, num_channels=6)
    patches = BlurredPatches(photographs(HELD_OUT), side=48, batch_size=8)
    sample = posed(patches(np.random.default_rng(2)))

    def error() -> float:
        with torch.no_grad():
            return float(task.loss.criterion(task.network(sample.data, sample.start), sample))

    before = error()
    _train(task, 100)
    assert error() < 0.97 * before


def _patches(side: int = 12, count: int = 2) -> BlurredPatches:
    rng = np.random.default_rng(5)
    pictures = [np.kron(rng.random((10, 10)), np.ones((4, 4))) for _ in range(3)]
    return BlurredPatches(pictures, side=side, batch_size=count)


def _train(task, count: int) -> None:
    training = dataclasses.replace(task.training, num_iterations=count)
    dataclasses.replace(task, training=training).train()


def test_a_posed_batch_starts_from_the_blurred_pictures() -> None:
    sample = _patches()(np.random.default_rng(0))
    found = posed(sample)
    assert isinstance(found, Sample)
    torch.testing.assert_close(found.start[0], sample.start)
    assert not found.start[1].any()
