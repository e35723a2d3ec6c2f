"""Two processes on this machine train as one does, and survive the death of one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

import stepfold as package
from stepfold.distributed.torch_group import _meet
from stepfold.result import TrainingRun
from stepfold.unfolded.runs import Order, train_in_folder

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch was built without gloo",
)
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# Two processes add up a batch in another order than one, and a training carries that rounding on.
TRAINED = 1e-7
SETTINGS = ("--set", "num_layers=3", "--set", "training.num_iterations=20")


def _environment() -> dict[str, str]:
    source = str(Path(package.__file__).parent.parent)
    quiet = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return {**os.environ, "PYTHONPATH": source, **quiet}


def _launch(*words: str, restarts: int = 0) -> list[str]:
    return [*LAUNCHER, f"--max-restarts={restarts}", "-m", "stepfold", "train", "dugd", *words]


LEFT_OUT = """
import sys
import torch
from stepfold import Schedule
from stepfold.unfolded import Sample, SampledLoss, Stage, UnfoldedIteration, process_group, train
from stepfold.unfolded import distributed

class Step(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x, params, data):
        shift = self.shift if x.any() else 0  # the first layer, which starts at 0, does without
        return x - params.step * (x - data) + shift

def sampler(rng):
    data = torch.from_numpy(rng.standard_normal((4, 3)))
    return Sample(data, data)

network = UnfoldedIteration(Schedule([0.3, 0.2]), iteration=Step())
with process_group():
    loss = SampledLoss(sampler)
    # Adam still has momentum for `shift` when the second stage leaves it out.
    train(network, loss, [Stage(2, 8), Stage(1, 8)], batches_per_step=2)
    if distributed.rank() == 0:
        values = [*network.steps.tolist(), network.iteration.shift.item()]
        print(" ".join(map(float.hex, values)))
"""


@pytest.mark.slow
def test_a_parameter_that_a_stage_leaves_out_stays_where_it_is_as_with_one_process(
    tmp_path,
) -> None:
    program = tmp_path / "program.py"
    program.write_text(LEFT_OUT)
    ends = []
    for launcher in ([sys.executable], LAUNCHER):
        with _running([*launcher, str(program)]) as process:
            shown, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        ends.append([float.fromhex(word) for word in shown.split()])
    assert len(ends[0]) == 3
    np.testing.assert_allclose(ends[1], ends[0], rtol=TRAINED)


HELD = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from stepfold import Schedule
from stepfold.unfolded import LoaderSampler, Sample, SampledLoss, UnfoldedIteration
from stepfold.unfolded import distributed, greedy_then_refined, process_group, train

torch.manual_seed(0)
priors = [torch.nn.Linear(3, 3).double() for _ in range(2)]  # in a closure, one for each layer
scale = torch.nn.Parameter(torch.ones(3).double())  # in the criterion

def step(x, params, y):
    return x + params.step * priors[params.layer](y - x)

def criterion(output, sample):
    return (scale * output - sample.target).square().mean()

data = TensorDataset(torch.randn(10, 3).double())
loader = DataLoader(data, batch_size=3, shuffle=True)
sampler = LoaderSampler(loader, lambda batch: Sample(batch[0], 2 * batch[0]))
network = UnfoldedIteration(Schedule([0.3, 0.2]), iteration=step)
with process_group():
    loss = SampledLoss(sampler, criterion=criterion)
    train(network, loss, greedy_then_refined(2, 8), batches_per_step=2, clip_norm=0.5)
    if distributed.rank() == 0:
        values = [*network.steps.tolist(), *scale.tolist()]
        values += [x for prior in priors for x in prior.weight.flatten().tolist()]
        print(" ".join(map(float.hex, values)))
"""


@pytest.mark.slow
def test_two_processes_learn_held_modules_from_a_loader_as_one_does(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HELD)
    ends = []
    for launcher in ([sys.executable], LAUNCHER):
        with _running([*launcher, str(program)]) as process:
            shown, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        ends.append([float.fromhex(word) for word in shown.split()])
    assert len(ends[0]) == 23
    np.testing.assert_allclose(ends[1], ends[0], rtol=TRAINED)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_the_same_batches(tmp_path) -> None:
    with _running(_launch(*SETTINGS, "-o", str(tmp_path / "two"))) as process:
        shown, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert shown.count("Training of dugd") == 1
    order = Order("dugd", {"num_layers": 3}, {"num_iterations": 20, "batches_per_step": 2})
    one = train_in_folder(order, tmp_path / "one")
    two = TrainingRun.load(tmp_path / "two")
    np.testing.assert_allclose(two.history.losses[0], one.history.losses[0], rtol=1e-12)
    np.testing.assert_allclose(two.schedule.steps, one.schedule.steps, rtol=TRAINED)
    np.testing.assert_allclose(two.history.losses, one.history.losses, rtol=TRAINED)
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
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoint.safetensors"
    command = _launch(*words, "-o", str(folder), "--checkpoint-every", "50", restarts=3)
    with _running(command) as process:
        deadline = time.monotonic() + 240
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        worker = _children(process.pid)[-1]
        os.kill(worker, signal.SIGKILL)
        written = checkpoint.stat().st_mtime_ns
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert str(worker) in errors
    assert checkpoint.stat().st_mtime_ns > written
    assert "beginning anew" not in errors
    training = {"num_iterations": 300, "batches_per_step": 2}
    one = train_in_folder(Order("dugd", {"num_layers": 4}, training), tmp_path / "one")
    two = TrainingRun.load(tmp_path / "run")
    np.testing.assert_allclose(two.schedule.steps, one.schedule.steps, rtol=TRAINED)
    np.testing.assert_allclose(two.history.losses, one.history.losses, rtol=TRAINED)


LATE = """
import os, signal, time
import torch.distributed
from stepfold.unfolded import process_group

first_try = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
if os.environ["RANK"] == "0" and not first_try:
    time.sleep(2)
with process_group():
    torch.distributed.barrier()
    if os.environ["RANK"] == "1" and first_try:
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds workers in /proc")
def test_a_restarted_process_waits_for_a_late_one_not_for_its_dead_predecessor(tmp_path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    with _running([*LAUNCHER, "--max-restarts=1", str(tmp_path / "late.py")]) as process:
        _, errors = process.communicate(timeout=120)  # hung for ten minutes at least before
    assert process.returncode == 0, errors


ENDED = """
from pathlib import Path
import torch
from stepfold.unfolded import process_group

def threads():
    return [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]

with process_group():
    torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))(torch.ones(2)).sum().backward()
    assert "pt_gloo_runloop" in threads(), threads()
assert "pt_gloo_runloop" not in threads(), threads()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds threads in /proc")
def test_no_thread_of_the_group_is_left_that_could_outlive_the_interpreter() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    command = [sys.executable, "-c", ENDED]
    done = subprocess.run(
        command, env={**_environment(), **address, **alone}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_processes_meet_under_a_name_that_no_earlier_ones_have_used() -> None:
    store = torch.distributed.HashStore()
    for last in (2, 1, 2):  # the second group ends before its process 2 has come
        with ThreadPoolExecutor(3) as pool:
            timeout = timedelta(seconds=0.3 if last == 1 else 20)
            others = [pool.submit(_meet, store, own, 3, timeout) for own in range(last, 0, -1)]
            time.sleep(0.05)
            first = pool.submit(_meet, store, 0, 3, timeout)
            if last == 2:
                assert {other.result() for other in others} == {first.result()}
            else:
                with pytest.raises(TimeoutError, match=r"process 0 of 3 waited 0:00:00\.3"):
                    first.result()
                with pytest.raises(TimeoutError, match="process 1 of 3 waited"):
                    others[0].result()
    assert first.result() == "stepfold/3"


def test_a_process_without_others_meets_nobody() -> None:
    assert _meet(torch.distributed.HashStore(), 0, 1, timedelta(0)) == "stepfold/1"


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A launcher; at the end of the block neither it nor any of its workers is there."""
    process = subprocess.Popen(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            workers = _children(process.pid)
            process.kill()
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            process.communicate()


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sorted(int(word) for task in tasks for word in (task / "children").read_text().split())
