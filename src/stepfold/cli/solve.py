"""``stepfold solve``: on the user's own matrix."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from stepfold.cli.files import (
    load_matrix,
    load_schedule,
    load_vector,
    make_problem,
    save_vector,
)
from stepfold.cli.options import given_bounds, output_options, problem_options, system_options
from stepfold.cli.output import check_output, last
from stepfold.planner import plan
from stepfold.schedules import SCHEDULES
from stepfold.solve import solve as run_solve


@click.command()
@system_options
@click.option(
    "--method",
    type=click.Choice(sorted(SCHEDULES)),
    help="Family of schedules; the planner's choice if not given.",
)
@click.option(
    "--schedule", "schedule_file", type=click.Path(path_type=Path), help="Steps from a JSON file."
)
@click.option(
    "--rtol",
    type=float,
    default=1e-8,
    show_default=True,
    help="Tolerance on the gradient norm, relative to that at 0.",
)
@problem_options
@output_options
def solve(
    matrix: Path,
    rhs: Path,
    output: Path,
    method: str | None,
    schedule_file: Path | None,
    rtol: float,
    max_steps: int,
    kind: str,
    ridge: float,
    lower: float | None,
    upper: float | None,
    period: int | None,
    force: bool,
    as_json: bool,
) -> int:
    """Solve MATRIX x = RHS (least squares unless MATRIX is symmetric positive definite).

    Files are .npy, .npz, .mtx or .csv; file.npz:name is one array of an archive, file.csv:2- the
    second and all later columns of a table. RHS holds one right-hand side, or one per row. The
    solution is written as .npy: a vector, or one row per right-hand side. Exits with 1 if the
    tolerance was not met; the best iterate is written all the same.

    \b
    Example:
      stepfold solve A.npz b.npy -o x.npy --rtol 1e-10
      stepfold solve data.csv:age,height data.csv:weight -o x.npy
    """
    check_output(output, force=force, suffix=".npy")
    given = given_bounds(lower, upper)
    problem, why, found = make_problem(load_matrix(matrix), load_vector(rhs), kind, ridge)
    if schedule_file is not None:
        if (method, period, given) != (None, None, None):
            raise click.UsageError(
                "--schedule brings its own steps; leave out --method, --period, --lower, --upper"
            )
        schedule = load_schedule(schedule_file)
    else:
        advice = plan(problem, rtol=min(rtol, 0.5), period=period, bounds=given or found)
        schedule = advice.schedule
        if method is not None:
            schedule = SCHEDULES[method](advice.bounds, schedule.period)
    start = time.perf_counter()
    result = run_solve(problem, schedule, rtol=rtol, max_steps=max_steps)
    seconds = time.perf_counter() - start
    save_vector(output, result.x)
    history = result.history
    if as_json:
        record = result.to_dict()
        del record["x"]
        click.echo(json.dumps({**record, "solution": str(output), "seconds": seconds}))
    else:
        click.echo(f"problem: {matrix}, {why}")
        click.echo(f"schedule: {schedule.name} steps of period {schedule.period}")
        click.echo(f"{result.status.name}: {result.advice}")
        line = f"{result.num_steps} steps, {last(history.num_products)} products, {seconds:.2f} s"
        if len(history.num_steps):
            norms = history.gradient_norms.reshape(len(history.num_steps), -1).max(axis=1)
            line += f"; gradient norm {norms[0]:.4g} at the start, "
            line += f"{norms.min():.4g} at the solution written"
        click.echo(line)
        click.echo(f"solution: {output}")
    return 0 if result.converged else 1
