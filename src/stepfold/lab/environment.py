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
        command: The command line that repeats it; empty if it was not a command.
    """

    written: str
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    command: str = ""

    @classmethod
    def now(cls, seconds: float, command: str = "") -> Environment:
        """This process's."""
        versions = {"Python": platform.python_version()}
        for package in _PACKAGES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[package] = metadata.version(package)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
        written = time.strftime("%Y-%m-%d %H:%M %Z")
        return cls(written, round(seconds, 3), versions, machine, command)

    @property
    def packages(self) -> str:
        """Names and versions, in one line.

        >>> Environment("", 0.0, {"Python": "3.11.7", "numpy": "2.4.6"}).packages
        'Python 3.11.7, numpy 2.4.6'
        """
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())
