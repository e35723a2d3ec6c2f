"""What processes must have in common: shards that fit each other, and the same arguments."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from stepfold._arrays import to_host
from stepfold.distributed.exchange import Exchange


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
        return f"{value.name} steps of period {value.period}", digest
    if hasattr(value, "shape"):
        numbers = np.ascontiguousarray(to_host(value))
        digest = hashlib.sha256(numbers.tobytes()).hexdigest()
        return f"an array of shape {tuple(value.shape)} and {value.dtype}", digest
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value), repr(value)
    if callable(value):
        return "a function", "a function"  # one that watches may be another everywhere
    return type(value).__name__, repr(value)


def check_alike(everybody: list[dict[str, Any]], failure: Exception | None) -> None:
    """Raise, on all processes alike, if one has failed or differs from process 0."""
    for rank, one in enumerate(everybody):
        if "error" in one:
            kind = TypeError if one["is type"] else ValueError
            raise kind(f"process {rank} of {len(everybody)}: {one['error']}") from failure
    names = {
        "columns": "`operator` must have as many columns on all processes",
        "dtype": "`operator` and `rhs` must be of one dtype on all processes",
        "library": "`rhs` must be of one library on all processes",
        "right-hand sides": "`rhs` must have as many right-hand sides on all processes",
        "ridge": "`ridge` must be the same on all processes",
        "storage": "`operator` must be kept in one way on all processes",
    }
    first = everybody[0]
    for name, rule in names.items():
        for rank, one in enumerate(everybody):
            if one[name] != first[name]:
                kind = TypeError if name in ("dtype", "library") else ValueError
                raise kind(f"{rule}, got {first[name]} on process 0 and {one[name]} on {rank}")
