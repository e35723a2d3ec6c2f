"""Solve the matrices that textbooks and test suites are hard with, and print a table in Markdown.

    python tests/torture/classics.py

Each system has the right-hand side A·1, and is solved without a schedule and with the steps that
`plan` recommends. The gradient and the error are computed in long double, or in
80 digits where long double does not suffice.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).parent))
from torture_oracles import Oracle, norm, wide

from stepfold import LeastSquares, Quadratic, plan, solve


@dataclass(eq=False)
class System:
    """What the oracle reads, and a name."""

    name: str
    matrix: Any
    form: str
    ridge: float = 0.0
    metric: Any = None
    rhs: Any = None

    def __post_init__(self) -> None:
        self.rhs = self.matrix @ np.ones(self.matrix.shape[1])


def _graded(size: int, most: float) -> Any:
    """A well-conditioned symmetric matrix whose rows and columns are in units down to 1/most."""
    random = np.random.default_rng(0).standard_normal((size, size))
    core = np.eye(size) + 0.1 * (random + random.T) / np.sqrt(size)
    units = np.geomspace(1, 1 / most, size)
    return units[:, None] * core * units


def systems() -> Iterator[System]:
    """Every system of the table."""
    for size in (5, 8, 12):
        yield System(f"Hilbert {size}", scipy.linalg.hilbert(size), "quadratic")
    yield System("Hilbert 8, least squares", scipy.linalg.hilbert(8), "least squares")
    yield System("Pascal 8", scipy.linalg.pascal(8).astype(float), "quadratic")
    for most in (1e2, 1e4, 1e7):
        yield System(f"graded 20, units 1 to {1 / most:.0e}", _graded(20, most), "quadratic")
    lower = np.tril(np.full((20, 20), -1.0), -1) + np.eye(20)
    lower[:, -1] = 1.0
    yield System("Wilkinson 20, least squares", lower, "least squares")
    vandermonde = np.vander(np.linspace(0, 1, 20), 10)
    yield System("Vandermonde 20 × 10, least squares", vandermonde, "least squares")
    toeplitz = scipy.linalg.toeplitz(0.95 ** np.arange(60.0))
    yield System("Toeplitz 60, 0.95 to the power of i − j", toeplitz, "quadratic")
    size = 40  # of SciPy's tests of its iterative solvers
    ones = np.ones(size - 1)
    second = sp.diags_array([-ones, np.full(size, 2.0), -ones], offsets=[-1, 0, 1], format="csr")
    yield System("SciPy's poisson1d 40", second, "quadratic")
    plane = sp.kron(second, sp.eye_array(size)) + sp.kron(sp.eye_array(size), second)
    yield System("SciPy's poisson2d 40 × 40", plane.tocsr(), "quadratic")
    random = np.random.default_rng(1234).random((9, 9))
    yield System("SciPy's rand-spd 9", random @ random.T, "quadratic")
    try:
        from pyamg import gallery
    except ImportError:
        return
    yield System("PyAMG's poisson 16 × 16", gallery.poisson((16, 16), format="csr"), "quadratic")
    stencil = gallery.diffusion_stencil_2d(epsilon=1e-3, theta=0.5, type="FD")
    rotated = gallery.stencil_grid(stencil, (16, 16), format="csr")
    yield System("PyAMG's diffusion 16 × 16, ε = 1e-3", rotated, "quadratic")
    elastic = gallery.linear_elasticity((10, 10), format="csr")[0]
    yield System("PyAMG's elasticity 10 × 10", elastic.tocsr(), "quadratic")
    for name in ("bar", "airfoil"):
        try:
            matrix = gallery.load_example(name)["A"].tocsr()
        except (OSError, ValueError, KeyError):
            continue
        yield System(f"PyAMG's {name} {matrix.shape[0]}", matrix.astype(float), "quadratic")


def _condition(system: System) -> float:
    dense = system.matrix.toarray() if sp.issparse(system.matrix) else system.matrix
    if dense.shape[1] > 1700:
        return float("nan")
    values = np.linalg.svd(dense, compute_uv=False)
    ratio = float(values[0] / values[-1])
    return ratio**2 if system.form == "least squares" else ratio


def row(system: System, *, with_schedule: bool) -> list[str]:
    """One line of the table."""
    make: Any = LeastSquares if system.form == "least squares" else Quadratic
    problem = make(system.matrix, system.rhs)
    schedule = None
    if with_schedule:
        schedule = plan(problem, rtol=1e-8).schedule
    result = solve(problem, schedule, max_steps=20_000)
    oracle = Oracle(system, most=2000)
    x, rhs = wide(result.x), wide(system.rhs)
    first = norm(oracle.gradient(0 * x, rhs))
    gradient = norm(oracle.gradient(x, rhs)) / first
    error = oracle.error(x, rhs)
    size = norm(x)
    told = [word for word in ("ill-posed", "singular", "badly scaled") if word in result.advice]
    return [
        result.status.name,
        str(result.num_steps),
        f"{float(gradient):.1e}",
        "–" if error is None else f"{float(error / size):.1e}",
        ", ".join(told) or "–",
    ]


def main() -> int:
    print("| system | condition | steps by | end | steps | gradient | error | told |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for system in systems():
        condition = _condition(system)
        for with_schedule in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cells = row(system, with_schedule=with_schedule)
            method = "plan" if with_schedule else "conjugate gradients"
            shown = "–" if np.isnan(condition) else f"{condition:.0e}"
            print("| " + " | ".join([system.name, shown, method, *cells]) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
