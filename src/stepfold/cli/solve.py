"""``stepfold solve``: on the user's own matrix."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from stepfold._arrays import norms
from stepfold.cli.files import load_matrix, load_schedule, load_vector, save_vector
from stepfold.cli.options import (
    FILE,
    budget_options,
    choice_option,
    noise_option,
    output_options,
    problem_options,
    system_options,
)
from stepfold.cli.output import check_output, last
from stepfold.cli.posing import Asked, Posed, find_ridge, known_steps, pose
from stepfold.cli.progress import announced, shown
from stepfold.cli.wording import in_options
from stepfold.problems import LeastSquares, Quadratic
from stepfold.result import Result, Status
from stepfold.run import Budgets
from stepfold.schedules import SCHEDULES
from stepfold.solve import solve as run_solve

# Share of the first gradient that rounding does not leave.
UNSOLVED = 1e-6


@click.command()
@system_options
@choice_option(
    "--method", SCHEDULES, "Known steps of this family, in place of conjugate gradients."
)
@click.option("--schedule", "schedule_file", type=FILE, help="Known steps from a JSON file.")
@problem_options
@click.option("--atol", type=float, default=0.0, help="The same, absolute; the larger one counts.")
@click.option(
    "--error-rtol",
    type=float,
    help="Tolerance on the error of x, relative and certain; needs a ridge, or --lower above 0.",
)
@budget_options
@noise_option
@click.option(
    "--memory",
    type=click.IntRange(1),
    default=2**28,
    show_default=True,
    help="Of parts: bytes of MATRIX that each process may hold.",
)
@click.option(
    "--checkpoint", type=FILE, help="Of parts: where to go on from after a restart (.npz)."
)
@output_options
def solve(
    matrix: Path,
    rhs: Path,
    output: Path,
    method: str | None,
    schedule_file: Path | None,
    atol: float,
    error_rtol: float | None,
    budgets: Budgets,
    asked: Asked,
    memory: int,
    checkpoint: Path | None,
    force: bool,
    as_json: bool,
) -> int:
    """Solve MATRIX x = RHS; least squares unless MATRIX is symmetric and not indefinite.

    Without steps it is solved by conjugate gradients. --method, --period, --lower and --upper, or
    --schedule, ask for known steps.

    Files are .npy, .npz, .mtx or .csv; file.npz:name is one array of an archive, file.csv:2- the
    second and all later columns of a table. RHS holds one right-hand side, or one per row. The
    solution is written as .npy: a vector, or one row per right-hand side. Exits with 1 if the
    tolerance was not met; the best iterate is written all the same.

    Where MATRIX is a folder of parts (or a file, under torchrun), the rows are shared out among the
    processes, and least squares is solved; with --kind symmetric sparse parts are the rows of a
    symmetric matrix, and the unknowns are shared out.

    \b
    Example:
      stepfold solve A.npz b.npy -o x.npy --rtol 1e-10
      stepfold solve blur.npz photo.npy -o x.npy --ridge auto
      torchrun --nproc-per-node 2 -m stepfold solve PARTS/ b/ -o x.npy
      stepfold solve data.csv:age,height data.csv:weight -o x.npy
    """
    check_output(output, force=force, suffix=".npy")
    takes_known_steps = (method, asked.period, asked.bounds) != (None, None, None)
    if schedule_file is not None and takes_known_steps:
        raise click.UsageError(
            "--schedule brings its own steps; leave out --method, --period, --lower, --upper"
        )
    schedule = None if schedule_file is None else load_schedule(schedule_file)
    if matrix.is_dir() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from stepfold.cli.parts import Order, solve_parts

        tolerances = {"rtol": asked.rtol, "atol": atol, "error_rtol": error_rtol}
        order = Order(matrix, rhs, output, method, schedule, asked, budgets, tolerances)
        return solve_parts(order, memory=memory, checkpoint=checkpoint, as_json=as_json)
    if checkpoint is not None:
        raise click.UsageError("--checkpoint is for parts; see `stepfold.distributed.write_parts`")
    entries, rows = load_matrix(matrix), load_vector(rhs)
    begun = time.perf_counter()
    with announced("choosing the ridge", active=asked.ridge is None and not as_json):
        weight, choice = find_ridge(asked, entries, rows)
    num_products = 0 if choice is None else choice.num_products
    posed = pose(entries, rows, asked.kind, weight, look=takes_known_steps)
    num_products += posed.num_products
    if takes_known_steps:
        schedule, spent = known_steps(asked, posed.problem, posed.bounds, method)
        num_products += spent

    most_steps = budgets.max_steps or 0

    def run(problem: Any, max_steps: int = most_steps) -> Result[Any]:
        # What the ridge, the bounds or an earlier run took counts.
        spent = time.perf_counter() - begun
        products, seconds = budgets.max_products, budgets.max_seconds
        with shown(problem, active=not as_json) as callback:
            return run_solve(
                problem,
                schedule,
                rtol=asked.rtol,
                atol=atol,
                error_rtol=error_rtol,
                max_steps=max_steps,
                max_products=None if products is None else max(products - num_products, 0),
                max_seconds=None if seconds is None else max(seconds - spent, 0.0),
                callback=callback,
            )

    is_attempt = asked.kind == "auto" and schedule is None and isinstance(posed.problem, Quadratic)
    patience = 10 * len(rows.T) + 1000 if is_attempt else most_steps
    result = run(posed.problem, min(patience, most_steps))
    before = None
    if is_attempt and _is_no_answer(result, patience):
        before = result
        num_products += last(before.history.num_products)
        ended = f"{before.status.name} after {before.num_steps} steps"
        why = f"least squares, for as a symmetric system it ended {ended}"
        posed = Posed(LeastSquares(entries, rows), why)
        result = run(posed.problem)
    save_vector(output, result.x)
    num_products += last(result.history.num_products)
    seconds = time.perf_counter() - begun
    record: dict[str, Any] = {
        "problem": posed.why,
        "ridge": None if choice is None else choice.to_dict(),
        "solution": str(output),
        "num_products": num_products,
        "seconds": seconds,
    }
    if as_json:
        parts = result.to_dict()
        del parts["x"]
        click.echo(json.dumps({**parts, **record, "advice": in_options(result.advice)}))
        return 0 if result.converged else 1
    click.echo(f"problem: {matrix}, {posed.why}")
    if before is not None:
        click.echo(f"symmetric system: {in_options(' '.join(before.notes))}")
    if choice is not None:
        click.echo(f"ridge: {choice}")
    if schedule is None:
        click.echo("method: conjugate gradients")
    else:
        steps = result.schedule
        click.echo(f"method: {steps.name} steps of period {steps.period}")
    click.echo(f"{result.status.name}: {in_options(result.advice)}")
    line = f"{result.num_steps} steps, {num_products} products in all, {seconds:.2f} s"
    norms = result.history.gradient_norms
    if len(norms):
        norms = norms.reshape(len(norms), -1).max(axis=1)
        line += f"; gradient norm {norms[0]:.4g} at the start, "
        line += f"{norms.min():.4g} at the solution written"
    click.echo(line)
    for line in _worth(posed.problem, result):
        click.echo(line)
    click.echo(f"solution: {output}")
    return 0 if result.converged else 1


def _worth(problem: Any, result: Result[Any]) -> Iterator[str]:
    """What the solution is worth: residual, error bound, and the bounds they rest on."""
    if isinstance(problem, LeastSquares):
        sizes = norms(problem.rhs)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            shares = np.where(sizes > 0, norms(problem.residual(result.x)) / sizes, 0.0)
        yield f"residual ‖b − Ax‖: at most {float(shares.max()):.4g} of ‖b‖"
    bounds = result.bounds
    if bounds is not None:
        yield (
            f"eigenvalues: from {bounds.lower:.6g} ({bounds.lower_certainty.value}) to "
            f"{bounds.upper:.6g} ({bounds.upper_certainty.value}), by {bounds.method}"
        )
    if result.error_bound is None:
        yield "error ‖x − x*‖: no bound is known; --error-rtol with --ridge or --lower gives one"
    else:
        yield f"error ‖x − x*‖: at most {float(np.max(result.error_bound)):.4g}"


def _is_no_answer(result: Result[Any], patience: int) -> bool:
    """Whether a symmetric system ended as it does if it is indefinite or has no solution."""
    if result.status is Status.BUDGET:
        return result.num_steps >= patience
    norms = result.history.gradient_norms
    left = float(np.max(norms.min(axis=0) / norms[0])) if len(norms) else 0.0
    return result.status in (Status.DIVERGED, Status.STALLED) and left > UNSOLVED
