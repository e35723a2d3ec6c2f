"""What is trained beside the steps: from where, under which constraint, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import LeastSquares, Schedule
from stepfold.iterations import HeavyBall
from stepfold.problems.fixed_point import FixedPoint
from stepfold.unfolded import (
    LayerParameters,
    Sample,
    SampledLoss,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    train,
)
from stepfold.unfolded.criteria import squared_error, squared_residual

ONES = torch.ones(4, 3, dtype=torch.float64)


def scaled(x: Tensor, params: LayerParameters, data: Tensor) -> Tensor:
    """A step that moves by ``step·w`` towards the data."""
    return x - params.step * params.w * (x - data)


def made(step: Any = scaled, **options: Any) -> UnfoldedIteration:
    """Two layers of a step, with one value in each."""
    return UnfoldedIteration(Schedule([0.5]), num_layers=2, iteration=step, **options)


def towards_ones(_rng: np.random.Generator) -> Sample:
    """The same problem every time."""
    return Sample(ONES, ONES, 0 * ONES)


class Weighted(nn.Module):
    """A step with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x: Tensor, params: LayerParameters, data: Tensor) -> Tensor:
        return x - params.step * self.weight * (x - data)


def test_a_value_that_starts_at_zero_is_trained() -> None:
    network = made(parameters={"w": 0.0})
    run = train(network, SampledLoss(towards_ones), all_at_once(2, 50))
    assert (run.parameters["w"] > 0.05).all()


@pytest.mark.parametrize("original", [-0.7, 0.7])
def test_the_slope_of_positive_values_is_the_sign(original) -> None:
    network = made(parameters={"w": 0.7})
    with torch.no_grad():
        network.stacked_parameters()[1].fill_(original)
    network.values("w").sum().backward()
    assert network.values("w").tolist() == [0.7, 0.7]
    assert network.stacked_parameters()[1].grad.tolist() == [np.sign(original)] * 2


def test_fixed_steps_leave_the_weights_of_a_module_trainable() -> None:
    step = Weighted()
    network = made(step, train_steps=False)
    run = train(network, SampledLoss(towards_ones), all_at_once(2, 20))
    assert step.weight > 0.31
    assert run.schedule.steps.tolist() == [0.5, 0.5]


def test_weights_that_the_caller_has_frozen_stay_frozen() -> None:
    step = Weighted().requires_grad_(False)
    made(step)
    assert not step.weight.requires_grad


def test_a_run_does_not_restore_a_module_of_ones_own() -> None:
    network = made(Weighted())
    run = train(network, SampledLoss(towards_ones), all_at_once(2, 2))
    with pytest.raises(ValueError, match=r"Weighted, has learned \(weight\); keep `network\.state"):
        network.restore(run)


class Softplus(nn.Softplus):
    """With an inverse."""

    def right_inverse(self, values: Tensor) -> Tensor:
        return torch.log(torch.expm1(values))


class Polar(nn.Module):
    """Two tensors make one."""

    def forward(self, size: Tensor, direction: Tensor) -> Tensor:
        return size * direction

    def right_inverse(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return values.abs(), values.sign()


class Unit(nn.Module):
    """Values between 0 and 1."""

    def forward(self, values: Tensor) -> Tensor:
        return values.clip(0, 1)

    def right_inverse(self, values: Tensor) -> Tensor:
        return values


class Total(Unit):
    """Loses the shape."""

    def forward(self, values: Tensor) -> Tensor:
        return values.sum()


def test_a_constraint_of_ones_own_starts_from_the_initial_value_and_is_trained() -> None:
    network = made(parameters={"w": Trainable(0.1, constraint=Softplus)})
    assert network.values("w").tolist() == pytest.approx([0.1, 0.1], rel=1e-12)
    run = train(network, SampledLoss(towards_ones), all_at_once(2, 5))
    again = made(parameters={"w": Trainable(0.1, constraint=Softplus)})
    again.restore(run)
    np.testing.assert_allclose(again.learned()["w"], run.parameters["w"], rtol=1e-12)


@pytest.mark.parametrize(
    ("constraint", "initial", "error", "message"),
    [
        (nn.Softplus, 0.1, ValueError, r"'w' must give .*gives 0\.744\S* for 0\.1; .*right_inver"),
        (Polar, 0.1, ValueError, r"`constraint` of 'w' .*`right_inverse` that returns one .*tuple"),
        (Unit, [0.5, 3.0], ValueError, r"gives 1 for 3; give `initial` values that it can take"),
        (
            Softplus,
            0.0,
            ValueError,
            r"reaches the `initial` values from infinity only, .*give others",
        ),
        (Total, 0.5, ValueError, r"keep shape and dtype, \(2,\) of torch\.float64, got \(\)"),
        (dict, 0.5, TypeError, r"`constraint` of 'w' must make a torch\.nn\.Module, got dict"),
    ],
)
def test_constraints_that_do_not_fit_are_refused(constraint, initial, error, message) -> None:
    with pytest.raises(error, match=message):
        made(parameters={"w": Trainable(initial, constraint=constraint)})


def test_empty_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`initial` of 'w' must hold numbers, got shape \(0,\)"):
        made(parameters={"w": np.zeros(0)})


@pytest.mark.parametrize("constraint", [{}, {"constraint": None}])
def test_complex_values_are_refused(constraint) -> None:
    with pytest.raises(TypeError, match=r"`initial` of 'w' must be real, got torch\.complex128; t"):
        made(parameters={"w": Trainable(1j, **constraint)})


@pytest.mark.parametrize(
    ("iteration", "name"), [(None, "step"), (None, "init"), (HeavyBall(0.1), "iterate")]
)
def test_methods_of_an_iteration_are_no_parameters(iteration, name) -> None:
    with pytest.raises(ValueError, match=f"must name values.*got '{name}', a method"):
        UnfoldedIteration(Schedule([0.5]), iteration=iteration, parameters={name: 1.0})


def test_complex_data_are_trained_by_squared_moduli() -> None:
    rng = np.random.default_rng(0)
    matrix, target = (rng.standard_normal((2, *shape)) for shape in ((6, 3), (4, 3)))
    matrix, target = matrix[0] + 1j * matrix[1], target[0] + 1j * target[1]
    problem = LeastSquares(torch.tensor(matrix), torch.tensor(target @ matrix.T))
    network = UnfoldedIteration(Schedule([0.02]))
    # From 0 one step leaves x − γAᴴA x.
    hessian = (matrix.conj().T @ matrix).T
    error = target - 0.02 * target @ hessian
    sample = Sample(problem, torch.tensor(target))
    output = network(problem)
    assert squared_error(output, sample).item() == pytest.approx((abs(error) ** 2).mean())
    residual = (abs(error @ hessian) ** 2).mean()
    assert squared_residual(output, sample).item() == pytest.approx(residual)
    run = train(network, SampledLoss(lambda _rng: sample), all_at_once(1, 20))
    assert run.history.losses[0, -1] < run.history.losses[0, 0]


@pytest.mark.parametrize(
    ("data", "start", "criterion", "message"),
    [
        (ONES, (ONES, ONES), squared_error, r"`squared_error` compares a tensor .*got tuple and T"),
        (FixedPoint(torch.cos), (ONES, ONES), squared_residual, r"FixedPoint and tuple; give a `c"),
        (ONES, ONES, squared_residual, r"`squared_residual` needs a problem .*got Tensor and Ten"),
    ],
)
def test_losses_of_states_that_are_no_tensors_ask_for_a_criterion(
    data, start, criterion, message
) -> None:
    loss = SampledLoss(lambda _rng: Sample(data, ONES, start), criterion=criterion)
    with pytest.raises(TypeError, match=message):
        loss(made(lambda x, _params, _data: x), 2, np.random.default_rng(0))
