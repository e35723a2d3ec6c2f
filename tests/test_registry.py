"""A registry finds its members by itself and explains what it does not find."""

import sys
from pathlib import Path

import pytest

from stepfold._registry import Registry
from stepfold.schedules import ORDERS, SCHEDULES

MODULE = """
from fruits.base import FRUITS

@FRUITS.register("{name}")
def {name}():
    return "{name}"
"""


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A family of three, two of whose modules nobody imports."""
    package = tmp_path / "fruits"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(
        "from stepfold._registry import Registry\n"
        "FRUITS = Registry('fruit', 'fruits', 'tests.fruits')\n"
        "FRUITS.register('apple')(1)\n"
    )
    (package / "cherry.py").write_text(MODULE.format(name="cherry"))
    (package / "banana.py").write_text(MODULE.format(name="banana"))
    monkeypatch.syspath_prepend(tmp_path)
    from fruits.base import FRUITS

    yield FRUITS
    for name in [name for name in sys.modules if name.split(".")[0] == "fruits"]:
        del sys.modules[name]


def test_members_of_modules_that_nobody_imported_are_found_in_sorted_order(
    fruits: Registry,
) -> None:
    assert list(fruits) == ["apple", "banana", "cherry"]
    fruits.register("ackee")(None)
    assert list(fruits) == ["ackee", "apple", "banana", "cherry"]


def test_the_package_is_imported_on_first_reading_and_not_before(fruits: Registry) -> None:
    before = "fruits.cherry" in sys.modules
    assert fruits["cherry"]() == "cherry"
    assert (before, "fruits.cherry" in sys.modules) == (False, True)


def test_the_length_counts_every_module_s_members(fruits: Registry) -> None:
    assert len(fruits) == 3


def test_register_hands_its_argument_back(fruits: Registry) -> None:
    marker = object()
    assert fruits.register("marker")(marker) is marker
    assert fruits["marker"] is marker


def test_a_name_taken_twice_is_refused(fruits: Registry) -> None:
    with pytest.raises(ValueError, match=r"the fruit 'apple' is registered twice; rename one"):
        fruits.register("apple")(2)


def test_a_misspelt_name_gets_suggestions(fruits: Registry) -> None:
    with pytest.raises(KeyError, match=r"there is no fruit 'bananna'; did you mean banana\?"):
        fruits["bananna"]


def test_an_unknown_name_gets_the_list(fruits: Registry) -> None:
    with pytest.raises(KeyError, match=r"no fruit 'zzz'; there are apple, banana, cherry"):
        fruits["zzz"]


@pytest.mark.parametrize("key", [5, None, 2.5, ("leja",), ""])
def test_membership_of_any_key_has_an_answer(key: object) -> None:
    assert key not in ORDERS


def test_the_mapping_is_read_only() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        ORDERS["mine"] = None  # type: ignore[index]


def test_the_core_families_are_complete() -> None:
    assert {"chebyshev", "chebyshev-second-kind", "constant", "optimal"} <= set(SCHEDULES)
    assert {"ascending", "descending", "lebedev", "leja", "outside-in"} <= set(ORDERS)
