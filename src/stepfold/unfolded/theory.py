"""Steps without training: Chebyshev's for the spectrum that the layers see, one number searched.

Near its iterate a layer multiplies small errors by a Jacobian J, and ``(I − J)/γ`` stands where the
Hessian does for gradient descent. Its upper end is measured along the trajectory by a few products.
Its lower end counts only as far as errors live there, which no spectrum tells: it is searched, for
the smallest error after the last layer. Thresholds, slopes and the like follow layer by layer: each
is multiplied by the factor that leaves the smallest error after its own layer. Nothing is
differentiated.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stepfold._checks import check_positive
from stepfold._typing import FloatArray
from stepfold.schedules import Schedule, chebyshev_steps, noise_aware_steps
from stepfold.spectrum import SpectralBounds
from stepfold.unfolded._theory_search import Search
from stepfold.unfolded.criteria import Criterion, squared_error
from stepfold.unfolded.losses import Loss, SampledLoss, SpectralLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.samplers import Sample

STREAM = 2**32 + 1
"""Beside the seed of a training: its look at a mini-batch draws none of the training's."""


@dataclass(frozen=True, eq=False)
class TheoryStart:
    """What `theory_start` has set.

    Args:
        schedule: Steps of all layers, shape (T,).
        parameters: The other values, as `UnfoldedIteration.learned` gives them.
        bounds: Interval of the Chebyshev steps, in the units of ``1 / γ``; of ``I − J`` where the
            layers have a parameter "relaxation". A single point if all values have stayed.
        loss: Criterion after the last layer on the sample.
        tried: Lower ends that were tried, with their losses, in the order of the search.
        num_passes: Forward passes that it took: evaluations of layers over the number of layers.
    """

    schedule: Schedule
    parameters: Mapping[str, FloatArray]
    bounds: SpectralBounds
    loss: float
    tried: tuple[tuple[float, float], ...]
    num_passes: float


def theory_start(
    network: UnfoldedIteration,
    sample: Sample | tuple[Any, ...],
    *,
    criterion: Criterion = squared_error,
    max_passes: float = 20,
) -> TheoryStart:
    """Set the values of all layers from theory, in place, without training.

    Steps become Chebyshev steps. With a parameter called "relaxation" the steps stay, and the
    relaxations become Chebyshev's. A parameter called "momentum" becomes 0, for Chebyshev steps
    need none; or, if that is better and each layer has its own, steps and momentum become those of
    Chebyshev's recurrence (`SemiIteration`). Other positive parameters of which each layer has its
    own are multiplied by a factor for each layer; where there are none, positive numbers that
    layers share are searched with the lower end. What may be negative stays as it is. If no lower
    end gives a smaller error on the sample, all values stay.

    Args:
        network: T layers at values from which the iteration does not diverge, say steps of
            ``1 / λ_max`` and relaxations of 1.
        sample: A mini-batch as training draws it: data, target and, if not 0, the start.
        criterion: What the output of a layer is worth; the mean squared error if not given.
        max_passes: Forward passes through the network that may be spent on the sample.

    Returns:
        The values, the interval and what the search took.

    Raises:
        TypeError: If ``network`` is no `UnfoldedIteration`, or the sample is none.
        ValueError: If ``max_passes`` is not positive or too small for a search.
        ArithmeticError: If no lower end gives a finite error.

    >>> from stepfold import LeastSquares, constant_steps
    >>> matrix = torch.diag(torch.linspace(1.0, 3.0, 20, dtype=torch.float64))
    >>> target = torch.ones(20, dtype=torch.float64)
    >>> network = UnfoldedIteration(constant_steps(SpectralBounds(1.0, 9.0), 4))
    >>> found = theory_start(network, Sample(LeastSquares(matrix, matrix @ target), target))
    >>> 8.9 < found.bounds.upper < 9.5, found.num_passes <= 20
    (True, True)
    """
    # What `torch.compile` returns passes everything on to the module that it was given.
    network = getattr(network, "_orig_mod", network)
    if not isinstance(network, UnfoldedIteration):
        raise TypeError(
            f"`network` must be an UnfoldedIteration, got {type(network).__name__}; layers of "
            "your own are `UnfoldedIteration(schedule, iteration=step)`"
        )
    if not isinstance(sample, tuple) or not 2 <= len(sample) <= 3:
        raise TypeError(
            "`sample` must be a Sample, or a problem and its solution, got "
            f"{type(sample).__name__}; draw one by `sampler(numpy.random.default_rng(0))`"
        )
    if not callable(criterion):
        raise TypeError(
            "`criterion` must be a function of an output and a Sample, got "
            f"{type(criterion).__name__}; `squared_error` is the default"
        )
    check_positive("max_passes", max_passes, "20 is the default")
    budget = max_passes * network.num_layers
    with torch.no_grad():
        search = Search(network, Sample(*sample), criterion, budget)
        found = search.best()
        stacked = {
            name: torch.stack(column[: search.copies(name)])
            for name, column in found.columns.items()
        }
        network.set_values(found.gammas[: len(network.steps)], stacked)
    return TheoryStart(
        network.schedule(),
        network.learned(),
        SpectralBounds(
            found.ratio * search.upper, search.upper, method="Jacobians along the trajectory"
        ),
        found.loss,
        tuple((ratio * search.upper, loss) for ratio, loss in search.tried.items()),
        search.spent / network.num_layers,
    )


def start_from_theory(network: UnfoldedIteration, loss: Loss, *, seed: int) -> TheoryStart | None:
    """Set the values of all layers for a loss: the best steps where it knows its measure.

    Returns:
        What `theory_start` has found; None where the measure told it.

    Raises:
        TypeError: If the loss has neither a measure nor a sampler.
    """
    if isinstance(loss, SpectralLoss):
        _start_from_measure(network, loss)
        return None
    if not isinstance(loss, SampledLoss):
        raise TypeError(
            "`start` from theory needs a sampler, or a loss that has one, to look at a mini-batch, "
            f"got {type(loss).__name__}; call `theory_start(network, sample)` before `train`"
        )
    remembered = copy.deepcopy(loss.state_dict())
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, STREAM])
    drawn: Any = loss.sampler(rng)
    loss.load_state_dict(remembered)
    return theory_start(network, drawn, criterion=loss.criterion)


def _start_from_measure(network: UnfoldedIteration, loss: SpectralLoss) -> None:
    period = len(network.steps)
    if period == network.num_layers:
        found = noise_aware_steps(loss.measure, period, noise=loss.noise)
    else:
        found = chebyshev_steps(loss.measure.bounds, period)
    network.set_values(found.steps.copy(), {})
