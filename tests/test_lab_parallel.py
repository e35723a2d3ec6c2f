"""Several runs at once: failures stop nothing, interrupts and kills leave whole runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from _small_experiments import SMALL
from cli_runner import assert_refused, stepfold

from stepfold.lab.experiments import EXPERIMENTS
from stepfold.lab.parallel import compute_all
from stepfold.lab.runs import Job


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    EXPERIMENTS["dugd"]  # found before they are replaced
    monkeypatch.setenv("STEPFOLD_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with mock.patch.object(EXPERIMENTS, "_members", dict(SMALL)):
        yield


def _runs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_all_are_run_and_failures_are_told(tmp_path) -> None:
    run = stepfold("run", "--all", "--quick", "-o", tmp_path / "runs", "--json")
    assert run.code == 1
    records = {record["name"]: record for record in run.json()}
    assert list(records) == sorted(SMALL)
    assert records["failing"]["failure"] == "ArithmeticError: the loss is nan in stage 3"
    assert records["crashing"]["failure"] == "its process ended with exit code 7"
    assert [name for name, record in records.items() if record["passed"]] == [
        "adjustable",
        "slow",
        "threads",
    ]
    assert records["threads"]["checks"][0]["measured"] == 1  # one thread each
    assert os.environ["OMP_NUM_THREADS"] == "4"
    assert _runs(tmp_path / "runs") == ["adjustable", "slow", "threads"]


def test_what_is_up_to_date_is_kept(tmp_path) -> None:
    words = ("run", "adjustable", "threads", "-o", tmp_path)
    assert "2 of 2 experiments passed; 2 were computed." in stepfold(*words).out
    before = (tmp_path / "threads" / "run.json").stat().st_mtime_ns
    again = stepfold(*words)
    assert (again.code, again.err) == (0, "")
    assert "2 of 2 experiments passed; 0 were computed." in again.out
    assert again.out.count("(kept)") == 2
    assert (tmp_path / "threads" / "run.json").stat().st_mtime_ns == before


def test_the_longest_is_started_first(tmp_path) -> None:
    jobs = [Job(SMALL[name], {}, tmp_path / name) for name in ("failing", "threads")]
    events: list[str] = []
    compute_all(
        jobs,
        num_processes=1,
        started=lambda job: events.append(job.experiment.name),
        ended=lambda job, failure: events.append(f"{job.experiment.name}: {failure is None}"),
    )
    assert events == ["threads", "threads: True", "failing", "failing: False"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "give the name of an experiment, or --all"),
        (("--all", "slow"), "give the name of an experiment, or --all"),
        (("--all", "--set", "seconds=1"), "--set is for one experiment"),
        (("slow", "threads", "--set", "seconds=1"), "--set is for one experiment"),
        (("slow", "--set", "seconds"), "--set takes NAME=VALUE, got 'seconds'"),
        (("slow", "--set", "second=1"), "did you mean seconds?"),
        (("slow", "--set", "seconds=101"), "a number between 0 and 100, got '101'"),
        (("slow", "thread"), "did you mean threads"),
        (("--all", "--jobs", "0"), "--jobs"),
    ],
)
def test_bad_input_is_refused_before_the_work(tmp_path, words, complaint) -> None:
    assert_refused(stepfold("run", *words, "-o", tmp_path / "runs"), complaint)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_for_the_run(tmp_path) -> None:
    words = ("run", "adjustable", "-o", tmp_path / "run", "--set", "scale=1.25", "--json")
    assert stepfold(*words, "--set", "period=2").json()["checks"][0]["measured"] == 1.25


def test_quick_runs_have_a_folder_of_their_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stepfold("run", "adjustable", "--quick").code == 0
    assert stepfold("run", "adjustable").code == 0
    assert _runs(Path("runs")) == ["adjustable", "quick"]


# Ctrl-C must reach Python whatever started the tests; names are found as in this module.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from _small_experiments import SMALL
from stepfold.lab.experiments import EXPERIMENTS
EXPERIMENTS["dugd"]
EXPERIMENTS._members = {name: SMALL[name] for name in ("threads", "slow")}
from stepfold.cli import main
sys.argv[0] = "stepfold"
main()
"""


def _start(tmp_path: Path) -> subprocess.Popen[str]:
    """Start runs of which one is done soon and the other never, and wait until it is so."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent / "src")])
    words = ["run", "--all", "-o", "runs", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    done = tmp_path / "runs" / "threads"
    while not (done.exists() and list(tmp_path.glob("begun-*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def _worker(tmp_path: Path) -> int:
    (begun,) = tmp_path.glob("begun-*")
    return int(begun.name.removeprefix("begun-"))


def _is_gone(process: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or " Z " in status.read_text():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_whole_runs_and_goes_on(tmp_path, number) -> None:
    process = _start(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out == ""
    if number == signal.SIGINT:
        assert (process.returncode, err.strip()) == (130, "Interrupted.")
    assert _is_gone(_worker(tmp_path))
    assert os.listdir(tmp_path / "runs") == ["threads"]  # and nothing half-written
    words = ("run", "threads", "slow", "-o", tmp_path / "runs", "--json")
    with mock.patch("stepfold.lab.parallel.compute_all") as computed:
        computed.side_effect = lambda jobs, **_: [job.compute() for job in jobs]
        with mock.patch("time.sleep"):
            records = stepfold(*words).json()
    assert [record["kept"] for record in records] == [True, False]
