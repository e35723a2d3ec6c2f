"""A training that was killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stepfold as package

MOMENTS = [
    ("iteration", 1),
    ("iteration", 5),
    ("iteration", 12),
    ("iteration", 19),
    ("iteration", 28),
    ("half written", 1),
    ("half written", 4),
    ("written", 3),
    ("synced", 1),
    ("synced", 8),
    ("replaced", 1),
    ("replaced", 7),
    ("seconds", 0.02),
    ("seconds", 0.08),
    ("seconds", 0.2),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Folders of trainings that were killed and resumed, and of one that was not."""
    folder = tmp_path_factory.mktemp("killed")
    program = Path(__file__).parent / "killed_training.py"
    source = str(Path(package.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(program), str(folder), json.dumps(MOMENTS)],
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("index", range(len(MOMENTS)), ids=lambda i: "-".join(map(str, MOMENTS[i])))
def test_a_killed_training_ends_with_the_same_bytes(root, index) -> None:
    outcome = (root / str(index) / "outcome.json").read_bytes()
    assert outcome == (root / "whole" / "outcome.json").read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("index", range(len(MOMENTS)), ids=lambda i: "-".join(map(str, MOMENTS[i])))
def test_no_draft_is_left_beside_the_checkpoint(root, index) -> None:
    names = sorted(path.name for path in (root / str(index)).iterdir())
    assert names == ["checkpoint", "outcome.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_training_that_is_killed_is_not_trivial(root) -> None:
    record, values = json.loads((root / "whole" / "outcome.json").read_text())
    assert record["finished"]
    assert record["parameters"]["momentum"] != [0.1, 0.1, 0.1]
    assert len(set(values["step_values.raw"])) == 3
    assert len(record["history"]["losses"]) == 3
