"""What an experiment is: a function without arguments that are not optional, and its outcome."""

from __future__ import annotations

import inspect
from typing import Protocol

from stepfold._registry import Registry
from stepfold.lab.outcome import Outcome


class Experiment(Protocol):
    """Computes an outcome; parameters are keywords with the published values as defaults."""

    def __call__(self, *, progress: bool = False) -> Outcome:
        """Run the experiment, with a progress bar on standard error if asked for."""


EXPERIMENTS: Registry[Experiment] = Registry("experiment", "stepfold.lab.experiments")


def describe(experiment: Experiment) -> str:
    """First line of the experiment's docstring."""
    return (inspect.getdoc(experiment) or "").split("\n", 1)[0]
