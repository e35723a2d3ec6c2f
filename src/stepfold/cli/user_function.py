"""The user's own function: found by name, and its errors and our warnings in one line each."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import click


def load_function(name: str) -> Callable[..., Any]:
    """The callable that ``module:function`` names; the current folder is looked in first.

    What it raises when it is called becomes a `click.ClickException` that names the place.

    Raises:
        click.UsageError: If there is no such module or function.
        click.ClickException: If the module cannot be imported.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise click.UsageError(f"give FUNCTION as module:function, got {name!r}")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            # a module that the user's own module wants
            raise _failure(f"importing {module_name}", error) from error
        raise click.UsageError(
            f"there is no module {module_name!r} here or among the installed ones"
        ) from None
    except Exception as error:
        raise _failure(f"importing {module_name}", error) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise click.UsageError(f"module {module_name!r} has no {path!r}")
        found = getattr(found, part)
    if not callable(found):
        raise click.UsageError(f"{name} must be callable, got {type(found).__name__}")
    function: Callable[..., Any] = found

    def called(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            raise _failure(name, error) from error

    return called


def _failure(what: str, error: Exception) -> click.ClickException:
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    place = _place(error)
    where = "" if place is None else f" ({place})"
    return click.ClickException(f"{what} raised {text}{where}; STEPFOLD_TRACEBACK=1 shows all")


def _place(error: Exception) -> str | None:
    """Where in the user's files an error came from; None if no code in Python was on the way.

    That is the innermost line below the current folder; of what lies elsewhere, the innermost.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
        if not frame.filename.startswith("<") and frame.filename != importlib.__file__
    ]
    here = Path.cwd()
    near = [frame for frame in frames if _is_own(Path(frame.filename), here)]
    if not frames:
        return None
    frame = (near or frames)[-1]
    path = Path(frame.filename)
    shown = path.relative_to(here) if near else path
    return f"{shown}, line {frame.lineno}, in {frame.name}"


def _is_own(path: Path, folder: Path) -> bool:
    # A virtual environment often lies in the folder of the project.
    return path.is_relative_to(folder) and "site-packages" not in path.parts


@contextlib.contextmanager
def plain_warnings(plain: type[Warning]) -> Iterator[None]:
    """Show warnings of a kind as one line on standard error, without a place in our source."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", plain)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, plain):
                click.echo(f"Warning: {message}", err=True)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
