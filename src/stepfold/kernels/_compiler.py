"""The compiler: numba, if there is a usable one, and what is said once if there is none."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
import warnings
from typing import Any

REASONS: list[str] = []
"""Why there is no compiler, once that is known; kernels are not tried again."""
# Sums may be taken in any order, so that they fill vector registers. NaN and infinity keep their
# meaning: an iterate that diverges must be seen to.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

# Bytes of matrices that NumPy and SciPy read in about twice the time that loading numba takes: what
# kernels save of that is what loading costs. Of a process whose first run reads less, none is made.
READ_BEFORE_LOADING = 2**32

_lock = threading.RLock()
_num_runs = 0
_num_read = 0


class KernelWarning(UserWarning):
    """Compiled kernels cannot be used; results are the same, only later."""


def give_up(reason: str) -> None:
    """Do without kernels from now on, and say so once."""
    with _lock:
        first = not REASONS
        REASONS.append(reason)
    if first:
        warnings.warn(
            f"stepfold's compiled kernels cannot be used ({reason}); NumPy and SciPy take their "
            "place, up to three times slower on large problems. Repair numba (`pip install "
            "numba`), or silence this with "
            "`warnings.simplefilter('ignore', stepfold.kernels.KernelWarning)`",
            KernelWarning,
            stacklevel=2,
        )


def usable() -> bool:
    """Whether nothing has gone wrong so far; nothing is imported to find out."""
    return not REASONS


def load() -> None:
    """Load the compiler now, so that kernels serve from the first step of the first run.

    Otherwise a process loads it for its second run, or in the first one once kernels would have
    saved the half second that loading takes.
    """
    with _lock:
        try:
            importlib.import_module("numba")
        except ImportError as error:
            give_up(f"numba cannot be imported: {error}")


def is_loaded() -> bool:
    """Whether the compiler is loaded, so that kernels serve from the next step on."""
    return "numba" in sys.modules


def note_run() -> None:
    """Count a run: whoever solves a second large problem is likely to solve many."""
    global _num_runs
    _num_runs += 1


def worth_loading(num_bytes: int, *, in_second_run: bool = True) -> bool:
    """Whether numba is loaded, or has now become worth loading.

    Bytes are counted, and not time, so that a program computes the same whenever it runs.

    Args:
        num_bytes: What NumPy and SciPy are about to read if not.
        in_second_run: Whether the matrix is so large that a second run is reason enough.
    """
    global _num_read
    if is_loaded() or _num_read >= READ_BEFORE_LOADING:
        return True
    if in_second_run and _num_runs > 1:
        return True
    _num_read += num_bytes
    return False


Argument = str | tuple[str, int] | tuple[str, int, str]


@functools.cache
def _compile(module: str, name: str, arguments: tuple[Argument, ...]) -> Any:
    import numba
    from numba.core import config

    if getattr(config, "DISABLE_JIT", False):
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    function = getattr(importlib.import_module(module), name)
    signature = tuple(_numba_type(numba.types, argument) for argument in arguments)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST_MATH}
    try:
        return numba.njit(signature, cache=True, **options)(function)
    except (OSError, RuntimeError):
        # No folder that can be written, or a full disk: compile anew in every process.
        return numba.njit(signature, **options)(function)


def _numba_type(types: Any, argument: Argument) -> Any:
    if isinstance(argument, str):
        return getattr(types, argument)
    # What may be read only is declared so; arrays that can be written are accepted there as well.
    return types.Array(getattr(types, argument[0]), argument[1], "C", readonly=len(argument) == 3)


def compiled(module: str, name: str, *arguments: Argument) -> Any | None:
    """Compiled function ``name`` of ``module``, or None if there is no usable compiler.

    The first call ever compiles and writes to the cache; the first one in a process loads numba and
    the machine code. Both times are in ``docs/theory/one-pass.md``.

    Args:
        module: Where the loop is; imported here, not before.
        name: The loop.
        arguments: A dtype's name for a scalar; dtype and number of dimensions for an array that is
            written to; with "r" as a third entry, one that is only read. Arrays are in C order.
    """
    if not usable():
        return None
    with _lock:
        try:
            return _compile(f"stepfold.kernels.{module}", name, arguments)
        except ImportError as error:
            give_up(f"numba cannot be imported: {error}")
        except Exception as error:  # noqa: BLE001 (whatever a compiler may raise)
            give_up(f"numba cannot compile `{name}`: {type(error).__name__}: {error}")
    return None


if hasattr(os, "register_at_fork"):
    # A child would wait for ever for what another thread was loading: the fork waits instead.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
