"""``stepfold lasso``: sparse regression from files, to a duality gap."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from stepfold.accelerate import accelerate
from stepfold.cli.files import load_matrix, load_vector, save_vector
from stepfold.cli.options import budget_options, choice_option, output_options, system_options
from stepfold.cli.output import check_output, last
from stepfold.cli.wording import in_options
from stepfold.iterations import Fista, ProximalGradient
from stepfold.problems import Composite
from stepfold.problems import lasso as pose_lasso
from stepfold.result import Result
from stepfold.run import Budgets
from stepfold.solve import solve

METHODS = {
    "auto": "fista, then conjugate gradients on the support once it has settled",
    "fista": "proximal steps with momentum, dropped where it points uphill",
    "ista": "proximal steps alone",
    "relaxation": "Chebyshev relaxation of them, guarded",
}


@click.command()
@system_options
@click.option("--weight", type=float, help="Weight of the L1 norm.")
@click.option("--ratio", type=float, help="The same, in units of max|Aᵀb|, where all becomes 0.")
@click.option("--ridge", type=float, default=0.0, help="Weight μ ≥ 0 of a term ½μ‖x‖².")
@choice_option(
    "--method",
    METHODS,
    "; ".join(f"{name}: {text}" for name, text in METHODS.items()) + ".",
    "auto",
)
@click.option(
    "--gap",
    type=float,
    default=1e-6,
    show_default=True,
    help="Tolerance on the duality gap, relative to the objective at 0.",
)
@budget_options
@output_options
def lasso(
    matrix: Path,
    rhs: Path,
    output: Path,
    weight: float | None,
    ratio: float | None,
    ridge: float,
    method: str,
    gap: float,
    budgets: Budgets,
    force: bool,
    as_json: bool,
) -> int:
    """Minimise ½‖MATRIX x − RHS‖² + weight·‖x‖₁, and tell how far from the minimum it ended.

    Files are .npy, .npz, .mtx or .csv, as for `stepfold solve`; RHS holds one right-hand side, or
    one per row. The square has no factor 1/m: the alpha of scikit-learn is weight/m. The solution
    is written as .npy. Exits with 1 if the gap was not reached; the best iterate is written all
    the same.

    \b
    Example:
      stepfold lasso A.npy b.npy --ratio 0.1 -o x.npy
    """
    if (weight is None) == (ratio is None):
        raise click.UsageError("give --weight or --ratio, and not both")
    check_output(output, force=force, suffix=".npy")
    start = time.perf_counter()
    objective = pose_lasso(
        load_matrix(matrix), load_vector(rhs), weight=weight, ratio=ratio, ridge=ridge
    )
    size = float(objective.penalty.weight)  # type: ignore[attr-defined]
    if size == 0 and ridge == 0:
        raise click.UsageError(
            "the weight is 0 (with --ratio: Aᵀb is), and nothing is penalised; use `stepfold solve`"
        )
    result = _run(objective, method, gap, budgets)
    seconds = time.perf_counter() - start
    save_vector(output, result.x)
    gaps = np.atleast_1d(objective.gap(result.x))
    # An evaluation of the map is a gradient: two products.
    products = last(result.history.num_products) * (2 if method == "relaxation" else 1)
    record: dict[str, Any] = {
        "status": result.status.name,
        "advice": in_options(result.advice),
        "method": method,
        "weight": size,
        "ridge": ridge,
        "num_steps": result.num_steps,
        "num_products": products,
        "gap": float(gaps.max()),
        "objective": np.atleast_1d(objective.value(result.x)).tolist(),
        "num_nonzeros": np.atleast_1d((result.x != 0).sum(-1)).tolist(),
        "seconds": seconds,
        "solution": str(output),
    }
    if as_json:
        click.echo(json.dumps(record))
    else:
        counts = ", ".join(map(str, record["num_nonzeros"]))
        click.echo(f"weight: {size:.6g}, ridge: {ridge:g}, method: {method}")
        click.echo(f"{result.status.name}: {in_options(result.advice)}")
        click.echo(f"{result.num_steps} steps, {products} products, {seconds:.2f} s")
        click.echo(f"duality gap: {record['gap']:.3g}; entries that are not 0: {counts}")
        click.echo(f"solution: {output}")
    return 0 if result.converged else 1


def _run(objective: Composite[Any], method: str, gap: float, budgets: Budgets) -> Result[Any]:
    if method != "relaxation":
        iteration: Any = {"auto": None, "fista": Fista, "ista": ProximalGradient}[method]
        return solve(objective, iteration=iteration, gap_rtol=gap, **dataclasses.asdict(budgets))
    if not 0 <= gap < float("inf"):
        raise click.UsageError(f"--gap must be at least 0 and finite, got {gap}")
    zero = objective.zero
    tolerance = gap * np.atleast_1d(objective.value(zero))

    def is_good(x: Any) -> bool:
        return bool((np.atleast_1d(objective.gap(x)) <= tolerance).all())

    evaluations = budgets.max_steps or 0
    if budgets.max_products is not None:
        evaluations = min(evaluations, budgets.max_products // 2)
    return accelerate(
        objective.fixed_point(),
        zero,
        rtol=0.0,
        max_products=max(evaluations, 2),
        max_seconds=math.inf if budgets.max_seconds is None else budgets.max_seconds,
        stop=is_good,
    )
