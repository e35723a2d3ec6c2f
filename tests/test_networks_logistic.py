"""Tasks of logistic regression: their solutions, and the network before and after training."""

import dataclasses

import numpy as np
import pytest
import torch

from stepfold import solve
from stepfold.iterations import heavy_ball
from stepfold.problems import Logistic
from stepfold.unfolded.networks.logistic import (
    RandomTasks,
    bounds_at_solutions,
    logistic,
    relative_error,
)

TASKS = RandomTasks(5, 30, batch_size=4, dtype=torch.float64)


@pytest.fixture
def sample():
    return TASKS(np.random.default_rng(0))


def test_derivatives_of_the_tasks_are_those_of_their_value(sample) -> None:
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sample.data.value(x).sum(), x)
    torch.testing.assert_close(sample.data.gradient(x), gradient)
    # Tasks do not touch each other: each has a block of the Hessian of the sum.
    blocks = torch.autograd.functional.hessian(lambda v: sample.data.value(v).sum(), x.detach())
    hessians = torch.stack([blocks[row, :, row] for row in range(4)])
    torch.testing.assert_close(sample.data.hessian_at(x), hessians)


def test_solutions_are_those_of_each_problem_by_itself(sample) -> None:
    for row in range(4):
        # The sum over samples in place of the mean: the ridge term is as many times larger.
        data, labels = sample.data.data[row].numpy(), sample.data.labels[row].numpy()
        found = solve(Logistic(data, labels, ridge=30 * TASKS.ridge), rtol=1e-10)
        np.testing.assert_allclose(sample.target[row], found.x, rtol=1e-6, atol=1e-8)


def test_the_largest_curvature_at_zero_is_one_and_the_ridge_term(sample) -> None:
    hessian = sample.data.hessian_at(torch.zeros_like(sample.target))
    top = torch.linalg.eigvalsh(hessian)[:, -1]
    torch.testing.assert_close(top, torch.full_like(top, 1 + TASKS.ridge))


def test_before_training_the_network_is_polyaks_heavy_ball() -> None:
    tasks = RandomTasks()
    sample = tasks(np.random.default_rng(3))
    schedule, iteration = heavy_ball(bounds_at_solutions(tasks), 6)
    state = iteration.init(sample.data, sample.start)
    for step in schedule:
        state = iteration.step(sample.data, state, step)
    with torch.no_grad():
        found = logistic(num_layers=6).network(sample.data, sample.start)
    torch.testing.assert_close(found, iteration.iterate(state), rtol=1e-4, atol=1e-5)


def test_training_ends_nearer_to_the_solutions_of_tasks_it_has_not_seen() -> None:
    task = logistic(num_layers=6)
    sample = RandomTasks(batch_size=500)(np.random.default_rng(7))

    def error() -> float:
        with torch.no_grad():
            return float(relative_error(task.network(sample.data, sample.start), sample))

    before = error()
    training = dataclasses.replace(task.training, num_iterations=120)
    dataclasses.replace(task, training=training).train()
    assert error() < 0.5 * before


@pytest.mark.parametrize("name", ["ridge", "spread", "certainty"])
def test_numbers_of_the_tasks_must_be_positive(name) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be positive and finite, got 0"):
        RandomTasks(**{name: 0.0})
