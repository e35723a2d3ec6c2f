"""Two trainings in one place, a disk with no room, a training refused before it began."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import assert_refused, stepfold

from stepfold import Schedule, SpectralMeasure
from stepfold.result import TrainingRun
from stepfold.unfolded import SpectralLoss, UnfoldedIteration, incremental, train
from stepfold.unfolded.checkpoints import claimed

MEASURE = SpectralMeasure.from_eigenvalues([0.5, 1.0, 2.0])
QUICK = ("--set", "matrix=H.npy", "--set", "num_layers=2", "--set", "training.num_iterations=6")

# Without torch, which would take seconds.
CLAIMING = """
import fcntl, pathlib, sys, time
path = pathlib.Path(sys.argv[1])
with open(path.with_name(f".{path.name}.lock"), "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("claimed", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("H.npy", np.diag([1.0, 2.0, 3.0]))


@contextmanager
def _another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", CLAIMING, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()


def _train(path: Path, **options: Any) -> TrainingRun:
    network = UnfoldedIteration(Schedule([0.3, 0.2]))
    loss = SpectralLoss(MEASURE, batch_size=5)
    return train(network, loss, incremental(2, 6), checkpoint=path, **options)


def test_a_checkpoint_that_another_process_writes_is_refused_until_that_is_killed(tmp_path) -> None:
    path = tmp_path / "checkpoint"
    with _another_process(path) as process:
        with pytest.raises(FileExistsError, match=r"another training is writing .*; wait"):
            _train(path)
        assert not path.exists()
        process.kill()
        process.wait()
        assert (tmp_path / ".checkpoint.lock").exists()
        assert _train(path).finished
    assert not (tmp_path / ".checkpoint.lock").exists()


def test_a_checkpoint_that_this_process_writes_is_refused(tmp_path) -> None:
    path = tmp_path / "checkpoint"
    refusals = []

    def callback(now: Any) -> None:
        if now.done == 1:
            with pytest.raises(FileExistsError, match=r"another training is writing") as caught:
                _train(path)
            refusals.append(caught.value)

    assert _train(path, callback=callback).schedule == _train(tmp_path / "alone").schedule
    assert len(refusals) == 1


def test_different_checkpoints_in_one_folder_are_written_side_by_side(tmp_path) -> None:
    with _another_process(tmp_path / "one"):
        assert _train(tmp_path / "two").finished


def test_what_a_link_points_to_is_replaced_and_claimed(tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "checkpoint", tmp_path / "link"
    link.symlink_to(target)
    with (
        _another_process(target),
        pytest.raises(FileExistsError, match=r"writing .*elsewhere/checkpoint"),
    ):
        _train(link)
    assert _train(link).finished
    assert link.is_symlink()
    assert target.is_file()


def test_a_claim_ends_with_its_block_and_leaves_no_file(tmp_path) -> None:
    for _ in range(2):
        with claimed(tmp_path / "x"):
            assert [file.name for file in tmp_path.glob(".*")] == [".x.lock"]
    assert not list(tmp_path.glob(".*"))


def test_who_waits_for_a_claim_never_shares_it(tmp_path) -> None:
    counts = []

    def claim() -> None:
        for _ in range(200):
            try:
                with claimed(tmp_path / "x"):
                    counts.append(1)
                    assert sum(counts) == 1
                    counts.append(-1)
            except FileExistsError:
                continue

    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(claim) for _ in range(4)]:
            each.result()
    assert counts


@pytest.mark.parametrize("option", ["--resume", "--force"])
def test_a_folder_in_which_another_process_trains_is_refused_and_left_alone(option) -> None:
    assert stepfold("train", "dugd", *QUICK, "-o", "out").code == 0
    before = {file.name: file.read_bytes() for file in Path("out").iterdir()}
    with _another_process(Path("out/settings.json")):
        run = stepfold("train", "dugd", *QUICK, "-o", "out", option)
        assert_refused(run, "another training is writing out/settings.json; wait for its end")
    (Path("out") / ".settings.json.lock").unlink()
    assert {file.name: file.read_bytes() for file in Path("out").iterdir()} == before


def test_a_folder_that_holds_only_what_a_killed_beginning_leaves_is_begun_anew() -> None:
    Path("out").mkdir()
    for name in (".settings.json.lock", ".settings.json-abc"):
        (Path("out") / name).write_text("")
    assert stepfold("train", "dugd", *QUICK, "-o", "out").code == 0
    assert not list(Path("out").glob(".*"))


def test_a_training_that_was_refused_before_its_work_is_in_nobody_s_way() -> None:
    refused = stepfold("train", "dugd", *QUICK, "--set", "training.patience=0", "-o", "out")
    assert_refused(refused, "`patience` must be an integer of at least 1")
    assert stepfold("train", "dugd", *QUICK, "-o", "out").code == 0


@contextmanager
def _largest_file(num_bytes: int) -> Iterator[None]:
    """The kernel then refuses to write more into a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_finds_no_room_leaves_the_previous_one_and_the_training_goes_on() -> None:
    words = ("train", "dugd", *QUICK, "--set", "num_layers=40", "--checkpoint-every", "3")
    assert stepfold(*words, "-o", "whole").code == 0
    size = Path("whole/checkpoint.safetensors").stat().st_size
    with _largest_file(size // 2):
        run = stepfold(*words, "-o", "out")
    assert_refused(run, "could not be written, the previous one is intact; make room")
    assert 0 < Path("out/checkpoint.safetensors").stat().st_size <= size // 2
    assert stepfold(*words, "-o", "out", "--resume").code == 0
    first, second = (Path(name, "schedule.json").read_bytes() for name in ("whole", "out"))
    assert first == second


def test_a_record_that_finds_no_room_is_written_when_there_is_some(monkeypatch) -> None:
    from stepfold.unfolded import runs

    real = runs._write

    def write(path: Path, record: Any) -> None:
        with _largest_file(40 if path.name == "training.json" else 10**9):
            real(path, record)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_write", write)
        run = stepfold("train", "dugd", *QUICK, "-o", "out")
    assert_refused(run, "out/training.json", "record could not be written; make room and resume")
    assert stepfold("train", "dugd", *QUICK, "-o", "out", "--resume").code == 0
    assert TrainingRun.load("out").finished


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_where_the_file_system_has_no_locks_training_goes_on_without(
    tmp_path, monkeypatch, number
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    assert _train(tmp_path / "checkpoint").finished


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path, monkeypatch) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match=r"Input/output error"):
        _train(tmp_path / "checkpoint")
