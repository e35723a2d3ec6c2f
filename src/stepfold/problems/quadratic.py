"""Least squares ½‖Ax − b‖² (+ ½μ‖x‖²) and quadratics ½xᵀAx − bᵀx.

Each formula is written once and serves NumPy, sparse arrays, ``LinearOperator`` and torch alike.
Large arrays have a compiled kernel, which takes its place: one sweep over the matrix, the same
numbers up to rounding.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import norms, take
from stepfold._checks import check_matrix, check_nonnegative, check_square
from stepfold._show import as_call
from stepfold._typing import ArrayT, FloatArray, Operator
from stepfold.kernels import Sweep, least_squares_sweep, quadratic_sweep
from stepfold.operators import adjoint_of, apply, check_adjoint, column_squares
from stepfold.problems._units import Sizes, divided, rows_divided
from stepfold.problems.base import QuadraticProblem, check_library, check_rows
from stepfold.spectrum import Gram


class LeastSquares(QuadraticProblem[ArrayT]):
    """Minimise ``½‖Ax − b‖² + ½μ‖x‖²``; the Hessian is ``AᵀA + μI``.

    Where A is complex its conjugate transpose takes the place of the transpose throughout.

    Args:
        operator: A, of shape (m, n): ndarray, SciPy sparse array, ``LinearOperator``, pylops
            operator or torch tensor, or anything that `stepfold.operators.linear_map` takes, such
            as a pair of functions or a module of torch. Integers become float64. Of pandas' objects
            the numbers count, by position; labels are ignored. So it is with ``rhs``.
        rhs: b, of shape (m,), or (batch, m) for as many problems with the same A.
        ridge: μ, at least 0; the smallest eigenvalue of the Hessian is then at least μ.
        shape: (m, n), where ``operator`` does not tell.

    Raises:
        TypeError: If an argument is not a matrix or not of numbers, or if one is a tensor and the
            other an array, or a tensor of another dtype or device.
        ValueError: If shapes do not fit, an entry is not finite, ``ridge`` is negative, or products
            with random vectors show that the adjoint of an operator is not its adjoint.

    >>> problem = LeastSquares(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([2.0, 3.0]))
    >>> problem.gradient(np.array([1.0, 0.0]))
    array([ 0., -3.])
    """

    def __init__(
        self,
        operator: Operator,
        rhs: ArrayT,
        *,
        ridge: float = 0.0,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.operator: Any = check_matrix(
            "operator", operator, allow_complex=True, shape=shape, rows=rhs
        )
        self.rhs: ArrayT = check_rows("rhs", rhs, self.operator.shape[0], "the rows of `operator`")
        check_library("rhs", self.rhs, "`operator`", self.operator)
        self.ridge = float(check_nonnegative("ridge", ridge))
        check_adjoint(self.operator, self.rhs)
        self._adjoint = adjoint_of(self.operator)
        self._sweep: Sweep | None = None
        self._hessian: Gram | None = None
        self.choose_kernel()

    def choose_kernel(self) -> None:
        """Choose what makes the steps, for the right-hand side as it is; compiles nothing."""
        self._sweep = least_squares_sweep(self.operator, self.rhs)

    @property
    def kernel(self) -> str | None:
        """Name of the compiled sweep that serves this problem; None where NumPy or SciPy do."""
        return self._sweep.name if self._sweep and self._sweep.usable else None

    @property
    def hessian(self) -> Gram:
        """``AᵀA + μI``, of shape (n, n), with A kept apart for spectra."""
        if self._hessian is None:
            self._hessian = Gram.of_checked(self.operator, self.ridge)
        return self._hessian

    @property
    def linear_term(self) -> ArrayT:
        """``Aᵀb``."""
        if self._sweep:
            # A sweep from 0 rather than a BLAS product, whose threads would spin on through the
            # first tenth of a second of the steps to come.
            rhs: Any = self.rhs
            zero = np.zeros((*rhs.shape[:-1], self.operator.shape[1]), rhs.dtype)
            swept: ArrayT | None = self._sweep(zero, 0, 1)
            if swept is not None:
                return swept
        term: ArrayT = apply(self._adjoint, self.rhs)
        return term

    @property
    def products_per_gradient(self) -> int:
        """2: one with A, one with its transpose."""
        return 2

    def gradient(self, x: ArrayT) -> ArrayT:
        """``Aᵀ(Ax − b) + μx``."""
        swept: ArrayT | None = self._sweep(x, self.ridge, -1) if self._sweep else None
        return self._plain_gradient(x) if swept is None else swept

    def gradient_step(self, x: ArrayT, gamma: Any) -> ArrayT:
        """``x − gamma·gradient(x)``."""
        if self._sweep:
            swept: ArrayT | None = self._sweep(x, 1 - gamma * self.ridge, gamma)
            if swept is not None:
                return swept
        step: ArrayT = x - gamma * self._plain_gradient(x)
        return step

    def value(self, x: ArrayT) -> Any:
        """``½‖Ax − b‖² + ½μ‖x‖²``, one number or one per row."""
        rows: Any = x
        residual: Any = self.residual(x)
        value = (residual * residual.conj()).real.sum(-1) / 2
        return value + self.ridge / 2 * (rows * rows.conj()).real.sum(-1) if self.ridge else value

    def residual(self, x: ArrayT) -> ArrayT:
        """``Ax − b``, of the shape of b; one product."""
        residual: ArrayT = apply(self.operator, x) - self.rhs
        return residual

    def adjoint_product(self, rows: ArrayT) -> ArrayT:
        """``Aᴴv`` for a vector v of length m or for each row of a batch."""
        product: ArrayT = apply(self._adjoint, rows)
        return product

    def product(self, rows: ArrayT) -> ArrayT:
        """``(AᵀA + μI) v``, in one sweep over A where there is a kernel."""
        if self.kernel is not None:
            return self._homogeneous.gradient(rows)
        product: ArrayT = self.adjoint_product(apply(self.operator, rows))
        return product + self.ridge * rows if self.ridge else product

    @functools.cached_property
    def _homogeneous(self) -> LeastSquares[ArrayT]:
        return self.with_rhs(0 * self.rhs)

    def gradient_magnitude(self, lengths: FloatArray, upper: float) -> FloatArray:
        """``b‖x‖ + √b‖rhs‖`` for an upper bound b of the spectrum."""
        return upper * lengths + math.sqrt(upper) * self._rhs_norms

    @functools.cached_property
    def _rhs_norms(self) -> FloatArray:
        return norms(self.rhs)

    def with_rhs(self, rhs: ArrayT) -> Self:
        """A twin with another right-hand side: nothing is checked, converted or copied."""
        twin: Self = _with_rhs(self, rhs)
        return twin

    def column_squares(self) -> Any:
        """Squared norms of the columns of A, and the ridge; None where entries are not known."""
        squares = column_squares(self.operator)
        return None if squares is None else squares + self.ridge

    def rows_of(self, places: Sequence[int]) -> Self:
        """The problem of some right-hand sides."""
        return self.with_rhs(take(self.rhs, places))

    def sizes(self) -> Sizes:
        """How large entries of A and b are."""
        return Sizes.of(self.operator, self.rhs, is_squared=True)

    def divided(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> LeastSquares[ArrayT]:
        """The problem with A and b divided by powers of two, μ by the square of A's."""
        matrix = divided(self.operator, exponent) if exponent else self.operator
        ridge = self.ridge / 2.0**exponent / 2.0**exponent
        return LeastSquares(matrix, rows_divided(self.rhs, rhs_exponents), ridge=ridge)

    def _plain_gradient(self, x: ArrayT) -> ArrayT:
        residual = apply(self.operator, x) - self.rhs
        gradient: ArrayT = apply(self._adjoint, residual)
        return gradient + self.ridge * x if self.ridge else gradient


class Quadratic(QuadraticProblem[ArrayT]):
    """Minimise ``½xᵀAx − bᵀx``, that is solve ``Ax = b`` for a symmetric positive definite A.

    A complex A is Hermitian, and ``½xᴴAx − Re bᴴx`` is minimised.

    Args:
        hessian: A, of shape (n, n): ndarray, SciPy sparse array, ``LinearOperator``, pylops
            operator or torch tensor, or anything that `stepfold.operators.linear_map` takes, such
            as a function. Integers become float64. Symmetry is taken on trust; `estimate_bounds`
            checks it.
        rhs: b, of shape (n,), or (batch, n) for as many problems with the same A.

    Raises:
        TypeError: If an argument is not a matrix or not of numbers, or if one is a tensor and the
            other an array, or a tensor of another dtype or device.
        ValueError: If A is not square, shapes do not fit, or an entry is not finite.

    >>> Quadratic(np.diag([2.0, 1.0]), np.array([2.0, 3.0])).gradient(np.array([1.0, 0.0]))
    array([ 0., -3.])
    """

    def __repr__(self) -> str:
        return as_call(self, hessian=self._hessian)

    def __init__(self, hessian: Operator, rhs: ArrayT) -> None:
        self._hessian: Any = check_matrix(
            "hessian", hessian, allow_complex=True, rows=rhs, is_square=True
        )
        remedy = "; for a rectangular matrix use `LeastSquares`"
        check_square("hessian", self._hessian, remedy)
        self.rhs: ArrayT = check_rows("rhs", rhs, self._hessian.shape[0], "`hessian`")
        check_library("rhs", self.rhs, "`hessian`", self._hessian)
        self._sweep: Sweep | None = None
        self.choose_kernel()

    def choose_kernel(self) -> None:
        """Choose what makes the steps, for the right-hand side as it is; compiles nothing."""
        self._sweep = quadratic_sweep(self._hessian, self.rhs)

    @property
    def kernel(self) -> str | None:
        """Name of the compiled sweep that serves this problem; None where NumPy or SciPy do."""
        return self._sweep.name if self._sweep and self._sweep.usable else None

    @property
    def hessian(self) -> Operator:
        """A, as given."""
        hessian: Operator = self._hessian
        return hessian

    @property
    def linear_term(self) -> ArrayT:
        """b."""
        return self.rhs

    def gradient_magnitude(self, lengths: FloatArray, upper: float) -> FloatArray:
        """``b‖x‖ + ‖rhs‖`` for an upper bound b of the spectrum."""
        return upper * lengths + self._rhs_norms

    @functools.cached_property
    def _rhs_norms(self) -> FloatArray:
        return norms(self.rhs)

    def product(self, rows: ArrayT) -> ArrayT:
        """``A v``, by the kernel where there is one."""
        if self.kernel is not None:
            return self._homogeneous.gradient(rows)
        product: ArrayT = apply(self._hessian, rows)
        return product

    @functools.cached_property
    def _homogeneous(self) -> Quadratic[ArrayT]:
        return self.with_rhs(0 * self.rhs)

    def with_rhs(self, rhs: ArrayT) -> Self:
        """A twin with another right-hand side: nothing is checked, converted or copied."""
        twin: Self = _with_rhs(self, rhs)
        return twin

    def rows_of(self, places: Sequence[int]) -> Self:
        """The problem of some right-hand sides."""
        return self.with_rhs(take(self.rhs, places))

    def sizes(self) -> Sizes:
        """How large entries of A and b are."""
        return Sizes.of(self._hessian, self.rhs, is_squared=False)

    def divided(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> Quadratic[ArrayT]:
        """The problem with A and b divided by powers of two."""
        matrix = divided(self._hessian, exponent) if exponent else self._hessian
        return Quadratic(matrix, rows_divided(self.rhs, rhs_exponents))

    @property
    def products_per_gradient(self) -> int:
        """1."""
        return 1

    def gradient(self, x: ArrayT) -> ArrayT:
        """``Ax − b``."""
        swept: ArrayT | None = self._sweep(x, 0, -1) if self._sweep else None
        return apply(self._hessian, x) - self.rhs if swept is None else swept

    def gradient_step(self, x: ArrayT, gamma: Any) -> ArrayT:
        """``x − gamma·gradient(x)``."""
        swept: ArrayT | None = self._sweep(x, 1, gamma) if self._sweep else None
        if swept is not None:
            return swept
        step: ArrayT = x - gamma * (apply(self._hessian, x) - self.rhs)
        return step


def _with_rhs(problem: Any, rhs: Any) -> Any:
    # A shallow copy: the constructor looks at every entry of the operator, which costs a product.
    twin = copy.copy(problem)
    for known in ("_homogeneous", "_rhs_norms"):
        vars(twin).pop(known, None)
    twin.rhs = rhs
    twin.choose_kernel()  # the old one holds the old right-hand side
    return twin
