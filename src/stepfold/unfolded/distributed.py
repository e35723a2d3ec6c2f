"""Training by several processes: who they are, and what they agree on.

Started by ``torchrun``, each process runs the same program. Inside `process_group` they are linked
by torch.distributed, and `train` shares the mini-batches of each step out among them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Link the processes that torchrun started, for as long as the block runs.

    Tensors on CPUs travel over gloo, those on GPUs over NCCL; where each process has a GPU of its
    own, that becomes the current device. Without torchrun, or where a group exists already, this
    does nothing.

    >>> with process_group():
    ...     num_processes()
    1
    """
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if not launched or torch.distributed.is_initialized():
        yield
        return
    backend = "gloo"
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.device_count() > place:
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(place)
    torch.distributed.init_process_group(backend)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


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


def generator_state() -> dict[str, Tensor]:
    """State of torch's global generators, on this process' devices."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_generator_state(state: dict[str, Tensor]) -> None:
    """Put torch's global generators into a state that `generator_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
