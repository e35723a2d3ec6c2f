"""Preconditioning: the same minimiser, another spectrum.

With M symmetric positive definite and close to the Hessian H, the iteration
``x ← x − γ M⁻¹∇f(x)`` sees the eigenvalues of ``M⁻¹H``. They are real and positive, because the map
is self-adjoint in the inner product ``⟨u, v⟩ = uᵀMv`` (it is similar to ``M^(−1/2) H M^(−1/2)``),
and steps are made for *their* bounds. Lanczos in that inner product needs M⁻¹ only: vectors u and
their images ``v = M⁻¹u`` are carried side by side.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from stepfold._arrays import (
    cast,
    column,
    epsilon,
    from_host,
    is_array,
    norms,
    row_dots,
    to_host,
    without_labels,
)
from stepfold._checks import check_array, check_instance, check_matrix, check_unmasked
from stepfold._krylov import Tridiagonal, lanczos
from stepfold._typing import ArrayT, FloatArray, Operator
from stepfold.operators import OwnOperator, apply, column_squares
from stepfold.problems._symmetric_form import Definite, check_definite, symmetric_form
from stepfold.problems.base import QuadraticProblem
from stepfold.problems.quadratic import LeastSquares
from stepfold.spectrum import BoundsMethod, Certainty, Lanczos, SpectralBounds, estimate_bounds

# Lanczos steps for the bounds with a preconditioner that is known by its products only.
MAX_LANCZOS_STEPS = 80
# Of the largest and the smallest Ritz value: how far the residual must come down.
RESIDUAL, LOWER_RESIDUAL = 0.02, 0.1
# How far outside we go.
MARGIN = 0.03


class Preconditioned(QuadraticProblem[ArrayT]):
    """The problem seen through ``M⁻¹``: its gradient is ``M⁻¹∇f(x)``, its minimiser the same.

    Args:
        problem: The problem itself.
        preconditioner: The diagonal of M as a positive vector of shape (n,)
            (`jacobi_preconditioner` makes that of the Hessian), or an operator of shape (n, n)
            whose products are those of ``M⁻¹``, as in SciPy's ``cg``: symmetric positive definite.
            A matrix is checked (its diagonal alone beyond 1500 rows), an operator where its
            products show that it is not.

    Norms and tolerances of `solve` are those of ``M⁻¹∇f``. The map `hessian`, ``M⁻¹H``, is not
    symmetric: `estimate_bounds` of the problem gives its bounds.

    Raises:
        TypeError: If ``problem`` is not a problem or is preconditioned already.
        ValueError: If shapes do not fit, or the preconditioner is not finite, symmetric and
            positive definite.

    >>> from stepfold import Quadratic
    >>> problem = Preconditioned(Quadratic(np.diag([2.0, 50.0]), np.ones(2)), np.array([2.0, 25.0]))
    >>> problem.gradient(np.zeros(2))
    array([-0.5 , -0.04])
    >>> round(estimate_bounds(problem).upper, 2)
    2.0
    """

    def __init__(self, problem: QuadraticProblem[ArrayT], preconditioner: Any) -> None:
        if not isinstance(problem, QuadraticProblem) or isinstance(problem, Preconditioned):
            raise TypeError(
                "`problem` must be a QuadraticProblem that is not preconditioned yet, "
                f"got {type(problem).__name__}"
            )
        self.problem = problem
        size = problem.hessian.shape[0]
        check_unmasked("preconditioner", preconditioner)
        preconditioner = without_labels("preconditioner", preconditioner)
        if isinstance(preconditioner, (list, tuple)):
            preconditioner = np.asarray(preconditioner, dtype=np.float64)
        self._quotient = 0.0  # the largest uᵀM⁻¹u/uᵀu so far
        self.diagonal: Any = None
        self._inverse: Any = None
        if getattr(preconditioner, "ndim", 2) == 1:
            _check_diagonal(preconditioner, size)
            self.diagonal = preconditioner
        else:
            self._inverse = check_matrix(
                "preconditioner",
                preconditioner,
                allow_complex=True,
                shape=None if hasattr(preconditioner, "shape") else (size, size),
            )
            if tuple(self._inverse.shape) != (size, size):
                raise ValueError(
                    f"`preconditioner` must have shape ({size}, {size}) or ({size},), got "
                    f"{tuple(self._inverse.shape)}"
                )
            check_definite(self._inverse)

    def precondition(self, rows: Any) -> Any:
        """``M⁻¹v`` of a vector or of each row of a batch."""
        if self.diagonal is None:
            return apply(self._inverse, rows)
        quotient = rows / self.diagonal
        # A float64 diagonal must not turn a float32 iterate into a float64 one.
        return cast(quotient, rows.dtype)

    @property
    def hessian(self) -> Operator:
        """``M⁻¹H``: self-adjoint in the inner product of M, not symmetric."""
        operator: Operator = _Composed(self)
        return operator

    @property
    def linear_term(self) -> ArrayT:
        """``M⁻¹`` times the problem's."""
        term: ArrayT = self.precondition(self.problem.linear_term)
        return term

    @property
    def clock(self) -> Callable[[], float]:
        """That of the problem inside."""
        return self.problem.clock

    def agree(self, **settings: Any) -> None:
        """Ask the problem inside."""
        self.problem.agree(**settings)

    @property
    def products_per_gradient(self) -> int:
        """Those of the problem; products with ``M⁻¹`` are not counted."""
        return self.problem.products_per_gradient

    def gradient(self, x: ArrayT) -> ArrayT:
        """``M⁻¹∇f(x)``."""
        gradient: ArrayT = self.precondition(self.problem.gradient(x))
        return gradient

    def value(self, x: ArrayT) -> Any:
        """f(x), that of the problem."""
        return self.problem.value(x)

    @property
    def zero(self) -> ArrayT:
        """The point 0."""
        return self.problem.zero

    @property
    def euclidean(self) -> QuadraticProblem[ArrayT]:
        """The problem without the preconditioner."""
        return self.problem

    def gradient_norms(self, dual: ArrayT, primal: ArrayT) -> FloatArray:
        """``√(uᵀM⁻¹u)``, the norm of ``M⁻¹u`` in the inner product of M, for each row.

        Raises:
            ValueError: If it is the root of a negative number, or of 0 to rounding where
                u is not 0: M⁻¹ is not positive definite.
        """
        # Of vectors of norm 1, whose squares neither overflow nor vanish.
        sizes, lengths = norms(dual), norms(primal)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            units = [column(np.where(all_ > 0, all_, 1.0), dual) for all_ in (sizes, lengths)]
            cosines = row_dots(dual / units[0], primal / units[1])
            quotients = np.where(sizes > 0, cosines * (lengths / sizes), np.inf)
        self._quotient = max(self._quotient, float(np.max(quotients, initial=0.0, where=sizes > 0)))
        bad = quotients <= 10 * epsilon(dual) * self._quotient
        if bad.any():
            worst = int(np.argmax(bad))
            raise ValueError(
                "`preconditioner` must be positive definite, got a vector u with uᵀM⁻¹u/uᵀu = "
                f"{quotients[worst]:.3g}; give a symmetric positive definite one"
            )
        return np.sqrt(cosines) * np.sqrt(sizes) * np.sqrt(lengths)

    def lengths(self, rows: ArrayT) -> FloatArray:
        """``√(vᵀMv)``, or ``vᵀv/√(vᵀM⁻¹v)`` where M is not known, which is no more."""
        if self.diagonal is not None:
            return norms(rows * self.diagonal**0.5)
        sizes = norms(rows)
        dual = self.gradient_norms(rows, self.precondition(rows))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            found: FloatArray = np.where(sizes > 0, sizes * (sizes / dual), 0.0)
        return found

    def gradient_magnitude(self, lengths: FloatArray, upper: float) -> FloatArray:
        """The same in the inner product of M."""
        return upper * lengths + self._term_norms

    @functools.cached_property
    def _term_norms(self) -> FloatArray:
        term: Any = self.problem.linear_term
        return self.gradient_norms(term, self.precondition(term))

    @property
    def metric(self) -> Any:
        """Diagonal of M, where it is diagonal."""
        return self.diagonal

    def rows_of(self, places: Sequence[int]) -> Self | None:
        """The problem of some right-hand sides, with the same preconditioner."""
        inner = self.problem.rows_of(places)
        return None if inner is None else self.of(inner)

    def of(self, problem: QuadraticProblem[ArrayT]) -> Self:
        """Another problem with the same preconditioner; nothing is checked."""
        twin = copy.copy(self)
        vars(twin).pop("_term_norms", None)
        twin.problem = problem
        return twin

    def symmetric_form(self) -> QuadraticProblem[Any] | None:
        """The problem of y, ``x = L y`` with ``M⁻¹ = L Lᵀ``; None where there is too much work."""
        return symmetric_form(self.problem, self.diagonal, self._inverse)

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds of the spectrum of ``M⁻¹H``: what `estimate_bounds` returns.

        With a diagonal M they are those of ``M^(−1/2) H M^(−1/2)``, which err on the safe side, and
        with a small matrix M⁻¹ those of ``LᵀHL``, ``M⁻¹ = L Lᵀ``.
        With products of ``M⁻¹`` alone they come from Lanczos steps in the inner product of M: the
        upper end is the largest Ritz value, its residual and 3 % more; the lower end is the
        smallest Ritz value less its residual and 25 %, or 0 if the steps do not resolve it. That is
        a practice and no theorem, and `solve`'s guard mends an upper end too low.

        Args:
            method: Any where M is diagonal or M⁻¹ a small matrix; else None, or a `Lanczos` whose
                ``max_steps`` are taken.
            seed: Seed of the random start.

        Raises:
            TypeError: If M is known by products alone and ``method`` is another one.
            ValueError: If products show that M is not positive definite.
        """
        form = self.symmetric_form()
        if form is not None:
            return estimate_bounds(form, method=method, seed=seed)
        if self.diagonal is not None:
            bounds = estimate_bounds(_Scaled(self), method=method, seed=seed)
            spent = self.problem.products_per_gradient * bounds.num_products
            return replace(bounds, num_products=spent)
        if method is not None and not isinstance(method, Lanczos):
            raise TypeError(
                "`method` must be None or `Lanczos(...)` where a preconditioner is known by its "
                f"products alone, got {type(method).__name__}"
            )
        return self._bounds_by_pairs(
            MAX_LANCZOS_STEPS if method is None else method.max_steps, seed
        )

    def _bounds_by_pairs(self, max_steps: int, seed: int) -> SpectralBounds:
        like: Any = self.problem.linear_term
        like = like if like.ndim == 1 else like[0]
        hessian = self.problem.hessian
        start = from_host(np.random.default_rng(seed).standard_normal(like.shape[0]), like)
        found = lanczos(
            lambda v: hessian @ v,
            start,
            max_steps,
            precondition=Definite(self.precondition),
            stop=_both_ends_settled,
            reorthogonalise=False,
        )
        low, high, low_residual, high_residual = found.ends()
        lower = 0.75 * (low - low_residual)
        resolved = lower > 100 * np.finfo(np.float64).eps * high
        per_product = self.problem.products_per_gradient
        return SpectralBounds(
            lower if resolved else 0.0,
            (1 + MARGIN) * (high + high_residual),
            Certainty.ESTIMATED if resolved else Certainty.ASSUMED,
            Certainty.ESTIMATED,
            method=f"{found.diagonal.size} preconditioned Lanczos steps",
            num_products=per_product * found.diagonal.size,
            seed=seed,
            reached_lower=max(low, 0.0),
            reached_upper=high,
        )


def jacobi_preconditioner(problem: QuadraticProblem[Any]) -> Any:
    """Diagonal of the Hessian, for `Preconditioned`: ``diag(A)``, or ``diag(AᵀA) + μ``.

    Returns:
        Positive vector of shape (n,), of the array type and dtype of the operator.

    Raises:
        TypeError: If the entries of the operator are not known; give the diagonal yourself.
        ValueError: If an entry is not positive: the Hessian is not definite.

    >>> from stepfold import LeastSquares
    >>> jacobi_preconditioner(LeastSquares(np.array([[3.0, 0.0], [4.0, 2.0]]), np.ones(2)))
    array([25.,  4.])
    """
    check_instance("problem", problem, QuadraticProblem, "as `LeastSquares(operator, rhs)`")
    operator: Any = problem.operator if isinstance(problem, LeastSquares) else problem.hessian
    diagonal: Any = None
    if isinstance(problem, LeastSquares):
        squares = column_squares(operator)
        diagonal = None if squares is None else squares + problem.ridge
    elif hasattr(operator, "diagonal") and (hasattr(operator, "tocsr") or is_array(operator)):
        diagonal = operator.diagonal()
    if diagonal is None:
        raise TypeError(
            "`jacobi_preconditioner` needs the entries of the operator (ndarray, sparse array or "
            f"tensor), got {type(operator).__name__}; give its diagonal to `Preconditioned`"
        )
    _check_diagonal(diagonal, operator.shape[1])
    return diagonal


def _both_ends_settled(found: Tridiagonal) -> bool:
    low, high, low_residual, high_residual = found.ends()
    return high_residual <= RESIDUAL * high and low_residual <= LOWER_RESIDUAL * low


class _Scaled(OwnOperator):
    """``M^(−1/2) H M^(−1/2)`` for a diagonal M: symmetric, with the spectrum of ``M⁻¹H``."""

    def __init__(self, problem: Preconditioned[Any]) -> None:
        self._roots = np.sqrt(np.asarray(to_host(problem.diagonal), dtype=np.float64))
        self._like = problem.problem.linear_term
        self._hessian = problem.problem.hessian
        self.shape = tuple(self._hessian.shape)
        # Tells those who look at results how exact they are.
        self.dtype = np.dtype(np.float64 if self._like.dtype.itemsize >= 8 else np.float32)

    @property
    def T(self) -> _Scaled:  # noqa: N802, RUF100 (NumPy's name)
        return self

    def __matmul__(self, v: Any) -> Any:
        scaled = (np.asarray(v, dtype=np.float64).T / self._roots).T
        image: Any = self._hessian @ from_host(scaled, self._like)
        values = np.asarray(to_host(image), dtype=np.float64)
        return (values.T / self._roots).T.astype(self.dtype)


class _Composed(OwnOperator):
    """``v → M⁻¹(Hv)``, for a vector or the columns of a matrix."""

    def __init__(self, problem: Preconditioned[Any]) -> None:
        self._problem = problem
        self._hessian = problem.problem.hessian
        self.shape = self._hessian.shape
        self.dtype = getattr(self._hessian, "dtype", None)

    @property
    def T(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        raise TypeError(
            "the Hessian of a `Preconditioned` problem is not symmetric; take its bounds from "
            "`estimate_bounds(problem)`, its spectrum from the problem in the inner product of M"
        )

    def __matmul__(self, v: Any) -> Any:
        image = self._hessian @ v
        if image.ndim == 1:
            return self._problem.precondition(image)
        return self._problem.precondition(image.T).T


def _check_diagonal(diagonal: Any, size: int) -> None:
    values = check_array("preconditioner", to_host(diagonal))
    if values.shape != (size,):
        raise ValueError(
            f"`preconditioner` must have shape ({size},) to be a diagonal, got {values.shape}"
        )
    with np.errstate(divide="ignore", over="ignore"):
        inverses = 1 / values
    good = (values > 0) & np.isfinite(values) & np.isfinite(inverses)
    if not good.all():
        index = int(np.argmin(good))
        why = ", whose reciprocal overflows" if 0 < values[index] < 1 else ""
        raise ValueError(
            f"`preconditioner` must be positive and finite, got {values[index]} at index {index}"
            f"{why}; a row or column of zeros has no scale: leave it out, or put 1 in its place"
        )
