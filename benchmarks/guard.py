"""What an upper bound that is 50 % too low costs under the guard, and what the guard itself costs.

Run as ``python benchmarks/guard.py``: it prints tables of docs/guides/solving.md in a minute.
"Cost" is products with the wrong bound over products with the right one, to a relative gradient
norm of 1e-8. Times are medians of interleaved runs, with the quartiles as the spread.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch

from stepfold import LeastSquares, Quadratic, SpectralBounds, chebyshev_steps, solve
from stepfold.schedules import SCHEDULES

SIZE = 200
KAPPAS = (10.0, 100.0, 1e3, 1e4)
PERIODS = (1, 4, 8, 16, 32, 64, 256, 1024)


def spectra(kappa: float) -> dict[str, np.ndarray]:
    """Eigenvalues with the exact ends 1 and kappa."""
    rng = np.random.default_rng(0)
    # Marchenko–Pastur, moved to the ends: the spectrum of a Gaussian matrix.
    gaussian = np.sort(np.linalg.eigvalsh(np.cov(rng.standard_normal((SIZE, 2 * SIZE)))))
    gaussian = (gaussian - gaussian[0]) / (gaussian[-1] - gaussian[0])
    return {
        "uniform": np.linspace(1.0, kappa, SIZE),
        "Gaussian": 1 + (kappa - 1) * gaussian,
        "one outlier": np.append(np.linspace(1.0, kappa / 2, SIZE - 1), kappa),
        "geometric": np.geomspace(1.0, kappa, SIZE),
    }


def dense(eigenvalues: np.ndarray) -> np.ndarray:
    basis, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((SIZE, SIZE)))
    matrix = (basis * eigenvalues) @ basis.T
    return (matrix + matrix.T) / 2


def costs(kappa: float, family: str = "chebyshev") -> dict[tuple[str, int], str]:
    table = {}
    for (name, eigenvalues), period in itertools.product(spectra(kappa).items(), PERIODS):
        if period == 1 and kappa > 1e3:
            continue  # hundreds of thousands of steps
        matrix = dense(eigenvalues)
        rhs = np.random.default_rng(2).standard_normal(SIZE)
        # The adversary shows a millionth of the component that will grow.
        if name == "one outlier":
            top = np.linalg.eigh(matrix)[1][:, -1]
            rhs = rhs - top * (top @ rhs) * (1 - 1e-6)
        problem = Quadratic(matrix, rhs)
        runs = [
            solve(
                problem,
                SCHEDULES[family](SpectralBounds(1.0, upper), period),
                max_steps=200_000,
            )
            for upper in (kappa, kappa / 2)
        ]
        right, wrong = (int(run.history.num_products[-1]) for run in runs)
        ends = "" if all(run.converged for run in runs) else f" {runs[0].status} {runs[1].status}"
        table[name, period] = f"{wrong / right:.2f}{ends}"
    return table


def table_of_costs() -> None:
    print("| κ | spectrum | " + " | ".join(f"T = {period}" for period in PERIODS) + " |")
    print("| --- | --- | " + " | ".join("---" for _ in PERIODS) + " |")
    for kappa in KAPPAS:
        table = costs(kappa)
        for name in spectra(kappa):
            cells = [table.get((name, period), "–") for period in PERIODS]
            print(f"| {kappa:g} | {name} | " + " | ".join(cells) + " |")


def table_of_overhead(num_runs: int = 21) -> None:
    print("\n| problem | T | unguarded, ms | guarded, ms |\n| --- | --- | --- | --- |")
    rng = np.random.default_rng(0)
    cases = {
        "dense 100 × 100": Quadratic(dense(np.linspace(1, 100, SIZE))[:100, :100], np.ones(100)),
        "least squares 2000 × 500": LeastSquares(
            rng.standard_normal((2000, 500)) / np.sqrt(2000), rng.standard_normal(2000)
        ),
    }
    for (name, problem), period in itertools.product(cases.items(), (8, 64, 1024)):
        values = np.linalg.eigvalsh(np.asarray(problem.hessian @ np.eye(problem.hessian.shape[0])))
        schedule = chebyshev_steps(SpectralBounds(float(values[0]), float(values[-1])), period)
        off = solve(problem, schedule, guard=None)
        on = solve(problem, schedule)
        if off.x.tobytes() != on.x.tobytes() or on.events:
            raise SystemExit(f"{name}, T = {period}: the guard changed the iterates")
        seconds: list[list[float]] = [[], []]
        for _ in range(num_runs):
            for times, guarded in zip(seconds, (False, True), strict=True):
                start = time.perf_counter()
                if guarded:
                    solve(problem, schedule)
                else:
                    solve(problem, schedule, guard=None)
                times.append(1e3 * (time.perf_counter() - start))
        cells = []
        for times in seconds:
            low, middle, high = np.percentile(times, [25, 50, 75])
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        print(f"| {name} | {period} | " + " | ".join(cells) + " |")


def table_of_precision() -> None:
    print(
        "\n| stored as | κ | error, eps of float64 | gradients in float64 | steps in fewer bits |"
    )
    print("| --- | --- | --- | --- | --- |")
    rng = np.random.default_rng(0)
    for kappa, name in itertools.product((8.0, 100.0, 1e4), ("float32", "float16", "bfloat16")):
        matrix, rhs = dense(np.linspace(1.0, kappa, SIZE)), rng.standard_normal(SIZE)
        solution = np.linalg.solve(matrix, rhs)
        high = Quadratic(torch.tensor(matrix), torch.tensor(rhs))
        dtype = getattr(torch, name)
        low = Quadratic(high.hessian.to(dtype), high.rhs.to(dtype))
        period = max(8, int(4 * np.sqrt(kappa)))
        schedule = chebyshev_steps(SpectralBounds(1.0, 1.01 * kappa), period)
        result = solve(high, schedule, rtol=0.0, low_precision=low, max_steps=20_000)
        error = np.linalg.norm(result.x.numpy() - solution) / np.linalg.norm(solution)
        checks = result.history.num_steps.size
        print(
            f"| {name} | {kappa:g} | {error / np.finfo(float).eps:.1e} | {checks} "
            f"| {result.num_steps} ({result.status.name}) |"
        )


def main() -> None:
    table_of_costs()
    table_of_overhead()
    table_of_precision()


if __name__ == "__main__":
    main()
