"""``stepfold run`` and ``list``, on a small experiment put in the place of the real ones."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from _small_experiments import SOURCE
from cli_runner import assert_refused, stepfold

from stepfold.lab import Axis, Check, Curve, Figure, Outcome, Section
from stepfold.lab.experiments import EXPERIMENTS, Experiment
from stepfold.lab.sources import place

CALLS: list[bool] = []


def _experiment(name: str, measured: float) -> Experiment:
    def small(*, progress: bool = False) -> Outcome:
        """A small experiment.

        What follows is not shown.
        """
        CALLS.append(progress)
        curve = Curve("c", np.arange(1.0, 3.0), np.ones(2))
        figure = Figure("f", "t", "one line", (curve,), Axis("x"), Axis("y"))
        checks = (Check("claim [red]x[/red]", "1", measured, 0.5, 1.5),)
        return Outcome("Title", "Summary.", (Section("h", ("p",), figure),), checks)

    return Experiment(name, SOURCE, small, seconds=0.1, quick={})


def _overflowing() -> Outcome:
    raise ArithmeticError("the loss is nan in stage 3")


@pytest.fixture(autouse=True)
def _small():
    CALLS.clear()
    EXPERIMENTS["dugd"]  # found before anything is added
    members = {
        "good": _experiment("good", 1.0),
        "bad": _experiment("bad", 2.0),
        "undefined": _experiment("undefined", np.nan),
        "overflow": Experiment("overflow", SOURCE, _overflowing, seconds=0.1, quick={}),
    }
    with mock.patch.dict(EXPERIMENTS._members, members):
        yield


def test_an_experiment_that_passes_exits_with_0(tmp_path) -> None:
    run = stepfold("run", "good", "-o", tmp_path / "run")
    assert (run.code, run.err) == (0, "")
    assert "Summary.\n1 of 1 checks passed in " in run.out
    assert "claim [red]x[/red]" in run.out
    assert run.out.endswith(f"report: {tmp_path / 'run' / 'report.html'}\n")


@pytest.mark.parametrize("name", ["bad", "undefined"])
def test_an_experiment_that_fails_a_check_exits_with_1_and_is_written(tmp_path, name) -> None:
    run = stepfold("run", name, "-o", tmp_path / "run", "--json")
    assert run.code == 1
    assert run.json()["passed"] is False
    assert (tmp_path / "run" / "report.html").is_file()


def test_json_names_checks_and_paths(tmp_path) -> None:
    record = stepfold("run", "good", "-o", tmp_path / "run", "--json").json()
    assert record["report"] == str(tmp_path / "run" / "report.html")
    assert record["checks"][0]["measured"] == 1.0
    assert record["seconds"] > 0


def test_an_arithmetic_error_exits_with_1_and_leaves_nothing(tmp_path) -> None:
    run = stepfold("run", "overflow", "-o", tmp_path / "run")
    assert (run.code, run.out) == (1, "")
    assert run.err == "Error: the loss is nan in stage 3\n"
    assert os.listdir(tmp_path) == []


def test_the_folder_is_named_after_the_experiment_by_default(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stepfold("run", "good").out.endswith("report: runs/good/report.html\n")


def test_a_run_twice_is_computed_once_unless_forced(tmp_path) -> None:
    folder = tmp_path / "run"
    first = stepfold("run", "good", "-o", folder)
    again = stepfold("run", "good", "-o", folder)
    assert (first.code, again.code, len(CALLS)) == (0, 0, 1)
    assert "--force computes it anew" in again.out
    assert stepfold("run", "good", "-o", folder, "--json").json()["kept"] is True
    assert stepfold("run", "good", "-o", folder, "--force", "--json").json()["kept"] is False
    assert len(CALLS) == 2


def test_a_failed_check_is_kept_as_well_and_told_again(tmp_path) -> None:
    assert stepfold("run", "bad", "-o", tmp_path / "run").code == 1
    again = stepfold("run", "bad", "-o", tmp_path / "run")
    assert (again.code, len(CALLS)) == (1, 1)
    assert "FAIL" in again.out


def test_another_experiment_in_the_folder_is_refused_before_the_work_unless_forced(
    tmp_path,
) -> None:
    folder = tmp_path / "run"
    stepfold("run", "good", "-o", folder)
    assert_refused(stepfold("run", "bad", "-o", folder), "already holds a run", "--force")
    assert len(CALLS) == 1
    assert stepfold("run", "bad", "-o", folder, "--force").code == 1
    assert "FAIL" in (folder / "report.html").read_text()


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_a_folder_that_is_no_run_is_refused_before_the_work(tmp_path, options) -> None:
    (tmp_path / "thesis.tex").touch()
    run = stepfold("run", "good", "-o", tmp_path, *options)
    assert_refused(run, "is not a run of stepfold")
    assert os.listdir(tmp_path) == ["thesis.tex"]
    assert CALLS == []


@pytest.mark.parametrize("name", ["file", "file/run", "file/a/b"])
def test_a_file_in_the_way_is_refused_before_the_work(tmp_path, name) -> None:
    (tmp_path / "file").touch()
    assert_refused(stepfold("run", "good", "-o", tmp_path / name), "file")
    assert CALLS == []


@pytest.mark.parametrize("force", [False, True])
def test_a_failing_write_leaves_what_was_there(tmp_path, force) -> None:
    folder = tmp_path / "run"
    if force:
        stepfold("run", "good", "-o", folder)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with mock.patch.object(Path, "write_bytes", side_effect=OSError(28, "No space left")):
        run = stepfold("run", "bad", "-o", folder, *(["--force"] if force else []))
    assert_refused(run, "No space left")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert os.listdir(tmp_path) == (["run"] if force else [])


@pytest.mark.parametrize("name", ["goood", "Good", "dugd2", "DUGD"])
def test_an_unknown_experiment_is_refused_with_near_names(tmp_path, name) -> None:
    near = "good" if name.lower().startswith("g") else "dugd"
    run = stepfold("run", name, "-o", tmp_path / "run")
    assert_refused(run, f"there is no experiment '{name}'")
    if name != "DUGD":  # difflib looks at case
        assert "did you mean" in run.err
        assert near in run.err


@pytest.mark.parametrize("name", ["", "qqqqqq", "../x", "[/x]", "z\nz"])
def test_an_experiment_unlike_any_is_refused_with_all_names(name) -> None:
    run = stepfold("run", name, "-o", "/nowhere")
    assert_refused(run, "there is no experiment", "dugd")


def test_no_progress_bar_where_nobody_watches(tmp_path) -> None:
    stepfold("run", "good", "-o", tmp_path / "run")
    assert CALLS == [False]


def test_list_names_every_experiment_with_its_first_line() -> None:
    records = stepfold("list", "--json").json()
    assert [record["name"] for record in records] == sorted(
        EXPERIMENTS, key=lambda name: (*place(EXPERIMENTS[name].source), name)
    )
    good = next(record for record in records if record["name"] == "good")
    assert good["description"] == "A small experiment."
    text = stepfold("list").out
    assert all(name in text for name in EXPERIMENTS)
    titles = [each.source.paper.title.split()[0] for each in EXPERIMENTS.values()]
    assert all(title in text for title in titles)
