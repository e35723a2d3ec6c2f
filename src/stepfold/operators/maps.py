"""Linear maps with their adjoints, and adjoints of whatever has entries."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stepfold._arrays import (
    conjugate,
    dtype_kind,
    from_host,
    is_array,
    is_sparse_tensor,
    is_torch,
    reshaped,
)
from stepfold.operators.adjoint import AdjointTest
from stepfold.operators.products import NO_ADJOINT, Products, without_derivatives
from stepfold.operators.sparse import sparse_product, stored_adjoint
from stepfold.operators.vectors import Vectors


class OwnOperator:
    """Base of this package's operators: they serve vectors and columns, and need no test."""


class LinearMap(OwnOperator):
    """A linear map of shape (m, n) with its adjoint, made by `linear_map`.

    ``A @ x`` takes a vector (n,) or columns (n, k); ``A(x)`` takes rows, or images (batch, …)
    where the map has been given their shape, and returns what the map makes of each.

    Like a matrix it has ``shape``, (m, n).

    Attributes:
        images: Shapes of one image before and after; ((n,), (m,)) for vectors.
        source: What it was made of.
        test: Whether the adjoint is one, by the products that are made.

    >>> from stepfold.operators import linear_map
    >>> A = linear_map(np.array([[1.0, 2.0], [0.0, 1.0]]))
    >>> A @ np.array([1.0, 1.0]), A.T @ np.array([1.0, 1.0])
    (array([3., 1.]), array([1., 3.]))
    """

    def __init__(
        self,
        forward: Products,
        backward: Products | None,
        shape: tuple[int, int],
        vectors: Vectors,
        source: Any,
        images: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
        name: str = "operator",
        adjoint: Any = None,
    ) -> None:
        self.shape = shape
        self.test = AdjointTest(name, source, adjoint)
        self._is_adjoint = False
        self._name = name
        self.images = ((shape[1],), (shape[0],)) if images is None else images
        self.source = source
        self._forward, self._backward, self._vectors = forward, backward, vectors
        self._remembered: Any = None

    def __repr__(self) -> str:
        rows, columns = self.shape
        what = getattr(self.source, "__name__", type(self.source).__name__)
        return f"<{rows} × {columns} {'adjoint of ' if self._is_adjoint else ''}{what}>"

    @functools.cached_property
    def H(self) -> LinearMap:  # noqa: N802, RUF100 (NumPy's name)
        """The adjoint."""
        if self._backward is None:
            kind = type(self.source).__name__
            raise TypeError(NO_ADJOINT.format(name=self._name, kind=kind))
        twin = LinearMap(
            self._backward,
            self._forward,
            self.shape[::-1],
            self._vectors,
            self.source,
            self.images[::-1],
            self._name,
        )
        twin.H, twin.test, twin._is_adjoint = self, self.test, not self._is_adjoint
        return twin

    @property
    def T(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        """The transpose: the conjugate of the adjoint."""
        return Conjugated(self.H)

    @property
    def dtype(self) -> Any:
        """Of the products; found by a product the first time."""
        self._know(None)
        return self._vectors.like.dtype

    @property
    def like(self) -> Any:
        """An array such as the vectors are; found by a product the first time."""
        self._know(None)
        return self._vectors.like

    def __matmul__(self, x: Any) -> Any:
        return self.rows(x) if x.ndim == 1 else self.rows(x.T).T

    def __rmul__(self, factor: float) -> LinearMap:
        def times(products: Products) -> Products:
            return Products(lambda rows: factor * products(rows), None, is_by_rows=True)

        backward = None if self._backward is None else times(self._backward)
        forward = times(self._forward)
        mine = self._vectors, self.source, self.images, self._name
        return LinearMap(forward, backward, self.shape, *mine)

    def __call__(self, x: Any) -> Any:
        """The image of vectors as rows, or of images, in a batch of any shape."""
        before, after = self.images
        if tuple(x.shape[x.ndim - len(before) :]) != before:
            raise ValueError(
                f"`x` must have shape {before} or (batch, {', '.join(map(str, before))}), got "
                f"{tuple(x.shape)}"
            )
        batch = tuple(x.shape[: x.ndim - len(before)])
        image = self.rows(reshaped(x, (*batch, self.shape[1])))
        return reshaped(image, (*batch, *after))

    def rows(self, x: Any) -> Any:
        """Product with a vector (n,), or with each row of a batch (batch, n)."""
        image = self._checked(x, self._forward(x))
        if not self.test.is_over:
            self.test.see(x, image, is_adjoint=self._is_adjoint)
        return image

    def _checked(self, x: Any, image: Any) -> Any:
        expected = (*x.shape[:-1], self.shape[0])
        if not is_array(image):
            kind, image = type(image).__name__, np.asarray(image)
            if image.dtype.kind not in "buifc":
                raise TypeError(
                    f"products of `{self._name}` must be arrays of numbers, got {kind}; check what "
                    "the operator returns"
                )
        if tuple(image.shape) != expected:
            raise ValueError(
                f"products of `{self._name}` with a vector must have shape {expected}, got "
                f"{tuple(image.shape)}; check `shape` and what the operator returns"
            )
        return image

    def of_host(self, vector: Any) -> Any:
        """Product with a vector or columns of NumPy, as an array of the library of the map."""
        if self._remembered is not None:
            known, image = self._remembered
            self._remembered = None
            if known.dtype == vector.dtype and np.array_equal(known, vector):
                return image
        self._know(vector if vector.ndim == 1 else None)
        if self._remembered is not None and vector.ndim == 1:
            return self.of_host(vector)
        return self @ from_host(vector, self._vectors.like)

    def makes_complex(self, vector: Any) -> bool:
        """Whether products are complex. The one with ``vector`` is made for it, and remembered."""
        self._know(vector)
        return bool(self._vectors.is_complex)

    def _know(self, vector: Any) -> None:
        """Find out what the vectors are by a product, unless that is known."""
        vectors = self._vectors
        if vectors.is_complex is not None:
            return
        if vector is None:
            vector = np.random.default_rng(0).standard_normal(self.shape[1])
        with without_derivatives():
            image = self._checked(vector, vectors.tried(self._forward, vector))
        vectors.is_complex = dtype_kind(image.dtype) == "c" or dtype_kind(vectors.like.dtype) == "c"
        if vectors.is_complex and dtype_kind(vectors.like.dtype) != "c":
            vectors.like = from_host(np.zeros(0), image)
        elif not vectors.is_complex:
            self._remembered = (vector.copy(), image)


class Conjugated(OwnOperator):
    """``v → conj(A conj(v))``: of a transpose it makes the adjoint, and stores no conjugate."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator
        self.shape = operator.shape
        self.dtype = getattr(operator, "dtype", None)

    @property
    def T(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        """The transpose."""
        return Conjugated(self._operator.T)

    @property
    def H(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        """The adjoint."""
        return self._operator.T

    def __matmul__(self, x: Any) -> Any:
        return conjugate(self._operator @ conjugate(x))


def adjoint_of(operator: Any) -> Any:
    """The conjugate transpose of a checked operator, for products; no conjugate is stored."""
    if is_sparse_tensor(operator):
        return stored_adjoint(operator)
    if is_torch(operator):
        return operator.mH  # conjugated by the product, not in memory
    if is_array(operator) or hasattr(operator, "tocsr"):
        return Conjugated(operator.T) if dtype_kind(operator.dtype) == "c" else operator.T
    if hasattr(operator, "H"):
        adjoint = operator.H
        # SciPy makes the adjoint of an operator that has none, and fails at its first product.
        if getattr(adjoint, "_CustomLinearOperator__matvec_impl", adjoint) is None:
            raise TypeError(NO_ADJOINT.format(name="operator", kind=type(operator).__name__))
        return adjoint
    is_real = isinstance(operator, OwnOperator) and dtype_kind(operator.dtype) != "c"  # type: ignore[attr-defined]
    return operator.T if is_real else Conjugated(operator.T)


def flipped(operator: Any) -> Any:
    """An operator with the same singular values and the other shape: a transpose, or an adjoint."""
    if isinstance(operator, LinearMap) or is_sparse_tensor(operator):
        return adjoint_of(operator)
    return operator.T


def apply(operator: Any, x: Any) -> Any:
    """Product with a row vector (n,) or with each row of a batch (batch, n)."""
    if isinstance(operator, LinearMap):
        return operator.rows(x)
    if is_sparse_tensor(operator):
        return sparse_product(operator, x) if x.ndim == 1 else sparse_product(operator, x.T).T
    if x.ndim == 1:
        return operator @ x
    # One node of a graph in place of three.
    return x @ operator.T if is_torch(operator) else (operator @ x.T).T


def check_adjoint(operator: Any, rows: Any) -> None:
    """Raise unless ``uᴴ(Av) = (Aᴴu)ᴴv`` for random u and v; once for each object.

    It costs two products. Objects of NumPy with products ``@`` and a transpose are tested by the
    first products that are made with them, which costs none.

    Args:
        operator: Of shape (m, n).
        rows: Arrays of length m such as products are.
    """
    if not isinstance(operator, LinearMap) or operator.test.is_over:
        return
    if hasattr(operator.source, "__matmul__") and not is_torch(rows):
        return
    rng = np.random.default_rng(0)
    with without_derivatives():
        v: Any = rng.standard_normal(operator.shape[1])
        u: Any = rng.standard_normal(operator.shape[0])
        try:
            image = operator @ from_host(v, rows)
        except RuntimeError as error:  # torch's, of dtypes and devices that do not fit
            where = f" on {rows.device}" if is_torch(rows) else ""
            raise TypeError(
                f"`operator` must take vectors such as the right-hand side, which is of "
                f"{rows.dtype}{where}, got: {str(error).splitlines()[0]}; convert one of the two"
            ) from error
        if dtype_kind(image.dtype) == "c":
            u, rows = u + 1j * rng.permutation(u), image
        operator.H @ from_host(u, rows)
