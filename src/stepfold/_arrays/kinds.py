"""Which library an array belongs to, and what its dtype is."""

from __future__ import annotations

import sys
from typing import Any

import array_api_compat
import numpy as np

# Modules of arrays that do not say so by `__array_namespace__`.
_UNDECLARED = ("cupy", "dask.array")
REAL_NAMES = {"complex64": "float32", "complex128": "float64"}


def is_array(x: Any) -> bool:
    """Whether it is an array, or a NumPy scalar; sparse tensors of torch are, SciPy's are not.

    >>> is_array(np.ones(2)), is_array([1.0, 1.0])
    (True, False)
    """
    if is_numpy(x) or is_torch(x):
        return True
    known = hasattr(x, "__array_namespace__") or type(x).__module__.startswith(_UNDECLARED)
    return known and not hasattr(x, "tocsr")


def is_numpy(x: Any) -> bool:
    """Whether it is an array of NumPy, or one of the scalars its arithmetic makes."""
    return isinstance(x, (np.ndarray, np.generic))


def is_foreign(x: Any) -> bool:
    """Whether it is an array of another library than NumPy: where it is, NumPy may not read it."""
    return not is_numpy(x) and is_array(x)


def is_torch(x: Any) -> bool:
    """Whether it is a tensor of torch, dense or sparse."""
    # array-api-compat's test is cached, which `torch.compile` warns of.
    return hasattr(x, "new_tensor")


def is_sparse_tensor(x: Any) -> bool:
    """Whether it is a tensor of torch in one of the sparse layouts."""
    return is_torch(x) and "sparse" in str(x.layout)


def library(x: Any) -> str:
    """Name of the library an array belongs to: "numpy", "torch", "cupy", "jax", …

    >>> library(np.ones(2))
    'numpy'
    """
    if is_numpy(x):
        return "numpy"
    if is_torch(x):
        return "torch"
    name = type(x).__module__.partition(".")[0]
    return "jax" if name == "jaxlib" else name


def namespace(x: Any) -> Any:
    """The functions of the array API standard for arrays like ``x``.

    >>> namespace(np.ones(2)).stack([np.ones(2), np.zeros(2)]).shape
    (2, 2)
    """
    if is_numpy(x):
        if hasattr(np, "concat"):
            return np  # NumPy 2 keeps the standard; its shim costs 50 ms to import
        import array_api_compat.numpy as older_numpy

        return older_numpy
    if is_torch(x):
        import array_api_compat.torch as torch_functions

        return torch_functions
    return array_api_compat.array_namespace(x)


def dtype_kind(dtype: Any) -> str:
    """NumPy's letter for a dtype of any library; "f" for what is no dtype.

    torch's dtypes of integers and truth values are all "i".
    """
    if getattr(dtype, "is_complex", False):
        return "c"
    if not getattr(dtype, "is_floating_point", True):
        return "i"
    kind = getattr(dtype, "kind", None)
    if kind is not None and kind != "V":  # NumPy's letter for the bfloat16 of others
        return str(kind)
    name = name_of(dtype)
    starts = (("complex", "c"), ("int", "i"), ("uint", "u"), ("bool", "b"), ("void", "V"))
    for start, letter in starts:
        if name.startswith(start):
            return letter
    return "f"


def same_kind_and_dtype(x: Any, y: Any) -> bool:
    """Whether two arrays are of one library and of one dtype."""
    return library(x) == library(y) and bool(x.dtype == y.dtype)


def epsilon(x: Any) -> float:
    """Machine epsilon of an array's dtype; of a complex one that of its parts.

    >>> epsilon(np.ones(2, dtype=np.float32)) == 2.0**-23
    True
    """
    return float(_finfo(x).eps)


def tiny(x: Any) -> float:
    """Smallest normal number of an array's dtype."""
    info = _finfo(x)
    return float(info.tiny if is_torch(x) else info.smallest_normal)


def _finfo(x: Any) -> Any:
    if is_torch(x):
        return sys.modules["torch"].finfo(x.dtype)
    # Operators and sparse matrices have dtypes of NumPy; its own know no bfloat16.
    known = isinstance(x.dtype, np.dtype) and x.dtype.kind in "fc"
    return np.finfo(x.dtype) if known else namespace(x).finfo(x.dtype)


def has_double(x: Any) -> bool:
    """Whether arrays like ``x``, where they are, can be in double precision."""
    if is_torch(x):
        return bool(x.device.type != "mps")
    return not array_api_compat.is_jax_array(x) or bool(sys.modules["jax"].config.jax_enable_x64)


def real_dtype(x: Any) -> Any:
    real = REAL_NAMES.get(name_of(x.dtype))
    if real is not None:
        return getattr(namespace(x), real)
    return x.dtype.type(0).real.dtype if is_numpy(x) else x.dtype  # NumPy's long doubles


def name_of(dtype: Any) -> str:
    """``float32`` for ``torch.float32``, ``numpy.dtype('float32')`` and their likes."""
    return str(getattr(dtype, "name", None) or dtype).rpartition(".")[2]
