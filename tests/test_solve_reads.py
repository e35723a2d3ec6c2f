"""How often a run on tensors waits for the device: never inside a period, once at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from stepfold import (
    L1,
    Composite,
    LeastSquares,
    Logistic,
    Quadratic,
    Schedule,
    SpectralBounds,
    chebyshev_steps,
    solve,
)
from stepfold.iterations import BarzilaiBorwein, Fista, HeavyBall, ProximalGradient
from stepfold.operators import linear_map
from stepfold.problems.penalties import Box, GroupL1, NuclearNorm
from stepfold.solve import Guard

READING = {
    *("item", "tolist", "numpy", "cpu", "nonzero", "equal", "is_nonzero", "allclose"),
    *("__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__", "unique"),
}


class Reads(TorchFunctionMode):
    """Counts what makes the host wait; what NumPy reads of a tensor on the CPU is one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in READING:
            self.seen[name] += 1
        return function(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        # `to_host` moves a tensor to the CPU and hands it to NumPy: one wait.
        return sum(self.seen.values()) - min(self.seen["cpu"], self.seen["numpy"])


RNG = np.random.default_rng(2)
MATRIX = torch.from_numpy(RNG.standard_normal((40, 20)))
ROWS = torch.from_numpy(RNG.standard_normal((5, 40)))
HESSIAN = MATRIX.T @ MATRIX
UPPER = float(torch.linalg.matrix_norm(MATRIX, 2)) ** 2
STEPS = chebyshev_steps(SpectralBounds(0.001 * UPPER, 1.1 * UPPER), 16)
SAFE = Schedule(np.full(16, 0.9 / UPPER))


def function_operator() -> Any:
    return linear_map(lambda x: MATRIX @ x, lambda y: MATRIX.T @ y, shape=(40, 20))


PROBLEMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "least squares": lambda rows: LeastSquares(MATRIX, rows, ridge=0.1),
    "quadratic": lambda rows: Quadratic(HESSIAN, rows[..., :20].contiguous()),
    "function": lambda rows: LeastSquares(function_operator(), rows),
    "sparse": lambda rows: LeastSquares(MATRIX.to_sparse(), rows),
    "complex": lambda rows: LeastSquares(MATRIX.to(torch.complex128), rows.to(torch.complex128)),
    "single precision": lambda rows: LeastSquares(MATRIX.float(), rows.float()),
}
COMPOSITES: dict[str, Callable[[torch.Tensor], Any]] = {
    "lasso": lambda rows: Composite(LeastSquares(MATRIX, rows), L1(3.0)),
    "weights": lambda rows: Composite(LeastSquares(MATRIX, rows), L1(np.linspace(0, 5, 20))),
    "groups": lambda rows: Composite(LeastSquares(MATRIX, rows), GroupL1(3.0, np.arange(20) // 2)),
    "box": lambda rows: Composite(LeastSquares(MATRIX, rows), Box(0.0, 1.0)),
    "nuclear norm": lambda rows: Composite(LeastSquares(MATRIX, rows), NuclearNorm(3.0, (4, 5))),
    "logistic": lambda rows: Composite(Logistic(MATRIX, rows.sign()), L1(0.3)),
}


def reads(problem: Any, schedule: Schedule, num_periods: int, **options: Any) -> int:
    with Reads() as seen:
        result = solve(
            problem, schedule, rtol=0.0, max_steps=16 * num_periods, max_products=10**6, **options
        )
    assert result.num_steps == 16 * num_periods
    return seen.count


@pytest.mark.parametrize("rows", [ROWS, ROWS[0]], ids=["batch", "vector"])
@pytest.mark.parametrize("guard", [Guard(), None], ids=["guarded", "trusted"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_period_of_known_steps_makes_one_read(
    name: str, guard: Guard | None, rows: torch.Tensor
) -> None:
    problem = PROBLEMS[name](rows)
    solve(problem, STEPS, max_steps=16, guard=guard)  # what is found out once
    counts = [reads(problem, STEPS, count, guard=guard) for count in (1, 2, 3, 4)]
    assert np.diff(counts).tolist() == [1, 1, 1]


@pytest.mark.parametrize("rows", [ROWS, ROWS[0]], ids=["batch", "vector"])
@pytest.mark.parametrize("iteration", [HeavyBall(0.3), BarzilaiBorwein()])
def test_a_period_of_other_iterations_makes_one_read(iteration: Any, rows: torch.Tensor) -> None:
    problem = PROBLEMS["least squares"](rows)
    reads(problem, SAFE, 1, iteration=iteration)  # what is found out once
    counts = [reads(problem, SAFE, count, iteration=iteration) for count in (1, 2, 3)]
    assert np.diff(counts).tolist() == [1, 1]


@pytest.mark.parametrize("rows", [ROWS, ROWS[0]], ids=["batch", "vector"])
@pytest.mark.parametrize("iteration", [Fista, ProximalGradient])
@pytest.mark.parametrize("name", COMPOSITES)
def test_a_period_of_proximal_steps_makes_one_read(
    name: str, iteration: Any, rows: torch.Tensor
) -> None:
    problem = COMPOSITES[name](rows)
    reads(problem, SAFE, 1, iteration=iteration)  # what is found out once
    counts = [reads(problem, SAFE, count, iteration=iteration) for count in (1, 2, 3)]
    assert np.diff(counts).tolist() == [1, 1]


def test_an_upper_bound_that_is_far_too_low_is_found_at_the_end_of_the_period() -> None:
    wrong = chebyshev_steps(SpectralBounds(0.001 * UPPER, 0.1 * UPPER), 16)
    result = solve(PROBLEMS["least squares"](ROWS), wrong)
    assert result.converged
    assert result.events[0].end == "upper"
    expected = torch.linalg.lstsq(
        torch.cat([MATRIX, 0.1**0.5 * torch.eye(20).double()]),
        torch.cat([ROWS, torch.zeros(5, 20).double()], 1).T,
    ).solution.T
    torch.testing.assert_close(result.x, expected, rtol=1e-6, atol=1e-7)
