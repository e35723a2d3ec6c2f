"""When, with what and for how long an experiment ran: what a reader needs to run it again."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from stepfold._codec import JsonRecord

_PACKAGES = ("stepfold", "numpy", "scipy", "torch", "numba", "matplotlib")


@dataclass(frozen=True)
class Environment(JsonRecord):
    """When, with what and for how long an experiment ran.

    Args:
        written: Date and time, to the minute.
        seconds: How long the experiment took.
        versions: Of Python and of the packages that numbers depend on.
        machine: Processor's kind, number of its cores, operating system.
    """

    written: str
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""

    @classmethod
    def now(cls, seconds: float) -> Environment:
        """This process's."""
        versions = {"Python": platform.python_version()}
        for package in _PACKAGES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[package] = metadata.version(package)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
        return cls(time.strftime("%Y-%m-%d %H:%M %Z"), round(seconds, 3), versions, machine)
