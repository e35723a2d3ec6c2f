"""A run's folder is written whole or not at all, and nothing in it is taken for markup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from test_lab_figure import PRINTABLE as HOSTILE

from stepfold.lab import Axis, Check, Curve, Figure, Outcome, Section, Table, report
from stepfold.lab.report import check_free, write_run


def _outcome(text: str = "plain", *, figures: int = 1, **changes) -> Outcome:
    curve = Curve(text, np.arange(1.0, 4.0), np.arange(1.0, 4.0))
    sections = [
        Section(
            text,
            (text,),
            Figure(f"f{index}", text, text, (curve, curve), Axis(text), Axis(text)),
            Table((text,), ((text,),)),
        )
        for index in range(figures)
    ]
    fields = {
        "name": "n",
        "title": text,
        "summary": text,
        "sections": sections,
        "checks": (Check(text, text, 1.0, lower=0.0),),
        "parameters": {text: text},
        "records": {"data": {text: text}},
    }
    return Outcome(**{**fields, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that holds a run."""
    write_run(_outcome(figures=0), tmp_path / "run", seconds=1.0)
    return tmp_path / "run"


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_hostile_text_is_shown_and_not_obeyed(tmp_path) -> None:
    page = write_run(_outcome(HOSTILE, figures=2), tmp_path / "run", seconds=1.0).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot; &#x27;single" in page
    # The figure's own mark-up ends where it should: two figures, two pictures, nothing else.
    assert page.count("<svg") == page.count("</svg>") == 2 * page.count("</figure>") == 4
    assert page.count('<svg class="wide" role="img" aria-label=') == 2
    assert json.loads((tmp_path / "run" / "data.json").read_text()) == {HOSTILE: HOSTILE}


def test_failed_checks_are_told(tmp_path) -> None:
    checks = (Check("good", "e", 1.0, lower=0.0), Check("bad", "e", np.nan, lower=0.0))
    page = write_run(_outcome(figures=0, checks=checks), tmp_path / "run", seconds=1.0).read_text()
    assert "1 of 2 checks passed." in page
    assert '<p class="summary failed">' in page
    assert '<td class="fail">FAIL</td>' in page
    record = json.loads((tmp_path / "run" / "outcome.json").read_text())
    assert (record["passed"], record["checks"][1]["measured"]) == (False, None)


def test_a_run_without_checks_promises_none(tmp_path) -> None:
    page = write_run(_outcome(figures=0, checks=()), tmp_path / "run", seconds=1.0).read_text()
    assert "<h2>Checks</h2>" not in page
    assert "checks passed" not in page


def test_parents_are_made_and_the_path_comes_back_as_given(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_run(_outcome(figures=0), "a/b/run", seconds=1.0)
    assert path == Path("a/b/run/report.html")
    assert path.is_file()
    assert (tmp_path / "a" / "b" / "run").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_is_filled(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    write_run(_outcome(figures=0), tmp_path / "run", seconds=1.0)
    assert os.listdir(tmp_path) == ["run"]


def test_a_run_is_kept_unless_replaced_by_force(run) -> None:
    before = _contents(run)
    with pytest.raises(FileExistsError, match=r"already holds a run.*--force"):
        write_run(_outcome("new", figures=0), run, seconds=1.0)
    assert _contents(run) == before


def test_force_replaces_all_of_a_run(run) -> None:
    (run / "left over").touch()
    write_run(_outcome("new", figures=0), run, seconds=1.0, force=True)
    assert "new" in (run / "report.html").read_text()
    assert not (run / "left over").exists()
    assert os.listdir(run.parent) == ["run"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file", "folder with a folder report.html"])
def test_what_is_not_a_run_is_never_replaced(tmp_path, force, kind) -> None:
    precious = tmp_path / "run"
    if kind == "file":
        precious.write_text("precious")
    else:
        precious.mkdir()
        (precious / "thesis.tex").write_text("precious")
        if kind != "folder":
            (precious / "report.html").mkdir()
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match=r"is not a run of stepfold"):
        write_run(_outcome(figures=0), precious, seconds=1.0, force=force)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["run_page", "_write_json"])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt(), ValueError()])
def test_a_failing_write_leaves_nothing(tmp_path, place, error) -> None:
    with mock.patch.object(report, place, side_effect=error), pytest.raises(type(error)):
        write_run(_outcome(figures=0), tmp_path / "run", seconds=1.0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["run_page", "_write_json"])
def test_a_failing_write_keeps_the_run_that_it_should_replace(run, place) -> None:
    before = _contents(run)
    error = OSError(28, "No space left")
    with mock.patch.object(report, place, side_effect=error), pytest.raises(OSError, match="space"):
        write_run(_outcome("new", figures=0), run, seconds=1.0, force=True)
    assert _contents(run) == before
    assert os.listdir(run.parent) == ["run"]


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_failing_rename_keeps_the_run_that_it_should_replace(run, failing_call) -> None:
    before = _contents(run)
    real, calls = Path.rename, []

    def rename(self: Path, target) -> Path:
        calls.append(target)
        if len(calls) == failing_call:
            raise OSError(5, "Input/output error")
        return real(self, target)

    with mock.patch.object(Path, "rename", rename), pytest.raises(OSError, match="Input/output"):
        write_run(_outcome("new", figures=0), run, seconds=1.0, force=True)
    assert _contents(run) == before
    assert os.listdir(run.parent) == ["run"]


def _meanwhile(folder: Path, act) -> Path:
    """Write a run to ``folder`` while somebody else acts on it."""
    real = report.run_page

    def page(*args):
        act(folder)
        return real(*args)

    with mock.patch.object(report, "run_page", page):
        return write_run(_outcome(figures=0), folder, seconds=1.0, force=folder.exists())


@pytest.mark.parametrize("what", ["text", "run", "file"])
def test_what_came_into_being_during_the_work_is_left_alone_and_the_run_is_kept(
    tmp_path, what
) -> None:
    folder = tmp_path / "run"

    def act(folder: Path) -> None:
        if what == "file":
            folder.write_text("precious")
            return
        folder.mkdir()
        (folder / ("report.html" if what == "run" else "thesis.tex")).write_text("precious")

    with pytest.raises(FileExistsError, match=r"left alone; the run is in .*run-2"):
        _meanwhile(folder, act)
    held = folder if what == "file" else next(folder.iterdir())
    assert held.read_text() == "precious"
    assert (tmp_path / "run-2" / "report.html").is_file()
    assert sorted(os.listdir(tmp_path)) == ["run", "run-2"]


def test_a_run_that_somebody_replaces_by_other_things_is_not_replaced_by_force(run) -> None:
    def act(folder: Path) -> None:
        (folder / "report.html").unlink()
        (folder / "thesis.tex").write_text("precious")

    with pytest.raises(FileExistsError, match=r"left alone; the run is in .*run-2"):
        _meanwhile(run, act)
    assert (run / "thesis.tex").read_text() == "precious"
    assert sorted(os.listdir(run.parent)) == ["run", "run-2"]


def test_an_empty_folder_made_meanwhile_is_filled(tmp_path) -> None:
    assert _meanwhile(tmp_path / "run", Path.mkdir).is_file()
    assert os.listdir(tmp_path) == ["run"]


def test_a_run_whose_name_is_as_long_as_names_can_be_is_written(tmp_path) -> None:
    assert write_run(_outcome(figures=0), tmp_path / ("n" * 255), seconds=1.0).is_file()


def _put_aside(folder: Path) -> Path:
    """What a kill between the two renames of a replacement leaves."""
    old = folder.with_name(".stepfold-old-abc")
    old.mkdir()
    folder.rename(old / folder.name)
    return old


@pytest.mark.skipif(os.name != "posix", reason="what is put aside is held by locks of POSIX")
def test_a_run_that_was_put_aside_when_its_process_was_killed_is_put_back(run) -> None:
    before = _contents(run)
    _put_aside(run)
    with pytest.raises(FileExistsError, match="already holds a run"):
        write_run(_outcome("new", figures=0), run, seconds=1.0)
    assert _contents(run) == before
    assert os.listdir(run.parent) == ["run"]


@pytest.mark.skipif(os.name != "posix", reason="what is put aside is held by locks of POSIX")
def test_force_replaces_a_run_that_was_put_aside_too(run) -> None:
    _put_aside(run)
    write_run(_outcome("new", figures=0), run, seconds=1.0, force=True)
    assert "new" in (run / "report.html").read_text()
    assert os.listdir(run.parent) == ["run"]


@pytest.mark.skipif(os.name != "posix", reason="what is put aside is held by locks of POSIX")
@pytest.mark.parametrize(("file", "left"), [("report.html", 1), ("thesis.tex", 2)])
def test_a_run_that_was_put_aside_goes_where_a_new_run_stands_and_nowhere_else(
    run, file, left
) -> None:
    _put_aside(run)
    run.mkdir()
    (run / file).write_text("precious")
    with pytest.raises(FileExistsError):
        write_run(_outcome("new", figures=0), run, seconds=1.0)
    assert (run / file).read_text() == "precious"
    assert len(os.listdir(run.parent)) == left


@pytest.mark.skipif(os.name != "posix", reason="what is put aside is held by locks of POSIX")
def test_a_run_that_a_living_process_has_put_aside_is_left_to_it(run) -> None:
    import fcntl

    old = _put_aside(run)
    number = os.open(old, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)
    write_run(_outcome("new", figures=0), run, seconds=1.0)
    os.close(number)
    assert (old / run.name / "report.html").is_file()


@pytest.mark.skipif(os.name != "posix", reason="what is put aside is held by locks of POSIX")
def test_a_kill_between_the_renames_of_a_replacement_loses_nothing(run) -> None:
    before = _contents(run)
    code = (
        "import os, pathlib, signal, sys; from stepfold.lab import _folder\n"
        "def die(draft, folder): os.kill(os.getpid(), signal.SIGKILL)\n"
        "_folder._rename_if_absent = die\n"
        "kind = _folder.Kind('run', 'report.html')\n"
        "_folder.write_folder(pathlib.Path(sys.argv[1]), kind, lambda _: None, force=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=False)
    assert not run.exists()
    check_free(run, force=True)
    assert _contents(run) == before


@pytest.mark.skipif(os.name != "posix", reason="drafts are held by locks of POSIX")
def test_the_draft_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path) -> None:
    code = (
        "import sys, time, pathlib; from stepfold.lab import _folder\n"
        "def write(draft):\n"
        "    (draft / 'half').touch(); print(draft, flush=True); time.sleep(600)\n"
        "kind = _folder.Kind('run', 'report.html')\n"
        "_folder.write_folder(pathlib.Path(sys.argv[1]), kind, write, force=False)"
    )
    processes, drafts = [], []
    for name in ("killed", "living"):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        drafts.append(Path(processes[-1].stdout.readline().strip()))
        os.utime(drafts[-1], (1.0, 1.0))
    processes[0].kill()
    processes[0].wait()
    write_run(_outcome(figures=0), tmp_path / "run", seconds=1.0)
    left = sorted(os.listdir(tmp_path))
    processes[1].kill()
    processes[1].wait()
    for process in processes:
        process.stdout.close()
    assert left == [drafts[1].name, "run"]


def test_records_that_are_not_json_leave_nothing(tmp_path) -> None:
    outcome = _outcome(figures=0, records={"data": [object()]})
    with pytest.raises(TypeError, match=r"not JSON serializable"):
        write_run(outcome, tmp_path / "run", seconds=1.0)
    assert os.listdir(tmp_path) == []


def test_a_folder_below_a_file_is_refused_before_the_work(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file is not a folder"):
        check_free(tmp_path / "file" / "a" / "run", force=True)


def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(tmp_path) -> None:
    refusal = pytest.raises(PermissionError, match=r"may not be written to")
    with mock.patch("os.access", return_value=False), refusal:
        check_free(tmp_path / "a" / "run", force=False)


def test_the_current_folder_is_never_replaced(run, monkeypatch) -> None:
    monkeypatch.chdir(run)
    with pytest.raises(FileExistsError, match=r"is the current folder"):
        check_free(Path("."), force=True)


def test_a_link_to_a_run_is_followed_and_kept(run) -> None:
    link = run.parent / "link"
    link.symlink_to(run)
    write_run(_outcome("new", figures=0), link, seconds=1.0, force=True)
    assert link.is_symlink()
    assert "new" in (run / "report.html").read_text()
