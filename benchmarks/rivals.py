"""Rivals beside each other: errors at equal iterations, products and seconds at equal error.

    OMP_NUM_THREADS=2 python benchmarks/rivals.py            # about three minutes on 2 cores
    OMP_NUM_THREADS=2 python benchmarks/rivals.py --quick    # smaller problems, half a minute

Tables in Markdown. Each method gets the fewest iterations that bring the true error down to the
target, found by bisection; these are then timed, methods interleaved, and the median is given with
the quartiles. Products with A and with its transpose count singly.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, cg, lsmr, lsqr

from stepfold import Quadratic, SpectralBounds, chebyshev_steps, constant_steps, solve
from stepfold.interop.scipy import as_preconditioner, chebyshev, lsq_chebyshev
from stepfold.iterations import (
    GradientDescent,
    barzilai_borwein,
    heavy_ball,
    nesterov,
    semi_iteration,
)

PERIOD, PERIODS = 16, 4
ERROR = 1e-8


@dataclass(frozen=True)
class Method:
    """A solver ``matrix, budget -> x``; None for a budget it cannot be held to."""

    name: str
    run: Callable[[Any, int], Any]


def counted(matrix: Any) -> tuple[Any, list[int]]:
    count = [0]

    def product(operator: Any) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            count[0] += 1
            return operator @ x

        return call

    operator = LinearOperator(
        matrix.shape, matvec=product(matrix), rmatvec=product(matrix.T), dtype=matrix.dtype
    )
    return operator, count


def fewest(reaches: Callable[[int], bool], limit: int = 1 << 15) -> int | None:
    """Smallest budget that reaches the target, among those beyond which doubling does."""
    high = 1
    while not reaches(high):
        high *= 2
        if high > limit:
            return None
    low = high // 2
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def timed(tasks: list[Callable[[], Any]], repeats: int) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in tasks]
    for _ in range(repeats):
        for task, record in zip(tasks, seconds, strict=True):
            start = time.perf_counter()
            task()
            record.append(time.perf_counter() - start)
    return seconds


def published() -> None:
    rng = np.random.RandomState(12)
    matrix = rng.normal(0, 1 / np.sqrt(300), (300, 450))
    hessian, solution = matrix @ matrix.T, rng.normal(0, 1, 300)
    eigenvalues = np.linalg.eigvalsh(hessian)
    bounds = SpectralBounds(eigenvalues[0], eigenvalues[-1])
    problem = Quadratic(hessian, hessian @ solution)
    methods: dict[str, tuple[Any, Any]] = {
        "constant step": (constant_steps(bounds), GradientDescent()),
        f"Chebyshev steps, T = {PERIOD}": (chebyshev_steps(bounds, PERIOD), GradientDescent()),
        "heavy ball": heavy_ball(bounds),
        "Nesterov": nesterov(bounds),
        "Barzilai–Borwein": barzilai_borwein(bounds),
        "semi-iteration": semi_iteration(bounds),
    }
    print(f"## Error left, n = 300, m = 450, κ = {bounds.condition_number:.1f}\n")
    at = [PERIOD * k for k in range(1, PERIODS + 1)]
    print("| method | " + " | ".join(f"t = {t}" for t in at) + " | steps to 1e-8 |")
    print("| --- |" + " --- |" * (len(at) + 1))
    start = np.linalg.norm(solution)
    for name, (schedule, iteration) in methods.items():
        state, norms = iteration.init(problem, np.zeros(300)), []
        for t in range(at[-1]):
            state = iteration.step(problem, state, schedule(t))
            norms.append(np.linalg.norm(iteration.iterate(state) - solution) / start)
        steps = solve(problem, schedule, iteration=iteration).num_steps
        print(f"| {name} | " + " | ".join(f"{norms[t - 1]:.1e}" for t in at) + f" | {steps} |")
    norms: list[float] = []
    cg(hessian, problem.linear_term, rtol=1e-8,
       callback=lambda x: norms.append(np.linalg.norm(x - solution) / start))  # fmt: skip
    steps = len(norms)
    print("| SciPy's cg | " + " | ".join(f"{norms[t - 1]:.1e}" for t in at) + f" | {steps} |\n")


def compare(title: str, matrix: Any, solution: Any, methods: list[Method], repeats: int) -> None:
    print(f"## {title}\n")
    print("| method | iterations | products | seconds (quartiles) | of the first |")
    print("| --- | --- | --- | --- | --- |")
    size = np.linalg.norm(solution)

    def reaches(method: Method) -> Callable[[int], bool]:
        return lambda k: np.linalg.norm(method.run(matrix, k) - solution) <= ERROR * size

    budgets = [fewest(reaches(method)) for method in methods]
    able = [(m, k) for m, k in zip(methods, budgets, strict=True) if k is not None]
    seconds = timed([lambda m=m, k=k: m.run(matrix, k) for m, k in able], repeats)
    first = statistics.median(seconds[0])
    for (method, budget), record in zip(able, seconds, strict=True):
        operator, count = counted(matrix)
        method.run(operator, budget)
        low, middle, high = np.quantile(record, [0.25, 0.5, 0.75])
        print(
            f"| {method.name} | {budget} | {count[0]} | {middle:.3g} ({low:.3g}–{high:.3g}) "
            f"| {middle / first:.2f} |"
        )
    for method, budget in zip(methods, budgets, strict=True):
        if budget is None:
            print(f"| {method.name} | not reached | | | |")
    print()


def least_squares(num_rows: int, num_columns: int, kappa: float | None, repeats: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((num_rows, num_columns)) / np.sqrt(num_rows)
    if kappa is not None:
        # Columns in different units: a spectrum that is not a random matrix's.
        matrix *= np.geomspace(1.0, 1 / kappa, num_columns)
    values = np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix))
    b = rng.standard_normal(num_rows)
    solution = np.linalg.lstsq(matrix, b)[0]
    bounds = SpectralBounds(values[0] ** 2, values[-1] ** 2)
    methods = [
        Method("SciPy's lsqr", lambda a, k: lsqr(a, b, atol=0, btol=0, conlim=0, iter_lim=k)[0]),
        Method("SciPy's lsmr", lambda a, k: lsmr(a, b, atol=0, btol=0, conlim=0, maxiter=k)[0]),
        Method("lsq_chebyshev", lambda a, k: lsq_chebyshev(a, b, 0, 0, 0, k).x),
        Method(
            "lsq_chebyshev, bounds known",
            lambda a, k: lsq_chebyshev(a, b, 0, 0, 0, k, bounds=bounds).x,
        ),
    ]
    title = f"Least squares {num_rows} × {num_columns}, κ(A) = {values[-1] / values[0]:.3g}"
    compare(title, matrix, solution, methods, repeats)


def poisson(side: int, repeats: int) -> None:
    one = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    eye = sp.eye_array(side)
    matrix = sp.csr_array(sp.kron(one, eye) + sp.kron(eye, one))
    solution = np.random.default_rng(0).standard_normal(side * side)
    b = matrix @ solution
    ends = [8 * np.sin(k * np.pi / (2 * (side + 1))) ** 2 for k in (1, side)]
    bounds = SpectralBounds(*ends)
    schedule = chebyshev_steps(SpectralBounds(ends[1] / 50, ends[1]), 8)

    def preconditioned(a: Any, k: int) -> Any:
        return cg(a, b, rtol=0, maxiter=k, M=as_preconditioner(a, schedule, bounds=bounds))[0]

    methods = [
        Method("SciPy's cg", lambda a, k: cg(a, b, rtol=0, maxiter=k)[0]),
        Method("cg with 8 Chebyshev steps as M", preconditioned),
        Method("chebyshev", lambda a, k: chebyshev(a, b, rtol=0, maxiter=k)[0]),
        Method(
            "chebyshev, bounds known",
            lambda a, k: chebyshev(a, b, rtol=0, maxiter=k, bounds=bounds)[0],
        ),
    ]
    title = f"Poisson {side} × {side}, κ(A) = {bounds.condition_number:.3g}"
    compare(title, matrix, solution, methods, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    published()
    if options.quick:
        least_squares(2000, 400, None, options.repeats)
        least_squares(2000, 400, 30.0, options.repeats)
        poisson(60, options.repeats)
        return
    least_squares(20000, 4000, None, options.repeats)
    least_squares(10000, 2000, 30.0, options.repeats)
    poisson(300, options.repeats)


if __name__ == "__main__":
    main()
