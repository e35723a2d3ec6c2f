"""Linear fixed points with trained relaxation: Jacobi's iteration, and consensus on a graph.

``x ← x + ωₜ(f(x) − x)``. For Jacobi ``f(x) = x − D⁻¹(Px − q)`` and T factors are used in turn. For
consensus ``x ← x − ηₜLx``, L the Laplacian of a graph: every node moves towards its neighbours, and
all end at the mean of the start. Chebyshev steps of the spectrum (for L that above 0) are the
reference.

References:
    Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
    (arXiv:2001.03280); Zachary, An information flow model for conflict and fission in small groups
    (J. Anthropological Research 33, 1977), on the karate club.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_depth, check_seed, check_size
from stepfold._typing import FloatArray
from stepfold.iterations import Relaxation
from stepfold.measure import SpectralMeasure
from stepfold.problems.fixed_point import FixedPoint
from stepfold.schedules import Schedule, chebyshev_steps, constant_steps
from stepfold.spectrum import SpectralBounds
from stepfold.unfolded.losses import SampledLoss, SpectralLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import FROM_THEORY, NETWORKS, Task, TrainingSettings
from stepfold.unfolded.samplers import Sample

# Member i and those acquainted with i that have a larger number: 78 pairs.
KARATE_CLUB = {
    0: "1 2 3 4 5 6 7 8 10 11 12 13 17 19 21 31",
    1: "2 3 7 13 17 19 21 30",
    2: "3 7 8 9 13 27 28 32",
    3: "7 12 13",
    4: "6 10",
    5: "6 10 16",
    6: "16",
    8: "30 32 33",
    9: "33",
    13: "33",
    14: "32 33",
    15: "32 33",
    18: "32 33",
    19: "33",
    20: "32 33",
    22: "32 33",
    23: "25 27 29 32 33",
    24: "25 27 31",
    25: "31",
    26: "29 33",
    27: "33",
    28: "31 33",
    29: "32 33",
    30: "32 33",
    31: "32 33",
    32: "33",
}


def karate_club_laplacian() -> FloatArray:
    """Laplacian of Zachary's karate club, 34 members and 78 friendships, shape (34, 34).

    >>> laplacian = karate_club_laplacian()
    >>> int(np.trace(laplacian)) // 2, float(abs(laplacian.sum(0)).max())
    (78, 0.0)
    """
    adjacency = np.zeros((34, 34))
    for node, text in KARATE_CLUB.items():
        others = [int(word) for word in text.split()]
        adjacency[node, others] = adjacency[others, node] = 1.0
    return np.diag(adjacency.sum(0)) - adjacency


@dataclass(frozen=True, eq=False)
class Sweep:
    """Jacobi's map for a batch, ``x − (D⁻¹Px − D⁻¹q)``.

    Args:
        scaled: ``D⁻¹P``.
        rhs: ``D⁻¹q``, shape (batch, n).
    """

    scaled: Tensor
    rhs: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The next x, shape (batch, n)."""
        return x - (x @ self.scaled.T - self.rhs)


class JacobiSystems:
    """Sampler of ``Px = q`` as fixed points of Jacobi's iteration, q ~ N(0, I).

    Args:
        num_unknowns: n; ``P = 0.15 I + MᵀM`` with entries of M of standard deviation 0.05.
        batch_size: Systems in a batch.
        matrix_seed: Seed of M.

    Attributes:
        matrix: P, shape (n, n).
        eigenvalues: Those of ``D⁻¹P``, D the diagonal of P, in ascending order.
        bounds: Their ends.

    >>> JacobiSystems(4, batch_size=2).matrix.shape
    (4, 4)
    """

    def __init__(
        self, num_unknowns: int = 32, *, batch_size: int = 100, matrix_seed: int = 0
    ) -> None:
        size = check_size("num_unknowns", num_unknowns)
        factor = 0.05 * np.random.default_rng(
            check_seed("matrix_seed", matrix_seed)
        ).standard_normal((size, size))
        self.matrix: FloatArray = 0.15 * np.eye(size) + factor.T @ factor
        root = np.sqrt(np.diag(self.matrix))
        # D⁻¹P is similar to D^(−½)PD^(−½), which is symmetric.
        self.eigenvalues = np.linalg.eigvalsh(self.matrix / np.outer(root, root))
        self.bounds = SpectralBounds(float(self.eigenvalues[0]), float(self.eigenvalues[-1]))
        self._batch_size = check_size("batch_size", batch_size)
        self._scaled = torch.from_numpy(self.matrix / np.diag(self.matrix)[:, None])
        self._inverse_diagonal = torch.from_numpy(1 / np.diag(self.matrix))
        self._inverse = torch.from_numpy(np.linalg.inv(self.matrix))

    def mean_squared_error(self, factors: FloatArray) -> float:
        """Mean squared error after these factors, from 0, over that of the start: exact.

        Over q ~ N(0, I) it is ``‖p(D⁻¹P) P⁻¹‖²/‖P⁻¹‖²`` in the Frobenius norm.
        """
        errors = start = self._inverse.numpy()
        for factor in factors:
            errors = errors - factor * (self._scaled.numpy() @ errors)
        return float((errors**2).sum() / (start**2).sum())

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of systems, and their solutions, shape (batch, n)."""
        size = len(self._scaled)
        rhs = torch.from_numpy(rng.standard_normal((self._batch_size, size)))
        sweep = Sweep(self._scaled, rhs * self._inverse_diagonal)
        return Sample(FixedPoint(sweep), rhs @ self._inverse)


@NETWORKS.register("learned_sor")
def learned_sor(
    *,
    num_factors: int = 8,
    num_layers: int = 16,
    num_unknowns: int = 32,
    batch_size: int = 100,
    matrix_seed: int = 0,
    from_theory: bool = False,
) -> Task:
    """Jacobi's iteration with trained relaxation factors, used in turn.

    Args:
        num_factors: T, factors in a period.
        num_layers: Iterations in training.
        num_unknowns: n.
        batch_size: Systems in a mini-batch.
        matrix_seed: Seed of the matrix.
        from_theory: Whether training starts from Chebyshev's factors and trains all iterations at
            once on the logarithm of the error, at a rate that falls; else, as published, it goes
            from factors of 1 and iteration by iteration on the squared error.

    >>> learned_sor(num_factors=2, num_layers=4).network.steps.tolist()
    [1.0, 1.0]
    """
    systems = JacobiSystems(num_unknowns, batch_size=batch_size, matrix_seed=matrix_seed)
    factors = Schedule(np.ones(check_size("num_factors", num_factors)))
    training = TrainingSettings(num_iterations=50, learning_rate=0.01)
    if from_theory:
        factors, training = chebyshev_steps(systems.bounds, num_factors), FROM_THEORY
    network = UnfoldedIteration(factors, iteration=Relaxation(), num_layers=num_layers)
    sampler: Any = systems
    return Task(network, SampledLoss(sampler), training)


@NETWORKS.register("consensus")
def consensus(*, num_layers: int = 16, batch_size: int = 200, from_theory: bool = False) -> Task:
    """Consensus on the karate club with trained steps.

    What is left of a normal start after T rounds is the same random variable as the error of
    gradient descent on a quadratic with the non-zero eigenvalues of L, so that is what is trained.

    Args:
        num_layers: T, rounds of talking to all neighbours.
        batch_size: Starts in a mini-batch.
        from_theory: As for `learned_sor`; else it starts from the best constant step.

    >>> consensus(num_layers=2).network.steps.detach().numpy().round(4)
    array([0.1075, 0.1075])
    """
    eigenvalues = np.linalg.eigvalsh(karate_club_laplacian())[1:]
    measure = SpectralMeasure.from_eigenvalues(eigenvalues)
    initial = chebyshev_steps if from_theory else constant_steps
    return Task(
        UnfoldedIteration(initial(measure.bounds, check_depth(num_layers))),
        SpectralLoss(measure, batch_size=batch_size),
        FROM_THEORY if from_theory else TrainingSettings(),
    )
