"""Least squares whose rows lie in several processes, and fixed points of sums of maps.

x, its gradients and all that is decided from them are the same everywhere, so the run is
`stepfold.solve`'s, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import dtype_kind, is_numpy, is_torch, library, without_labels, zeros_like
from stepfold._checks import check_nonnegative
from stepfold._typing import ArrayT
from stepfold.distributed.agreement import agree, largest_sizes, made_alike
from stepfold.distributed.exchange import Exchange
from stepfold.distributed.group import Group, current_group
from stepfold.distributed.summed import COLUMNS, MAP, SummedLeastSquares, part_of
from stepfold.problems import FixedPoint, LeastSquares
from stepfold.problems._units import Sizes
from stepfold.problems.out_of_core import MEMORY, BlockedLeastSquares


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
        exchange = Exchange(group)
        found, everybody = made_alike(group, lambda: _made(operator, rhs, ridge, memory))
        self._local: Any = found
        self.exchange = exchange
        like, num_rows = _zeros(found), sum(rows for rows, _ in everybody)
        known = [sizes for _, sizes in everybody if sizes is not None]
        sizes = largest_sizes(known) if known else None
        super().__init__((num_rows, found.operator.shape[1]), like, float(ridge), sizes)
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
        if what == COLUMNS:
            like = abs(like[:1] if like.ndim > 1 else like[None])
        elif x is not None:
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

    def _found_sizes(self) -> Sizes:
        # Shards on disk: all sweep them for the term before anybody speaks of them.
        with np.errstate(over="ignore", invalid="ignore"):
            self._known_term()
        return largest_sizes(self.group.gather(self._local.sizes()))

    def _divide(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> None:
        self._local = self._local.divided(exponent, rhs_exponents)

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

    Raises:
        TypeError: If ``map`` cannot be called.
        ValueError: In a run, if a term has another shape or dtype than x.

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
    operator = without_labels("operator", operator)
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


def _made(operator: Any, rhs: Any, ridge: float, memory: int) -> tuple[Any, dict[str, Any], Any]:
    """The problem of this process's rows, what must be alike, and what all are told."""
    ridge = float(check_nonnegative("ridge", ridge))
    local = _local_problem(operator, rhs, memory)
    held = local.rhs
    if not (is_numpy(held) or is_torch(held)):
        raise TypeError(
            f"`rhs` must be an array of NumPy or a tensor of torch, got one of {library(held)}"
        )
    like, on_disk = _zeros(local), isinstance(local, BlockedLeastSquares)
    facts = {
        "`operator` must have as many columns on all processes": int(local.operator.shape[1]),
        "`operator` and `rhs` must be of one dtype on all processes": str(like.dtype).removeprefix(
            "torch."
        ),
        "`rhs` must be of one library on all processes": library(held),
        "`rhs` must have as many right-hand sides on all processes": None
        if held.ndim == 1
        else int(held.shape[0]),
        "`ridge` must be the same on all processes": ridge,
        "`operator` must be kept in one way on all processes": "on disk"
        if on_disk
        else "in memory",
    }
    return local, facts, (int(local.operator.shape[0]), None if on_disk else local.sizes())


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
