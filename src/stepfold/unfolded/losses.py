"""What training minimises: the mean squared error of the last layer, on drawn problems.

`SampledLoss` runs the network on problems as they come. For gradient descent on a quadratic with
isotropic errors, `SpectralLoss` is the same random variable computed in the eigenbasis: of a batch
of errors only the mean square of each coordinate matters, a χ² number per eigenvalue, so that one
evaluation costs T·n operations instead of T products with the matrix for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_count, check_matrix
from stepfold.iterations import GradientDescent
from stepfold.measure import SpectralMeasure
from stepfold.problems import LeastSquares, Problem
from stepfold.spectrum import Gram, exact_eigenvalues
from stepfold.unfolded.module import UnfoldedIteration

Sampler = Callable[[np.random.Generator], tuple[Problem[Any], Tensor]]
"""Draws a problem (or a batch of them) and its solution, of shape (n,) or (batch, n)."""


class Loss(Protocol):
    """Something that training can minimise."""

    @property
    def measure(self) -> SpectralMeasure | None:
        """Distribution of the error over the eigenvalues, where there is one and it is known.

        With it training reports exact mean squared errors and spectral radii.
        """

    def __call__(
        self, network: UnfoldedIteration, num_layers: int, rng: np.random.Generator
    ) -> Tensor:
        """Loss of the first ``num_layers`` layers on fresh random data, a scalar tensor."""


class SampledLoss:
    """Mean squared error of the network's output on problems drawn by a sampler.

    Args:
        sampler: Draws a problem and its solution; the network starts from 0.
        measure: Distribution of the error over the eigenvalues, if known; for reports only.
    """

    def __init__(self, sampler: Sampler, measure: SpectralMeasure | None = None) -> None:
        self._sampler = sampler
        self.measure = measure

    def __call__(
        self, network: UnfoldedIteration, num_layers: int, rng: np.random.Generator
    ) -> Tensor:
        """Mean of the squared differences over batch and coordinates."""
        problem, target = self._sampler(rng)
        try:
            output = network(problem, torch.zeros_like(target), num_layers=num_layers)
        except RuntimeError:
            _check_shape(target, problem.linear_term)  # torch would speak of its own arguments
            raise
        _check_shape(target, output)
        difference: Tensor = output - target
        return (difference * difference).mean()


def _check_shape(target: Tensor, expected: Any) -> None:
    if target.shape != expected.shape:
        raise ValueError(
            "the sampler must yield solutions of the shape that its problem has, "
            f"{tuple(expected.shape)}, got {tuple(target.shape)}"
        )


class GaussianLeastSquares:
    """Sampler of the published experiment: ``y = Hx`` with x ~ N(0, I), fresh for every batch.

    Args:
        operator: H, of shape (m, n), as a NumPy array.
        batch_size: Problems in a batch.
        dtype: Floating-point type of the tensors.

    >>> sampler = GaussianLeastSquares(np.eye(3), batch_size=2)
    >>> problem, target = sampler(np.random.default_rng(0))
    >>> problem.gradient(target).abs().max().item(), tuple(target.shape)
    (0.0, (2, 3))
    """

    def __init__(
        self, operator: Any, *, batch_size: int = 200, dtype: torch.dtype = torch.float32
    ) -> None:
        self._operator = check_matrix("operator", operator)
        if not isinstance(self._operator, np.ndarray):
            raise TypeError(
                f"`operator` must be a NumPy array, got {type(operator).__name__}; write a sampler "
                "of your own for other operators"
            )
        self._matrix = torch.tensor(self._operator, dtype=dtype)
        self._batch_size = check_count("batch_size", batch_size)

    @property
    def measure(self) -> SpectralMeasure:
        """Equal weight on the eigenvalues of ``HᵀH``."""
        return SpectralMeasure.from_eigenvalues(exact_eigenvalues(Gram(self._operator)))

    def __call__(self, rng: np.random.Generator) -> tuple[LeastSquares[Any], Tensor]:
        """A batch of problems that share H, and their solutions, shape (batch, n)."""
        shape = (self._batch_size, self._matrix.shape[1])
        solutions = torch.from_numpy(rng.standard_normal(shape)).to(self._matrix.dtype)
        return LeastSquares(self._matrix, solutions @ self._matrix.T), solutions


class SpectralLoss:
    """Mean squared error of gradient descent on a quadratic, drawn in the eigenbasis.

    Distributed exactly as the loss that a batch of ``batch_size`` problems with independent normal
    errors gives; no products with the matrix.

    Args:
        measure: Eigenvalues, and how the error's variance is spread over them.
        batch_size: Size of the batch whose average is drawn.
    """

    def __init__(self, measure: SpectralMeasure, *, batch_size: int = 200) -> None:
        self.measure = measure
        self._batch_size = check_count("batch_size", batch_size)
        self._eigenvalues = torch.tensor(measure.nodes.tolist(), dtype=torch.float64)

    def __call__(
        self, network: UnfoldedIteration, num_layers: int, rng: np.random.Generator
    ) -> Tensor:
        """Weighted mean of ``p(λ)²`` with χ² weights of as many degrees as the batch is large."""
        squares = rng.chisquare(self._batch_size, self.measure.nodes.size) / self._batch_size
        return self.given(network, num_layers, self.measure.weights * squares)

    def given(self, network: UnfoldedIteration, num_layers: int, squares: Any) -> Tensor:
        """Loss for given mean squares of the initial error along each eigenvector, shape (n,)."""
        if not isinstance(network.iteration, GradientDescent):
            raise TypeError(
                "`SpectralLoss` knows the residual polynomial of gradient descent only, got "
                f"{type(network.iteration).__name__}; use `SampledLoss`"
            )
        gammas = network.steps[:num_layers]
        weights = torch.tensor(squares, dtype=torch.float64)
        if weights.shape != self._eigenvalues.shape:
            raise ValueError(
                f"`squares` must have shape {tuple(self._eigenvalues.shape)}, one for each "
                f"eigenvalue, got {tuple(weights.shape)}"
            )
        residuals = torch.prod(1 - gammas[:, None] * self._eigenvalues, 0)
        return (weights * residuals * residuals).sum()
