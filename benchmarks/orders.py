"""How safe each order is: growth of heads and tails, and the error left by a real run.

Run as ``python benchmarks/orders.py``; it prints tables of docs/theory/orders.md in seconds.
The run is ``x ← x − γ (A x − b)`` with a dense A of 160 rows and condition number 1e4; "left" is
the relative error after the last whole period, in units of the machine's epsilon. κ = 1e4 is what
the rounding of A and b alone may cost.
"""

from __future__ import annotations

import math
import time

import numpy as np

from stepfold import Quadratic, Schedule, SpectralBounds, SpectralMeasure, chebyshev_steps
from stepfold.schedules import (
    ORDERS,
    chebyshev_steps_for_intervals,
    roundoff_amplification,
    spectral_intervals,
    worst_case_period_rate_on_intervals,
)

KAPPA = 1e4
BOUNDS = SpectralBounds(1.0, KAPPA)
SIZE = 160
ANGLES = np.linspace(0, np.pi / 2, SIZE)
SPREAD = np.cos(ANGLES) ** 2 + KAPPA * np.sin(ANGLES) ** 2
CLUSTERED = np.concatenate([np.linspace(1, 2, SIZE // 2), np.linspace(9e3, 1e4, SIZE // 2)])
OUTLIERS = np.concatenate([np.linspace(1, 10, SIZE - 4), [100.0, 1000.0, 5000.0, 1e4]])


def system(eigenvalues: np.ndarray, dtype: type) -> tuple[Quadratic, np.ndarray]:
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))
    hessian = (basis * eigenvalues) @ basis.T
    hessian = ((hessian + hessian.T) / 2).astype(dtype)
    rhs = (hessian.astype(np.float64) @ rng.standard_normal(SIZE)).astype(dtype)
    truth = np.linalg.solve(hessian.astype(np.float64), rhs.astype(np.float64))
    return Quadratic(hessian, rhs), truth


def left(schedule: Schedule, eigenvalues: np.ndarray, dtype: type, max_steps: int) -> float:
    problem, truth = system(eigenvalues, dtype)
    x = np.zeros(SIZE, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(math.ceil(max_steps / schedule.period)):
            for gamma in schedule:
                x = problem.gradient_step(x, gamma)
        error = np.linalg.norm(x - truth) / np.linalg.norm(truth)
    return float(error / np.finfo(dtype).eps)


def amplification(steps: np.ndarray, eigenvalues: np.ndarray) -> tuple[float, float]:
    """Largest head and tail on the eigenvalues themselves: a gap does no harm."""
    with np.errstate(divide="ignore"):
        logs = np.log10(np.abs(1 - steps[:, None] * eigenvalues))
    return max(np.cumsum(logs, 0).max(), 0.0), max(np.cumsum(logs[::-1], 0).max(), 0.0)


def number(value: float) -> str:
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e") if math.isfinite(value) else "lost"


def table_of_orders(title: str, steps: dict[int, np.ndarray], eigenvalues: np.ndarray) -> None:
    print(f"\n{title}\n")
    print("| T | order | heads | tails | left, float32 | left, float64 | ordering, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for period, gammas in steps.items():
        for name in ORDERS:
            start = time.perf_counter()
            schedule = Schedule(gammas).reordered(name)
            milliseconds = 1e3 * (time.perf_counter() - start)
            heads, tails = amplification(schedule.steps, eigenvalues)
            budget = max(3000, 4 * period)
            print(
                f"| {period} | {name} | 1e{heads:.1f} | 1e{tails:.1f} "
                f"| {number(left(schedule, eigenvalues, np.float32, budget))} "
                f"| {number(left(schedule, eigenvalues, np.float64, 4 * budget))} "
                f"| {milliseconds:.1f} |"
            )


def table_of_outliers() -> None:
    print("\nFour outliers: steps for the intervals, by margin\n")
    print("| margin | T | rate of a period | tails | left, float64 | Chebyshev's rate |")
    print("| --- | --- | --- | --- | --- | --- |")
    for margin in (1e-12, 1e-9, 1e-6, 1e-4, 1e-2):
        intervals = spectral_intervals(OUTLIERS, 5, margin=margin)
        schedule = chebyshev_steps_for_intervals(intervals, 32)
        hull = chebyshev_steps(SpectralBounds(intervals[0].lower, intervals[-1].upper), 32)
        tails = max(roundoff_amplification(schedule, interval)[1] for interval in intervals)
        print(
            f"| {margin:.0e} | 32 | {worst_case_period_rate_on_intervals(schedule, intervals):.1e} "
            f"| {number(tails)} | {number(left(schedule, OUTLIERS, np.float64, 960))} "
            f"| {worst_case_period_rate_on_intervals(hull, intervals):.2f} |"
        )


def main() -> None:
    lengths = (64, 100, 256, 1000, 1024)
    for kind, title in ((1, "Chebyshev steps, first kind"), (4, "Chebyshev steps, fourth kind")):
        table_of_orders(
            title, {t: chebyshev_steps(BOUNDS, t, kind=kind).steps for t in lengths}, SPREAD
        )
    measure = SpectralMeasure.from_eigenvalues(CLUSTERED)
    table_of_orders(
        "Optimal steps of two clusters, [1, 2] and [9000, 10000]",
        {t: 1 / measure.gauss_nodes_of_weighted(t) for t in (16, 27, 64, 100)},
        CLUSTERED,
    )
    table_of_outliers()


if __name__ == "__main__":
    main()
