"""Arnoldi's method: Ritz values of any linear map, real or complex, from its products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stepfold._typing import FloatArray


def arnoldi_values(
    product: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    num_steps: int,
    *,
    tolerance: float = 0.0,
) -> tuple[NDArray[np.complex128], FloatArray, int]:
    """Ritz values of at most ``num_steps`` Arnoldi steps, by real part, with their residuals.

    Args:
        product: ``v -> B v`` for a real B of shape (n, n).
        start: Non-zero vector of shape (n,).
        num_steps: Most products to spend; n at most are.
        tolerance: Stop when the extreme values have residuals below this share of the largest.

    Returns:
        Ritz values (k,), norms ``‖B v − θ v‖`` of their unit vectors (k,), and products spent.

    References:
        Saad, Numerical Methods for Large Eigenvalue Problems (2011), section 6.2.

    >>> B = np.diag([1.0, 3.0])
    >>> values, residuals, spent = arnoldi_values(lambda v: B @ v, np.ones(2), 9)
    >>> values.real.round(12), spent
    (array([1., 3.]), 2)
    """
    num_steps = min(num_steps, start.size)
    basis = np.empty((num_steps + 1, start.size))
    basis[0] = start / np.linalg.norm(start)
    matrix = np.zeros((num_steps + 1, num_steps))
    for k in range(num_steps):
        vector = product(basis[k])
        scale = float(np.linalg.norm(vector))
        for _ in range(2):  # twice is enough
            shares = basis[: k + 1] @ vector
            matrix[: k + 1, k] += shares
            vector = vector - shares @ basis[: k + 1]
        norm = float(np.linalg.norm(vector))
        matrix[k + 1, k] = norm
        spent = k + 1
        exhausted = norm <= start.size * np.finfo(float).eps * scale or spent == start.size
        if exhausted or spent == num_steps or (tolerance > 0 and spent % 5 == 0):
            values, vectors = np.linalg.eig(matrix[:spent, :spent])
            residuals = 0.0 * values.real if exhausted else norm * np.abs(vectors[-1])
            order = np.argsort(values.real)
            values, residuals = values[order].astype(np.complex128), residuals[order]
            ends = residuals[[0, -1, int(np.argmax(np.abs(values.imag)))]]
            if exhausted or ends.max() <= tolerance * np.abs(values).max():
                break
        basis[k + 1] = vector / norm
    return values, residuals, spent
