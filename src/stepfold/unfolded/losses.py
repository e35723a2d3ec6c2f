"""What training minimises, on drawn problems.

`SampledLoss` runs the network on problems as they come. For gradient descent on a quadratic with
isotropic errors, `SpectralLoss` is the same random variable computed in the eigenbasis: of a batch
of errors only the mean square of each coordinate matters, a χ² number per eigenvalue, so that one
evaluation costs T·n operations instead of T products with the matrix for the whole batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from stepfold._checks import check_count, check_nonnegative, check_real
from stepfold.iterations import GradientDescent, Iteration
from stepfold.measure import SpectralMeasure
from stepfold.measure.base import check_measure
from stepfold.polynomial import mean_squared_error
from stepfold.schedules import Schedule, noisy_mean_squared_error
from stepfold.unfolded._device import moved
from stepfold.unfolded._layers import tensors_in
from stepfold.unfolded.criteria import Criterion, check_like, squared_error
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.samplers import Sample, Sampler


class Loss(Protocol):
    """Something that training can minimise: an object, or a bare function.

    It may have an attribute ``measure``, the `SpectralMeasure` of the error; with it training
    reports exact mean squared errors and spectral radii (see `measure_of`). A ``state_dict`` and a
    ``load_state_dict`` make whatever it remembers a part of checkpoints.
    """

    def __call__(
        self, network: UnfoldedIteration, num_layers: int, rng: np.random.Generator
    ) -> Tensor:
        """Loss of the first ``num_layers`` layers on fresh random data, a scalar tensor."""


def measure_of(loss: Loss) -> SpectralMeasure | None:
    """Distribution of the error over the eigenvalues that a loss knows; None if it knows none.

    Raises:
        TypeError: If its attribute ``measure`` is something else.

    >>> measure_of(lambda network, num_layers, rng: network.steps.sum()) is None
    True
    """
    measure = getattr(loss, "measure", None)
    if measure is not None and not isinstance(measure, SpectralMeasure):
        raise TypeError(
            f"`loss.measure` must be a SpectralMeasure or None, got {type(measure).__name__}; call "
            "the attribute otherwise if it is something else"
        )
    return measure


def check_loss(name: str, loss: Any) -> None:
    """Raise unless it can be called, as a sampler can, and knows its measure or none."""
    _check_no_data(name, loss)
    if _is_criterion(loss):
        kind = loss if hasattr(loss, "__name__") else type(loss)
        raise TypeError(
            f"`{name}` must be a function `(network, num_layers, rng)`, or a sampler `(rng)`, got "
            f"{kind.__name__}, which compares an output with a target; give it as a criterion: "
            "`SampledLoss(sampler, criterion=lambda output, sample: criterion(output, "
            "sample.target))`"
        )
    if not callable(loss):
        raise TypeError(
            f"`{name}` must be a function `(network, num_layers, rng)` that returns a scalar "
            f"tensor, or a sampler, got {type(loss).__name__}"
        )
    measure_of(loss)


def _check_no_data(name: str, given: Any) -> None:
    if isinstance(given, (DataLoader, Dataset)):
        way = (
            "`LoaderSampler(loader, pose)`, or its data set in a `DataSetSampler"
            if isinstance(given, DataLoader)
            else "`DataSetSampler"
        )
        raise TypeError(
            f"`{name}` must be a function, got {type(given).__name__}; wrap it as {way}"
            "(data, batch_size=…, pose=…)`, where `pose` makes a `Sample(data, target)` of a batch"
        )


def _is_criterion(function: Any) -> bool:
    """Whether it is one of torch's losses, or needs two arguments, as they do."""
    return _is_of_torch(function) or num_needed(function) == 2


def _is_of_torch(function: Any) -> bool:
    kind = function if isinstance(function, type) else type(function)
    # All of torch's losses that are modules have this base.
    is_loss = any(each.__name__ == "_Loss" for each in kind.__mro__)
    return is_loss or getattr(function, "__module__", None) == "torch.nn.functional"


def num_needed(function: Any) -> int | None:
    """How many places a function needs filled; None if it does not tell, or takes any number."""
    if isinstance(function, nn.Module):
        function = function.forward  # calls of a module take anything and pass it on
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return None
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.default is each.empty and each.kind in places for each in parameters)


def check_loss_value(value: Any) -> Tensor:
    """Return what a loss has returned, which must be one number in a tensor."""
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
        return value
    found, remedy = type(value).__name__, "average it over the batch"
    if isinstance(value, Tensor):
        found = f"shape {tuple(value.shape)}"
        if value.ndim == 0:
            found, remedy = str(value.dtype), "it must be real"
    raise ValueError(f"`loss` must return a scalar tensor, got {found}; {remedy}")


class SampledLoss:
    """Loss of the network's output on problems drawn by a sampler.

    Args:
        sampler: Draws a `Sample`, or a problem and its solution; the network starts from 0 if the
            sample has no ``start``.
        measure: Distribution of the error over the eigenvalues, if known; for reports only.
        criterion: What an output is worth: `squared_error` (needs a target), `squared_residual`
            (needs none) or a function of one's own.
        discount: Weight of a layer's criterion relative to that of the next one, from 0 (only the
            last layer counts) to 1 (all alike); weights add up to 1.

    A sampler's own ``state_dict`` and ``load_state_dict`` are part of checkpoints.

    Raises:
        TypeError: If ``sampler`` or ``criterion`` cannot be called.
        ValueError: If ``discount`` is out of range.

    >>> from stepfold.unfolded import GaussianLeastSquares
    >>> SampledLoss(GaussianLeastSquares(np.eye(3), batch_size=2)).discount
    0.0
    """

    def __init__(
        self,
        sampler: Sampler,
        measure: SpectralMeasure | None = None,
        *,
        criterion: Criterion = squared_error,
        discount: float = 0.0,
    ) -> None:
        check_real("discount", discount)
        if not 0 <= discount <= 1:
            raise ValueError(f"`discount` must lie between 0 and 1, got {discount!r}")
        _check_no_data("sampler", sampler)
        if _is_of_torch(criterion):
            raise TypeError(
                "`criterion` must be a function of an output and a Sample, got a loss of torch; "
                "write `lambda output, sample: loss(output, sample.target)`"
            )
        for name, function in (("sampler", sampler), ("criterion", criterion)):
            if not callable(function):
                raise TypeError(f"`{name}` must be a function, got {type(function).__name__}")
        self.sampler = sampler
        self.measure = measure
        self.criterion = criterion
        self.discount = discount

    def __call__(
        self, network: UnfoldedIteration, num_layers: int, rng: np.random.Generator
    ) -> Tensor:
        """Criterion of the last layer, or the weighted mean of those of all layers."""
        drawn = self.sampler(rng)
        if not isinstance(drawn, tuple) or not 2 <= len(drawn) <= 3:
            raise TypeError(
                "`sampler` must yield a Sample or a problem and its solution, got "
                f"{type(drawn).__name__}"
            )
        sample = Sample(*drawn)
        if isinstance(sample.target, np.ndarray) or isinstance(sample.start, np.ndarray):
            raise TypeError(
                "the sampler must yield torch tensors, got NumPy arrays; make them by "
                "`torch.from_numpy(...)`"
            )
        device = network.step_values.raw.device
        if device.type != "cpu":
            sample = moved(sample, device)
        for what, value in zip(Sample._fields, sample, strict=True):
            if isinstance(value, Tensor):
                _check_device(what, [value], device)
        start = sample.start
        if start is None and isinstance(sample.target, Tensor):
            start = torch.zeros_like(sample.target)
        every_layer = self.discount > 0
        try:
            output = network(sample.data, start, num_layers=num_layers, every_layer=every_layer)
        except (RuntimeError, ValueError):
            _check_device("data", tensors_in(sample.data), device)
            if isinstance(start, Tensor) and hasattr(sample.data, "linear_term"):
                # torch would speak of its own arguments
                what = "solutions" if sample.start is None else "starts"
                check_like(what, start, sample.data.linear_term)
            raise
        except (AttributeError, TypeError) as error:
            if isinstance(network.iteration, Iteration):
                raise TypeError(
                    "the sampler must yield a problem over tensors for "
                    f"{type(network.iteration).__name__}, got {type(sample.data).__name__}: {error}"
                ) from error
            raise
        if not every_layer:
            return self.criterion(output, sample)
        weights = self.discount ** np.arange(num_layers - 1, -1, -1.0)
        weights /= weights.sum()
        values = [
            weight * check_loss_value(self.criterion(x, sample))
            for weight, x in zip(weights.tolist(), output, strict=True)
        ]
        return torch.stack(values).sum()

    def state_dict(self) -> Any:
        """What the sampler remembers, where it has methods of these names; else None."""
        remembers = all(hasattr(self.sampler, name) for name in ("state_dict", "load_state_dict"))
        state: Any = self.sampler.state_dict() if remembers else None  # type: ignore[attr-defined]
        return state

    def load_state_dict(self, state: Any) -> None:
        """Hand the sampler what it remembered."""
        if state is not None:
            self.sampler.load_state_dict(state)  # type: ignore[attr-defined]


def _check_device(what: str, tensors: Iterable[Tensor], device: torch.device) -> None:
    for each in tensors:
        if each.device != device:
            raise ValueError(
                f"the sampler must yield `{what}` on {device}, where the network is, got "
                f"{each.device}; move the network by `network.to({str(each.device)!r})`"
            )


class SpectralLoss:
    """Mean squared error of gradient descent on a quadratic, drawn in the eigenbasis.

    Distributed exactly as the loss that a batch of ``batch_size`` problems with independent normal
    errors gives; no products with the matrix.

    Args:
        measure: Eigenvalues, and how the error's variance is spread over them.
        batch_size: Size of the batch whose average is drawn.
        noise: η, at least 0, in units of the Hessian: for data ``y = Hx + w``, started at 0, the
            variance of an entry of w over that of an entry of x (see `noisy_mean_squared_error`).

    Raises:
        ValueError: If ``noise`` is negative or not finite.

    >>> from stepfold import SpectralMeasure
    >>> SpectralLoss(SpectralMeasure([1.0, 3.0], [0.5, 0.5]), batch_size=8).measure.nodes
    array([1., 3.])
    """

    def __init__(
        self, measure: SpectralMeasure, *, batch_size: int = 200, noise: float = 0.0
    ) -> None:
        self.measure = check_measure(measure)
        self._batch_size = check_count("batch_size", batch_size)
        self._eigenvalues = torch.tensor(measure.nodes.tolist(), dtype=torch.float64)
        self.noise = check_nonnegative("noise", noise)

    def __call__(
        self, network: UnfoldedIteration, num_layers: int, rng: np.random.Generator
    ) -> Tensor:
        """Weighted mean of ``p(λ)²`` with χ² weights of as many degrees as the batch is large."""
        squares = rng.chisquare(self._batch_size, self.measure.nodes.size) / self._batch_size
        weights = self.measure.weights
        if not self.noise:
            return self.given(network, num_layers, weights * squares)
        # Second moments of x and w along an eigenvector are a Wishart matrix; Bartlett's factor.
        cross = rng.standard_normal(squares.size) / np.sqrt(self._batch_size)
        rest = rng.chisquare(self._batch_size - 1, squares.size) if self._batch_size > 1 else 0.0
        noises = cross * cross + rest / self._batch_size
        residuals = self._residuals(network, num_layers)
        eigenvalues = self._eigenvalues.to(residuals.device)
        positive = eigenvalues > 0
        fitted = torch.where(positive, 1 - residuals, 0.0) / torch.where(
            positive, eigenvalues.sqrt(), 1.0
        )
        scale = np.sqrt(self.noise)
        moments = [squares, -2 * scale * np.sqrt(squares) * cross, self.noise * noises]
        own, mixed, foreign = (
            torch.tensor(weights * moment, device=residuals.device) for moment in moments
        )
        return (own * residuals**2 + mixed * residuals * fitted + foreign * fitted**2).sum()

    def given(self, network: UnfoldedIteration, num_layers: int, squares: Any) -> Tensor:
        """Loss for given mean squares of the initial error along each eigenvector, shape (n,)."""
        residuals = self._residuals(network, num_layers)
        weights = torch.tensor(squares, dtype=torch.float64, device=residuals.device)
        if weights.shape != self._eigenvalues.shape:
            raise ValueError(
                f"`squares` must have shape {tuple(self._eigenvalues.shape)}, one for each "
                f"eigenvalue, got {tuple(weights.shape)}"
            )
        return (weights * residuals * residuals).sum()

    def mean_squared_error(self, schedule: Schedule) -> float:
        """What the loss of these steps is on average: exact, with the noise."""
        if not self.noise:
            return mean_squared_error(schedule, self.measure)
        return noisy_mean_squared_error(schedule, self.measure, noise=self.noise)

    def _residuals(self, network: UnfoldedIteration, num_layers: int) -> Tensor:
        if not isinstance(network.iteration, GradientDescent):
            raise TypeError(
                "`SpectralLoss` knows the residual polynomial of gradient descent only, got "
                f"{type(network.iteration).__name__}; use `SampledLoss`"
            )
        gammas = network.layer_steps(num_layers)
        return torch.prod(1 - gammas[:, None] * self._eigenvalues.to(gammas.device), 0)
