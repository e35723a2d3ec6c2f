"""ISTA with learned steps and thresholds, and LISTA, which learns its matrices as well.

ISTA for ``½‖Ax − y‖² + μ‖x‖₁`` is ``x ← soft(x + γ Aᵀ(y − Ax), γμ)``. Learned ISTA trains a step
and a threshold for each layer; LISTA is ``x ← soft(x + γₜ(By − Sx), θₜ)``, where the matrices B
and S, which all layers share, are trained too, from B = Aᵀ and S = AᵀA.

References:
    Gregor and LeCun, Learning fast approximations of sparse coding (ICML 2010), on LISTA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_depth
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import LayerParameters, Step
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, Task, TrainingSettings
from stepfold.unfolded.networks.sparse_signals import (
    SparseSignals,
    lipschitz_constant,
    recovery,
    soft_threshold,
)
from stepfold.unfolded.parameters import Trainable

LONGEST_GRADIENT = 1e-3
"""Of the mean squared error; longer gradients are shortened to this."""


def _thresholded_gradient(x: Tensor, params: LayerParameters, problem: Any) -> Tensor:
    return soft_threshold(problem.gradient_step(x, params.step), params.threshold)


def _learned_matrices(x: Tensor, params: LayerParameters, problem: Any) -> Tensor:
    pulled = problem.rhs @ params.forward_matrix.T - x @ params.square_matrix.T
    return soft_threshold(x + params.step * pulled, params.threshold)


@NETWORKS.register("learned_ista")
def learned_ista(
    *,
    num_layers: int = 16,
    num_unknowns: int = 128,
    num_rows: int = 64,
    density: float = 0.05,
    snr: float = 28.0,
    batch_size: int = 200,
    matrix_seed: int = 0,
    weight: float = 0.1,
) -> Task:
    """ISTA with a trained step and a trained threshold in every layer.

    Args:
        num_layers: T.
        num_unknowns: n, entries of a signal.
        num_rows: m, products seen of it.
        density: Probability of a non-zero.
        snr: Signal-to-noise ratio in dB.
        batch_size: Signals in a mini-batch.
        matrix_seed: Seed of the matrix.
        weight: μ of the ISTA that training starts from.

    >>> task = learned_ista(num_layers=2, num_unknowns=8, num_rows=4, batch_size=2)
    >>> sorted(task.network.learned())
    ['threshold']
    """
    signals = SparseSignals(
        num_unknowns,
        num_rows,
        density=density,
        snr=snr,
        batch_size=batch_size,
        matrix_seed=matrix_seed,
    )
    return _from_ista(signals, num_layers, weight, _thresholded_gradient, learning_rate=0.01)


@NETWORKS.register("lista")
def lista(
    *,
    num_layers: int = 16,
    num_unknowns: int = 128,
    num_rows: int = 64,
    density: float = 0.05,
    snr: float = 28.0,
    batch_size: int = 200,
    matrix_seed: int = 0,
    weight: float = 0.1,
) -> Task:
    """ISTA with trained steps and thresholds, and matrices that are trained with them.

    Args:
        num_layers: T.
        num_unknowns: n, entries of a signal.
        num_rows: m, products seen of it.
        density: Probability of a non-zero.
        snr: Signal-to-noise ratio in dB.
        batch_size: Signals in a mini-batch.
        matrix_seed: Seed of the matrix.
        weight: μ of the ISTA that training starts from.

    >>> task = lista(num_layers=2, num_unknowns=8, num_rows=4, batch_size=2)
    >>> task.network.values("square_matrix").shape
    torch.Size([1, 8, 8])
    """
    signals = SparseSignals(
        num_unknowns,
        num_rows,
        density=density,
        snr=snr,
        batch_size=batch_size,
        matrix_seed=matrix_seed,
    )
    matrices = {
        "forward_matrix": Trainable(signals.matrix.T, period=1, constraint=None),
        "square_matrix": Trainable(signals.matrix.T @ signals.matrix, period=1, constraint=None),
    }
    return _from_ista(
        signals, num_layers, weight, _learned_matrices, learning_rate=0.002, parameters=matrices
    )


def _from_ista(
    signals: SparseSignals,
    num_layers: int,
    weight: float,
    layer: Step,
    *,
    learning_rate: float,
    parameters: Mapping[str, Trainable] | None = None,
) -> Task:
    """Layers with the step and the threshold of ISTA, to be trained on these signals."""
    step = 1 / lipschitz_constant(signals.matrix)
    network = UnfoldedIteration(
        Schedule(np.full(check_depth(num_layers), step)),
        iteration=layer,
        parameters={"threshold": step * weight, **(parameters or {})},
        dtype=torch.float32,
    )
    return Task(
        network,
        SampledLoss(signals),
        TrainingSettings(
            num_iterations=200, learning_rate=learning_rate, clip_norm=LONGEST_GRADIENT
        ),
        evaluate=lambda network: recovery(network, signals),
    )
