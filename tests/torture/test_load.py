"""Many jobs in one process leave nothing open; calls side by side equal calls one by one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from stepfold import FixedPoint, LeastSquares, Logistic, Quadratic, chebyshev_steps, lasso, solve
from stepfold.spectrum import estimate_bounds

# Python 3.12 and later warn of every fork beside threads, which is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_jobs_leave_no_descriptor_and_no_thread(tmp_path) -> None:
    # In a process of its own: others' threads come and go in this one.
    code = f"""
import sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from load import held, once
rng, folder = np.random.default_rng(0), Path({str(tmp_path)!r})
once(rng, folder)  # what is imported and compiled at first use stays
once(rng, folder)
before = held()[1:]
for _ in range(3):
    once(rng, folder)
for _ in range(100):  # a thread that has done its work needs a moment to end
    after = held()[1:]
    if all(now <= then for now, then in zip(after, before)):
        break
    time.sleep(0.1)
print(*before, *after)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    descriptors, threads, descriptors_after, threads_after = map(int, done.stdout.split())
    assert descriptors_after <= descriptors
    assert threads_after <= threads


RNG = np.random.default_rng(1)
MATRIX, RHS = RNG.standard_normal((80, 30)), RNG.standard_normal(80)
BANDS = sp.diags_array([-np.ones(99), np.full(100, 2.1), -np.ones(99)], offsets=[-1, 0, 1])


def _cosine(x: Any) -> Any:
    return 0.9 * np.cos(x)


def _options(name: str) -> dict[str, Any]:
    """A problem, and the rest of the arguments of `solve`."""
    if name == "schedule":
        problem = LeastSquares(MATRIX, RHS)
        return {"problem": problem, "schedule": chebyshev_steps(estimate_bounds(problem), 8)}
    if name == "map":
        return {"problem": FixedPoint(_cosine), "x0": np.zeros(5)}
    makers: dict[str, Any] = {
        "least squares": lambda: LeastSquares(MATRIX, RHS),
        "batch": lambda: LeastSquares(MATRIX, RNG.standard_normal((3, 80))),
        "sparse": lambda: Quadratic(BANDS.tocsr(), np.ones(100)),
        "lasso": lambda: lasso(MATRIX, RHS, ratio=0.1),
        "logistic": lambda: Logistic(MATRIX, np.sign(RHS), ridge=0.1),
    }
    return {"problem": makers[name]()}


NAMES = ("least squares", "schedule", "batch", "sparse", "lasso", "logistic", "map")


def _solution(options: dict[str, Any]) -> tuple[bytes, str, int]:
    result = solve(**options)
    return result.x.tobytes(), result.status.name, result.num_steps


@pytest.mark.parametrize("name", NAMES)
def test_sixteen_calls_at_once_equal_one(name: str) -> None:
    options = _options(name)  # one problem for all of them
    alone = _solution(options)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(_solution, [options] * 32))
    assert together == [alone] * 32


def test_calls_of_an_event_loop_equal_one() -> None:
    options = _options("schedule")

    async def together() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(_solution, options) for _ in range(8)))

    # In a thread of its own: where a browser is open this thread has a loop already.
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        found = threads.submit(lambda: asyncio.run(together())).result()
    assert found == [_solution(options)] * 8


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_find_the_same_bits(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    every = [_options(name) for name in NAMES]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_solution, every) == [_solution(options) for options in every]


def test_joblib_finds_the_same_bits() -> None:
    joblib = pytest.importorskip("joblib")
    options = _options("least squares")
    for backend in ("threading", "multiprocessing"):
        done = joblib.Parallel(2, backend=backend)(
            joblib.delayed(_solution)(options) for _ in range(4)
        )
        assert done == [_solution(options)] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_fork_while_threads_solve_is_no_deadlock() -> None:
    options = _options("sparse")
    alone = _solution(options)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        busy = [threads.submit(_solution, options) for _ in range(64)]
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(_solution, (options,)).get(timeout=300) == alone
        assert all(done.result() == alone for done in busy)
