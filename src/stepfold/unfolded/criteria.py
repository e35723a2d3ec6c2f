"""What the output of a layer is worth: an error where the solution is known, else a residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from stepfold.unfolded.samplers import Sample

Criterion = Callable[[Any, Sample], Tensor]
"""What the output of a layer is worth: a scalar tensor from it and the batch."""


def squared_error(output: Any, sample: Sample) -> Tensor:
    """Mean over batch and coordinates of ``|output − target|²``.

    Raises:
        TypeError: If one of them is no tensor.
        ValueError: If the target does not have the output's shape.

    >>> import torch
    >>> from stepfold.unfolded import Sample
    >>> squared_error(torch.zeros(1, 2), Sample(None, torch.tensor([[3.0, 1.0]]))).item()
    5.0
    """
    if sample.target is None:
        raise ValueError(
            "the sampler must yield a `target` for `squared_error`, got None; train without one by "
            "`criterion=squared_residual`"
        )
    if not isinstance(output, Tensor) or not isinstance(sample.target, Tensor):
        raise TypeError(
            "`squared_error` compares a tensor with the sampler's `target`, a tensor, got "
            f"{type(output).__name__} and {type(sample.target).__name__}; give a `criterion` for "
            "others"
        )
    check_like("solutions", sample.target, output, dtype=False)
    if not output.numel():
        raise ValueError(
            f"the sampler must yield at least one item, got an empty batch, {tuple(output.shape)}"
        )
    return _mean_square(output - sample.target)


def squared_residual(output: Any, sample: Sample) -> Tensor:
    """Mean square of the gradient, or of the residual ``f(x) − x`` of a `FixedPoint`.

    No target is needed: training is unsupervised. The output has the shape (batch, n).

    Raises:
        TypeError: If the output is no tensor, or the data have neither.

    >>> import torch
    >>> from stepfold import FixedPoint
    >>> from stepfold.unfolded import Sample
    >>> squared_residual(torch.ones(1, 2), Sample(FixedPoint(lambda x: 0.5 * x))).item()
    0.25
    """
    # A least-squares problem has both: its gradient is 0 at the solution, its residual is not.
    residual = getattr(sample.data, "gradient", None) or getattr(sample.data, "residual", None)
    if residual is None or not isinstance(output, Tensor):
        raise TypeError(
            "`squared_residual` needs a problem with a `gradient` or a `residual`, and its "
            f"iterate, a tensor, got {type(sample.data).__name__} and {type(output).__name__}; "
            "give a `criterion` for others"
        )
    return _mean_square(residual(output))


def _mean_square(values: Tensor) -> Tensor:
    square = (values * values.conj()).real if values.is_complex() else values * values
    return square.mean()


def check_like(what: str, given: Any, expected: Any, *, dtype: bool = True) -> None:
    """Raise unless what a sampler yields has the shape, and the dtype, of something else."""
    if given.shape != expected.shape:
        raise ValueError(
            f"the sampler must yield {what} of the shape that its problem has, "
            f"{tuple(expected.shape)}, got {tuple(given.shape)}"
        )
    if dtype and given.dtype != expected.dtype:
        raise ValueError(
            f"the sampler must yield {what} of the dtype that its problem has, "
            f"{expected.dtype}, got {given.dtype}"
        )
