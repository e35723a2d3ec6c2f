"""A run that is there is kept, one that is out of date replaced, any other left alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import mock

import pytest
from _small_experiments import SMALL, adjustable

from stepfold.lab import Outcome, runs
from stepfold.lab.experiments.dugd import dugd
from stepfold.lab.experiments.rates import rates
from stepfold.lab.provenance import code_version
from stepfold.lab.report import write_run
from stepfold.lab.runs import Job

BY_OTHER_CODE = mock.patch("stepfold.lab.runs.code_version", return_value="0123456789abcdef")


def _job(folder: Path, **given: object) -> Job:
    experiment = SMALL["adjustable"]
    return Job(experiment, experiment.values(given), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds a run with the published values."""
    _job(tmp_path / "run").compute()
    return tmp_path / "run"


def test_nothing_is_done_before_it_is_computed(tmp_path) -> None:
    assert not _job(tmp_path / "run").is_done()


def test_a_run_is_done_with_the_same_parameters_and_code_only(folder) -> None:
    assert _job(folder).is_done()
    assert not _job(folder, period=4).is_done()
    with BY_OTHER_CODE:
        assert not _job(folder).is_done()


def test_another_experiment_s_run_is_not_done(folder) -> None:
    assert not Job(SMALL["threads"], {}, folder).is_done()


@pytest.mark.parametrize("name", ["run.json", "outcome.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_run_is_not_done(folder, name, text) -> None:
    (folder / name).write_text(text)
    assert not _job(folder).is_done()


def test_a_run_by_other_code_may_be_replaced(folder) -> None:
    with BY_OTHER_CODE:
        _job(folder).check(force=False)


def test_a_run_with_other_parameters_may_not_be_replaced_unless_forced(folder) -> None:
    with pytest.raises(FileExistsError, match=r"other values of fast, period; .*--force"):
        _job(folder, period=4, fast=True).check(force=False)
    _job(folder, period=4, fast=True).check(force=True)


def test_another_experiment_s_run_may_not_be_replaced_unless_forced(folder) -> None:
    with pytest.raises(FileExistsError, match=r"already holds a run; .*--force"):
        Job(SMALL["threads"], {}, folder).check(force=False)
    Job(SMALL["threads"], {}, folder).check(force=True)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_run_may_never_be_replaced(tmp_path, force) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"is not a run of stepfold"):
        _job(tmp_path).check(force=force)


def test_computing_again_replaces_the_run(folder) -> None:
    _job(folder, scale=1.25).compute()
    assert _job(folder).load()["checks"][0]["measured"] == 1.25
    assert os.listdir(folder.parent) == ["run"]


def test_a_run_that_another_process_wrote_meanwhile_is_left_alone(tmp_path) -> None:
    def write_first(function):
        write_run(Outcome("another", "It was first.", ()), tmp_path / "run", seconds=1.0)
        return code_version(function)

    with (
        mock.patch.object(runs, "code_version", write_first),
        pytest.raises(FileExistsError, match="left alone"),
    ):
        _job(tmp_path / "run").compute()
    assert "It was first." in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run-2" / "report.html").is_file()


def test_the_run_s_own_record_says_what_made_it(folder) -> None:
    record = json.loads((folder / "run.json").read_text())
    assert record["experiment"] == "adjustable"
    assert record["parameters"] == {"period": 3, "scale": 1.0, "kind": "first", "fast": False}
    assert record["code"] == code_version(adjustable)
    assert record["seconds"] >= 0


def test_the_code_s_version_does_not_depend_on_when_it_is_asked() -> None:
    assert code_version(rates) == code_version(rates)
    assert len({code_version(function) for function in (rates, dugd, adjustable)}) == 3


def _version_after(edited: Path) -> str:
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        return real(path) + (b"#" if path == edited else b"")

    with mock.patch.object(Path, "read_bytes", read):
        return code_version(rates)


LAB = Path(__file__).parents[1] / "src" / "stepfold" / "lab"


@pytest.mark.parametrize(
    "path",
    ["../polynomial.py", "experiments/rates.py", "experiments/_published.py", "outcome.py"],
)
def test_the_code_s_version_changes_with_what_the_numbers_depend_on(path) -> None:
    assert _version_after((LAB / path).resolve()) != code_version(rates)


@pytest.mark.parametrize("path", ["../cli/steps.py", "experiments/extrema.py"])
def test_the_code_s_version_does_not_change_with_the_rest(path) -> None:
    assert _version_after((LAB / path).resolve()) == code_version(rates)
