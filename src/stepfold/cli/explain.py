"""``stepfold explain``: a matrix of the user's own, or what a training learned."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from stepfold.cli.files import load_matrix, load_vector
from stepfold.cli.options import (
    FILE,
    noise_option,
    output_option,
    output_options,
    problem_options,
)
from stepfold.cli.output import show_heading, show_steps, show_table
from stepfold.cli.posing import Asked, find_ridge, pose
from stepfold.schedules import Schedule

if TYPE_CHECKING:
    from stepfold.lab.outcome import Outcome


class _Remembering(click.Command):
    """A command that keeps the words it was called with, to be shown in its report."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = tuple(args)
        return super().parse_args(ctx, args)


class _Shape(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Rows and columns of a picture: 300x256."""

    name = "rowsxcolumns"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        numbers = str(value).lower().split("x")
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            self.fail(f"{value!r} is not rows and columns, such as 300x256.", param, ctx)
        return int(numbers[0]), int(numbers[1])


@click.command(cls=_Remembering)
@click.argument("subject", metavar="MATRIX|RUN", type=FILE)
@click.option("--rhs", type=FILE, help="Right-hand side to try it on.")
@click.option(
    "--picture",
    "shape",
    type=_Shape(),
    help="Rows and columns of the picture that the unknowns are: shows it, with --rhs.",
)
@output_option("Folder for the report and its data.")
@problem_options
@noise_option
@output_options
@click.pass_context
def explain(
    context: click.Context,
    subject: Path,
    rhs: Path | None,
    shape: tuple[int, int] | None,
    output: Path | None,
    asked: Asked,
    force: bool,
    as_json: bool,
) -> int:
    """Explain MATRIX: its spectrum, the recommended steps, and how many take you to a tolerance.

    Files are .npy, .npz, .mtx or .csv, as for `stepfold solve`. With --rhs the steps are tried on
    that right-hand side, beside conjugate gradients. Or explain RUN, the folder of a training: what
    was learned, how far it is from the optimum, and what to do. With --output a report is written
    that opens offline.

    \b
    Example:
      stepfold explain A.npz --rhs b.npy -o runs/A
      stepfold explain blur.npz --rhs photo.npy --ridge 0.002 --picture 300x256 -o runs/blur
      stepfold explain runs/training/dugd -o runs/explained
    """
    from stepfold.lab.environment import Environment
    from stepfold.lab.report import check_free, write_run

    if shape is not None and rhs is None:
        raise click.UsageError("--picture needs --rhs: what is shown is what the runs end with")
    if output is not None:
        if subject.is_dir() and subject.resolve().is_relative_to(output.resolve()):
            raise click.UsageError(
                f"--output would replace {subject}, which is to be explained; choose another folder"
            )
        check_free(output, force=force)
    start = time.perf_counter()
    if subject.is_dir():
        from stepfold.lab.explanation.folder import explain_folder

        _refuse_options_of_matrices(context)
        outcome = explain_folder(subject)
    else:
        outcome = _explain_matrix(asked, subject, rhs, shape)
    seconds = time.perf_counter() - start
    report = None
    if output is not None:
        report = write_run(
            outcome, output, seconds=seconds, force=force, command=_command(context.obj)
        )
    if as_json:
        where = None if report is None else str(report)
        click.echo(json.dumps({**outcome.digest(), **outcome.records, "report": where}))
    else:
        _show(outcome)
        click.echo(click.wrap_text(Environment.now(seconds).packages, 100))
        if report is not None:
            click.echo(f"report: {report}")
    return 0


def _command(words: tuple[str, ...]) -> str:
    """What repeats the report in place of the one that is there."""
    kept = [word for word in words if word != "--json"]
    return shlex.join(["stepfold", "explain", *kept, *([] if "--force" in kept else ["--force"])])


def _show(outcome: Outcome) -> None:
    """Print the summary, the steps with bars, and every section that says something in words."""
    click.echo(click.wrap_text(outcome.summary, 100))
    click.echo()
    record = outcome.records
    steps = record["plan"]["schedule"] if "plan" in record else record.get("schedules/learned")
    if steps is not None:
        schedule = Schedule.from_dict(steps)
        show_heading(f"{schedule.name} steps, period {schedule.period}, {schedule.order} order")
        show_steps(schedule)
        click.echo()
    for section in outcome.sections:
        if not section.paragraphs and section.table is None:
            continue
        show_heading(section.heading)
        for paragraph in section.paragraphs:
            click.echo(click.wrap_text(str(paragraph), 100))
        if section.table is not None:
            show_table("", section.table.columns, section.table.rows)
        click.echo()
    if "seed" in outcome.parameters:
        click.echo(f"seed: {outcome.parameters['seed']}")


def _refuse_options_of_matrices(context: click.Context) -> None:
    """A training brings its own spectrum: options that pose a problem would be ignored."""
    own = ("subject", "output", "force", "as_json")
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        if name not in own and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{option.opts[0]} is for a matrix; leave it out to explain a training's folder"
            )


def _explain_matrix(
    asked: Asked, matrix: Path, rhs: Path | None, shape: tuple[int, int] | None
) -> Outcome:
    from stepfold.lab.explanation import explain_problem

    entries = load_matrix(matrix)
    vector = None if rhs is None else load_vector(rhs)
    weight, choice = find_ridge(asked, entries, vector)
    rows = np.zeros(entries.shape[0], entries.dtype) if vector is None else vector
    posed = pose(entries, rows, asked.kind, weight)
    return explain_problem(
        posed.problem,
        name=str(matrix),
        why=posed.why if choice is None else f"{posed.why}, {choice}",
        rtol=asked.tolerance(posed.problem),
        period=asked.period,
        bounds=asked.bounds or posed.bounds,
        try_rhs=vector is not None,
        shape=shape,
    )
