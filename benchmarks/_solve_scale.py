"""Rows of `solve.py` on memory and on size: vectors beside A, cost against size, A on disk."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _solve_sparse import poisson, poisson_bounds
from _timing import Report, fewest, seconds, slope, take_turns
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg, lsqr

from stepfold import (
    LeastSquares,
    Problem,
    Quadratic,
    SpectralBounds,
    chebyshev_steps,
    plan,
    solve,
)
from stepfold.problems.out_of_core import BlockedLeastSquares


def memory(report: Report, quick: bool) -> None:
    """Peak of what is allocated beside A and b while a run is under way, the solution included."""
    side = 200 if quick else 1_000
    matrix = poisson(side)
    rhs = np.random.default_rng(0).standard_normal(side**2)
    poisson_problem = Quadratic(matrix, rhs)
    schedule = chebyshev_steps(poisson_bounds(side), 16)
    rng = np.random.default_rng(1)
    tall = rng.standard_normal((20_000, 200))
    square = rng.standard_normal((2_000, 2_000))
    flat = SpectralBounds(1.0, 30.0)
    rows = []

    def add(what: str, run: Callable[[], Any], num_rows: int, num_columns: int) -> None:
        peak = allocated(run)
        long, short = peak / (8 * max(num_rows, num_columns)), peak / (8 * num_columns)
        rows.append([what, f"{peak / 1e6:.3g} MB", f"{long:.2f}", f"{short:.2f}"])

    def run(problem: Problem[Any]) -> Callable[[], Any]:
        steps = schedule if problem is poisson_problem else chebyshev_steps(flat, 16)
        # A budget that leaves no products for the diagnosis, which takes vectors of its own.
        per_step = 1 if problem is poisson_problem else 2
        return lambda: solve(problem, steps, rtol=0, max_products=33 * per_step)

    size = side**2
    add(f"solve, CSR Poisson {side}²", run(poisson_problem), size, size)
    add(
        f"SciPy cg, CSR Poisson {side}²",
        lambda: cg(matrix, rhs, rtol=0, atol=0, maxiter=32),
        size,
        size,
    )
    for name, dense in (("tall", tall), ("square", square)):
        m, n = dense.shape
        b = rng.standard_normal(m)
        scaled = dense / (m**0.5 + n**0.5)  # of norm 1, nearly
        add(f"solve, dense {name} {m} × {n}", run(LeastSquares(5 * scaled, b)), m, n)
        add(
            f"SciPy lsqr, dense {name} {m} × {n}",
            lambda a=5 * scaled, b=b: lsqr(a, b, atol=0, btol=0, conlim=0, iter_lim=32),
            m,
            n,
        )
    report.table(
        "Memory beside A and b, one right-hand side (target: at most 4 vectors)",
        ["run", "peak", "vectors of the longer side", "vectors of n"],
        rows,
        "Counted with tracemalloc, which sees NumPy's allocations.",
    )


def allocated(run: Callable[[], Any]) -> int:
    """Most bytes allocated at a time, after a run that imports and compiles."""
    run()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before


@dataclass(frozen=True)
class Scaling:
    """Seconds of a step against size."""

    title: str
    sizes: list[float]
    values: list[float]


def size(report: Report, quick: bool, figure: str | None = None) -> None:
    """Seconds of a step against the number of unknowns, and of rows."""
    repeats = 3 if quick else 7
    rows, sizes, values = [], [], []
    for side in (100, 200, 316) if quick else (100, 200, 316, 632, 1_000, 2_000):
        rhs = np.random.default_rng(0).standard_normal(side**2)
        bounds = poisson_bounds(side)
        timing, middle = step_seconds(Quadratic(poisson(side), rhs), bounds.upper, repeats)
        best = plan(bounds, rtol=1e-6)
        sizes.append(float(side**2))
        values.append(middle)
        rows.append(
            [
                f"{side**2:g}",
                timing,
                f"{middle / side**2 * 1e9:.2f} ns",
                f"{best.num_steps:g} ({best.schedule.period})",
                seconds(middle * best.num_steps),
            ]
        )
    first = Scaling("CSR Poisson", sizes, values)
    report.table(
        "Cost against size: CSR Poisson",
        ["unknowns", "a step", "per unknown", "steps to 1e-6 (period)", "time for them"],
        rows,
        f"Log–log slope of a step's time: {slope(sizes, values):.2f}.",
    )
    rows, sizes, values = [], [], []
    columns = 50
    for num_rows in (1_000, 10_000, 100_000) if quick else (1_000, 10_000, 100_000, 1_000_000):
        rng = np.random.default_rng(0)
        matrix, rhs = rng.standard_normal((num_rows, columns)), rng.standard_normal(num_rows)
        timing, middle = step_seconds(LeastSquares(matrix, rhs), 2.0 * num_rows, repeats)
        sizes.append(float(num_rows))
        values.append(middle)
        rows.append([f"{num_rows:g}", timing, f"{matrix.nbytes / middle / 1e9:.2f} GB/s"])
    report.table(
        f"Cost against size: dense least squares, {columns} columns",
        ["rows", "a step", "A per second"],
        rows,
        f"Log–log slope of a step's time: {slope(sizes, values):.2f}.",
    )
    if figure is not None:
        draw(figure, [first, Scaling(f"dense, {columns} columns", sizes, values)])


def step_seconds(problem: Problem[Any], upper: float, repeats: int) -> tuple[str, float]:
    """Median of a step, as text with its spread and as a number."""
    x = 0 * problem.linear_term
    count = max(1, min(20, int(2e6 / x.size)))

    def steps() -> None:
        y = x
        for _ in range(count):
            y = problem.gradient_step(y, 1.0 / upper)

    timing = take_turns({"step": steps}, repeats)["step"].per(count)
    low, high = min(timing.seconds), max(timing.seconds)
    return f"{seconds(timing.median)} ({seconds(low)}–{seconds(high)})", timing.median


def draw(path: str, curves: list[Scaling]) -> None:
    """Both curves on logarithmic axes; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        fitted = slope(curve.sizes, curve.values)
        axes.loglog(curve.sizes, curve.values, "o-", label=f"{curve.title}: slope {fitted:.2f}")
    axes.set(xlabel="unknowns or rows", ylabel="seconds of a step")
    axes.legend()
    figure.savefig(path)


def out_of_core(report: Report, quick: bool) -> None:
    """A on disk, ten times the memory allowed: to 1e-8, and what each method reads."""
    shape = (12_500, 500) if quick else (62_500, 2_000)
    rng = np.random.default_rng(0)
    solution = rng.standard_normal(shape[1])
    ends = [(shape[0] ** 0.5 + sign * shape[1] ** 0.5) ** 2 for sign in (-1, 1)]
    # Marchenko and Pastur's interval, with room for the fluctuation of the ends.
    bounds = SpectralBounds(0.97 * ends[0], 1.03 * ends[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.bin"
        rhs = np.empty(shape[0])
        matrix = np.memmap(path, np.float64, "w+", shape=shape)
        for start in range(0, shape[0], 2_500):
            rows = slice(start, min(start + 2_500, shape[0]))
            matrix[rows] = rng.standard_normal((rows.stop - start, shape[1]))
            rhs[rows] = matrix[rows] @ solution
        matrix.flush()
        problem = BlockedLeastSquares(matrix, rhs, memory=matrix.nbytes // 10)

        def ours(num_steps: int) -> Any:
            # A fresh problem: a kept one knows Aᵀb already.
            fresh = BlockedLeastSquares(matrix, rhs, memory=matrix.nbytes // 10)
            steps = chebyshev_steps(bounds, num_steps)
            x = solve(fresh, steps, rtol=0, max_steps=num_steps).x
            return x, fresh.bytes_read

        def reading(run: Callable[[], Any]) -> tuple[Any, int]:
            before = problem.bytes_read
            return run(), problem.bytes_read - before

        def theirs(iterations: int) -> Any:
            settings: dict[str, Any] = {"atol": 0, "btol": 0, "conlim": 0, "iter_lim": iterations}
            return reading(lambda: lsqr(aslinearoperator(problem.operator), rhs, **settings)[0])

        def fused_cg(iterations: int) -> Any:
            normal = LinearOperator(
                (shape[1], shape[1]), matvec=problem.operator.gram_product, dtype=np.float64
            )
            return reading(
                lambda: cg(
                    normal,
                    problem.operator.transposed_product(rhs),
                    rtol=0,
                    atol=0,
                    maxiter=iterations,
                )[0]
            )

        runs: dict[str, Callable[[], Any]] = {}
        facts: dict[str, tuple[int, float, int]] = {}
        for name, method in {
            "Chebyshev, bounds known": ours,
            "SciPy lsqr, read in blocks": theirs,
            "SciPy cg on AᵀA, fused product": fused_cg,
        }.items():
            best, error = fewest(
                lambda k, m=method: float(
                    np.linalg.norm(m(k)[0] - solution) / np.linalg.norm(solution)
                ),
                1e-8,
                16,
            )
            facts[name] = (best, error, method(best)[1])
            runs[name] = lambda k=best, m=method: m(k)
        timings = take_turns(runs, 2 if quick else 5)
        whole = matrix.nbytes
    table_rows = []
    for timing in timings.values():
        steps, error, read = facts[timing.name]
        table_rows.append(
            [
                timing.name,
                f"{steps}",
                f"{read / whole:g}",
                f"{read / 1e9:.2f} GB",
                seconds(timing.median),
                f"{read / timing.median / 1e9:.1f} GB/s",
                f"{error:.0e}",
            ]
        )
    report.table(
        f"A on disk, {whole / 1e6:g} MB, memory {whole // 10 / 1e6:g} MB, to a relative error of "
        "1e-8",
        ["method", "steps", "sweeps over A", "read", "time", "per second", "error"],
        table_rows,
        "The file fits the page cache here, so times are of memory; bytes read are what a disk "
        "would deliver.",
    )
