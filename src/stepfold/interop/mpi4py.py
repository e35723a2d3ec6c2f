"""Processes that MPI started: ``stepfold.distributed`` over a communicator of mpi4py.

    mpiexec -n 2 python program.py

mpi4py needs an MPI; the package index has both (``mpi4py``, and ``mpich`` or ``openmpi``). MPI has
no timeouts: exchanges are begun without waiting for them, and asked for until a deadline. A process
that gives up aborts all of them when it ends, because MPI would wait for the lost one even then.
"""

from __future__ import annotations

import atexit
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from stepfold._extras import how_to_install
from stepfold.distributed import Group
from stepfold.distributed.group import LONGEST_WAIT

# Seconds for which an answer is asked for without a pause, and the pause after that.
IMPATIENT, PAUSE = 0.01, 0.001


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
        timeout: How long a process waits for the others at every exchange. Longer raises
            `ConnectionError`, and when that process ends it aborts the others.

    Raises:
        ImportError: If mpi4py or its MPI is not installed.
    """

    def __init__(self, communicator: Any = None, timeout: timedelta = LONGEST_WAIT) -> None:
        self._mpi = _mpi()
        communicator = self._mpi.COMM_WORLD if communicator is None else communicator
        self.timeout = timeout
        self._communicator = communicator.Dup()
        self.rank = self._communicator.Get_rank()
        self.size = self._communicator.Get_size()

    def sum(self, values: Any) -> Any:
        """Sums, in place.

        Raises:
            TypeError: If the values are on a device.
            ConnectionError: If another process does not answer in time.
        """
        numbers = values if isinstance(values, np.ndarray) else _host(values)
        if self.rank == 0:
            self._finish(self._communicator.Ireduce(self._mpi.IN_PLACE, numbers))
        else:
            self._finish(self._communicator.Ireduce(numbers, None))
        self._finish(self._communicator.Ibcast(numbers))
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes."""
        mine = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self._finish(self._communicator.Iallgather(np.array([mine.size]), sizes))
        everything, ends = np.empty(sizes.sum(), np.uint8), np.cumsum(sizes)
        places = [everything, (sizes, ends - sizes), self._mpi.BYTE]
        self._finish(self._communicator.Iallgatherv([mine, self._mpi.BYTE], places))
        parts = np.split(everything, ends[:-1])
        # Of this program's other processes, which MPI started with it.
        return [pickle.loads(part.tobytes()) for part in parts]  # noqa: S301

    def broadcast(self, value: Any) -> Any:
        """The value of process 0."""
        content = np.frombuffer(pickle.dumps(value), np.uint8).copy()
        size = np.array([content.size])
        self._finish(self._communicator.Ibcast(size))
        if self.rank > 0:
            content = np.empty(size[0], np.uint8)
        self._finish(self._communicator.Ibcast([content, self._mpi.BYTE]))
        return pickle.loads(content.tobytes())  # noqa: S301 (of process 0)

    def swap(self, outgoing: Mapping[int, Any], incoming: Mapping[int, Any]) -> Callable[[], None]:
        """Begin to send and to receive, from process to process."""
        requests = [self._communicator.Irecv(array, rank) for rank, array in incoming.items()]
        requests += [self._communicator.Isend(array, rank) for rank, array in outgoing.items()]
        kept = (dict(outgoing), dict(incoming))

        def wait() -> None:
            self._finish(*requests)
            for arrays in kept:
                arrays.clear()  # until here the messages' memory must not be let go

        return wait

    def _finish(self, *requests: Any) -> None:
        """Wait for requests, but not for ever."""
        begun, most = time.monotonic(), self.timeout.total_seconds()
        while not self._mpi.Request.Testall(requests):
            waited = time.monotonic() - begun
            if waited > most:
                atexit.register(_abort, self._communicator)
                raise ConnectionError(
                    f"process {self.rank} of {self.size} got no answer from the others within "
                    f"{self.timeout}: one of them has ended, hangs, or is out of step. Look at "
                    "what that one wrote last; all are aborted when this process ends"
                )
            time.sleep(0 if waited < IMPATIENT else PAUSE)


def _abort(communicator: Any) -> None:
    """End all processes: MPI's own end would wait for the one that is lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    communicator.Abort(1)


def _host(values: Any) -> Any:
    if values.device.type != "cpu":
        raise TypeError(
            f"`values` must be on the CPU for MPI, got a tensor on {values.device}; use "
            "`stepfold.distributed.processes` under torchrun, which takes NCCL"
        )
    return values.numpy()  # the same memory
