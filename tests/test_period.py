"""A period of known steps as a function, for `torch.compile` and CUDA graphs."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_solve_reads import COMPOSITES, PROBLEMS, ROWS, SAFE, STEPS, Reads
from torch import nn

from stepfold import FixedPoint, LeastSquares, Quadratic, SpectralBounds, period, solve
from stepfold.iterations import GradientDescent, HeavyBall, ProximalGradient
from stepfold.operators import linear_map

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("torch._dynamo") is None, reason="torch has no compiler"
)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def fixed(rows: torch.Tensor) -> FixedPoint[torch.Tensor]:
    matrix = 0.9 * torch.eye(40, dtype=torch.float64).roll(1, 0)
    return FixedPoint(lambda x: x @ matrix + rows)


def images(rows: torch.Tensor) -> LeastSquares[torch.Tensor]:
    kernel = torch.tensor([[[[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]]], dtype=torch.float64)

    def blurred(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, kernel, padding=1)

    return LeastSquares(linear_map(blurred, blurred, shape=((1, 5, 8), (1, 5, 8))), rows)


ALL: dict[str, tuple[Callable[[torch.Tensor], Any], dict[str, Any]]] = {
    **{name: (make, {}) for name, make in PROBLEMS.items()},
    "heavy ball": (PROBLEMS["quadratic"], {"iteration": HeavyBall(0.3)}),
    **{name: (make, {}) for name, make in COMPOSITES.items()},
    "proximal gradient": (COMPOSITES["lasso"], {"iteration": ProximalGradient}),
    "fixed point": (fixed, {}),
    "images": (images, {}),
}
# torch's compiler has no graph of sparse products, and none of a product row by row.
COMPILED = [name for name in ALL if name != "sparse"]


def start(problem: Any, rows: torch.Tensor) -> torch.Tensor:
    if isinstance(problem, FixedPoint):
        return torch.zeros_like(rows)
    return problem.zero + 0.01


@pytest.mark.parametrize("rows", [ROWS, ROWS[0]], ids=["batch", "vector"])
@pytest.mark.parametrize("name", ALL)
def test_a_period_makes_no_read_and_no_graph_of_its_own(name: str, rows: torch.Tensor) -> None:
    make, options = ALL[name]
    problem = make(rows)
    advance = period(problem, SAFE, **options)
    x = start(problem, rows)
    with Reads() as seen:
        after = advance(x)
    assert seen.count == 0
    assert after.shape == x.shape
    assert not torch.equal(after, x)


@pytest.mark.parametrize("name", PROBLEMS)
def test_periods_are_those_of_solve(name: str) -> None:
    problem = PROBLEMS[name](ROWS)
    advance = period(problem, STEPS)
    after = advance(advance(problem.zero))
    result = solve(problem, STEPS, max_steps=32, rtol=0.0, guard=None, keep_iterates=True)
    assert result.history.iterates is not None
    last = result.history.iterates[-1]
    tolerance = 1e-4 if name == "single precision" else 1e-9
    torch.testing.assert_close(after, last, rtol=tolerance, atol=tolerance)


def test_arrays_go_through_a_period_too() -> None:
    hessian = np.diag(np.linspace(1.0, 9.0, 6))
    advance = period(Quadratic(hessian, np.ones(6)), STEPS)
    expected = np.zeros(6)
    for gamma in STEPS.steps:
        expected = expected - gamma * (hessian @ expected - 1)
    np.testing.assert_allclose(advance(np.zeros(6)), expected)


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
@pytest.mark.parametrize("name", COMPILED)
def test_a_period_is_one_graph(name: str, fresh_compiler: None) -> None:
    make, options = ALL[name]
    problem = make(ROWS)
    advance = period(problem, SAFE, **options)
    compiled = torch.compile(advance, fullgraph=True, backend="eager")
    x = start(problem, ROWS)
    torch.testing.assert_close(compiled(x), advance(x))


@needs_compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", ["least squares", "lasso"])
def test_a_compiled_period_computes_the_same(name: str, fresh_compiler: None) -> None:
    make, options = ALL[name]
    problem = make(ROWS)
    advance = period(problem, SAFE, **options)
    x = start(problem, ROWS)
    compiled = torch.compile(advance, fullgraph=True)
    torch.testing.assert_close(compiled(x), advance(x), rtol=1e-10, atol=1e-10)


def test_derivatives_pass_through_a_period() -> None:
    problem = PROBLEMS["least squares"](ROWS[0])
    x = torch.ones(20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(period(problem, SAFE), (x,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: period(Quadratic(np.eye(2), np.ones(2)), [0.1]), "`schedule` must be a Schedule"),
        (lambda: period(np.eye(2), STEPS), "`problem` must be a Problem, a Composite or a Fixed"),
        (
            lambda: period(COMPOSITES["lasso"](ROWS), STEPS, iteration=GradientDescent()),
            "`iteration` must be one that steps on a penalty for Composite, got GradientDescent",
        ),
        (
            lambda: period(PROBLEMS["quadratic"](ROWS), STEPS, iteration=SpectralBounds(1, 2)),
            "`iteration` must be one that steps on a gradient for Quadratic, got SpectralBounds",
        ),
    ],
)
def test_what_makes_no_period_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()
