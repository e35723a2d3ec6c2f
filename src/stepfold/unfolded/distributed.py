"""Training by several processes: who they are, and what they agree on.

Started by ``torchrun``, each process runs the same program. Inside `process_group` they are linked
by torch.distributed, and `train` shares the mini-batches of each step out among them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch import nn

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

LONGEST_WAIT = timedelta(minutes=10)


@contextlib.contextmanager
def process_group(timeout: timedelta = LONGEST_WAIT) -> Iterator[None]:
    """Link the processes that torchrun started, for as long as the block runs.

    Tensors on CPUs travel over gloo, those on GPUs over NCCL; where each process has a GPU of its
    own, that becomes the current device. Without torchrun, or where a group exists already, this
    does nothing.

    Args:
        timeout: How long a process waits for the others, at the beginning and at every step;
            longer is an error, after which torchrun starts them again if it may.

    Raises:
        TimeoutError: If the others do not appear.

    >>> with process_group():
    ...     num_processes()
    1
    """
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if not launched or torch.distributed.is_initialized():
        yield
        return
    # DistributedDataParallel imports this module, whose functions take the group that there is as
    # a default argument and so keep it and its threads beyond `destroy_process_group`; one that
    # drops its last tensor while the interpreter ends aborts the process. Before there is a group
    # the import is harmless.
    importlib.import_module("torch.distributed.nn.functional")
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo"
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.device_count() > place:
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(place)
    shared, own, size = next(rendezvous("env://", timeout=timeout))
    name = _meet(shared, own, size, timeout)
    torch.distributed.init_process_group(
        backend,
        store=torch.distributed.PrefixStore(name, shared),  # type: ignore[attr-defined]
        rank=own,
        world_size=size,
        timeout=timeout,
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _meet(store: Store, own: int, size: int, timeout: timedelta) -> str:
    """Agree on a name that no earlier processes have used: the place of this group's addresses.

    torchrun keeps one store for all its restarts. Without this, a process that starts a moment
    before another finds the address of that one's dead predecessor there, and waits for it (PyTorch
    issue 135712). Restart counts would not do: each machine's torchrun has its own.

    Process 0 makes up a name and waits until each of the others has taken it, once; then all go.
    A name that one's predecessor has taken, or that is not confirmed, is an old one.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    if own == 0:
        name = f"stepfold/{store.add('stepfold/names', 1)}"
        store.set("stepfold/name", name)
        awaited = [f"{name}/taken/{other}" for other in range(1, size)]
    else:
        name, awaited, taken = "", [], set[str]()
    while True:
        if own and store.check(["stepfold/name"]):
            newest = store.get("stepfold/name").decode()
            if newest not in taken:
                taken.add(newest)
                is_new = store.add(f"{newest}/taken/{own}", 1) == 1
                name, awaited = (newest, [f"{newest}/confirmed"]) if is_new else ("", [])
        if name and (size == 1 or store.check(awaited)):
            break
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"process {own} of {size} waited {timeout} for the others; let torchrun start "
                "them all, or give `process_group` a longer `timeout`"
            )
        time.sleep(0.01)
    if own == 0:
        store.set(f"{name}/confirmed", "")
    return name


def num_processes() -> int:
    """How many processes train together; 1 outside a process group."""
    linked = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if linked else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return torch.distributed.get_rank() if num_processes() > 1 else 0


def summed(values: list[float], device: torch.device) -> list[float]:
    """Sums of numbers over all processes, the same everywhere."""
    if num_processes() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor)
    sums: list[float] = tensor.tolist()
    return sums


def gathered(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks."""
    if num_processes() == 1:
        return [value]
    values: list[Any] = [None] * num_processes()
    torch.distributed.all_gather_object(values, value)
    return values


def wait() -> None:
    """Wait until every process is here."""
    if num_processes() > 1:
        torch.distributed.barrier()


def wrapped(module: nn.Module, device: torch.device, *, may_leave_out: bool) -> nn.Module:
    """The module itself, or in DistributedDataParallel, which averages gradients.

    ``may_leave_out`` says whether a loss may depend on some of the parameters only.
    """
    if num_processes() == 1:
        return module
    return nn.parallel.DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=may_leave_out,
    )
