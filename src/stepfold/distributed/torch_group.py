"""Processes that torchrun started, linked by torch.distributed."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed

from stepfold.distributed.group import LONGEST_WAIT, Group

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


class TorchGroup(Group):
    """The processes of a group of torch.distributed.

    Args:
        group: A ``ProcessGroup``; the default one if None.

    Raises:
        RuntimeError: If there is no group yet.
    """

    waits: timedelta | None = None
    """How long the group of `process_group` waits, for messages."""

    def __init__(self, group: Any = None) -> None:
        if not torch.distributed.is_initialized():
            raise RuntimeError(
                "`group` must be linked first, got no process group of torch.distributed; make "
                "the problem inside `with stepfold.distributed.processes():`"
            )
        self._group = group
        self.rank = torch.distributed.get_rank(group)
        self.size = torch.distributed.get_world_size(group)

    def sum(self, values: Any) -> Any:
        """Sums, in place; tensors stay on their device."""
        tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        with self._in_words():
            torch.distributed.all_reduce(tensor, group=self._group)
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes."""
        values: list[Any] = [None] * self.size
        with self._in_words():
            torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def broadcast(self, value: Any) -> Any:
        """The value of process 0."""
        values = [value]
        source = 0 if self._group is None else torch.distributed.get_global_rank(self._group, 0)
        with self._in_words():
            torch.distributed.broadcast_object_list(values, source, group=self._group)
        return values[0]

    def swap(self, outgoing: Mapping[int, Any], incoming: Mapping[int, Any]) -> Callable[[], None]:
        """Begin to send and to receive, from process to process."""
        kept, works = [], []
        with self._in_words():
            for rank, array in incoming.items():
                tensor = torch.from_numpy(array)
                works.append(torch.distributed.irecv(tensor, group=self._group, group_src=rank))
                kept.append(tensor)
            for rank, array in outgoing.items():
                tensor = torch.from_numpy(array)
                works.append(torch.distributed.isend(tensor, group=self._group, group_dst=rank))
                kept.append(tensor)

        def wait() -> None:
            with self._in_words():
                for work in works:
                    if work is not None:
                        work.wait()
            kept.clear()  # until here the messages' memory must not be let go

        return wait

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what gloo and NCCL raise for all that goes wrong
            within = "" if self.waits is None else f" within {self.waits}"
            raise ConnectionError(
                f"process {self.rank} of {self.size} got no answer from the others{within}: one of "
                f"them has ended, hangs, or is out of step ({str(error).splitlines()[0]}). Look at "
                "what that one wrote last; under `torchrun --max-restarts` all are started again"
            ) from error


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
        TimeoutError: If the others do not appear, or the coordinator is lost meanwhile.

    >>> with process_group():
    ...     torch.distributed.is_initialized()
    False
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
    try:
        shared, own, size = next(rendezvous("env://", timeout=timeout))
        name = _meet(shared, own, size, timeout)
        torch.distributed.init_process_group(
            backend,
            store=torch.distributed.PrefixStore(name, shared),  # type: ignore[attr-defined]
            rank=own,
            world_size=size,
            timeout=timeout,
        )
    except RuntimeError as error:  # what the store and the backends raise for all that goes wrong
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise TimeoutError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} has not met the others "
            f"at {address} within {timeout} ({str(error).splitlines()[0]}). Look whether process "
            "0, the coordinator, has started and can be reached there; let torchrun start them "
            "all, or give a longer `timeout`"
        ) from error
    TorchGroup.waits = timeout
    try:
        yield
    finally:
        TorchGroup.waits = None
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
