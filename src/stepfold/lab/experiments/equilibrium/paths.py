"""Ways to the equilibrium of a denoiser, as iterators of points: evaluations of the field count."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stepfold.accelerate import accelerate

if TYPE_CHECKING:
    from stepfold.unfolded.networks.equilibrium import ConvexField

MOST = 80
"""Evaluations of the field that are shown."""
LONG = 1000
"""Evaluations after which a method is given up."""
RESIDUAL = 1e-3
Method = Callable[..., Iterator[Any]]


def descent(field: ConvexField, noisy: Any, units: float) -> Iterator[Any]:
    """Gradient steps of one size, in units of 1 over the largest possible curvature."""
    step = units / (1 + field.curvature(noisy.shape[-2:]))
    return relaxed(field, noisy, itertools.repeat(step))


def relaxed(field: ConvexField, noisy: Any, steps: Iterable[float]) -> Iterator[Any]:
    """Gradient steps of these sizes."""
    x = noisy
    for step in steps:
        yield x
        x = x - float(step) * (x - noisy + field(x))


def nesterov(field: ConvexField, noisy: Any, units: float) -> Iterator[Any]:
    """Nesterov's method for a curvature of at least 1, with the momentum of its step."""
    step = units / (1 + field.curvature(noisy.shape[-2:]))
    momentum = (1 - step**0.5) / (1 + step**0.5)
    x = ahead = noisy
    while True:
        yield x
        last, x = x, ahead - step * (ahead - noisy + field(ahead))
        ahead = x + momentum * (x - last)


def cost(field: ConvexField, tuning: Any, method: Method, units: float) -> float:
    """Norm of the gradient after all evaluations, on training photographs."""
    last = first_points(method(field, tuning.data, units))[-1][1]
    found = float((last - tuning.data + field(last)).norm())
    return found if np.isfinite(found) else np.inf


def first_points(points: Iterator[Any]) -> list[tuple[int, Any]]:
    """As many points as are shown, with the evaluations before each."""
    return list(enumerate(itertools.islice(points, MOST + 1)))


def accelerated(
    field: ConvexField, noisy: Any, step: float, *, rtol: float = 1e-9, most: int
) -> list[tuple[int, Any]]:
    """Evaluations so far, and the iterate of the smallest residual that they have seen.

    That is what a run returns whose budget ends there.
    """
    from stepfold.unfolded.networks.equilibrium import Descent

    descent = Descent(field, noisy, step)
    path = [(0, noisy)]
    smallest = np.inf

    def watched(x: Any) -> Any:
        nonlocal smallest
        moved = descent(x)
        size = float((moved - x).norm())
        best = x.clone() if size < smallest else path[-1][1]
        smallest = min(size, smallest)
        path.append((descent.num_evaluations, best))
        return moved

    accelerate(watched, noisy, rtol=rtol, max_products=most)
    return path


def needed_evaluations(field: ConvexField, noisy: Any, points: Iterator[Any]) -> int:
    """Evaluations until the gradient is a thousandth of what it was."""
    first = float(field(noisy).norm())
    for count, x in enumerate(itertools.islice(points, LONG)):
        if float((x - noisy + field(x)).norm()) <= RESIDUAL * first:
            return count
    return LONG
