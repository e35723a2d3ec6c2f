"""Schedules as learning rates of PyTorch's and optax's optimisers, beside `solve`."""

from __future__ import annotations

import io
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR, SequentialLR

from stepfold import Quadratic, Schedule, SpectralBounds, chebyshev_steps, solve
from stepfold.interop.torch import ScheduleLR

MINE = Schedule([0.5, 0.25, 0.125])


def parameters(num=1):
    return [torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(num)]


def groups(num):
    return torch.optim.SGD([{"params": [p]} for p in parameters(num)], lr=7.0)


def rates(optimizer, scheduler, num_steps):
    taken = []
    for _ in range(num_steps):
        taken.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return taken


def quadratic(seed, num=12):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((num, num)))[0]
    hessian = basis * np.geomspace(1.0, 100.0, num) @ basis.T
    return (hessian + hessian.T) / 2, rng.standard_normal(num)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_steps", [16, 48])
def test_sgd_takes_the_steps_of_solve(seed, num_steps):
    hessian, linear = quadratic(seed)
    schedule = chebyshev_steps(SpectralBounds(1.0, 100.0), 16)
    ours = solve(
        Quadratic(hessian, linear), schedule, guard=None, rtol=0.0, atol=0.0, max_steps=num_steps
    ).x

    x = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    matrix, vector = torch.tensor(hessian), torch.tensor(linear)
    optimizer = torch.optim.SGD([x], lr=1.0)
    scheduler = ScheduleLR(optimizer, schedule)
    for _ in range(num_steps):
        optimizer.zero_grad()
        (x @ matrix @ x / 2 - vector @ x).backward()
        optimizer.step()
        scheduler.step()
    error = np.linalg.norm(x.detach().numpy() - ours)
    assert error <= 1e-12 * np.linalg.norm(ours)


def test_the_schedule_begins_again_after_its_period():
    optimizer = groups(1)
    taken = rates(optimizer, ScheduleLR(optimizer, MINE), 7)
    assert taken == [[MINE(t)] for t in range(7)]


def test_one_schedule_serves_all_groups_and_several_one_each():
    optimizer = groups(2)
    assert rates(optimizer, ScheduleLR(optimizer, MINE), 4) == [[MINE(t)] * 2 for t in range(4)]
    optimizer, other = groups(2), Schedule([3.0, 4.0])
    scheduler = ScheduleLR(optimizer, [MINE, other])
    assert rates(optimizer, scheduler, 4) == [[MINE(t), other(t)] for t in range(4)]


def test_a_saved_state_goes_on_where_it_was_and_loads_as_weights_only():
    optimizer = groups(2)
    scheduler = ScheduleLR(optimizer, [MINE, Schedule([1.0, 2.0])])
    rates(optimizer, scheduler, 4)
    file = io.BytesIO()
    torch.save({"scheduler": scheduler.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    again = groups(2)
    resumed = ScheduleLR(again, [Schedule([9.0]), Schedule([9.0])])
    resumed.load_state_dict(state["scheduler"])
    again.load_state_dict(state["optimizer"])
    assert resumed.last_epoch == 4
    assert rates(again, resumed, 5) == rates(optimizer, scheduler, 5)


def test_changing_a_saved_state_changes_no_scheduler():
    scheduler = ScheduleLR(groups(1), MINE)
    scheduler.state_dict()["_steps"][0][1] = 99.0
    assert scheduler.state_dict()["_steps"] == [MINE.steps.tolist()]


def test_last_epoch_counts_the_steps_that_were_taken():
    optimizer = groups(1)
    rates(optimizer, ScheduleLR(optimizer, MINE), 2)
    assert ScheduleLR(optimizer, MINE, last_epoch=1).get_last_lr() == [MINE(2)]


def test_a_sequence_of_schedulers_begins_each_at_its_first_step():
    optimizer = groups(1)
    parts = [ScheduleLR(optimizer, MINE), ScheduleLR(optimizer, Schedule([5.0, 6.0]))]
    sequence = SequentialLR(optimizer, parts, milestones=[3])
    taken = rates(optimizer, sequence, 6)
    assert taken == [[0.5], [0.25], [0.125], [5.0], [6.0], [5.0]]


def test_a_schedule_follows_a_warm_up():
    optimizer = groups(1)
    parts = [ConstantLR(optimizer, 0.5, total_iters=10), ScheduleLR(optimizer, MINE)]
    taken = rates(optimizer, SequentialLR(optimizer, parts, milestones=[2]), 5)
    assert taken == [[3.5], [3.5], [0.5], [0.25], [0.125]]


def test_chained_schedulers_multiply():
    optimizer = groups(1)
    chain = ChainedScheduler([ScheduleLR(optimizer, MINE), ExponentialLR(optimizer, 0.5)])
    taken = rates(optimizer, chain, 6)
    assert taken == [[MINE(t) * 0.5**t] for t in range(6)]


def test_a_rate_held_in_a_tensor_is_written_in_place():
    rate = torch.tensor(1.0, dtype=torch.float64)
    optimizer = torch.optim.SGD(parameters(), lr=rate)
    scheduler = ScheduleLR(optimizer, MINE)
    assert rates(optimizer, scheduler, 5) == [[MINE(t)] for t in range(5)]
    assert optimizer.param_groups[0]["lr"] is rate
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["last_epoch"] == 5


@pytest.mark.parametrize("num", [1, 3])
def test_as_many_schedules_as_groups_are_asked_for(num):
    with pytest.raises(ValueError, match=rf"one for each of 2 parameter groups, got {num}"):
        ScheduleLR(groups(2), [MINE] * num)


def test_a_group_that_is_added_later_is_refused_by_the_next_step():
    optimizer = groups(1)
    scheduler = ScheduleLR(optimizer, MINE)
    optimizer.step()
    optimizer.add_param_group({"params": parameters()})
    with pytest.raises(ValueError, match=r"make the scheduler after the last `add_param_group`"):
        scheduler.step()


def test_what_is_no_schedule_no_optimiser_or_not_positive_is_refused():
    with pytest.raises(TypeError, match=r"`schedule` must be a Schedule, got float"):
        ScheduleLR(groups(1), 0.5)
    with pytest.raises(TypeError, match=r"`schedule` must be a Schedule, got float"):
        ScheduleLR(groups(1), [0.5])
    with pytest.raises(TypeError, match=r"`optimizer` must be a torch.optim.Optimizer, got list"):
        ScheduleLR(parameters(), MINE)
    with pytest.raises(ValueError, match="must have positive steps"):
        ScheduleLR(groups(1), Schedule([-1.0], signed=True))


def test_another_scheduler_s_state_and_another_number_of_groups_are_refused():
    optimizer = groups(1)
    scheduler = ScheduleLR(optimizer, MINE)
    with pytest.raises(ValueError, match=r"must come from `ScheduleLR.state_dict\(\)`"):
        scheduler.load_state_dict(ExponentialLR(groups(1), 0.5).state_dict())
    with pytest.raises(ValueError, match=r"each of 1 parameter groups, got 2"):
        scheduler.load_state_dict(ScheduleLR(groups(2), MINE).state_dict())


def test_optax_takes_the_steps_of_solve_under_jit():
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install '.[optax]'")
    optax = pytest.importorskip("optax", reason="optax is not installed: pip install '.[optax]'")
    from stepfold.interop.optax import learning_rate

    hessian, linear = quadratic(0)
    schedule = chebyshev_steps(SpectralBounds(1.0, 100.0), 16)
    ours = solve(
        Quadratic(hessian, linear), schedule, guard=None, rtol=0.0, atol=0.0, max_steps=48
    ).x
    with jax.enable_x64(True):
        matrix, vector = jax.numpy.asarray(hessian), jax.numpy.asarray(linear)
        optimizer = optax.sgd(learning_rate(schedule))

        @jax.jit
        def step(x, state):
            updates, state = optimizer.update(matrix @ x - vector, state, x)
            return optax.apply_updates(x, updates), state

        x = jax.numpy.zeros(12)
        state = optimizer.init(x)
        for _ in range(48):
            x, state = step(x, state)
        assert np.linalg.norm(np.asarray(x) - ours) <= 1e-12 * np.linalg.norm(ours)


def test_optax_is_given_single_precision_where_jax_is_set_to_it():
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install '.[optax]'")
    from stepfold.interop.optax import learning_rate

    step = learning_rate(MINE)
    assert [float(jax.jit(step)(t)) for t in range(5)] == [MINE(t) for t in range(5)]
    with pytest.raises(TypeError, match=r"`schedule` must be a Schedule, got list"):
        learning_rate([0.5])


def test_the_example_ends_far_closer_with_chebyshev_steps(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    example = Path(__file__).parent.parent / "examples" / "optimisers.py"
    runpy.run_path(str(example), run_name="__main__")
    constant, ours = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert ours <= 0.05 * constant
