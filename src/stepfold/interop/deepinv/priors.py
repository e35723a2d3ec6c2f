"""Priors and denoisers of deepinv as penalties."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stepfold._checks import check_nonnegative
from stepfold.interop.deepinv.packing import Packing
from stepfold.problems.penalties import Penalty


class PriorPenalty(Penalty):
    """A prior or a denoiser of deepinv as a penalty ``weight·g`` of rows.

    For `Composite` objectives and for the iteration `ProximalGradient`. Weights of a prior that is
    a module are trained with a network that takes it.

    Args:
        prior: What has ``prox(x, sigma, gamma=γ)``, as a ``Prior``; or a denoiser
            ``denoiser(x, sigma)``, which is taken as the proximal operator whatever γ is.
        image: An image, or a batch of them, of shape (batch, …): the shape that rows have there.
        weight: What γ is multiplied by, at least 0, deepinv's ``lambda``.
        sigma: Noise level that the denoiser takes, deepinv's ``g_param``.

    Raises:
        TypeError: If ``prior`` is neither.
        ValueError: If ``weight`` is negative, or ``sigma`` is missing for a denoiser or a prior
            that is made of one.

    >>> import torch
    >>> def shrink(x, sigma):
    ...     return x / (1 + sigma**2)
    >>> penalty = PriorPenalty(shrink, torch.zeros(1, 1, 2, 2), sigma=1.0)
    >>> penalty.prox(torch.ones(4), 0.1).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(
        self, prior: Any, image: Tensor, *, weight: float = 1.0, sigma: Any = None
    ) -> None:
        self._is_prior = callable(getattr(prior, "prox", None))
        if not self._is_prior and not callable(prior):
            raise TypeError(
                "`prior` must be a prior with a method `prox`, or a denoiser, got "
                f"{type(prior).__name__}"
            )
        self.is_explicit = self._is_prior and bool(getattr(prior, "explicit_prior", False))
        if sigma is None and not self.is_explicit:
            raise ValueError(
                f"`sigma` must be given for {type(prior).__name__}, whose proximal operator is a "
                "denoiser; it is the noise level that the denoiser removes"
            )
        self.prior = prior
        self.weight = check_nonnegative("weight", weight)
        self.sigma = sigma
        self._images = Packing("image", image)

    def value(self, x: Any) -> Any:
        """``weight·g`` of each row.

        Raises:
            TypeError: If the prior is a denoiser, which is no function's.
        """
        if not self.is_explicit:
            raise TypeError(
                f"`prior` must have values for an objective, and {type(self.prior).__name__} is "
                "known by its denoiser only; take `Composite(…).fixed_point()` and `accelerate`, "
                "or an `UnfoldedIteration`"
            )
        values = self.weight * self.prior.fn(self._images.values(x), self.sigma).reshape(-1)
        return values[0] if x.ndim == 1 else values

    def prox(self, v: Any, step: Any) -> Any:
        """``prior.prox(v, sigma, gamma=step·weight)``, or ``denoiser(v, sigma)``."""
        images = self._images.values(v)
        if self._is_prior:
            moved = self.prior.prox(images, self.sigma, gamma=step * self.weight)
        else:
            moved = self.prior(images, self.sigma)
        rows = self._images.rows(moved)
        return rows[0] if v.ndim == 1 else rows
