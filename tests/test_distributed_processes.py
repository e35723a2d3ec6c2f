"""Rows shared out among real processes, which torchrun starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stepfold

LAUNCHER = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node=2",
]


def environment() -> dict[str, str]:
    source = str(Path(stepfold.__file__).parents[1])
    return {
        **os.environ,
        "PYTHONPATH": source,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "TORCH_DISTRIBUTED_DEBUG": "OFF",
    }


def launched(
    program: Path, *words: str, seconds: float = 120
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*LAUNCHER, str(program), *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


SOLVES = """
import hashlib, sys
import numpy as np
from stepfold import chebyshev_steps, estimate_bounds, solve
from stepfold.distributed import ShardedLeastSquares, processes

rng = np.random.default_rng(0)
A, b = rng.standard_normal((203, 40)), rng.standard_normal((2, 203))
expected = np.linalg.lstsq(A, b.T, rcond=None)[0].T
with processes() as group:
    assert group.size == 2
    rows = np.array_split(np.arange(203), 2)[group.rank]
    problem = ShardedLeastSquares(A[rows], b[:, rows])
    bounds = estimate_bounds(problem)
    for schedule in (None, chebyshev_steps(bounds, 8)):
        result = solve(problem, schedule, max_seconds=100)
        assert result.converged, result
        assert abs(result.x - expected).max() < 1e-6
        mark = hashlib.sha256(result.x.tobytes()).hexdigest(), result.num_steps, result.bounds
        assert group.gather(mark) == [mark, mark]
    single = ShardedLeastSquares(A[rows].astype("f"), b[0, rows].astype("f"))
    assert abs(solve(single).x - expected[0]).max() < 1e-3
    assert group.broadcast(group.rank + 5) == 5
    try:
        ShardedLeastSquares(A[rows, group.rank :], b[:, rows])
    except ValueError as error:
        said = str(error)
    assert "got 40 on process 0 and 39 on process 1" in said, said
print("done", file=sys.stderr)
"""


def test_two_processes_of_torchrun_find_the_same_bits(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SOLVES)
    done = launched(program)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done") == 2


HANGS = """
import time
from datetime import timedelta
import numpy as np
from stepfold import solve
from stepfold.distributed import ShardedLeastSquares, processes

with processes(timedelta(seconds=15)) as group:
    problem = ShardedLeastSquares(np.eye(3) + group.rank, np.ones(3))
    if group.rank == 1:
        time.sleep(1000)
    solve(problem)
"""


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_within_the_timeout_in_words(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HANGS)
    done = launched(program)
    assert done.returncode != 0
    assert "process 0 of 2 got no answer from the others within 0:00:15" in done.stderr


KILLED = """
import os, signal, sys
import numpy as np
from stepfold import SpectralBounds, chebyshev_steps
from stepfold.distributed import ShardedLeastSquares, processes, resumable_solve

rng = np.random.default_rng(0)
A, b = rng.standard_normal((203, 40)), rng.standard_normal(203)
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and sys.argv[1] == "kill"

def callback(count, x):
    if first and count == 10 and os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)

with processes() as group:
    rows = np.array_split(np.arange(203), 2)[group.rank]
    problem = ShardedLeastSquares(A[rows], b[rows], group)
    schedule = chebyshev_steps(SpectralBounds(50.0, 460.0), 4)
    result = resumable_solve(
        problem, schedule, checkpoint=sys.argv[2], every=0, rtol=1e-10, callback=callback
    )
    if group.rank == 0:
        print(result.num_steps, result.status.name, result.x.tobytes().hex())
"""


@pytest.mark.slow
def test_a_killed_process_is_restarted_and_all_go_on_to_the_same_bits(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    ends = []
    for word in ("spare", "kill"):
        done = launched(Path("--max-restarts=1"), str(program), word, str(tmp_path / "run.npz"))
        assert done.returncode == 0, done.stderr
        ends.append(done.stdout.split())
    (whole, *one), (rest, *other) = ends
    assert one == other
    assert one[0] == "CONVERGED"
    assert int(rest) == int(whole) - 8  # two periods of four were kept
    assert not (tmp_path / "run.npz").exists()


ABSENT = """
import sys
import stepfold
from stepfold.distributed import ShardedLeastSquares, current_group
assert current_group().size == 1
assert "torch" not in sys.modules
"""


def test_without_torchrun_torch_is_not_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABSENT],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


SPREADS = """
import numpy as np
import scipy.sparse
from stepfold import chebyshev_steps, estimate_bounds, solve
from stepfold.distributed import Layout, ShardedQuadratic, gathered, processes

rng = np.random.default_rng(0)
factor = scipy.sparse.random_array((90, 90), density=0.03, rng=rng)
A = (factor @ factor.T + scipy.sparse.eye_array(90)).tocsr()
b = rng.standard_normal((2, 90))
expected = np.linalg.solve(A.toarray(), b.T).T
with processes() as group:
    layout = Layout(np.random.default_rng(1).integers(0, 2, 90), group.rank)
    problem = ShardedQuadratic(A[layout.own], b[:, layout.own], layout)
    assert 0 < problem.halo.num_messages < group.size
    for schedule in (None, chebyshev_steps(estimate_bounds(problem), 8)):
        result = solve(problem, schedule, max_seconds=100)
        x = gathered(result.x)
        np.testing.assert_allclose(x, expected, atol=1e-6)
        first = group.broadcast((x.tobytes(), result.num_steps, result.status, result.bounds))
        assert first == (x.tobytes(), result.num_steps, result.status, result.bounds)
    print("RIGHT", group.rank)
"""


def test_two_processes_send_halos_to_each_other_and_find_the_solution(tmp_path: Path) -> None:
    program = tmp_path / "spreads.py"
    program.write_text(SPREADS)
    run = launched(program)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("RIGHT") == 2


ALONE = """
import socket, sys, os
from datetime import timedelta
from stepfold.distributed import processes

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ.update(RANK=sys.argv[1], WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
try:
    with processes(timedelta(seconds=1)):
        pass
except TimeoutError as error:
    print("words:", error)
"""


@pytest.mark.parametrize("rank", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_a_process_that_meets_nobody_ends_in_words_within_the_timeout(rank: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, rank],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert f"words: process {rank} of 2 has not met the others at 127.0.0.1:" in done.stdout
    assert "within 0:00:01" in done.stdout
    assert "the coordinator, has started" in done.stdout


NO_TORCH = """
import os, sys
sys.modules["torch"] = None
os.environ.update(RANK="0", WORLD_SIZE="2")
from stepfold.distributed import processes
try:
    with processes():
        pass
except ImportError as error:
    print("words:", error)
"""


def test_without_torch_what_torchrun_started_names_the_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "pip install '.[unfolded]'" in done.stdout, done.stdout + done.stderr
