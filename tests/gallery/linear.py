"""Linear systems: Jacobi, symmetric Gauss–Seidel, and Landweber's iteration on a blurred picture.

References:
    Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
    (arXiv:2001.03280), the setting of `jacobi`. Landweber, An iteration formula for Fredholm
    integral equations of the first kind (Amer. J. Math. 73, 1951).
"""

from __future__ import annotations

import numpy as np

from gallery.base import GALLERY, GalleryMap
from stepfold._typing import FloatArray
from stepfold.problems.splittings import gauss_seidel, jacobi_iteration


@GALLERY.register("jacobi")
def jacobi(rng: np.random.Generator) -> GalleryMap:
    """Jacobi's iteration for ``(I + MᵀM)x = b``, n = 512, entries of M from N(0, 0.03²)."""
    factor = 0.03 * rng.standard_normal((512, 512))
    matrix = np.eye(512) + factor.T @ factor
    solution = rng.standard_normal(512)
    return GalleryMap(jacobi_iteration(matrix, matrix @ solution).map, np.zeros(512), solution)


@GALLERY.register("symmetric_gauss_seidel")
def symmetric_gauss_seidel(rng: np.random.Generator) -> GalleryMap:
    """Symmetric Gauss–Seidel for Poisson's equation on a grid of 30 × 30 points (CSR)."""
    import scipy.sparse

    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(30, 30))
    one = scipy.sparse.eye_array(30)
    matrix = scipy.sparse.csr_array(scipy.sparse.kron(line, one) + scipy.sparse.kron(one, line))
    solution = rng.standard_normal(900)
    problem = gauss_seidel(matrix, matrix @ solution, symmetric=True)
    return GalleryMap(problem.map, np.zeros(900), solution)


@GALLERY.register("landweber")
def landweber_deblurring(rng: np.random.Generator) -> GalleryMap:
    """A noisy picture of 64 × 64, blurred by a periodic Gaussian; ridge 5e-3, step 1.

    ``x ← x + K(b − Kx) − μx`` on the picture itself; the solution divides Fourier coefficients.
    """
    size, width, ridge = 64, 1.5, 5e-3
    blocks = rng.integers(0, 2, (8, 8)).astype(np.float64)
    picture: FloatArray = np.asarray(np.kron(blocks, np.ones((8, 8))), np.float64)
    distance = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.exp(-(distance**2) / (2 * width**2))
    transform = np.fft.fft(kernel / kernel.sum()).real
    transfer = transform[:, None] * transform[None, : size // 2 + 1]

    def filtered(x: FloatArray, factors: FloatArray) -> FloatArray:
        answer: FloatArray = np.fft.irfft2(factors * np.fft.rfft2(x), s=(size, size))
        return answer

    blurred = filtered(picture, transfer) + 0.01 * rng.standard_normal((size, size))
    data = filtered(blurred, transfer)
    solution = filtered(data, 1 / (transfer**2 + ridge))

    def improve(x: FloatArray) -> FloatArray:
        return x + data - filtered(x, transfer**2 + ridge)

    return GalleryMap(improve, np.zeros((size, size)), solution)
