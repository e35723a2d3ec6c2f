"""Random spectra to train on: eigenvalues of HᵀH for several kinds of H, or drawn as they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np

from stepfold._checks import check_matrix
from stepfold._typing import FloatArray
from stepfold.lab.experiments._published import published_matrix
from stepfold.measure import SpectralMeasure
from stepfold.spectrum import Gram, exact_eigenvalues, fits_dense_eigensolver

Ensemble = Literal["gaussian", "uniform", "log-uniform", "autoregressive", "file"]

CORRELATION = 0.7


def spectra(
    ensemble: str = "gaussian",
    *,
    num_unknowns: int = 300,
    num_rows: int = 600,
    num_matrices: int = 1,
    matrix_seed: int = 12,
    matrix: str = "",
) -> list[SpectralMeasure]:
    """Equal weights on the eigenvalues of each matrix: errors that are alike in every direction.

    That of the published matrix if nothing is given.

    Args:
        ensemble: "gaussian": independent entries of variance 1/n. "autoregressive": the same, but
            neighbours in a row are correlated at 0.7. "uniform" and "log-uniform": no matrix, but
            n independent eigenvalues between the limits of the Gaussian ones. "file": ``matrix``.
        num_unknowns: n, the columns of H.
        num_rows: m, its rows.
        num_matrices: How many; of a file there is one.
        matrix_seed: Seed of the first; 12 is the published Gaussian one.
        matrix: A .npy file that holds H, for "file" only.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If H has no more rows than columns, the file holds no such matrix, or one that
            is singular or too large to diagonalise.
    """
    if bool(matrix) != (ensemble == "file"):
        raise ValueError(
            "`matrix` and `ensemble` must be given together, as in `--set ensemble=file --set "
            f"matrix=H.npy`, got ensemble={ensemble!r} and matrix={matrix!r}"
        )
    if ensemble == "file":
        return [_measure(exact_eigenvalues(Gram(_load(Path(matrix)))))]
    if num_rows <= num_unknowns:
        raise ValueError(
            f"`num_rows` must be more than `num_unknowns`, got {num_rows} and {num_unknowns}; "
            "with fewer rows HᵀH is singular, and Chebyshev steps need a positive lower bound"
        )
    draw = _DRAWS[ensemble]
    seeds = range(matrix_seed, matrix_seed + num_matrices)
    return [_measure(draw(seed, num_unknowns, num_rows)) for seed in seeds]


def _measure(eigenvalues: FloatArray) -> SpectralMeasure:
    if not eigenvalues.min() > 0:
        raise ValueError(
            "`matrix` must have independent columns; HᵀH is singular to rounding, and Chebyshev "
            "steps need a positive lower bound"
        )
    return SpectralMeasure.from_eigenvalues(eigenvalues)


def _load(path: Path) -> FloatArray:
    with path.open("rb") as file:
        # `np.load` would take a pickle, too, which runs what is in it.
        matrix = np.lib.format.read_array(file, allow_pickle=False)
    matrix = check_matrix("matrix", matrix)
    if not fits_dense_eigensolver(Gram(matrix)):
        raise ValueError(
            f"`matrix` is too large to diagonalise in seconds, shape {matrix.shape}; take some of "
            "its columns, or train by `stepfold.unfolded.train` on samples"
        )
    return np.asarray(matrix, dtype=np.float64)


def _gaussian(seed: int, num_unknowns: int, num_rows: int) -> FloatArray:
    return exact_eigenvalues(Gram(published_matrix(seed, num_unknowns, num_rows)))


def _autoregressive(seed: int, num_unknowns: int, num_rows: int) -> FloatArray:
    noise = np.random.default_rng(seed).standard_normal((num_rows, num_unknowns))
    rows = noise.copy()
    for column in range(1, num_unknowns):
        fresh = math.sqrt(1 - CORRELATION**2) * noise[:, column]
        rows[:, column] = CORRELATION * rows[:, column - 1] + fresh
    return exact_eigenvalues(Gram(rows / math.sqrt(num_unknowns)))


def ends(num_unknowns: int, num_rows: int) -> tuple[float, float]:
    """Ends of the Marchenko–Pastur law of the Gaussian matrices of this shape."""
    mean, root = num_rows / num_unknowns, math.sqrt(num_unknowns / num_rows)
    return mean * (1 - root) ** 2, mean * (1 + root) ** 2


def _uniform(seed: int, num_unknowns: int, num_rows: int) -> FloatArray:
    draws = np.random.default_rng(seed).uniform(*ends(num_unknowns, num_rows), num_unknowns)
    return np.sort(draws)


def _log_uniform(seed: int, num_unknowns: int, num_rows: int) -> FloatArray:
    low, high = np.log(ends(num_unknowns, num_rows))
    return np.sort(np.exp(np.random.default_rng(seed).uniform(low, high, num_unknowns)))


_DRAWS = {
    "gaussian": _gaussian,
    "autoregressive": _autoregressive,
    "uniform": _uniform,
    "log-uniform": _log_uniform,
}
