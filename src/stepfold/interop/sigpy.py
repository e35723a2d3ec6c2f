"""Stepfold beside SigPy: its linear operators as maps of vectors.

A ``sigpy.linop.Linop`` maps arrays of shape ``ishape`` to arrays of shape ``oshape``. Here vectors
are rows: arrays are flattened in C order before and after. Written for SigPy 0.1.26 and later.
"""

from __future__ import annotations

import math
from typing import Any

from stepfold import operators
from stepfold._arrays import reshaped
from stepfold._extras import check_version, not_installed

NEED = "`stepfold.interop.sigpy` needs sigpy >= 0.1.26"
try:
    import sigpy
    from sigpy.linop import Linop
except ModuleNotFoundError as error:
    raise not_installed(NEED, "sigpy", error) from error
check_version(sigpy, NEED, "sigpy")


def linear_map(operator: Any, *, like: Any = None) -> operators.LinearMap:
    """The map of vectors that a linear operator of SigPy makes, with its adjoint.

    Args:
        operator: A ``sigpy.linop.Linop``.
        like: What vectors are, where no right-hand side tells: an array, or a dtype. SigPy's
            operators declare none.

    Returns:
        A map of shape (prod(oshape), prod(ishape)).

    Raises:
        TypeError: If ``operator`` is no ``Linop``.

    >>> import sigpy
    >>> sums = linear_map(sigpy.linop.Sum((2, 3), axes=(1,)))
    >>> (sums @ np.arange(6.0)).tolist(), (sums.H @ np.array([1.0, 2.0])).tolist()
    ([3.0, 12.0], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    """
    if not isinstance(operator, Linop):
        raise TypeError(
            f"`operator` must be a sigpy.linop.Linop, got {type(operator).__name__}; give one such "
            "as `sigpy.linop.FFT((64, 64))`"
        )
    backward = operator.H

    def forward_rows(x: Any) -> Any:
        return reshaped(operator(reshaped(x, tuple(operator.ishape))), (-1,))

    def adjoint_rows(u: Any) -> Any:
        return reshaped(backward(reshaped(u, tuple(operator.oshape))), (-1,))

    shape = (math.prod(operator.oshape), math.prod(operator.ishape))
    return operators.linear_map(forward_rows, adjoint_rows, shape=shape, like=like)
