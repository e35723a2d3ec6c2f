"""Records go through JSON as they are, and what is no record is refused by its key."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stepfold._codec import JsonRecord, from_json, to_json


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Word(enum.StrEnum):
    YES = "yes"


@dataclass(frozen=True)
class Circle(JsonRecord):
    tag: ClassVar = ("shape", "circle")

    radius: float


@dataclass(frozen=True)
class Square(JsonRecord):
    tag: ClassVar = ("shape", "square")
    derived: ClassVar = ("area",)

    side: float

    @property
    def area(self) -> float:
        return self.side**2


@dataclass(frozen=True)
class Plain:
    text: str


@dataclass(frozen=True, eq=False)
class Everything(JsonRecord):
    text: str
    count: int
    flag: bool
    number: float
    colour: Colour
    word: Word
    array: NDArray[np.float64]
    counts: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    pair: tuple[int, str]
    rows: tuple[tuple[str, ...], ...]
    shape: Circle | Square | None
    shapes: Sequence[Circle | Square]
    lines: tuple[str | Plain, ...]
    bound: float | NDArray[np.float64] | None
    named: Mapping[str, NDArray[Any]]
    anything: Any
    upper: float = math.inf
    steps: float = field(default=0.0, metadata={"null": math.inf})
    extra: Mapping[str, float] = field(default_factory=dict)


EVERYTHING = Everything(
    text="ünï",
    count=3,
    flag=True,
    number=math.nan,
    colour=Colour.BLUE,
    word=Word.YES,
    array=np.array([[1.0, np.inf], [0.1, np.nan]]),
    counts=np.array([1, 2]),
    pixels=np.arange(6, dtype=np.uint8).reshape(2, 3),
    pair=(1, "a"),
    rows=(("a",), ()),
    shape=Square(2.0),
    shapes=(Circle(1.0), Square(3.0)),
    lines=("a", Plain("b")),
    bound=np.array([1.0, 2.0]),
    named={"x": np.array([0.5])},
    anything={"a": [1, None, np.float64(2.0)]},
    upper=math.inf,
    steps=math.inf,
    extra={"y": 2.0},
)


def _record(**changes: Any) -> Any:
    return json.loads(json.dumps(EVERYTHING.to_dict(), allow_nan=False)) | changes


def test_a_record_comes_back_from_json_as_it_was() -> None:
    back = Everything.from_dict(_record())
    assert back.to_dict() == EVERYTHING.to_dict()
    assert (back.colour, back.word, back.pair) == (Colour.BLUE, Word.YES, (1, "a"))
    assert (back.shape, back.shapes) == (EVERYTHING.shape, EVERYTHING.shapes)
    assert (back.lines, back.rows, back.extra) == (
        EVERYTHING.lines,
        EVERYTHING.rows,
        EVERYTHING.extra,
    )
    assert (math.isnan(back.number), back.upper, back.steps) == (True, math.inf, math.inf)
    np.testing.assert_array_equal(back.array, [[1.0, np.nan], [0.1, np.nan]])
    np.testing.assert_array_equal(back.pixels, EVERYTHING.pixels)
    assert (back.counts.dtype, back.pixels.dtype) == (np.int64, np.uint8)
    np.testing.assert_array_equal(back.bound, EVERYTHING.bound)
    np.testing.assert_array_equal(back.named["x"], [0.5])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_survive_json_to_the_last_bit(values: list[float]) -> None:
    text = json.dumps(to_json(np.array(values)))
    back = from_json(NDArray[np.float64], json.loads(text), "values")
    assert back.tobytes() == np.array(values, dtype=np.float64).tobytes()


def test_fields_with_a_default_may_be_left_out() -> None:
    record = _record()
    for name in ("upper", "steps", "extra"):
        del record[name]
    back = Everything.from_dict(record)
    assert (back.upper, back.steps, back.extra) == (math.inf, 0.0, {})


def test_what_is_derived_is_written_and_decided_anew() -> None:
    assert Square(2.0).to_dict() == {"shape": "square", "side": 2.0, "area": 4.0}
    assert Square.from_dict({"shape": "square", "side": 3.0, "area": 1.0}).area == 9.0
    assert Square.from_dict({"shape": "square", "side": 3.0}).area == 9.0


WRONG = {
    "text": (3, "`Everything.text` must be text, got 3"),
    "count": (1.5, "`Everything.count` must be an integer, got 1.5"),
    "flag": (1, "`Everything.flag` must be true or false, got 1"),
    "number": ("1", "`Everything.number` must be a number or null, got '1'"),
    "colour": ("GREEN", "`Everything.colour` must be one of RED, BLUE, got 'GREEN'"),
    "word": ([], "`Everything.word` must be text, got []"),
    "array": (["a"], "`Everything.array` must hold numbers or null, got 'a'"),
    "counts": ([1, None], "`Everything.counts` is no array of numbers"),
    "pixels": ({"shape": [2, 2], "base64": "AAAA"}, "must have as many bytes as its shape"),
    "pair": ([1], "`Everything.pair` must have 2 entries, got 1"),
    "rows": ([["a"], [1]], "`Everything.rows[1][0]` must be text, got 1"),
    "shape": ({"shape": "pie"}, "`Everything.shape.shape` must be circle or square, got 'pie'"),
    "shapes": ({}, "`Everything.shapes` must be a list, got {}"),
    "lines": ([3], "`Everything.lines[0]` must be text, got 3"),
    "bound": ("x", "`Everything.bound` must be a number or null, got 'x'"),
    "named": ({"x": [True]}, "`Everything.named.x` must hold numbers or null, got True"),
    "extra": ({"y": 10**400}, "`Everything.extra.y` must be below 1e309"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_another_kind_is_refused_with_its_place(name: str) -> None:
    value, message = WRONG[name]
    with pytest.raises(ValueError, match=r"`Everything\.") as caught:
        Everything.from_dict(_record(**{name: value}))
    assert message in str(caught.value)


@pytest.mark.parametrize("record", [None, 3, [], "text"])
def test_what_is_no_object_is_refused(record: Any) -> None:
    with pytest.raises(ValueError, match=r"`Circle` must be an object, got "):
        Circle.from_dict(record)


def test_missing_unknown_and_foreign_keys_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"`Circle` must have radius; it has shape"):
        Circle.from_dict({"shape": "circle"})
    with pytest.raises(ValueError, match=r"`Circle` has no side, only radius"):
        Circle.from_dict({"shape": "circle", "radius": 1.0, "side": 1.0})
    with pytest.raises(ValueError, match=r"`Circle` must have shape 'circle', got 'square'"):
        Circle.from_dict(Square(1.0).to_dict())
    with pytest.raises(ValueError, match=r"`Everything.shapes\[1\]` must have radius"):
        Everything.from_dict(
            _record(shapes=[{"shape": "circle", "radius": 1}, {"shape": "circle"}])
        )


def test_lists_within_lists_without_end_are_refused() -> None:
    nested: Any = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError, match=r"`Everything.array` is no array"):
        Everything.from_dict(_record(array=nested))
