"""Arrays made, moved, converted, cut and put together."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import numpy as np

from stepfold._arrays.kinds import is_numpy, is_torch, library, name_of, namespace, real_dtype
from stepfold._typing import FloatArray


def to_host(x: Any) -> Any:
    """The numbers as a NumPy array, without a graph; of bfloat16 as float32.

    NumPy's arrays come back as they are.
    """
    if is_numpy(x):
        return np.asarray(x)
    if is_torch(x):
        x = x.detach().resolve_conj().resolve_neg().cpu()
        return (x.float() if name_of(x.dtype) == "bfloat16" else x).numpy()
    if array_api_compat.is_cupy_array(x):
        return x.get()
    if library(x) == "array_api_strict":  # its devices stand for those that NumPy cannot read
        x = x.to_device(namespace(x).Device("CPU_DEVICE"))
    return np.asarray(x)


def from_host(values: Any, like: Any) -> Any:
    """Numbers of NumPy as an array of the library, dtype and device of ``like``.

    >>> from_host(np.ones(2), np.zeros(3, dtype=np.float32)).dtype
    dtype('float32')
    """
    return _made(values, like, like.dtype)


def column(values: FloatArray, like: Any) -> Any:
    """Real numbers, one for each row, as a factor or a divisor of the rows of ``like``.

    Args:
        values: Shape (batch,); (1,) for a vector.
        like: A vector, or an array whose first axis counts rows.

    Returns:
        A float for a vector; else an array of shape (batch, 1, …) of the library, device and
        precision of ``like``.

    >>> column(np.array([1.0, 2.0]), np.ones((2, 3)))
    array([[1.],
           [2.]])
    """
    if like.ndim < 2:
        return float(values[0])
    return _made(values.reshape(-1, *[1] * (like.ndim - 1)), like, real_dtype(like))


def _made(values: Any, like: Any, dtype: Any) -> Any:
    if is_numpy(like):
        return np.asarray(values).astype(dtype, copy=False)
    if is_torch(like):
        # torch takes neither constant arrays nor reversed ones, and compiles no `torch.tensor`.
        copy = np.asarray(values).copy()
        return sys.modules["torch"].as_tensor(copy, dtype=dtype, device=like.device)
    made = namespace(like).asarray(values, device=array_api_compat.device(like))
    return cast(made, dtype)


def cast(x: Any, dtype: Any) -> Any:
    """The array in another dtype, itself if it has it.

    Args:
        x: An array.
        dtype: A dtype of the library of ``x``, or one of NumPy, or a name.

    >>> cast(np.ones(2), "float32").dtype
    dtype('float32')
    """
    if is_numpy(x):
        return x.astype(dtype, copy=False)
    if isinstance(dtype, (np.dtype, str, type)):
        dtype = getattr(namespace(x), np.dtype(dtype).name)
    if is_torch(x):
        return x.to(dtype)
    return namespace(x).astype(x, dtype, copy=False)


def copy_of(x: Any) -> Any:
    """A copy, of the library and dtype of ``x``; NumPy's in this machine's byte order."""
    if is_numpy(x):
        return np.array(x, dtype=x.dtype.newbyteorder("="))
    return x.clone() if is_torch(x) else namespace(x).asarray(x, copy=True)


def computed(state: Any) -> Any:
    """The state of an iteration with its lazy arrays computed; what is not lazy comes back itself.

    Dask keeps how an array came about until it is computed. Without this a step would repeat every
    step before it, at each look.

    >>> vector = np.ones(2)
    >>> computed(vector) is vector
    True
    """
    dask = sys.modules.get("dask")
    if dask is None:
        return state
    parts = state if isinstance(state, tuple) else (state,)
    if not any(library(part) == "dask" for part in parts):
        return state
    (kept,) = dask.persist(state)
    return kept


def conjugate(x: Any) -> Any:
    """The complex conjugate, as a new array if it is complex."""
    if is_torch(x):
        # torch conjugates when somebody looks, and `numpy()` does not look.
        return x.conj().resolve_conj()
    return x.conj() if is_numpy(x) else namespace(x).conj(x)


def detached(x: Any) -> Any:
    """The array without the graph that made it, if it has one."""
    return x.detach() if is_torch(x) else x


def without_graph(x: Any) -> contextlib.AbstractContextManager[Any]:
    """Context in which nothing is recorded for derivatives by the library of ``x``."""
    return sys.modules["torch"].no_grad() if is_torch(x) else contextlib.nullcontext()


def reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """The numbers in another shape, −1 for one length; a view where there can be one."""
    return x.reshape(shape) if is_numpy(x) or is_torch(x) else namespace(x).reshape(x, shape)


def zeros_like(x: Any) -> Any:
    """Zeros of the shape, library, dtype and device of ``x``."""
    return namespace(x).zeros_like(x)


def empty_rows(count: int, like: Any) -> Any:
    """Room for ``count`` vectors such as ``like``: uninitialised, of shape (count, n)."""
    shape = (count, like.shape[-1])
    if is_numpy(like):
        return np.empty(shape, like.dtype)
    device = array_api_compat.device(like)
    return namespace(like).empty(shape, dtype=like.dtype, device=device)


def take(rows: Any, places: Sequence[int] | Any) -> Any:
    """Some rows of a batch, as a new array.

    Args:
        rows: Shape (batch, …).
        places: Indices, a list or a NumPy array.
    """
    places = np.asarray(places, dtype=np.int64)
    if is_numpy(rows):
        return rows[places]
    if is_torch(rows):
        return rows[places.tolist()]
    xp = namespace(rows)
    indices = xp.asarray(places, device=array_api_compat.device(rows))
    return xp.take(rows, indices, axis=0)


def put_rows(full: Any, places: Sequence[int] | Any, rows: Any) -> Any:
    """A copy of ``full`` with ``rows`` at ``places``; for libraries with constant arrays too.

    >>> put_rows(np.zeros((3, 1)), [2], np.ones((1, 1))).ravel()
    array([0., 0., 1.])
    """
    places = np.asarray(places, dtype=np.int64)
    if is_numpy(full) or is_torch(full):
        copy = copy_of(full)
        copy[places.tolist()] = rows
        return copy
    if places.size == 0:
        return copy_of(full)
    sources = np.zeros(full.shape[0], dtype=np.int64)
    sources[places] = np.arange(places.size)
    replaced = np.zeros((full.shape[0], *[1] * (full.ndim - 1)), dtype=np.bool_)
    replaced[places] = True
    xp = namespace(full)
    mask = xp.asarray(replaced, device=array_api_compat.device(full))
    return xp.where(mask, take(rows, sources), full)


def row_put(full: Any, place: int, row: Any) -> Any:
    """``full`` with a row at ``place``: written into it, or a copy where arrays are constant."""
    if array_api_compat.is_jax_array(full):
        return full.at[place].set(row)
    full[place, ...] = row
    return full


def requires_derivatives(x: Any) -> bool:
    """Whether its library would record what is computed from it, to take derivatives."""
    if not getattr(x, "requires_grad", False):
        return False
    return bool(sys.modules["torch"].is_grad_enabled())


def sigmoid(x: Any) -> Any:
    """``1/(1 + exp(−x))``, to full relative precision and without overflow."""
    if is_torch(x):
        return x.sigmoid()  # its derivative at 0 is right, that of the formula is not
    xp = namespace(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, xp.ones_like(x), small) / (1 + small)


def solve_triangular(triangle: Any, columns: Any, *, lower: bool) -> Any:
    """Solution X of ``triangle @ X = columns``, of shape (n, k); entries outside are zeros."""
    if is_numpy(columns):
        from scipy.linalg import solve_triangular as solve

        return solve(triangle, columns, lower=lower, check_finite=False)
    if is_torch(columns):
        linalg = sys.modules["torch"].linalg
        return linalg.solve_triangular(triangle, columns, upper=not lower)
    return namespace(columns).linalg.solve(triangle, columns)


def derivative_along(function: Callable[[Any], Any], x: Any, direction: Any) -> Any:
    """Derivative of ``function`` at ``x`` along ``direction``, by differentiating forwards.

    Returns:
        An array of the shape of ``function(x)``; None if the library cannot differentiate.

    Raises:
        RuntimeError: If the library can, but not through this function; NotImplementedError and
            TypeError mean the same.
    """
    if is_torch(x):
        with warnings.catch_warnings():
            # What torch imports for its first product uses what torch deprecates.
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
            return sys.modules["torch"].func.jvp(function, (x,), (direction,))[1].detach()
    if array_api_compat.is_jax_array(x):
        return sys.modules["jax"].jvp(function, (x,), (direction,))[1]
    return None
