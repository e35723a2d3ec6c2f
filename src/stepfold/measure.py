"""How an error is spread over the eigenvalues: nodes and weights that sum to 1.

After T steps with residual polynomial ``p`` the mean squared error is ``∫ p² dμ``. A continuous μ
is kept as its own Gauss quadrature, which integrates every polynomial below twice the number of
nodes exactly; nothing that a schedule shorter than that needs is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._checks import check_count, check_vector
from stepfold._krylov import Tridiagonal, golub_kahan, lanczos
from stepfold._typing import FloatArray
from stepfold.spectrum import SpectralBounds


@dataclass(frozen=True, eq=False)
class SpectralMeasure:
    """Probability measure on eigenvalues.

    Args:
        nodes: Eigenvalues at least 0, shape (n,), in units of the Hessian; sorted on the way in.
        weights: Numbers at least 0, shape (n,), not all 0; scaled to sum to 1.
        name: What the measure is, for people to read.

    Raises:
        TypeError: If an array is not real.
        ValueError: If an array is empty, not one-dimensional, not finite or negative somewhere, or
            if the lengths differ.

    >>> SpectralMeasure([3.0, 1.0], [1.0, 3.0]).mean([10.0, 20.0])
    12.5
    """

    nodes: FloatArray
    weights: FloatArray
    name: str = "given"

    def __post_init__(self) -> None:
        nodes = check_vector("nodes", self.nodes)
        weights = check_vector("weights", self.weights)
        if nodes.shape != weights.shape:
            raise ValueError(
                "`nodes` and `weights` must have the same length, "
                f"got {nodes.size} nodes and {weights.size} weights"
            )
        for label, values in (("nodes", nodes), ("weights", weights)):
            if values.min() < 0:
                raise ValueError(f"`{label}` must be at least 0, got {values.min()}")
        if weights.max() == 0:
            raise ValueError("`weights` must not all be 0; give at least one positive weight")
        order = np.argsort(nodes, kind="stable")
        weights = weights[order] / weights.max()
        for field, values in (("nodes", nodes[order]), ("weights", weights / weights.sum())):
            values.flags.writeable = False
            object.__setattr__(self, field, values)

    @classmethod
    def from_eigenvalues(cls, eigenvalues: Any) -> SpectralMeasure:
        """Equal weight on each of the given eigenvalues: what a random isotropic error has.

        >>> SpectralMeasure.from_eigenvalues([1.0, 2.0]).weights
        array([0.5, 0.5])
        """
        nodes = check_vector("eigenvalues", eigenvalues)
        return cls(nodes, np.ones(nodes.size), "eigenvalues")

    @classmethod
    def uniform(cls, bounds: SpectralBounds, *, num_nodes: int = 256) -> SpectralMeasure:
        """Constant density on ``bounds``, as a Gauss–Legendre rule of ``num_nodes`` nodes.

        >>> round(SpectralMeasure.uniform(SpectralBounds(1.0, 3.0)).mean(lambda x: x**2), 12)
        4.333333333333
        """
        num_nodes = check_count("num_nodes", num_nodes)
        if bounds.lower == bounds.upper:
            return cls(np.array([bounds.upper]), np.ones(1), "uniform")
        nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
        half_width = (bounds.upper - bounds.lower) / 2
        return cls(bounds.lower + half_width * (1 + nodes), weights, "uniform")

    @classmethod
    def marchenko_pastur(
        cls, ratio: float, *, scale: float = 1.0, num_nodes: int = 256
    ) -> SpectralMeasure:
        """Limiting eigenvalues of ``HᵀH`` for a large H with independent entries.

        H has shape (m, n) with n / m = ``ratio`` and entries of variance ``scale`` / m. The
        support is ``scale`` · [(1 − √ratio)², (1 + √ratio)²]; for ``ratio`` > 1 an atom of weight
        1 − 1/``ratio`` at 0 stands for the kernel of H.

        Args:
            ratio: n / m, positive.
            scale: Mean of the eigenvalues, positive.
            num_nodes: Nodes of the Gauss rule for the continuous part.

        Raises:
            ValueError: If ``ratio`` or ``scale`` is not positive and finite.

        References:
            Marchenko and Pastur (1967). The recurrence coefficients of its orthogonal polynomials
            are constant after the first (free Poisson law): α₀ = 1, αₖ = 1 + r, βₖ = √r.

        >>> measure = SpectralMeasure.marchenko_pastur(0.5)
        >>> round(measure.mean(lambda x: x), 12), round(measure.mean(lambda x: x**2), 12)
        (1.0, 1.5)
        """
        for label, value in (("ratio", ratio), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"`{label}` must be positive and finite, got {value!r}")
        num_nodes = check_count("num_nodes", num_nodes)
        name = f"Marchenko–Pastur, ratio {ratio:g}"
        if ratio > 1:
            # HᵀH has the eigenvalues of HHᵀ, whose ratio is 1/r, and n − m zeros.
            nonzero = cls.marchenko_pastur(1 / ratio, scale=scale * ratio, num_nodes=num_nodes)
            return cls(
                np.append(nonzero.nodes, 0.0),
                np.append(nonzero.weights / ratio, 1 - 1 / ratio),
                name,
            )
        diagonal = np.full(num_nodes, 1 + ratio)
        diagonal[0] = 1.0
        off_diagonal = np.full(num_nodes, math.sqrt(ratio))
        nodes, vectors = Tridiagonal(diagonal, off_diagonal).eigh()
        return cls(scale * nodes, vectors[0] ** 2, name)

    @property
    def bounds(self) -> SpectralBounds:
        """Smallest interval that holds every node of positive weight."""
        support = self.nodes[self.weights > 0]
        return SpectralBounds(support[0], support[-1], method=f"support of: {self.name}")

    def mean(self, values: Any) -> float:
        """Return ``∫ f dμ`` for f given as values at the nodes, shape (n,), or as a function.

        >>> SpectralMeasure.from_eigenvalues([1.0, 3.0]).mean(lambda x: x)
        2.0
        """
        if callable(values):
            values = values(self.nodes)
        return float(self.weights @ np.asarray(values, dtype=np.float64))

    def jacobi(self, num_nodes: int) -> tuple[FloatArray, FloatArray]:
        """Recurrence coefficients of the orthonormal polynomials of μ.

        Returns:
            Diagonal α of shape (k,) and off-diagonal β of shape (k,) of the Jacobi matrix, where
            k ≤ ``num_nodes`` is smaller if μ has fewer distinct nodes; the last β couples to the
            next polynomial and is 0 where there is none.

        References:
            Golub and Meurant, Matrices, Moments and Quadrature with Applications (2010), chapter 4.
        """
        scale = self.nodes[-1] or 1.0
        scaled = self.nodes / scale
        projection = lanczos(lambda v: scaled * v, np.sqrt(self.weights), num_nodes)
        return projection.diagonal * scale, projection.off_diagonal * scale

    def gauss_nodes_of_weighted(self, num_nodes: int) -> FloatArray:
        """Gauss quadrature nodes of ``λ dμ(λ)``, ascending; fewer where μ has fewer nodes above 0.

        They are squared singular values of the bidiagonal matrix that Golub–Kahan makes of √λ, so
        that nodes far below the largest one keep their relative accuracy.
        """
        if self.nodes[-1] == 0:
            return np.empty(0)
        scale = self.nodes[-1]
        root = np.sqrt(self.nodes / scale)
        start = root * np.sqrt(self.weights)
        support = start > 0
        root = root[support]
        projection = golub_kahan(lambda v: root * v, lambda u: root * u, start[support], num_nodes)
        nodes: FloatArray = scale * projection.svd()[1] ** 2
        return nodes

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain Python values, ready for JSON."""
        return {"name": self.name, "nodes": self.nodes.tolist(), "weights": self.weights.tolist()}
