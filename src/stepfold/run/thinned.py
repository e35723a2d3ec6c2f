"""A list that is thinned as it grows: a run of any length must fit into memory."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Thinned(Generic[T]):
    """What was appended, or every 2nd, 4th, … of it; always the first entry and the last.

    Whenever more than `limit` entries would be kept, every second one is dropped, and from then on
    every second one that was to be kept is let go.

    Args:
        width: How many numbers an entry holds; of wide ones fewer are kept.

    >>> numbers = Thinned()
    >>> numbers.limit = 4
    >>> for number in range(10):
    ...     numbers.append(number)
    >>> numbers.entries(), numbers.num_seen
    ([0, 4, 8, 9], 10)
    """

    limit = 100_000
    # 80 MB of double precision; but a history of a handful of entries tells nothing.
    most_numbers, fewest = 10_000_000, 64

    def __init__(self, width: int = 1) -> None:
        self.limit = min(self.limit, max(self.most_numbers // width, self.fewest))
        self._kept: list[T] = []
        self._stride = 1
        self.num_seen = 0
        """How often something was appended."""

    def append(self, entry: T) -> None:
        """Take one entry more."""
        self.last = entry
        if self.num_seen % self._stride == 0 and len(self._kept) >= self.limit:
            del self._kept[1::2]
            self._stride *= 2
        if self.num_seen % self._stride == 0:
            self._kept.append(entry)
        self.num_seen += 1

    def entries(self) -> list[T]:
        """What was kept, in the order of appending."""
        if not self.num_seen or (self.num_seen - 1) % self._stride == 0:
            return list(self._kept)
        return [*self._kept, self.last]
