"""Physics of deepinv as matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stepfold.interop.deepinv.packing import Packing
from stepfold.operators import linear_map


class PhysicsOperator:
    """A linear physics of deepinv as a real matrix A of shape (m, n), known by its products.

    For `LeastSquares`, `estimate_bounds`, `plan`, `solve` and unfolded networks. Like a tensor it
    has ``shape``, (m, n), ``dtype``, which is real, and ``device``.

    Args:
        physics: What has ``A`` and ``A_adjoint``, as deepinv's ``LinearPhysics``. Its parameters
            are shared by a batch.
        image: An image, or a batch of them, of shape (batch, …): n is the number of real entries
            of one, products are in its dtype and on its device.

    Raises:
        TypeError: If ``physics`` has no such methods, or ``image`` is no tensor of floating-point
            numbers.
        ValueError: If ``image`` has no axis for a batch, or ``physics`` makes several measurements
            of one image.

    >>> class Blur:
    ...     def A(self, x):
    ...         return x + x.roll(1, -1)
    ...
    ...     def A_adjoint(self, y):
    ...         return y + y.roll(-1, -1)
    >>> operator = PhysicsOperator(Blur(), torch.zeros(1, 1, 2, 3))
    >>> operator.shape, (operator @ torch.arange(6.0)).tolist()
    ((6, 6), [2.0, 1.0, 3.0, 8.0, 7.0, 9.0])
    """

    def __init__(self, physics: Any, image: Tensor) -> None:
        for name in ("A", "A_adjoint"):
            if not callable(getattr(physics, name, None)):
                raise TypeError(
                    f"`physics` must have the methods `A` and `A_adjoint` of a LinearPhysics, got "
                    f"{type(physics).__name__} without `{name}`; of a nonlinear one there is no "
                    "matrix"
                )
        self._images = Packing("image", image)
        with torch.no_grad():
            measured = physics.A(image[:1])
        self._measured = Packing("physics.A(image)", measured)
        if self._measured.batch != 1:
            raise ValueError(
                "`physics` must measure one image as one, got a batch of "
                f"{self._measured.batch} from it; give each set of parameters a physics of its own"
            )
        self.physics = physics
        self.shape = (self._measured.length, self._images.length)
        like = self._images.rows(image[:1])[0]
        self.dtype, self.device = like.dtype, like.device
        self._map = linear_map(self._forward, self._backward, shape=self.shape, like=like)

    def rows(self, images: Tensor) -> Tensor:
        """Images of shape (batch, …) as rows, shape (batch, n)."""
        return self._images.rows(images)

    def images(self, rows: Tensor) -> Any:
        """Rows of shape (batch, n), or one of shape (n,), as images of shape (batch, …)."""
        return self._images.values(rows)

    def measured_rows(self, measured: Any) -> Tensor:
        """Measurements as rows, shape (batch, m): what `LeastSquares` takes as right-hand sides."""
        return self._measured.rows(measured)

    def measurements(self, rows: Tensor) -> Any:
        """Rows of shape (batch, m), or one of shape (m,), as deepinv's measurements."""
        return self._measured.values(rows)

    def __matmul__(self, columns: Any) -> Any:
        return self._map @ columns

    @property
    def T(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        """The adjoint, of shape (n, m)."""
        return self._map.T

    @property
    def H(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        """The adjoint, of shape (n, m)."""
        return self._map.H

    def _forward(self, rows: Tensor) -> Tensor:
        return self._measured.rows(self.physics.A(self._images.values(rows))).reshape(
            *rows.shape[:-1], -1
        )

    def _backward(self, rows: Tensor) -> Tensor:
        return self._images.rows(self.physics.A_adjoint(self._measured.values(rows))).reshape(
            *rows.shape[:-1], -1
        )
