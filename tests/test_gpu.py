"""What needs a GPU: nothing leaves it, nothing waits for it inside a period, and NCCL adds up."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_distributed_processes import LAUNCHER, environment

from stepfold import (
    L1,
    Composite,
    LeastSquares,
    Quadratic,
    SpectralBounds,
    chebyshev_steps,
    estimate_bounds,
    period,
    solve,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]

RNG = np.random.default_rng(4)
A, B = RNG.standard_normal((300, 40)), RNG.standard_normal((3, 300))
SOLUTION = np.linalg.lstsq(A, B.T, rcond=None)[0].T
STEPS = chebyshev_steps(SpectralBounds(90.0, 600.0), 8)


def on_gpu(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).cuda()


PROBLEMS: dict[str, Any] = {
    "least squares": lambda: LeastSquares(on_gpu(A), on_gpu(B)),
    "vector": lambda: LeastSquares(on_gpu(A), on_gpu(B[0])),
    "quadratic": lambda: Quadratic(on_gpu(A.T @ A), on_gpu(B @ A)),
    "sparse": lambda: LeastSquares(on_gpu(A).to_sparse(), on_gpu(B)),
}


@pytest.mark.parametrize("known", [False, True], ids=["automatic", "known steps"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_solution_stays_on_its_device(name: str, known: bool) -> None:
    problem = PROBLEMS[name]()
    result = solve(problem, STEPS if known else None)
    assert result.converged
    assert result.x.device.type == "cuda"
    expected = SOLUTION[0] if name == "vector" else SOLUTION
    np.testing.assert_allclose(result.x.cpu().numpy(), expected, atol=1e-6)


def test_bounds_of_tensors_on_a_device_hold_the_spectrum() -> None:
    bounds = estimate_bounds(PROBLEMS["least squares"]())
    eigenvalues = np.linalg.eigvalsh(A.T @ A)
    assert bounds.lower <= eigenvalues[0] * (1 + 1e-12)
    assert bounds.upper >= eigenvalues[-1] * (1 - 1e-12)


@pytest.mark.parametrize("name", ["least squares", "vector", "quadratic"])
def test_a_period_waits_for_nothing(name: str) -> None:
    problem = PROBLEMS[name]()
    advance, x = period(problem, STEPS), problem.zero
    advance(x)  # what is found out once
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        after = advance(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = solve(problem, STEPS, guard=None, max_steps=8, rtol=0.0).x
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("name", ["least squares", "vector", "quadratic", "lasso"])
def test_a_period_is_a_cuda_graph(name: str) -> None:
    problem: Any = (
        Composite(PROBLEMS["least squares"](), L1(3.0)) if name == "lasso" else PROBLEMS[name]()
    )
    steps = chebyshev_steps(SpectralBounds(90.0, 600.0), 1) if name == "lasso" else STEPS
    advance, x = period(problem, steps), problem.zero + 0.01
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries take their working memory before the capture
        for _ in range(3):
            advance(x)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        after = advance(x)
    for start in (0.02, -0.5):
        x.fill_(start)
        graph.replay()
        torch.testing.assert_close(after.clone(), advance(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["least squares", "quadratic"])
def test_a_period_compiles_to_one_with_little_overhead(name: str) -> None:
    problem = PROBLEMS[name]()
    advance, x = period(problem, STEPS), problem.zero + 0.01
    compiled = torch.compile(advance, mode="reduce-overhead", fullgraph=True)
    for start in (0.01, 0.02, -0.5):
        x = torch.full_like(x, start)
        torch.testing.assert_close(compiled(x).clone(), advance(x))


SHARDS = """
import numpy as np
import torch
from stepfold import chebyshev_steps, estimate_bounds, period, solve
from stepfold.distributed import ShardedLeastSquares, processes

rng = np.random.default_rng(4)
A, b = rng.standard_normal((300, 40)), rng.standard_normal((3, 300))
expected = np.linalg.lstsq(A, b.T, rcond=None)[0].T
with processes() as group:
    rows = np.array_split(np.arange(300), group.size)[group.rank]
    problem = ShardedLeastSquares(
        torch.from_numpy(A[rows]).cuda(), torch.from_numpy(b[:, rows].copy()).cuda(), group
    )
    steps = chebyshev_steps(estimate_bounds(problem), 8)
    for schedule in (None, steps):
        result = solve(problem, schedule, max_seconds=100)
        assert result.converged, result
        assert result.x.device.type == "cuda"
        assert abs(result.x.cpu().numpy() - expected).max() < 1e-6
        mark = result.x.cpu().numpy().tobytes(), result.num_steps, result.bounds
        assert group.gather(mark) == [mark] * group.size
    advance, x = period(problem, steps), problem.zero
    advance(x)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    advance(x)
    torch.cuda.set_sync_debug_mode("default")
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):
            advance(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        after = advance(x)
    x.fill_(0.1)
    graph.replay()
    torch.testing.assert_close(after.clone(), advance(x))
print("RIGHT")
"""


@pytest.mark.parametrize("count", [1, 2])
def test_shards_on_gpus_are_added_up_by_nccl(tmp_path: Path, count: int) -> None:
    if torch.cuda.device_count() < count:
        pytest.skip(f"NCCL needs a GPU for each of {count} processes")
    program = tmp_path / "program.py"
    program.write_text(SHARDS)
    done = subprocess.run(
        [*LAUNCHER[:-1], f"--nproc-per-node={count}", str(program)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("RIGHT") == count
