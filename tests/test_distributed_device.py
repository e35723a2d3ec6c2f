"""Shards on a device, as far as a processor can show: what waits for it, and what is told when."""

from typing import Any

import numpy as np
import pytest
import torch
from _groups import together
from test_solve_reads import MATRIX, ROWS, STEPS, Reads, reads

from stepfold import period, solve
from stepfold.distributed import Group, PeerError, ShardedLeastSquares, exchange
from stepfold.solve import Guard


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors are treated as if they were on a device."""
    monkeypatch.setattr(exchange, "_is_on_device", torch.is_tensor)


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("rows", [ROWS, ROWS[0]], ids=["batch", "vector"])
@pytest.mark.parametrize("guard", [Guard(), None], ids=["guarded", "trusted"])
def test_a_period_over_processes_reads_its_norms_and_what_the_others_say(
    guard: Guard | None, rows: torch.Tensor
) -> None:
    problem = ShardedLeastSquares(MATRIX, rows, ridge=0.1)
    solve(problem, STEPS, max_steps=16, guard=guard)  # what is found out once
    counts = [reads(problem, STEPS, count, guard=guard) for count in (1, 2, 3, 4)]
    assert np.diff(counts).tolist() == [2, 2, 2]


@pytest.mark.usefixtures("on_device")
def test_a_period_as_a_function_reads_nothing() -> None:
    problem = ShardedLeastSquares(MATRIX, ROWS, ridge=0.1)
    advance = period(problem, STEPS)
    x = problem.zero + 0.01
    with Reads() as seen:
        after = advance(x)
    assert seen.count == 0
    expected = solve(problem, STEPS, x, guard=None, max_steps=16, rtol=0.0).x
    torch.testing.assert_close(after, expected)


class Fails:
    """A matrix whose products fail from the third on."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.count = matrix, 0
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    @property
    def T(self) -> torch.Tensor:
        return self.matrix.T

    def __matmul__(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        if self.count > 2 * 4:
            raise RuntimeError("out of memory")
        return self.matrix @ x


@pytest.mark.usefixtures("on_device")
def test_a_failure_inside_a_period_is_told_at_its_end_by_all_processes() -> None:
    def program(group: Group) -> Any:
        half = MATRIX[:20] if group.rank == 0 else MATRIX[20:]
        rhs = ROWS[0, :20] if group.rank == 0 else ROWS[0, 20:]
        part: Any = Fails(half) if group.rank == 1 else half
        return solve(ShardedLeastSquares(part, rhs, group), STEPS)

    found = together(2, program)
    assert isinstance(found[1], RuntimeError)
    assert str(found[1]) == "out of memory"
    assert isinstance(found[0], PeerError)
    assert "process 1 of 2 has failed: RuntimeError: out of memory" in str(found[0])
