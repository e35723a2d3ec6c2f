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
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import check_positive
from stepfold._typing import FloatArray
from stepfold.schedules import Schedule, chebyshev_steps, noise_aware_steps
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.arnoldi import arnoldi_values
from stepfold.unfolded._device import moved
from stepfold.unfolded._layers import layers_of
from stepfold.unfolded.criteria import Criterion, squared_error
from stepfold.unfolded.losses import Loss, SampledLoss, SpectralLoss, check_loss_value
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.samplers import Sample

STREAM = 2**32 + 1
"""Beside the seed of a training: its look at a mini-batch draws none of the training's."""
NUM_PRODUCTS = 8
"""Products with a Jacobian for its upper end."""
FIRST_RATIO, FIRST_FACTOR, LAST_FACTOR = 0.06, 3.0, 1.03
"""Where the search for the ratio of the ends starts, and the factors by which it moves."""
HIGHEST_RATIO = 0.95
WIDE = (0.2, 0.45, 1.0, 2.2, 5.0)
"""Factors that are tried for the values of the first layer."""
COARSE = (0.5, 1.0, 2.0)
"""Factors that are tried beside the layer before."""
FINE = (0.6, 0.8, 1.0, 1.25, 1.6)
"""Factors that are tried last, beside what was found for the same layer."""


@dataclass(frozen=True, eq=False)
class TheoryStart:
    """What `theory_start` has set.

    Args:
        schedule: Steps of all layers.
        parameters: The other values, as `UnfoldedIteration.learned` gives them.
        bounds: Interval of the Chebyshev steps, in the units of ``1 / γ``; of ``I − J`` where the
            layers have a parameter "relaxation".
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

    Steps become Chebyshev steps. With a parameter called "relaxation" the steps stay, and
    the relaxations become Chebyshev's. A parameter called "momentum" becomes 0, for Chebyshev steps
    need none. Other positive parameters of which each layer has its own are multiplied by a factor
    for each layer. What layers share, and what may be negative, stays as it is.

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
    check_positive("max_passes", max_passes, "20 is the default")
    budget = max_passes * network.num_layers
    with torch.no_grad():
        return _Search(network, Sample(*sample), criterion, budget).run()


class _Search:
    def __init__(
        self, network: UnfoldedIteration, sample: Sample, criterion: Criterion, budget: float
    ) -> None:
        device = network.layer_steps(1).device
        self.sample = sample if device.type == "cpu" else moved(sample, device)
        self.network, self.criterion, self.budget = network, criterion, budget
        self.kind = layers_of(network.iteration)
        self.spent = 0
        self.initial_steps = network.layer_steps().detach()
        self.columns: dict[str, list[Any]] = {}
        self.searched: list[str] = []
        for name, key in network._names.items():
            extra: Any = network.extra[key]
            column = [values.detach() for values in extra.by_layer(network.num_layers)]
            if name == "momentum":
                column = [0 * values for values in column]
            elif _is_searched(extra, network.num_layers):
                self.searched.append(name)
            self.columns[name] = column
        start = self.sample.start
        if start is None and isinstance(self.sample.target, Tensor):
            start = torch.zeros_like(self.sample.target)
        self.start = self.kind.start(self.sample.data, start)

    def run(self) -> TheoryStart:
        upper = self.upper_end()
        tried: dict[float, tuple[float, FloatArray]] = {}

        def cost(ratio: float) -> float:
            if ratio not in tried:
                tried[ratio] = self.descend(upper, ratio)
            return tried[ratio][0]

        last = len(FINE) * len(self.searched) * self.network.num_layers
        width = 1 + len(self.searched) * len(COARSE)
        each = (width * self.network.num_layers + len(WIDE)) if self.searched else width
        each = max(each, self.network.num_layers)
        if self.spent + each + last > self.budget:
            last = 0
        if self.spent + each > self.budget:
            raise ValueError(
                "`max_passes` must be at least "
                f"{math.ceil((self.spent + each) / self.network.num_layers)} for this network, got "
                f"{self.budget / self.network.num_layers:g}"
            )
        best, factor = FIRST_RATIO, FIRST_FACTOR
        cost(best)
        while factor > LAST_FACTOR:
            before = best
            for ratio in (_rounded(best / factor), _rounded(best * factor)):
                if ratio not in tried and self.spent + each + last > self.budget:
                    factor = 1.0
                    break
                if cost(ratio) < cost(best):
                    best = ratio
                    break
            if best == before:
                factor **= 0.5
        loss, factors = tried[best]
        if last:
            refined = self.descend(upper, best, factors)
            if refined[0] < loss:
                loss, factors = refined
        if not math.isfinite(loss):
            raise ArithmeticError(
                "`theory_start` found no lower end with a finite error; start `network` from "
                "values with which the iteration does not diverge"
            )
        return self.chosen(upper, best, factors, loss, tried)

    def upper_end(self) -> float:
        """Largest real part of an eigenvalue of ``(I − J)/γ`` along the trajectory."""
        found = 0.0
        state, places = self.start, {self.network.num_layers // 2, self.network.num_layers - 1}
        for index, gamma in enumerate(self.initial_steps):
            layer = self.layer(index, gamma, {})
            following = self.apply(layer, state)
            if not _is_finite(following):
                break
            if index in places:
                unit = gamma
                if "relaxation" in self.columns:
                    unit = self.columns["relaxation"][index].mean()
                found = max(found, self.local_upper_end(layer, state, following, float(unit)))
            state = following
        if not 0 < found < math.inf:
            raise ArithmeticError(
                "`theory_start` found no positive eigenvalue along the trajectory of `network`; "
                "start it from values with which the iteration does not diverge"
            )
        return found

    def local_upper_end(self, layer: Any, state: Any, following: Any, unit: float) -> float:
        point, image = _flat(state), _flat(following)
        # Half of the digits are lost to rounding, half to curvature.
        size = float(torch.finfo(point.dtype).eps) ** 0.5 * max(float(point.norm()), 1.0)

        def product(vector: FloatArray) -> FloatArray:
            direction = torch.from_numpy(vector).to(point)
            there = _flat(self.apply(layer, _replaced(state, point + size * direction)))
            result: FloatArray = (
                ((direction - (there - image) / size) / unit).double().cpu().numpy()
            )
            return result

        start = np.random.default_rng(0).standard_normal(point.numel())
        values, residuals, _ = arnoldi_values(product, start, NUM_PRODUCTS)
        ends = values.real + np.minimum(residuals, 0.05 * np.abs(values.real))
        # What a penalty holds still has the eigenvalue 1/γ, which is no curvature.
        curved = ends[np.abs(1 - unit * values) > 0.02]
        held = float(ends.max())
        return float(curved.max()) if len(curved) and 0 < 2 * curved.max() < held else held

    def descend(
        self, upper: float, ratio: float, factors: FloatArray | None = None
    ) -> tuple[float, FloatArray]:
        """Criterion after the last layer, and the factors (T, parameters) that were best."""
        gammas, relaxations = self.steps(upper, ratio)
        num_layers = self.network.num_layers
        found = np.ones((num_layers, len(self.searched)))
        state, value = self.start, math.inf
        for index in range(num_layers):
            row = np.ones(len(self.searched)) if index == 0 else found[index - 1].copy()
            choices = WIDE if index == 0 else COARSE
            if factors is not None:
                row, choices = factors[index].copy(), FINE
            following: Any = None
            value = math.inf
            for place in range(len(self.searched)):
                centre = row[place]
                for choice in choices:
                    if choice == 1.0 and place > 0:
                        continue  # what the parameter before has ended with
                    trial = row.copy()
                    trial[place] = centre * choice
                    output, cost = self.output(index, gammas, relaxations, trial, state)
                    if cost < value:
                        value, following, row = cost, output, trial
            if not self.searched:
                following, value = self.output(
                    index, gammas, relaxations, row, state, judged=index == num_layers - 1
                )
            if following is None:
                return math.inf, found
            found[index], state = row, following
        return value, found

    def output(
        self,
        index: int,
        gammas: Tensor,
        relaxations: Tensor | None,
        factors: FloatArray,
        state: Any,
        *,
        judged: bool = True,
    ) -> tuple[Any, float]:
        changed = {
            name: self.columns[name][index] * float(factor)
            for name, factor in zip(self.searched, factors, strict=True)
        }
        if relaxations is not None:
            changed["relaxation"] = relaxations[index].expand_as(self.columns["relaxation"][index])
        output = self.apply(self.layer(index, gammas[index], changed), state)
        if not judged:
            return output, math.inf
        value = check_loss_value(self.criterion(self.kind.iterate(output), self.sample)).item()
        return output, value if math.isfinite(value) else math.inf

    def steps(self, upper: float, ratio: float) -> tuple[Tensor, Tensor | None]:
        """Steps and relaxations of all layers."""
        num_layers = self.network.num_layers
        bounds = SpectralBounds(ratio * upper, upper)
        relaxed = "relaxation" in self.columns
        period = self.copies("relaxation") if relaxed else len(self.network.steps)
        computed = np.resize(chebyshev_steps(bounds, period).steps, num_layers)
        values = torch.from_numpy(computed).to(self.initial_steps)
        return (self.initial_steps, values) if relaxed else (values, None)

    def copies(self, name: str) -> int:
        return len(self.network.values(name))

    def layer(self, index: int, gamma: Tensor, changed: Mapping[str, Any]) -> Any:
        named = {name: values[index] for name, values in self.columns.items()}
        return self.kind.layer(index, gamma, {**named, **changed})

    def apply(self, layer: Any, state: Any) -> Any:
        self.spent += 1
        return layer(self.sample.data, state)

    def chosen(
        self,
        upper: float,
        ratio: float,
        factors: FloatArray,
        loss: float,
        tried: Mapping[float, tuple[float, FloatArray]],
    ) -> TheoryStart:
        network = self.network
        gammas, relaxations = self.steps(upper, ratio)
        stacked = {}
        for name, column in self.columns.items():
            values = list(column)
            if name in self.searched:
                shares = factors[:, self.searched.index(name)]
                values = [each * share for each, share in zip(values, shares.tolist(), strict=True)]
            if name == "relaxation" and relaxations is not None:
                values = [new.expand_as(old) for new, old in zip(relaxations, values, strict=True)]
            stacked[name] = torch.stack(values[: self.copies(name)])
        network.set_values(gammas[: len(network.steps)], stacked)
        return TheoryStart(
            network.schedule(),
            network.learned(),
            SpectralBounds(ratio * upper, upper),
            loss,
            tuple((each * upper, value) for each, (value, _) in tried.items()),
            self.spent / network.num_layers,
        )


def start_from_theory(network: UnfoldedIteration, loss: Loss, *, seed: int) -> None:
    """Set the values of all layers for a loss: the best steps where it knows its measure.

    Raises:
        TypeError: If the loss has neither a measure nor a sampler.
    """
    if isinstance(loss, SpectralLoss):
        _start_from_measure(network, loss)
        return
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
    theory_start(network, drawn, criterion=loss.criterion)


def _start_from_measure(network: UnfoldedIteration, loss: SpectralLoss) -> None:
    period = len(network.steps)
    if period == network.num_layers:
        found = noise_aware_steps(loss.measure, period, noise=loss.noise)
    else:
        found = chebyshev_steps(loss.measure.bounds, period)
    network.set_values(found.steps.copy(), {})


def _rounded(ratio: float) -> float:
    # Up by a factor and down again is the same ratio, tried once.
    return float(f"{min(ratio, HIGHEST_RATIO):.6g}")


def _is_searched(extra: Any, num_layers: int) -> bool:
    """Whether every layer has a positive value of its own."""
    return extra.is_positive and len(extra.raw) == num_layers and bool((extra.values() > 0).any())


def _vectors(state: Any) -> list[Any]:
    parts = list(state) if isinstance(state, tuple) else [state]
    return [part for part in parts if isinstance(part, Tensor) and _is_inexact(part)]


def _is_inexact(part: Tensor) -> bool:
    return part.is_floating_point() or part.is_complex()


def _real(part: Tensor) -> Tensor:
    return torch.view_as_real(part) if part.is_complex() else part


def _flat(state: Any) -> Tensor:
    """All real numbers of a state, as one vector."""
    parts = _vectors(state)
    if not parts:
        raise TypeError(
            "layers must hand on a tensor, or a tuple with some, for `theory_start`, got "
            f"{type(state).__name__}"
        )
    return torch.cat([_real(part).reshape(-1) for part in parts])


def _replaced(state: Any, vector: Tensor) -> Any:
    """The state with its numbers taken from a vector."""
    pieces = iter(vector.split([_real(part).numel() for part in _vectors(state)]))

    def taken(part: Any) -> Any:
        if not isinstance(part, Tensor) or not _is_inexact(part):
            return part
        piece = next(pieces).reshape(_real(part).shape).to(_real(part).dtype)
        return torch.view_as_complex(piece.contiguous()) if part.is_complex() else piece

    if not isinstance(state, tuple):
        return taken(state)
    parts = [taken(part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def _is_finite(state: Any) -> bool:
    return bool(_flat(state).isfinite().all())
