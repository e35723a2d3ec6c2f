"""A lasso of 2000 × 5000 beside scikit-learn, celer and skglm, at equal duality gap."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _timing import Report, duration, quartiles, scientific, take_turns

from stepfold.accelerate import accelerate
from stepfold.iterations import Fista
from stepfold.problems import lasso
from stepfold.solve import solve

GAP = 1e-6


def lasso_beside(report: Report, *, quick: bool) -> None:
    """Seconds to a gap of 1e-6 of the objective at 0, everything included."""
    m, n = (400, 1000) if quick else (2000, 5000)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((m, n))
    truth = np.where(rng.random(n) < 0.02, rng.standard_normal(n), 0.0)
    rhs = matrix @ truth + rng.standard_normal(m)
    columns = np.asfortranarray(matrix)
    rows: list[list[str]] = []
    for ratio in (0.1, 0.02):
        _one(report, rows, matrix, columns, rhs, ratio, 3 if quick else 5)
    report.table(
        f"Lasso {m} × {n}, gap 1e-6",
        ["weight", "solver", "time", "beside FISTA here (quartiles)", "relative gap reached"],
        rows,
        "Weights are shares of max|Aᵀb|. Each solver has the memory order that it likes, and the "
        "loosest tolerance (in quarters of a digit) with which its gap is small enough. The bound "
        "of the Hessian is estimated within our times.",
    )


def _one(
    report: Report, rows: list[list[str]], matrix: Any, columns: Any, rhs: Any, ratio: float,
    repeats: int,
) -> None:  # fmt: skip
    objective = lasso(matrix, rhs, ratio=ratio)
    zero = float(objective.value(np.zeros(matrix.shape[1])))
    weight = ratio * float(abs(matrix.T @ rhs).max())

    def gap(x: Any) -> float:
        return float(objective.gap(x)) / zero

    def ours(iteration: Any = None) -> Any:
        fresh = lasso(matrix, rhs, weight=weight)
        return solve(fresh, iteration=iteration, gap_rtol=GAP, max_steps=100_000).x

    def relaxed() -> Any:
        fresh = lasso(matrix, rhs, weight=weight)
        return accelerate(
            fresh.fixed_point(),
            np.zeros(matrix.shape[1]),
            rtol=0.0,
            max_products=100_000,
            stop=lambda x: float(fresh.gap(x)) <= GAP * zero,
        ).x

    solvers: dict[str, Callable[[], Any]] = {
        "FISTA here": lambda: ours(Fista),
        "solve here": ours,
        "accelerate here": relaxed,
    }
    for name, make in _rivals(weight / matrix.shape[0]).items():
        tolerance = _loosest(lambda tol, make=make: gap(_fit(make, tol, columns, rhs)))
        if tolerance is None:
            report.note(f"{name} did not reach a relative gap of {GAP:g} at weight {ratio:g}.")
            continue
        solvers[name] = lambda make=make, tol=tolerance: _fit(make, tol, columns, rhs)
    reached = {name: gap(solver()) for name, solver in solvers.items()}
    timings = take_turns(solvers, repeats)
    base = timings["FISTA here"].seconds
    for name, timing in timings.items():
        ratios = [a / b for a, b in zip(timing.seconds, base, strict=True)]
        low, middle, high = quartiles(ratios)
        text = f"{middle:.2f} ({low:.2f}–{high:.2f})"
        rows.append([f"{ratio:g}", name, duration(timing), text, scientific(reached[name])])


def _rivals(alpha: float) -> dict[str, Callable[[float], Any]]:
    import celer
    import skglm
    import sklearn.linear_model

    return {
        "scikit-learn": lambda tol: sklearn.linear_model.Lasso(
            alpha=alpha, fit_intercept=False, tol=tol, max_iter=100_000, copy_X=False
        ),
        "celer": lambda tol: celer.Lasso(alpha=alpha, fit_intercept=False, tol=tol),
        "skglm": lambda tol: skglm.Lasso(alpha=alpha, fit_intercept=False, tol=tol),
    }


def _fit(make: Callable[[float], Any], tolerance: float, columns: Any, rhs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the gap is judged here, by one measure for all
        return make(tolerance).fit(columns, rhs).coef_


def _loosest(gap_with: Callable[[float], float]) -> float | None:
    """The largest ``10^(−k/4)`` with a gap that is small enough."""
    low, high = 0, 48
    if gap_with(10 ** (-high / 4)) > GAP:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if gap_with(10 ** (-middle / 4)) <= GAP:
            high = middle
        else:
            low = middle
    return 10 ** (-high / 4)
