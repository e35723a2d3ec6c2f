"""How to install what an optional part of the package needs.

The name stepfold is not on a package index, so every hint is for a clone of the repository.
"""

from __future__ import annotations

import re
from typing import Any


def how_to_install(extra: str) -> str:
    """The end of a message: the command that brings what ``extra`` of pyproject.toml names.

    >>> how_to_install("lab")
    "install it with `pip install '.[lab]'` from a clone of stepfold"
    """
    return f"install it with `pip install '.[{extra}]'` from a clone of stepfold"


def not_installed(need: str, extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error to raise in the place of ``error``, for the same missing module.

    >>> print(not_installed("figures need matplotlib", "lab", ModuleNotFoundError()))
    figures need matplotlib, which is not installed; install it with `pip install '.[lab]'` from a
    clone of stepfold
    """
    return ModuleNotFoundError(
        f"{need}, which is not installed; {how_to_install(extra)}", name=error.name
    )


def check_version(package: Any, need: str, extra: str) -> None:
    """Raise an `ImportError` if a package is older than ``need`` says at its end.

    >>> check_version(re, "regular expressions need re >= 2.1", "re")
    """
    least, got = need.rpartition(">= ")[2], str(package.__version__)
    if _numbers(got) < _numbers(least):
        raise ImportError(f"{need}, got {got}; {how_to_install(extra)}")


def _numbers(version: str) -> list[int]:
    """The numbers of a release: what follows them (a candidate, a build) does not count."""
    return [int(part) for part in re.split(r"[^\d.]", version)[0].split(".") if part]
