"""Reads fields of records that came from JSON; one clear sentence for each way they can be bad.

JSON has no number that is not finite: NaN is written as null and read as NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray


def read_text(record: Any, key: str) -> str:
    """Return the string under ``key``."""
    value = read(record, key)
    if not isinstance(value, str):
        raise ValueError(f"`{key}` must be text, got {_shown(value)}")
    return value


def read_flag(record: Any, key: str) -> bool:
    """Return the truth value under ``key``; false if there is none."""
    value = read(record, key, False)
    if not isinstance(value, bool):
        raise ValueError(f"`{key}` must be true or false, got {_shown(value)}")
    return value


def read_number(record: Any, key: str, missing: float = math.nan) -> float:
    """Return the number under ``key``; ``missing`` for null."""
    value = read(record, key)
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`{key}` must be a number or null, got {_shown(value)}")
    return float(value)


def read_numbers(record: Any, key: str) -> list[float]:
    """Return the numbers under ``key``; NaN for null."""
    values = read_list(record, key)
    return [read_number({key: value}, key) for value in values]


def read_list(record: Any, key: str) -> list[Any]:
    """Return the list under ``key``."""
    value = read(record, key)
    if not isinstance(value, list):
        raise ValueError(f"`{key}` must be a list, got {_shown(value)}")
    return value


def read_texts(record: Any, key: str) -> tuple[str, ...]:
    """Return the strings under ``key``."""
    return tuple(read_text({key: value}, key) for value in read_list(record, key))


def read_object(record: Any, key: str) -> dict[str, Any]:
    """Return the object under ``key``."""
    value = read(record, key)
    if not isinstance(value, dict):
        raise ValueError(f"`{key}` must be an object, got {_shown(value)}")
    return value


def read(record: Any, key: str, default: Any = None) -> Any:
    """Return what is under ``key``; ``default``, unless that is None, where there is nothing."""
    if not isinstance(record, dict):
        raise ValueError(f"a record with `{key}` must be an object, got {_shown(record)}")
    if key not in record and default is None:
        raise ValueError(f"the record must have `{key}`; it has {', '.join(record) or 'nothing'}")
    return record.get(key, default)


def plain(value: float) -> float | None:
    """Return the number for JSON; None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def plain_list(values: Iterable[float] | NDArray[Any]) -> list[float | None]:
    """Return the numbers for JSON; None for those that are not finite."""
    return [plain(value) for value in values]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
