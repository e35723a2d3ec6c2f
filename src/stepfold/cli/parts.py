"""``stepfold solve`` on parts: each process of torchrun takes its share of the rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from stepfold.cli.files import save_vector
from stepfold.cli.output import last
from stepfold.cli.posing import Asked, known_steps
from stepfold.cli.wording import in_options
from stepfold.distributed import (
    Group,
    Layout,
    Parts,
    ShardedLeastSquares,
    ShardedQuadratic,
    Spread,
    gathered,
    processes,
    resumable_solve,
)
from stepfold.run import Budgets
from stepfold.schedules import Schedule
from stepfold.solve import solve


@dataclass(frozen=True)
class Order:
    """What the command line asks for.

    Args:
        matrix: A folder of parts, or a file.
        rhs: The same.
        output: Where the solution goes.
        method: A family of known steps; None for conjugate gradients, or a schedule.
        schedule: Known steps from a file.
        asked: Options about the problem and the steps.
        budgets: What may be spent.
        tolerances: Of `stepfold.solve`.
    """

    matrix: Path
    rhs: Path
    output: Path
    method: str | None
    schedule: Schedule | None
    asked: Asked
    budgets: Budgets
    tolerances: dict[str, Any]


def solve_parts(order: Order, *, memory: int, checkpoint: Path | None, as_json: bool) -> int:
    """Solve a system over the processes that there are; process 0 writes and prints.

    Raises:
        click.UsageError: If an option is not for parts.
        ValueError: If the parts do not fit each other.
    """
    asked = order.asked
    if asked.kind == "symmetric" and (asked.ridge is None or asked.ridge):
        raise click.UsageError("--ridge goes with least squares; add it to the matrix instead")
    if asked.ridge is None:
        raise click.UsageError(
            "--ridge auto is not for parts; give a number, for example one that `stepfold solve` "
            "finds for rows that fit into one process"
        )
    with processes() as group:
        problem = _problem(order, group, memory)
        schedule, spent = order.schedule, 0
        if (order.method, asked.period, asked.bounds) != (None, None, None):
            schedule, spent = known_steps(asked, problem, None, order.method)
        budgets = order.budgets
        options: dict[str, Any] = {
            **order.tolerances,
            "max_steps": budgets.max_steps,
            "max_products": budgets.max_products and max(budgets.max_products - spent, 0),
            "max_seconds": budgets.max_seconds,
        }
        if checkpoint is None:
            result = solve(problem, schedule, **options)
        else:
            result = resumable_solve(problem, schedule, checkpoint=checkpoint, **options)
        x = gathered(result.x) if isinstance(result.x, Spread) else result.x
        if group.rank == 0:
            save_vector(order.output, x)
            products = spent + last(result.history.num_products)
            _show(order, result, group.size, schedule is None, products, as_json=as_json)
    return 0 if result.converged else 1


def _problem(
    order: Order, group: Group, memory: int
) -> ShardedLeastSquares[Any] | ShardedQuadratic:
    matrix, rhs = Parts.of_matrix(order.matrix), Parts.of_rhs(order.rhs)
    if matrix.num_rows != rhs.num_rows:
        raise ValueError(
            f"{order.rhs} must have an entry for each row of {order.matrix}, {matrix.num_rows}, "
            f"got {rhs.num_rows}"
        )
    if order.asked.kind == "symmetric":
        if not matrix.is_sparse:
            raise click.UsageError(
                "--kind symmetric is for sparse parts (.npz), whose unknowns are shared out; leave "
                "it out, and least squares is solved"
            )
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"{order.matrix} must be square, got shape {matrix.shape}")
        layout = Layout.even(matrix.num_rows, group)
        span = int(layout.own[0]), int(layout.own[-1]) + 1
        return ShardedQuadratic(matrix.rows(*span), rhs.entries(*span), layout, group)
    first, stop = matrix.share(group.rank, group.size)
    rows: Any = matrix.rows(first, stop)
    if not matrix.is_sparse and matrix.largest_share(group.size) <= memory:
        rows = rows[0 : stop - first]
    assert order.asked.ridge is not None  # noqa: S101
    entries = rhs.entries(first, stop)
    return ShardedLeastSquares(rows, entries, group, ridge=order.asked.ridge, memory=memory)


def _show(
    order: Order, result: Any, size: int, automatic: bool, products: int, *, as_json: bool
) -> None:
    if as_json:
        record = result.to_dict()
        del record["x"]
        record |= {"processes": size, "solution": str(order.output), "num_products": products}
        click.echo(json.dumps({**record, "advice": in_options(result.advice)}))
        return
    what = "a symmetric system" if order.asked.kind == "symmetric" else "least squares"
    click.echo(f"problem: {order.matrix}, {what} over {size} process{'es' * (size > 1)}")
    steps = result.schedule
    name = "conjugate gradients" if automatic else f"{steps.name} steps of period {steps.period}"
    click.echo(f"method: {name}")
    click.echo(f"{result.status.name}: {in_options(result.advice)}")
    click.echo(f"{result.num_steps} steps, {products} products in all")
    click.echo(f"solution: {order.output}")
