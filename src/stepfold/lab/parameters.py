"""Parameters of an experiment, read from its signature: type, limits and published value."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os.path import isfile
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from stepfold._registry import suggestion

Value = bool | int | float | str

_NOT_A_PARAMETER = "progress"


@dataclass(frozen=True)
class Between:
    """Limits of a parameter, both allowed, as in ``period: Annotated[int, Between(1, 64)]``."""

    lower: float
    upper: float

    def __str__(self) -> str:
        return f"between {self.lower:g} and {self.upper:g}"


@dataclass(frozen=True)
class FileName:
    """Marks the name of a file, as in ``matrix: Annotated[str, FileName()] = ""``; "" is none."""


@dataclass(frozen=True)
class Parameter:
    """A named setting with its published value.

    Args:
        name: As in the signature.
        kind: `int`, `float`, `bool` or `str`.
        default: The published value.
        limits: Smallest and largest value, for numbers.
        choices: What is allowed, for text that is not the name of a file.
    """

    name: str
    kind: type
    default: Value
    limits: Between | None = None
    choices: tuple[str, ...] = ()

    def check(self, value: object) -> Value:
        """Return ``value`` as the parameter's type.

        Text is read, so that the command line can hand on what was typed.

        Raises:
            ValueError: If it is of another type or out of range.
        """
        converted = self._convert(value)
        if converted is None:
            raise ValueError(f"`{self.name}` must be {self.rule}, got {value!r}")
        return converted

    @property
    def is_file(self) -> bool:
        """Whether it is the name of a file, whose contents may change while the name stays."""
        return self.kind is str and not self.choices

    @property
    def rule(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.is_file:
            return "the name of a file that exists, or empty"
        words = {int: "an integer", float: "a number", bool: "true or false"}[self.kind]
        return words if self.limits is None else f"{words} {self.limits}"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values."""
        return {"name": self.name, "default": self.default, "rule": self.rule}

    def _convert(self, value: object) -> Value | None:
        if self.choices:
            return value if isinstance(value, str) and value in self.choices else None
        if self.is_file:
            return value if value == "" or (isinstance(value, str) and isfile(value)) else None
        if self.kind is bool:
            if isinstance(value, str):
                return {"true": True, "false": False}.get(value.strip().lower())
            return value if isinstance(value, bool) else None
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = self.kind(value)
        except ValueError:
            return None
        # int() would cut 2.5 down to 2.
        if isinstance(value, float) and number != value:
            return None
        low, high = (
            (-math.inf, math.inf) if self.limits is None else (self.limits.lower, self.limits.upper)
        )
        inside = math.isfinite(number) and low <= number <= high
        return number if inside else None


def parameters_of(function: Callable[..., object]) -> dict[str, Parameter]:
    """Return the parameters of an experiment, by name, in the order of its signature.

    Raises:
        TypeError: If an argument is not a keyword with a default, or its type is not int, float or
            bool (a number's with limits: ``Annotated[int, Between(1, 64)]``), a ``Literal`` of
            texts or a file's name (``Annotated[str, FileName()]``).
    """
    hints = get_type_hints(function, include_extras=True)
    found = {}
    for name, argument in inspect.signature(function).parameters.items():
        if name == _NOT_A_PARAMETER:
            continue
        kind, limits, choices = _declared(hints.get(name))
        if (
            argument.kind is not inspect.Parameter.KEYWORD_ONLY
            or argument.default is inspect.Parameter.empty
            or kind is None
        ):
            raise TypeError(
                f"`{name}` of {function.__qualname__} must be a keyword with a default and a type "
                "such as Annotated[int, Between(1, 64)], float, bool or Literal['a', 'b'], got "
                f"{argument}"
            )
        parameter = Parameter(name, kind, argument.default, limits, choices)
        parameter.check(argument.default)
        found[name] = parameter
    return found


def _declared(hint: Any) -> tuple[type | None, Between | None, tuple[str, ...]]:
    limits = None
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        if hint is str and any(isinstance(note, FileName) for note in notes):
            return str, None, ()
        limits = next((note for note in notes if isinstance(note, Between)), None)
    if get_origin(hint) is Literal:
        return str, None, get_args(hint)
    return (hint if hint in (int, float, bool) else None), limits, ()


def checked_values(
    parameters: Mapping[str, Parameter], given: Mapping[str, object]
) -> dict[str, Value]:
    """Return a value for every parameter: the given one, checked, or the published one.

    Raises:
        ValueError: If a name is unknown (near ones are suggested) or a value is not allowed.
    """
    for name in given:
        if name not in parameters:
            raise ValueError(f"there is no parameter {name!r}; {suggestion(name, parameters)}")
    return {
        name: parameter.check(given.get(name, parameter.default))
        for name, parameter in parameters.items()
    }
