"""Heat in a plate of two metals, by multigrid with Chebyshev smoothers.

The plate conducts 1000 times better in some squares than in others. Conjugate gradients alone need
thousands of steps; with a multigrid cycle in front of them a few dozen. The smoothers of PyAMG's
hierarchy are replaced, level by level, by steps that stepfold computes from bounds.

    python examples/multigrid.py          65 536 unknowns, a few seconds
    python examples/multigrid.py 64       64² unknowns
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pyamg
import scipy.sparse as sp

from stepfold import Quadratic, plan
from stepfold.interop.petsc import multigrid_options
from stepfold.interop.pyamg import change_smoothers, solver
from stepfold.schedules import optimised_fourth_kind_steps


def plate(side: int) -> sp.csr_array:
    """Five-point finite volumes on a square of ``side``² cells, held at 0 along its boundary."""
    squares = 10.0 ** (3 * (np.random.default_rng(0).random((8, 8)) < 0.5))
    conductivity = np.pad(np.kron(squares, np.ones((side // 8, side // 8))), 1, mode="edge")
    inside = np.s_[1:-1, 1:-1]
    number = np.full(conductivity.shape, -1)
    number[inside] = np.arange(side * side).reshape(side, side)
    matrix = sp.csr_array((side * side, side * side))
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        there, other = (np.roll(v, shift, axis)[inside].ravel() for v in (conductivity, number))
        here = conductivity[inside].ravel()
        through = 2 * here * there / (here + there)
        rows = np.arange(side * side)
        matrix += sp.diags_array(through)
        links = other >= 0
        matrix -= sp.coo_array((through[links], (rows[links], other[links])), shape=matrix.shape)
    return sp.csr_array(matrix)


def solve(hierarchy: pyamg.MultilevelSolver, heat: np.ndarray) -> tuple[np.ndarray, int, float]:
    """Temperature, cycles, and seconds of the processor."""
    residuals: list[float] = []
    begin = time.process_time()
    x = hierarchy.solve(heat, tol=1e-8, accel="cg", residuals=residuals, maxiter=500)
    return x, len(residuals) - 1, time.process_time() - begin


def main(side: int) -> None:
    matrix = plate(side)
    heat = np.ones(side * side)

    for sentence in plan(Quadratic(matrix, heat), rtol=1e-8).advice:
        print(f"plan: {sentence}")

    print("\nsmoother                          cycles   seconds   largest temperature")
    hierarchy = pyamg.smoothed_aggregation_solver(matrix)
    x, cycles, seconds = solve(hierarchy, heat)
    print(f"Gauss–Seidel (PyAMG's default)    {cycles:6d}   {seconds:7.3f}   {x.max():.6f}")

    hierarchy = solver(matrix)
    x, cycles, seconds = solve(hierarchy, heat)
    print(f"fourth kind, 2 steps              {cycles:6d}   {seconds:7.3f}   {x.max():.6f}")

    smoothers = change_smoothers(hierarchy, optimised_fourth_kind_steps, 3)
    x, cycles, seconds = solve(hierarchy, heat)
    print(f"optimised fourth kind, 3 steps    {cycles:6d}   {seconds:7.3f}   {x.max():.6f}")

    print("\nThe smoothers, finest level first:")
    for smoother in smoothers:
        print(f"  {smoother}")
    print("\nFor PETSc, all levels alike:")
    print(multigrid_options(smoothers[0].schedule))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
