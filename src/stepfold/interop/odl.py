"""Stepfold beside ODL: its linear operators as maps of vectors.

An element of a space of ODL becomes a vector: its entries in C order, part after part for a product
space. ODL's adjoint A* belongs to the inner products of its spaces, ⟨x, y⟩ = yᴴWx with a diagonal W
(the cell volume of a discretised function space, for example). The conjugate transpose is
``Aᴴ = W A* W⁻¹``, with the weights of the domain on the left and of the range on the right.
Written for ODL 1.0 and later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold import operators
from stepfold._extras import check_version, not_installed
from stepfold._typing import FloatArray

NEED = "`stepfold.interop.odl` needs odl >= 1.0"
try:
    import odl as _package
except ModuleNotFoundError as error:
    raise not_installed(NEED, "odl", error) from error
check_version(_package, NEED, "odl")

odl: Any = _package  # its names are starred together, where a type checker does not find them


def linear_map(operator: Any) -> operators.LinearMap:
    """The map of vectors that a linear operator of ODL makes, with its conjugate transpose.

    Args:
        operator: A linear ``odl.Operator`` with an ``adjoint``, between spaces whose inner products
            are weighted by a number or by one number for each entry.

    Returns:
        A map of shape (size of the range, size of the domain), on NumPy's arrays of the domain's
        dtype.

    Raises:
        TypeError: If it is no operator of ODL.
        ValueError: If it is not linear, or the weighting of a space is none of those.

    >>> import odl
    >>> halves = linear_map(odl.ScalingOperator(odl.uniform_discr(0, 1, 4), 0.5))
    >>> (halves.H @ np.ones(4)).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    if not isinstance(operator, odl.Operator):
        raise TypeError(
            f"`operator` must be an odl.Operator, got {type(operator).__name__}; give one such as "
            "`odl.Gradient(space)`"
        )
    if not operator.is_linear:
        raise ValueError(
            f"`operator` must be linear, got {type(operator).__name__}; take its derivative at a "
            "point, `operator.derivative(x)`"
        )
    domain, range_ = operator.domain, operator.range
    left, right, backward = _weights(domain), _weights(range_), operator.adjoint
    return operators.linear_map(
        lambda x: _flat(operator(_element(domain, x))),
        lambda u: left * _flat(backward(_element(range_, u / right))),
        shape=(right.size, left.size),
        like=np.zeros(0, _dtype(domain)),
    )


def _is_product(space: Any) -> bool:
    return isinstance(space, odl.ProductSpace)


def _dtype(space: Any) -> Any:
    return _dtype(space[0]) if _is_product(space) else np.dtype(str(space.dtype))


def _weights(space: Any) -> FloatArray:
    """The diagonal of W, one number for each entry."""
    weighting = space.weighting
    own = getattr(weighting, "const", None)
    own = getattr(weighting, "array", None) if own is None else own
    if own is None:
        raise ValueError(
            f"`operator` must map between spaces weighted by a number or an array, got "
            f"{type(weighting).__name__}; make the space with `weighting=` a number"
        )
    if not _is_product(space):
        return np.broadcast_to(np.asarray(own, dtype=np.float64), space.shape).ravel()
    factors = np.broadcast_to(np.asarray(own, dtype=np.float64), len(space))
    return np.concatenate([w * _weights(part) for w, part in zip(factors, space, strict=True)])


def _element(space: Any, x: Any) -> Any:
    if not _is_product(space):
        return space.element(np.reshape(x, space.shape))
    sizes = [_weights(part).size for part in space]
    parts = np.split(x, np.cumsum(sizes)[:-1])
    return space.element([_element(part, each) for part, each in zip(space, parts, strict=True)])


def _flat(element: Any) -> Any:
    if _is_product(element.space):
        return np.concatenate([_flat(part) for part in element])
    return np.array(element.asarray()).ravel()
