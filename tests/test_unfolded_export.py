"""Networks as modules of torch alone."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import LeastSquares, Schedule
from stepfold.iterations import Fista, HeavyBall
from stepfold.problems.penalties import L1
from stepfold.unfolded import Bounded, LayerParameters, UnfoldedIteration

MATRIX = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 4)))
RNG = np.random.default_rng(1)
Y, X0 = torch.from_numpy(RNG.standard_normal((3, 6))), torch.zeros(3, 4, dtype=torch.float64)


class Step(nn.Module):
    """A gradient step, a small network, and a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).double()

    def forward(self, x: Tensor, params: LayerParameters, y: Tensor) -> Tensor:
        x = x - params.step * (x @ MATRIX.T - y) @ MATRIX
        return torch.relu(x + 0.1 * self.prior(x) - params.low)


def _network() -> UnfoldedIteration:
    torch.manual_seed(0)
    return UnfoldedIteration(
        Schedule([0.1, 0.2]),
        iteration=Step(),
        num_layers=3,
        parameters={"low": 0.01},
        constraint=Bounded(0.0, 0.5),
    )


def test_a_module_computes_what_the_network_does_on_batches_of_any_size() -> None:
    network = _network()
    module = network.export_module(Y, X0)
    assert network.training
    network.eval()
    for size in (1, 3, 8):
        y = torch.from_numpy(RNG.standard_normal((size, 6)))
        start = torch.from_numpy(RNG.standard_normal((size, 4)))
        torch.testing.assert_close(module(y, start), network(y, start), rtol=1e-12, atol=0)


def test_a_module_is_loaded_where_there_is_no_stepfold(tmp_path) -> None:
    network = _network().eval()
    torch.save(network.export_module(Y, X0), tmp_path / "module")
    torch.save((Y, X0, network(Y, X0).detach()), tmp_path / "data")
    program = (
        "import sys, torch\n"
        "sys.modules['stepfold'] = None\n"
        "module = torch.load('module', weights_only=False)\n"
        "y, x0, expected = torch.load('data')\n"
        "assert torch.allclose(module(y, x0), expected, rtol=1e-12)\n"
        "assert sum(p.numel() for p in module.parameters()) == 2 + 3 + 20\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_module_does_not_follow_what_the_network_learns_later() -> None:
    network = _network().eval()
    module = network.export_module(Y, X0)
    before = network(Y, X0).detach()
    with torch.no_grad():
        network.steps.mul_(0.5)
    assert not torch.allclose(network(Y, X0), before)
    torch.testing.assert_close(module(Y, X0), before, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("iteration", "parameters"),
    [(HeavyBall(0.3), {"momentum": 0.3}), (Fista(L1(0.1)), {"penalty.weight": 0.1})],
    ids=["heavy ball", "FISTA"],
)
def test_a_problem_is_built_in(iteration, parameters) -> None:
    network = UnfoldedIteration(Schedule([0.05, 0.04]), iteration=iteration, parameters=parameters)
    problem = LeastSquares(MATRIX, Y)
    module = network.export_module(problem)
    torch.testing.assert_close(module(X0), network(problem), rtol=1e-12, atol=0)


def test_torch_traces_and_exports_a_network_as_it_is() -> None:
    network = _network().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its own
        traced = torch.jit.trace(network, (Y, X0))
        exported = torch.export.export(network, (Y, X0)).module()
    for module in (traced, exported):
        torch.testing.assert_close(module(Y, X0), network(Y, X0), rtol=1e-12, atol=0)


def test_a_module_goes_to_onnx(tmp_path) -> None:
    pytest.importorskip("onnx", reason="torch.onnx.export needs onnx")
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
    module = _network().export_module(Y, X0)
    torch.onnx.export(module, (Y, X0), tmp_path / "network.onnx", dynamo=True)
    assert (tmp_path / "network.onnx").stat().st_size > 0
