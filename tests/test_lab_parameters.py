"""Parameters of experiments are read from signatures, and checked before anything is computed."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from _small_experiments import SMALL, SOURCE, small_outcome

from stepfold.lab.experiments import EXPERIMENTS, Experiment
from stepfold.lab.parameters import Between

ADJUSTABLE = SMALL["adjustable"]
PUBLISHED = {"period": 3, "scale": 1.0, "kind": "first", "fast": False}


def test_published_values_are_the_defaults() -> None:
    assert ADJUSTABLE.values() == PUBLISHED


def test_quick_values_replace_some_and_given_ones_come_first() -> None:
    assert ADJUSTABLE.values(quick=True) == {**PUBLISHED, "period": 1, "fast": True}
    assert ADJUSTABLE.values({"period": 2}, quick=True)["period"] == 2


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("period", "9", 9),
        ("scale", "5e-1", 0.5),
        ("scale", "2", 2.0),
        ("kind", "second", "second"),
        ("fast", "True", True),
        ("fast", "false", False),
        ("period", 9.0, 9),
    ],
)
def test_text_is_read_as_the_parameter_s_type(name: str, text: object, value: object) -> None:
    read = ADJUSTABLE.values({name: text})[name]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("period", "0", "an integer between 1 and 9"),
        ("period", "10", "an integer between 1 and 9"),
        ("period", "2.5", "an integer"),
        ("period", 2.5, "an integer"),
        ("period", "many", "an integer"),
        ("period", "", "an integer"),
        ("period", True, "an integer"),
        ("period", None, "an integer"),
        ("scale", "0.4", "a number between 0.5 and 2"),
        ("scale", "nan", "a number between 0.5 and 2"),
        ("scale", "inf", "a number between 0.5 and 2"),
        ("scale", float("nan"), "a number between 0.5 and 2"),
        ("kind", "third", "one of first, second"),
        ("kind", 1, "one of first, second"),
        ("fast", "1", "true or false"),
        ("fast", 1, "true or false"),
    ],
)
def test_values_against_the_rule_are_refused(name: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be {rule}"):
        ADJUSTABLE.run({name: value})


@pytest.mark.parametrize(
    ("name", "near"), [("perio", "period"), ("Kind", "kind"), ("scales", "scale")]
)
def test_unknown_names_are_refused_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"no parameter '{name}'; did you mean .*{near}"):
        ADJUSTABLE.run({name: 1})


def test_a_name_unlike_any_is_refused_with_all() -> None:
    with pytest.raises(ValueError, match=r"there are period, scale, kind, fast"):
        ADJUSTABLE.run({"qqq": 1})


def test_an_experiment_without_parameters_says_so() -> None:
    with pytest.raises(ValueError, match=r"there are none"):
        SMALL["failing"].run({"seed": 1})


def _without_default(*, period: int) -> Any: ...
def _positional(period: int = 1) -> Any: ...
def _untyped(*, period=1) -> Any: ...  # type: ignore[no-untyped-def]
def _of_a_list(*, steps: list[int] = []) -> Any: ...  # noqa: B006


@pytest.mark.parametrize("function", [_without_default, _positional, _untyped, _of_a_list])
def test_signatures_that_the_command_line_cannot_set_are_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a keyword with a default and a type"):
        Experiment("e", SOURCE, function, 1, {})


def _out_of_its_own_range(*, period: Annotated[int, Between(1, 4)] = 5) -> Any: ...


def test_a_default_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`period` must be an integer between 1 and 4, got 5"):
        Experiment("e", SOURCE, _out_of_its_own_range, 1, {})


@pytest.mark.parametrize("quick", [{"perio": 1}, {"period": 0}])
def test_quick_values_are_checked_when_the_experiment_is_defined(quick: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"perio"):
        Experiment("e", SOURCE, ADJUSTABLE.function, 1, quick)


def _with_progress(*, progress: bool = False) -> Any:
    return small_outcome(float(progress))


def test_progress_is_passed_on_and_is_no_parameter() -> None:
    experiment = Experiment("e", SOURCE, _with_progress, 1, {})
    assert experiment.parameters == {}
    assert experiment.run(progress=True).checks[0].measured == 1.0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_what_it_shows_and_what_it_costs(name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    assert 20 < len(experiment.description) <= 100
    assert experiment.description.endswith(".")
    assert experiment.seconds > 0
    documented = experiment.function.__doc__ or ""
    assert all(f"        {parameter}: " in documented for parameter in experiment.parameters)


def test_an_outcome_has_the_experiments_name_and_the_parameters_that_were_taken() -> None:
    outcome = SMALL["adjustable"].run({"scale": 1.5})
    assert outcome.name == "adjustable"
    expected = {"period": 3, "scale": 1.5, "kind": "first", "fast": False}
    assert outcome.parameters == expected
