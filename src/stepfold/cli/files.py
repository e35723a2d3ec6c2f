"""Matrices and right-hand sides from files; one clear sentence for each way they can be bad."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from stepfold._checks import check_finite
from stepfold.cli.output import write_whole
from stepfold.problems import LeastSquares, Problem, Quadratic
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds, estimate_bounds, fits_dense_eigensolver

KINDS = ("auto", "least-squares", "symmetric")
FORMATS = ".npy (NumPy), .npz (SciPy sparse) or .mtx (Matrix Market)"


def load_matrix(path: Path) -> Any:
    """Return the matrix in a file, dense or sparse.

    Raises:
        click.UsageError: If the file is not there, cut short, or not a two-dimensional matrix.
    """
    matrix = _load(path)
    if matrix.ndim != 2:
        raise click.UsageError(f"{path} must hold a matrix, got an array of shape {matrix.shape}")
    return matrix


def load_vector(path: Path) -> Any:
    """Return the right-hand sides in a file: one, or one per row; a single column is one."""
    vector = _load(path)
    if hasattr(vector, "toarray"):
        vector = vector.toarray()
    if vector.ndim == 2 and 1 in vector.shape:
        return vector.ravel()
    return vector


def load_array(path: Path) -> Any:
    """Return the array in a .npy file, of any shape."""
    if path.suffix.lower() != ".npy":
        raise click.UsageError(f"{path} must be a .npy file")
    return _load(path)


def load_schedule(path: Path) -> Schedule:
    """Return the schedule in a JSON file."""
    try:
        return Schedule.load(path)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None


def save_vector(path: Path, vector: Any) -> None:
    """Write an array as .npy, completely or not at all."""
    write_whole(path, lambda file: np.save(file, vector))


def _load(path: Path) -> Any:
    import scipy.io

    readers: dict[str, Callable[[IO[bytes]], Any]] = {
        # `np.load` would take an archive or a pickle under this ending, too.
        ".npy": lambda file: np.lib.format.read_array(file, allow_pickle=False),
        ".npz": _read_sparse,
        # By name: with a file object the reader's clean-up crashes on some damaged files.
        ".mtx": lambda _: scipy.io.mmread(path, spmatrix=False),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None and not path.exists():
        raise click.UsageError(f"{path} does not exist; give {FORMATS}")
    if reader is None:
        raise click.UsageError(f"{path}: unknown ending {path.suffix!r}; give {FORMATS}")
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder; give a file: {FORMATS}")
    try:
        with path.open("rb") as file:
            array = reader(file)
    except FileNotFoundError:
        raise click.UsageError(f"{path}: there is no such file") from None
    except MemoryError as error:
        raise click.UsageError(f"{path} does not fit into memory: {error}") from None
    except _DAMAGED as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise click.UsageError(
            f"{path} cannot be read as {path.suffix} (cut short or damaged?): {detail}"
        ) from None
    if array.dtype.kind not in "buif":
        raise click.UsageError(f"{path} must hold real numbers, got dtype {array.dtype}")
    check_finite(str(path), array)
    return array


# What the readers raise on damaged files: a .npy header is Python source, an .npz file an archive.
_DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def _read_sparse(file: IO[bytes]) -> Any:
    """The matrix in CSR, its indices checked: SciPy's products trust them and would crash."""
    import scipy.sparse

    if not zipfile.is_zipfile(file):
        raise ValueError("it is not a zip archive")
    file.seek(0)
    matrix: Any = scipy.sparse.load_npz(file)
    if matrix.format in ("bsr", "csc", "csr"):
        matrix.check_format(full_check=True)
    return scipy.sparse.csr_array(matrix)


def make_problem(
    matrix: Any, rhs: Any, kind: str, ridge: float
) -> tuple[Problem[Any], str, SpectralBounds | None]:
    """Return the problem that a matrix and right-hand sides pose, why, and bounds if they came up.

    Raises:
        click.UsageError: If a ridge term is asked for on a symmetric system.
        TypeError: If an entry is not real.
        ValueError: If shapes do not fit or an entry is not finite.
    """
    if kind == "least-squares":
        return LeastSquares(matrix, rhs, ridge=ridge), "least squares, as asked for", None
    if kind == "symmetric":
        if ridge:
            raise click.UsageError("--ridge goes with least squares; add it to the matrix instead")
        return Quadratic(matrix, rhs), "a symmetric system, as asked for", None
    least_squares = LeastSquares(matrix, rhs, ridge=ridge)
    if ridge:
        return least_squares, "least squares with a ridge term", None
    if matrix.shape[0] != matrix.shape[1]:
        return least_squares, "least squares, for the matrix is not square", None
    if abs(matrix - matrix.T).max() > 1e-10 * abs(matrix).max():
        return least_squares, "least squares, for the matrix is not symmetric", None
    try:
        bounds = estimate_bounds(matrix)
    except ValueError:  # it has a negative eigenvalue
        return least_squares, "least squares, for the matrix is symmetric but indefinite", None
    if bounds.lower == 0 and fits_dense_eigensolver(matrix):
        return least_squares, "least squares, for the matrix is symmetric but singular", None
    # Bounds whose lower end is unknown are left to the planner, which looks harder.
    known = bounds if bounds.lower > 0 else None
    return Quadratic(matrix, rhs), "a symmetric positive definite system", known
