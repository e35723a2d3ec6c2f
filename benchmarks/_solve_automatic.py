"""`solve(problem)` with no schedule beside SciPy's solvers, at equal accuracy, for `solve.py`.

Ours runs first, to a tolerance on the gradient; the rival then gets the fewest iterations with
which its gradient is as small. So both do the same, and neither pays for the other's tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from _solve_sparse import poisson
from _timing import PAUSE, Report, fewest, take_turns
from scipy.sparse.linalg import cg, lsqr

from stepfold import LeastSquares, Quadratic, solve

RTOL = 1e-7


def automatic(report: Report, quick: bool) -> None:
    """Every kind of problem named here, then the second right-hand side of a dense one."""
    rng = np.random.default_rng(0)
    shape = (2_500, 500) if quick else (10_000, 2_000)
    repeats = 3 if quick else 7
    for spread, target in ((1.0, 0.75), (6.0, 0.65), (40.0, 0.55)):
        matrix = rng.standard_normal(shape) * np.geomspace(1.0, 1.0 / spread, shape[1])
        least_squares(
            report, f"dense {shape[0]} × {shape[1]}, spread {spread:g}", matrix, repeats, target
        )
    side = 100 if quick else 400
    quadratic(report, f"Poisson {side}²", poisson(side), repeats, 0.5)
    nodes = 4_000 if quick else 40_000
    quadratic(report, f"graph Laplacian, {nodes} nodes", laplacian(nodes, rng), repeats, 0.7)
    words = (10_000, 500) if quick else (100_000, 5_000)
    bag = sp.random_array(words, density=4e-3, format="csr", rng=rng)
    least_squares(report, f"bag of words {words[0]} × {words[1]}", bag, repeats, 0.35)
    tall = (4_000, 200) if quick else (20_000, 800)
    least_squares(report, f"dense {tall[0]} × {tall[1]}", rng.standard_normal(tall), repeats, 0.35)
    second_side(report, rng.standard_normal(shape), repeats)


def laplacian(nodes: int, rng: np.random.Generator) -> Any:
    """Of a random graph with about eight edges a node, and a weak pull to 0."""
    edges = rng.integers(0, nodes, (2, 4 * nodes))
    weights = np.ones(edges.shape[1])
    adjacency = sp.coo_array((weights, tuple(edges)), shape=(nodes, nodes)).tocsr()
    adjacency = adjacency + adjacency.T
    return (sp.diags_array(adjacency.sum(1) + 1e-3) - adjacency).tocsr()


def least_squares(
    report: Report, what: str, matrix: Any, repeats: int, target: float | None
) -> None:
    """Beside `lsqr`."""
    rng = np.random.default_rng(1)
    rhs = matrix @ rng.standard_normal(matrix.shape[1]) + rng.standard_normal(matrix.shape[0])

    def left(x: Any) -> float:
        return float(np.linalg.norm(matrix.T @ (matrix @ x - rhs)))

    first = left(np.zeros(matrix.shape[1]))
    result = solve(LeastSquares(matrix, rhs), rtol=RTOL)
    reached = left(result.x)

    def theirs(count: int) -> Any:
        return lsqr(matrix, rhs, atol=0, btol=0, conlim=0, iter_lim=count)[0]

    count, error = fewest(
        lambda k: left(theirs(k)) / first, 1.01 * reached / first, result.num_steps
    )
    _compare(
        report,
        what,
        (lambda: solve(LeastSquares(matrix, rhs), rtol=RTOL), result, reached / first),
        ("SciPy lsqr", lambda: theirs(count), 2.0 * count + 1, error),
        repeats,
        target,
    )


def quadratic(report: Report, what: str, matrix: Any, repeats: int, target: float | None) -> None:
    """Beside `cg`."""
    rhs = np.random.default_rng(1).standard_normal(matrix.shape[0])

    def left(x: Any) -> float:
        return float(np.linalg.norm(matrix @ x - rhs) / np.linalg.norm(rhs))

    result = solve(Quadratic(matrix, rhs), rtol=RTOL)
    steps = [0]

    def count(_: Any) -> None:
        steps[0] += 1

    x, _ = cg(matrix, rhs, rtol=RTOL, callback=count)
    _compare(
        report,
        what,
        (lambda: solve(Quadratic(matrix, rhs), rtol=RTOL), result, left(result.x)),
        ("SciPy cg", lambda: cg(matrix, rhs, rtol=RTOL), steps[0] + 1.0, left(x)),
        repeats,
        target,
    )


def _compare(
    report: Report,
    what: str,
    ours: tuple[Callable[[], Any], Any, float],
    rival: tuple[str, Callable[[], Any], float, float],
    repeats: int,
    target: float | None,
) -> None:
    run, result, error = ours
    name, their_run, products, their_error = rival
    found = take_turns({"solve": run, name: their_run}, repeats, pause=0 if repeats > 9 else PAUSE)
    mine = replace(found["solve"], products=float(result.history.num_products[-1]), error=error)
    theirs = replace(found[name], products=products, error=their_error)
    report.compare(f"automatic, {what}", mine, [theirs], target=target)


def second_side(report: Report, matrix: Any, repeats: int) -> None:
    """The schedule that the first right-hand side left, for the second."""
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, matrix.shape[0]))
    schedule = solve(LeastSquares(matrix, first), rtol=RTOL).schedule
    gradient = np.linalg.norm(matrix.T @ second)

    def left(x: Any) -> float:
        return float(np.linalg.norm(matrix.T @ (matrix @ x - second)) / gradient)

    result = solve(LeastSquares(matrix, second), schedule, rtol=RTOL)

    def theirs(count: int) -> Any:
        return lsqr(matrix, second, atol=0, btol=0, conlim=0, iter_lim=count)[0]

    reached = left(result.x)
    count, error = fewest(lambda k: left(theirs(k)), 1.01 * reached, result.num_steps)
    _compare(
        report,
        f"second right-hand side, {matrix.shape[0]} × {matrix.shape[1]}",
        (lambda: solve(LeastSquares(matrix, second), schedule, rtol=RTOL), result, reached),
        ("SciPy lsqr", lambda: theirs(count), 2.0 * count + 1, error),
        repeats,
        0.55,
    )


def small(report: Report, quick: bool) -> None:
    """Small problems, where the call counts more than the products."""
    rng = np.random.default_rng(3)
    repeats = 20 if quick else 100
    for m, n in ((30, 20), (200, 100), (1000, 300)):
        matrix = rng.standard_normal((m, n))
        least_squares(report, f"dense {m} × {n}", matrix, repeats, None)
        definite = matrix.T @ matrix + np.eye(n)
        quadratic(report, f"dense, definite, {n}", definite, repeats, None)
    quadratic(report, "graph Laplacian, 4000 nodes", laplacian(4000, rng), repeats, None)
