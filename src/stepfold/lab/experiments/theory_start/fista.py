"""FISTA for every named network: its plain map, accelerated, with one weight that is tuned.

A plain map is a proximal gradient step with the step ``1/L``, L the largest eigenvalue (or the
largest Lipschitz constant of a mini-batch), and the prior that is nearest to the network's: L1
for sparse signals, the box for signs, wavelets or cosines for pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stepfold.unfolded import Sample
    from stepfold.unfolded.networks import Task

Map = Callable[[Any, Any, float], Any]
"""``(data, z, weight) -> x``."""


@dataclass(frozen=True)
class Plain:
    """A plain map, and the weights of its prior that are tried."""

    map: Map
    weights: Sequence[float] = (0.0,)


def fista(plain: Plain, sample: Sample, num_layers: int, weight: float) -> Any:
    """The iterate after as many iterations of FISTA as there are layers."""
    import torch

    from stepfold.unfolded.networks.deblurring import fista_momentum

    start = torch.zeros_like(sample.target) if sample.start is None else sample.start
    x = before = start
    with torch.no_grad():
        for share in fista_momentum(num_layers):
            ahead = x + float(share) * (x - before)
            before, x = x, plain.map(sample.data, ahead, weight)
    return x


def fista_outputs(
    task: Task, name: str, tuning: Sample, samples: Sequence[Sample]
) -> tuple[list[Any], float]:
    """Last iterates on samples, and the weight that is the best on the tuning sample."""
    plain, num_layers = PLAIN[name](task), task.network.num_layers
    criterion = task.loss.criterion  # type: ignore[attr-defined]

    def error(weight: float) -> float:
        value = float(criterion(fista(plain, tuning, num_layers, weight), tuning))
        return value if np.isfinite(value) else np.inf

    weight = min(plain.weights, key=error)
    return [fista(plain, sample, num_layers, weight) for sample in samples], weight


def _grid(lowest: float, highest: float) -> tuple[float, ...]:
    return tuple(float(weight) for weight in np.geomspace(lowest, highest, 12))


def _sparse(task: Any) -> Plain:
    from stepfold.unfolded.networks.sparse_signals import lipschitz_constant, soft_threshold

    step = 1 / lipschitz_constant(task.loss.sampler.matrix)
    return Plain(
        lambda data, z, weight: soft_threshold(data.gradient_step(z, step), step * weight),
        _grid(1e-3, 1),
    )


def _box(task: Any) -> Plain:
    from stepfold.unfolded.networks.sparse_signals import lipschitz_constant

    step = 1 / lipschitz_constant(task.loss.sampler.matrix)
    return Plain(lambda data, z, _: data.gradient_step(z, step).clamp(-1, 1))


def _mimo(task: Any) -> Plain:  # noqa: ARG001
    def map_of(channel: Any, z: Any, _: float) -> Any:
        residual = channel.received - z @ channel.matrix.T
        return (z + residual @ channel.matrix / channel.gains.max()).clamp(-1, 1)

    return Plain(map_of)


def _jacobi(task: Any) -> Plain:
    step = 1 / task.loss.sampler.bounds.upper
    return Plain(lambda data, z, _: data.relaxation_step(z, step))


def _ridge(task: Any) -> Plain:
    step = 1 / task.loss.sampler.measure.nodes[-1]
    return Plain(
        lambda data, z, _: z - step * data.singular * (data.singular * z - data.seen),
    )


def _logistic(task: Any) -> Plain:  # noqa: ARG001
    def map_of(data: Any, z: Any, _: float) -> Any:
        import torch

        norms = torch.linalg.matrix_norm(data.data, 2)
        steps = 1 / (norms**2 / (4 * data.data.shape[-2]) + data.ridge)
        return z - steps[:, None] * data.gradient(z)

    return Plain(map_of)


def _deblurring(task: Any) -> Plain:  # noqa: ARG001
    import torch

    from stepfold.unfolded.networks.deblurring import shrink

    return Plain(
        lambda data, z, weight: shrink(data.gradient_step(z, 1.0), torch.tensor(weight)),
        _grid(2e-5, 0.02),
    )


def _mri(task: Any) -> Plain:  # noqa: ARG001
    from stepfold.unfolded.networks.mri import haar_shrink

    return Plain(
        lambda data, z, weight: haar_shrink(data.gradient_step(z, 1.0), weight),
        _grid(1e-3, 0.2),
    )


def _tomography(task: Any) -> Plain:  # noqa: ARG001
    from stepfold.unfolded.networks.mri import haar_shrink

    return Plain(
        lambda data, z, weight: haar_shrink(data.gradient_step(z, 1.0), weight).clamp(min=0),
        (0.0, *_grid(1e-4, 0.03)),
    )


PLAIN: dict[str, Callable[[Any], Plain]] = {
    "binary_least_squares": _box,
    "box_least_squares": _box,
    "deblurring": _deblurring,
    "du_ridge": _ridge,
    "learned_ista": _sparse,
    "learned_sor": _jacobi,
    "lista": _sparse,
    "logistic": _logistic,
    "mri": _mri,
    "tista": _sparse,
    "tomography": _tomography,
    "tpg_detector": _mimo,
}


def fista_error(measure: Any, num_layers: int) -> float:
    """Mean squared error of FISTA without a prior on a quadratic of this measure: exact."""
    from stepfold.unfolded.networks.deblurring import fista_momentum

    factors = 1 - measure.nodes / measure.nodes[-1]
    x = before = np.ones_like(factors)
    for share in fista_momentum(num_layers):
        before, x = x, factors * (x + share * (x - before))
    error: float = measure.mean(x**2)
    return error
