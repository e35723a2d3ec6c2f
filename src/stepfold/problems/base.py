"""What a solver asks of a problem: a gradient, a step along it, and the Hessian.

The gradient is affine: ``∇f(x) = hessian·x − linear_term``. Vectors are rows: one of shape (n,), or
a batch of shape (batch, n) of independent problems that share the Hessian.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic

import numpy as np

from stepfold._arrays import is_array, library
from stepfold._checks import check_numbers
from stepfold._typing import ArrayT, Operator


class Problem(ABC, Generic[ArrayT]):
    """A smooth problem whose minimiser is sought."""

    @property
    @abstractmethod
    def hessian(self) -> Operator:
        """Symmetric positive semidefinite map of shape (n, n)."""

    @property
    @abstractmethod
    def linear_term(self) -> ArrayT:
        """Minus the gradient at 0, shape (n,) or (batch, n)."""

    @property
    @abstractmethod
    def products_per_gradient(self) -> int:
        """Products with the operator or its transpose that one gradient costs."""

    @abstractmethod
    def gradient(self, x: ArrayT) -> ArrayT:
        """Gradient at ``x``, of the shape of ``x``."""

    @abstractmethod
    def gradient_step(self, x: ArrayT, gamma: Any) -> ArrayT:
        """``x − gamma·gradient(x)``, in one sweep over the data where the operator allows it."""


def apply(operator: Operator, x: Any) -> Any:
    """Product with a row vector (n,) or with each row of a batch (batch, n)."""
    return operator @ x if x.ndim == 1 else (operator @ x.T).T


def apply_adjoint(transpose: Operator, is_complex: bool, x: Any) -> Any:
    """Product of the conjugate transpose, given the transpose: no conjugate of it is stored."""
    if not is_complex:
        return apply(transpose, x)
    product = apply(transpose, x.conj()).conj()
    # torch conjugates when somebody looks, and `numpy()` does not look.
    return product.resolve_conj() if hasattr(product, "resolve_conj") else product


def check_rows(name: str, rows: Any, length: int, source: str) -> Any:
    """Return ``rows`` as an array whose last axis fits the operator, ready for arithmetic."""
    if isinstance(rows, (list, tuple, float, int)):
        rows = np.asarray(rows)
    if not hasattr(rows, "ndim") or not hasattr(rows, "shape"):
        raise TypeError(f"`{name}` must be an array, got {type(rows).__name__}")
    if rows.ndim not in (1, 2) or rows.shape[-1] != length or 0 in rows.shape:
        raise ValueError(
            f"`{name}` must have shape ({length},) or (batch, {length}) to fit {source}, "
            f"got {tuple(rows.shape)}"
        )
    return check_numbers(name, rows, allow_complex=True)


def check_library(name: str, rows: Any, partner: str, values: Any) -> None:
    """Raise if the two are arrays of different libraries, or tensors that torch does not multiply.

    Products of the two are made by way of conversions that NumPy is about to give up. Matrix-free
    operators are taken at their word, but SciPy's, which turn whatever they get into arrays. Of two
    tensors torch makes products only if dtype and device are the same; NumPy promotes.
    """
    mine = library(rows)
    if is_array(values):
        other = library(values)
    elif _makes_arrays(values):
        other = "numpy"
    else:
        return
    if mine == other:
        if mine == "torch":
            _check_twins(name, rows, partner, values)
        return
    if (mine, other) == ("torch", "numpy"):
        remedy = f"`{name}.numpy()`, or make {partner} a tensor"
    elif (mine, other) == ("numpy", "torch"):
        remedy = f"`torch.from_numpy({name})`, or make {partner} an array"
    else:
        remedy = f"an array of {other}, or make {partner} one of {mine}"
    raise TypeError(
        f"`{name}` and {partner} must be of one library, got "
        f"{type(rows).__name__} and {type(values).__name__}; pass {remedy}"
    )


def _check_twins(name: str, rows: Any, partner: str, values: Any) -> None:
    for what in ("dtype", "device"):
        mine, other = getattr(rows, what), getattr(values, what)
        if mine == other:
            continue
        change = f"to({other if what == 'dtype' else repr(str(other))})"
        if rows.is_complex() and not values.is_complex():
            change = "real"
        raise TypeError(
            f"`{name}` and {partner} must be of one {what}, got {mine} and {other}: torch makes no "
            f"products of the two; pass `{name}.{change}`, or convert {partner}"
        )


def _makes_arrays(operator: Any) -> bool:
    if isinstance(operator, np.ndarray) or hasattr(operator, "tocsr"):
        return True
    modules = [kind.__module__ for kind in type(operator).__mro__]
    return any(module.startswith("scipy.sparse.linalg") for module in modules)
