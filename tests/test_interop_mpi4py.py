"""Rows shared out among processes of MPI."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stepfold

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")

PROGRAM = """
import hashlib
import numpy as np
import scipy.sparse
from stepfold import chebyshev_steps, estimate_bounds, solve
from stepfold.distributed import Layout, ShardedLeastSquares, ShardedQuadratic, gathered
from stepfold.interop.mpi4py import MPIGroup

group = MPIGroup()
assert group.size == 2
rng = np.random.default_rng(0)
A, b = rng.standard_normal((203, 40)), rng.standard_normal(203)
rows = np.array_split(np.arange(203), 2)[group.rank]
problem = ShardedLeastSquares(A[rows], b[rows], group)
for schedule in (None, chebyshev_steps(estimate_bounds(problem), 8)):
    result = solve(problem, schedule, max_seconds=60)
    assert result.converged, result
    assert abs(result.x - np.linalg.lstsq(A, b, rcond=None)[0]).max() < 1e-6
    mark = hashlib.sha256(result.x.tobytes()).hexdigest()
    assert group.gather(mark) == [mark, mark]
factor = scipy.sparse.random_array((60, 60), density=0.05, rng=rng)
H = (factor @ factor.T + scipy.sparse.eye_array(60)).tocsr()
layout = Layout(np.random.default_rng(1).integers(0, 2, 60), group.rank)
spread = ShardedQuadratic(H[layout.own], b[layout.own], layout, group)
assert spread.halo.num_messages == 1
for schedule in (None, chebyshev_steps(estimate_bounds(spread), 8)):
    x = gathered(solve(spread, schedule, max_seconds=60).x)
    assert abs(x - np.linalg.solve(H.toarray(), b[:60])).max() < 1e-6
assert group.broadcast(group.rank + 5) == 5
try:
    ShardedLeastSquares(A[rows, group.rank :], b[rows], group)
except ValueError as error:
    assert "40 on process 0 and 39 on process 1" in str(error)
print("done")
"""


needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="mpi4py or an MPI is not installed (the extra `mpi`)",
)


def launched(program: Path, content: str) -> "subprocess.CompletedProcess[str]":
    program.write_text(content)
    source = str(Path(stepfold.__file__).parents[1])
    return subprocess.run(
        [str(MPIEXEC), "-n", "2", sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@needs_mpi
def test_two_processes_of_mpi_find_the_same_bits(tmp_path) -> None:
    done = launched(tmp_path / "program.py", PROGRAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == 2


LOST = """
import time
from datetime import timedelta
import numpy as np
from stepfold import solve
from stepfold.distributed import ShardedLeastSquares
from stepfold.interop.mpi4py import MPIGroup

group = MPIGroup(timeout=timedelta(seconds=2))
patient = MPIGroup(timeout=timedelta(seconds=100))  # processes start at different times
problem = ShardedLeastSquares(np.eye(3) + group.rank, np.ones(3), patient)
problem.exchange.group = group
patient.gather(None)
if group.rank == 1:
    if HOW == "raises":
        raise RuntimeError("the disk is gone")
    time.sleep(1000)
solve(problem)
"""


@needs_mpi
@pytest.mark.parametrize("how", ["hangs", pytest.param("raises", marks=pytest.mark.slow)])
def test_a_process_that_is_lost_ends_all_in_words_within_the_timeout(tmp_path, how: str) -> None:
    done = launched(tmp_path / "program.py", f"HOW = {how!r}\n{LOST}")
    assert done.returncode != 0
    assert "process 0 of 2 got no answer from the others within 0:00:02" in done.stderr
    assert "all are aborted when this process ends" in done.stderr


ABSENT = """
import sys
sys.modules["mpi4py"] = None
from stepfold.interop.mpi4py import MPIGroup
try:
    MPIGroup()
except ImportError as error:
    assert "pip install '.[mpi]'" in str(error)
else:
    raise SystemExit(1)
"""


def test_a_missing_mpi_is_refused_with_the_extra() -> None:
    source = str(Path(stepfold.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", ABSENT],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
