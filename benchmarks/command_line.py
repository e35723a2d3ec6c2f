"""`stepfold solve` beside a script with SciPy's solver: whole processes, in processor seconds.

    python benchmarks/command_line.py [--quick]

The script does the same: it reads the files, iterates as often as `stepfold solve` did steps, and
writes x. "Loading" is that script without iterations. Contestants take turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from _solve_automatic import laplacian
from _solve_sparse import poisson

STEPFOLD = Path(sys.executable).with_name("stepfold")
SCRIPT = """
import sys
import numpy as np
folder, solver, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
{read}
b = np.load(folder + "/b.npy")
from scipy.sparse.linalg import cg, lsqr
x = np.zeros(A.shape[1])
if count and solver == "lsqr":
    x = lsqr(A, b, atol=0, btol=0, conlim=0, iter_lim=count)[0]
elif count:
    x = cg(A, b, rtol=0, maxiter=count)[0]
np.save(folder + "/theirs.npy", x)
"""
READ = {
    ".npy": 'A = np.load(folder + "/A.npy")',
    ".npz": 'import scipy.sparse\nA = scipy.sparse.load_npz(folder + "/A.npz")',
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one turn")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    scale = 10 if arguments.quick else 1
    words = sp.random_array((100_000 // scale, 5_000 // scale), density=4e-3, format="csr", rng=rng)
    jobs: dict[str, tuple[Any, str]] = {
        f"sparse {words.shape[0]} × {words.shape[1]}": (words, "lsqr"),
        f"dense {20_000 // scale} × 800": (rng.standard_normal((20_000 // scale, 800)), "lsqr"),
        f"Laplacian of {40_000 // scale} nodes": (laplacian(40_000 // scale, rng), "cg"),
        f"Poisson {400 // scale}²": (poisson(400 // scale), "cg"),
    }
    print("| problem | ours, CPU s | script | its loading | ratio | steps |")
    print("|---|---|---|---|---|---|")
    for name, (matrix, solver) in jobs.items():
        with tempfile.TemporaryDirectory() as folder:
            row(name, matrix, solver, Path(folder), turns=1 if arguments.quick else 5, rng=rng)


def row(
    name: str, matrix: Any, solver: str, folder: Path, *, turns: int, rng: np.random.Generator
) -> None:
    suffix = ".npz" if sp.issparse(matrix) else ".npy"
    (sp.save_npz if sp.issparse(matrix) else np.save)(folder / f"A{suffix}", matrix)
    np.save(folder / "b.npy", rng.standard_normal(matrix.shape[0]))
    script = folder / "script.py"
    script.write_text(SCRIPT.format(read=READ[suffix]))
    ours = [str(STEPFOLD), "solve", str(folder / f"A{suffix}"), str(folder / "b.npy")]
    ours += ["--rtol", "1e-7", "--json", "-o", str(folder / "ours.npy"), "--force"]
    seconds: dict[str, list[float]] = {"ours": [], "script": [], "loading": []}
    steps = 0
    for _ in range(turns + 1):  # the first turn reads everything from disk
        time, output = cpu_seconds(ours)
        steps = int(json.loads(output)["num_steps"])
        seconds["ours"].append(time)
        for what, count in (("script", steps), ("loading", 0)):
            command = [sys.executable, str(script), str(folder), solver, str(count)]
            seconds[what].append(cpu_seconds(command)[0])
    ratios = [a / b for a, b in zip(seconds["ours"][1:], seconds["script"][1:], strict=True)]
    medians = [statistics.median(times[1:]) for times in seconds.values()]
    cells = " | ".join(f"{median:.2f}" for median in medians)
    print(f"| {name} | {cells} | {statistics.median(ratios):.2f} | {steps} |", flush=True)


def cpu_seconds(command: list[str]) -> tuple[float, str]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, output


if __name__ == "__main__":
    main()
