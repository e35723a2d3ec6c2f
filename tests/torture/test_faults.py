"""A sample of `make torture`: commands that are stopped, and files that do not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stepfold

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
