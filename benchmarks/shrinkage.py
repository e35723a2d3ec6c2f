"""Optimal steps on fresh draws: from one draw's eigenvalues, and from the smeared measure.

For Gaussian matrices of shape (m, n) with entries of variance 1/m: mean squared error after T steps
on the draw that the steps were made from, on fresh draws with the steps of the draw's own
eigenvalues ("raw"), and on fresh draws with those of `ensemble_measure` of one draw and of four.
Medians over seeds of the mean over fresh draws; "law" knows the limiting distribution
(Marchenko–Pastur) but not how far a finite matrix strays from it; "worst" is the largest over
seeds.
"""

import argparse
import statistics

import numpy as np

from stepfold import SpectralMeasure, optimal_steps
from stepfold.measure import ensemble_measure
from stepfold.polynomial import mean_squared_error

SHAPES = [(600, 300), (450, 300), (200, 100), (110, 100), (64, 64), (400, 40), (60, 30)]
NUM_STEPS = [2, 5, 10, 20, 30]
NUM_FRESH = 32


def draw(num_rows: int, num_columns: int, seed: int) -> np.ndarray:
    """Eigenvalues of HᵀH for one Gaussian H."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((num_rows, num_columns)) / np.sqrt(num_rows)
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=9, help="draws to make steps from")
    num_seeds = parser.parse_args().seeds
    print(
        f"{'shape':>9} {'T':>3} {'the draw':>9} | {'raw':>9} {'one draw':>9} {'four':>9} {'law':>9}"
        f" | {'one/raw':>8} | {'worst raw':>9} {'worst one':>9}"
    )
    worst_harm = 0.0
    for num_rows, num_columns in SHAPES:
        draws = [draw(num_rows, num_columns, seed) for seed in range(4 * num_seeds)]
        fresh = [
            SpectralMeasure.from_eigenvalues(draw(num_rows, num_columns, 10_000 + k))
            for k in range(NUM_FRESH)
        ]
        law = SpectralMeasure.marchenko_pastur(num_columns / num_rows)

        def error(measure: SpectralMeasure, period: int, fresh: list = fresh) -> float:
            steps = optimal_steps(measure, period)
            return statistics.fmean(mean_squared_error(steps, other) for other in fresh)

        for period in NUM_STEPS:
            if period >= num_columns:
                continue
            seen, raw, one, four = [], [], [], []
            for seed in range(num_seeds):
                own = SpectralMeasure.from_eigenvalues(draws[seed])
                seen.append(mean_squared_error(optimal_steps(own, period), own))
                raw.append(error(own, period))
                one.append(error(ensemble_measure(draws[seed]), period))
                batch = np.array(draws[num_seeds + 3 * seed : num_seeds + 3 * seed + 3])
                four.append(error(ensemble_measure([draws[seed], *batch]), period))
            medians = [statistics.median(values) for values in (seen, raw, one, four)]
            limit = error(law, period)
            worst_harm = max(worst_harm, medians[2] / medians[1])
            print(
                f"{num_rows:>4}×{num_columns:<4} {period:>3} {medians[0]:9.2e} | "
                f"{medians[1]:9.2e} {medians[2]:9.2e} {medians[3]:9.2e} {limit:9.2e} | "
                f"{medians[2] / medians[1]:8.2g} | {max(raw):9.2e} {max(one):9.2e}",
                flush=True,
            )
    print(f"\nLargest harm (one/raw): {worst_harm:.3f}")


if __name__ == "__main__":
    main()
