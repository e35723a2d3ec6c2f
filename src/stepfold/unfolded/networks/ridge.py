"""DU-ridge: noisy least squares with a trained ridge term in every layer.

``y = Hx + w``, target x. A layer is ``x ← x − γₜ(Hᵀ(Hx − y) + ξₜx)``. With all ξ equal to η, the
variance of w over that of x, and the steps of `noise_aware_ridge`, no T gradients do better.
Training runs in the eigenbasis of ``HᵀH``: with normal x and w that is the same random problem,
without products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_array, check_count, check_depth, check_nonnegative, check_vector
from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.measure.base import check_measure
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded.losses import SampledLoss, measure_of
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, Task
from stepfold.unfolded.networks.dugd import dugd
from stepfold.unfolded.parameters import Trainable
from stepfold.unfolded.samplers import Sample


class Seen(NamedTuple):
    """Noisy data in the eigenbasis: ``seen = singular·x + w``."""

    singular: Tensor
    """Square roots of the eigenvalues, shape (n,)."""
    seen: Tensor
    """Shape (batch, n)."""


class NoisyCoordinates:
    """Sampler of noisy least squares in its eigenbasis; x ~ N(0, I).

    Args:
        measure: Eigenvalues of ``HᵀH``, equally weighted.
        noise: η, variance of an entry of w.
        batch_size: Problems in a batch.
    """

    def __init__(
        self, measure: SpectralMeasure, *, noise: float = 0.1, batch_size: int = 200
    ) -> None:
        if not 0 < noise < np.inf:
            raise ValueError(f"`noise` must be positive and finite, got {noise!r}")
        self.measure = measure
        self.noise = noise
        self._batch_size = check_count("batch_size", batch_size)
        self._singular = torch.from_numpy(np.sqrt(measure.nodes))

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of problems, and their x, shape (batch, n)."""
        shape = (self._batch_size, len(self._singular))
        target = torch.from_numpy(rng.standard_normal(shape))
        noise = torch.from_numpy(rng.standard_normal(shape))
        seen = self._singular * target + self.noise**0.5 * noise
        return Sample(Seen(self._singular, seen), target)


def _ridge_layer(x: Tensor, params: LayerParameters, data: Seen) -> Tensor:
    gradient = data.singular * (data.singular * x - data.seen) + params.ridge * x
    stepped: Tensor = x - params.step * gradient
    return stepped


def ridge_error(steps: Any, ridges: Any, measure: SpectralMeasure, noise: float) -> float:
    """Mean squared error of layers with these steps and ridge terms, relative to ``E‖x‖²``; exact.

    Raises:
        ValueError: If there is neither one ridge term nor one for each step.

    >>> measure = SpectralMeasure([1.0], [1.0])
    >>> round(ridge_error([0.5], [1.0], measure, 1.0), 12)  # the Wiener filter
    0.5
    """
    eigenvalues: FloatArray = check_measure(measure).nodes
    steps, ridges = check_vector("steps", steps), check_array("ridges", ridges)
    if ridges.shape not in ((), (1,), steps.shape):
        raise ValueError(
            f"`ridges` must be a number, or one for each of {steps.size} steps, got shape "
            f"{ridges.shape}"
        )
    check_nonnegative("noise", noise)
    filters = np.zeros_like(eigenvalues)  # the iterate is filters·√λ·seen
    for step, ridge in zip(steps, np.broadcast_to(ridges, steps.shape), strict=True):
        filters = filters - step * ((eigenvalues + ridge) * filters - 1)
    bias = measure.mean((1 - eigenvalues * filters) ** 2)
    return bias + noise * measure.mean(eigenvalues * filters**2)


@NETWORKS.register("du_ridge")
def du_ridge(
    *,
    num_layers: int = 8,
    initial_step: float = 0.3,
    initial_ridge: float = 0.01,
    noise: float = 0.1,
    batch_size: int = 200,
    shared_ridge: bool = True,
    matrix: FloatArray | None = None,
    matrix_seed: int = 12,
) -> Task:
    """Gradient descent on noisy data with trained steps and a trained ridge term.

    Args:
        num_layers: T.
        initial_step: Step of every layer before training, in units of 1 / Hessian.
        initial_ridge: Ridge term before training, at least 0.
        noise: η, variance of the data's noise over that of the unknowns.
        batch_size: Problems in a mini-batch.
        shared_ridge: Whether one ridge term serves all layers.
        matrix: H, of shape (m, n); a Gaussian one of shape (600, 300) if not given.
        matrix_seed: Seed of that matrix; 12 is that of the published noiseless experiment.

    >>> du_ridge(num_layers=3, matrix=np.eye(4)).network.learned()
    {'ridge': array([0.01])}
    """
    check_nonnegative("initial_ridge", initial_ridge)
    measure = measure_of(dugd(num_layers=1, matrix=matrix, matrix_seed=matrix_seed).loss)
    assert measure is not None, "the loss of `dugd` knows its measure"  # noqa: S101
    steps = np.full(check_depth(num_layers), initial_step)
    network = UnfoldedIteration(
        Schedule(steps),
        iteration=_ridge_layer,
        parameters={"ridge": Trainable(initial_ridge, period=1 if shared_ridge else None)},
    )
    sampler = NoisyCoordinates(measure, noise=noise, batch_size=batch_size)
    return Task(
        network,
        SampledLoss(sampler),
        evaluate=lambda network: {
            "mean squared error": ridge_error(
                network.schedule().steps,
                network.learned()["ridge"],
                measure,
                noise,
            )
        },
    )
