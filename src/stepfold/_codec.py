"""Frozen dataclasses as JSON values, and back, by their annotations.

A record derives from `JsonRecord` and so has `to_dict` and `from_dict`::

    @dataclass(frozen=True)
    class Check(JsonRecord):
        claim: str
        measured: float
        lower: float = -math.inf

Fields may be text, numbers, truth values, enumerations, arrays, other dataclasses, tuples and
mappings of these, and unions that JSON can tell apart. A class says by ``tag`` which key and text
mark its records (its format, or its kind in a union), and by ``derived`` which properties are
written for readers and decided anew when a record is read.

JSON has no number that is not finite: it is written as null. Null is read as NaN, or as the field's
default where that is not finite, or as ``metadata={"null": math.inf}`` of the field says. Keys of
fields without a default must be there, and no unknown ones may be. Arrays of bytes are written in
base 64, enumerations by name (those of text by value).
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import dataclasses
import enum
import functools
import math
import types
import typing
from typing import Any, ClassVar, Self, TypeVar

import numpy as np


class JsonRecord:
    """Base of frozen dataclasses that are written to JSON and read back."""

    __slots__ = ()

    tag: ClassVar[tuple[str, str] | None] = None
    """Key and text that mark a record of this class."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Properties that are written too, and ignored when a record is read."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # NumPy hands back writeable arrays from copies and pickles.
        vars(self).update(state)
        getattr(self, "__post_init__", lambda: None)()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON; floats survive to the last bit.

        What is not finite becomes None.
        """
        record: dict[str, Any] = to_json(self)
        return record

    @classmethod
    def from_dict(cls, record: Any) -> Self:
        """Make a record from what `to_dict` returned.

        Raises:
            ValueError: If ``record`` is not such a record; the message names the key.
        """
        made: Self = from_json(cls, record, cls.__name__)
        return made


def to_json(value: Any) -> Any:
    """Return a value as plain Python values, ready for JSON.

    >>> to_json((np.array([1.0, np.inf]), {"a": math.nan}))
    [[1.0, None], {'a': None}]
    """
    if dataclasses.is_dataclass(value):
        tag = getattr(value, "tag", None)
        names = [field.name for field in dataclasses.fields(value)]
        names += getattr(value, "derived", ())
        return dict([tag] if tag else []) | {name: to_json(getattr(value, name)) for name in names}
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value, str) else value.name
    if isinstance(value, np.ndarray):
        return _from_array(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, collections.abc.Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in value]
    # NumPy's scalars, and arrays of other libraries.
    return to_json(value.tolist()) if hasattr(value, "tolist") else value


def from_json(kind: Any, value: Any, where: str) -> Any:
    """Return what ``kind``, an annotation, makes of a JSON value.

    Args:
        kind: A dataclass, or what a field of one may be annotated with.
        value: What `to_json` returned.
        where: What the value is, for messages.

    Raises:
        ValueError: If it is another kind of value.

    >>> from_json(tuple[float, ...], [1, None], "numbers")
    (1.0, nan)
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return value
    if origin in (typing.Union, types.UnionType):
        return _from_union(arguments, value, where)
    if origin is np.ndarray:
        return _to_array(typing.get_args(arguments[1])[0], value, where)
    if origin in (tuple, list, collections.abc.Sequence):
        return _from_list(origin, arguments, _checked(list, value, where), where)
    if origin in (dict, collections.abc.Mapping):
        return {
            key: from_json(arguments[1], each, f"{where}.{key}")
            for key, each in _checked(dict, value, where).items()
        }
    if dataclasses.is_dataclass(kind):
        return _from_object(kind, _checked(dict, value, where), where)
    if issubclass(kind, enum.Enum):
        members = {to_json(member): member for member in kind}
        if _checked(str, value, where) not in members:
            raise ValueError(f"`{where}` must be one of {', '.join(members)}, got {_shown(value)}")
        return members[value]
    if kind is float:
        number = math.nan if value is None else _checked(float, value, where)
        return _finite(number, value, where)
    return _checked(kind, value, where)


_WORDS = {
    str: "text",
    bool: "true or false",
    int: "an integer",
    float: "a number or null",
    list: "a list",
    dict: "an object",
}


def _checked(kind: Any, value: Any, where: str) -> Any:
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"`{where}` must be {_WORDS[kind]}, got {_shown(value)}")
    return value


def _finite(number: float, value: Any, where: str) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError(f"`{where}` must be below 1e309, got {_shown(value)}") from None


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _from_object(kind: Any, record: dict[str, Any], where: str) -> Any:
    tag = getattr(kind, "tag", None)
    if tag and record.get(tag[0]) != tag[1]:
        raise ValueError(
            f"`{where}` must have {tag[0]} {tag[1]!r}, got {_shown(record.get(tag[0]))}; "
            f"make it with `{kind.__name__}.to_dict`"
        )
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    missing = [n for n, field in fields.items() if n not in record and _default(field) is _NOTHING]
    if missing:
        raise ValueError(
            f"`{where}` must have {', '.join(missing)}; it has {', '.join(record) or 'nothing'}"
        )
    known = {*fields, *getattr(kind, "derived", ()), *(tag or ())[:1]}
    unknown = [str(name) for name in record if name not in known]
    if unknown:
        raise ValueError(
            f"`{where}` has no {', '.join(unknown)}, only {', '.join(fields)}; it is of another "
            "version, or of another kind"
        )
    hints = _hints(kind)
    values = {
        name: _from_field(field, hints[name], record[name], f"{where}.{name}")
        for name, field in fields.items()
        if name in record
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"`{where}` is no {kind.__name__}: {error}") from None


_NOTHING = object()


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return None
    return _NOTHING if field.default is dataclasses.MISSING else field.default


def _from_field(field: dataclasses.Field[Any], kind: Any, value: Any, where: str) -> Any:
    null = field.metadata.get("null", _default(field))
    if value is None and isinstance(null, float) and not math.isfinite(null):
        return null
    return from_json(kind, value, where)


def _from_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not types.NoneType)
    fitting = [kind for kind in kinds if _json_type(kind) is type(value)]
    if isinstance(value, int) and not isinstance(value, bool) and not fitting:
        fitting = [kind for kind in kinds if kind is float]
    if len(fitting) > 1:
        tags = {kind.tag[1]: kind for kind in fitting}
        key = fitting[0].tag[0]
        found = value.get(key)
        if found not in tags:
            raise ValueError(f"`{where}.{key}` must be {' or '.join(tags)}, got {_shown(found)}")
        fitting = [tags[found]]
    # Where nothing fits, the first says what is wrong.
    return from_json((fitting or kinds)[0], value, where)


def _json_type(kind: Any) -> Any:
    """What `json.loads` returns for such a value."""
    origin = typing.get_origin(kind) or kind
    if origin in (np.ndarray, tuple, list, collections.abc.Sequence):
        return list
    if origin in (dict, collections.abc.Mapping) or dataclasses.is_dataclass(origin):
        return dict
    return str if issubclass(origin, enum.Enum) else origin


def _from_list(origin: Any, kinds: tuple[Any, ...], values: list[Any], where: str) -> Any:
    if origin is not tuple or kinds[1:] == (...,):
        kinds = kinds[:1] * len(values)
    if len(values) != len(kinds):
        raise ValueError(f"`{where}` must have {len(kinds)} entries, got {len(values)}")
    entries = zip(kinds, values, strict=True)
    return tuple(from_json(kind, v, f"{where}[{k}]") for k, (kind, v) in enumerate(entries))


def _from_array(array: Any) -> Any:
    if array.dtype == np.uint8:
        text = base64.b64encode(array.tobytes()).decode("ascii")
        return {"shape": list(array.shape), "base64": text}
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        holes = array.astype(object)
        holes[~np.isfinite(array)] = None
        return holes.tolist()
    return array.tolist()


def _to_array(entry: Any, value: Any, where: str) -> Any:
    if entry is np.uint8:
        return _to_bytes(_checked(dict, value, where), where)
    for leaf in _leaves(_checked(list, value, where)):
        if isinstance(leaf, bool) or not isinstance(leaf, (int, float, types.NoneType)):
            raise ValueError(f"`{where}` must hold numbers or null, got {_shown(leaf)}")
    try:
        # None becomes NaN, which no integer is.
        return np.array(value, dtype=np.float64 if entry is Any else entry)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"`{where}` is no array of numbers: {error}") from None


def _to_bytes(record: dict[str, Any], where: str) -> Any:
    if {"shape", "base64"} - record.keys():
        raise ValueError(f"`{where}` must have shape and base64; it has {', '.join(record)}")
    shape = from_json(tuple[int, ...], record["shape"], f"{where}.shape")
    try:
        data = base64.b64decode(_checked(str, record["base64"], where), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"`{where}` must be in base 64: {error}") from None
    if min(shape, default=1) < 0 or math.prod(shape) != len(data):
        raise ValueError(f"`{where}` must have as many bytes as its shape {shape}, got {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _leaves(values: list[Any]) -> collections.abc.Iterator[Any]:
    lists = [values]
    while lists:
        for value in lists.pop():
            if isinstance(value, list):
                lists.append(value)
            else:
                yield value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
