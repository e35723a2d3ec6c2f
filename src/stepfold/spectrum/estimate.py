"""`estimate_bounds`: the method that fits the operator, or the one that is asked for.

Small matrices are diagonalised. Larger ones get Lanczos steps, and where entries are known
Gershgorin's discs first: if they are tight, Lanczos can stop as soon as that is seen, and the
guaranteed end is the one returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from stepfold._checks import check_count, check_items, check_matrix, check_square
from stepfold._typing import Operator
from stepfold.operators import linear_map
from stepfold.spectrum.bounds import Certainty, SpectralBounds, tightest
from stepfold.spectrum.complex_form import is_complex
from stepfold.spectrum.entries import Gershgorin
from stepfold.spectrum.exact import USE_GRAM, Exact
from stepfold.spectrum.gram import Gram
from stepfold.spectrum.lanczos import Lanczos
from stepfold.spectrum.target import Target, has_entries

# Up to this many rows or columns, and this many multiplications, all eigenvalues take a second or
# two; then Lanczos takes over.
EXACT_UP_TO = 1500
EXACT_WORK = 1e10


class BoundsMethod(Protocol):
    """A way to bound a spectrum; methods are frozen records of their settings."""

    def bounds(self, target: Target) -> SpectralBounds:
        """Bounds of the spectrum of ``target.hessian``."""
        ...


@runtime_checkable
class KnowsBounds(Protocol):
    """A problem that has a way of its own to its bounds, which `estimate_bounds` then takes."""

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds of the spectrum that steps see, by ``method`` or, if it is None, the best one."""
        ...


@runtime_checkable
class HasHessian(Protocol):
    """A problem whose bounds are those of its Hessian."""

    @property
    def hessian(self) -> Operator:
        """Symmetric positive semidefinite map of shape (n, n)."""
        ...


@dataclass(frozen=True, slots=True)
class Tightest:
    """Several methods on one operator: the tighter of their ends, and its certainty.

    Methods run in the order given; guaranteed ends that one has found spare `Lanczos` further
    steps as soon as they turn out to be tight.

    Args:
        methods: At least one method.

    Raises:
        ValueError: If there are none; from `estimate_bounds`, if methods contradict each other.

    >>> hessian = np.diag(np.full(50, 2.0)) - np.eye(50, k=1) - np.eye(50, k=-1)
    >>> bounds = estimate_bounds(hessian, method=Tightest((Gershgorin(), Lanczos())))
    >>> bounds.upper, str(bounds.upper_certainty)
    (4.0, 'guaranteed')
    """

    methods: tuple[BoundsMethod, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(check_items("methods", self.methods, "methods")))
        if not self.methods:
            raise ValueError("`methods` must hold at least one method, got none")

    def bounds(self, target: Target) -> SpectralBounds:
        """Intersection of the bounds of all methods."""
        parts: list[SpectralBounds] = []
        for method in self.methods:
            part = method.bounds(target)
            parts.append(part)
            if part.upper_certainty is Certainty.GUARANTEED:
                target = replace(target, ceiling=min(target.ceiling, part.upper))
            if part.lower_certainty is Certainty.GUARANTEED:
                target = replace(target, floor=max(target.floor, part.lower))
        return tightest(parts)


def estimate_bounds(
    hessian: Operator | Callable[[Any], Any] | HasHessian | KnowsBounds,
    *,
    shape: tuple[int, int] | None = None,
    like: Any = None,
    method: BoundsMethod | None = None,
    seed: int = 0,
) -> SpectralBounds:
    """Bounds of the spectrum of a problem, or of a symmetric positive semidefinite map.

    Without a ``method`` matrices of at most `EXACT_UP_TO` rows or columns are diagonalised. Larger
    ones, and all whose entries are not known, get `Lanczos` steps from a random start, beside
    `Gershgorin` discs where entries are known.

    Args:
        hessian: A problem: the bounds are those of its Hessian, those of its smooth part for a
            composite one, those of ``M⁻¹H`` for a preconditioned one. Or the map of shape (n, n)
            itself: dense, sparse, ``LinearOperator``, pylops operator, torch tensor, `Gram`, or
            anything that `stepfold.operators.linear_map` takes, such as a function ``v -> H v`` of
            vectors of shape (n,). Complex maps must be Hermitian.
        shape: (n, n); for what does not tell, such as a function.
        like: What vectors are, for what does not tell: an array or a tensor of the right library,
            precision and device, or a dtype. A function is tried with a vector of NumPy first, then
            with tensors in double precision, in single, and with complex ones. One that holds
            tensors, in its closure or its attributes, is tried with tensors first.
        method: `Exact`, `Lanczos`, `Gershgorin`, `Norms`, `Convolution`, `GaussianFactor`,
            `Tightest` of several, or anything with a method ``bounds``.
        seed: Seed of the random start; the same seed gives the same bounds.

    Returns:
        Bounds in units of the Hessian, whose ends are guaranteed, estimated or assumed, each by
        itself. A lower end that cannot be known is 0, or the shift of a `Gram`;
        ``lower_uncertainty`` is then 1, and what is known from inside is ``reached_lower``.

    Raises:
        TypeError: If ``hessian`` is not a linear map of numbers.
        ValueError: If it is not square, not symmetric, not positive semidefinite or not finite, as
            far as entries and products show.

    References:
        Golub and Van Loan, Matrix Computations (2013), chapter 10.

    >>> bounds = estimate_bounds(np.diag([1.0, 2.0, 4.0]))
    >>> bounds.lower, bounds.upper, str(bounds.upper_certainty)
    (1.0, 4.0, 'guaranteed')
    >>> estimate_bounds(lambda v: 3.0 * v, shape=(10, 10)).upper_certainty
    <Certainty.ESTIMATED: 'estimated'>
    >>> from stepfold import LeastSquares
    >>> estimate_bounds(LeastSquares(np.diag([1.0, 3.0]), np.ones(2))).upper
    9.0
    """
    seed = check_count("seed", seed, minimum=0)
    if method is not None and not callable(getattr(method, "bounds", None)):
        raise TypeError(
            "`method` must be a method of bounding such as `Lanczos()` or `Exact()`, "
            f"got {method!r}"
        )
    if shape is None and isinstance(hessian, KnowsBounds):
        return hessian.own_bounds(method, seed)
    operator = _operator(hessian, shape, like)
    if method is None:
        method = _automatic(operator)
    if isinstance(operator, Gram):
        if hasattr(operator.factor, "gram_product"):
            # One sweep over the data a step, where Golub–Kahan's takes two. Squaring costs the
            # digits of eigenvalues below eps·λ_max, which are out of reach of any schedule.
            product = operator.factor.gram_product
            fused = linear_map(product, product, shape=operator.shape, like=np.zeros(0))
            bounds = method.bounds(Target(fused, seed))
            bounds = replace(bounds, num_products=2 * bounds.num_products)
        else:
            bounds = method.bounds(Target(Gram.of_checked(operator.factor), seed))
        if bounds.lower == 0:  # a Gram is semidefinite, whatever the method knows of it
            bounds = replace(bounds, lower_certainty=Certainty.GUARANTEED)
        return bounds.shifted(operator.shift)
    return method.bounds(Target(operator, seed))


def _operator(hessian: Any, shape: tuple[int, int] | None, like: Any) -> Any:
    if shape is not None and (not isinstance(shape, tuple) or len(shape) != 2):
        raise ValueError(f"`shape` must be a pair (n, n), got {shape!r}")
    if isinstance(hessian, HasHessian) and not hasattr(hessian, "__matmul__"):
        hessian = hessian.hessian
    if isinstance(hessian, Gram):
        operator: Any = hessian
    else:
        if shape is not None:
            shape = tuple(check_count("shape", length) for length in shape)  # type: ignore[assignment]
        operator = check_matrix("hessian", hessian, allow_complex=True, shape=shape, like=like)
    check_square("hessian", operator, USE_GRAM)
    return operator


def fits_dense_eigensolver(hessian: Operator) -> bool:
    """Whether a dense eigensolver takes about two seconds at most; the entries must be known.

    >>> fits_dense_eigensolver(np.eye(3)), fits_dense_eigensolver(np.eye(2000))
    (True, False)
    """
    matrix = hessian.factor if isinstance(hessian, Gram) else hessian
    if not has_entries(matrix):
        return False
    smaller, larger = sorted(matrix.shape)
    work = smaller * smaller * larger * (4 if is_complex(hessian) else 1)
    return bool(smaller <= EXACT_UP_TO and work <= EXACT_WORK)


def _automatic(operator: Any) -> BoundsMethod:
    if fits_dense_eigensolver(operator):
        return Exact()
    matrix = operator.factor if isinstance(operator, Gram) else operator
    return _WithDiscs() if has_entries(matrix) else Lanczos()


@dataclass(frozen=True, slots=True)
class _WithDiscs:
    """Gershgorin's discs and Lanczos steps, which test the symmetry for both."""

    def bounds(self, target: Target) -> SpectralBounds:
        discs = Gershgorin().bounds(replace(target, symmetry_is_checked=True))
        steps = Lanczos().bounds(replace(target, ceiling=discs.upper, floor=discs.lower))
        return tightest([discs, steps])
