"""Sparse signals seen through a random matrix: the data of learned ISTA, LISTA and TISTA.

``y = Ax + w``: an entry of x is 0, or normal of variance 1 with probability ``density``; the
entries of A have variance 1/m; the noise is such that ``E‖Ax‖²/E‖w‖²`` is the signal-to-noise
ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_real, check_seed, check_share, check_size
from stepfold.problems import LeastSquares
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.samplers import Sample


class SparseSignals:
    """Sampler of signals and what is seen of them.

    Args:
        num_unknowns: n, entries of x.
        num_rows: m, entries of y.
        density: Probability of a non-zero.
        snr: Signal-to-noise ratio in dB.
        batch_size: Signals in a batch.
        matrix_seed: Seed of A.

    Attributes:
        matrix: A, tensor of shape (m, n), float32.
        noise_variance: Variance of an entry of w. It follows from the trace of ``AᵀA``; nothing is
            estimated from draws.

    Raises:
        ValueError: If a count is not positive, or ``density`` is not between 0 and 1.

    >>> signals = SparseSignals(8, 4, density=0.5, batch_size=2)
    >>> problem, target, _ = signals(np.random.default_rng(0))
    >>> tuple(target.shape), tuple(problem.rhs.shape)
    ((2, 8), (2, 4))
    """

    def __init__(
        self,
        num_unknowns: int = 500,
        num_rows: int = 250,
        *,
        density: float = 0.1,
        snr: float = 40.0,
        batch_size: int = 1000,
        matrix_seed: int = 0,
    ) -> None:
        shape = check_size("num_rows", num_rows), check_size("num_unknowns", num_unknowns)
        check_share("density", density)
        if not abs(check_real("snr", snr)) <= 300:
            raise ValueError(f"`snr` must be a finite number of dB, at most 300, got {snr!r}")
        entries = np.random.default_rng(check_seed("matrix_seed", matrix_seed)).standard_normal(
            shape
        ) / math.sqrt(num_rows)
        self.density = density
        self.batch_size = check_size("batch_size", batch_size)
        self.matrix = torch.from_numpy(entries.astype(np.float32))
        power = density * float((entries * entries).sum()) / num_rows
        self.noise_variance = power / 10 ** (snr / 10)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of problems that share A, and the signals, shape (batch, n)."""
        num_rows, num_unknowns = self.matrix.shape
        shape = (self.batch_size, num_unknowns)
        present = rng.random(shape, dtype=np.float32) < self.density
        signals = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * present)
        noise = torch.from_numpy(rng.standard_normal((self.batch_size, num_rows), dtype=np.float32))
        seen = signals @ self.matrix.T + math.sqrt(self.noise_variance) * noise
        problem: LeastSquares[Any] = LeastSquares(self.matrix, seen)
        return Sample(problem, signals)


def recovery(network: UnfoldedIteration, signals: SparseSignals) -> Mapping[str, float]:
    """Normalised mean squared error on one batch that training does not see."""
    problem, target, _ = signals(np.random.default_rng([2**32, 0]))
    with torch.no_grad():
        output = network(problem, torch.zeros_like(target))
    return {"NMSE in dB": normalised_error(output, target)}


def lipschitz_constant(matrix: Tensor) -> float:
    """Largest eigenvalue of ``AᵀA``, the Lipschitz constant of a least-squares gradient.

    >>> round(lipschitz_constant(torch.diag(torch.tensor([3.0, 2.0]))), 6)
    9.0
    """
    return float(np.linalg.norm(matrix.double().numpy(), 2)) ** 2


def normalised_error(output: Tensor, target: Tensor) -> float:
    """``Σ‖output − target‖²/Σ‖target‖²`` over a batch, in dB.

    The mean of the ratios of single signals, which is published for TISTA, has no expectation where
    a signal may have one non-zero only, for that may be as small as it likes.

    >>> round(normalised_error(torch.tensor([[1.1, 0.0]]), torch.tensor([[1.0, 0.0]])), 3)
    -20.0
    """
    error = ((output - target) ** 2).double().sum()
    return 10 * math.log10(float(error / (target**2).double().sum()))


def soft_threshold(values: Tensor, threshold: Any) -> Tensor:
    """``values`` moved towards 0 by ``threshold``, and no further than 0.

    >>> soft_threshold(torch.tensor([3.0, -0.5]), 1.0).tolist()
    [2.0, 0.0]
    """
    return values - torch.clamp(values, -threshold, threshold)
