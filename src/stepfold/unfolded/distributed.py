"""Training by several processes: what they agree on.

Started by ``torchrun``, each process runs the same program. Inside `process_group` they are linked
by torch.distributed, and `train` shares the mini-batches of each step out among them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import nn

from stepfold.distributed.torch_group import process_group

__all__ = [
    "gathered",
    "num_processes",
    "process_group",
    "rank",
    "summed",
    "wait",
    "wrapped",
]


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
