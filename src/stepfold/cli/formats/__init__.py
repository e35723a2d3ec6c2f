"""Arrays from files of several formats: sizes and structure are checked before memory is taken."""

from __future__ import annotations

import csv
import re
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import click

from stepfold._checks import check_finite
from stepfold.cli.formats.archive import read_npz
from stepfold.cli.formats.matrix_market import read_mtx
from stepfold.cli.formats.npy import read_npy
from stepfold.cli.formats.table import read_csv

FORMATS = ".npy or .npz (NumPy, SciPy sparse), .mtx (Matrix Market) or .csv"

# What the readers raise on damaged files: a .npy header is Python source, an .npz file an archive.
_DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    csv.Error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_array(path: Path) -> Any:
    """Return the array in a file, dense, or sparse in rows; entries are finite numbers.

    ``file.npz:name`` is an array of an archive, ``file.csv:list`` some columns of a table.

    Raises:
        click.UsageError: If the file is not there, is damaged, does not fit into memory, or holds
            something else.
    """
    path, part = _split(path)
    ending = path.suffix.lower()
    if ending not in (".csv", ".mtx", ".npy", ".npz"):
        what = f": unknown ending {path.suffix!r}" if path.exists() else " does not exist"
        raise click.UsageError(f"{path}{what}; give {FORMATS}")
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder; give a file: {FORMATS}")
    if path.exists() and not path.is_file():
        # Opening a pipe would wait for its writer, and a device may never end.
        raise click.UsageError(f"{path} is not a regular file; give {FORMATS}")
    try:
        with warnings.catch_warnings():
            # NumPy tells of headers from Python 2 and of texts without numbers.
            warnings.simplefilter("ignore", UserWarning)
            array = _read(path, ending, part)
    except FileNotFoundError:
        raise click.UsageError(f"{path}: there is no such file") from None
    except MemoryError as error:
        raise click.UsageError(f"{path} does not fit into memory: {error}") from None
    except (OSError, *_DAMAGED) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # the system's word on the file; without a name it is a place that is none
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise click.UsageError(
            f"{path} cannot be read as {ending} (cut short or damaged?): {detail}"
        ) from None
    if array.dtype.kind not in "buifc":
        raise click.UsageError(f"{path} must hold numbers, got dtype {array.dtype}")
    check_finite(str(path), array)
    return array


def _read(path: Path, ending: str, part: str | None) -> Any:
    if ending == ".npz":
        return read_npz(path, part)
    if ending == ".csv":
        return read_csv(path, part)
    return read_npy(path) if ending == ".npy" else read_mtx(path)


def _split(path: Path) -> tuple[Path, str | None]:
    """A file and what is named behind a colon, unless the whole is a file's name."""
    match = re.fullmatch(r"(.+?\.(?:npz|csv)):(.+)", str(path), re.IGNORECASE | re.DOTALL)
    if match is None or path.exists():
        return path, None
    return Path(match[1]), match[2]
