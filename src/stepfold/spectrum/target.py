"""What a method of bounding is given, and products that are counted, checked and scaled.

Products are divided by a power of two near the size of the first one. Rounding commutes with
powers of two, so operators in any units, from 1e-150 to 1e150, go through the same numbers; no
tolerance anywhere is absolute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepfold._arrays import (
    all_finite,
    cast,
    dtype_kind,
    epsilon,
    from_host,
    is_array,
    is_foreign,
    is_numpy,
    is_sparse_tensor,
    largest_entry,
    norms,
    to_host,
)
from stepfold._typing import FloatArray, Operator
from stepfold.operators import LinearMap, adjoint_of
from stepfold.spectrum.complex_form import real_form
from stepfold.spectrum.gram import Gram

STREAM = 0x626F756E6473


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """A checked Hessian of shape (n, n) whose spectrum is asked for.

    Args:
        hessian: A symmetric or Hermitian map, or a `Gram` without shift (it is added afterwards).
        seed: Seed for random starts.
        ceiling: A guaranteed upper bound that is known already; infinite if there is none.
        floor: A guaranteed lower bound that is known already.
        symmetry_is_checked: Whether somebody else tests that the Hessian is symmetric.
    """

    hessian: Any
    seed: int = 0
    ceiling: float = math.inf
    floor: float = 0.0
    symmetry_is_checked: bool = False

    @property
    def factor(self) -> Any:
        """A, if the Hessian is ``AᵀA``; None if it is just a symmetric map."""
        return self.hessian.factor if isinstance(self.hessian, Gram) else None

    @property
    def matrix(self) -> Any:
        """A of a `Gram`, else the Hessian: what products are made with."""
        return self.hessian if self.factor is None else self.factor

    def in_real_numbers(self) -> Target:
        """The target with a complex Hessian as a map of real and imaginary parts."""
        matrix = self.matrix
        if isinstance(matrix, LinearMap):
            # A product with the vector from which the recurrence is going to start.
            first = matrix.H if self.factor is not None and _is_wide(matrix) else matrix
            start = self.random_vector(first.shape[1])
            first.makes_complex(start / float(norms(start)[0]))
        return replace(self, hessian=real_form(self.hessian))

    def random_vector(self, size: int) -> Any:
        """Independent standard normal numbers, the same for the same seed.

        An array of NumPy, or one such as `vectors_like` of the map, if it has that. The numbers are
        from a stream of their own: with ``default_rng(seed)`` they would be the first row of a
        matrix that the caller drew with that seed, and far from independent of it.
        """
        numbers = np.random.default_rng([self.seed, STREAM]).standard_normal(size)
        like = getattr(self.matrix, "vectors_like", None)
        return numbers if like is None else from_host(numbers, like)


def has_entries(matrix: Any) -> bool:
    """Whether entries can be read: dense arrays of any library, sparse ones of SciPy."""
    return (is_array(matrix) and not is_sparse_tensor(matrix)) or hasattr(matrix, "toarray")


def dense(matrix: Any) -> Any:
    """A matrix with entries as a dense array of NumPy."""
    return matrix.toarray() if hasattr(matrix, "toarray") else to_host(matrix)


def on_host(matrix: Any) -> tuple[Any, float]:
    """A matrix with entries as one of NumPy or SciPy, and the precision of its dtype."""
    eps = epsilon(matrix) if dtype_kind(matrix.dtype) in "fc" else 0.0
    if not is_foreign(matrix):
        return matrix, eps
    array = to_host(matrix)
    # Sums of halves overflow at 65504.
    return (array.astype(np.float32) if array.dtype == np.float16 else array), eps


def _is_wide(matrix: Any) -> bool:
    return bool(matrix.shape[0] < matrix.shape[1])


class Products:
    """Products with ``operator`` and its transpose, divided by ``2**exponent`` and counted.

    Vectors go in and come out as float64 NumPy arrays of shape (n,), whatever the operator takes;
    only where it has `vectors_like` they are arrays such as that.

    Args:
        operator: Real linear map of shape (m, n).
        name: What error messages call it.
    """

    def __init__(self, operator: Operator, name: str) -> None:
        self._operator = operator
        self._transpose: Any = None
        self._name = name
        self.exponent: int | None = None
        self.count = 0
        self.eps = float(np.finfo(np.float64).eps)

    def forward(self, v: FloatArray) -> FloatArray:
        """``A v / 2**exponent``."""
        return self._product(self._operator, v, self._operator.shape[0])

    def backward(self, u: FloatArray) -> FloatArray:
        """``Aᵀ u / 2**exponent``."""
        if self._transpose is None:
            self._transpose = adjoint_of(self._operator)
        return self._product(self._transpose, u, self._operator.shape[1])

    def _product(self, operator: Any, v: FloatArray, length: int) -> FloatArray:
        self.count += 1
        if hasattr(operator, "vectors_like"):
            result, self.eps = operator @ v, max(self.eps, epsilon(operator))
        elif isinstance(operator, LinearMap):
            result, eps = on_host(operator.of_host(v))
            self.eps = max(self.eps, eps)
        elif is_foreign(operator):
            like = operator if dtype_kind(operator.dtype) == "f" else cast(operator, "float64")
            result, eps = on_host(like @ from_host(v, like))
            self.eps = max(self.eps, eps)
        elif is_numpy(operator) and operator.dtype == np.float32:
            result = operator @ v.astype(np.float32)  # else NumPy widens the matrix every time
        else:
            result = np.asarray(operator @ v)
        return self._checked(result, length)

    def _checked(self, result: Any, length: int) -> FloatArray:
        if result.dtype.kind not in "buif":
            raise TypeError(
                f"products with `{self._name}` must be arrays of real numbers, got dtype "
                f"{result.dtype}; for a complex map bound the real one that acts on real and "
                "imaginary parts"
            )
        if result.shape != (length,):
            raise ValueError(
                f"products of `{self._name}` with a vector must have shape ({length},), "
                f"got {result.shape}; check `shape` and what the operator returns"
            )
        if result.dtype.kind == "f":
            self.eps = max(self.eps, float(np.finfo(result.dtype).eps))
        result = cast(result, "float64")
        if not all_finite(result):
            raise ValueError(
                f"products of `{self._name}` with a finite vector must be finite, got NaN or "
                "infinity; check the operator, or divide it by its norm if it overflows"
            )
        if self.exponent is None:
            self.exponent = int(np.frexp(largest_entry(result))[1])
        # Always a new array: the recurrences write into what they get, and the operator may have
        # handed out its own buffer, or its input.
        scaled: FloatArray
        if abs(self.exponent) < 1000 or not is_numpy(result):
            scaled = result * 2.0**-self.exponent
        else:
            scaled = np.ldexp(result, -self.exponent)
        return scaled
