"""Peak memory of one training step against depth, with and without recomputing layers.

Unfolded gradient descent and ISTA (a threshold per layer) on a least-squares problem with 250 rows
and 1000 unknowns, a batch of 200 in float64: one iterate is 1.6 MB. Each measurement is made in a
forked process of its own: the highest resident memory during forward and backward pass, less that
before; and the time, relative to the same step without recomputing. glibc is told to give freed
tensors back to the system at once, or holes between them would be counted too.

    python benchmarks/training_memory.py [--depths 8 32 128] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from stepfold import LeastSquares, Schedule
from stepfold.iterations import GradientDescent, ProximalGradient
from stepfold.problems.penalties import L1
from stepfold.unfolded import UnfoldedIteration

SHAPE, BATCH = (250, 1000), 200
ITERATIONS = {
    "gradient descent": (GradientDescent(), {}),
    "ISTA": (ProximalGradient(L1(0.1)), {"penalty.weight": 0.1}),
}


def resident(name: str) -> float:
    """VmRSS (now) or VmHWM (highest so far) in MB."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(rf"{name}:\s+(\d+) kB", status)
    return int(kilobytes) / 1024


def step(kind: str, depth: int, every: int | None) -> tuple[float, float]:
    """Megabytes and seconds of a forward and a backward pass."""
    rng = np.random.default_rng(0)
    matrix = torch.tensor(rng.standard_normal(SHAPE) / math.sqrt(SHAPE[0]))
    problem = LeastSquares(matrix, torch.tensor(rng.standard_normal((BATCH, SHAPE[0]))))
    iteration, parameters = ITERATIONS[kind]
    network = UnfoldedIteration(
        Schedule(np.full(depth, 0.1)),
        iteration=iteration,
        parameters=parameters,
        recompute_every=every,
    )
    network(problem, num_layers=1).sum().backward()  # libraries load what they need
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    before = resident("VmRSS")
    start = time.perf_counter()
    network(problem).square().mean().backward()
    return resident("VmHWM") - before, time.perf_counter() - start


def measured(kind: str, depth: int, every: int | None) -> tuple[float, float]:
    """The same in a process of its own, so that no allocator remembers earlier ones."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, json.dumps(step(kind, depth, every)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        megabytes, seconds = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return megabytes, seconds


def main() -> None:
    if os.environ.get("MALLOC_MMAP_THRESHOLD_") != "65536":
        os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    parser = argparse.ArgumentParser()
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | layers | kept | MB, peak | of keeping all | time, of keeping all |")
    print("|---|---|---|---|---|---|")
    for kind in ITERATIONS:
        for depth in options.depths:
            plans: dict[str, int | None] = {
                "everything": None,
                "start of every layer": 1,
                f"start of 1 in {round(math.sqrt(depth))}": round(math.sqrt(depth)),
            }
            runs: dict[str, list[tuple[float, float]]] = {name: [] for name in plans}
            for _ in range(options.repeats):
                for name, every in plans.items():
                    runs[name].append(measured(kind, depth, every))
            base = [statistics.median(column) for column in zip(*runs["everything"], strict=True)]
            for name, pairs in runs.items():
                megabytes = statistics.median(pair[0] for pair in pairs)
                ratios = [
                    pair[1] / whole[1]
                    for pair, whole in zip(pairs, runs["everything"], strict=True)
                ]
                print(
                    f"| {kind} | {depth} | {name} | {megabytes:.0f} | "
                    f"{megabytes / base[0]:.2f} | {statistics.median(ratios):.2f} "
                    f"({min(ratios):.2f}–{max(ratios):.2f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
