"""Poisson's equation in the plane by a sparse factorisation, and by conjugate gradients in `solve`.

    python benchmarks/factorised.py

SuperLU, which SciPy has, with an ordering for symmetric matrices. Processor seconds, medians and
quartiles of 3 turns; both to a residual of 1e-8, which a factorisation is far below.
"""

from __future__ import annotations

import time

import numpy as np
import scipy.sparse as sparse
from _timing import quartiles, take_turns
from scipy.sparse.linalg import splu

from stepfold import Quadratic, solve

SETTINGS = ((200, 1), (400, 1), (200, 16))  # unknowns along a side, right-hand sides


def poisson(side: int) -> sparse.csc_array:
    line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    same = sparse.eye_array(side)
    return sparse.csc_array(sparse.kron(same, line) + sparse.kron(line, same))


def main() -> None:
    print("| unknowns | right-hand sides | `splu` | `solve` | ratio (quartiles) |")
    print("|---|---|---|---|---|")
    for side, count in SETTINGS:
        matrix = poisson(side)
        rows = np.random.default_rng(0).standard_normal((count, side * side))
        stored = sparse.csr_array(matrix)

        def factorise(matrix: sparse.csc_array = matrix, rows: np.ndarray = rows) -> np.ndarray:
            options = {"SymmetricMode": True}
            return splu(matrix, permc_spec="MMD_AT_PLUS_A", options=options).solve(rows.T)

        def iterate(matrix: sparse.csr_array = stored, rows: np.ndarray = rows) -> np.ndarray:
            return solve(Quadratic(matrix, rows), rtol=1e-8).x

        timings = take_turns({"splu": factorise, "solve": iterate}, 3, clock=time.process_time)
        pairs = zip(timings["solve"].seconds, timings["splu"].seconds, strict=True)
        low, middle, high = quartiles([ours / theirs for ours, theirs in pairs])
        theirs, ours = timings["splu"].median, timings["solve"].median
        print(
            f"| {side}² | {count} | {theirs:.2f} s | {ours:.2f} s "
            f"| {middle:.2f} ({low:.2f}–{high:.2f}) |"
        )


if __name__ == "__main__":
    main()
