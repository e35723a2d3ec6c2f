"""Solve and train for an hour in one process, and watch what it holds on to.

    python tests/torture/load.py --seconds 3600 --record load.json --figure load.svg

Each job is drawn by a seeded generator: solves of every kind, with and without schedules, bounds,
measures, plans, files read out of core, trainings, records that are pickled and written as JSON,
solves in threads, and jobs that are refused. Every ten seconds the resident memory, the open file
descriptors and the threads of the process are written down. Exit code 1 if one of them grows: if
over the last three quarters of the time the fitted line rises by more than 2 % of the memory an
hour (20 MB at least), or by half a descriptor or thread.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import copy
import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from stepfold import (
    Composite,
    LeastSquares,
    Logistic,
    Quadratic,
    Result,
    Schedule,
    SpectralMeasure,
    accelerate,
    chebyshev_steps,
    estimate_bounds,
    lanczos_measure,
    lasso,
    optimal_steps,
    plan,
    solve,
)
from stepfold.problems import Preconditioned, jacobi_preconditioner
from stepfold.problems.out_of_core import BlockedLeastSquares
from stepfold.problems.penalties import nonnegative
from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally

PAGE = os.sysconf("SC_PAGE_SIZE")


def _matrix(rng: np.random.Generator) -> Any:
    return rng.standard_normal((int(rng.integers(20, 200)), int(rng.integers(5, 60))))


def _least_squares(rng: np.random.Generator) -> LeastSquares[Any]:
    matrix = _matrix(rng)
    return LeastSquares(matrix, rng.standard_normal(matrix.shape[0]), ridge=0.1)


def job_automatic(rng: np.random.Generator, folder: Path) -> None:
    solve(_least_squares(rng))


def job_schedule(rng: np.random.Generator, folder: Path) -> None:
    problem = _least_squares(rng)
    solve(problem, chebyshev_steps(estimate_bounds(problem), 16), max_steps=500)


def job_large(rng: np.random.Generator, folder: Path) -> None:
    matrix = rng.standard_normal((2000, 300))
    solve(LeastSquares(matrix, rng.standard_normal(2000)))


def job_batch(rng: np.random.Generator, folder: Path) -> None:
    matrix = _matrix(rng)
    solve(LeastSquares(matrix, rng.standard_normal((8, matrix.shape[0])), ridge=1.0))


def job_sparse(rng: np.random.Generator, folder: Path) -> None:
    size = int(rng.integers(100, 5000))
    ones = np.ones(size - 1)
    matrix = sp.diags_array([-ones, np.full(size, 2.01), -ones], offsets=[-1, 0, 1], format="csr")
    problem = Quadratic(matrix, rng.standard_normal(size))
    solve(problem, max_steps=200)
    solve(Preconditioned(problem, jacobi_preconditioner(problem)), max_steps=200)


def job_lasso(rng: np.random.Generator, folder: Path) -> None:
    matrix = _matrix(rng)
    solve(lasso(matrix, rng.standard_normal(matrix.shape[0]), ratio=0.1), gap_rtol=1e-6)
    solve(Composite(_least_squares(rng), nonnegative()))


def job_logistic(rng: np.random.Generator, folder: Path) -> None:
    matrix = _matrix(rng)
    labels = np.sign(rng.standard_normal(matrix.shape[0]))
    solve(Logistic(matrix, labels, ridge=0.1), max_steps=300)


def job_map(rng: np.random.Generator, folder: Path) -> None:
    shift = rng.standard_normal(30)
    accelerate(lambda x: 0.95 * np.cos(x) + shift, np.zeros(30), max_products=300)


def job_measure(rng: np.random.Generator, folder: Path) -> None:
    problem = _least_squares(rng)
    measure = lanczos_measure(problem.hessian, num_nodes=8)
    optimal_steps(measure, 4)
    plan(problem)


def job_out_of_core(rng: np.random.Generator, folder: Path) -> None:
    path = folder / "matrix.npy"
    np.save(path, rng.standard_normal((400, 30)))
    matrix = np.load(path, mmap_mode="r")
    problem = BlockedLeastSquares(matrix, rng.standard_normal(400), block_rows=64)
    solve(problem, chebyshev_steps(estimate_bounds(problem), 8), max_steps=64)


def job_training(rng: np.random.Generator, folder: Path) -> None:
    network = UnfoldedIteration(Schedule([0.3, 0.3, 0.3]))
    measure = SpectralMeasure.from_eigenvalues([0.5, 1.0, 2.0, 4.0])
    train_incrementally(network, SpectralLoss(measure), num_iterations=20)


def job_tensor(rng: np.random.Generator, folder: Path) -> None:
    matrix = torch.from_numpy(rng.standard_normal((60, 20)))
    solve(LeastSquares(matrix, torch.from_numpy(rng.standard_normal(60))))


def job_records(rng: np.random.Generator, folder: Path) -> None:
    result = solve(_least_squares(rng))
    again = pickle.loads(pickle.dumps(copy.deepcopy(result)))
    Result.from_dict(json.loads(json.dumps(again.to_dict())))
    str(again)


def job_threads(rng: np.random.Generator, folder: Path) -> None:
    problem = _least_squares(rng)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: solve(problem), range(8)))


def job_refused(rng: np.random.Generator, folder: Path) -> None:
    matrix = _matrix(rng)
    matrix[0, 0] = np.nan
    try:
        LeastSquares(matrix, np.ones(matrix.shape[0]))
    except ValueError:
        return
    raise AssertionError("a matrix with NaN was taken")


JOBS: dict[str, Callable[[np.random.Generator, Path], None]] = {
    name.removeprefix("job_"): job for name, job in list(globals().items()) if name[:4] == "job_"
}


def once(rng: np.random.Generator, folder: Path) -> None:
    """Every job, one after the other."""
    for job in JOBS.values():
        job(rng, folder)


def held() -> tuple[float, int, int]:
    """Resident memory in MB, open descriptors, threads."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6
    return resident, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def run(seconds: float, every: float, seed: int = 0) -> dict[str, Any]:
    """Work for so long, and return what was held when, and how many jobs were done."""
    rng = np.random.default_rng(seed)
    names = list(JOBS)
    counts = dict.fromkeys(names, 0)
    samples: list[tuple[float, ...]] = []
    began, due = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        # Every job once: what is imported and compiled at first use is no growth.
        once(rng, Path(folder))
        while (now := time.monotonic() - began) < seconds:
            if now >= due:
                samples.append((now, *held()))
                due = now + every
            name = names[int(rng.integers(len(names)))]
            JOBS[name](rng, Path(folder))
            counts[name] += 1
    return {"jobs": counts, "samples": samples}


def growth(samples: list[tuple[float, ...]]) -> dict[str, float]:
    """By how much a fitted line rises in an hour, over the last three quarters of the time."""
    times, *columns = np.array(samples[len(samples) // 4 :]).T
    names = ("memory, MB", "descriptors", "threads")
    return {
        name: float(np.polyfit(times / 3600, column, 1)[0])
        for name, column in zip(names, columns, strict=True)
    }


def draw(samples: list[tuple[float, ...]], path: Path) -> None:
    """Three curves over the minutes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    times, *columns = np.array(samples).T
    labels = ("resident memory, MB", "open descriptors", "threads")
    figure, axes = plt.subplots(3, 1, sharex=True, figsize=(7, 5), layout="constrained")
    for panel, label, column in zip(axes, labels, columns, strict=True):
        panel.plot(times / 60, column, linewidth=1)
        panel.set_ylim(0, 1.3 * float(np.max(column)))
        panel.set_ylabel(label)
    axes[-1].set_xlabel("minutes of mixed solves and trainings in one process")
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = run(given.seconds, given.every)
    rises = growth(found["samples"])
    if given.record:
        given.record.write_text(json.dumps({**found, "growth an hour": rises}))
    if given.figure:
        draw(found["samples"], given.figure)
    first, last = found["samples"][0], found["samples"][-1]
    print(f"{sum(found['jobs'].values())} jobs: {found['jobs']}")
    for name, *values in zip(rises, first[1:], last[1:], rises.values(), strict=True):
        print(
            f"{name}: {values[0]:.0f} at first, {values[1]:.0f} at last, {values[2]:+.2f} an hour"
        )
    allowed = {"memory, MB": max(20.0, 0.02 * last[1]), "descriptors": 0.5, "threads": 0.5}
    return int(any(rises[name] > most for name, most in allowed.items()))


if __name__ == "__main__":
    sys.exit(main())
