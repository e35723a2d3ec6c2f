"""``stepfold list`` and ``stepfold run``: the experiments."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from stepfold._registry import first_line
from stepfold.cli.options import output_option, settings_option
from stepfold.cli.output import show_table
from stepfold.lab.experiments import EXPERIMENTS
from stepfold.lab.runs import Job
from stepfold.lab.sources import place

FAMILIES = {
    "experiments": ("stepfold.lab.experiments", "EXPERIMENTS"),
    "networks": ("stepfold.unfolded.networks", "NETWORKS"),
    "orders": ("stepfold.schedules", "ORDERS"),
    "penalties": ("stepfold.problems.penalties", "PENALTIES"),
    "schedules": ("stepfold.schedules", "SCHEDULES"),
}


@click.command("list")
@click.argument("family", type=click.Choice(FAMILIES), default="experiments")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with parameters and limits.")
def list_members(family: str, as_json: bool) -> None:
    """Name the experiments that `stepfold run` can run, by the paper that they reproduce.

    With another FAMILY its members, those that other installed packages offer included.

    \b
    Example:
      stepfold list
      stepfold list schedules
    """
    if family != "experiments":
        _list_family(family, as_json=as_json)
        return
    experiments = sorted(EXPERIMENTS.usable().values(), key=lambda each: place(each.source))
    if as_json:
        click.echo(json.dumps([experiment.to_dict() for experiment in experiments]))
        return
    columns = ("name", "reproduces", "what it shows", "parameters", "about")
    for paper, members in itertools.groupby(experiments, key=lambda each: str(each.source.paper)):
        rows = [
            (
                each.name,
                each.source.part,
                each.description,
                ", ".join(f"{name}={given.default}" for name, given in each.parameters.items()),
                f"{each.seconds:g} s",
            )
            for each in members
        ]
        show_table(paper, columns, rows)


def _list_family(family: str, *, as_json: bool) -> None:
    module, name = FAMILIES[family]
    registry = getattr(importlib.import_module(module), name)
    rows = [
        (each, first_line(member), registry.offered_by(each) or "stepfold")
        for each, member in registry.usable().items()
    ]
    if as_json:
        keys = ("name", "description", "package")
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    show_table(family, ("name", "what it is", "package"), rows)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Run every experiment that is not up to date.")
@click.option("--quick", is_flag=True, help="Run a small version, into runs/quick by default.")
@settings_option("Set a parameter of the one experiment named; `stepfold list` shows them.")
@output_option("Folder to write, runs/NAME by default; with several names: the parent folder.")
@click.option("--force", is_flag=True, help="Compute anew, and replace folders that hold a run.")
@click.option("--jobs", type=click.IntRange(1), help="Runs at a time; as many as there are cores.")
@click.option("--json", "as_json", is_flag=True, help="Print checks and paths as JSON.")
def run(
    names: tuple[str, ...],
    every: bool,
    quick: bool,
    settings: tuple[str, ...],
    output: Path | None,
    force: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Run the experiments NAME, print their checks, and write data, figures and reports.

    A run that is there already, with the same parameters and made by the same code, is kept; so
    an interrupted `--all` goes on where it stopped. Exits with 1 if a check fails; the folder is
    written all the same.

    \b
    Example:
      stepfold run dugd -o runs/dugd
      stepfold run dugd --set period=8 --set seed=1 -o runs/short
      stepfold run --all
    """
    if every == bool(names):
        raise click.UsageError("give the name of an experiment, or --all; `stepfold list` has both")
    several = every or len(names) > 1
    if settings and several:
        raise click.UsageError("--set is for one experiment at a time")
    base = output or Path("runs", "quick" if quick else "")
    found = [
        Job(
            EXPERIMENTS[name],
            EXPERIMENTS[name].values(_given(settings), quick=quick),
            base / name if several or output is None else base,
        )
        for name in (EXPERIMENTS.usable() if every else dict.fromkeys(names))
    ]
    due = [job for job in found if force or not job.is_done()]
    for job in due:
        job.check(force=force)
    if several:
        return _report_all(found, due, _compute_all(due, jobs, quiet=as_json), as_json=as_json)
    for job in due:
        job.compute(progress=sys.stderr.isatty() and not as_json)
    return _report(found[0], kept=not due, as_json=as_json)


def _given(settings: Sequence[str]) -> dict[str, str]:
    given = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes NAME=VALUE, got {setting!r}")
        given[name.strip().replace("-", "_")] = value.strip()
    return given


def _report(job: Job, *, kept: bool, as_json: bool) -> int:
    record = job.load()
    if as_json:
        click.echo(json.dumps({**record, "kept": kept}))
    else:
        _show_checks(record)
        click.echo(record["summary"])
        when = f"on {record['environment']['written']}; --force computes it anew" if kept else ""
        click.echo(f"{_tally(record)} in {record['seconds']:.1f} s{when and ', ' + when}.")
        click.echo(_made_with(record))
        click.echo(f"report: {record['report']}")
    return 0 if record["passed"] else 1


def _made_with(record: dict[str, Any]) -> str:
    """The seed, and the versions of what the numbers depend on."""
    versions = record["environment"]["versions"]
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    if "seed" in record["parameters"]:
        text = f"seed {record['parameters']['seed']}; {text}"
    return str(click.wrap_text(text, 100))


def _report_all(
    found: Sequence[Job], due: Sequence[Job], failures: dict[str, str], *, as_json: bool
) -> int:
    records: list[dict[str, Any]] = []
    rows = []
    for job in found:
        name, kept = job.experiment.name, job not in due
        if name in failures:
            records.append({"name": name, "passed": False, "failure": failures[name]})
            rows.append((name, failures[name], "", "FAIL"))
            continue
        record = {**job.load(), "kept": kept}
        records.append(record)
        verdict = "pass" if record["passed"] else "FAIL"
        time = f"{record['seconds']:.1f} s{' (kept)' if kept else ''}"
        rows.append((name, _tally(record), time, verdict))
    passed = sum(record["passed"] for record in records)
    if as_json:
        click.echo(json.dumps(records))
    else:
        for record in records:
            if not record["passed"] and "checks" in record:
                _show_checks(record, failed_only=True)
        show_table("Experiments", ("name", "checks", "took", "result"), rows)
        click.echo(f"{passed} of {len(records)} experiments passed; {len(due)} were computed.")
        click.echo(f"reports: {os.path.join(found[0].folder.parent, '*', 'report.html')}")
    return 0 if passed == len(records) else 1


def _tally(record: dict[str, Any]) -> str:
    checks = record["checks"]
    return f"{sum(check['passed'] for check in checks)} of {len(checks)} checks passed"


def _show_checks(record: dict[str, Any], *, failed_only: bool = False) -> None:
    sourced = any(check["source"] for check in record["checks"])
    show_table(
        record["title"],
        ("claim", "expected", *(["from"] if sourced else []), "measured", "result"),
        [
            (
                check["claim"],
                check["expected"],
                *([check["source"]] if sourced else []),
                "nan" if check["measured"] is None else f"{check['measured']:.6g}",
                "pass" if check["passed"] else "FAIL",
            )
            for check in record["checks"]
            if not (failed_only and check["passed"])
        ],
    )


def _compute_all(due: Sequence[Job], jobs: int | None, *, quiet: bool) -> dict[str, str]:
    """Compute what is due in parallel; return what failed, by name."""
    from stepfold.lab.parallel import compute_all

    failures: dict[str, str] = {}

    def ended(job: Job, failure: str | None) -> None:
        if failure is not None:
            failures[job.experiment.name] = failure
        advance(job, False)

    with _progress_bar(due, shown=sys.stderr.isatty() and not quiet) as advance:
        compute_all(
            due,
            num_processes=jobs or len(os.sched_getaffinity(0)),
            started=lambda job: advance(job, True),
            ended=ended,
        )
    return failures


def _ignore(job: Job, begins: bool) -> None:
    pass


@contextlib.contextmanager
def _progress_bar(due: Sequence[Job], *, shown: bool) -> Iterator[Callable[[Job, bool], None]]:
    """A bar over the expected seconds, with the names of what runs."""
    if not shown:
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bar = Progress(
        BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False), console=console,
    )  # fmt: skip
    running: list[str] = []
    with bar:
        task = bar.add_task("", total=sum(job.experiment.seconds for job in due))

        def advance(job: Job, begins: bool) -> None:
            if begins:
                running.append(job.experiment.name)
            else:
                running.remove(job.experiment.name)
                bar.advance(task, job.experiment.seconds)
            bar.update(task, description=", ".join(running))

        yield advance
