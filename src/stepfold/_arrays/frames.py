"""Tables and columns of pandas: what counts is their numbers, by position."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np


def without_labels(name: str, data: Any) -> Any:
    """The numbers of a pandas object; anything else as it is.

    Index and column labels are ignored: row i is row i, whatever it is called. A missing number is
    NaN; a table whose columns are all sparse becomes a sparse array.

    Args:
        name: What messages call it.
        data: Anything. ``DataFrame``, ``Series`` and whatever else has ``to_numpy`` is converted.

    Raises:
        TypeError: If a column does not hold numbers, with its label.

    >>> without_labels("x", [1.0])
    [1.0]
    """
    if isinstance(data, (type, ModuleType)):
        raise TypeError(f"`{name}` must be an array, got {type(data).__name__}")
    if not hasattr(data, "to_numpy"):
        return data
    if getattr(data, "ndim", 0) == 2:
        columns = list(zip(getattr(data, "columns", ()), getattr(data, "dtypes", ()), strict=False))
    else:
        columns = [(getattr(data, "name", None), getattr(data, "dtype", None))]
    kinds = [getattr(dtype, "kind", "f") for _, dtype in columns]
    for (label, dtype), kind in zip(columns, kinds, strict=True):
        if kind not in "buifc":
            where = "" if label is None else f" in column {label!r}"
            raise TypeError(
                f"`{name}` must hold numbers, got {dtype}{where}; convert or leave out what is no "
                "number"
            )
    if getattr(data, "ndim", 0) == 2 and hasattr(data, "sparse"):
        import scipy.sparse

        return scipy.sparse.csr_array(data.sparse.to_coo())
    values = data.to_numpy()
    if values.dtype.kind == "O":  # columns of several types, or with a mark for what is missing
        wide = np.complex128 if "c" in kinds else np.float64
        values = data.to_numpy(dtype=wide, na_value=np.nan)
    return values
