"""A sample of `make torture`: commands that are stopped, and files that do not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stepfold
from stepfold._files import remove_abandoned, replacing

HERE = Path(__file__).parent
SOURCE = str(Path(stepfold.__file__).parent.parent)
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_stopped_commands_lose_nothing_and_leave_nothing(tmp_path) -> None:
    words = ("--jobs", "solve", "train", "--count", "6", "--no-places")
    done = subprocess.run(
        [sys.executable, str(HERE / "faults.py"), *words],
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 faults" in done.stdout


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from stepfold._files import replacing, write_array
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with replacing(Path(sys.argv[1]), prefix=".draft-") as file:
    write_array(file, np.ones(300))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits")
def test_an_array_cut_short_by_a_full_disk_takes_no_place(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "x.npy")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of files")
def test_drafts_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path) -> None:
    (tmp_path / ".stepfold-abcdefgh").write_bytes(b"half")
    (tmp_path / ".stepfold-draft-x").mkdir()
    (tmp_path / ".stepfold-younger1").write_bytes(b"half")
    os.utime(tmp_path / ".stepfold-abcdefgh", (0, 0))
    with replacing(tmp_path / "x.npy", prefix=".stepfold-") as file:
        os.utime(_draft(tmp_path), (0, 0))  # a long time at work
        remove_abandoned(tmp_path, ".stepfold-")
        file.write(b"whole")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".stepfold-draft-x", ".stepfold-younger1", "x.npy"]


def _draft(folder: Path) -> Path:
    names = {".stepfold-abcdefgh", ".stepfold-draft-x", ".stepfold-younger1"}
    return next(path for path in folder.iterdir() if path.name not in names)
