"""``stepfold report``: one site from many runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from stepfold.cli.options import FILE, output_option
from stepfold.lab.site import check_free, count_runs, find_runs, write_site

CANNOT_READ = 1


@click.command()
@click.argument("runs", nargs=-1, type=FILE)
@output_option("Folder to write.", default=Path("runs", "site"), show_default=True)
@click.option("--force", is_flag=True, help="Replace a folder that holds an earlier site.")
@click.option("--json", "as_json", is_flag=True, help="Print what the site holds as JSON.")
def report(runs: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> int:
    """Make one offline site from every run in and below the folders RUNS; `runs` by default.

    Exits with 1 if a run could not be read; the site is made of the others and names it.

    \b
    Example:
      stepfold run --all
      stepfold report
      stepfold report runs/dugd runs/mine -o site
    """
    check_free(output, force=force)
    found = find_runs(runs or (Path("runs"),))
    if not found.entries:
        raise click.UsageError("; ".join(found.failures))
    index = write_site(found, output, force=force)
    passed = sum(entry.run.outcome.passed for entry in found.entries)
    if as_json:
        pages = {
            entry.slug: {"title": entry.run.outcome.title, "passed": entry.run.outcome.passed}
            for entry in found.entries
        }
        record = {"site": str(index), "pages": pages, "failures": list(found.failures)}
        click.echo(json.dumps(record))
    else:
        for failure in found.failures:
            click.echo(f"left out: {failure}", err=True)
        click.echo(f"{count_runs(len(found.entries))}; every check passed in {passed}.")
        click.echo(f"site: {index}")
    return CANNOT_READ if found.failures else 0
