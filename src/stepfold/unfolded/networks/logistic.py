"""Logistic regressions of many data sets, by the heavy ball with trained steps and momentum.

A task is a data set (A, y) of its own, of one distribution, and is solved by

    ``x ← x − γₜ∇f(x) + βₜ(x − x⁻)``,  ``f(x) = Σ log(1 + exp(−yᵢ aᵢᵀx))/m + ½μ‖x‖²``.

Training sees tasks and learns what they have in common: the steps and the momentum with which T
iterations from 0 end nearest to the solutions.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_count, check_depth, check_positive
from stepfold.iterations import HeavyBall
from stepfold.problems import Problem
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, TOGETHER, Task
from stepfold.unfolded.parameters import Trainable
from stepfold.unfolded.samplers import Sample

_NEWTON_STEPS = 12
"""From 0 they end at a gradient of 1e-15 on tasks of the default distribution."""
_TUNING = 2**32
TRAINING = dataclasses.replace(TOGETHER, final_learning_rate=1e-3)


class LogisticTasks(Problem[Tensor]):
    """A batch of tasks, each with its own data.

    Args:
        data: A, shape (batch, m, n).
        labels: y, each −1 or 1, shape (batch, m).
        ridge: μ.
    """

    def __init__(self, data: Tensor, labels: Tensor, ridge: float) -> None:
        self.data = data
        self.labels = labels
        self.ridge = ridge

    def margins(self, x: Tensor) -> Tensor:
        """``yᵢ aᵢᵀx``, shape (batch, m)."""
        return self.labels * (self.data @ x[..., None])[..., 0]

    def value(self, x: Tensor) -> Tensor:
        """f of each task, shape (batch,)."""
        losses = torch.nn.functional.softplus(-self.margins(x)).mean(-1)
        return losses + self.ridge / 2 * (x * x).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        """∇f, shape (batch, n)."""
        slopes = -self.labels * torch.sigmoid(-self.margins(x)) / self.labels.shape[-1]
        return (slopes[..., None, :] @ self.data)[..., 0, :] + self.ridge * x

    def hessian_at(self, x: Tensor) -> Tensor:
        """∇²f, shape (batch, n, n)."""
        margins = self.margins(x)
        weights = torch.sigmoid(margins) * torch.sigmoid(-margins) / self.labels.shape[-1]
        square = self.data.mT @ (weights[..., None] * self.data)
        return square + self.ridge * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)

    def to(self, dtype: torch.dtype) -> LogisticTasks:
        """The tasks in another precision."""
        return LogisticTasks(self.data.to(dtype), self.labels.to(dtype), self.ridge)


class RandomTasks:
    """Sampler of tasks: normal features of one covariance, labels of a random direction.

    The covariance has eigenvalues in fixed random directions, spaced evenly in their logarithms.
    The features of a task are scaled so that the largest eigenvalue of the Hessian at 0, without
    the ridge term, is 1; a label is 1 with probability ``1/(1 + exp(−aᵀw))``, w normal with
    ``certainty²`` times the identity.

    Args:
        num_unknowns: n.
        num_rows: m, samples of a task.
        spread: Ratio of the smallest to the largest standard deviation of a feature.
        certainty: Standard deviation of an entry of w.
        ridge: μ.
        batch_size: Tasks in a mini-batch.
        dtype: Floating-point type of the tensors; solutions are found in float64.

    >>> sample = RandomTasks(batch_size=3)(np.random.default_rng(0))
    >>> bool(sample.data.gradient(sample.target).norm(dim=-1).max() < 1e-6)
    True
    """

    def __init__(
        self,
        num_unknowns: int = 12,
        num_rows: int = 60,
        *,
        spread: float = 0.2,
        certainty: float = 1.0,
        ridge: float = 0.02,
        batch_size: int = 32,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.num_unknowns = check_count("num_unknowns", num_unknowns)
        self.num_rows = check_count("num_rows", num_rows)
        check_positive("ridge", ridge, "without it a task that is separable has no solution")
        check_positive("spread", spread, "1 makes all features alike")
        check_positive("certainty", certainty, "the larger, the surer the labels")
        self.ridge, self.certainty, self.dtype = ridge, certainty, dtype
        self.batch_size = check_count("batch_size", batch_size)
        square = np.random.default_rng(0).standard_normal((num_unknowns, num_unknowns))
        rotation = np.linalg.qr(square)[0]
        self._root = rotation * np.geomspace(1, spread, num_unknowns)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """Tasks, their solutions of shape (batch, n), and the start 0."""
        shape = (self.batch_size, self.num_rows, self.num_unknowns)
        data = rng.standard_normal(shape) @ self._root.T
        norms = np.linalg.norm(data, 2, axis=(1, 2), keepdims=True)
        data *= 2 * np.sqrt(self.num_rows) / norms
        direction = self.certainty * rng.standard_normal((self.batch_size, self.num_unknowns))
        chance = 1 / (1 + np.exp(-(data @ direction[..., None])[..., 0]))
        labels = np.where(rng.random(chance.shape) < chance, 1.0, -1.0)
        exact = LogisticTasks(torch.from_numpy(data), torch.from_numpy(labels), self.ridge)
        target = solutions(exact)
        return Sample(exact.to(self.dtype), target.to(self.dtype), 0 * target.to(self.dtype))


def solutions(tasks: LogisticTasks) -> Tensor:
    """Minimisers by Newton's method from 0, shape (batch, n)."""
    x = tasks.data.new_zeros(tasks.data.shape[0], tasks.data.shape[2])
    for _ in range(_NEWTON_STEPS):
        x = x - torch.linalg.solve(tasks.hessian_at(x), tasks.gradient(x))
    return x


def bounds_at_solutions(tasks: RandomTasks) -> SpectralBounds:
    """The Hessian's spectrum at the solutions of a batch: mean smallest, largest of all."""
    sample = tasks(np.random.default_rng([_TUNING, 0]))
    eigenvalues = torch.linalg.eigvalsh(sample.data.hessian_at(sample.target).double())
    return SpectralBounds(
        float(eigenvalues[:, 0].mean()),
        float(eigenvalues.max()),
        method="a batch of tasks at their solutions",
    )


def relative_error(output: Tensor, sample: Sample) -> Tensor:
    """Mean over the tasks of ``‖x − x*‖²/‖x*‖²``."""
    errors = ((output - sample.target) ** 2).sum(-1)
    mean: Tensor = (errors / (sample.target**2).sum(-1)).mean()
    return mean


@NETWORKS.register("logistic")
def logistic(
    *,
    num_layers: int = 16,
    num_unknowns: int = 12,
    num_rows: int = 60,
    spread: float = 0.2,
    certainty: float = 1.0,
    ridge: float = 0.02,
    batch_size: int = 32,
) -> Task:
    """Logistic regression of many data sets, by the heavy ball with trained steps and momentum.

    Training starts from Polyak's step and momentum for the spectrum at the solutions.

    Args:
        num_layers: T.
        num_unknowns: n.
        num_rows: m, samples of a task.
        spread: Ratio of the smallest to the largest standard deviation of a feature.
        certainty: Standard deviation of the entries of the direction that makes the labels.
        ridge: μ.
        batch_size: Tasks in a mini-batch.

    >>> task = logistic(num_layers=2, batch_size=2)
    >>> sorted(task.network.learned())
    ['momentum']
    """
    check_depth(num_layers)
    tasks = RandomTasks(
        num_unknowns,
        num_rows,
        spread=spread,
        certainty=certainty,
        ridge=ridge,
        batch_size=batch_size,
    )
    bounds = bounds_at_solutions(tasks)
    roots = math.sqrt(bounds.lower), math.sqrt(bounds.upper)
    momentum = ((roots[1] - roots[0]) / (roots[1] + roots[0])) ** 2
    step = (2 / (roots[0] + roots[1])) ** 2
    network = UnfoldedIteration(
        Schedule(np.full(num_layers, step)),
        iteration=HeavyBall(0.0),
        parameters={"momentum": Trainable(momentum, constraint=None)},
        dtype=torch.float32,
    )
    return Task(network, SampledLoss(tasks, criterion=relative_error), TRAINING)
