"""A solve over two processes, one of which is stopped; both are then started again."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
from faulted import End, child

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.distributed import ShardedLeastSquares, processes, resumable_solve

SHARDED = "sharded solve"
# Calls of one whole run, about; the one at which it is stopped is drawn among them.
CALLS = 30_000
RNG = np.random.default_rng(0)
MATRIX, RHS = RNG.standard_normal((203, 40)), RNG.standard_normal(203)


def _work(rank: int, port: int) -> Callable[[], None]:
    def run() -> None:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            GLOO_SOCKET_IFNAME="lo",
        )
        with processes(timedelta(seconds=20)) as group:
            rows = np.array_split(np.arange(203), 2)[group.rank]
            problem = ShardedLeastSquares(MATRIX[rows], RHS[rows], group)
            schedule = chebyshev_steps(SpectralBounds(50.0, 460.0), 4)
            result = resumable_solve(problem, schedule, checkpoint="run.npz", every=0, rtol=1e-10)
            if group.rank == 0:
                np.save("x.npy", result.x)
        sys.exit(0 if result.converged else 3)

    return run


def _both(folder: Path, at: tuple[int | None, int | None], number: int) -> list[End]:
    """Two processes, each in a folder's thread of its own here."""
    with socket.socket() as probe:  # the first process listens there a moment later
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ends: list[End] = []
    pids = [_fork(folder, _work(rank, port), at[rank], number) for rank in (0, 1)]
    return [*ends, *(_end(pid) for pid in pids)]


def _fork(folder: Path, work: Callable[[], None], at: int | None, number: int) -> int:
    pid = os.fork()
    if pid == 0:
        inner = folder.parent / f"{folder.name}-{os.getpid()}"
        end = child(folder, work, at=at, number=number)
        inner.unlink(missing_ok=True)
        os._exit(end.code if end.code >= 0 else 100 - end.code)
    return pid


def _end(pid: int) -> End:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return End(code, -1, "")


def fault_of_shards(folder: Path, at: int, number: int) -> str:
    """Stop one of two processes; start both again; what is wrong, or an empty string."""
    folder.mkdir()
    rank = at % 2
    place = at // 2 % CALLS + 1
    moments = (place, None) if rank == 0 else (None, place)
    _both(folder, moments, number)
    ends = _both(folder, (None, None), number)
    if [end.code for end in ends] != [0, 0]:
        return f"the second start ended with {[end.code for end in ends]}"
    left = sorted(path.name for path in folder.iterdir())
    if left != ["x.npy"]:
        return f"left behind: {left}"
    exact = np.linalg.lstsq(MATRIX, RHS, rcond=None)[0]
    error = np.abs(np.load(folder / "x.npy") - exact).max()
    return "" if error < 1e-8 else f"wrong by {error:.2g}"
