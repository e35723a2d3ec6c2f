"""Parameters beside the steps: by name, own or shared, in any iteration or function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stepfold import LeastSquares, Quadratic, Schedule, solve
from stepfold.iterations import (
    BarzilaiBorwein,
    Fista,
    GradientDescent,
    HeavyBall,
    Nesterov,
    ProximalGradient,
    Relaxation,
    SemiIteration,
)
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.penalties import L1
from stepfold.unfolded import (
    BatchedLeastSquares,
    LayerParameters,
    Trainable,
    UnfoldedIteration,
)

STEPS = Schedule([0.2, 0.1, 0.15, 0.12])
DIAGONAL = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64)
RHS = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.2, -4.0]], dtype=torch.float64)
QUADRATIC = Quadratic(torch.diag(DIAGONAL), RHS)

# Each with values that layers replace, and by what.
ITERATIONS = {
    "gradient descent": (GradientDescent(), {}),
    "heavy ball": (HeavyBall(0.3), {"momentum": 0.3}),
    "Nesterov": (Nesterov(0.3), {"momentum": 0.3}),
    "Nesterov of convex functions": (Nesterov(None), {}),
    "semi-iteration": (SemiIteration(0.6), {"contraction": 0.6}),
    "proximal gradient": (ProximalGradient(L1(0.4)), {"penalty.weight": 0.4}),
    "Barzilai–Borwein": (BarzilaiBorwein(), {}),
    "FISTA": (Fista(L1(0.4)), {"penalty.weight": 0.4}),
}


@pytest.mark.parametrize("name", ITERATIONS)
def test_parameters_at_their_old_values_change_nothing(name) -> None:
    iteration, parameters = ITERATIONS[name]
    plain = UnfoldedIteration(STEPS, iteration=iteration)
    network = UnfoldedIteration(STEPS, iteration=iteration, parameters=parameters)
    torch.testing.assert_close(network(QUADRATIC), plain(QUADRATIC), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in ITERATIONS if ITERATIONS[name][1]])
def test_gradients_of_parameters_are_those_of_finite_differences(name) -> None:
    iteration, parameters = ITERATIONS[name]
    ((path, value),) = parameters.items()

    def output(copies: list[float]) -> tuple[UnfoldedIteration, torch.Tensor]:
        network = UnfoldedIteration(STEPS, iteration=iteration, parameters={path: copies})
        return network, network(QUADRATIC).square().sum()

    network, loss = output([value] * 4)
    loss.backward()
    found = network.stacked_parameters()[1].grad
    expected = []
    for index in range(4):
        ends = []
        for sign in (1, -1):
            copies = [value] * 4
            copies[index] += sign * 1e-6
            ends.append(output(copies)[1].item())
        expected.append((ends[0] - ends[1]) / 2e-6)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_each_layer_sees_its_own_threshold() -> None:
    weights = [0.5, 0.1, 0.4, 0.2]
    network = UnfoldedIteration(
        STEPS, iteration=ProximalGradient(L1(1.0)), parameters={"penalty.weight": weights}
    )
    x = np.zeros((2, 3))
    for gamma, weight in zip(STEPS, weights, strict=True):
        v = x - gamma * (x * DIAGONAL.numpy() - RHS.numpy())
        x = np.sign(v) * np.maximum(np.abs(v) - gamma * weight, 0)
    np.testing.assert_allclose(network(QUADRATIC).detach().numpy(), x, rtol=1e-13, atol=1e-15)


def test_the_iteration_that_was_given_is_left_alone() -> None:
    iteration = ProximalGradient(L1(0.4))
    network = UnfoldedIteration(
        STEPS, iteration=iteration, parameters={"penalty.weight": Trainable(0.9, period=1)}
    )
    network(QUADRATIC)
    assert iteration.penalty.weight == 0.4


@pytest.mark.parametrize(("period", "copies"), [(None, 4), (1, 1), (3, 3)])
def test_copies_are_one_per_layer_shared_or_periodic(period, copies) -> None:
    network = UnfoldedIteration(
        STEPS, iteration=HeavyBall(0.1), parameters={"momentum": Trainable(0.1, period)}
    )
    assert network.values("momentum").shape == (copies,)
    network(QUADRATIC).sum().backward()
    assert (network.stacked_parameters()[1].grad[-1] != 0).all()


@pytest.mark.parametrize("period", [1, 2, 3])
def test_periodic_steps_are_the_repeated_schedule(period) -> None:
    head = Schedule(STEPS.steps[:period])
    network = UnfoldedIteration(head, num_layers=7)
    repeated = Schedule([head(t) for t in range(7)])
    assert torch.equal(network(QUADRATIC), UnfoldedIteration(repeated)(QUADRATIC))
    assert network.schedule().steps.tolist() == repeated.steps.tolist()
    assert network.schedule(period) == Schedule(head.steps, "learned")
    assert network.steps.shape == (period,)


def test_relaxation_of_a_fixed_point_unrolls_to_its_formula() -> None:
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    network = UnfoldedIteration(STEPS, iteration=Relaxation())
    x = start.numpy()
    for omega in STEPS:
        x = x + omega * (np.cos(x) - x)
    output = network(FixedPoint(torch.cos), start)
    np.testing.assert_allclose(output.detach().numpy(), x, rtol=1e-14)


def own_step(x: Any, params: LayerParameters, data: Any) -> Any:
    """LISTA's layer: two matrices and a threshold of its own."""
    v = x @ params.inner.T + data @ params.outer.T * params.step
    return torch.sign(v) * torch.relu(v.abs() - params.threshold)


def own_network(**options: Any) -> UnfoldedIteration:
    """Three layers with matrices shared and thresholds of their own."""
    parameters = {
        "inner": Trainable(0.5 * np.eye(3) - 0.1, period=1, constraint=None),
        "outer": Trainable([np.full((3, 2), 0.1 * t) for t in range(3)], constraint=None),
        "threshold": [0.3, 0.2, 0.1],
    }
    options = {"iteration": own_step, "parameters": parameters, **options}
    return UnfoldedIteration(Schedule([1.0]), num_layers=3, **options)


def test_a_step_of_ones_own_sees_the_values_of_its_layer() -> None:
    data = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    x = np.zeros((2, 3))
    for t, threshold in enumerate([0.3, 0.2, 0.1]):
        v = x @ (0.5 * np.eye(3) - 0.1) + data.numpy() @ np.full((2, 3), 0.1 * t)
        x = np.sign(v) * np.maximum(np.abs(v) - threshold, 0)
    network = own_network()
    output = network(data, torch.zeros(2, 3, dtype=torch.float64))
    np.testing.assert_allclose(output.detach().numpy(), x, rtol=1e-13, atol=1e-15)
    learned = network.learned()
    assert {name: values.shape for name, values in learned.items()} == {
        "inner": (1, 3, 3),
        "outer": (3, 3, 2),
        "threshold": (3,),
    }


def test_a_module_may_be_the_step_and_its_weights_are_trained() -> None:
    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, x, params, data):
            return self.weight * (x - params.step * (x - data))

    network = UnfoldedIteration(STEPS, iteration=Denoiser())
    network(RHS, torch.zeros_like(RHS)).sum().backward()
    assert "iteration.weight" in network.state_dict()
    assert network.iteration.weight.grad != 0


def test_iterates_after_every_layer_are_those_of_shorter_networks() -> None:
    network = UnfoldedIteration(STEPS, iteration=HeavyBall(0.2))
    iterates = network(QUADRATIC, every_layer=True)
    for depth, x in enumerate(iterates, start=1):
        assert torch.equal(x, network(QUADRATIC, num_layers=depth))
    assert len(iterates) == 4


@pytest.mark.parametrize("every_layer", [False, True])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 9])
def test_recomputing_changes_no_bit_of_value_or_gradient(every, every_layer) -> None:
    outcomes = []
    for recompute in (None, every):
        network = UnfoldedIteration(
            STEPS,
            iteration=ProximalGradient(L1(0.4)),
            parameters={"penalty.weight": 0.3},
            recompute_every=recompute,
        )
        output = network(QUADRATIC, every_layer=every_layer)
        (torch.stack(output) if every_layer else output).square().sum().backward()
        outcomes.append([output, *(p.grad for p in network.stacked_parameters())])
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=0, atol=0)


def test_recomputing_keeps_less() -> None:
    def kept(recompute: int | None) -> int:
        sizes = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        network = UnfoldedIteration(
            Schedule(np.full(64, 0.1)),
            iteration=ProximalGradient(L1(0.4)),
            recompute_every=recompute,
        )
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(QUADRATIC)
        return sum(sizes)

    assert kept(8) < 0.3 * kept(None)


def _batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.standard_normal((5, 6, 3)) / 3, rng.standard_normal((5, 6))


@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_a_batch_of_matrices_is_as_many_problems(ridge) -> None:
    matrices, rhs = _batch()
    network = UnfoldedIteration(STEPS)
    problem = BatchedLeastSquares(torch.tensor(matrices), torch.tensor(rhs), ridge=ridge)
    together = network(problem).detach().numpy()
    for matrix, row, x in zip(matrices, rhs, together, strict=True):
        one = solve(LeastSquares(matrix, row, ridge=ridge), STEPS, rtol=0.0, max_steps=4)
        np.testing.assert_allclose(x, one.x, rtol=1e-12)
    expected = np.stack([m.T @ m + ridge * np.eye(3) for m in matrices])
    np.testing.assert_allclose(problem.hessian.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("operators", "rhs", "error", "message"),
    [
        (torch.eye(2), torch.ones(2), ValueError, r"shape \(batch, m, n\), got \(2, 2\)"),
        (torch.ones(3, 2, 2), torch.ones(2, 3), ValueError, r"must have shape \(3, 2\) to fit"),
        (torch.ones(0, 2, 2), torch.ones(0, 2), ValueError, r"shape \(batch, m, n\)"),
        (np.ones((3, 2, 2)), torch.ones(3, 2), TypeError, r"`operators` must be a tensor"),
        (torch.ones(3, 2, 2), torch.ones(3, 2).int(), TypeError, r"got torch\.int32"),
        (torch.full((1, 2, 2), torch.nan), torch.ones(1, 2), ValueError, r"`operators` must be f"),
    ],
)
def test_batches_that_are_none_are_refused(operators, rhs, error, message) -> None:
    with pytest.raises(error, match=message):
        BatchedLeastSquares(operators, rhs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_products_in_half_precision_and_stays_near(dtype) -> None:
    matrix = torch.diag(DIAGONAL).float()
    problem = LeastSquares(matrix / 3, RHS.float())
    network = UnfoldedIteration(STEPS)
    exact = network(problem)
    with torch.autocast("cpu", dtype=dtype):
        output = network(problem)
    output.square().sum().backward()
    assert not torch.equal(output, exact)
    torch.testing.assert_close(output.float(), exact, rtol=0.02, atol=0.02)
    assert network.step_values.raw.grad.isfinite().all()


def test_a_state_dict_brings_every_parameter_back() -> None:
    network, other = own_network(), own_network()
    with torch.no_grad():
        for values in network.parameters():
            values.add_(0.5)
    other.load_state_dict(network.state_dict())
    assert all(np.array_equal(a, b) for a, b in zip(*map(_values, (network, other)), strict=True))


def _values(network: UnfoldedIteration) -> list[np.ndarray]:
    return [network.schedule().steps, *network.learned().values()]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_layers": 0}, ValueError, r"`num_layers` must be an integer of at least 1"),
        ({"num_layers": 3}, ValueError, r"the number of steps, 4, got 3; give more layers"),
        ({"iteration": 3}, TypeError, r"`iteration` must be an Iteration or a function"),
        ({"parameters": {"beta": 1.0}}, ValueError, r"attributes of GradientDescent, got 'beta'"),
        ({"recompute_every": 0}, ValueError, r"`recompute_every` must be an integer of at least"),
        (
            {"iteration": ProximalGradient(L1(1.0)), "parameters": {"penalty.wieght": 1.0}},
            ValueError,
            r"got 'penalty\.wieght'; L1 has weight",
        ),
        ({"iteration": own_step, "parameters": {"a b": 1.0}}, ValueError, r"identifiers, .*'a b'"),
        ({"iteration": own_step, "parameters": {"step": 1.0}}, ValueError, r"not 'step'"),
        ({"iteration": own_step, "parameters": {"keys": 1.0}}, ValueError, r"cannot be called"),
        ({"iteration": HeavyBall(0.1), "parameters": {"momentum": -1.0}}, ValueError, r"-1; give"),
        ({"iteration": HeavyBall(0.1), "parameters": {"momentum": np.nan}}, ValueError, "finite"),
        (
            {"iteration": HeavyBall(0.1), "parameters": {"momentum": [0.1, 0.2]}},
            ValueError,
            r"one entry for each of 4 copies, got 2",
        ),
    ],
)
def test_settings_that_fit_nothing_are_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        UnfoldedIteration(STEPS, **options)


def test_a_period_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`period` must be an integer of at least 1, got 0"):
        Trainable(1.0, period=0)


@pytest.mark.parametrize("iteration", [Relaxation(), own_step])
def test_a_start_must_be_given_where_nobody_knows_one(iteration) -> None:
    network = UnfoldedIteration(STEPS, iteration=iteration)
    with pytest.raises(TypeError, match=r"`x0` must be given: only a linear problem"):
        network(FixedPoint(torch.cos))


def test_an_unknown_parameter_is_named_among_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"no parameter 'tau'; there are inner, outer, threshold"):
        own_network().values("tau")
