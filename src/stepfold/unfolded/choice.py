"""Which loss a training minimises: the given one, or the fastest one that a sampler allows."""

from __future__ import annotations

from typing import Any

from stepfold.iterations import GradientDescent
from stepfold.unfolded.losses import Loss, SampledLoss, SpectralLoss, num_needed
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.samplers import GaussianLeastSquares, Sampler


def loss_for(network: UnfoldedIteration, sampler: Sampler) -> SampledLoss | SpectralLoss:
    """Mean squared error on the sampler's problems, in the eigenbasis where that is the same.

    It is for gradient descent on what `GaussianLeastSquares` draws: then training costs T·n
    operations instead of T products with the matrix for a batch, for the same random losses.

    Args:
        network: What is to be trained.
        sampler: Where its data come from.

    >>> from stepfold import Schedule
    >>> from stepfold.unfolded import GaussianLeastSquares
    >>> sampler = GaussianLeastSquares(np.eye(3), batch_size=2)
    >>> type(loss_for(UnfoldedIteration(Schedule([0.5])), sampler)).__name__
    'SpectralLoss'
    """
    check_network(network)
    if isinstance(network.iteration, GradientDescent) and isinstance(sampler, GaussianLeastSquares):
        # The variance of an entry of x is 1, so that of the noise is its share already.
        return SpectralLoss(sampler.measure, batch_size=sampler.batch_size, noise=sampler.noise**2)
    return SampledLoss(sampler)


def as_loss(network: UnfoldedIteration, given: Loss | Sampler) -> Loss:
    """The loss itself; for a sampler, a function of the generator alone, that of `loss_for`.

    >>> from stepfold import Schedule
    >>> network = UnfoldedIteration(Schedule([0.5]))
    >>> type(as_loss(network, lambda rng: rng.normal())).__name__
    'SampledLoss'
    """
    chosen: Any = loss_for(network, given) if num_needed(given) == 1 else given  # type: ignore[arg-type]
    loss: Loss = chosen
    return loss


def check_network(network: Any) -> None:
    """Raise unless it is an `UnfoldedIteration`, compiled or not."""
    # What `torch.compile` returns passes everything on to the module that it was given.
    if not isinstance(getattr(network, "_orig_mod", network), UnfoldedIteration):
        raise TypeError(
            f"`network` must be an UnfoldedIteration, got {type(network).__name__}; layers of "
            "your own are `UnfoldedIteration(schedule, iteration=step)`"
        )
