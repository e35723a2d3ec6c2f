"""Rows over two processes: what an iteration takes beside a loop by hand, and beside one process.

    python benchmarks/scale.py

It starts itself under torchrun. ``--rows`` and ``--columns`` set the size.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import numpy as np

from stepfold import LeastSquares, Schedule, solve
from stepfold.distributed import ShardedLeastSquares, processes

ROUNDS = 7
PERIOD = 50


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=1_000)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if "RANK" in os.environ:
        measure(options)
        return
    sizes = [f"--rows={options.rows}", f"--columns={options.columns}"]
    for count, threads in ((2, 1), (1, 2)):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        subprocess.run(
            [*launcher, f"--nproc-per-node={count}", __file__, *sizes],
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)},
            check=True,
        )


def measure(options: argparse.Namespace) -> None:
    import torch

    rng = np.random.default_rng(0)
    m, n = options.rows, options.columns
    A, b = rng.standard_normal((m, n)) / m**0.5, rng.standard_normal(m)
    with processes() as group:
        rows = np.array_split(np.arange(m), group.size)[group.rank]
        mine, entries = A[rows].copy(), b[rows]
        del A
        local, problem = LeastSquares(mine, entries), ShardedLeastSquares(mine, entries, group)
        steps = Schedule(np.full(PERIOD, 0.5))

        def by_hand() -> np.ndarray:
            x = np.zeros(n)
            for gamma in steps:
                gradient = local.gradient(x)
                torch.distributed.all_reduce(torch.from_numpy(gradient))
                x = x - gamma * gradient
            return x

        def by_solve() -> np.ndarray:
            return solve(problem, steps, max_steps=PERIOD, rtol=0.0, guard=None).x

        if not np.allclose(by_hand(), by_solve(), atol=1e-10):  # and all is compiled
            raise SystemExit("the two loops do not agree")
        times: dict[str, list[float]] = {"by hand": [], "solve": []}
        for _ in range(ROUNDS):
            for name, run in (("by hand", by_hand), ("solve", by_solve)):
                group.gather(None)
                begun = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - begun) / PERIOD * 1e3)
        if group.rank == 0:
            hand, ours = (float(np.median(times[name])) for name in ("by hand", "solve"))
            extra = float(np.median(np.subtract(times["solve"], times["by hand"])))
            print(
                f"{group.size} processes, A {m} × {n}: a step {ours:.2f} ms, by hand {hand:.2f}, "
                f"{extra:+.2f} ms (medians of {ROUNDS})"
            )


if __name__ == "__main__":
    main()
