"""Steps of one's own: which states they hand on, what is refused where, and precisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stepfold import Schedule
from stepfold.iterations import ProximalGradient
from stepfold.problems import LeastSquares
from stepfold.problems.penalties import L1
from stepfold.unfolded import (
    BatchedLeastSquares,
    Sample,
    SampledLoss,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    train,
)

START = torch.ones(4, 3, dtype=torch.float64)


def _network(step: Callable[..., Any], num_layers: int = 3, **options: Any) -> UnfoldedIteration:
    return UnfoldedIteration(Schedule([0.5]), iteration=step, num_layers=num_layers, **options)


def _late(wrong: Callable[[Tensor], Any], layer: int = 1) -> Callable[..., Any]:
    """A step that is right in all layers but one."""
    seen: list[int] = []

    def step(x: Any, params: Any, _data: Any) -> Any:
        seen.append(len(seen))
        return wrong(x) if seen[-1] == layer else x - params.step * x

    return step


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda x: x[:, :2],
            ValueError,
            r"in the shape .*\(4, 3\), got \(4, 2\) in layer 1 \(from 0\); start",
        ),
        (lambda x: x.mT, ValueError, r"\(4, 3\), got \(3, 4\) in layer 1"),
        (lambda x: x.sum(), ValueError, r"\(4, 3\), got \(\) in layer 1"),
        (lambda x: x[None], ValueError, r"\(4, 3\), got \(1, 4, 3\) in layer 1"),
        (
            lambda x: x.float(),
            ValueError,
            r"dtype .*float64, got torch\.float32 in layer 1 .*to\(",
        ),
        (lambda x: x > 0, ValueError, r"float64, got torch\.bool in layer 1"),
        (lambda x: x + 1j, ValueError, r"float64, got torch\.complex128 in layer 1"),
        (lambda _: None, TypeError, r"return x as a tensor, .*got NoneType in layer 1 .*; return"),
        (lambda x: x.detach().numpy(), TypeError, r"return x as a tensor.*got ndarray in layer 1"),
        (lambda x: (x, x), TypeError, r"return x as a tensor.*got tuple in layer 1"),
    ],
)
def test_a_step_that_returns_something_else_is_refused_in_its_layer(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        _network(_late(wrong))(None, START)


@pytest.mark.parametrize("wrong", [lambda _: None, lambda _: 1.0, lambda x: x.detach().numpy()])
def test_the_first_layer_must_return_a_tensor_too(wrong) -> None:
    with pytest.raises(TypeError, match=r"return x as a tensor, .* in layer 0"):
        _network(_late(wrong, layer=0))(None, START)


def test_a_column_that_meets_a_row_is_refused_in_the_first_layer() -> None:
    data = torch.ones(4, dtype=torch.float64)
    network = _network(lambda x, params, data: x - params.step * (x - data))
    with pytest.raises(ValueError, match=r"\(4, 1\), got \(4, 4\) in layer 0"):
        network(data, START[:, :1])


def test_training_names_the_layer_of_a_wrong_shape() -> None:
    loss = SampledLoss(lambda _rng: Sample(None, START))
    with pytest.raises(ValueError, match=r"`iteration` must return x in the shape.* in layer 2"):
        train(_network(_late(lambda x: x[0], layer=2)), loss, all_at_once(3, 5))


@pytest.mark.parametrize("recompute_every", [None, 1, 2])
def test_layers_are_counted_through_segments(recompute_every) -> None:
    network = _network(_late(lambda x: x[0], layer=2), recompute_every=recompute_every)
    with pytest.raises(ValueError, match=r"got \(3,\) in layer 2"):
        network(None, START)


@pytest.mark.parametrize("shape", [(3,), ()])
def test_the_first_layer_may_add_a_batch(shape) -> None:
    network = _network(lambda x, params, data: x - params.step * (x - data))
    whole = network(2 * START, torch.zeros_like(START))
    assert torch.equal(network(2 * START, torch.zeros(shape, dtype=torch.float64)), whole)


class Pair(NamedTuple):
    """A state with a name for each entry."""

    x: Tensor
    velocity: Tensor


def _ball(state: Any, params: Any, _data: Any) -> Any:
    x, velocity = state if isinstance(state, tuple) else (state, torch.zeros_like(state))
    velocity = params.momentum * velocity - params.step * x
    return Pair(x + velocity, velocity)


@pytest.mark.parametrize("start", [START, (START, 0 * START), Pair(START, 0 * START)])
def test_tuples_are_states_and_a_tensor_may_become_one_at_the_start(start) -> None:
    x, velocity = np.ones((4, 3)), np.zeros((4, 3))
    for _ in range(3):
        velocity = 0.25 * velocity - 0.5 * x
        x = x + velocity
    output = _network(_ball, parameters={"momentum": Trainable(0.25, period=1)})(None, start)
    np.testing.assert_allclose(output.x.detach().numpy(), x, rtol=1e-15)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda s: (s[0], s[1][0]),
            ValueError,
            r"return x\[1\] in the shape .*, got \(3,\) in lay",
        ),
        (lambda s: (s[0], (s[1],)), TypeError, r"return x\[1\] as a tensor.*got tuple in layer 0"),
        (lambda s: s[:1], TypeError, r"x as a tuple of 2, .*got tuple of 1 in layer 0"),
        (lambda s: s[0], TypeError, r"x as a tuple of 2, .*got Tensor in layer 0"),
    ],
)
def test_tuples_keep_their_entries(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        _network(lambda state, _params, _data: wrong(state))(None, (START, START))


def test_lists_and_dictionaries_may_grow() -> None:
    def remembering(state: Any, params: Any, _data: Any) -> Any:
        last = state["seen"][-1]
        return {"seen": [*state["seen"], last - params.step * last]}

    output = _network(remembering)(None, {"seen": [START]})
    assert [float(x[0, 0].detach()) for x in output["seen"]] == [1.0, 0.5, 0.25, 0.125]


class Products(TorchDispatchMode):
    """Notes in which precision matrices are multiplied."""

    NAMES = ("mm", "mv", "bmm", "addmm", "matmul", "linear", "dot")

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.__name__.split(".")[0] in self.NAMES:
            self.dtypes += [each.dtype for each in args if isinstance(each, Tensor)]
        return function(*args, **(kwargs or {}))


def _lista(x: Tensor, params: Any, data: Tensor) -> Tensor:
    v = x @ params.inner.T + data @ params.outer.T
    return v - v.clip(-0.1 * params.step, 0.1 * params.step)


def _precise(x: Tensor, params: Any, data: Tensor) -> Tensor:
    """A step that goes back to the precision of x itself."""
    return x - params.step * (x @ params.inner.T - data).to(x.dtype)


def _case(name: str) -> tuple[UnfoldedIteration, Any, Tensor | None]:
    rng = np.random.default_rng(0)
    matrix = torch.from_numpy(rng.standard_normal((6, 6)) / 6).float()
    rhs = torch.from_numpy(rng.standard_normal((4, 6))).float()
    square = Trainable(matrix, period=1, constraint=None)
    if name == "least squares":
        return UnfoldedIteration(Schedule([0.3, 0.2])), LeastSquares(matrix, rhs), None
    if name == "one right-hand side":
        return UnfoldedIteration(Schedule([0.3, 0.2])), LeastSquares(matrix, rhs[0]), None
    if name == "a batch of matrices":
        problem = BatchedLeastSquares(matrix.expand(4, 6, 6), rhs)
        return UnfoldedIteration(Schedule([0.3, 0.2])), problem, None
    if name == "proximal gradient":
        network = UnfoldedIteration(Schedule([0.3]), iteration=ProximalGradient(L1(0.01)))
        return network, LeastSquares(matrix, rhs), None
    step, parameters = _precise, {"inner": square}
    if name == "own step":
        step, parameters = _lista, {"inner": square, "outer": square}
    network = _network(step, parameters=parameters, dtype=torch.float32)
    return network, rhs, torch.zeros_like(rhs)


CASES = [
    "least squares",
    "one right-hand side",
    "a batch of matrices",
    "proximal gradient",
    "own step",
    "own step in x's precision",
]


@pytest.mark.parametrize("name", CASES)
def test_every_product_is_in_half_precision_under_autocast_and_in_none_without(name) -> None:
    network, data, start = _case(name)
    with Products() as plain:
        exact = network(data, start)
    with Products() as cast, torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(data, start)
    with Products() as backward:
        output.float().square().sum().backward()
    assert set(plain.dtypes) == {torch.float32}
    assert set(cast.dtypes) == {torch.bfloat16}
    assert set(backward.dtypes) <= {torch.bfloat16}
    assert len(cast.dtypes) == len(plain.dtypes)
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)
    # Steps are trained in their own precision.
    (gradient,) = {p.grad.dtype for p in network.parameters()}
    assert gradient == network.steps.dtype


@pytest.mark.parametrize("name", ["least squares", "own step"])
def test_recomputed_layers_are_in_half_precision_too(name) -> None:
    network, data, start = _case(name)
    gradients = []
    for every in (None, 1):
        network.recompute_every = every
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(data, start)
        with Products() as backward:
            output.float().square().sum().backward()
        assert set(backward.dtypes) <= {torch.bfloat16}
        gradients.append([p.grad.clone() for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_autocast_leaves_double_precision_alone() -> None:
    problem = LeastSquares(torch.eye(3, dtype=torch.float64) / 3, START)
    network = UnfoldedIteration(Schedule([0.3, 0.2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(problem)
    assert torch.equal(output, network(problem))


@pytest.mark.parametrize("name", ["least squares", "own step", "own step in x's precision"])
def test_a_training_under_autocast_lowers_the_loss(name) -> None:
    network, data, _ = _case(name)
    generator = torch.Generator().manual_seed(0)
    target = 0.3 * torch.randn(4, 6, generator=generator)
    loss = SampledLoss(lambda _rng: Sample(data, target, torch.zeros_like(target)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = train(
            network, loss, all_at_once(2, 60), optimizer=lambda p: torch.optim.Adam(p, lr=0.01)
        )
    assert run.history.losses[0, -1] < 0.9 * run.history.losses[0, 0]
    assert run.history.num_skipped.sum() == 0
