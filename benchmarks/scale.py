"""Rows over two processes: overhead, a matrix larger than memory, a killed process, training.

    python benchmarks/scale.py                                    # all four rows; five minutes
    python benchmarks/scale.py --quick                            # small sizes; one minute
    python benchmarks/scale.py --only disk --gigabytes 6 --folder /scratch
    python benchmarks/scale.py --write docs/reference/benchmarks.md # replace the table in that page

Processes are started by torchrun, with one thread each. Each row prints what it took and the load
of the machine.

- *overhead*: a step of `solve` beside a loop written by hand over the same sums and the same
  kernels, in turns within one pair of processes; and the iterates beside those of one process with
  two threads.
- *disk*: a matrix in parts, larger than the memory that the processes may have together: the two
  workers and the launcher get 500 MB of private writable memory each (``RLIMIT_DATA``), which the
  system enforces. Bytes are those that the workers asked the system for (``rchar``). The system's
  cache of files is not limited; what it holds of the parts is dropped before the first run.
- *killed*: the same run with and without a worker that is killed half way, under torchrun's
  restart.
- *training*: mini-batches a second with two processes and with one, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stepfold.distributed import write_parts

WORK = Path(__file__).with_name("_scale_work.py")
BEGIN, END = "<!-- benchmarks/scale.py: begin -->", "<!-- benchmarks/scale.py: end -->"
# Of private writable memory, for each of the two workers and the launcher.
LIMIT = 500 * 10**6
PART_BYTES = 2**27
# How long a run may take, seconds.
PATIENCE = 1800


def launch(
    row: str, processes: int, threads: int = 1, *, restarts: int = 0, limit: int = 0, **options: Any
) -> Any:
    """Run a row's work under torchrun; what process 0 found."""
    count = str(threads)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={processes}", f"--max-restarts={restarts}"),
            *(str(WORK), row, json.dumps(options)),
        ],
        env={
            "GLOO_SOCKET_IFNAME": "lo",
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count),
            "NUMBA_NUM_THREADS": count,
        },
        preexec_fn=functools.partial(limited, limit) if limit else None,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{row} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def limited(num_bytes: int) -> None:
    """Limit the private writable memory of this process and of each that it starts."""
    resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, num_bytes))


def overhead(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    rows, columns = (4_000, 200) if options.quick else (20_000, 1_000)
    with scratch(options) as folder:
        sizes = {"rows": rows, "columns": columns, "rounds": 5 if options.quick else 9}
        two = launch("overhead", 2, **sizes, folder=str(folder))
        one = launch("overhead", 1, 2, **sizes, folder=str(folder))
        for name, found in two.items():
            x, alone = (np.load(folder / f"{name}-{count}.npy") for count in (2, 1))
            apart = np.linalg.norm(x - alone) / np.linalg.norm(alone)
            yield (
                f"{name}, A {rows} × {columns}, beside a loop by hand",
                f"{found['extra']:+.2f} ms a step, between the shortest runs {found['least']:+.2f} "
                f"({found['solve']:.2f} and {found['by hand']:.2f}; one process with two threads "
                f"{one[name]['extra']:+.2f}, {one[name]['solve']:.2f}); {found['sums']} sums in "
                f"{found['steps']} steps; iterates differ by {found['apart']:.0e} from those by "
                f"hand, {apart:.0e} from those of one process; {found['CPU']:+.2f} ms of the "
                "processor",
                "≤ 0.6 ms",
            )


def disk(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    gigabytes = options.gigabytes or (0.5 if options.quick else 6.0)
    with scratch(options) as folder:
        begun = time.perf_counter()
        rows, columns = written(folder, gigabytes)
        wrote = time.perf_counter() - begun
        for known in (False, True):
            name = "Chebyshev steps" if known else "`solve` without steps"
            forgotten(folder)
            found = launch("disk", 2, limit=LIMIT, folder=str(folder), known=known)
            if found["status"] != "CONVERGED" or found["error"] > 1e-6:
                raise SystemExit(f"not solved: {found}")
            steps, size = found["steps"], found["size"]
            sweeps = found["bytes"] / size
            yield (
                f"{size / 1e9:.1f} GB on disk (A {rows} × {columns}), {name}",
                f"{found['status']}, error {found['error']:.0e}, {steps} steps; read "
                f"{sweeps:.2f} × A; "
                f"{found['from disk'] / size:.2f} × A came from the disk and the rest from the "
                f"system's cache; {found['seconds']:.0f} s, {size / 1e9 * sweeps:.0f} GB "
                f"({size / 1e9 * sweeps / found['seconds']:.1f} GB/s); peak memory of the workers "
                + " and ".join(f"{peak / 1e6:.0f}" for peak in found["peaks"])
                + " MB with their libraries' pages"
                + ("" if known else f"; writing it took {wrote:.0f} s"),
                "solved; 1 × A a step; 1.5 GB",
            )


def written(folder: Path, gigabytes: float) -> tuple[int, int]:
    """A matrix in parts, whose AᵀA has a condition number of about 10, and b = Ax."""
    columns = 4_000
    per_part = PART_BYTES // (8 * columns)
    count = max(2, round(gigabytes * 1e9 / (8 * columns * per_part)))
    rows = count * per_part
    scales = np.geomspace(1.0, 0.5, columns) / rows**0.5
    x = np.random.default_rng(1).standard_normal(columns)
    np.save(folder / "x.npy", x)
    # Ends of the spectrum of AᵀA: those of a Gaussian matrix, whose columns are scaled after.
    spread = (columns / rows) ** 0.5
    np.save(folder / "ends.npy", [max(0.9 - spread, 0.05) ** 2 / 4, (1.1 + spread) ** 2])
    rhs = []

    def parts() -> Iterator[np.ndarray]:
        for place in range(count):
            rng = np.random.default_rng((2, place))
            part = rng.standard_normal((per_part, columns)) * scales
            rhs.append(part @ x)
            yield part

    write_parts(folder / "A", parts())
    write_parts(folder / "b", rhs)
    return rows, columns


def forgotten(folder: Path) -> None:
    """Ask the system to keep nothing of the parts in its cache."""
    for path in (folder / "A").iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)  # what has not been written yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def killed(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    rows, columns = (4_000, 200) if options.quick else (20_000, 600)
    with scratch(options) as folder:
        for known in (True, False):
            name = "Chebyshev steps" if known else "`solve` without steps"
            settings = {
                "rows": rows,
                "columns": columns,
                "checkpoint": str(folder / "run.npz"),
                "log": str(folder / "killed.json"),
                "known": known,
            }
            times, ends = [], []
            for at in (0, 0.6):
                begun = time.perf_counter()
                step = 0 if not at else round(at * ends[0]["steps"])
                ends.append(launch("killed", 2, restarts=1, at=step, **settings))
                times.append(time.perf_counter() - begun)
            whole, after = ends
            death = json.loads((folder / "killed.json").read_text())
            again = after["steps"] + death["steps"] - whole["steps"]
            x, other = (np.array(end["x"]) for end in ends)
            apart = np.linalg.norm(x - other) / np.linalg.norm(x)
            same = "the same bits" if whole["mark"] == after["mark"] else f"differs by {apart:.0e}"
            if after["status"] != "CONVERGED" or (known and apart > 1e-12):
                raise SystemExit(f"the answers differ: {apart}")
            yield (
                f"killed at step {death['steps']} of {whole['steps']}, {name}",
                f"{times[1] - times[0]:+.1f} s in all ({times[1]:.1f} and {times[0]:.1f}); from "
                f"the death to the first step {after['first'] - death['killed']:.1f} s; "
                f"{again:+d} steps of {1e3 * whole['step']:.1f} ms; {same}",
                "equal answer",
            )


def training(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    settings = {"width": 512, "batch": 256 if options.quick else 512}
    settings["iterations"] = 10 if options.quick else 40
    rates: dict[int, list[float]] = {1: [], 2: []}
    ends = {}
    for _ in range(1 if options.quick else 3):
        for count, found in rates.items():
            told = launch("training", count, **settings)
            found.append(told["per second"])
            ends[count] = told["steps"]
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    apart = float(np.abs(np.subtract(ends[2], ends[1])).max())
    one, two = (statistics.median(rates[count]) for count in (1, 2))
    yield (
        "training, 4 layers with a matrix of 512 × 512 each",
        f"{ratio:.2f} times the mini-batches a second ({two:.1f} and {one:.1f}), medians of "
        f"{len(rates[1])}; learned steps differ by {apart:.0e}",
        "≥ 1.7",
    )


ROWS = {"overhead": overhead, "killed": killed, "training": training, "disk": disk}


@contextlib.contextmanager
def scratch(options: argparse.Namespace) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        yield Path(folder)


def replace(page: Path, table: str) -> None:
    text = page.read_text(encoding="utf-8")
    between = f"{re.escape(BEGIN)}.*{re.escape(END)}"
    made = f"{BEGIN}\n\n{table}\n\n{END}"
    page.write_text(re.sub(between, lambda _: made, text, flags=re.DOTALL), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--gigabytes", type=float, help="size of the matrix on disk")
    parser.add_argument("--folder", type=Path, help="where it goes, and is removed from")
    parser.add_argument("--write", type=Path, help="a page whose table is replaced")
    options = parser.parse_args()
    if options.gigabytes is not None and not options.gigabytes > 0:
        parser.error(f"--gigabytes must be positive, got {options.gigabytes}")
    table = ["| row | measured | aimed at | seconds | load |", "|---|---|---|--:|--:|"]
    for name in options.only:
        begun = time.perf_counter()
        for what, measured, aim in ROWS[name](options):
            took = time.perf_counter() - begun
            load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            table.append(f"| {what} | {measured} | {aim} | {took:.0f} | {load} |")
            print(table[-1], flush=True)
            begun = time.perf_counter()
    if options.write:
        replace(options.write, "\n".join(table))


if __name__ == "__main__":
    main()
