"""What the processes of `benchmarks/scale.py` do; process 0 prints the numbers as one line of JSON.

torchrun --nproc-per-node 2 benchmarks/_scale_work.py ROW '{"columns": 1000, …}'
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stepfold import LeastSquares, Schedule, SpectralBounds, chebyshev_steps, solve
from stepfold.distributed import (
    Group,
    Parts,
    ShardedLeastSquares,
    processes,
    resumable_solve,
)

PERIOD = 60
# Blocks of a process that sweeps its share on disk.
BLOCK_BYTES = 2**26


def share(group: Group, rows: int, columns: int, smallest: float) -> tuple[Any, Any]:
    """This process's rows of a Gaussian matrix whose columns are scaled, and of b.

    The matrix is the same whatever the number of processes, of which there are eight at most.
    """
    sizes = np.geomspace(1.0, smallest, columns) / rows**0.5
    first, stop = (rows * place // group.size for place in (group.rank, group.rank + 1))
    pieces = []
    for place in range(first * 8 // rows, -(-stop * 8 // rows)):
        low, high = (rows * each // 8 for each in (place, place + 1))
        piece = np.random.default_rng(place).standard_normal((high - low, columns + 1))
        pieces.append(piece[max(first - low, 0) : stop - low])
    both = np.concatenate(pieces)
    return both[:, :-1] * sizes, np.ascontiguousarray(both[:, -1])


def overhead(group: Group, *, rows: int, columns: int, rounds: int, folder: str) -> dict[str, Any]:
    """Known steps and conjugate gradients, each beside a loop by hand over the same sums."""
    import torch

    A, b = share(group, rows, columns, 0.2)
    local, problem = LeastSquares(A, b), ShardedLeastSquares(A, b, group)
    steps = Schedule(np.full(PERIOD, 0.5))

    def summed(part: np.ndarray) -> np.ndarray:
        torch.distributed.all_reduce(torch.from_numpy(part))
        return part

    def known_by_hand() -> np.ndarray:
        x = np.zeros(columns)
        for gamma in steps:
            x = x - gamma * summed(local.gradient(x))
        return x

    def conjugate_by_hand() -> np.ndarray:
        x = np.zeros(columns)
        g = summed(local.gradient(x))
        p, square = -g, g @ g
        for _ in range(PERIOD):
            image = summed(local.product(p))
            alpha = square / (p @ image)
            x += alpha * p
            g += alpha * image
            square, before = g @ g, square
            p = square / before * p - g
        return x

    def size(x: np.ndarray) -> float:
        return float(np.linalg.norm(summed(local.gradient(x))))

    runs: dict[str, tuple[Callable[[], Any], Any]] = {
        "known steps": (known_by_hand, steps),
        "conjugate gradients": (conjugate_by_hand, None),
    }
    found: dict[str, Any] = {}
    for name, (by_hand, schedule) in runs.items():
        other = by_hand()
        # Both take as many steps: a run that ends without success would look for the cause.
        rtol = 1.0001 * size(other) / size(np.zeros(columns))

        def by_solve(schedule: Any = schedule, rtol: float = rtol) -> np.ndarray:
            result = solve(problem, schedule, rtol=rtol)
            if result.num_steps != PERIOD:
                raise SystemExit(f"{result.num_steps} steps instead of {PERIOD}")
            return result.x

        by_solve()  # and all is compiled
        before = problem.exchange.num_sums
        x = by_solve()
        sums = problem.exchange.num_sums - before
        times, processor = [], []
        for _ in range(rounds):
            pairs = []
            for run in (by_hand, by_solve):
                group.gather(None)
                begun = time.perf_counter(), time.process_time()
                run()
                ended = time.perf_counter(), time.process_time()
                pairs.append(np.subtract(ended, begun) / PERIOD * 1e3)
            times.append([pair[0] for pair in pairs])
            processor.append(pairs[1][1] - pairs[0][1])
        if group.rank == 0:
            np.save(Path(folder) / f"{name}-{group.size}.npy", x)
        hand, ours = np.median(times, axis=0).tolist()
        extra = float(np.median(np.diff(times, axis=1)))
        least = float(np.diff(np.min(times, axis=0))[0])
        apart = float(np.linalg.norm(x - other) / np.linalg.norm(other))
        found[name] = {
            "by hand": hand,
            "solve": ours,
            "extra": extra,
            "least": least,
            "apart": apart,
            "CPU": float(np.median(processor)),
            "sums": sums,
            "steps": PERIOD,
        }
    return found


def disk(group: Group, *, folder: str, known: bool) -> dict[str, Any]:
    """Least squares from parts on disk, with the bytes that were read for it."""
    place = Path(folder)
    matrix, rhs = Parts.of_matrix(place / "A"), Parts.of_rhs(place / "b")
    first, stop = matrix.share(group.rank, group.size)
    entries = rhs.entries(first, stop)
    problem = ShardedLeastSquares(matrix.rows(first, stop), entries, group, memory=BLOCK_BYTES)
    schedule = chebyshev_steps(SpectralBounds(*np.load(place / "ends.npy")), 16) if known else None
    before, begun = _read_bytes(), time.perf_counter()
    result = solve(problem, schedule)
    seconds = time.perf_counter() - begun
    asked, from_disk = (after - at for after, at in zip(_read_bytes(), before, strict=True))
    told = group.gather((asked, from_disk, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    wanted = np.load(place / "x.npy")
    return {
        "status": result.status.name,
        "steps": result.num_steps,
        "bytes": sum(one[0] for one in told),
        "from disk": sum(one[1] for one in told),
        "size": int(np.prod(matrix.shape)) * matrix.dtype.itemsize,
        "peaks": [one[2] * 1024 for one in told],
        "seconds": seconds,
        "error": float(np.linalg.norm(result.x - wanted) / np.linalg.norm(wanted)),
    }


def _read_bytes() -> tuple[int, int]:
    """Bytes that this process has asked for, and those that came from a disk."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"]), int(lines["read_bytes"])


def killed(
    group: Group, *, rows: int, columns: int, checkpoint: str, at: float, log: str, known: bool
) -> dict[str, Any]:
    """A run of which one process is killed, unless `at`, its part of the run, is 0."""
    A, b = share(group, rows, columns, 0.01)
    problem = ShardedLeastSquares(A, b, group)
    bounds = SpectralBounds(0.5e-4, 1.6)
    schedule = chebyshev_steps(bounds, 64) if known else None
    is_first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    steps: list[float] = []

    def watch(count: int, x: Any) -> None:
        del x
        steps.append(time.time())
        if at and is_first and count == at and group.rank == group.size - 1:
            with Path(log).open("w") as file:
                json.dump({"killed": time.time(), "steps": count}, file)
            os.kill(os.getpid(), signal.SIGKILL)

    result = resumable_solve(
        problem, schedule, checkpoint=checkpoint, every=0.25, rtol=1e-8, callback=watch
    )
    return {
        "status": result.status.name,
        "steps": result.num_steps,
        "first": steps[0],
        "step": (steps[-1] - steps[0]) / max(1, len(steps) - 1),
        "mark": hashlib.sha256(np.ascontiguousarray(result.x).tobytes()).hexdigest(),
        "gradient": float(result.gradient_norm),
        "x": np.asarray(result.x).tolist(),
    }


def training(group: Group, *, width: int, batch: int, iterations: int) -> dict[str, Any]:
    """Iterations of a training of four layers with a matrix each, two batches to an iteration."""
    import torch

    from stepfold.unfolded import Sample, SampledLoss, Stage, UnfoldedIteration, train

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [torch.nn.Linear(width, width) for _ in range(4)]
    for layer in layers:
        torch.nn.init.eye_(layer.weight)

    def step(x: Any, params: Any, y: Any) -> Any:
        return torch.tanh(x + params.step * layers[params.layer](y - x))

    def sampler(rng: np.random.Generator) -> Sample:
        y = torch.from_numpy(rng.standard_normal((batch, width), dtype=np.float32))
        return Sample(y, torch.tanh(0.5 * y))

    network = UnfoldedIteration(Schedule(np.full(4, 0.3)), iteration=step, dtype=torch.float32)
    loss = SampledLoss(sampler)
    # Optimisers, buffers for sums and compiled products come with the first iterations.
    train(network, loss, [Stage(4, 2)], batches_per_step=2)
    group.gather(None)
    begun = time.perf_counter()
    train(network, loss, [Stage(4, iterations)], batches_per_step=2)
    group.gather(None)
    seconds = time.perf_counter() - begun
    return {"per second": 2 * iterations / seconds, "steps": network.steps.tolist()}


ROWS: dict[str, Callable[..., dict[str, Any]]] = {
    "overhead": overhead,
    "disk": disk,
    "killed": killed,
    "training": training,
}


def main() -> None:
    row, options = sys.argv[1], json.loads(sys.argv[2])
    with processes() as group:
        found = ROWS[row](group, **options)
        if group.rank == 0:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
