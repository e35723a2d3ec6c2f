"""TISTA: a linear step with the pseudo-inverse, then the mean of x given what the step saw.

``r = x + γₜ W(y − Ax)``, ``W = Aᵀ(AAᵀ)⁻¹``, ``x⁺ = E[X | X + N(0, τ²) = r]`` for the
Bernoulli–Gaussian prior. The error of r is taken as white of variance τ², which follows from the
residual: that of x has variance ``v² = (‖y − Ax‖² − mσ²)/tr AᵀA`` an entry, and that of r

    τ² = v² (n + (γ² − 2γ) m)/n + γ² σ² tr(WWᵀ)/n.

Only the T steps γₜ are trained.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_count, check_depth, check_instance, check_real, check_share
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, Task, TrainingSettings
from stepfold.unfolded.networks.sparse_signals import SparseSignals, recovery

# As published. The estimate of v² is a difference: after the last layer it is below this for six
# signals in ten.
LEAST_VARIANCE = 1e-9


def posterior_mean(values: Tensor, variance: Any, *, density: float) -> Tensor:
    """Mean of x given ``x + noise``, where x is 0, or standard normal with probability ``density``.

    Args:
        values: x with its noise, of any shape.
        variance: Of the noise, positive; a tensor that broadcasts against ``values``.
        density: Probability of a non-zero.

    Returns:
        ``values / (1 + variance)`` times the probability of a non-zero given ``values``. That is
        computed from log-odds, which neither overflow nor become 0/0 for large values.

    Raises:
        ValueError: If ``density`` is not between 0 and 1, or ``variance`` does not broadcast.

    References:
        Ito, Takabe and Wadayama, Trainable ISTA for Sparse Signal Recovery (arXiv:1801.01978), on
        the MMSE estimator for the Bernoulli–Gaussian prior.

    >>> posterior_mean(torch.tensor([100.0]), torch.tensor(1e-4), density=0.1).round(decimals=2)
    tensor([99.9900])
    """
    check_instance("values", values, Tensor, "make one by `torch.tensor(...)`")
    check_share("density", density)
    if not isinstance(variance, Tensor):
        variance = torch.tensor(float(check_real("variance", variance)), dtype=values.dtype)
    if variance.ndim > values.ndim or any(
        own not in (1, whole)
        for own, whole in zip(variance.shape[::-1], values.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"`variance` must broadcast against `values`, {tuple(values.shape)}, got shape "
            f"{tuple(variance.shape)}"
        )
    total = 1 + variance
    prior = 0.5 * torch.log(variance / total) + math.log(density / (1 - density))
    log_odds = torch.addcmul(prior, values * values, 0.5 / (variance * total))
    mean: Tensor = values / total * torch.sigmoid(log_odds)
    return mean


class TistaStep:
    """One layer, for `UnfoldedIteration`.

    Args:
        signals: A, the noise variance and the density, all known to the network.

    >>> from stepfold.unfolded.networks.sparse_signals import SparseSignals
    >>> callable(TistaStep(SparseSignals(20, 10, batch_size=4)))
    True
    """

    def __init__(self, signals: SparseSignals) -> None:
        exact = signals.matrix.double()
        inverse = torch.linalg.pinv(exact)
        self._backward = inverse.T.to(signals.matrix.dtype).contiguous()
        self._trace = float((exact * exact).sum())
        self._inverse_trace = float((inverse * inverse).sum())
        self._noise_variance = signals.noise_variance
        self._density = signals.density

    def __call__(self, x: Tensor, params: LayerParameters, problem: Any) -> Tensor:
        """x⁺ for a batch."""
        gamma = params.step
        self._backward = self._backward.to(x.device)
        residual = problem.rhs - x @ problem.operator.T
        moved = x + gamma * (residual @ self._backward)
        return posterior_mean(
            moved, self.variance(residual, gamma, x.shape[-1]), density=self._density
        )

    def variance(self, residual: Tensor, gamma: Tensor, num_unknowns: int) -> Tensor:
        """τ² for each row of the batch, shape (batch, 1)."""
        num_rows = residual.shape[-1]
        squares = (residual * residual).sum(-1, keepdim=True) - num_rows * self._noise_variance
        error = (squares / self._trace).clamp(min=LEAST_VARIANCE)
        kept = num_unknowns + (gamma * gamma - 2 * gamma) * num_rows
        noise = gamma * gamma * (self._noise_variance * self._inverse_trace)
        return (error * kept + noise) / num_unknowns


@NETWORKS.register("tista")
def tista(
    *,
    num_layers: int = 12,
    num_unknowns: int = 500,
    num_rows: int = 250,
    density: float = 0.1,
    snr: float = 40.0,
    batch_size: int = 1000,
    matrix_seed: int = 0,
) -> Task:
    """Trainable ISTA: posterior means of sparse signals, one trained step a layer.

    Args:
        num_layers: T.
        num_unknowns: n, entries of a signal.
        num_rows: m, products seen of it, at most n.
        density: Probability of a non-zero.
        snr: Signal-to-noise ratio in dB.
        batch_size: Signals in a mini-batch.
        matrix_seed: Seed of the matrix.

    >>> task = tista(num_layers=2, num_unknowns=8, num_rows=4, batch_size=2)
    >>> task.network.steps.tolist()
    [1.0, 1.0]
    """
    if check_count("num_rows", num_rows) > num_unknowns:
        raise ValueError(
            f"`num_rows` must be at most `num_unknowns`, {num_unknowns}, got {num_rows}: the "
            "pseudo-inverse is that of a wide matrix"
        )
    signals = SparseSignals(
        num_unknowns,
        num_rows,
        density=density,
        snr=snr,
        batch_size=batch_size,
        matrix_seed=matrix_seed,
    )
    steps = Schedule(np.ones(check_depth(num_layers)))
    return Task(
        UnfoldedIteration(steps, iteration=TistaStep(signals), dtype=torch.float32),
        SampledLoss(signals),
        TrainingSettings(num_iterations=200, learning_rate=0.04),
        evaluate=lambda network: recovery(network, signals),
    )
