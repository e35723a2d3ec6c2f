"""Sparse rows of `solve.py`: CSR Poisson, one iteration and to equal true error."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from _timing import Report, Timing, fewest, take_turns
from scipy.sparse.linalg import cg

from stepfold import Quadratic, SpectralBounds, chebyshev_steps, estimate_bounds, plan, solve
from stepfold.spectrum import Lanczos

TOLERANCE = 1e-6
PETSC_PYTHON = "/usr/bin/python3"
"""Debian's python3-petsc4py serves the system's Python only."""


def poisson(side: int) -> Any:
    """Five-point Laplacian on ``side``² points: CSR, int32, float64."""
    one = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    eye = sp.eye_array(side)
    matrix = (sp.kron(one, eye) + sp.kron(eye, one)).tocsr()
    matrix.indices, matrix.indptr = matrix.indices.astype("i4"), matrix.indptr.astype("i4")
    return matrix


def poisson_bounds(side: int) -> SpectralBounds:
    """Its extreme eigenvalues."""
    ends = [8 * math.sin(k * math.pi / (2 * (side + 1))) ** 2 for k in (1, side)]
    return SpectralBounds(*ends)


def sparse_step(report: Report, quick: bool) -> None:
    """One iteration on a million unknowns."""
    side = 300 if quick else 1_000
    matrix = poisson(side)
    rhs = np.random.default_rng(0).standard_normal(side**2)
    problem = Quadratic(matrix, rhs)
    num_steps = 20
    schedule = chebyshev_steps(poisson_bounds(side), num_steps)

    def steps() -> None:
        x = np.zeros(side**2)
        for gamma in schedule:
            x = problem.gradient_step(x, gamma)

    found = take_turns(
        {
            "gradient_step": steps,
            "SciPy cg": lambda: cg(matrix, rhs, rtol=0, atol=0, maxiter=num_steps),
            "SciPy product": lambda: [matrix @ rhs for _ in range(num_steps)],
        },
        3 if quick else 11,
    )
    ours, theirs, product = (replace(t.per(num_steps), products=1.0) for t in found.values())
    what = f"one iteration, CSR Poisson {side}²"
    report.compare(what, ours, [theirs], target=0.40)
    report.compare(what, ours, [product])


def sparse_solve(report: Report, quick: bool, petsc_python: str = PETSC_PYTHON) -> None:
    """To a relative true error of 1e-6, from 0, for a solution that is rough."""
    # Below 20 000 unknowns Lanczos keeps its whole basis, which would be most of the time.
    side = 150 if quick else 400
    matrix, bounds = poisson(side), poisson_bounds(side)
    solution = np.random.default_rng(0).standard_normal(side**2)
    rhs = matrix @ solution
    norm = float(np.linalg.norm(solution))

    def error(x: Any) -> float:
        return float(np.linalg.norm(x - solution)) / norm

    problem = Quadratic(matrix, rhs)
    runs: dict[str, Callable[[], Any]] = {}
    facts: dict[str, tuple[float | None, float]] = {}

    def known(num_steps: int) -> tuple[Any, float]:
        period = min(num_steps, 1024)
        periods = -(-num_steps // period)
        schedule = chebyshev_steps(bounds, -(-num_steps // periods))
        result = solve(problem, schedule, rtol=0, max_steps=num_steps)
        return result.x, float(result.history.num_products[-1])

    def estimated() -> SpectralBounds:
        return estimate_bounds(matrix, method=Lanczos(max_steps=2_000, persistent=True))

    once = estimated()

    def unknown(quarters: int, found: SpectralBounds = once) -> tuple[Any, float]:
        rtol = 10.0 ** (-quarters / 4)
        best = plan(problem, rtol=rtol, bounds=found)
        result = solve(problem, best.schedule, rtol=rtol, max_steps=10**6)
        return result.x, float(found.num_products + result.history.num_products[-1])

    def scipy_cg(iterations: int) -> tuple[Any, float]:
        return cg(matrix, rhs, rtol=0, atol=0, maxiter=iterations)[0], float(iterations)

    def adaptive(quarters: int) -> tuple[Any, float]:
        from stepfold.interop.scipy import chebyshev

        done = [0]
        x, _ = chebyshev(
            matrix,
            rhs,
            rtol=10.0 ** (-quarters / 4),
            maxiter=10**6,
            callback=lambda _: done.__setitem__(0, done[0] + 1),
        )
        return x, float(done[0])

    def add(name: str, method: Callable[[int], tuple[Any, float]], guess: int) -> None:
        best, reached = fewest(lambda k: error(method(k)[0]), TOLERANCE, guess)
        facts[name] = (method(best)[1], reached)
        runs[name] = lambda: method(best)

    add("Chebyshev, bounds known", known, 4 * side)
    # Found with the bounds at hand; timed with finding them.
    add("estimate_bounds, plan, solve", unknown, 26)
    with_bounds = runs["estimate_bounds, plan, solve"]
    runs["estimate_bounds, plan, solve"] = lambda: (estimated(), with_bounds())
    try:
        add("interop.scipy.chebyshev, bounds unknown", adaptive, 26)
    except ImportError:
        report.note("skipped: `stepfold.interop.scipy.chebyshev` is not there")
    num_ours = len(runs)
    add("SciPy cg", scipy_cg, 4 * side)
    multigrid = pyamg_solver(matrix, rhs, error)
    if multigrid is None:
        report.note("skipped: PyAMG is not installed")
    else:
        runs["PyAMG, set-up included"], facts["PyAMG, set-up included"] = multigrid
    timings = [
        replace(t, products=facts[t.name][0], error=facts[t.name][1])
        for t in take_turns(runs, 3).values()
    ]
    rivals = timings[num_ours:]
    rivals += petsc(report, matrix, rhs, solution, bounds, petsc_python, 3)
    what = f"CSR Poisson {side}², κ = {bounds.condition_number:.2g}, error 1e-6"
    for ours in timings[:num_ours]:
        report.compare(what, ours, rivals)


def pyamg_solver(
    matrix: Any, rhs: Any, error: Callable[[Any], float]
) -> tuple[Callable[[], Any], tuple[None, float]] | None:
    """Classical multigrid to the tolerance; products are not counted."""
    if importlib.util.find_spec("pyamg") is None:
        return None
    import pyamg

    def run(cycles: int) -> Any:
        solver = pyamg.ruge_stuben_solver(sp.csr_matrix(matrix))
        return solver.solve(rhs, tol=1e-300, maxiter=cycles)

    best, reached = fewest(lambda k: error(run(k)), TOLERANCE, 8)
    return (lambda: run(best)), (None, reached)


PETSC_PROGRAM = """
import json, sys, time
import numpy as np
import petsc4py
petsc4py.init(["petsc"])
from petsc4py import PETSc

data = np.load(sys.argv[1])
lower, upper, tolerance, repeats = map(float, sys.argv[2:])
n = len(data["rhs"])
A = PETSc.Mat().createAIJ((n, n), csr=(data["indptr"], data["indices"], data["data"]))
b, x = A.createVecs()
b.setArray(data["rhs"])
solution = data["solution"]
norm = np.linalg.norm(solution)

def solver(kind, limit):
    ksp = PETSc.KSP().create()
    ksp.setOperators(A)
    ksp.setType(kind)
    ksp.getPC().setType("none")
    if kind == "chebyshev":
        options = PETSc.Options()
        options["ksp_chebyshev_eigenvalues"] = "%r,%r" % (lower, upper)
        ksp.setFromOptions()
    ksp.setNormType(PETSc.KSP.NormType.NONE)
    ksp.setTolerances(max_it=limit)
    ksp.setConvergenceTest(lambda *_: None)
    return ksp

def error_after(kind, limit):
    x.set(0.0)
    solver(kind, limit).solve(b, x)
    return float(np.linalg.norm(x.getArray() - solution) / norm)

for kind in ("chebyshev", "cg"):
    low, high = 0, 64
    while not error_after(kind, high) <= tolerance and high < 10**6:
        low, high = high, 2 * high
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        if error_after(kind, middle) <= tolerance:
            high = middle
        else:
            low = middle
    seconds = []
    for _ in range(int(repeats)):
        x.set(0.0)
        ksp = solver(kind, high)
        begin = time.perf_counter()
        ksp.solve(b, x)
        seconds.append(time.perf_counter() - begin)
    error = float(np.linalg.norm(x.getArray() - solution) / norm)
    print(json.dumps({"kind": kind, "steps": high, "seconds": seconds, "error": error}))
"""


def petsc(
    report: Report,
    matrix: Any,
    rhs: Any,
    solution: Any,
    bounds: SpectralBounds,
    python: str,
    repeats: int,
) -> list[Timing]:
    """PETSc's `chebyshev` and `cg`, in the Python that has it; one process, one thread.

    They do not take turns with ours, so their ratios are of medians.
    """
    try:
        probe = subprocess.run([python, "-c", "import petsc4py"], capture_output=True, check=False)
    except OSError:
        probe = None
    if probe is None or probe.returncode:
        report.note(f"skipped: PETSc, {python} has no petsc4py (Debian: python3-petsc4py)")
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "system.npz"
        np.savez(
            path,
            indptr=matrix.indptr,
            indices=matrix.indices,
            data=matrix.data,
            rhs=rhs,
            solution=solution,
        )
        numbers = (bounds.lower, bounds.upper, TOLERANCE, repeats)
        done = subprocess.run(
            [python, "-c", PETSC_PROGRAM, str(path), *map(str, map(float, numbers))],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        report.note(f"skipped: PETSc failed: {done.stderr.strip().splitlines()[-1:]}")
        return []
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [
        Timing(f"PETSc {f['kind']}", tuple(f["seconds"]), float(f["steps"]), f["error"])
        for f in found
    ]
