"""Vectors whose entries lie in several processes, as an array library of their own.

A `Spread` holds this process's entries of a vector of length n, or of the rows of a batch. Its
arithmetic is local; its sums along the last axis, and whatever else looks at all entries, are sums
over the processes, the same bits on each of them. It follows the array API standard as far as
`stepfold.solve` and `estimate_bounds` use it, so that these decide everything from numbers that
all processes share, and know nothing of processes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import row_dots
from stepfold._typing import FloatArray
from stepfold.distributed.exchange import Exchange
from stepfold.distributed.layout import Layout

# What is summed; numbers that all processes know.
SUM, LARGEST = 11, 12


class Spread:
    """A vector of shape (n,), or rows of shape (batch, n), of which each process has its entries.

    Made by `ShardedQuadratic.spread`.

    Args:
        local: This process's entries along the last axis, in the order of `Layout.own`.
        space: Where the others are.
        around: These entries and some of others around them, and for how many steps they are right;
            None if they are not known.
    """

    __array_ufunc__ = None  # arrays of NumPy leave arithmetic with one of these to it

    def __init__(
        self, local: NDArray[Any], space: Space, around: tuple[NDArray[Any], int] | None = None
    ) -> None:
        self.local, self.space, self.around = local, space, around

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return (*self.local.shape[:-1], self.space.layout.size)

    @property
    def ndim(self) -> int:
        """1, or 2 for a batch."""
        return self.local.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the entries."""
        return self.local.dtype

    @property
    def device(self) -> str:
        """The processor's memory."""
        return "cpu"

    def __array_namespace__(self, *, api_version: str | None = None) -> Space:
        return self.space

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError(
            "`x` has its entries in several processes; take `x.local`, or "
            "`stepfold.distributed.gathered(x)` on all of them"
        )

    def __repr__(self) -> str:
        group = self.space.exchange.group
        return f"Spread(shape={self.shape}, {self.dtype}, process {group.rank} of {group.size})"

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if self.ndim + sum(each is None for each in keys) == sum(
            each is not Ellipsis for each in keys
        ):
            last = keys[-1]
            if not (isinstance(last, slice) and last == slice(None)):
                raise IndexError("`x` has its entries in several processes, and no index for them")
        elif self.ndim == 1 and keys != (Ellipsis,):
            raise IndexError("`x` has its entries in several processes, and no index for them")
        return Spread(self.local[key], self.space)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.local[key] = _local(value)
        self.around = None

    def __neg__(self) -> Spread:
        return Spread(-self.local, self.space)

    def __abs__(self) -> Spread:
        return Spread(abs(self.local), self.space)

    def conj(self) -> Spread:
        """Itself: it is real."""
        return self

    @property
    def real(self) -> Spread:
        """Itself."""
        return self

    def sum(self, axis: int | None = None) -> Any:
        """Along the last axis, over all processes."""
        return self.space.sum(self, axis=axis)

    def __matmul__(self, other: Any) -> Any:
        """Inner products, of rows with a vector: one sum over the processes."""
        if not isinstance(other, Spread) or other.ndim != 1:
            return NotImplemented
        return self.space.total(self.local @ other.local)

    def __rmatmul__(self, weights: Any) -> Spread:
        """Sums of rows with weights that all processes have."""
        return Spread(np.asarray(weights) @ self.local, self.space)


def _operation(name: str) -> Any:
    function = getattr(np.ndarray, name)

    def operate(self: Spread, other: Any) -> Any:
        other = _local(other)
        if (
            isinstance(other, np.ndarray)
            and other.ndim
            and other.shape[-1]
            not in (
                1,
                self.local.shape[-1],
            )
        ):
            return NotImplemented
        return Spread(function(self.local, other), self.space)

    return operate


for _name in ("add", "sub", "mul", "truediv", "pow", "lt", "le", "gt", "ge", "and", "or"):
    setattr(Spread, f"__{_name}__", _operation(f"__{_name}__"))
for _name in ("radd", "rsub", "rmul", "rtruediv"):
    setattr(Spread, f"__{_name}__", _operation(f"__{_name}__"))


def _local(value: Any) -> Any:
    return value.local if isinstance(value, Spread) else value


class Space:
    """The functions of the array API standard for the vectors of one layout.

    Args:
        layout: Who has which entries.
        exchange: How numbers are summed.
    """

    __name__ = "stepfold.distributed.spread"
    float32, float64, bool = np.float32, np.float64, np.bool_

    def __init__(self, layout: Layout, exchange: Exchange) -> None:
        self.layout, self.exchange = layout, exchange

    def spread(self, local: NDArray[Any]) -> Spread:
        """A vector, of this process's entries."""
        return Spread(local, self)

    def total(self, parts: Any, what: int = SUM) -> Any:
        """The sums over all processes of some numbers; double precision, one collective."""
        numbers = np.asarray(parts, dtype=np.float64)
        flat = numbers.reshape(-1)
        total, _ = self.exchange.sum(what, None, flat, lambda: (flat, None))
        return total.reshape(numbers.shape)

    def sum(self, x: Any, *, axis: int | None = None) -> Any:
        """Along the last axis, over all processes."""
        if not isinstance(x, Spread):
            return np.sum(x, axis=axis)
        if axis not in (-1, x.ndim - 1) and not (axis is None and x.ndim == 1):
            raise ValueError(f"`axis` must be the last one, got {axis}")
        wide = x.local.astype(np.float64, copy=False) if x.local.dtype.kind == "f" else x.local
        return self.total(wide.sum(-1))

    def dots(self, *pairs: tuple[Spread, Spread]) -> list[FloatArray]:
        """Inner products of vectors, or of rows, pair by pair; one sum over the processes."""
        parts = [row_dots(u.local, v.local) for u, v in pairs]
        return list(self.total(parts))

    def max(self, x: Any, *, axis: int | None = None) -> Any:
        """Of all entries or of each row, over all processes."""
        if not isinstance(x, Spread):
            return np.max(x, axis=axis)
        local = x.local.max() if axis is None else x.local.max(axis=-1)
        return np.max(self.exchange.group.gather(local), axis=0)

    def all(self, x: Any) -> Any:
        """Whether every entry is true on every process."""
        if not isinstance(x, Spread):
            return np.all(x)
        return self.total([np.count_nonzero(~x.local)])[0] == 0

    def asarray(self, values: Any, *, device: Any = None, copy: Any = None) -> Any:  # noqa: ARG002
        """A copy of one of these; of all n numbers, those of this process; else NumPy's."""
        if isinstance(values, Spread):
            return Spread(np.array(values.local), self)
        array = np.asarray(values)
        if array.ndim and array.shape[-1] == self.layout.size:
            return Spread(np.ascontiguousarray(array[..., self.layout.own]), self)
        return array

    def empty(self, shape: Any, *, dtype: Any, device: Any = None) -> Spread:  # noqa: ARG002
        """Room for vectors."""
        return Spread(np.empty((*shape[:-1], self.layout.own.size), dtype), self)

    def astype(self, x: Any, dtype: Any, *, copy: Any = None) -> Any:  # noqa: ARG002
        """In another dtype."""
        made = _local(x).astype(dtype, copy=False)
        return Spread(made, self) if isinstance(x, Spread) else made

    def take(self, x: Any, indices: Any, *, axis: int) -> Any:
        """Some rows."""
        if axis != 0 or x.ndim == 1:
            raise ValueError(f"`axis` must be that of the rows, 0, got {axis}")
        return Spread(x.local[indices], self)

    def stack(self, arrays: Any) -> Spread:
        """Vectors as rows."""
        return Spread(np.stack([_local(each) for each in arrays]), self)

    def conj(self, x: Any) -> Any:
        """x, which is real."""
        return x

    def __getattr__(self, name: str) -> Any:
        if name not in ELEMENTWISE:
            raise AttributeError(f"vectors in several processes have no function {name!r}")
        return functools.partial(self._elementwise, getattr(np, name))

    def _elementwise(self, function: Callable[..., Any], *arrays: Any) -> Spread:
        return Spread(function(*map(_local, arrays)), self)


ELEMENTWISE = frozenset(("abs", "isfinite", "sqrt", "exp", "where", "zeros_like", "ones_like"))


def gathered(x: Spread) -> NDArray[Any]:
    """All entries of a vector, in the order of their numbers, on every process; call it on all.

    Args:
        x: Such as the ``x`` of a result, of shape (n,) or (batch, n).

    >>> from stepfold.distributed import ShardedQuadratic
    >>> import scipy.sparse
    >>> problem = ShardedQuadratic(scipy.sparse.eye_array(2, format="csr"), np.ones(2))
    >>> gathered(problem.linear_term)
    array([1., 1.])
    """
    layout, group = x.space.layout, x.space.exchange.group
    whole = np.empty(x.shape, x.dtype)
    for own, part in group.gather((layout.own, x.local)):
        whole[..., own] = part
    return whole
