"""Matrices and right-hand sides from files; one clear sentence for each way they can be bad."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stepfold._files import write_array
from stepfold.cli.formats import read_array
from stepfold.cli.formats.memory import check_room, check_room_for_problem
from stepfold.cli.output import write_whole
from stepfold.schedules import Schedule


def load_matrix(path: Path) -> Any:
    """Return the matrix in a file, dense or sparse.

    Raises:
        click.UsageError: If the file is not there, is damaged or too large, or holds no matrix.
    """
    matrix = read_array(path)
    if matrix.ndim != 2:
        raise click.UsageError(f"{path} must hold a matrix, got an array of shape {matrix.shape}")
    _check_room(path, check_room_for_problem, matrix.shape)
    return matrix


def load_vector(path: Path) -> Any:
    """Return the right-hand sides in a file: one, or one per row; a single column is one."""
    vector = read_array(path)
    if hasattr(vector, "toarray"):
        _check_room(path, check_room, math.prod(vector.shape) * vector.dtype.itemsize)
        vector = vector.toarray()
    if vector.ndim == 2 and 1 in vector.shape:
        return vector.ravel()
    return vector


def load_array(path: Path) -> Any:
    """Return the dense array in a file, of any shape."""
    array = read_array(path)
    if hasattr(array, "toarray"):
        raise click.UsageError(f"{path} must hold a dense array, got a sparse one")
    return array


def _check_room(path: Path, check: Callable[..., None], *sizes: Any) -> None:
    try:
        check(*sizes)
    except MemoryError as error:
        raise click.UsageError(f"{path} does not fit into memory: {error}") from None


def load_schedule(path: Path) -> Schedule:
    """Return the schedule in a JSON file."""
    try:
        return Schedule.load(path)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None


def save_vector(path: Path, vector: Any) -> None:
    """Write an array as .npy, completely or not at all."""
    write_whole(path, lambda file: write_array(file, vector))
