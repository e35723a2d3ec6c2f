"""What a solver asks of a problem: two contracts, one of them the narrower.

A `Problem` is smooth: it has a value, a gradient, a step along it and, where one is known, an upper
bound of its curvature. A `QuadraticProblem` has a Hessian besides, and its gradient is affine:
``∇f(x) = hessian·x − linear_term``. Whatever rests on that (bounds, certificates of the error,
conjugate gradients, plans) asks for the narrower one.

Vectors are rows: one of shape (n,), or a batch of shape (batch, n) of independent problems that
share the Hessian.
"""

from __future__ import annotations

import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Self

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import detached, is_array, library, norms, without_labels
from stepfold._checks import check_numbers, makes_arrays
from stepfold._show import as_call
from stepfold._typing import ArrayT, FloatArray, Operator
from stepfold.operators import apply
from stepfold.problems._units import Sizes
from stepfold.spectrum import BoundsMethod, SpectralBounds, estimate_bounds


class Problem(ABC, Generic[ArrayT]):
    """A smooth function f whose minimiser is sought.

    A problem of one's own needs `value` and `gradient`; the rest has defaults.

    >>> class Huber(Problem[np.ndarray]):
    ...     def value(self, x):
    ...         return np.where(abs(x) < 1, x * x / 2, abs(x) - 0.5).sum(-1)
    ...
    ...     def gradient(self, x):
    ...         return x.clip(-1, 1)
    >>> Huber().gradient_step(np.array([3.0, 0.5]), 1.0)
    array([2., 0.])
    """

    def __repr__(self) -> str:
        return as_call(self)

    @abstractmethod
    def value(self, x: ArrayT) -> Any:
        """f(x), up to a constant: one number, or one per row."""

    @abstractmethod
    def gradient(self, x: ArrayT) -> ArrayT:
        """Gradient at ``x``, of the shape of ``x``."""

    def gradient_step(self, x: ArrayT, gamma: Any) -> ArrayT:
        """``x − gamma·gradient(x)``, in one sweep over the data where the operator allows it."""
        step: ArrayT = x - gamma * self.gradient(x)
        return step

    @property
    def products_per_gradient(self) -> int:
        """Products with the operator or its transpose that one gradient costs; 1 by default."""
        return 1

    @property
    def clock(self) -> Callable[[], float]:
        """What tells a run the seconds; where processes run together, the same to all."""
        return time.perf_counter

    def agree(self, **settings: Any) -> None:
        """Called by `solve` with what it was asked for, before anything else; does nothing here.

        Where processes run together each of them must have been asked for the same.
        """

    @property
    def curvature_bound(self) -> float | None:
        """Upper bound of the eigenvalues of every Hessian of f; None where none is known."""
        return None

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds of the spectrum of every Hessian of f: what `estimate_bounds` returns.

        Args:
            method: How to find them; None to choose.
            seed: Seed of the random start.

        Raises:
            TypeError: If no `curvature_bound` is known.
        """
        del method, seed
        bound = self.curvature_bound
        if bound is None:
            raise TypeError(
                f"`problem` must have a `hessian` or a `curvature_bound`, got "
                f"{type(self).__name__} with neither: give bounds or a schedule"
            )
        return SpectralBounds(0.0, bound, method="curvature bound of the problem")

    @property
    def zero(self) -> ArrayT | None:
        """The point 0, of the shape, library and dtype of a solution.

        None where the problem does not know that shape; a start must then be given.
        """
        return None

    def column_squares(self) -> Any:
        """Squared norms of the columns of the operator, and the ridge, shape (n,).

        None where entries are not known, or the problem has no such operator.
        """
        return None

    def rows_of(self, places: Sequence[int]) -> Self | None:
        """The problem of some rows of the batch; None if this kind cannot be cut.

        Args:
            places: Indices to keep, ascending.
        """
        del places
        return None


class QuadraticProblem(Problem[ArrayT]):
    """A problem with a constant Hessian: ``f(x) = ½xᵀHx − cᵀx`` up to a constant."""

    @property
    @abstractmethod
    def hessian(self) -> Operator:
        """Positive semidefinite H of shape (n, n), symmetric in the inner product of `metric`."""

    @property
    @abstractmethod
    def linear_term(self) -> ArrayT:
        """Minus the gradient at 0, c, shape (n,) or (batch, n)."""

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds of the spectrum of the Hessian: what `estimate_bounds` returns."""
        return estimate_bounds(self.hessian, method=method, seed=seed)

    @functools.cached_property
    def curvature_bound(self) -> float:
        """Upper bound of the eigenvalues of the Hessian, estimated when it is first asked for."""
        return self.own_bounds(None, 0).upper

    def value(self, x: ArrayT) -> Any:
        """``½xᵀHx − cᵀx``: how far f(x) is above f(0)."""
        rows: Any = x
        return ((self.gradient(x) - self.linear_term) * rows.conj()).real.sum(-1) / 2

    @property
    def kernel(self) -> str | None:
        """Name of the compiled sweep that serves this problem; None where NumPy or SciPy do."""
        return None

    def product(self, rows: ArrayT) -> ArrayT:
        """``H v`` for a vector v or for each row of a batch."""
        product: ArrayT = apply(self.hessian, rows)
        return product

    @property
    def zero(self) -> ArrayT:
        """The point 0."""
        zero: ArrayT = 0 * detached(self.linear_term)
        return zero

    def lengths(self, rows: ArrayT) -> FloatArray:
        """Norms of the rows in the inner product of the problem, or what they exceed."""
        return norms(rows)

    def gradient_magnitude(self, lengths: FloatArray, upper: float) -> FloatArray:
        """Size of the numbers whose sum is a gradient: rounding is relative to it.

        Args:
            lengths: ‖x‖, one number for each row, of where it is taken.
            upper: An upper bound of the spectrum.

        Returns:
            One number for each row, shape (1,) for a vector.
        """
        return upper * lengths + norms(self.linear_term)

    def sizes(self) -> Sizes | None:
        """How large its numbers are; None where they are not looked at, and it is not scaled."""
        return None

    def divided(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> QuadraticProblem[ArrayT]:
        """A twin with its matrix and its right-hand sides divided by powers of two.

        Only where `sizes` tells that this is to be done.
        """
        raise NotImplementedError

    @property
    def sums_over_processes(self) -> bool:
        """Whether an inner product is a sum over processes, for which each waits for the others."""
        return False

    @property
    def sums_in_words(self) -> str | None:
        """What sums over processes mean for the choice of a method; None for one process."""
        return None

    @property
    def euclidean(self) -> QuadraticProblem[ArrayT]:
        """The problem whose gradient is that of the usual inner product: itself as a rule."""
        return self

    def precondition(self, rows: ArrayT) -> ArrayT:
        """``M⁻¹v`` for a vector v or each row, where the inner product is ``uᵀMv``; v as a rule."""
        return rows

    def gradient_norms(self, dual: ArrayT, primal: ArrayT) -> FloatArray:
        """``√(uᵀM⁻¹u)``, the norm of a gradient in the inner product of the problem, for each row.

        Args:
            dual: The gradient u in the usual inner product.
            primal: ``M⁻¹u``, what `precondition` makes of it.
        """
        del primal
        return norms(dual)

    def symmetric_form(self) -> QuadraticProblem[Any] | None:
        """The problem in coordinates in which the inner product is the usual one: itself as a rule.

        Its Hessian is symmetric, with the same spectrum, and its gradient has the same norm. None
        where that takes entries that are not known, or too much work.
        """
        return self

    @property
    def metric(self) -> Any:
        """Diagonal of M, a positive vector; None where M is the identity or not diagonal."""
        return None


def check_rows(name: str, rows: Any, length: int, source: str) -> Any:
    """Return ``rows`` as an array whose last axis fits the operator, ready for arithmetic."""
    rows = without_labels(name, rows)
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
    elif makes_arrays(values):
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
