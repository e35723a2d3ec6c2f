"""Problems whose unknowns keep the shape of an image, where the rest of the package has rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Self

from stepfold._arrays import reshaped
from stepfold._checks import check_shape
from stepfold._typing import ArrayT
from stepfold.operators import LinearMap
from stepfold.problems.base import Problem
from stepfold.spectrum import BoundsMethod, SpectralBounds


class ImageProblem(Problem[ArrayT]):
    """A problem of vectors, posed for images: x of shape (batch, channel, height, width).

    Networks, iterations, `stepfold.period`, `stepfold.solve` and `stepfold.estimate_bounds` take
    it as they take the problem itself. What needs rows, such as `stepfold.plan` and
    `stepfold.Composite`, takes `flat`.

    Args:
        problem: The problem, of vectors of length n or of a batch of them.
        shape: Of one image; its entries are n. That of the operator if not given, where it was made
            by `stepfold.operators.linear_map` with shapes of images.

    Its ``shape`` is that of one image.

    Attributes:
        flat: The problem of vectors.

    Raises:
        TypeError: If ``problem`` is no problem, or the shape of an image is not known.
        ValueError: If ``shape`` does not fit the problem.

    >>> from stepfold import Quadratic
    >>> problem = ImageProblem(Quadratic(2 * np.eye(6), np.ones((4, 6))), (2, 3))
    >>> problem.gradient(np.zeros((4, 2, 3))).shape
    (4, 2, 3)
    """

    def __init__(self, problem: Problem[ArrayT], shape: tuple[int, ...] | None = None) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(
                f"`problem` must be a Problem, got {type(problem).__name__}; "
                "as in `ImageProblem(LeastSquares(operator, rows))`"
            )
        operator = getattr(problem, "operator", getattr(problem, "hessian", None))
        if shape is None and isinstance(operator, LinearMap):
            shape = operator.images[0]
        if shape is None:
            raise TypeError(
                "`shape` must be given where the operator does not know the shape of an image, "
                "got None; as in `ImageProblem(problem, (channels, height, width))`"
            )
        self.flat: Any = problem
        self.shape = check_shape("shape", shape)
        expected = getattr(operator, "shape", (None, math.prod(self.shape)))[1]
        if math.prod(self.shape) != expected:
            raise ValueError(
                f"`shape` must have as many entries as the problem has unknowns, {expected}, got "
                f"{self.shape}"
            )

    def rows(self, x: Any) -> Any:
        """Images as rows, shape (n,) or (batch, n)."""
        batch = tuple(x.shape[: x.ndim - len(self.shape)])
        if tuple(x.shape) != (*batch, *self.shape) or len(batch) > 1:
            raise ValueError(
                f"`x` must have shape {self.shape} or (batch, {', '.join(map(str, self.shape))}), "
                f"got {tuple(x.shape)}"
            )
        return reshaped(x, (*batch, -1))

    def images(self, rows: Any) -> Any:
        """Rows as images."""
        return reshaped(rows, (*rows.shape[:-1], *self.shape))

    def value(self, x: ArrayT) -> Any:
        """f(x), one number or one for each image."""
        return self.flat.value(self.rows(x))

    def gradient(self, x: ArrayT) -> ArrayT:
        """∇f(x), of the shape of ``x``."""
        gradient: ArrayT = self.images(self.flat.gradient(self.rows(x)))
        return gradient

    def gradient_step(self, x: ArrayT, gamma: Any) -> ArrayT:
        """``x − gamma·gradient(x)``."""
        step: ArrayT = self.images(self.flat.gradient_step(self.rows(x), gamma))
        return step

    @property
    def linear_term(self) -> ArrayT:
        """Minus the gradient at 0, as images."""
        term: ArrayT = self.images(self.flat.linear_term)
        return term

    @property
    def zero(self) -> ArrayT | None:
        """The point 0, as images."""
        zero = self.flat.zero
        return None if zero is None else self.images(zero)

    @property
    def products_per_gradient(self) -> int:
        """Those of the problem of vectors."""
        count: int = self.flat.products_per_gradient
        return count

    @property
    def curvature_bound(self) -> float | None:
        """That of the problem of vectors."""
        bound: float | None = self.flat.curvature_bound
        return bound

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Those of the problem of vectors."""
        bounds: SpectralBounds = self.flat.own_bounds(method, seed)
        return bounds

    def rows_of(self, places: Sequence[int]) -> Self | None:
        """The problem of some images."""
        flat = self.flat.rows_of(places)
        if flat is None:
            return None
        twin = copy.copy(self)
        twin.flat = flat
        return twin
