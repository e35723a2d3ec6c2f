"""Least squares as sums over places that hold rows: ``Aᵀ(Ax − b) = Σᵢ Aᵢᵀ(Aᵢx − bᵢ)``.

Every place has a problem of its own, with its rows and its own kernel or its own file, and sweeps
them once; what is added up is a vector of length n.
"""

from __future__ import annotations

import copy
import functools
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import from_host, is_numpy, library, take, to_host, zeros_like
from stepfold._typing import ArrayT, FloatArray
from stepfold.operators import OwnOperator, apply
from stepfold.problems import QuadraticProblem
from stepfold.problems._rows import real_products, squares
from stepfold.problems._units import Sizes
from stepfold.problems.duality import Look, look
from stepfold.problems.out_of_core import BlockedLeastSquares
from stepfold.run.units import scaled_bounds, unit_of_matrix
from stepfold.spectrum import BoundsMethod, Gram, SpectralBounds

# What is summed; numbers that all processes know.
TERM, GRADIENT, PRODUCT, VALUE, MAP, COLUMNS = range(1, 7)


def part_of(problem: Any, what: int, x: Any) -> tuple[Any, Any]:
    """What the rows of one place add to a sum: a vector, and numbers beside it.

    Args:
        problem: The rows' own problem, without a ridge.
        what: The term ``Aᵀb`` and ‖b‖², a gradient, a product with AᵀA, a gradient and the value
            ``½‖Ax − b‖²``, or squared norms of columns and whether there are none to be had.
        x: Where.
    """
    if what == TERM:
        return problem.linear_term, squares(problem.rhs).sum(-1)
    if what == COLUMNS:
        columns = problem.column_squares()
        zeros = from_host(np.zeros(problem.operator.shape[1]), problem.rhs).real
        return (zeros, 1 + zeros[:1]) if columns is None else (columns, zeros[:1])
    if what == GRADIENT:
        return problem.gradient(x), None
    if what == PRODUCT:
        return problem.product(x), None
    residual = apply(problem.operator, x) - problem.rhs
    if isinstance(problem, BlockedLeastSquares):
        gradient: Any = problem.operator.transposed_product(residual.T).T
    else:
        gradient = problem.adjoint_product(residual)
    return gradient, squares(residual).sum(-1) / 2


class SummedLeastSquares(QuadraticProblem[ArrayT]):
    """Minimise ``½‖Ax − b‖² + ½μ‖x‖²``, with sums over the places that hold rows.

    Args:
        shape: (m, n), all rows together.
        like: Zeros of the shape, library, dtype and device of x.
        ridge: μ.
        sizes: How large the numbers of the whole are; None where places must be asked.
    """

    def __init__(
        self, shape: tuple[int, int], like: ArrayT, ridge: float, sizes: Sizes | None
    ) -> None:
        self.shape, self.ridge, self._sizes = shape, ridge, sizes
        self._like: Any = like
        self._term: tuple[Any, Any] | None = None
        self._columns: tuple[Any, Any] | None = None

    def sizes(self) -> Sizes:
        """How large entries of A, from a sample in each place, and of b are."""
        if self._sizes is None:
            self._sizes = self._found_sizes()
        return self._sizes

    @abstractmethod
    def _found_sizes(self) -> Sizes:
        """The sizes of the whole, where they were not known from the beginning."""

    def divided(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> Self:
        """The problem with A and b divided by powers of two, μ by the square of A's."""
        twin = self._twin()
        twin.ridge = self.ridge / 2.0**exponent / 2.0**exponent
        twin._term = twin._columns = None
        twin._divide(exponent, rhs_exponents)
        return twin

    @abstractmethod
    def _divide(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> None:
        """Divide what is held in all places; of a twin."""

    def column_squares(self) -> Any:
        """Squared norms of the columns of A, and the ridge; None where entries are not known."""
        if self._columns is None:
            self._columns = self.total(COLUMNS, None)
        squares, unknown = self._columns
        return None if float(unknown[0]) else squares + self.ridge

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds of the spectrum, from products in units near 1."""
        sizes = self.sizes()
        exponent = unit_of_matrix(sizes)
        if not exponent:
            return super().own_bounds(method, seed)
        twin = self.divided(exponent, np.zeros(sizes.rhs.size, np.int64))
        bounds = QuadraticProblem.own_bounds(twin, method, seed)
        found: SpectralBounds | None = scaled_bounds(bounds, 2.0**exponent * 2.0**exponent)
        if found is None:
            raise ValueError(
                "`problem` must have a Hessian within the range of float64, got entries near "
                f"{sizes.matrix:.3g} in A; change their units"
            )
        return found

    @abstractmethod
    def total(self, what: int, x: Any) -> tuple[Any, Any]:
        """The sums over all places of what `part_of` returns."""

    def _known_term(self) -> tuple[Any, Any]:
        if self._term is None:
            self._term = self.total(TERM, None)
        return self._term

    @property
    def linear_term(self) -> ArrayT:
        """``Aᵀb``: one sum the first time, none afterwards."""
        term: ArrayT = self._known_term()[0]
        return term

    @property
    def sums_in_words(self) -> str:
        """That known steps save no sum."""
        return (
            "x is on every process: conjugate gradients (`solve` without a schedule) take one sum "
            "a step, as known steps do, and fewer steps. Prefer them unless steps must not depend "
            "on the iterate."
        )

    @property
    def zero(self) -> ArrayT:
        """The point 0."""
        zero: ArrayT = zeros_like(self._like)
        return zero

    @property
    def products_per_gradient(self) -> int:
        """2: one with A, one with its transpose; both in one sweep and one sum."""
        return 2

    @property
    def hessian(self) -> Gram:
        """``AᵀA + μI``, of shape (n, n); a product with it is one sweep and one sum."""
        return Gram.of_checked(_Rows(self), self.ridge)

    def gradient(self, x: ArrayT) -> ArrayT:
        """``Aᵀ(Ax − b) + μx``."""
        gradient: ArrayT = self.total(GRADIENT, x)[0]
        return gradient + self.ridge * x if self.ridge else gradient

    def product(self, rows: ArrayT) -> ArrayT:
        """``(AᵀA + μI) v`` for a vector v or for each row of a batch."""
        product: ArrayT = self.total(PRODUCT, rows)[0]
        return product + self.ridge * rows if self.ridge else product

    def value(self, x: ArrayT) -> Any:
        """``½‖Ax − b‖² + ½μ‖x‖²``, one number or one per row."""
        return look(self, x).value

    def gradient_magnitude(self, lengths: FloatArray, upper: float) -> FloatArray:
        """``b‖x‖ + √b‖rhs‖`` for an upper bound b of the spectrum."""
        return upper * lengths + math.sqrt(upper) * self._rhs_norms

    @functools.cached_property
    def _rhs_norms(self) -> FloatArray:
        found: FloatArray = np.sqrt(np.atleast_1d(to_host(self._known_term()[1])))
        return found.astype(np.float64)

    def _twin(self) -> Self:
        twin = copy.copy(self)
        vars(twin).pop("_rhs_norms", None)
        vars(twin).pop("curvature_bound", None)
        return twin

    def _of_rows(self, places: Sequence[int]) -> Self:
        """A twin with some of the right-hand sides, whose term is not asked for again."""
        twin = self._twin()
        twin._like = take(self._like, places)
        if self._sizes is not None:
            twin._sizes = replace(self._sizes, rhs=self._sizes.rhs[list(places)])
        if self._term is not None:
            twin._term = take(self._term[0], places), take(self._term[1], places)
        return twin


@look.register(SummedLeastSquares)
def _look(problem: SummedLeastSquares[Any], x: Any) -> Look:
    gradient, half = problem.total(VALUE, x)
    value, ridge = half, problem.ridge
    if ridge:
        gradient = gradient + ridge * x
        value = half + ridge / 2 * real_products(x, x)
    return Look(value, gradient, ridge, lambda scale: (1 - scale) * (1 - scale) * half)


class _Rows(OwnOperator):
    """All rows as the factor of a `Gram`, which asks for products with AᵀA only."""

    def __init__(self, problem: SummedLeastSquares[Any]) -> None:
        self._problem = problem
        self.shape = problem.shape
        self.dtype = problem._like.dtype

    @property
    def T(self) -> _Rows:  # noqa: N802, RUF100 (NumPy's name)
        """Named only: no product with it is made."""
        return self

    H = T

    def __matmul__(self, x: Any) -> Any:
        raise TypeError(
            "`problem` has its rows in several places, and no process has the vector Ax; ask for "
            "`problem.product(x)`"
        )

    def gram_product(self, x: Any) -> Any:
        """``AᵀA x`` for x of shape (n,) or (n, batch), of the problem's library or NumPy's."""
        problem, like = self._problem, self._problem._like
        rows = x if library(x) == library(like) and not is_numpy(x) else from_host(x, like)
        if rows.ndim == 1:
            total = problem.total(PRODUCT, rows)[0]
        else:
            total = problem.total(PRODUCT, rows.T)[0].T
        return to_host(total) if is_numpy(x) and not is_numpy(total) else total
