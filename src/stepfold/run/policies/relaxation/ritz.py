"""The local spectrum of ``B = I − J``, from residuals that a period has computed anyway.

Near a fixed point the move ``s = xₖ₊₁ − xₖ`` changes the residual by ``rₖ − rₖ₊₁ ≈ B s``, and the
residuals of a period span a Krylov space of B. Projected on it (Rayleigh–Ritz) B is a small
matrix, whose eigenvalues say what Arnoldi's method would after as many products; no evaluation of
the map is spent. One Gram matrix of the residuals holds all that is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import gram_matrix
from stepfold._typing import FloatArray

# Directions of the Krylov space that are known to fewer digits than this are left out: their share
# of a Gram matrix in double precision would be rounding.
INDEPENDENT = 1e-4


def ritz_values(residuals: list[Any], moves: FloatArray) -> NDArray[np.complex128]:
    """Ritz values of B on the span of the moves of a period.

    Args:
        residuals: ``r₀ … r_k``.
        moves: ``xⱼ₊₁ − xⱼ = Σᵢ moves[j, i] rᵢ``, shape (k, k).

    Returns:
        At most k values, by real part; none where no direction is known to enough digits.
    """
    gram = gram_matrix(residuals)
    with np.errstate(all="ignore"):
        products = moves @ gram[:-1, :-1] @ moves.T
        changes = moves @ (gram[:-1, :-1] - gram[:-1, 1:])
        scale = 1 / np.sqrt(np.diag(products))
        products = products * scale * scale[:, None]
        changes = changes * scale * scale[:, None]
    if not (np.isfinite(products).all() and np.isfinite(changes).all()):
        return np.zeros(0, dtype=np.complex128)
    sizes, basis = np.linalg.eigh((products + products.T) / 2)
    kept = sizes > INDEPENDENT * sizes[-1]
    basis = basis[:, kept] / np.sqrt(sizes[kept])
    values = np.linalg.eigvals(basis.T @ changes @ basis)
    return values[np.argsort(values.real)].astype(np.complex128)
