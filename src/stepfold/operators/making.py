"""Maps from functions, objects and modules."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

from stepfold._arrays import copy_of
from stepfold.operators.maps import LinearMap, adjoint_of
from stepfold.operators.products import Products, differentiated, of_images
from stepfold.operators.vectors import Vectors, held_tensors, is_module, prototype


def linear_map(
    source: Any,
    adjoint: Callable[[Any], Any] | None = None,
    *,
    shape: Any = None,
    like: Any = None,
) -> LinearMap:
    """A linear map from its products.

    Args:
        source: One of

            - a function of a vector (n,) that returns a vector (m,), or a pair of such functions,
              the map and its adjoint;
            - an object with ``shape`` and products ``@``; its adjoint is ``.H``, else the conjugate
              of ``.T``, with or without a dtype;
            - an object with ``matvec`` and ``rmatvec``, or ``forward`` and ``adjoint``;
            - a linear ``torch.nn.Module``, without bias.

            Functions and modules of torch without an adjoint get one by differentiation: a product
            with it makes one with the map, too.
        adjoint: Product with the adjoint; of a real map, with its transpose.
        shape: (m, n); or the shapes of an image after and before, as in
            ``((1, 32, 32), (1, 32, 32))``: then ``source`` and ``adjoint`` are called with batches
            of images, (batch, 1, 32, 32). Needed where ``source`` does not tell.
        like: What vectors are: an array or a tensor of the right library, precision and device, or
            a dtype. Where nothing tells, NumPy's float64 is tried first, then tensors; tensors
            first, on their device, if ``source`` holds some.

    Returns:
        A map with ``shape``, ``@``, ``.H`` and ``.T``, and ``map(x)`` for rows or images. Batches
        go through in one call where the source serves them, which is tested; else row by row.

    Raises:
        TypeError: If ``source`` is none of these, or its shape is not known.
        ValueError: If ``shape`` is no pair.

    >>> sums = linear_map(np.cumsum, lambda u: np.cumsum(u[::-1])[::-1], shape=(3, 3))
    >>> sums @ np.ones(3), sums.H @ np.ones(3)
    (array([1., 2., 3.]), array([3., 2., 1.]))
    """
    return map_named("operator", source, adjoint, shape, like)


def map_named(name: str, source: Any, adjoint: Any, shape: Any, like: Any) -> LinearMap:
    """`linear_map` of an argument that messages call ``name``."""
    if isinstance(source, LinearMap) and adjoint is None and shape is None:
        return source
    if isinstance(source, tuple) and len(source) == 2 and all(map(callable, source)):
        source, adjoint = source
    if adjoint is not None and not callable(adjoint):
        raise TypeError(f"`adjoint` must be a function, got {type(adjoint).__name__}")
    forward, backward = _parts(name, source)
    sizes, images = _sizes(name, shape, source)
    if adjoint is not None:
        backward = Products(adjoint)
    if images is not None:
        if not callable(source):
            raise TypeError(
                f"`source` must be a function or a module for images, got {type(source).__name__}"
            )
        forward = of_images(source, images)
        backward = None if adjoint is None else of_images(adjoint, images[::-1])
    if backward is None and "torch" in sys.modules:
        backward = differentiated(name, forward, sizes)
    vectors = Vectors(name, prototype(like, source), held_tensors(source))
    return LinearMap(forward, backward, sizes, vectors, source, images, name, adjoint)


def _sizes(name: str, shape: Any, source: Any) -> tuple[tuple[int, int], Any]:
    own = getattr(source, "shape", None)
    if shape is None:
        shape = own
    elif not isinstance(shape, (tuple, list)):
        raise TypeError(f"`shape` must be a pair (m, n), got {shape!r}")
    elif isinstance(own, tuple) and tuple(shape) != own:
        raise ValueError(
            f"`shape` must be that of `{name}`, {own}, got {shape}; it is needed only where "
            f"`{name}` does not tell"
        )
    if shape is None and hasattr(source, "in_features") and hasattr(source, "out_features"):
        shape = (source.out_features, source.in_features)
    if shape is None:
        raise TypeError(
            f"`shape` must be given for a callable such as {type(source).__name__}, as in "
            "`shape=(m, n)`, got None"
        )
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise ValueError(f"`shape` must be a pair (m, n), or a pair of shapes, got {shape!r}")
    after, before = (
        tuple(map(int, part)) if isinstance(part, (tuple, list)) else (int(part),) for part in shape
    )
    sizes = (math.prod(after), math.prod(before))
    if min(sizes) < 1:
        raise ValueError(f"`shape` must have at least one row and column, got {tuple(shape)}")
    return sizes, None if len(after) == len(before) == 1 else (before, after)


def _parts(name: str, source: Any) -> tuple[Products, Products | None]:
    """Products with an object and with its adjoint, if it has one."""
    if hasattr(source, "__matmul__"):
        forward = Products(lambda x: source @ x, lambda rows: (source @ rows.T).T)
        if any(inspect.getattr_static(source, each, None) is not None for each in ("H", "T")):
            return forward, Products(
                lambda x: adjoint_of(source) @ x, lambda rows: (adjoint_of(source) @ rows.T).T
            )
    elif callable(getattr(source, "matvec", None)):
        forward = Products(source.matvec)
    elif is_module(source):
        forward = Products(source, source)
    elif callable(getattr(source, "forward", None)):
        forward = Products(source.forward)
    elif callable(source):
        forward = Products(lambda x: source(copy_of(x)))  # it may write into its argument
    else:
        raise TypeError(
            f"`{name}` must be a matrix or a linear operator with a shape and products `@`, got "
            f"{type(source).__name__}; objects with `matvec` and `rmatvec` or `forward` and "
            "`adjoint`, functions and pairs of functions are operators too"
        )
    for each in ("rmatvec", "adjoint"):
        if callable(getattr(source, each, None)):
            return forward, Products(getattr(source, each))
    return forward, None
