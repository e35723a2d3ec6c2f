"""``AᵀA + μI`` that remembers A, so that its spectrum is had without squaring."""

from __future__ import annotations

from typing import Any

from stepfold._checks import check_matrix, check_nonnegative
from stepfold._typing import Operator
from stepfold.operators import OwnOperator, adjoint_of


class Gram(OwnOperator):
    """``AᵀA + shift·I`` as a linear map that remembers A: its spectrum is had without squaring.

    Args:
        factor: A, of shape (m, n); anything that has products ``A @ x`` and a transpose. If it has
            a method ``gram_product``, for ``AᵀA x`` in one sweep over its data, that is used. Of a
            complex A the conjugate transpose is taken.
        shift: Number at least 0 added to every eigenvalue (the weight of a ridge term).
        shape: (m, n), where ``factor`` does not tell.

    >>> Gram(np.array([[3.0, 0.0], [0.0, 2.0]])) @ np.array([1.0, 1.0])
    array([9., 4.])
    """

    def __init__(
        self, factor: Operator, shift: float = 0.0, *, shape: tuple[int, int] | None = None
    ) -> None:
        self.factor = check_matrix("factor", factor, allow_complex=True, shape=shape)
        self._set(check_nonnegative("shift", shift))

    @classmethod
    def of_checked(cls, factor: Any, shift: float = 0.0) -> Gram:
        """The same of a factor whose entries somebody has looked at: looking costs a product."""
        gram = cls.__new__(cls)
        gram.factor = factor
        gram._set(shift)
        return gram

    def _set(self, shift: float) -> None:
        self.shift = float(shift)
        self.shape = (self.factor.shape[1], self.factor.shape[1])
        self._adjoint = adjoint_of(self.factor)

    @property
    def dtype(self) -> Any:
        """Of the factor; None if it does not tell."""
        return getattr(self.factor, "dtype", None)

    @property
    def T(self) -> Gram:  # noqa: N802, RUF100 (NumPy's name)
        """The transpose, which is the map itself."""
        return self

    def __matmul__(self, x: Any) -> Any:
        if hasattr(self.factor, "gram_product"):
            product = self.factor.gram_product(x)
        else:
            product = self._adjoint @ (self.factor @ x)
        return product + self.shift * x if self.shift else product

    matvec = __matmul__  # SciPy's `aslinearoperator` asks for these names
    rmatvec = __matmul__
