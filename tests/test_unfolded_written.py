"""Values of layers that are written into: what is written is what layers use, or it is refused."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import Quadratic, Schedule
from stepfold.iterations import HeavyBall
from stepfold.unfolded import (
    Bounded,
    LayerParameters,
    Positive,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    train,
)

HESSIAN = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
PROBLEM = Quadratic(HESSIAN, torch.ones(3, dtype=torch.float64))


def _network(**options: Any) -> UnfoldedIteration:
    return UnfoldedIteration(Schedule([0.5, 3.0, 0.1]), **options)


WAYS: dict[str, Callable[[Tensor], object]] = {
    "clamp_": lambda steps: steps.clamp_(max=1.0),
    "torch.clamp_": lambda steps: torch.clamp_(steps, max=1.0),
    "out": lambda steps: torch.clamp(steps, max=1.0, out=steps),
    "item": lambda steps: steps.__setitem__(1, 1.0),
    "slice": lambda steps: steps[1:].clamp_(max=1.0),
    "mask": lambda steps: steps.__setitem__(steps > 1, 1.0),
    "row": lambda steps: steps[1].fill_(1.0),
    "unbind": lambda steps: steps.unbind()[1].fill_(1.0),
    "data": lambda steps: steps.data.clamp_(max=1.0),
    "data of a slice": lambda steps: steps.data[1:2].mul_(1 / 3),
    "detach": lambda steps: steps.detach().clamp_(max=1.0),
    "assigned data": lambda steps: setattr(steps, "data", steps.detach().clamp(max=1.0)),
    "copy": lambda steps: steps.copy_(torch.tensor([0.5, 1.0, 0.1], dtype=torch.float64)),
    "init": lambda steps: nn.init.ones_(steps[1:2]),
    "view": lambda steps: steps.view(3, 1)[1].fill_(1.0),
    "foreach": lambda steps: torch._foreach_clamp_max_([steps], 1.0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("constraint", [Positive, None, Bounded(0.0, 4.0)])
def test_what_is_written_into_the_steps_is_what_layers_use(way, constraint) -> None:
    network = _network(constraint=constraint)
    with torch.no_grad():
        WAYS[way](network.steps)
    np.testing.assert_allclose(network.steps.tolist(), [0.5, 1.0, 0.1], rtol=1e-14)
    expected = UnfoldedIteration(Schedule([0.5, 1.0, 0.1]))(PROBLEM)
    torch.testing.assert_close(network(PROBLEM), expected, rtol=1e-12, atol=0)


def test_what_is_written_into_a_parameter_is_what_layers_use() -> None:
    network = _network(iteration=HeavyBall(0.5), parameters={"momentum": 0.5})
    with torch.no_grad():
        network.values("momentum").clamp_(max=0.2)
        network.values("momentum")[0] = 0.1
    other = _network(iteration=HeavyBall(0.5), parameters={"momentum": [0.1, 0.2, 0.2]})
    assert torch.equal(network(PROBLEM), other(PROBLEM))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, nn.Parameter])
def test_steps_are_assigned(kind) -> None:
    network = _network()
    values = [0.3, 0.2, 0.1]
    wide = torch.tensor(values, dtype=torch.float64)
    network.steps = (
        kind(wide) if kind is nn.Parameter else wide if kind is torch.tensor else kind(values)
    )
    assert network.schedule() == Schedule([0.3, 0.2, 0.1], "learned")


@pytest.mark.parametrize("value", [-0.5, torch.nan, torch.inf])
def test_steps_that_the_constraint_cannot_give_are_refused_and_change_nothing(value) -> None:
    network = _network()
    with torch.no_grad(), pytest.raises(ValueError, match=r"'steps' must"):
        network.steps[0] = value
    assert network.steps.tolist() == [0.5, 3.0, 0.1]


@pytest.mark.parametrize("value", [2.0, 2.5])
def test_steps_at_or_beyond_their_bound_are_refused(value) -> None:
    network = UnfoldedIteration(Schedule([0.5]), constraint=Bounded(0.0, 2.0))
    with torch.no_grad(), pytest.raises(ValueError, match=r"`constraint` of 'steps'"):
        network.steps.fill_(value)
    assert network.steps.tolist() == [0.5]


def test_writing_while_gradients_are_recorded_is_refused() -> None:
    network = _network()
    with pytest.raises(RuntimeError, match=r"torch\.no_grad"):
        network.steps.clamp_(max=1.0)
    assert network.steps.tolist() == [0.5, 3.0, 0.1]


def test_a_numpy_view_of_steps_cannot_be_written_into() -> None:
    view = _network().steps.detach().numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1.0


def test_computing_with_steps_is_as_with_any_tensor() -> None:
    network = _network()
    loss = (network.steps[:2] ** 2).sum() + torch.stack(list(network.steps)).max()
    assert type(loss) is Tensor
    loss.backward()
    assert network.step_values.raw.grad is not None
    assert network.step_values.raw.grad.tolist() == [1.0, 7.0, 0.0]
    assert repr(network.steps).startswith("tensor([0.5000, 3.0000, 0.1000]")


def test_a_pickle_of_the_steps_is_a_plain_tensor() -> None:
    buffer = io.BytesIO()
    torch.save(_network().steps.detach(), buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert type(loaded) is Tensor
    assert loaded.tolist() == [0.5, 3.0, 0.1]


@pytest.mark.parametrize("constraint", [Positive, None, Bounded(0.0, 4.0), lambda: Bounded(-1, 9)])
def test_a_network_can_be_saved_and_copied_as_a_whole(constraint) -> None:
    network = _network(
        iteration=HeavyBall(0.5),
        parameters={"momentum": Trainable(0.3, constraint=Bounded(0.0, 1.0))},
        constraint=constraint,
    )
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    for other in (torch.load(buffer, weights_only=False), copy.deepcopy(network)):
        assert torch.equal(other(PROBLEM), network(PROBLEM))
        with torch.no_grad():
            other.steps.mul_(0.5)
        assert network.steps.tolist() == pytest.approx([0.5, 3.0, 0.1])


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf)])
def test_bounds_out_of_order_are_refused(lower, upper) -> None:
    with pytest.raises(ValueError, match=r"`lower` < `upper`, both finite"):
        Bounded(lower, upper)


def test_an_export_is_what_layers_use_and_needs_numpy_alone() -> None:
    network = _network(
        num_layers=5,
        iteration=HeavyBall(0.5),
        parameters={"momentum": Trainable([0.1, 0.2], period=2, constraint=Bounded(0.0, 1.0))},
    )
    with torch.no_grad():
        network.step_values.raw.neg_()  # what training may leave
    values = pickle.loads(pickle.dumps(network.export()))
    assert {type(each) for each in values.values()} == {np.ndarray}
    x = before = np.zeros(3)
    for step, momentum in zip(values["steps"], values["momentum"], strict=True):
        gradient = HESSIAN.numpy() @ x - 1
        x, before = x - step * gradient + momentum * (x - before), x
    np.testing.assert_allclose(network(PROBLEM).detach(), x, rtol=1e-13)


def test_an_export_has_the_weights_of_modules_and_owns_its_numbers() -> None:
    prior = nn.Linear(3, 3, bias=False).double()

    def step(x: Tensor, params: LayerParameters, data: Tensor) -> Tensor:
        return prior(x + params.step * (data - x))

    values = _network(iteration=step).export()
    (name,) = values.keys() - {"steps"}
    np.testing.assert_array_equal(values[name], prior.weight.detach())
    values[name][:] = 0.0
    assert bool((prior.weight != 0).any())


def test_training_leaves_positive_values_in_the_state() -> None:
    network = UnfoldedIteration(Schedule([0.01, 0.02]))

    def loss(network: UnfoldedIteration, _num_layers: int, _rng: np.random.Generator) -> Tensor:
        return (network.step_values.raw + 0.3).square().sum()

    run = train(network, loss, all_at_once(2, 500))
    assert (network.state_dict()["step_values.raw"] > 0.1).all()
    np.testing.assert_array_equal(run.schedule.steps, network.step_values.raw.detach())
