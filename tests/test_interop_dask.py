"""Rows in a cluster of Dask."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepfold
from stepfold import chebyshev_steps, estimate_bounds, solve

da = pytest.importorskip("dask.array", reason="dask is not installed (the extra `dask`)")
distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

from stepfold.interop.dask import DaskLeastSquares  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask's own closing

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((203, 20)), RNG.standard_normal((2, 203))
SOLUTION = np.linalg.lstsq(A, B.T, rcond=None)[0].T


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with distributed.Client(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as client:
        yield client


@pytest.mark.parametrize("remote", [True, False], ids=["rhs in the cluster", "rhs here"])
def test_both_kinds_of_runs_find_the_solution(client: Any, remote: bool) -> None:
    matrix = da.from_array(A, chunks=(50, 20))
    rhs = da.from_array(B, chunks=(1, 70)) if remote else B
    problem = DaskLeastSquares(matrix, rhs, client=client)
    for schedule in (None, chebyshev_steps(estimate_bounds(problem), 8)):
        result = solve(problem, schedule)
        assert result.converged
        np.testing.assert_allclose(result.x, SOLUTION, atol=1e-6)


def test_the_scheduler_has_no_more_tasks_after_a_run_than_before(client: Any) -> None:
    problem = DaskLeastSquares(da.from_array(A, chunks=(50, 20)), B[0], client=client)
    before = len(client.cluster.scheduler.tasks)
    assert solve(problem).num_steps > 10
    assert len(client.cluster.scheduler.tasks) <= before


def test_blocks_of_columns_and_shapes_that_do_not_fit_are_refused(client: Any) -> None:
    with pytest.raises(ValueError, match=r"one block of columns, got 2.*rechunk"):
        DaskLeastSquares(da.from_array(A, chunks=(50, 10)), B[0], client=client)
    with pytest.raises(ValueError, match=r"`rhs` must have shape \(203,\)"):
        DaskLeastSquares(da.from_array(A, chunks=(50, 20)), B[0, 1:], client=client)
    with pytest.raises(TypeError, match="must be an array of Dask, got ndarray"):
        DaskLeastSquares(A, B[0], client=client)


@pytest.mark.parametrize("unit", [1e-25, 1e22])
def test_single_precision_in_any_units_has_the_solution(client: Any, unit: float) -> None:
    matrix = da.from_array((unit * A).astype("float32"), chunks=(50, 20))
    rhs = np.stack([unit * B[0], 1e-6 * unit * B[1]]).astype("float32")
    problem = DaskLeastSquares(matrix, rhs, client=client)
    for schedule in (None, chebyshev_steps(estimate_bounds(problem), 8)):
        result = solve(problem, schedule)
        assert result.converged
        found = result.x * np.array([[1.0], [1e6]])
        np.testing.assert_allclose(found, SOLUTION, rtol=0, atol=2e-3 * abs(SOLUTION).max())


LOST = """
import os
import signal
import sys

import dask.array as da
import distributed
import numpy as np

from stepfold import SpectralBounds, chebyshev_steps, solve
from stepfold.interop.dask import DaskLeastSquares


def main():
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((400, 20)), rng.standard_normal(400)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        problem = DaskLeastSquares(da.from_array(A, chunks=(100, 20)), b, client=client, timeout=60)
        lost = next(iter(client.run(os.getpid).values()))
        if sys.argv[1] == "SIGSTOP":
            problem._timeout = 2.0  # nothing but the answers is waited for from here on

        def callback(count, x):
            if count == 10:
                os.kill(lost, getattr(signal, sys.argv[1]))

        schedule = chebyshev_steps(SpectralBounds(1.0, 1e3), 64)
        try:
            solve(problem, schedule, rtol=1e-14, callback=callback)
        except ConnectionError as error:
            print("words:", error, flush=True)
        os.kill(lost, signal.SIGKILL) if sys.argv[1] == "SIGSTOP" else None


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("how", ["SIGKILL", pytest.param("SIGSTOP", marks=pytest.mark.slow)])
def test_a_worker_that_is_lost_or_hangs_ends_the_run_in_words(tmp_path: Path, how: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(LOST)
    source = str(Path(stepfold.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(program), how],
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "words: a worker of Dask that holds rows is lost or hangs" in done.stdout, done.stderr
    assert ("within 2 s" in done.stdout) == (how == "SIGSTOP")


def test_a_timeout_that_is_none_is_refused(client: Any) -> None:
    with pytest.raises(ValueError, match="`timeout` must be positive"):
        DaskLeastSquares(da.from_array(A, chunks=(50, 20)), B[0], client=client, timeout=0)
