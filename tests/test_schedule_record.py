"""The record: frozen, a sequence, a function of the count, and bit for bit the same after JSON."""

import copy
import dataclasses
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepfold import Schedule
from stepfold.schedules import ORDERS
from stepfold.schedules.base import FORMAT

STEPS = [0.5, 1.0, 0.25]
positive = st.floats(min_value=5e-324, max_value=1.7e308)


def test_the_steps_are_a_read_only_copy() -> None:
    given_steps = np.array(STEPS)
    schedule = Schedule(given_steps)
    given_steps[:] = 7.0
    assert schedule.steps.tolist() == STEPS
    with pytest.raises(ValueError, match="read-only"):
        schedule.steps[0] = 7.0


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_and_pickles_are_equal_and_read_only(
    duplicate: Callable[[Schedule], Schedule],
) -> None:
    schedule = Schedule(STEPS, "mine", "given")
    twin = duplicate(schedule)
    assert twin == schedule
    with pytest.raises(ValueError, match="read-only"):
        twin.steps[0] = 7.0


def test_the_record_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Schedule(STEPS).steps = np.ones(3)  # type: ignore[misc]


@pytest.mark.parametrize("steps", [(1, 2), range(1, 3), np.array([1, 2], np.float32)])
def test_steps_of_any_real_kind_become_float64(steps: Any) -> None:
    assert Schedule(steps).steps.dtype == np.float64
    assert Schedule(steps).steps.tolist() == [1.0, 2.0]


def test_a_schedule_is_a_sequence_of_python_floats() -> None:
    schedule = Schedule(STEPS)
    assert isinstance(schedule, Sequence)
    assert list(schedule) == STEPS
    assert {type(gamma) for gamma in schedule} == {float}
    assert type(schedule[1]) is float
    assert (schedule[0], schedule[-1], schedule[np.int64(1)]) == (0.5, 0.25, 1.0)
    assert schedule[1:] == [1.0, 0.25]
    assert list(reversed(schedule)) == STEPS[::-1]
    assert (len(schedule), schedule.period) == (3, 3)
    assert (schedule.index(1.0), schedule.count(0.5), 0.25 in schedule) == (1, 1, True)


def test_an_index_past_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        Schedule(STEPS)[3]


@given(st.integers(0, 10**18))
def test_a_schedule_is_a_periodic_function_of_the_count(count: int) -> None:
    assert Schedule(STEPS)(count) == STEPS[count % 3]


def test_numpy_reads_a_schedule_without_a_copy_or_into_a_new_dtype() -> None:
    schedule = Schedule(STEPS)
    assert np.shares_memory(np.asarray(schedule), schedule.steps)
    assert np.array(schedule).flags.writeable
    assert not np.shares_memory(np.array(schedule), schedule.steps)
    assert np.asarray(schedule, np.float32).dtype == np.float32


def test_schedules_compare_and_hash_by_value() -> None:
    same = Schedule(np.array(STEPS))
    others = [Schedule(STEPS[::-1]), Schedule(STEPS, "a"), Schedule(STEPS, order="leja")]
    assert same == Schedule(STEPS)
    assert hash(same) == hash(Schedule(STEPS))
    assert [same == other for other in others] == [False, False, False]
    assert len({same, Schedule(STEPS), *others}) == 4
    assert same != STEPS


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_reordering_keeps_the_steps_and_notes_the_order(order: str) -> None:
    schedule = Schedule([3.0, 1.0, 4.0, 2.0], "mine")
    reordered = schedule.reordered(order)
    assert sorted(reordered) == [1.0, 2.0, 3.0, 4.0]
    assert (reordered.name, reordered.order) == ("mine", order)
    assert list(schedule) == [3.0, 1.0, 4.0, 2.0]
    assert reordered.reordered(order) == reordered


def test_an_unknown_order_is_refused_with_a_suggestion() -> None:
    with pytest.raises(KeyError, match=r"there is no order 'lebedew'; did you mean lebedev"):
        Schedule(STEPS).reordered("lebedew")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([0.5, 0.0], "`steps` must be positive, got 0.0 at index 1; a step that is not positive"),
        ([-1.0], "`steps` must be positive, got -1.0 at index 0"),
        ([1.0, np.nan], "`steps` must be finite, got nan at index 1"),
        ([np.inf], "`steps` must be finite, got inf at index 0"),
        ([], "`steps` must be a one-dimensional array of at least one number, got shape (0,)"),
        ([[1.0]], "`steps` must be a one-dimensional array of at least one number, got shape (1,"),
        (1.0, "`steps` must be a one-dimensional array of at least one number, got shape ()"),
    ],
)
def test_steps_that_are_no_schedule_are_refused(steps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Schedule(steps)


@pytest.mark.parametrize("steps", [["a"], [1j], None])
def test_steps_that_are_not_real_are_refused(steps: Any) -> None:
    with pytest.raises(TypeError, match=r"`steps` must hold real numbers, got dtype "):
        Schedule(steps)


@given(st.lists(positive, min_size=1, max_size=20), st.text(), st.text())
def test_the_trip_through_json_is_exact_to_the_last_bit(
    steps: list[float], name: str, order: str
) -> None:
    schedule = Schedule(steps, name, order)
    twin = Schedule.from_dict(json.loads(json.dumps(schedule.to_dict())))
    assert twin == schedule
    assert twin.steps.tobytes() == schedule.steps.tobytes()


def test_a_saved_schedule_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    schedule = Schedule(1 / np.arange(1.0, 50.0), "γ, mine ✓", "leja")
    schedule.save(tmp_path / "schedule.json")
    assert Schedule.load(str(tmp_path / "schedule.json")) == schedule


def test_saving_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"schedule\.json"):
        Schedule(STEPS).save(path)
    assert path.read_text() == "precious"


def test_loading_what_is_not_there_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        Schedule.load(tmp_path / "nothing.json")


def record(**changes: Any) -> bytes:
    return json.dumps(Schedule(STEPS).to_dict() | changes).encode()


DAMAGED = {
    "empty": (b"", "it is not JSON"),
    "cut": (record()[:-20], "it is not JSON"),
    "binary": (b"\x80\x05\x95\xff\x00", "it is not JSON"),
    "utf-16": ("{}".encode("utf-16"), "it is not JSON"),
    "huge integer": (b'{"steps": [' + b"9" * 5000 + b"]}", "it is not JSON"),
    "endless brackets": (b"[" * 200_000, "it is not JSON"),
    "list": (b"[1, 2]", "`Schedule` must be an object, got [1, 2]"),
    "null": (b"null", "`Schedule` must be an object, got None"),
    "foreign": (b'{"a": 1}', "must have format 'stepfold.schedule/1', got None"),
    "later": (record(format="stepfold.schedule/9"), "got 'stepfold.schedule/9'; make it with"),
    "no steps": (
        json.dumps({"format": FORMAT}).encode(),
        "`Schedule` must have steps; it has format",
    ),
    "negative": (record(steps=[1.0, -1.0]), "`steps` must be positive, got -1.0 at index 1"),
    "NaN": (record(steps=[1.0, float("nan")]), "`steps` must be finite, got nan at index 1"),
    "overflow": (record().replace(b"0.25", b"1e999"), "`steps` must be finite, got inf"),
    "no numbers": (record(steps=[]), "at least one number, got shape (0,)"),
    "text": (record(steps=["a"]), "`Schedule.steps` must hold numbers or null, got 'a'"),
    "null step": (record(steps=[None]), "`steps` must be finite, got nan at index 0"),
    "mapping": (record(steps={"a": 1}), "`Schedule.steps` must be a list, got {'a': 1}"),
    "ragged": (record(steps=[[1.0], [1.0, 2.0]]), "inhomogeneous"),
    "nested": (record(steps=[[1.0, 2.0]]), "one-dimensional"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_or_foreign_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    content, reason = DAMAGED[case]
    path = tmp_path / "schedule.json"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"schedule\.json is not a schedule: .*{re.escape(reason)}"
    ):
        Schedule.load(path)


def test_a_schedule_loads_in_a_process_without_torch(tmp_path: Path) -> None:
    Schedule(STEPS, "learned").save(tmp_path / "schedule.json")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from stepfold import Schedule\n"
        "print(list(Schedule.load(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "schedule.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(STEPS)


def test_masked_steps_are_refused() -> None:
    with pytest.raises(TypeError, match="`steps` must be an array without a mask"):
        Schedule(np.ma.masked_array(STEPS, [False, True, False]))
