"""The search behind `theory_start`: upper end, lower end, and values layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepfold._typing import FloatArray
from stepfold.iterations.semi_iteration import next_weight
from stepfold.schedules import chebyshev_steps
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.arnoldi import arnoldi_values
from stepfold.unfolded._device import moved
from stepfold.unfolded._layers import layers_of
from stepfold.unfolded.criteria import Criterion, check_like
from stepfold.unfolded.losses import check_loss_value
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.samplers import Sample

NUM_PRODUCTS = 8
"""Products with a Jacobian for its upper end."""
FIRST_RATIO, FIRST_FACTOR, LAST_FACTOR = 0.06, 3.0, 1.03
"""Where the search for the ratio of the ends starts, and the factors by which it moves."""
HIGHEST_RATIO = 0.95
SAME = 1.001
"""Ratio of losses up to which the recurrence is taken, which has no long steps."""
WIDE = (0.2, 0.45, 1.0, 2.2, 5.0)
"""Factors that are tried for the values of the first layer."""
COARSE = (0.5, 1.0, 2.0)
"""Factors that are tried beside the layer before."""
FINE = (0.6, 0.8, 1.0, 1.25, 1.6)
"""Factors that are tried last, beside what was found for the same layer."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Values of all layers, and the criterion after the last; the ratio 1 is that of the start."""

    loss: float
    ratio: float
    gammas: Tensor
    columns: Mapping[str, list[Any]]
    factors: FloatArray
    shared: Mapping[str, float]
    recurs: bool = False


class Search:
    """One search; `best` runs it.

    Attributes:
        spent: Evaluations of layers so far.
        upper: Upper end of the interval.
        tried: Losses by the ratio of the ends.
    """

    def __init__(
        self, network: UnfoldedIteration, sample: Sample, criterion: Criterion, budget: float
    ) -> None:
        device = network.layer_steps(1).device
        self.sample = sample if device.type == "cpu" else moved(sample, device)
        self.network, self.criterion, self.budget = network, criterion, budget
        self.kind = layers_of(network.iteration)
        self.num_layers = network.num_layers
        self.spent, self.upper = 0, 0.0
        self.tried: dict[float, float] = {}
        self.initial_steps = network.layer_steps().detach()
        self.columns: dict[str, list[Any]] = {}
        self.searched: list[str] = []
        self.shared: dict[str, float] = {}
        for name, key in network._names.items():
            extra: Any = network.extra[key]
            self.columns[name] = [values.detach() for values in extra.by_layer(self.num_layers)]
            if name in ("momentum", "relaxation") or not _is_positive(extra):
                continue
            if len(extra.raw) == self.num_layers:
                self.searched.append(name)
            elif extra.raw.ndim == 1:
                self.shared[name] = 1.0
        if self.searched:
            # A candidate costs several passes then, too many to move what layers share as well.
            self.shared = {}
        start = self.sample.start
        if start is None and isinstance(self.sample.target, Tensor):
            start = torch.zeros_like(self.sample.target)
        if isinstance(start, Tensor) and hasattr(self.sample.data, "linear_term"):
            what = "solutions" if self.sample.start is None else "starts"
            check_like(what, start, self.sample.data.linear_term)
        self.start = self.kind.start(self.sample.data, start)

    def best(self) -> Candidate:
        """The best candidate that the budget allows to find; never worse than the start."""
        first = self.measured()
        each = len(self.searched) * len(COARSE) * self.num_layers + len(WIDE)
        each = each if self.searched else self.num_layers
        last = len(FINE) * len(self.searched) * self.num_layers
        if self.spent + each + last > self.budget:
            last = 0
        if self.spent + each > self.budget:
            least = math.ceil((self.spent + each) / self.num_layers)
            raise ValueError(
                f"`max_passes` must be at least {least} for this network, got "
                f"{self.budget / self.num_layers:g}"
            )
        found = self.descend(FIRST_RATIO, self.shared)
        if self.may_recur() and self.spent + each + last <= self.budget:
            other = self.descend(FIRST_RATIO, self.shared, recurs=True)
            # On a quadratic both are the same polynomial, and only rounding tells them apart.
            found = other if other.loss <= SAME * found.loss else found
        found = self.near(found, each, last)
        if last:
            refined = self.descend(found.ratio, found.shared, found.factors, recurs=found.recurs)
            found = min(found, refined, key=_loss)
        best = min(first, found, key=_loss)
        if not math.isfinite(best.loss):
            raise ArithmeticError(
                "`theory_start` found no lower end with a finite error; start `network` from "
                "values with which the iteration does not diverge"
            )
        return best

    def near(self, found: Candidate, each: int, reserve: int) -> Candidate:
        """The best ratio and shared values near by, by steps that become smaller."""
        factor = FIRST_FACTOR
        seen = {(found.ratio, *found.shared.values())}
        while factor > LAST_FACTOR and self.spent + each + reserve <= self.budget:
            before = found
            for name in ("", *self.shared):
                for by in (1 / factor, factor):
                    ratio, shared = found.ratio, dict(found.shared)
                    if name:
                        shared[name] = _six_digits(by * shared[name])
                    else:
                        ratio = _six_digits(min(by * ratio, HIGHEST_RATIO))
                    place = (ratio, *shared.values())
                    if place in seen or self.spent + each + reserve > self.budget:
                        continue
                    seen.add(place)
                    other = self.descend(ratio, shared, recurs=found.recurs)
                    if other.loss < found.loss:
                        found = other
                        break
            if found is before:
                factor **= 0.5
        return found

    def measured(self) -> Candidate:
        """The values before, after a measurement of the upper end along their trajectory.

        Jacobians are those without momentum.
        """
        momentum = self.columns.get("momentum")
        still = {"momentum": 0 * momentum[0]} if momentum else {}
        state, places = self.start, {self.num_layers // 2, self.num_layers - 1}
        for index, gamma in enumerate(self.initial_steps):
            if index in places:
                self.upper = max(self.upper, self.upper_end(index, gamma, state, still))
            state = self.apply(self.layer(index, gamma, {}), state)
            if not _is_finite(state):
                break
        if not self.upper:
            self.upper = self.upper_end(0, self.initial_steps[0], self.start, still)
        if not 0 < self.upper < math.inf:
            raise ArithmeticError(
                "`theory_start` found no positive eigenvalue along the trajectory of `network`; "
                "start it from values with which the iteration does not diverge"
            )
        loss = self.judged(state) if _is_finite(state) else math.inf
        factors = np.ones((self.num_layers, len(self.searched)))
        return Candidate(loss, 1.0, self.initial_steps, self.columns, factors, self.shared)

    def upper_end(self, index: int, gamma: Tensor, state: Any, still: Mapping[str, Any]) -> float:
        """Largest real part of an eigenvalue of ``(I − J)/γ`` at a state; 0 for none.

        What a penalty holds still has the eigenvalue ``1/γ``, which is no curvature. A curvature
        may be as large. So where one stands out, a second look at a shorter step tells: it moves
        the one and not the other. Relaxation acts on both alike.
        """
        if "relaxation" in self.columns:
            unit = float(self.columns["relaxation"][index].mean())
            ends, held = self.ritz(self.layer(index, gamma, still), unit, state)
            return _largest(ends)
        unit = float(gamma)
        ends, held = self.ritz(self.layer(index, gamma, still), unit, state)
        largest, curved = _largest(ends), _largest(ends[~held])
        if largest <= 2 * curved:
            return largest
        ends, held = self.ritz(self.layer(index, 0.7 * gamma, still), 0.7 * unit, state)
        return _largest(ends[~held]) or largest

    def ritz(self, layer: Any, unit: float, state: Any) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Ritz values of ``(I − J)/unit`` with an allowance for their errors; which are ``1/unit``.

        None where the layer's output or its derivatives are not finite.
        """
        none = np.zeros(0), np.zeros(0, dtype=bool)
        point, image = _flat(state), _flat(self.apply(layer, state))
        if not bool(image.isfinite().all()):
            return none
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
        try:
            values, residuals, _ = arnoldi_values(product, start, NUM_PRODUCTS)
        except np.linalg.LinAlgError:  # a product is not finite
            return none
        ends = values.real + np.minimum(residuals, 0.05 * np.abs(values.real))
        return ends, np.abs(1 - unit * values) <= 0.02

    def may_recur(self) -> bool:
        """Whether each layer has its own momentum and its own step."""
        owned = len(self.columns.get("momentum", [])) and self.copies("momentum")
        return owned == len(self.network.steps) == self.num_layers > 1

    def values(
        self, ratio: float, shared: Mapping[str, float], *, recurs: bool
    ) -> tuple[Tensor, dict[str, list[Any]]]:
        """Steps, and relaxations, momenta and shared values, of all layers."""
        bounds = SpectralBounds(ratio * self.upper, self.upper)
        changed = {
            name: [shared.get(name, 1.0) * each for each in column]
            for name, column in self.columns.items()
        }

        def spread(name: str, values: FloatArray) -> None:
            changed[name] = [
                torch.full_like(old, float(new))
                for new, old in zip(values, self.columns[name], strict=True)
            ]

        if recurs:  # the semi-iteration as a heavy ball
            weights = [1.0]
            for _ in range(self.num_layers - 1):
                weights.append(next_weight(weights[-1], (1 - ratio) / (1 + ratio)))
            spread("momentum", np.array(weights) - 1)
            steps = 2 / (bounds.lower + bounds.upper) * np.array(weights)
            return torch.from_numpy(steps).to(self.initial_steps), changed
        if "momentum" in changed:
            spread("momentum", np.zeros(self.num_layers))
        relaxed = "relaxation" in changed
        period = self.copies("relaxation") if relaxed else len(self.network.steps)
        computed = np.resize(chebyshev_steps(bounds, period).steps, self.num_layers)
        if relaxed:
            spread("relaxation", computed)
            return self.initial_steps, changed
        return torch.from_numpy(computed).to(self.initial_steps), changed

    def descend(
        self,
        ratio: float,
        shared: Mapping[str, float],
        near: FloatArray | None = None,
        *,
        recurs: bool = False,
    ) -> Candidate:
        """The candidate of a ratio, with factors chosen layer by layer, or near given ones."""
        gammas, columns = self.values(ratio, shared, recurs=recurs)
        found = np.ones((self.num_layers, len(self.searched)))
        state, loss = self.start, math.inf
        for index, gamma in enumerate(gammas):
            row = np.ones(len(self.searched)) if index == 0 else found[index - 1].copy()
            choices = WIDE if index == 0 else COARSE
            if near is not None:
                row, choices = near[index].copy(), FINE
            state, loss, found[index] = self.stepped(index, gamma, columns, row, choices, state)
            for name, factor in zip(self.searched, found[index], strict=True):
                columns[name][index] = self.columns[name][index] * float(factor)
            if state is None:
                break
        self.tried[ratio] = min(loss, self.tried.get(ratio, math.inf))
        return Candidate(loss, ratio, gammas, columns, found, shared, recurs)

    def stepped(
        self,
        index: int,
        gamma: Tensor,
        columns: Mapping[str, list[Any]],
        row: FloatArray,
        choices: tuple[float, ...],
        state: Any,
    ) -> tuple[Any, float, FloatArray]:
        """What follows with the best factors, one parameter after the other; None if nothing."""
        given = {name: column[index] for name, column in columns.items()}
        if not self.searched:
            following = self.apply(self.layer(index, gamma, given), state)
            is_last = index == self.num_layers - 1
            return following, self.judged(following) if is_last else math.inf, row
        best, loss = None, math.inf
        for place in range(len(self.searched)):
            centre = row[place]
            for choice in choices:
                if choice == 1.0 and place > 0:
                    continue  # what the parameter before has ended with
                trial = row.copy()
                trial[place] = centre * choice
                for name, factor in zip(self.searched, trial, strict=True):
                    given[name] = self.columns[name][index] * float(factor)
                following = self.apply(self.layer(index, gamma, given), state)
                value = self.judged(following)
                if value < loss:
                    best, loss, row = following, value, trial
        return best, loss, row

    def judged(self, state: Any) -> float:
        value = check_loss_value(self.criterion(self.kind.iterate(state), self.sample)).item()
        return value if math.isfinite(value) else math.inf

    def copies(self, name: str) -> int:
        return len(self.network.values(name))

    def layer(self, index: int, gamma: Tensor, changed: Mapping[str, Any]) -> Any:
        named = {name: values[index] for name, values in self.columns.items()}
        return self.kind.layer(index, gamma, {**named, **changed})

    def apply(self, layer: Any, state: Any) -> Any:
        self.spent += 1
        return layer(self.sample.data, state)


def _largest(values: FloatArray) -> float:
    """The largest positive one, or 0."""
    return float(values.max(initial=0.0))


def _loss(candidate: Candidate) -> float:
    return candidate.loss


def _six_digits(value: float) -> float:
    # Up by a factor and down again is the same value, tried once.
    return float(f"{value:.6g}")


def _is_positive(extra: Any) -> bool:
    return extra.is_positive and bool((extra.values() > 0).any())


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
