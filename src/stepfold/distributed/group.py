"""Processes that work together: who they are, and the four things that they do with each other.

Whatever links processes (torch.distributed under torchrun, MPI, or nothing at all) is behind a
`Group`. A sum over all processes must be the same number, bit for bit, on each of them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from stepfold._extras import not_installed

LONGEST_WAIT = timedelta(minutes=10)


class Group(ABC):
    """Processes that run the same program, each on its own part of the data.

    Attributes:
        rank: Which of them this one is, from 0.
        size: How many there are.
    """

    rank: int
    size: int

    @abstractmethod
    def sum(self, values: Any) -> Any:
        """Sums over all processes, the same bits everywhere.

        Args:
            values: Contiguous real array of one axis; the sums may take its place.

        Raises:
            ConnectionError: If another process has ended, or does not answer in time.
        """

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks; any small objects."""

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """The value of process 0."""

    def swap(self, outgoing: Mapping[int, Any], incoming: Mapping[int, Any]) -> Callable[[], None]:
        """Begin to send arrays to some processes and to receive others; call what it returns.

        All processes call it, each with what the others expect. By default everything goes through
        `gather`; a group whose processes can send to each other directly does that instead.

        Args:
            outgoing: A contiguous array for each rank that one goes to.
            incoming: A contiguous array for each rank that one comes from; it is written to.

        Returns:
            What waits for all of them.

        Raises:
            ConnectionError: If another process has ended, or does not answer in time.
        """
        everything = self.gather(dict(outgoing))
        for rank, array in incoming.items():
            np.copyto(array, everything[rank][self.rank])
        return _nothing


def _nothing() -> None:
    """All has arrived."""


class Alone(Group):
    """One process.

    >>> group = Alone()
    >>> group.size, group.gather("a"), group.sum(np.ones(2))
    (1, ['a'], array([1., 1.]))
    """

    rank, size = 0, 1

    def sum(self, values: Any) -> Any:
        """The values themselves."""
        return values

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """The value itself."""
        return value


def current_group() -> Group:
    """The processes that torch.distributed has linked, if it has; else this one alone.

    torch is not imported for this: whoever has linked processes has imported it.

    >>> current_group().size
    1
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return Alone()
    from stepfold.distributed.torch_group import TorchGroup

    return TorchGroup()


@contextlib.contextmanager
def processes(timeout: timedelta = LONGEST_WAIT) -> Iterator[Group]:
    """Link the processes that torchrun started, for as long as the block runs.

    Without torchrun the group is this process alone, and torch is not imported.

    Args:
        timeout: How long a process waits for the others, at the beginning and at every exchange.
            Longer is an error, after which torchrun starts all of them again if it may.

    Yields:
        The group.

    Raises:
        ImportError: If torchrun started this process and torch is not installed.
        TimeoutError: If the others do not appear.

    >>> with processes() as group:
    ...     group.rank, group.size
    (0, 1)
    """
    if not ("RANK" in os.environ and "WORLD_SIZE" in os.environ):
        yield current_group()
        return
    try:
        from stepfold.distributed.torch_group import TorchGroup, process_group
    except ModuleNotFoundError as error:
        raise not_installed("processes of torchrun need torch", "unfolded", error) from None

    with process_group(timeout):
        yield TorchGroup()
