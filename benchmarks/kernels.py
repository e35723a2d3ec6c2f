"""One-pass kernels beside two products, beside a pure read, and beside an iteration of SciPy's cg.

    python benchmarks/kernels.py                 # about three minutes, 2 GB
    python benchmarks/kernels.py --quick         # a minute, a quarter of the size
    python benchmarks/kernels.py --only sparse

Rivals and kernels take turns; ratios are taken within a turn, and their median and quartiles are
printed. Run it on a quiet machine: the kernels are bound by memory, which other programs share.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import cg

from stepfold import LeastSquares, Quadratic
from stepfold.kernels import _threads

Contest = dict[str, Callable[[], Any]]


def race(title: str, contest: Contest, *, turns: int) -> None:
    """Print median times and ratios to the first contestant."""
    for run in contest.values():
        run()  # compiles, and touches memory
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    for _ in range(turns):
        for name, run in contest.items():
            start = time.perf_counter()
            inner = run()
            elapsed = time.perf_counter() - start
            seconds[name].append(inner if isinstance(inner, float) else elapsed)
    rival = np.array(next(iter(seconds.values())))
    for name, times in seconds.items():
        low, middle, high = np.quantile(np.array(times) / rival, [0.25, 0.5, 0.75])
        print(
            f"| {title} | {name} | {1000 * np.median(times):.3g} | {1000 * min(times):.3g} | "
            f"{middle:.2f} ({low:.2f} to {high:.2f}) |",
            flush=True,
        )


@functools.cache
def reader() -> Any:
    def read(matrix: Any, start: int, stop: int, out: Any) -> None:
        # Eight rows at a time, as the processor reads fastest.
        sums = matrix.dtype.type(0)
        for i in range(start, stop - 7, 8):
            a, b, c, d = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
            e, f, g, h = matrix[i + 4], matrix[i + 5], matrix[i + 6], matrix[i + 7]
            for j in range(matrix.shape[1]):
                sums += ((a[j] + b[j]) + (c[j] + d[j])) + ((e[j] + f[j]) + (g[j] + h[j]))
        out[0] = sums

    return numba.njit(nogil=True, fastmath=True)(read)


def pure_read(matrix: Any) -> None:
    ranges = _threads.split_evenly(len(matrix), _threads.num_threads())
    outs = [np.empty(1, matrix.dtype) for _ in ranges]
    calls = [(matrix, *ends, out) for ends, out in zip(ranges, outs, strict=True)]
    _threads.run(reader(), calls)


def dense(scale: int, turns: int) -> None:
    rng = np.random.default_rng(0)
    rows, columns = 20_000 // scale, 4000
    cases: Iterable[tuple[str, Any, int]] = [
        ("C", np.float64, 1),
        ("C", np.float32, 1),
        ("F", np.float64, 1),
        ("F", np.float32, 1),
        ("C", np.float64, 2),
        ("C", np.float64, 8),
        ("F", np.float64, 4),
        ("C", np.complex64, 1),
        ("C", np.complex128, 1),
    ]
    for order, dtype, batch in cases:
        matrix = rng.standard_normal((rows, columns)).astype(dtype)
        matrix = np.asarray(matrix, order=order)
        b = rng.standard_normal((batch, rows)).astype(dtype)
        x = rng.standard_normal((batch, columns)).astype(dtype)
        if batch == 1:
            b, x = b[0], x[0]
        problem = LeastSquares(matrix, b)
        contest: Contest = {
            "two products": functools.partial(two_products, matrix, b, x),
            str(problem.kernel): functools.partial(problem.gradient_step, x, 1e-5),
        }
        if order == "C" and batch == 1:
            contest["pure read"] = functools.partial(pure_read, matrix)
        title = f"{rows} × {columns} {order} {np.dtype(dtype).name}, {batch} right-hand side(s)"
        race(title, contest, turns=turns)
        print(f"|   | memory beside A and b: {vectors(problem, x):.1f} vectors of x | | | |")


def two_products(matrix: Any, b: Any, x: Any) -> Any:
    residual = b.T - matrix @ x.T
    if matrix.dtype.kind == "c":
        return x + 1e-5 * (matrix.T @ residual.conj()).conj().T
    return x + 1e-5 * (matrix.T @ residual).T


def vectors(problem: Any, x: Any) -> float:
    """Peak memory of a step and its start, in vectors of the size of x."""
    tracemalloc.start()
    problem.gradient_step(x, 1e-5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(1 + peak / x.nbytes)


def poisson(side: int) -> Any:
    one = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    eye = sp.eye_array(side)
    return (sp.kron(one, eye) + sp.kron(eye, one)).tocsr()


def cg_iteration(matrix: Any, b: Any, count: int) -> float:
    """Seconds of one iteration, the start of the run taken off."""
    marks: list[float] = []
    cg(matrix, b, rtol=0, maxiter=count, callback=lambda _: marks.append(time.perf_counter()))
    return float((marks[-1] - marks[0]) / (len(marks) - 1))


def sparse(scale: int, turns: int) -> None:
    rng = np.random.default_rng(0)
    side = 1000 // int(scale**0.5)
    matrix = poisson(side)
    for dtype in (np.float64, np.float32):
        a = matrix.astype(dtype)
        b, x = (rng.standard_normal(side**2).astype(dtype) for _ in range(2))
        quadratic = Quadratic(a, b)
        contest: Contest = {
            "one iteration of cg": functools.partial(cg_iteration, a, b, 6),
            "x + γ(b − A x) in SciPy": lambda a=a, b=b, x=x: x + 0.1 * (b - a @ x),
            str(quadratic.kernel): functools.partial(quadratic.gradient_step, x, 0.1),
        }
        race(f"Poisson {side}², {np.dtype(dtype).name}", contest, turns=turns)
        print(f"|   | memory beside A and b: {vectors(quadratic, x):.1f} vectors of x | | | |")
        for convert in (sp.csr_array, sp.csc_array):
            problem = LeastSquares(convert(a), b)
            contest = {
                "two products in SciPy": functools.partial(two_products, problem.operator, b, x),
                str(problem.kernel): functools.partial(problem.gradient_step, x, 0.1),
            }
            race(f"AᵀA of it, {np.dtype(dtype).name}", contest, turns=turns)
            print(f"|   | memory beside A and b: {vectors(problem, x):.1f} vectors of x | | | |")


def small(_scale: int, turns: int) -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((100, 100))
    matrix = factor @ factor.T + 1000 * np.eye(100)
    b = rng.standard_normal(100)
    quadratic = Quadratic(matrix, b)

    def steps(x: Any = b) -> float:
        start = time.perf_counter()
        for _ in range(200):
            x = quadratic.gradient_step(x, 1e-4)
        return (time.perf_counter() - start) / 200

    contest: Contest = {
        "one iteration of cg": functools.partial(cg_iteration, matrix, b, 30),
        "gradient step": steps,
    }
    race("100 × 100, float64", contest, turns=20 * turns)


def first(_scale: int, _turns: int) -> None:
    """Seconds until the first step is done, in a process of its own, and of the second step."""
    code = (
        "import time, numpy as np\nfrom stepfold import LeastSquares, kernels\n"
        "x = np.ones(2000); p = LeastSquares(np.ones((2000, 2000), order={order!r}), x)\n"
        "t = time.perf_counter(); kernels.load(); p.gradient_step(x, 0.1)\n"
        "print(time.perf_counter() - t)"
    )
    for order in "CF":
        times = [
            float(subprocess.check_output([sys.executable, "-c", code.format(order=order)]))
            for _ in range(4)
        ]
        print(f"| first step, {order} order | cached | {1000 * np.median(times[1:]):.0f} | | |")


def main() -> None:
    parts = {"dense": dense, "sparse": sparse, "small": small, "first": first}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the size, fewer turns")
    parser.add_argument("--only", choices=parts)
    arguments = parser.parse_args()
    print(f"{_threads.num_threads()} threads\n")
    print("| what | who | median ms | least ms | ratio (quartiles) |\n|---|---|---|---|---|")
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(4 if arguments.quick else 1, 5 if arguments.quick else 15)


if __name__ == "__main__":
    main()
