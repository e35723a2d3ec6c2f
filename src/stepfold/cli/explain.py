"""``stepfold explain``: a matrix of the user's own, or what a training learned."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

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
from stepfold.cli.output import show_table
from stepfold.cli.posing import Asked, find_ridge, pose

if TYPE_CHECKING:
    from stepfold.lab.outcome import Outcome


@click.command()
@click.argument("subject", metavar="MATRIX|RUN", type=FILE)
@click.option("--rhs", type=FILE, help="Right-hand side to try it on.")
@output_option("Folder for the report and its data.")
@problem_options
@noise_option
@output_options
@click.pass_context
def explain(
    context: click.Context,
    subject: Path,
    rhs: Path | None,
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
      stepfold explain runs/training/dugd -o runs/explained
    """
    from stepfold.lab.report import check_free, write_run

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
        outcome = _explain_matrix(asked, subject, rhs)
    seconds = time.perf_counter() - start
    report = None
    if output is not None:
        report = write_run(outcome, output, seconds=seconds, force=force)
    if as_json:
        where = None if report is None else str(report)
        click.echo(json.dumps({**outcome.digest(), **outcome.records, "report": where}))
    else:
        if subject.is_dir():
            click.echo(click.wrap_text(outcome.summary, 100))
            click.echo()
        for section in outcome.sections:
            for paragraph in section.paragraphs:
                click.echo(click.wrap_text(str(paragraph), 100))
            if section.table is not None:
                show_table(section.heading, section.table.columns, section.table.rows)
            click.echo()
        if report is not None:
            click.echo(f"report: {report}")
    return 0


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


def _explain_matrix(asked: Asked, matrix: Path, rhs: Path | None) -> Outcome:
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
    )
