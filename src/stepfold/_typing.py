"""Types that carry NumPy arrays and torch tensors through the same line of code."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
"""A float64 NumPy array."""


class Array(Protocol):
    """What the iterations ask of a vector: NumPy arrays and torch tensors both have it."""

    @property
    def ndim(self) -> int: ...
    @property
    def shape(self) -> Any: ...
    @property
    def T(self) -> Any: ...  # noqa: N802, RUF100 (NumPy's name)
    def __add__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __rmul__(self, other: Any, /) -> Any: ...


ArrayT = TypeVar("ArrayT", bound=Array)


class Operator(Protocol):
    """A linear map: ndarray, SciPy sparse array, ``LinearOperator``, pylops operator or tensor."""

    @property
    def shape(self) -> Any: ...
    @property
    def T(self) -> Any: ...  # noqa: N802, RUF100 (NumPy's name)
    def __matmul__(self, other: Any, /) -> Any: ...
