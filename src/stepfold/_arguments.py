"""Checks of single arguments: counts, numbers, flags, words, paths, lists, records.

Each message names the argument, the rule, the value and the remedy.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind

LONGEST_LIST = 10_000_000
"""Most steps of a period: an array of 80 MB, made in about a second."""
_MOST_LAYERS = 100_000
_REPEATS = "take a shorter one: a schedule repeats, and a run may have any number of steps"


def check_count(
    name: str, value: Any, *, minimum: int = 1, maximum: int | None = None, remedy: str = ""
) -> int:
    """Return ``value`` as an ``int`` of at least ``minimum``; NumPy integers pass, 2.0 does not.

    Args:
        name: What messages call it.
        value: The count.
        minimum: Smallest one.
        maximum: Largest one, for what takes memory or time that grows with it; else none.
        remedy: What to do about a larger one.
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {_shown(value)}") from None
    if isinstance(value, bool) or count < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}, got {_shown(value)}")
    if maximum is not None and count > maximum:
        remedy = remedy and f"; {remedy}"
        raise ValueError(f"`{name}` must be at most {maximum:,}, got {_shown(value)}{remedy}")
    return count


def check_period(period: Any, *, maximum: int = LONGEST_LIST, name: str = "period") -> int:
    """Return T as an ``int``, at least 1 and not above what can be made in a short time."""
    return check_count(name, period, maximum=maximum, remedy=_REPEATS)


def check_depth(num_layers: Any, name: str = "num_layers") -> int:
    """Return the number of layers of a network as an ``int``: each is an object in memory."""
    remedy = "take fewer layers and repeat their steps"
    return check_count(name, num_layers, maximum=_MOST_LAYERS, remedy=remedy)


def _shown(value: Any) -> str:
    """What an argument is, in one short line: neither a long array nor 5000 digits."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"an integer of {value.bit_length()} bits"  # Python may refuse to print it
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:60]}… ({type(value).__name__})"


def check_size(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return a count of what is held in memory, one number for each at least."""
    remedy = "no memory holds more"
    return check_count(name, value, minimum=minimum, maximum=LONGEST_LIST, remedy=remedy)


def check_seed(name: str, value: Any) -> int:
    """Return what NumPy's generators take as a seed."""
    return check_count(name, value, minimum=0)


def check_real(name: str, value: Any) -> Any:
    """Return a real number, as it is; a tensor or an array must hold one entry."""
    kind = dtype_kind(getattr(value, "dtype", None))
    if isinstance(value, type) or not hasattr(value, "__float__") or kind not in "buif":
        raise TypeError(f"`{name}` must be a real number, got {type(value).__name__}")
    if math.prod(getattr(value, "shape", ())) != 1:
        raise ValueError(f"`{name}` must be one number, got shape {tuple(value.shape)}")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError(f"`{name}` must fit into a float, got {_shown(value)}")
    return value


def check_instance(name: str, value: Any, kind: type, remedy: str, *, or_none: bool = False) -> Any:
    """Return a record of ours, or None where that is allowed."""
    if not isinstance(value, kind) and not (or_none and value is None):
        raise TypeError(
            f"`{name}` must be {_article(kind.__name__)}{' or None' * or_none}, got "
            f"{type(value).__name__}; {remedy}"
        )
    return value


def check_flag(name: str, value: Any) -> bool:
    """Return True or False; nothing else is taken for one of them."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False, got {_shown(value)}")
    return bool(value)


def check_choice(name: str, value: Any, known: Iterable[Any]) -> Any:
    """Return one of a few values, compared with ``==`` and by type."""
    known = tuple(known)
    if not any(type(value) is type(each) and value == each for each in known):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(str, known))}, got {_shown(value)}"
        )
    return value


def check_path(name: str, value: Any) -> Path:
    """Return a path; names with a NUL are none."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"`{name}` must be a path, got {_shown(value)}")
    path = Path(value)
    try:
        is_name = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a pair of surrogates
        is_name = False
    if not is_name:
        raise ValueError(f"`{name}` must be a path that the system can hold, got {str(path)!a}")
    return path


def check_items(name: str, value: Any, what: str) -> list[Any]:
    """Return what a list or another iterable holds; a string is none."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"`{name}` must be a list of {what}, got {_shown(value)}")
    try:
        return list(value)
    except TypeError as error:  # an array without axes, a class
        raise TypeError(f"`{name}` must be a list of {what}, got {_shown(value)}") from error


def check_shape(name: str, value: Any) -> tuple[int, ...]:
    """Return lengths, each at least 1, as a tuple."""
    return tuple(check_count(name, length) for length in check_items(name, value, "lengths"))


def check_text(name: str, value: Any) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be a string, got {_shown(value)}")
    return value


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"


def check_nonnegative(name: str, value: Any, *, allow_infinite: bool = False) -> Any:
    """Return a number of at least 0, as it is; a tensor or an array must hold one entry."""
    check_real(name, value)
    if allow_infinite:
        if not value >= 0:
            raise ValueError(f"`{name}` must be at least 0, got {value!r}")
    elif not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be at least 0 and finite, got {value!r}")
    return value


def check_positive(name: str, value: Any, remedy: str = "") -> None:
    """Raise unless it is a positive, finite real number; True and "1" are none."""
    remedy = remedy and f"; {remedy}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a positive number, got {_shown(value)}{remedy}")
    check_real(name, value)
    if not 0 < float(value) < math.inf:
        raise ValueError(f"`{name}` must be positive and finite, got {value!r}{remedy}")


def check_share(name: str, value: float, remedy: str = "", *, or_zero: bool = False) -> None:
    """Raise unless a number lies between 0 and 1, both left out; or is 0, where that is allowed."""
    check_real(name, value)
    if not (0 < value < 1 or (or_zero and value == 0)):
        limits = "be at least 0 and below 1" if or_zero else "lie between 0 and 1"
        raise ValueError(f"`{name}` must {limits}, got {value!r}" + remedy)


def check_callable(name: str, value: Any) -> None:
    """Raise unless it can be called or is None."""
    if value is not None and not callable(value):
        raise TypeError(f"`{name}` must be a function or None, got {type(value).__name__}")
