"""A run's folder: data as JSON, figures as PNG and PDF, and one HTML page that opens offline."""

from __future__ import annotations

import contextlib
import html
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from stepfold.lab.figure import Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table

_REPORT = "report.html"

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --page: #ffffff; --quiet: #57606a;
  --line: #d0d7de; --good: #1a7f37; --bad: #b42318; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --page: #0d1117; --quiet: #9da7b1;
  --line: #30363d; --good: #4ac26b; --bad: #ff8178; --card: #161b22; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 52rem; background: var(--page);
  color: var(--text); font: 1.05rem/1.6 system-ui, sans-serif; }
h1 { line-height: 1.25; } h2 { margin-top: 2.5rem; }
.summary { padding: .8rem 1.2rem; background: var(--card); border-left: .3rem solid var(--good); }
.summary.failed { border-color: var(--bad); }
figure { margin: 1.5rem 0; padding: .6rem; background: #ffffff; border: 1px solid var(--line);
  border-radius: .4rem; }
figure svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
.pass { color: var(--good); font-weight: 600; } .fail { color: var(--bad); font-weight: 600; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .9rem; }
"""


def write_run(
    outcome: Outcome, folder: str | os.PathLike[str], *, seconds: float, force: bool = False
) -> Path:
    """Write a run's folder, whole or not at all, and return the path of its report.

    Args:
        outcome: What to write.
        folder: Where; its parents are made.
        seconds: How long the experiment took, for the report.
        force: Whether a folder that holds an earlier run is replaced.

    Raises:
        FileExistsError: If ``folder`` exists and ``force`` is not set, or if it holds something
            that is not a run.
        OSError: If nothing can be written there.
        ModuleNotFoundError: If matplotlib is missing.
    """
    report = Path(folder) / _REPORT
    folder = Path(os.path.realpath(folder))  # a link is followed, not replaced
    check_free(folder, force=force)
    environment = _environment(outcome, seconds)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A neighbour, so that the last rename stays on one file system and is atomic.
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp's own mode would keep colleagues out
        _write_contents(outcome, draft, environment)
        if folder.exists():
            _replace(folder, draft)
        else:
            draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return report


def check_free(folder: Path, *, force: bool) -> None:
    """Raise unless a run may be written to ``folder``; before the work, not after it."""
    folder = Path(os.path.realpath(folder))
    parent = folder.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(
            f"{parent} is not a folder, and {folder} cannot be below it; choose another one"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{parent} may not be written to; choose another output folder")
    _check_replaceable(folder, force=force)
    from stepfold.lab import _matplotlib  # noqa: F401  (raises if figures cannot be drawn)


def _check_replaceable(folder: Path, *, force: bool) -> None:
    if not folder.exists():
        return
    if folder.samefile(Path.cwd()):
        raise FileExistsError(
            f"{folder} is the current folder, which a run would take away from under your feet; "
            "choose another output folder"
        )
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not (folder.is_dir() and (folder / _REPORT).is_file()):
        raise FileExistsError(
            f"{folder} exists and is not a run of stepfold; choose another output folder"
        )
    if not force:
        raise FileExistsError(
            f"{folder} already holds a run; choose another output folder or replace it by --force"
        )


def _replace(folder: Path, draft: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    try:
        folder.rename(old / "run")
        try:
            draft.rename(folder)
        except BaseException:
            (old / "run").rename(folder)
            raise
    except BaseException:
        # Empty, unless the old run could not be put back: then it is left there.
        with contextlib.suppress(OSError):
            old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_contents(outcome: Outcome, folder: Path, environment: dict[str, str]) -> None:
    from stepfold.lab._matplotlib import to_bytes

    figures = folder / "figures"
    figures.mkdir()
    pictures = {}
    for figure in outcome.figures:
        for kind in ("png", "pdf"):
            (figures / f"{figure.name}.{kind}").write_bytes(to_bytes(figure, kind))
        pictures[figure.name] = to_bytes(figure, "svg").decode()
        _write_json(figures / f"{figure.name}.json", figure.to_dict())
    for name, record in outcome.records.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(path, record)
    _write_json(folder / "outcome.json", {**outcome.to_dict(), "environment": environment})
    (folder / _REPORT).write_text(_page(outcome, pictures, environment), encoding="utf-8")


def _write_json(path: Path, record: Any) -> None:
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _environment(outcome: Outcome, seconds: float) -> dict[str, str]:
    versions = {"Python": platform.python_version()}
    for package in ("stepfold", "numpy", "scipy", "torch", "matplotlib"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "written": time.strftime("%Y-%m-%d %H:%M %Z"),
        "seconds": f"{seconds:.1f}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "parameters": ", ".join(f"{key} = {value}" for key, value in outcome.parameters.items()),
    }


def _page(outcome: Outcome, pictures: dict[str, str], environment: dict[str, str]) -> str:
    passed = sum(check.passed for check in outcome.checks)
    verdict = f" {passed} of {len(outcome.checks)} checks passed." if outcome.checks else ""
    state = "summary" if outcome.passed else "summary failed"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(outcome.title)}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{html.escape(outcome.title)}</h1>",
        f'<p class="{state}">{html.escape(outcome.summary + verdict)}</p>',
        *(_section(section, pictures) for section in outcome.sections),
        *([_checks(outcome.checks)] if outcome.checks else []),
        "</main>",
        _footer(environment),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _section(section: Section, pictures: dict[str, str]) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.table is not None:
        parts.append(_table(section.table))
    if section.figure is not None:
        parts.append(_picture(section.figure, pictures[section.figure.name]))
    return "\n".join(parts)


def _picture(figure: Figure, svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    # Ids are counted from the same salt in every figure; a page holds several.
    svg = svg.replace('id="', f'id="{figure.name}-').replace("url(#", f"url(#{figure.name}-")
    svg = svg.replace('href="#', f'href="#{figure.name}-')
    label = f'<svg role="img" aria-label="{html.escape(figure.alt)}"'
    return f"<figure>{svg.replace('<svg', label, 1)}</figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in table.rows)
    return _html_table(head, rows)


def _checks(checks: Iterable[Check]) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Claim", "Expected", "Measured", "Result")
    )
    rows = (
        f"<td>{html.escape(check.claim)}</td><td>{html.escape(check.expected)}</td>"
        f"<td>{check.measured:.10g}</td>"
        f'<td class="{check.verdict.lower()}">{check.verdict}</td>'
        for check in checks
    )
    return "<h2>Checks</h2>\n" + _html_table(head, rows)


def _html_table(head: str, rows: Iterable[str]) -> str:
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>'
        "</table></div>"
    )


def _footer(environment: dict[str, str]) -> str:
    lines = "<br>\n".join(
        f"{name.capitalize()}: {html.escape(value)}" for name, value in environment.items() if value
    )
    return f"<footer><p>{lines}</p></footer>"
