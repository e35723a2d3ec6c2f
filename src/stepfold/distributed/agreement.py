"""What processes must have in common: shards that fit each other, and the same arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from stepfold._arrays import to_host
from stepfold.distributed.exchange import Exchange
from stepfold.distributed.group import Group
from stepfold.problems._units import Sizes


def agree(exchange: Exchange, settings: dict[str, Any]) -> None:
    """Raise unless all processes have the same settings; the clock starts anew.

    Raises:
        ValueError: If they do not, with the argument and the ranks.
    """
    mine = {name: _mark(value) for name, value in settings.items()}
    everybody = exchange.group.gather(mine)
    for name in mine:
        marks = [one[name] for one in everybody]
        others = [rank for rank, mark in enumerate(marks) if mark[1] != marks[0][1]]
        if others:
            raise ValueError(
                f"`{name}` must be the same on all processes, got {marks[0][0]} on process 0 and "
                f"{marks[others[0]][0]} on process {others[0]}"
            )
    exchange.agree_on_time()


def _mark(value: Any) -> tuple[str, str]:
    """Words for a setting, and a mark that differs if it does."""
    if hasattr(value, "steps") and hasattr(value, "period"):
        digest = hashlib.sha256(np.ascontiguousarray(value.steps).tobytes()).hexdigest()
        return f"{value.name} steps of period {value.period}", f"{digest} {value.bounds!r}"
    if hasattr(value, "shape"):
        numbers = np.ascontiguousarray(to_host(value))
        digest = hashlib.sha256(numbers.tobytes()).hexdigest()
        return f"an array of shape {tuple(value.shape)} and {value.dtype}", digest
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value), repr(value)
    if callable(value):
        return "a function", "a function"  # one that watches may be another everywhere
    name = type(value).__name__
    held = {f.name: getattr(value, f.name) for f in fields(value)} if is_dataclass(value) else None
    if held is None and hasattr(value, "__dict__"):
        held = vars(value)
    if held is None:
        return name, repr(value)
    # Not its own representation, which may have its place in memory.
    return name, repr([(key, _mark(part)[1]) for key, part in sorted(held.items())])


Part = TypeVar("Part")


def made_alike(
    group: Group, make: Callable[[], tuple[Part, dict[str, Any], Any]]
) -> tuple[Part, list[Any]]:
    """Make this process's part of a problem; if one cannot, or they do not fit, all raise.

    Args:
        group: The processes.
        make: Returns the part, what must be equal on all processes (under sentences that say so),
            and what the others are told besides.

    Returns:
        The part, and what all processes tell.

    Raises:
        TypeError: If dtypes or libraries differ, or ``make`` raises it on one of them.
        ValueError: If something else differs, or ``make`` raises something else.
    """
    part, failure = None, None
    try:
        part, facts, told = make()
        mine: dict[str, Any] = {"facts": facts, "told": told}
    except Exception as error:  # noqa: BLE001 (raised below, everywhere)
        failure = error
        is_plain = isinstance(error, (TypeError, ValueError))
        said = str(error) if is_plain else f"{type(error).__name__}: {error}"
        mine = {"error": said, "is type": isinstance(error, TypeError)}
    everybody = group.gather(mine)
    for rank, one in enumerate(everybody):
        if "error" in one:
            kind = TypeError if one["is type"] else ValueError
            raise kind(f"process {rank} of {group.size}: {one['error']}") from failure
    first = everybody[0]["facts"]
    for rule, value in first.items():
        for rank, one in enumerate(everybody):
            if one["facts"][rule] != value:
                kind = TypeError if "dtype" in rule or "library" in rule else ValueError
                raise kind(
                    f"{rule}, got {value} on process 0 and {one['facts'][rule]} on process {rank}"
                )
    assert part is not None  # noqa: S101
    return part, [one["told"] for one in everybody]


def largest_sizes(everybody: Sequence[Sizes]) -> Sizes:
    """The sizes of the whole from those of its parts."""
    peaks = np.max([sizes.rhs for sizes in everybody], axis=0)
    return replace(everybody[0], matrix=max(sizes.matrix for sizes in everybody), rhs=peaks)
