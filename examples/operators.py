"""Operators and penalties of PyLops, pyproximal, ODL and SigPy, each solved in a line or two.

    python examples/operators.py

A package that is not installed is left out.
"""

from __future__ import annotations

import numpy as np

from stepfold import Composite, Gram, LeastSquares, estimate_bounds, solve

rng = np.random.default_rng(0)
signal = np.cumsum(rng.standard_normal(200) * (rng.random(200) < 0.05))


def pylops() -> str:
    from pylops import FirstDerivative, Identity, VStack

    operator = VStack([Identity(200), 3 * FirstDerivative(200)])  # smooth, and near the data
    data = np.concatenate([signal + 0.1 * rng.standard_normal(200), np.zeros(200)])
    bounds = estimate_bounds(Gram(operator))
    return f"{solve(LeastSquares(operator, data)).num_steps} steps, eigenvalues {bounds}"


def pyproximal() -> str:
    from pyproximal import L1

    from stepfold.interop.pyproximal import penalty

    matrix = rng.standard_normal((100, 200))
    sparse = np.where(rng.random(200) < 0.05, rng.standard_normal(200), 0.0)
    result = solve(Composite(LeastSquares(matrix, matrix @ sparse), penalty(L1(sigma=0.1))))
    return f"{result.num_steps} steps, {np.count_nonzero(abs(result.x) > 1e-6)} entries"


def odl() -> str:
    import odl

    from stepfold.interop.odl import linear_map

    space = odl.uniform_discr([0, 0], [1, 1], (32, 32))
    operator = linear_map(odl.Gradient(space))
    picture = np.add.outer(np.arange(32.0), np.arange(32.0)).ravel()
    result = solve(LeastSquares(operator, operator @ picture), rtol=1e-6)
    return f"{result.num_steps} steps, {result.status.name}"


def sigpy() -> str:
    from sigpy import linop

    from stepfold.interop.sigpy import linear_map

    mask = rng.random((32, 32)) < 0.5
    operator = linear_map(linop.Multiply((32, 32), mask) * linop.FFT((32, 32)))
    data = operator @ np.ones(1024, np.complex128)
    return f"{solve(LeastSquares(operator, data, ridge=1e-3)).num_steps} steps"


if __name__ == "__main__":
    for run in (pylops, pyproximal, odl, sigpy):
        try:
            print(f"{run.__name__}: {run()}")
        except ModuleNotFoundError as error:
            print(f"{run.__name__}: left out, {error.name} is not installed")
