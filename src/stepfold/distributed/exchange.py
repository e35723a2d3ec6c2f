"""One all-reduce for a vector, the numbers that go with it, and what processes must agree on.

Behind the vector's entries travel a few numbers: the seconds that have passed, whether a process
has failed, and a word made of the bits of x and of what is summed. So budgets of time end
everywhere at once, an error of one process is raised in all of them, and processes whose iterates
differ in a single bit are found out at the next sum and not after an hour of waiting for each
other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind, is_torch, reshaped
from stepfold.distributed.group import Group

# Sums of words of up to 4096 processes are exact: below 2²⁴ in single precision.
WORD = 4093
TRAILER = 3


class PeerError(ConnectionError):
    """Another process has failed, or is out of step; the message says which and how."""


class Exchange:
    """Sums over a group.

    Args:
        group: The processes.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.num_sums = 0
        """Collectives so far."""
        self._begun = time.perf_counter()
        self._seconds = 0.0
        self._unread: Any = None
        # On a device the others know of it only when they read: until then all sums go on.
        self._failure: Exception | None = None

    def clock(self) -> float:
        """Seconds since the beginning as of the last sum: their mean, the same everywhere."""
        if self._unread is not None:
            trailer, self._unread = self._unread, None
            self._read(*trailer)
        return self._seconds

    def agree_on_time(self) -> None:
        """Let the clock say what time it is now."""
        seconds = self.group.gather(time.perf_counter() - self._begun)
        self._unread, self._seconds = None, math.fsum(seconds) / self.group.size

    def sum(self, what: int, x: Any, like: Any, part: Callable[[], Any]) -> tuple[Any, Any]:
        """The sums over all processes of a vector and of the numbers beside it.

        Args:
            what: A number for what is summed; it must be the same everywhere.
            x: What the parts are functions of, the same everywhere; None of none.
            like: An array of the shape, library, dtype and device of a part.
            part: Returns this process's vector, and an array of numbers.

        Returns:
            Both sums.

        Raises:
            PeerError: If another process has failed, or processes differ in ``what`` or in a bit of
                x.
        """
        failure = self._failure
        if failure is None:
            try:
                vector, numbers = part()
            except Exception as error:  # noqa: BLE001 (raised again once the others know)
                self._failure = failure = error
        if failure is not None:
            vector, numbers = 0 * like, None
        buffer = self._packed(vector, numbers, like)
        word = (31 * what + (0 if x is None else _word(x))) % WORD
        buffer[-3] = time.perf_counter() - self._begun
        buffer[-2] = 0.0 if failure is None else 1.0
        buffer[-1] = word
        buffer = self.group.sum(buffer)
        self.num_sums += 1
        self._unread = (buffer[-3:], word, failure)
        if not _is_on_device(buffer):
            self.clock()  # on a device that would be a read, for which all steps so far must end
        return _unpacked(buffer, vector, like)

    def _packed(self, vector: Any, numbers: Any, like: Any) -> Any:
        flat = reshaped(_real(vector), (-1,))
        count = 1 if like.ndim == 1 else like.shape[0]
        size = flat.shape[0]
        half = flat.dtype.itemsize < 4
        if is_torch(flat):
            import torch

            buffer: Any = torch.empty(
                size + count + TRAILER,
                dtype=torch.float32 if half else flat.dtype,
                device=flat.device,
            )
        else:
            buffer = np.empty(size + count + TRAILER, np.float32 if half else flat.dtype)
        buffer[:size] = flat
        buffer[size : size + count] = 0 if numbers is None else reshaped(numbers, (-1,))
        return buffer

    def _read(self, trailer: Any, word: int, failure: Exception | None) -> None:
        seconds, failures, words = trailer.tolist()
        self._seconds = seconds / self.group.size
        if failures:
            self._raise(failure)
        if words != word * self.group.size:
            raise PeerError(
                f"process {self.group.rank} of {self.group.size} is out of step with the others: "
                "their iterates differ, or they are not making the same product. All processes "
                "must call `solve` with the same arguments, on processors and with numbers of "
                "threads that round alike (see OPENBLAS_CORETYPE and OMP_NUM_THREADS)"
            )

    def _raise(self, failure: Exception | None) -> None:
        """Tell each other what has failed, and raise it everywhere."""
        self._failure = None
        said = None if failure is None else f"{type(failure).__name__}: {failure}"
        told = self.group.gather(said)
        if failure is not None:
            raise failure
        rank, words = next((rank, words) for rank, words in enumerate(told) if words)
        raise PeerError(f"process {rank} of {self.group.size} has failed: {words}")


def _real(array: Any) -> Any:
    """A contiguous array with real and imaginary parts as numbers of their own."""
    is_complex = dtype_kind(array.dtype) == "c"
    if is_torch(array):
        import torch

        array = array.detach().contiguous()
        return torch.view_as_real(array) if is_complex else array
    array = np.ascontiguousarray(array)
    return array.view(array.real.dtype) if is_complex else array


def _unpacked(buffer: Any, vector: Any, like: Any) -> tuple[Any, Any]:
    is_complex = dtype_kind(vector.dtype) == "c"
    count = 1 if like.ndim == 1 else like.shape[0]
    size = buffer.shape[0] - count - TRAILER
    flat, numbers = buffer[:size], buffer[size : size + count]
    if is_torch(buffer):
        import torch

        if is_complex:
            flat = torch.view_as_complex(flat.reshape(-1, 2))
        flat = flat.to(vector.dtype)
    else:
        flat = flat.view(vector.dtype) if is_complex else flat.astype(vector.dtype, copy=False)
    return reshaped(flat, tuple(vector.shape)), numbers[0] if like.ndim == 1 else numbers


def _is_on_device(x: Any) -> bool:
    """Whether a look at a number waits for all work so far."""
    return is_torch(x) and x.device.type != "cpu"


def _word(x: Any) -> int:
    """A number made of all bits of an array."""
    if is_torch(x):
        import torch

        if _is_on_device(x):
            return 0  # a read
        bits = torch.int16 if x.dtype.itemsize == 2 else torch.int32
        return int(_real(x).reshape(-1).view(bits).sum(dtype=torch.int64)) % WORD
    numbers = _real(x)
    kinds: dict[int, Any] = {2: np.uint16, 4: np.uint32}
    return (
        int(numbers.view(kinds.get(numbers.dtype.itemsize, np.uint64)).sum(dtype=np.uint64)) % WORD
    )
