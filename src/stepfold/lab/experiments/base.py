"""What an experiment is: a function of parameters that are all optional, and its outcome.

One new file in this folder adds an experiment:

    @experiment("rates", source=Source(OWN, "rates"), seconds=3, quick={"period": 8})
    def rates(*, period: Annotated[int, Between(1, 64)] = 16) -> Outcome:
        ...

The published values are the defaults. ``quick`` holds those of a small version that takes a second
or two; a check that only holds at the published values is returned only there. A function that
trains may take ``progress: bool = False`` as well, to show a bar. Randomness is seeded.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from stepfold._registry import Registry, first_line
from stepfold.lab.outcome import Outcome
from stepfold.lab.parameters import Parameter, Value, checked_values, parameters_of
from stepfold.lab.sources import Source

Function = TypeVar("Function", bound=Callable[..., Outcome])


@dataclass(frozen=True, eq=False)
class Experiment:
    """A function that computes an outcome, and what must be known before it is called.

    Args:
        name: What `stepfold run` calls it.
        source: Which part of which paper it reproduces.
        function: Returns the outcome; its parameters are keywords with the published values as
            defaults.
        seconds: About how long it takes on one core; the longest are started first.
        quick: Values of a small version, by name.

    Raises:
        TypeError: If the signature declares a parameter without default, type or limits.
        ValueError: If a default or a value of ``quick`` is out of range.
    """

    name: str
    source: Source
    function: Callable[..., Outcome]
    seconds: float
    quick: Mapping[str, Value]

    def __post_init__(self) -> None:
        self.values(quick=True)

    @property
    def description(self) -> str:
        """First line of the function's docstring."""
        return first_line(self.function)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Parameters by name."""
        return parameters_of(self.function)

    def values(
        self, given: Mapping[str, object] | None = None, *, quick: bool = False
    ) -> dict[str, Value]:
        """Return a checked value for every parameter.

        Args:
            given: Values, or their text; they come before those of the small version.
            quick: Whether the rest are those of the small version.

        Raises:
            ValueError: If a name is unknown or a value is out of range.
        """
        return checked_values(self.parameters, {**(self.quick if quick else {}), **(given or {})})

    def run(self, given: Mapping[str, object] | None = None, *, progress: bool = False) -> Outcome:
        """Compute the outcome, with the experiment's name and the parameters that were taken.

        Args:
            given: Values, or their text, by name; the published ones where nothing is given.
            progress: Whether to show a progress bar on standard error, where there is one.

        Raises:
            ValueError: If a name is unknown or a value is out of range; nothing is computed then.
        """
        values: dict[str, Any] = self.values(given)
        if "progress" in inspect.signature(self.function).parameters:
            values["progress"] = progress
        outcome = self.function(**values)
        values.pop("progress", None)
        parameters = {**values, **outcome.parameters}
        return dataclasses.replace(
            outcome, name=self.name, parameters=parameters, source=self.source
        )

    def to_dict(self) -> dict[str, Any]:
        """Return name, description, parameters and cost as plain Python values."""
        return {
            "name": self.name,
            "description": self.description,
            "source": self.source.to_dict(),
            "seconds": self.seconds,
            "parameters": [parameter.to_dict() for parameter in self.parameters.values()],
            "quick": dict(self.quick),
        }


EXPERIMENTS: Registry[Experiment] = Registry(
    "experiment", "stepfold.lab.experiments", "stepfold.experiments", Experiment
)


def experiment(
    name: str, *, source: Source, seconds: float, quick: Mapping[str, Value]
) -> Callable[[Function], Function]:
    """Return a decorator that registers an experiment and hands the function back unchanged.

    Args:
        name: What `stepfold run` calls it.
        source: Which part of which paper it reproduces; of `OWN` what is derived or measured here.
        seconds: About how long it takes on one core.
        quick: Values of the small version; empty if the published one takes a second or two.
    """

    def add(function: Function) -> Function:
        EXPERIMENTS.register(name)(Experiment(name, source, function, seconds, quick))
        return function

    return add
