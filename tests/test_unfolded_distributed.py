"""Two processes on this machine train as one does, and survive the death of one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import stepfold as package
from stepfold.result import TrainingRun
from stepfold.unfolded.runs import Order, train_in_folder

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch was built without gloo",
)
SETTINGS = ("--set", "num_layers=3", "--set", "training.num_iterations=20")


def _environment() -> dict[str, str]:
    source = str(Path(package.__file__).parent.parent)
    quiet = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return {**os.environ, "PYTHONPATH": source, **quiet}


def _launch(*words: str, restarts: int = 0) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [*launcher, f"--max-restarts={restarts}", "-m", "stepfold", "train", "dugd", *words]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_the_same_batches(tmp_path) -> None:
    done = subprocess.run(
        _launch(*SETTINGS, "-o", str(tmp_path / "two")),
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training of dugd") == 1
    order = Order("dugd", {"num_layers": 3}, {"num_iterations": 20, "batches_per_step": 2})
    one = train_in_folder(order, tmp_path / "one")
    two = TrainingRun.load(tmp_path / "two")
    np.testing.assert_allclose(two.schedule.steps, one.schedule.steps, rtol=1e-12)
    np.testing.assert_allclose(two.history.losses, one.history.losses, rtol=1e-12)
    # Processes can come and go: the folder of two is gone on with by one.
    again = train_in_folder(
        Order(order.network, order.parameters, {"num_iterations": 20}),
        tmp_path / "two",
        resume=True,
    )
    assert again.schedule == two.schedule


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds workers in /proc")
def test_a_killed_worker_is_restarted_and_goes_on_from_the_checkpoint(tmp_path) -> None:
    words = ("--set", "num_layers=4", "--set", "training.num_iterations=300")
    process = subprocess.Popen(
        _launch(*words, "-o", str(tmp_path / "run"), "--checkpoint-every", "50", restarts=1),
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    worker = _children(process.pid)[-1]
    os.kill(worker, signal.SIGKILL)
    written = checkpoint.stat().st_mtime_ns
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert f"pid: {worker}" in errors or str(worker) in errors
    assert checkpoint.stat().st_mtime_ns > written
    assert "beginning anew" not in errors
    training = {"num_iterations": 300, "batches_per_step": 2}
    one = train_in_folder(Order("dugd", {"num_layers": 4}, training), tmp_path / "one")
    two = TrainingRun.load(tmp_path / "run")
    np.testing.assert_allclose(two.schedule.steps, one.schedule.steps, rtol=1e-10)
    np.testing.assert_allclose(two.history.losses, one.history.losses, rtol=1e-9)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sorted(int(word) for task in tasks for word in (task / "children").read_text().split())
