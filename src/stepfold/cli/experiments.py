"""``stepfold list`` and ``stepfold run``: the experiments."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from stepfold.cli.output import show_table
from stepfold.lab.experiments import EXPERIMENTS
from stepfold.lab.experiments.base import describe
from stepfold.lab.report import check_free, write_run


@click.command("list", short_help="Name the experiments.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_experiments(as_json: bool) -> None:
    """Name the experiments that `stepfold run` can run.

    \b
    Example:
      stepfold list
    """
    rows = [(name, describe(experiment)) for name, experiment in EXPERIMENTS.items()]
    if as_json:
        click.echo(json.dumps([{"name": name, "description": text} for name, text in rows]))
    else:
        show_table("Experiments", ("name", "what it shows"), rows)


@click.command(short_help="Run an experiment and write its report.")
@click.argument("name")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write; runs/NAME by default."
)
@click.option("--force", is_flag=True, help="Replace a folder that holds an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Print checks and paths as JSON.")
def run(name: str, output: Path | None, force: bool, as_json: bool) -> int:
    """Run the experiment NAME, print its checks, and write data, figures and a report.

    Exits with 1 if a check fails; the folder is written all the same.

    \b
    Example:
      stepfold run dugd -o runs/dugd
    """
    experiment = EXPERIMENTS[name]
    folder = Path("runs") / name if output is None else output
    check_free(folder, force=force)
    start = time.perf_counter()
    outcome = experiment(progress=sys.stderr.isatty() and not as_json)
    seconds = time.perf_counter() - start
    report = write_run(outcome, folder, seconds=seconds, force=force)
    if as_json:
        click.echo(json.dumps({**outcome.digest(), "report": str(report), "seconds": seconds}))
    else:
        show_table(
            outcome.title,
            ("claim", "expected", "measured", "result"),
            [
                (check.claim, check.expected, f"{check.measured:.6g}", check.verdict)
                for check in outcome.checks
            ],
        )
        passed = sum(check.passed for check in outcome.checks)
        click.echo(outcome.summary)
        click.echo(f"{passed} of {len(outcome.checks)} checks passed in {seconds:.1f} s.")
        click.echo(f"report: {report}")
    return 0 if outcome.passed else 1
