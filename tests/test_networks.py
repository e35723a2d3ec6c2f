"""What all named networks have in common: they build, run, train and judge themselves."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from stepfold.polynomial import mean_squared_error
from stepfold.schedules import optimal_steps
from stepfold.unfolded.networks import NETWORKS, TrainingSettings

SMALL = {
    "admm": {"side": 12, "num_channels": 4, "batch_size": 2},
    "binary_least_squares": {"num_unknowns": 12, "num_rows": 12, "batch_size": 4},
    "box_least_squares": {"num_problems": 20, "batch_size": 4},
    "consensus": {"batch_size": 4},
    "deblurring": {"side": 12, "batch_size": 2},
    "du_ridge": {"matrix": np.diag([1.0, 2.0, 3.0]), "batch_size": 4},
    "dugd": {"matrix": np.diag([1.0, 2.0, 3.0]), "batch_size": 4},
    "learned_ista": {"num_unknowns": 16, "num_rows": 8, "batch_size": 4},
    "learned_sor": {"num_factors": 2, "num_unknowns": 8, "batch_size": 4},
    "lista": {"num_unknowns": 16, "num_rows": 8, "batch_size": 4},
    "mri": {"side": 16, "num_coils": 2, "batch_size": 1},
    "logistic": {"num_unknowns": 4, "num_rows": 12, "batch_size": 4},
    "tista": {"num_unknowns": 16, "num_rows": 8, "batch_size": 4, "density": 0.5},
    "tomography": {"side": 16, "num_angles": 12, "batch_size": 2},
    "tpg_detector": {"num_sending": 5, "num_receiving": 4, "batch_size": 4},
}


def task_named(name: str):
    return NETWORKS[name](num_layers=2, **SMALL[name])


def test_every_network_has_a_small_version_here() -> None:
    assert set(SMALL) == set(NETWORKS)


@pytest.mark.parametrize("name", SMALL)
def test_training_changes_every_trained_value_and_keeps_it_finite(name) -> None:
    task = task_named(name)
    trained = {key: value for key, value in task.network.named_parameters() if value.requires_grad}
    before = {key: value.detach().clone() for key, value in trained.items()}
    training = dataclasses.replace(task.training, num_iterations=3)
    run = dataclasses.replace(task, training=training).train()
    assert run.schedule.period == 2
    assert np.isfinite(run.history.losses).all()
    assert all(bool(torch.isfinite(v).all()) for v in task.network.parameters())
    assert all(not torch.equal(value, before[key]) for key, value in trained.items())


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_gives_the_same_training_twice(name) -> None:
    runs = []
    for _ in range(2):
        task = task_named(name)
        training = dataclasses.replace(task.training, num_iterations=2, seed=5)
        runs.append(dataclasses.replace(task, training=training).train().history.losses)
    np.testing.assert_array_equal(*runs)


def test_a_training_from_theory_begins_with_a_smaller_loss() -> None:
    first = []
    for start in (None, "theory"):
        task = NETWORKS["learned_ista"](num_layers=8)
        training = dataclasses.replace(
            task.training, strategy="all-at-once", num_iterations=1, start=start
        )
        run = dataclasses.replace(task, training=training).train()
        first.append(run.history.losses[0][0])
    assert first[1] < 0.5 * first[0]


def test_an_unknown_start_of_training_is_refused() -> None:
    with pytest.raises(ValueError, match='`start` must be "theory" or None'):
        TrainingSettings(start="chebyshev")


# Held-out photographs are large: deblurring judges itself in its experiment's tests.
@pytest.mark.parametrize(
    "name",
    [
        "binary_least_squares",
        "du_ridge",
        "learned_ista",
        "lista",
        "mri",
        "tista",
        "tomography",
        "tpg_detector",
    ],
)
def test_figures_of_merit_are_finite_and_do_not_change_the_network(name) -> None:
    task = task_named(name)
    first, second = (dict(task.evaluate(task.network)) for _ in range(2))
    assert first == second
    assert all(math.isfinite(value) for value in first.values())


@pytest.mark.parametrize("name", SMALL)
def test_a_network_without_layers_is_refused(name) -> None:
    with pytest.raises(ValueError, match="num_layers"):
        NETWORKS[name](num_layers=0, **SMALL[name])


def test_dugd_from_theory_ends_at_the_optimum_of_the_published_setting() -> None:
    task = NETWORKS["dugd"](from_theory=True)
    run = task.train()
    best = mean_squared_error(optimal_steps(task.loss.measure, 25), task.loss.measure)
    assert best <= run.history.mean_squared_errors[-1] < 1.001 * best


@pytest.mark.parametrize(("restart", "gamma"), [(False, 0.1 ** (1 / 20)), (True, 0.1 ** (1 / 10))])
def test_the_learning_rate_falls_to_its_end_over_what_one_optimiser_sees(restart, gamma) -> None:
    task = task_named("consensus")
    training = dataclasses.replace(
        task.training,
        num_iterations=10,
        learning_rate=0.01,
        final_learning_rate=0.001,
        restart_optimizer=restart,
    )
    rates: list[float] = []

    def record(optimizer, *_) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_pre_hook(record)
    dataclasses.replace(task, training=training).train()
    handle.remove()
    assert rates[9] == pytest.approx(0.01 * gamma**9)
    assert rates[10] == pytest.approx(0.01 if restart else 0.01 * gamma**10)
    assert rates[-1] * gamma == pytest.approx(0.001)
