"""Networks under torch.compile: the same values, from one graph."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_unfolded_parameters import ITERATIONS, QUADRATIC, RHS, STEPS, own_network

from stepfold.iterations import Relaxation
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.penalties import Ball, Box, ElasticNet, GroupL1, Simplex
from stepfold.unfolded import (
    BatchedLeastSquares,
    GaussianLeastSquares,
    SampledLoss,
    Stage,
    UnfoldedIteration,
    train,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of torch's own compiler
    pytest.mark.skipif(
        importlib.util.find_spec("torch._dynamo") is None, reason="torch has no compiler"
    ),
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    """One process may compile a function eight times; after that torch falls back in silence."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(
    importlib.util.find_spec("torch._inductor") is None, reason="torch has no compiler"
)
@pytest.mark.parametrize("name", ["gradient descent", "heavy ball", "proximal gradient"])
def test_a_compiled_network_computes_the_same(name) -> None:
    iteration, parameters = ITERATIONS[name]
    outcomes = []
    for compiled in (False, True):
        network = UnfoldedIteration(STEPS, iteration=iteration, parameters=parameters)
        forward = torch.compile(network, fullgraph=True) if compiled else network
        output = forward(QUADRATIC)
        output.square().sum().backward()
        outcomes.append([output.detach(), *(p.grad for p in network.stacked_parameters())])
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recompute", [None, 2])
@pytest.mark.parametrize("name", [name for name in ITERATIONS if name != "semi-iteration"])
def test_a_network_is_traced_as_one_graph(name, recompute) -> None:
    iteration, parameters = ITERATIONS[name]
    network = UnfoldedIteration(
        STEPS, iteration=iteration, parameters=parameters, recompute_every=recompute
    )
    traced = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(QUADRATIC), network(QUADRATIC), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "penalty",
    [Box(0.0, 1.0), Simplex(), Ball(1.0), GroupL1(0.1, [0, 0, 1]), ElasticNet(0.1, 0.2)],
    ids=lambda penalty: type(penalty).__name__,
)
def test_a_proximal_operator_is_traced_as_one_graph(penalty) -> None:
    rows = torch.tensor([[0.5, -2.0, 3.0], [0.0, 0.1, 0.2]])
    traced = torch.compile(lambda v: penalty.prox(v, 0.5), backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(rows), penalty.prox(rows, 0.5))


def test_a_compiled_network_is_trained_and_resumed_like_the_network(tmp_path) -> None:
    sampler = GaussianLeastSquares(np.diag([1.0, 2.0]), batch_size=3)
    stages = [Stage(4, 4)]
    network = UnfoldedIteration(STEPS)
    plain = train(network, SampledLoss(sampler), stages)
    # Traced, but not translated into C++, which takes longer.
    for stop in (2, None):
        compiled: Any = torch.compile(UnfoldedIteration(STEPS), backend="eager")
        run = train(
            compiled,
            SampledLoss(sampler),
            stages,
            checkpoint=tmp_path / "checkpoint",
            resume=True,
            callback=lambda now, stop=stop: now.done == stop,
        )
        assert run.finished == (stop is None)
    np.testing.assert_allclose(run.schedule.steps, plain.schedule.steps, rtol=1e-6)


BATCHED = BatchedLeastSquares(torch.eye(3).double().repeat(2, 1, 1), RHS)
OTHERS = {
    "a step of one's own": (own_network, (torch.ones(2, 2).double(), torch.ones(2, 3).double())),
    "a matrix for each": (lambda: UnfoldedIteration(STEPS), (BATCHED,)),
    "a fixed point": (
        lambda: UnfoldedIteration(STEPS, iteration=Relaxation()),
        (FixedPoint(torch.cos), RHS),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_steps_of_ones_own_and_other_problems_are_traced_as_one_graph(name) -> None:
    make, arguments = OTHERS[name]
    network = make()
    traced = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(*arguments), network(*arguments), rtol=1e-12, atol=1e-12)
