"""Solving beside what people use: seconds, products and memory, as one table of medians.

    python benchmarks/solve.py                                # the whole table, under 12 minutes
    python benchmarks/solve.py --quick                        # small sizes, under 90 seconds
    python benchmarks/solve.py --only dense-step sparse-step
    python benchmarks/solve.py --write docs/reference/benchmarks.md  # replace its table

Contestants take turns and ratios are taken within a turn (see `_timing.py`). Thread counts are set
before anything is loaded, by starting the program again. Rivals that are not installed are named
and skipped. Losses are printed like wins.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from _timing import COMPARISON_HEADER, Report, markdown_row, with_threads

ROWS = {
    "automatic": "solve(problem) with no schedule, beside lsqr and cg",
    "small": "the same on problems of up to 300 unknowns",
    "dense-step": "one gradient step beside two BLAS products and a pure read of A",
    "dense-solve": "dense least squares to 1e-8, bounds known, beside lsqr and lsmr",
    "dense-unknown": "the same, bounds unknown, finding them included",
    "dense-ill": "bounds unknown, at a larger condition number",
    "many-sides": "64 right-hand sides beside lstsq and lsqr one by one",
    "sparse-step": "one CSR Poisson iteration beside one of cg",
    "sparse-solve": "CSR Poisson to equal true error beside cg, PETSc and PyAMG",
    "overhead": "n = 100 dense, one iteration beside one of cg",
    "memory": "vectors beside A",
    "size": "cost against size",
    "out-of-core": "A on disk beside lsqr and cg",
}
BEGIN, END = "<!-- benchmarks/solve.py: begin -->", "<!-- benchmarks/solve.py: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="small sizes and few repetitions")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page with the two markers")
    parser.add_argument("--figure", metavar="FILE", help="draw cost against size (matplotlib)")
    parser.add_argument("--petsc-python", default="/usr/bin/python3", help="has petsc4py")
    arguments = parser.parse_args()
    if arguments.write and (arguments.only or arguments.quick):
        parser.error("--write replaces the whole table: leave out --only and --quick")
    page = arguments.write.read_text() if arguments.write else ""
    if arguments.write and not (BEGIN in page and END in page):
        parser.error(f"{arguments.write} has no lines {BEGIN!r} and {END!r}")
    with_threads(arguments.threads)
    from stepfold import kernels

    kernels.load()  # what that costs: command_line.py
    begin = time.perf_counter()
    report = Report()
    conditions = machine(arguments.threads, quick=arguments.quick)
    print(f"{conditions}\n\n{markdown_row(COMPARISON_HEADER)}\n|{'---|' * len(COMPARISON_HEADER)}")
    failed: list[str] = []
    for name in arguments.only or ROWS:
        started = time.perf_counter()
        try:
            run(name, report, arguments)
        except Exception as error:  # noqa: BLE001, RUF100 (the other rows are worth having)
            traceback.print_exc()
            report.note(f"failed: {name}: {type(error).__name__}: {error}")
            failed.append(name)
        print(f"({name}: {time.perf_counter() - started:.0f} s)", file=sys.stderr, flush=True)
    total = f"The whole run took {time.perf_counter() - begin:.0f} s."
    print(f"\n{conditions} {total}\n\n{report.markdown()}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; nothing was written")
    if arguments.write:
        text = f"{BEGIN}\n{conditions} {total}\n\n{report.markdown()}{END}"
        pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
        arguments.write.write_text(pattern.sub(lambda _: text, page))


def run(name: str, report: Report, arguments: Any) -> None:
    """One row; NumPy and what is above it are loaded here, with the threads set."""
    import _solve_automatic
    import _solve_dense as dense
    import _solve_scale as scale
    import _solve_sparse as sparse

    quick = arguments.quick
    if name == "sparse-solve":
        sparse.sparse_solve(report, quick, arguments.petsc_python)
    elif name == "size":
        scale.size(report, quick, arguments.figure)
    else:
        {
            "automatic": _solve_automatic.automatic,
            "small": _solve_automatic.small,
            "dense-step": dense.dense_step,
            "dense-solve": dense.dense_solve,
            "dense-unknown": dense.dense_unknown,
            "dense-ill": dense.dense_ill,
            "many-sides": dense.many_sides,
            "sparse-step": sparse.sparse_step,
            "overhead": dense.overhead,
            "memory": scale.memory,
            "out-of-core": scale.out_of_core,
        }[name](report, quick)


def machine(threads: int, *, quick: bool) -> str:
    """What the numbers were measured with."""
    from importlib.metadata import PackageNotFoundError, version

    def versions() -> list[str]:
        found = []
        for package in ("numpy", "scipy", "numba"):
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                found.append(f"no {package}")
        return found

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    size = " Small sizes (--quick)." if quick else ""
    return (
        f"{cpu}, {os.cpu_count()} cores, {threads} threads{load}; "
        f"Python {platform.python_version()}, {', '.join(versions())}.{size}"
    )


if __name__ == "__main__":
    main()
