"""Checks of arrays, and those of `_arguments`: messages name argument, rule, value and remedy."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arguments import (
    LONGEST_LIST as LONGEST_LIST,
)
from stepfold._arguments import (
    check_callable as check_callable,
)
from stepfold._arguments import (
    check_choice as check_choice,
)
from stepfold._arguments import (
    check_count as check_count,
)
from stepfold._arguments import (
    check_depth as check_depth,
)
from stepfold._arguments import (
    check_flag as check_flag,
)
from stepfold._arguments import (
    check_instance as check_instance,
)
from stepfold._arguments import (
    check_items as check_items,
)
from stepfold._arguments import (
    check_nonnegative as check_nonnegative,
)
from stepfold._arguments import (
    check_path as check_path,
)
from stepfold._arguments import (
    check_period as check_period,
)
from stepfold._arguments import (
    check_positive as check_positive,
)
from stepfold._arguments import (
    check_real as check_real,
)
from stepfold._arguments import (
    check_seed as check_seed,
)
from stepfold._arguments import (
    check_shape as check_shape,
)
from stepfold._arguments import (
    check_share as check_share,
)
from stepfold._arguments import (
    check_size as check_size,
)
from stepfold._arguments import (
    check_text as check_text,
)
from stepfold._arrays import (
    all_finite,
    cast,
    copy_of,
    detached,
    dtype_kind,
    is_array,
    is_sparse_tensor,
    is_torch,
    library,
    reshaped,
    without_labels,
)
from stepfold._typing import FloatArray
from stepfold.operators import LinearMap, OwnOperator, check_indices, map_named, stored_by_rows


def check_array(name: str, values: Any) -> FloatArray:
    """Return a float64 copy of an array of real numbers, of any shape; NaN and infinity pass."""
    check_unmasked(name, values)
    try:
        array = np.asarray(without_labels(name, values))
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"`{name}` must be an array of numbers: {error}") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"`{name}` must hold real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)


def check_square(name: str, matrix: Any, remedy: str = "") -> None:
    """Raise unless a matrix has as many rows as columns."""
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"`{name}` must be square, got shape {tuple(matrix.shape)}" + remedy)


def check_vector(name: str, values: Any) -> FloatArray:
    """Return a float64 copy of a non-empty, finite, real, one-dimensional array."""
    array = check_array(name, values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"`{name}` must be a one-dimensional array of at least one number, "
            f"got shape {array.shape}"
        )
    check_finite(name, array)
    return array


def check_finite(name: str, array: Any) -> None:
    """Raise if a NumPy or SciPy array holds NaN or infinity, naming the place of the first one.

    First is by rows; the place in a sparse array is that in the matrix.
    """
    is_sparse = hasattr(array, "tocsr")
    entries = array.data if is_sparse else array
    if entries.dtype.kind not in "buifc":
        raise TypeError(f"`{name}` must hold numbers, got dtype {entries.dtype}")
    if entries.dtype.kind in "fc" and (entries.flags.c_contiguous or entries.flags.f_contiguous):
        # A finite sum has finite terms: one pass at the memory's speed, without memory for flags.
        # (A BLAS product is faster, but its threads spin on afterwards, on the cores kernels need.)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(entries.sum()):
                return
    finite = np.isfinite(entries)
    if finite.all():
        return
    if is_sparse:
        triplets = array.tocoo()
        bad = np.flatnonzero(~np.isfinite(triplets.data))
        if bad.size:  # a stored diagonal may reach beyond the matrix
            first = bad[np.lexsort((triplets.col[bad], triplets.row[bad]))[0]]
            place = (int(triplets.row[first]), int(triplets.col[first]))
            raise _not_finite(name, triplets.data[first], place)
    else:
        index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
        raise _not_finite(name, array[index], index)


def _not_finite(name: str, value: Any, index: tuple[int, ...]) -> ValueError:
    place = index[0] if len(index) == 1 else index
    return ValueError(
        f"`{name}` must be finite, got {value} at index {place}; "
        "remove or replace the missing and infinite entries first"
    )


def check_matrix(
    name: str,
    matrix: Any,
    *,
    allow_complex: bool = False,
    shape: Any = None,
    rows: Any = None,
    like: Any = None,
    is_square: bool = False,
    looks: bool = True,
) -> Any:
    """Return a linear map ready for products; array-likes of integers become float64.

    Entries are looked at where they are known (ndarray, sparse array, torch tensor). Sparse arrays
    in the other byte order, for which SciPy has no products, are copied into this machine's; sparse
    tensors are stored by rows. Everything else but SciPy's operators and our own is wrapped as a
    `LinearMap`.

    Args:
        name: What messages call it.
        matrix: The map.
        allow_complex: Whether it may declare complex products.
        shape: (m, n), where ``matrix`` does not tell.
        rows: Arrays such as products are, of length m, where the caller has some.
        like: An array such as vectors are, or its dtype, where the caller knows.
        is_square: Whether m = n, which gives the shape where nothing else does.
        looks: Whether entries are looked at; else somebody else sees to that.
    """
    matrix = without_labels(name, matrix)
    if _is_nested_list(matrix):
        # Products of an `np.matrix`, which `todense` of a sparse matrix returns, stay matrices.
        matrix = np.asarray(matrix)
    # One that is wrapped finds its dtype by a product, which nobody asked for here.
    is_known = isinstance(matrix, LinearMap) and allow_complex
    kind = dtype_kind(None if is_known else getattr(matrix, "dtype", None))
    _check_kind(name, kind, matrix, allow_complex)
    if not _is_ready(matrix):
        matrix = _wrapped(name, matrix, shape, rows, like, is_square=is_square)
    given = tuple(matrix.shape)
    if len(given) != 2 or 0 in given:
        raise ValueError(
            f"`{name}` must have two dimensions and at least one row and column, got shape {given}"
        )
    if shape is not None:
        shape = check_shape("shape", shape)
    if shape is not None and not isinstance(matrix, LinearMap) and shape != given:
        raise ValueError(
            f"`shape` must be that of `{name}`, {given}, got {shape}; it is needed only where "
            f"`{name}` does not tell"
        )
    check_unmasked(name, matrix)
    check_indices(name, matrix)
    is_sparse = hasattr(matrix, "tocsr")
    if is_sparse and matrix.format not in ("csr", "csc"):
        matrix = matrix.tocsr()
    if is_sparse_tensor(matrix):
        matrix = stored_by_rows(matrix if kind not in "bui" else _as_float64(matrix))
    elif kind in "bui":
        matrix = _as_float64(matrix)
    if is_sparse and not matrix.dtype.isnative:
        matrix = matrix.astype(matrix.dtype.newbyteorder("="))
    if looks:
        check_entries(name, matrix)
    return matrix


def _is_nested_list(matrix: Any) -> bool:
    if isinstance(matrix, tuple) and len(matrix) == 2 and all(map(callable, matrix)):
        return False  # a map and its adjoint
    return isinstance(matrix, (list, tuple, np.matrix))


def _is_ready(matrix: Any) -> bool:
    """Whether it has entries, or is an operator of SciPy or of our own."""
    if is_array(matrix) or hasattr(matrix, "tocsr") or isinstance(matrix, OwnOperator):
        return True
    return makes_arrays(matrix)


def makes_arrays(operator: Any) -> bool:
    """Whether it is SciPy's, and makes NumPy's arrays of whatever it gets."""
    modules = [kind.__module__ for kind in type(operator).__mro__]
    return any(module.startswith("scipy.sparse") for module in modules)


def _wrapped(
    name: str, source: Any, shape: Any, rows: Any, like: Any, *, is_square: bool
) -> LinearMap:
    adjoint = None
    if isinstance(source, tuple):
        source, adjoint = source
    if rows is not None and like is None:
        rows = detached(rows) if is_array(rows) else np.asarray(rows)
        rows = rows if dtype_kind(rows.dtype) in "fc" else cast(rows, "float64")
        like = reshaped(rows, (-1,))[:0]
        if shape is None and not hasattr(source, "shape") and rows.ndim:
            length = rows.shape[-1]
            if adjoint is not None:
                shape = (length, adjoint(copy_of(reshaped(rows, (-1,))[:length])).shape[-1])
            elif is_square:
                shape = (length, length)
    return map_named(name, source, adjoint, shape, like)


def check_entries(name: str, array: Any) -> None:
    """Raise if an entry is NaN or infinite, as far as entries are known."""
    if isinstance(array, np.ndarray) or hasattr(array, "tocsr"):
        check_finite(name, array)
    elif is_torch(array):
        is_sparse = is_sparse_tensor(array)
        values = array.values() if is_sparse else array
        # torch looks for the parts of a complex entry in the layout that the values come from.
        finite = (values.abs() if is_sparse and values.is_complex() else values).isfinite()
        if not bool(finite.all()):
            first = finite.logical_not().nonzero()[0].tolist()
            value = values[tuple(first)].item()
            if is_sparse:
                first[:1] = array.to_sparse_coo().indices()[:, first[0]].tolist()
            raise _not_finite(name, value, tuple(first))
    elif is_array(array) and not all_finite(array):
        raise ValueError(
            f"`{name}` must be finite, got NaN or infinity in an array of {library(array)}; "
            "remove or replace the missing and infinite entries first"
        )


def check_numbers(name: str, rows: Any, *, allow_complex: bool = False) -> Any:
    """Return vectors as rows ready for arithmetic: finite, integers turned to float64."""
    rows = without_labels(name, rows)
    kind = dtype_kind(getattr(rows, "dtype", None))
    _check_kind(name, kind, rows, allow_complex)
    check_unmasked(name, rows)
    if hasattr(rows, "tocsr"):
        raise TypeError(
            f"`{name}` must be dense, got {type(rows).__name__}; pass `{name}.toarray()`"
        )
    if is_sparse_tensor(rows):
        raise TypeError(
            f"`{name}` must be dense, got a tensor of layout {rows.layout}; "
            f"pass `{name}.to_dense()`"
        )
    check_entries(name, rows)
    return _as_float64(rows) if kind in "bui" else rows


def _check_kind(name: str, kind: str, array: Any, allow_complex: bool) -> None:
    if kind not in ("buifc" if allow_complex else "buif"):
        rule = "real or complex" if allow_complex else "real"
        raise TypeError(f"`{name}` must be {rule}, got dtype {array.dtype}")


def check_unmasked(name: str, array: Any) -> None:
    """Raise for a masked array, whose arithmetic is another one."""
    if hasattr(array, "filled"):
        raise TypeError(
            f"`{name}` must be an array without a mask, got {type(array).__name__}; replace what "
            f"is missing, as by `{name}.filled(0)`"
        )


def _as_float64(array: Any) -> Any:
    if hasattr(array, "astype"):
        return array.astype(np.float64)
    # A matrix-free operator is left alone: its products with floats are floats.
    return cast(array, "float64") if is_array(array) else array
