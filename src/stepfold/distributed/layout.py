"""Who owns which unknowns, and what a process needs of the others for a product with its rows.

A row of a sparse matrix touches few unknowns. Those that another process owns are the *halo*. It is
found from the columns of the rows, once; from then on a product takes one message from each
neighbour and one to it, and nothing that all processes wait for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_count
from stepfold.distributed.group import Group


@dataclass(frozen=True, eq=False)
class Layout:
    """Which process owns each of n unknowns.

    Args:
        owners: Rank of the owner of each unknown, shape (n,), the same on all processes.
        rank: Of this process.

    Raises:
        TypeError: If ``owners`` are not integers.
        ValueError: If there are no unknowns, a rank is negative, or this process owns none.

    >>> Layout(np.array([0, 1, 0, 1]), 1).own
    array([1, 3])
    """

    owners: NDArray[Any]
    rank: int

    def __post_init__(self) -> None:
        owners = np.asarray(self.owners)
        if owners.dtype.kind not in "iu":
            raise TypeError(f"`owners` must be ranks, integers, got dtype {owners.dtype}")
        if owners.ndim != 1 or not owners.size:
            raise ValueError(
                f"`owners` must have shape (n,), a rank for each unknown, got {owners.shape}"
            )
        if owners.min() < 0:
            raise ValueError(f"`owners` must be ranks, at least 0, got {owners.min()}")
        check_count("rank", self.rank, minimum=0)
        owners = owners.astype(np.int32)
        owners.flags.writeable = False
        object.__setattr__(self, "owners", owners)
        if not self.own.size:
            raise ValueError(
                f"`owners` must give every process an unknown, got none for process {self.rank}; "
                "start fewer processes, or partition into as many parts as there are processes"
            )

    @functools.cached_property
    def own(self) -> NDArray[np.intp]:
        """Numbers of this process's unknowns, ascending."""
        return np.flatnonzero(self.owners == self.rank)

    @property
    def size(self) -> int:
        """n."""
        return self.owners.size

    @classmethod
    def even(cls, size: int, group: Group) -> Layout:
        """Unknowns in their order, in parts that differ by one at most.

        Of a grid that is numbered row by row these are slabs.

        Raises:
            ValueError: If there are fewer unknowns than processes.
        """
        size = check_count("size", size)
        if size < group.size:
            raise ValueError(
                f"`size` must be at least the number of processes, {group.size}, got {size}"
            )
        parts = np.array_split(np.arange(size), group.size)
        owners = np.repeat(np.arange(group.size), [part.size for part in parts])
        return cls(owners, group.rank)

    @classmethod
    def by_metis(cls, matrix: Any, group: Group) -> Layout:
        """Parts of about one size with few neighbours, by METIS on process 0.

        Args:
            matrix: Sparse symmetric matrix of shape (n, n), or a graph's adjacency matrix, on
                process 0; the others may give None.
            group: The processes.

        Raises:
            ImportError: On all processes, if pymetis is not installed on process 0.
            ValueError: On all, if METIS leaves a process without unknowns.
        """
        found: Any = None
        if group.rank == 0:
            try:
                found = _partition(matrix, group.size)
            except Exception as error:  # noqa: BLE001 (raised below, everywhere)
                found = error
        found = group.broadcast(found)
        if isinstance(found, Exception):
            raise found
        counts = np.bincount(found, minlength=group.size)
        if not counts.all():
            raise ValueError(
                f"`matrix` must have enough rows for {group.size} processes, got shape "
                f"({found.size}, {found.size}), of which METIS left {np.sum(counts == 0)} "
                "processes without any; start fewer processes"
            )
        return cls(found, group.rank)


def _partition(matrix: Any, num_parts: int) -> NDArray[np.int32]:
    if not hasattr(matrix, "tocsr") or matrix.shape[0] != matrix.shape[1]:
        raise TypeError(
            "`matrix` must be a square sparse matrix of SciPy on process 0, got "
            f"{type(matrix).__name__}"
        )
    if num_parts == 1:
        return np.zeros(matrix.shape[0], np.int32)
    try:
        import pymetis
    except ImportError:
        raise ImportError(
            "`Layout.by_metis` needs pymetis, which is not installed; `pip install pymetis`, or "
            "give the owners yourself, as `Layout(owners, group.rank)`"
        ) from None
    graph = matrix.tocoo()
    beside = graph.row != graph.col  # METIS takes no edge from a vertex to itself
    import scipy.sparse

    edges = (np.ones(np.count_nonzero(beside), np.int8), (graph.row[beside], graph.col[beside]))
    pattern = scipy.sparse.csr_array(edges, shape=graph.shape)
    pattern = (pattern + pattern.T).tocsr()
    graph = pymetis.CSRAdjacency(pattern.indptr.tolist(), pattern.indices.tolist())
    _, owners = pymetis.part_graph(num_parts, graph)
    return np.asarray(owners, dtype=np.int32)


class Halo:
    """The entries of others that this process's rows touch, and those of its own that they touch.

    Args:
        layout: Who owns what.
        columns: Numbers of the unknowns that the rows touch.
        group: The processes; one exchange of lists is made here.

    Attributes:
        numbers: Numbers of the unknowns in the halo, by owner and ascending.
        num_messages: Messages that this process sends for a product.
        num_sent: Entries in them.
        is_needed: Whether any process has a halo.
    """

    def __init__(self, layout: Layout, columns: NDArray[Any], group: Group) -> None:
        self._group = group
        touched = np.unique(columns)
        foreign = touched[layout.owners[touched] != layout.rank]
        owners = layout.owners[foreign]
        order = np.argsort(owners, kind="stable")
        self.numbers, owners = foreign[order], owners[order]
        self._from = {
            int(rank): slice(
                int(np.searchsorted(owners, rank)), int(np.searchsorted(owners, rank, "right"))
            )
            for rank in np.unique(owners)
        }
        wanted = group.gather({rank: self.numbers[part] for rank, part in self._from.items()})
        self.is_needed = any(wanted)
        self._to = {
            rank: np.searchsorted(layout.own, one[layout.rank])
            for rank, one in enumerate(wanted)
            if layout.rank in one
        }
        self.num_messages = len(self._to)
        self.num_sent = sum(places.size for places in self._to.values())

    def begin(self, own: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        """Send what the others need; the function returned waits for what this process needs.

        Args:
            own: This process's entries, shape (mᵢ,), or (batch, mᵢ).

        Returns:
            A function that returns the entries of `numbers`, shape (h,), or (batch, h).
        """
        lead = own.shape[:-1]
        # Contiguous messages: the batch is behind the unknowns.
        halo = np.empty((self.numbers.size, *lead), own.dtype)
        outgoing = {rank: np.ascontiguousarray(own.T[places]) for rank, places in self._to.items()}
        incoming = {rank: halo[part] for rank, part in self._from.items()}
        wait = self._group.swap(outgoing, incoming)

        def finish() -> NDArray[Any]:
            wait()
            return halo.T

        return finish

    def rows(self, matrix: Any) -> Any:
        """The rows of the unknowns in the halo, of those that their owners hold.

        Args:
            matrix: This process's rows, CSR of shape (mᵢ, n).

        Returns:
            Sparse array of shape (h, n), in the order of `numbers`.
        """
        import scipy.sparse

        lengths = self.begin(np.diff(matrix.indptr).astype(np.int64))()
        starts = np.concatenate([[0], np.cumsum(lengths)])
        parts = {rank: matrix[places] for rank, places in self._to.items()}
        received = []
        for name, dtype in (("indices", np.dtype(np.int64)), ("data", matrix.dtype)):
            found = np.empty(starts[-1], dtype)
            outgoing = {
                rank: np.ascontiguousarray(getattr(part, name), dtype)
                for rank, part in parts.items()
                if part.nnz
            }
            incoming = {
                rank: found[starts[part.start] : starts[part.stop]]
                for rank, part in self._from.items()
            }
            self._group.swap(outgoing, {rank: a for rank, a in incoming.items() if a.size})()
            received.append(found)
        indices, data = received
        shape = (self.numbers.size, matrix.shape[1])
        return scipy.sparse.csr_array((data, indices, starts), shape=shape)
