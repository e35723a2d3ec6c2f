"""How to install what an optional part of the package needs.

The name stepfold is not on a package index, so every hint is for a clone of the repository.
"""

from __future__ import annotations


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
