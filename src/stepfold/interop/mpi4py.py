"""Processes that MPI started: ``stepfold.distributed`` over a communicator of mpi4py.

    mpiexec -n 2 python program.py

mpi4py needs an MPI; the package index has both (``mpi4py``, and ``mpich`` or ``openmpi``). MPI has
no timeouts: a process that hangs is waited for, and mpiexec ends all when one of them aborts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepfold._extras import how_to_install
from stepfold.distributed import Group


def _mpi() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            f"`MPIGroup` needs mpi4py and an MPI; {how_to_install('mpi')}: {error}"
        ) from None
    return MPI


class MPIGroup(Group):
    """The processes of a communicator.

    Sums are made on process 0 and sent to all, because MPI does not
    promise that an all-reduce has the same bits everywhere.

    Args:
        communicator: Of mpi4py; ``MPI.COMM_WORLD`` if None. It is duplicated, so that messages of
            the caller's cannot be taken for ours.

    Raises:
        ImportError: If mpi4py or its MPI is not installed.
    """

    def __init__(self, communicator: Any = None) -> None:
        self._mpi = _mpi()
        communicator = self._mpi.COMM_WORLD if communicator is None else communicator
        self._communicator = communicator.Dup()
        self.rank = self._communicator.Get_rank()
        self.size = self._communicator.Get_size()

    def sum(self, values: Any) -> Any:
        """Sums, in place.

        Raises:
            TypeError: If the values are on a device.
        """
        numbers = values if isinstance(values, np.ndarray) else _host(values)
        place = self._mpi.IN_PLACE
        if self.rank == 0:
            self._communicator.Reduce(place, numbers)
        else:
            self._communicator.Reduce(numbers, None)
        self._communicator.Bcast(numbers)
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes."""
        values: list[Any] = self._communicator.allgather(value)
        return values

    def broadcast(self, value: Any) -> Any:
        """The value of process 0."""
        return self._communicator.bcast(value)

    def swap(self, outgoing: Mapping[int, Any], incoming: Mapping[int, Any]) -> Callable[[], None]:
        """Begin to send and to receive, from process to process."""
        requests = [self._communicator.Irecv(array, rank) for rank, array in incoming.items()]
        requests += [self._communicator.Isend(array, rank) for rank, array in outgoing.items()]
        kept = (dict(outgoing), dict(incoming))

        def wait() -> None:
            self._mpi.Request.Waitall(requests)
            for arrays in kept:
                arrays.clear()  # until here the messages' memory must not be let go

        return wait


def _host(values: Any) -> Any:
    if values.device.type != "cpu":
        raise TypeError(
            f"`values` must be on the CPU for MPI, got a tensor on {values.device}; use "
            "`stepfold.distributed.processes` under torchrun, which takes NCCL"
        )
    return values.numpy()  # the same memory
