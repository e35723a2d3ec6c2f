"""Complex maps as real ones of twice the size: the same singular values, each of them twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind, from_host, is_array, to_host
from stepfold.operators import LinearMap, OwnOperator, adjoint_of
from stepfold.spectrum.gram import Gram


def is_complex(hessian: Any) -> bool:
    """Whether a map, or the factor of a `Gram`, says that its entries are complex."""
    matrix = hessian.factor if isinstance(hessian, Gram) else hessian
    return dtype_kind(getattr(matrix, "dtype", None)) == "c"


def real_form(hessian: Any) -> Any:
    """``[[Re H, −Im H], [Im H, Re H]]``: acts on real and imaginary parts as H acts on vectors.

    A map that makes complex products; a real one is returned as it is. A Hermitian H gives a
    symmetric real form, and a `Gram` that of its factor's.
    """
    if not is_complex(hessian):
        return hessian
    if isinstance(hessian, Gram):
        return Gram.of_checked(real_form(hessian.factor), hessian.shift)
    return _RealForm(hessian, adjoint=False)


class _RealForm(OwnOperator):
    """The real form of a complex map or of its adjoint, by complex products."""

    def __init__(self, operator: Any, *, adjoint: bool) -> None:
        self._operator = operator
        self._adjoint = adjoint
        rows, columns = operator.shape[::-1] if adjoint else operator.shape
        self.shape = (2 * rows, 2 * columns)
        is_single = "complex64" in str(operator.dtype)
        self.dtype = np.dtype(np.float32 if is_single else np.float64)

    @property
    def T(self) -> _RealForm:  # noqa: N802, RUF100 (NumPy's name)
        """The real form of the adjoint, which is the transpose."""
        return _RealForm(self._operator, adjoint=not self._adjoint)

    def __matmul__(self, x: Any) -> Any:
        half = x.shape[0] // 2
        vector = x[:half] + 1j * x[half:]
        if isinstance(self._operator, np.ndarray):
            # Else NumPy widens a matrix of complex64 every time.
            vector = vector.astype(self._operator.dtype)
        operator = adjoint_of(self._operator) if self._adjoint else self._operator
        if isinstance(operator, LinearMap):
            image = operator.of_host(vector)
        else:
            like = self._operator
            image = operator @ (from_host(vector, like) if is_array(like) else vector)
        image = to_host(image)
        return np.concatenate([image.real, image.imag])
