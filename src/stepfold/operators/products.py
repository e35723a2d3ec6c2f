"""Products with vectors and rows: by what the user gave, for images, and by differentiation."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepfold._arrays import copy_of, epsilon, from_host, is_torch, namespace, norms, reshaped

NO_ADJOINT = (
    "`{name}` must have an adjoint for this, got {kind} without `.H`, `.T`, `rmatvec` or "
    "`adjoint`; pass a pair of functions, or `linear_map(function, adjoint, shape=(m, n))`"
)


@contextlib.contextmanager
def without_derivatives() -> Iterator[None]:
    """torch records nothing inside."""
    torch = sys.modules.get("torch")
    with contextlib.nullcontext() if torch is None else torch.no_grad():
        yield


class Products:
    """Products with vectors or rows: all rows at once, if two of them come out right.

    Args:
        single: Product with a vector, or with rows too if ``is_by_rows``.
        many: Product with rows, if there is one to be tried.
        is_by_rows: Whether ``single`` takes rows.
    """

    def __init__(
        self,
        single: Callable[[Any], Any],
        many: Callable[[Any], Any] | None = None,
        *,
        is_by_rows: bool = False,
    ) -> None:
        self._single, self._many = single, single if is_by_rows else many
        self._serves: bool | None = True if is_by_rows else None

    def __call__(self, x: Any) -> Any:
        """Product with a vector, or with each row."""
        if x.ndim == 1:
            return self._single(x)
        if self._many is not None and x.shape[0] > 1:
            if self._serves is None:
                self._serves = self._agrees(x[:2])
            if self._serves:
                return self._many(x)
        return namespace(x).stack([self._single(row) for row in x])

    def _agrees(self, rows: Any) -> bool:
        numbers = np.random.default_rng(0).standard_normal(tuple(rows.shape))
        with without_derivatives():
            probe = from_host(numbers, rows)
            images = [self._single(row) for row in probe]
            try:
                both = self._many(probe)  # type: ignore[misc]
            except Exception:  # noqa: BLE001 (whatever the map does with what it does not serve)
                return False  # what is wrong with vectors, too, is seen by the products one by one
            if tuple(both.shape) != (len(images), *images[0].shape):
                return False
            differences = norms(both - namespace(both).stack(images))
            sizes = np.array([norms(image)[0] for image in images])
        return not bool((differences > math.sqrt(epsilon(both)) * sizes).any())


def of_images(function: Callable[[Any], Any], images: Any) -> Products:
    """Products by a function of batches of images, given the shapes of one before and after."""
    before, after = images

    def product(x: Any) -> Any:
        batch = x.shape[0] if x.ndim > 1 else 1
        image = function(copy_of(reshaped(x, (batch, *before))))
        if tuple(getattr(image, "shape", ())) != (batch, *after):
            got = tuple(image.shape) if hasattr(image, "shape") else type(image).__name__
            raise ValueError(
                f"`source` and `adjoint` must map images as `shape` says, {(batch, *before)} to "
                f"{(batch, *after)}, got {got}"
            )
        return reshaped(image, (*x.shape[:-1], math.prod(after)))

    return Products(product, is_by_rows=True)


def differentiated(name: str, forward: Products, shape: tuple[int, int]) -> Products:
    """The adjoint of a map of torch, as the derivative of ``⟨u, A v⟩`` by v."""
    torch = sys.modules["torch"]

    def product(u: Any) -> Any:
        if not is_torch(u):
            raise TypeError(NO_ADJOINT.format(name=name, kind="products of NumPy"))
        is_recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            at = u.new_zeros((*u.shape[:-1], shape[1])).requires_grad_()
            image = forward(at)
            if not image.requires_grad:
                return torch.zeros_like(at)
            (found,) = torch.autograd.grad(image, at, u, create_graph=is_recorded)
        return found

    return Products(product, is_by_rows=True)
