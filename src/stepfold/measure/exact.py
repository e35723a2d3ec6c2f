"""The measure of a small Hessian, from all its eigenvalues and eigenvectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._checks import check_matrix
from stepfold._typing import FloatArray, Operator
from stepfold.measure._inputs import check_symmetric, to_numpy
from stepfold.measure.base import SpectralMeasure
from stepfold.spectrum import Gram


def exact_measure(hessian: Operator, *, covariance: Any = None) -> SpectralMeasure:
    """Measure of random errors with a given covariance, from the eigen-decomposition.

    Args:
        hessian: Symmetric positive semidefinite matrix of shape (n, n), or a `Gram`, whose factor
            is then decomposed instead; dense, sparse, or dense torch tensor.
        covariance: ``E e₀ e₀ᵀ`` up to a factor, of shape (n, n), or its diagonal, of shape (n,);
            the identity if not given. For a batch of errors as rows it is ``E.T @ E``.

    Returns:
        A measure of n nodes in units of the Hessian, with weight ``vᵢᵀ C vᵢ`` on the eigenvalue of
        each eigenvector vᵢ.

    Raises:
        TypeError: If the entries of ``hessian`` are not known, or an argument is not real.
        ValueError: If shapes do not fit, or a matrix is not symmetric or not positive semidefinite.

    References:
        Derived from the eigen-decomposition: ``‖p(A) e₀‖² = ∑ᵢ p(λᵢ)² (vᵢᵀ e₀)²``.

    >>> exact_measure(np.diag([1.0, 2.0]), covariance=[3.0, 1.0]).weights
    array([0.75, 0.25])
    """
    if isinstance(hessian, Gram):
        factor = _dense("hessian.factor", hessian.factor)
        _, values, vectors = np.linalg.svd(factor)
        values[values <= values[0] * max(factor.shape) * np.finfo(float).eps] = 0.0
        padding = np.zeros(factor.shape[1] - values.size)
        eigenvalues = np.concatenate([values**2, padding]) + hessian.shift
        vectors = vectors.T
    else:
        matrix = _dense("hessian", hessian)
        check_symmetric(matrix)
        eigenvalues, vectors = np.linalg.eigh(matrix)
        rounding = eigenvalues.size * np.finfo(float).eps * np.abs(eigenvalues).max()
        if eigenvalues[0] < -rounding:
            raise ValueError(
                "`hessian` must be positive semidefinite, but it has an eigenvalue "
                f"{eigenvalues[0]:.6g}; for least squares with this matrix pass `Gram(matrix)`"
            )
        eigenvalues[eigenvalues <= rounding] = 0.0
    if covariance is None:
        return SpectralMeasure(eigenvalues, np.ones(eigenvalues.size), "all eigenvalues")
    variances = _variances(np.asarray(to_numpy("covariance", covariance)), vectors)
    return SpectralMeasure(eigenvalues, variances, "all eigenvalues, given covariance")


def _variances(covariance: Any, vectors: FloatArray) -> FloatArray:
    size = vectors.shape[0]
    if covariance.dtype.kind not in "buif":
        raise TypeError(f"`covariance` must be real, got dtype {covariance.dtype}")
    if covariance.shape not in ((size,), (size, size)):
        raise ValueError(
            f"`covariance` must have shape ({size},) or ({size}, {size}) to fit the Hessian, "
            f"got {covariance.shape}"
        )
    image = covariance[:, None] * vectors if covariance.ndim == 1 else covariance @ vectors
    variances: FloatArray = (vectors * image).sum(axis=0)
    rounding = size * np.finfo(float).eps * np.abs(variances).max()
    if not variances.min() >= -rounding:
        raise ValueError(
            "`covariance` must be finite and positive semidefinite, but an eigenvector of the "
            f"Hessian has variance {variances.min():.6g}"
        )
    return np.maximum(variances, 0.0)


def _dense(name: str, matrix: Any) -> FloatArray:
    matrix = check_matrix(name, to_numpy(name, matrix))
    if hasattr(matrix, "toarray"):
        matrix = matrix.toarray()
    if not isinstance(matrix, np.ndarray):
        raise TypeError(
            f"`{name}` must be a dense or sparse matrix to have all its eigenvalues computed, got "
            f"{type(matrix).__name__}; `lanczos_measure` needs products only"
        )
    return matrix.astype(np.float64)
