"""Least squares whose rows lie in several places: ``Aᵀ(Ax − b) = Σᵢ Aᵢᵀ(Aᵢx − bᵢ)``.

Every place has a problem of its own, with its rows and its own kernel or its own file, and sweeps
them once; what is added up is a vector of length n. x, its gradients and all that is decided from
them are the same everywhere, so the run is `stepfold.solve`'s, unchanged.
"""

from __future__ import annotations

import copy
import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from stepfold._arrays import (
    dtype_kind,
    from_host,
    is_numpy,
    is_torch,
    library,
    take,
    to_host,
    zeros_like,
)
from stepfold._checks import check_nonnegative
from stepfold._typing import ArrayT, FloatArray
from stepfold.distributed.agreement import agree, check_alike
from stepfold.distributed.exchange import Exchange
from stepfold.distributed.group import Group, current_group
from stepfold.operators import OwnOperator, apply
from stepfold.problems import FixedPoint, LeastSquares, QuadraticProblem
from stepfold.problems._rows import real_products, squares
from stepfold.problems.duality import Look, look
from stepfold.problems.out_of_core import MEMORY, BlockedLeastSquares
from stepfold.spectrum import Gram

# What is summed; numbers that all processes know.
TERM, GRADIENT, PRODUCT, VALUE, MAP = range(1, 6)


def part_of(problem: Any, what: int, x: Any) -> tuple[Any, Any]:
    """What the rows of one place add to a sum: a vector, and numbers beside it.

    Args:
        problem: The rows' own problem, without a ridge.
        what: The term ``Aᵀb`` and ‖b‖², a gradient, a product with AᵀA, or a gradient and the
            value ``½‖Ax − b‖²``.
        x: Where.
    """
    if what == TERM:
        return problem.linear_term, squares(problem.rhs).sum(-1)
    if what == GRADIENT:
        return problem.gradient(x), None
    if what == PRODUCT:
        return problem.product(x), None
    residual = apply(problem.operator, x) - problem.rhs
    if isinstance(problem, BlockedLeastSquares):
        gradient: Any = problem.operator.transposed_product(residual.T).T
    else:
        gradient = problem.adjoint_product(residual)
    return gradient, squares(residual).sum(-1) / 2


class SummedLeastSquares(QuadraticProblem[ArrayT]):
    """Minimise ``½‖Ax − b‖² + ½μ‖x‖²``, with sums over the places that hold rows.

    Args:
        shape: (m, n), all rows together.
        like: Zeros of the shape, library, dtype and device of x.
        ridge: μ.
    """

    def __init__(self, shape: tuple[int, int], like: ArrayT, ridge: float) -> None:
        self.shape, self.ridge = shape, ridge
        self._like: Any = like
        self._term: tuple[Any, Any] | None = None

    @abstractmethod
    def total(self, what: int, x: Any) -> tuple[Any, Any]:
        """The sums over all places of what `part_of` returns."""

    def _known_term(self) -> tuple[Any, Any]:
        if self._term is None:
            self._term = self.total(TERM, None)
        return self._term

    @property
    def linear_term(self) -> ArrayT:
        """``Aᵀb``: one sum the first time, none afterwards."""
        term: ArrayT = self._known_term()[0]
        return term

    @property
    def sums_in_words(self) -> str:
        """That known steps save no sum."""
        return (
            "x is on every process: conjugate gradients (`solve` without a schedule) take one sum "
            "a step, as known steps do, and fewer steps. Prefer them unless steps must not depend "
            "on the iterate."
        )

    @property
    def products_per_gradient(self) -> int:
        """2: one with A, one with its transpose; both in one sweep and one sum."""
        return 2

    @property
    def hessian(self) -> Gram:
        """``AᵀA + μI``, of shape (n, n); a product with it is one sweep and one sum."""
        return Gram.of_checked(_Rows(self), self.ridge)

    def gradient(self, x: ArrayT) -> ArrayT:
        """``Aᵀ(Ax − b) + μx``."""
        gradient: ArrayT = self.total(GRADIENT, x)[0]
        return gradient + self.ridge * x if self.ridge else gradient

    def product(self, rows: ArrayT) -> ArrayT:
        """``(AᵀA + μI) v`` for a vector v or for each row of a batch."""
        product: ArrayT = self.total(PRODUCT, rows)[0]
        return product + self.ridge * rows if self.ridge else product

    def value(self, x: ArrayT) -> Any:
        """``½‖Ax − b‖² + ½μ‖x‖²``, one number or one per row."""
        return look(self, x).value

    def gradient_magnitude(self, lengths: FloatArray, upper: float) -> FloatArray:
        """``b‖x‖ + √b‖rhs‖`` for an upper bound b of the spectrum."""
        return upper * lengths + math.sqrt(upper) * self._rhs_norms

    @functools.cached_property
    def _rhs_norms(self) -> FloatArray:
        found: FloatArray = np.sqrt(np.atleast_1d(to_host(self._known_term()[1])))
        return found.astype(np.float64)

    def _of_rows(self, places: Sequence[int]) -> Self:
        """A twin with some of the right-hand sides, whose term is not asked for again."""
        twin = copy.copy(self)
        vars(twin).pop("_rhs_norms", None)
        vars(twin).pop("curvature_bound", None)
        twin._like = take(self._like, places)
        if self._term is not None:
            twin._term = take(self._term[0], places), take(self._term[1], places)
        return twin


@look.register(SummedLeastSquares)
def _look(problem: SummedLeastSquares[Any], x: Any) -> Look:
    gradient, half = problem.total(VALUE, x)
    value, ridge = half, problem.ridge
    if ridge:
        gradient = gradient + ridge * x
        value = half + ridge / 2 * real_products(x, x)
    return Look(value, gradient, ridge, lambda scale: (1 - scale) * (1 - scale) * half)


class _Rows(OwnOperator):
    """All rows as the factor of a `Gram`, which asks for products with AᵀA only."""

    def __init__(self, problem: SummedLeastSquares[Any]) -> None:
        self._problem = problem
        self.shape = problem.shape
        self.dtype = problem._like.dtype

    @property
    def T(self) -> _Rows:  # noqa: N802, RUF100 (NumPy's name)
        """Named only: no product with it is made."""
        return self

    H = T

    def __matmul__(self, x: Any) -> Any:
        raise TypeError(
            "`problem` has its rows in several places, and no process has the vector Ax; ask for "
            "`problem.product(x)`"
        )

    def gram_product(self, x: Any) -> Any:
        """``AᵀA x`` for x of shape (n,) or (n, batch), of the problem's library or NumPy's."""
        problem, like = self._problem, self._problem._like
        rows = x if library(x) == library(like) and not is_numpy(x) else from_host(x, like)
        if rows.ndim == 1:
            total = problem.total(PRODUCT, rows)[0]
        else:
            total = problem.total(PRODUCT, rows.T)[0].T
        return to_host(total) if is_numpy(x) and not is_numpy(total) else total


class ShardedLeastSquares(SummedLeastSquares[ArrayT]):
    """Minimise ``½‖Ax − b‖² + ½μ‖x‖²``, with the rows of A and b shared out among processes.

    Each process makes it of its own rows, and calls `stepfold.solve`, `estimate_bounds` or `plan`
    with the same arguments as the others. x has all n entries on each of them. An iteration is one
    sweep over the rows and one all-reduce of n numbers and a few more; iterates, bounds and
    statuses are the same bits everywhere. So are budgets of time, which count the mean time of the
    processes. If one fails, all raise.

    Args:
        operator: This process's rows of A, of shape (mᵢ, n): what `LeastSquares` takes, of NumPy,
            SciPy or torch. A memmap, a Zarr array or anything else with ``shape``, ``dtype`` and
            row slices alone is swept out of core.
        rhs: The same rows of b, of shape (mᵢ,), or (batch, mᵢ).
        group: The processes; those of torch.distributed, or this one alone, if None.
        ridge: μ, at least 0.
        memory: Most bytes for blocks of each process, out of core.

    Raises:
        TypeError: If processes have different dtypes or libraries, or an argument is of a wrong
            type on one of them.
        ValueError: If processes have different numbers of columns or right-hand sides, other
            ridges, or no rows, or what one of them has is not finite. The message names its rank.

    >>> A, b = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([2.0, 3.0])
    >>> problem = ShardedLeastSquares(A, b)
    >>> problem.gradient(np.array([1.0, 0.0]))
    array([ 0., -3.])
    >>> from stepfold import solve
    >>> solve(problem).x.round(6)
    array([1., 3.])
    """

    def __init__(
        self,
        operator: Any,
        rhs: ArrayT,
        group: Group | None = None,
        *,
        ridge: float = 0.0,
        memory: int = MEMORY,
    ) -> None:
        group = current_group() if group is None else group
        if not isinstance(group, Group):
            raise TypeError(
                f"`group` must be a Group or None, got {type(group).__name__}; wrap it, as "
                "`TorchGroup(process_group)` or `MPIGroup(communicator)`"
            )
        local, failure = None, None
        try:
            ridge = float(check_nonnegative("ridge", ridge))
            local = _local_problem(operator, rhs, memory)
            mine = _description(local, ridge)
        except Exception as error:  # noqa: BLE001 (raised below, everywhere)
            failure = error
            mine = {
                "error": f"{type(error).__name__}: {error}",
                "is type": isinstance(error, TypeError),
            }
        exchange = Exchange(group)
        everybody = group.gather(mine)
        check_alike(everybody, failure)
        assert local is not None  # noqa: S101
        self._local: Any = local
        self.exchange = exchange
        num_rows = sum(one["rows"] for one in everybody)
        like = _zeros(local)
        super().__init__((num_rows, local.operator.shape[1]), like, ridge)
        exchange.agree_on_time()

    @property
    def group(self) -> Group:
        """The processes."""
        return self.exchange.group

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds, the same everywhere."""
        return self.exchange.clock

    @property
    def local(self) -> LeastSquares[ArrayT] | BlockedLeastSquares:
        """The problem of this process's rows, without the ridge."""
        local: LeastSquares[ArrayT] | BlockedLeastSquares = self._local
        return local

    @property
    def rhs(self) -> ArrayT:
        """This process's entries of b."""
        rhs: ArrayT = self._local.rhs
        return rhs

    def total(self, what: int, x: Any) -> tuple[Any, Any]:
        """Sums over all processes, by one all-reduce."""
        like = self._like
        if x is not None:
            like = zeros_like(x) if is_torch(x) else np.zeros(x.shape, np.result_type(like, x))
        return self.exchange.sum(what, x, like, lambda: part_of(self._local, what, x))

    def rows_of(self, places: Sequence[int]) -> Self | None:
        """The problem of some right-hand sides."""
        local = self._local.rows_of(places)
        if local is None:
            return None
        twin = self._of_rows(places)
        twin._local = local
        return twin

    def agree(self, **settings: Any) -> None:
        """Check that all processes were asked for the same; the clock starts anew.

        Raises:
            ValueError: If they were not, with the argument and the ranks.
        """
        agree(self.exchange, settings)


class ShardedFixedPoint(FixedPoint[ArrayT]):
    """The equation ``x = Σᵢ fᵢ(x)``, with a term on each process.

    Args:
        map: fᵢ, this process's part: from x, the same everywhere, to an array of its shape, which
            is added up.
        group: The processes; those of torch.distributed, or this one alone, if None.

    >>> from stepfold import solve
    >>> result = solve(ShardedFixedPoint(lambda x: 0.5 * x + 1.0), x0=np.zeros(1))
    >>> result.x.round(6)
    array([2.])
    """

    def __init__(self, map: Callable[[ArrayT], ArrayT], group: Group | None = None) -> None:  # noqa: A002 (the field's word)
        super().__init__(map)
        self.exchange = Exchange(current_group() if group is None else group)
        part: Any = self.map

        def summed(x: Any) -> Any:
            def mine() -> tuple[Any, Any]:
                image = part(x)
                if getattr(image, "shape", None) != x.shape or image.dtype != x.dtype:
                    raise ValueError(
                        "`map` must return an array of the shape and dtype of its argument, "
                        f"{tuple(x.shape)} of {x.dtype}, got {getattr(image, 'shape', image)!r}"
                    )
                return image, None

            return self.exchange.sum(MAP, x, x, mine)[0]

        self.map = summed

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds, the same everywhere."""
        return self.exchange.clock

    def agree(self, **settings: Any) -> None:
        """Check that all processes were asked for the same; the clock starts anew."""
        agree(self.exchange, settings)


def _local_problem(operator: Any, rhs: Any, memory: int) -> Any:
    shape = getattr(operator, "shape", None)
    if shape is not None and len(shape) == 2 and shape[0] == 0:
        raise ValueError(
            f"`operator` must have at least one row on each process, got shape {tuple(shape)}; "
            "start fewer processes, or share the rows out evenly"
        )
    slices = hasattr(operator, "dtype") and hasattr(operator, "__getitem__")
    on_disk = slices and shape is not None and not hasattr(operator, "__matmul__")
    if on_disk or isinstance(operator, np.memmap):
        return BlockedLeastSquares(operator, rhs, memory=memory)
    return LeastSquares(operator, rhs)


def _description(local: Any, ridge: float) -> dict[str, Any]:
    rhs = local.rhs
    if not (is_numpy(rhs) or is_torch(rhs)):
        raise TypeError(
            f"`rhs` must be an array of NumPy or a tensor of torch, got one of {library(rhs)}"
        )
    like = _zeros(local)
    return {
        "rows": int(local.operator.shape[0]),
        "columns": int(local.operator.shape[1]),
        "dtype": str(like.dtype).removeprefix("torch."),
        "library": library(rhs),
        "right-hand sides": None if rhs.ndim == 1 else int(rhs.shape[0]),
        "ridge": ridge,
        "storage": "on disk" if isinstance(local, BlockedLeastSquares) else "in memory",
    }


def _zeros(local: Any) -> Any:
    """Zeros such as x is."""
    shape = (*local.rhs.shape[:-1], local.operator.shape[1])
    if is_torch(local.rhs):
        return local.rhs.new_zeros(shape)
    held = getattr(local.operator, "dtype", None)
    kinds = (
        [local.rhs.dtype]
        if held is None or dtype_kind(held) not in "fc"
        else [
            np.dtype(held),
            local.rhs.dtype,
        ]
    )
    return np.zeros(shape, np.result_type(*kinds))
