"""A batch of least-squares problems, each with a matrix of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from stepfold._checks import check_entries, check_nonnegative
from stepfold.problems import QuadraticProblem
from stepfold.problems.base import check_library


class BatchedLeastSquares(QuadraticProblem[Tensor]):
    """Minimise ``½‖Aᵢxᵢ − bᵢ‖² + ½μ‖xᵢ‖²`` for every i of a batch.

    Where the Aᵢ are complex their conjugate transposes take the place of the transposes.

    Args:
        operators: Aᵢ, of shape (batch, m, n).
        rhs: bᵢ, of shape (batch, m).
        ridge: μ, at least 0.

    Raises:
        TypeError: If an argument is not a tensor of real or complex floats, or the two differ in
            dtype or device.
        ValueError: If shapes do not fit, an entry is not finite, or ``ridge`` is negative.

    >>> operators = torch.stack([torch.eye(2), 2 * torch.eye(2)])
    >>> problem = BatchedLeastSquares(operators, torch.ones(2, 2))
    >>> problem.gradient(torch.zeros(2, 2))
    tensor([[-1., -1.],
            [-2., -2.]])
    """

    def __init__(self, operators: Tensor, rhs: Tensor, *, ridge: float = 0.0) -> None:
        for name, value in (("operators", operators), ("rhs", rhs)):
            is_tensor = isinstance(value, Tensor)
            if not (is_tensor and (value.is_floating_point() or value.is_complex())):
                found = value.dtype if is_tensor else type(value).__name__
                raise TypeError(f"`{name}` must be a tensor of real or complex floats, got {found}")
            check_entries(name, value)
        if operators.ndim != 3 or 0 in operators.shape:
            raise ValueError(
                f"`operators` must have shape (batch, m, n), got {tuple(operators.shape)}; for one "
                "matrix use `LeastSquares`"
            )
        if rhs.shape != operators.shape[:2]:
            raise ValueError(
                f"`rhs` must have shape {tuple(operators.shape[:2])} to fit `operators`, got "
                f"{tuple(rhs.shape)}"
            )
        check_library("rhs", rhs, "`operators`", operators)
        self.operators = operators
        self.rhs = rhs
        self.ridge = float(check_nonnegative("ridge", ridge))

    @property
    def hessian(self) -> Tensor:
        """``AᵢᵀAᵢ + μI``, shape (batch, n, n)."""
        hessian = self.operators.mH @ self.operators
        return hessian + self.ridge * torch.eye(hessian.shape[-1]).to(hessian)

    @property
    def linear_term(self) -> Tensor:
        """``Aᵢᵀbᵢ``, shape (batch, n)."""
        return _products(self.operators.mH, self.rhs)

    @property
    def products_per_gradient(self) -> int:
        """2: one with each Aᵢ, one with its transpose."""
        return 2

    def gradient(self, x: Tensor) -> Tensor:
        """``Aᵢᵀ(Aᵢxᵢ − bᵢ) + μxᵢ``, shape (batch, n)."""
        gradient = _products(self.operators.mH, _products(self.operators, x) - self.rhs)
        return gradient + self.ridge * x if self.ridge else gradient


def _products(matrices: Tensor, rows: Tensor) -> Tensor:
    return (matrices @ rows[..., None])[..., 0]
