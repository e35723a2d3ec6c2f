"""Quadratics whose unknowns are shared out: ``½xᵀAx − bᵀx`` for a sparse symmetric A.

Each process owns some unknowns and has their rows of A. A product takes the halo of those rows: a
message from each neighbour. Inner products are sums over all processes. Known steps take none of
them inside a period, where conjugate gradients take one a step.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepfold._arrays import norms
from stepfold._checks import check_count, check_matrix
from stepfold._typing import FloatArray
from stepfold.distributed.agreement import agree, largest_sizes, made_alike
from stepfold.distributed.deep import DeepHalo
from stepfold.distributed.exchange import Exchange
from stepfold.distributed.group import Group, current_group
from stepfold.distributed.layout import Halo, Layout
from stepfold.distributed.spread import Space, Spread
from stepfold.operators import OwnOperator
from stepfold.problems import Quadratic, QuadraticProblem
from stepfold.problems._units import Sizes, divided, rows_divided
from stepfold.problems.base import check_rows
from stepfold.spectrum import BoundsMethod, Certainty, SpectralBounds
from stepfold.spectrum.bounds import tightest
from stepfold.spectrum.lanczos import Lanczos
from stepfold.spectrum.target import Target


class ShardedQuadratic(QuadraticProblem[Any]):
    """Minimise ``½xᵀAx − bᵀx``, that is solve ``Ax = b``, with unknowns shared out among processes.

    Each process makes it of the rows of A and the entries of b of its own unknowns, and calls
    `stepfold.solve` or `estimate_bounds` with the same arguments as the others. x, gradients and
    results are `Spread`: each process has its entries. All that is decided is decided from sums
    over the processes, the same bits everywhere. A product takes one message to each neighbour;
    steps of a schedule take no sum over the processes inside a period, conjugate gradients one a
    step.

    Args:
        local_rows: Rows of A of this process's unknowns, in ascending order of their numbers: a
            sparse matrix of SciPy of shape (mᵢ, n), with the numbers of all unknowns as columns.
            Symmetry is taken on trust; `estimate_bounds` checks it.
        local_rhs: b of the same unknowns, shape (mᵢ,), or (batch, mᵢ).
        layout: Who owns what; parts of about one size in the order of the numbers if None.
        group: The processes; those of torch.distributed, or this one alone, if None.
        depth: Steps of a schedule that take one exchange of messages, by holding and multiplying
            the rows of others within ``depth − 1`` edges too. Worth it where messages are slow.

    Raises:
        TypeError: If an argument is of a wrong type on a process, or processes have different
            dtypes.
        ValueError: If shapes do not fit, an entry is not finite, or processes have different
            layouts or numbers of right-hand sides. The message names the process, and all raise.

    >>> from stepfold import solve
    >>> import scipy.sparse
    >>> A = scipy.sparse.diags_array([[2.0, 2.0], [-1.0], [-1.0]], offsets=[0, 1, -1]).tocsr()
    >>> problem = ShardedQuadratic(A, np.ones(2))
    >>> solve(problem).x.local.round(6)
    array([1., 1.])
    """

    def __init__(
        self,
        local_rows: Any,
        local_rhs: NDArray[Any],
        layout: Layout | None = None,
        group: Group | None = None,
        *,
        depth: int = 1,
    ) -> None:
        group = current_group() if group is None else group
        if not isinstance(group, Group):
            raise TypeError(f"`group` must be a Group or None, got {type(group).__name__}")

        def make() -> tuple[Any, dict[str, Any], Sizes]:
            if not hasattr(local_rows, "tocsr"):
                raise TypeError(
                    "`local_rows` must be a sparse matrix of SciPy, got "
                    f"{type(local_rows).__name__}; pass `scipy.sparse.csr_array(local_rows)`"
                )
            check_count("depth", depth)
            mine = Layout.even(local_rows.shape[1], group) if layout is None else layout
            rows, rhs = _checked(local_rows, local_rhs, mine, group)
            facts = {
                "`layout` must be the same on all processes": hashlib.sha256(
                    mine.owners.tobytes()
                ).hexdigest()[:8],
                "`local_rows` and `local_rhs` must be of one dtype on all processes": str(
                    rhs.dtype
                ),
                "`local_rhs` must have as many right-hand sides on all processes": None
                if rhs.ndim == 1
                else rhs.shape[0],
                "`depth` must be the same on all processes": int(depth),
            }
            return (mine, rows, rhs), facts, Sizes.of(rows, rhs, is_squared=False)

        (layout, rows, rhs), everybody = made_alike(group, make)
        self._sizes = largest_sizes(everybody)
        self.halo = Halo(layout, rows.indices, group)
        self._rows = _Rows(rows, layout, self.halo)
        self._space = Space(layout, Exchange(group))
        self._rows.vectors_like = self.spread(np.zeros(layout.own.size))
        self._inside = Quadratic(self._rows.inside, rhs)
        self._deep = None
        if depth > 1 and group.size > 1:
            self._deep = DeepHalo(rows, rhs, layout, depth, group)
        self._rhs_norms: FloatArray | None = None
        self.exchange.agree_on_time()

    @property
    def exchange(self) -> Exchange:
        """The sums over the processes; ``num_sums`` counts them."""
        return self._space.exchange

    @property
    def layout(self) -> Layout:
        """Who owns which unknowns."""
        return self._space.layout

    @property
    def group(self) -> Group:
        """The processes."""
        return self.exchange.group

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds as of the last sum, the same everywhere."""
        return self.exchange.clock

    def spread(self, local: NDArray[Any]) -> Spread:
        """A vector of this process's entries and those of the others: a start, for example.

        Raises:
            ValueError: If ``local`` has another length than this process has unknowns.
        """
        local = np.asarray(local)
        count = self.layout.own.size
        if local.ndim not in (1, 2) or local.shape[-1] != count:
            raise ValueError(
                f"`local` must have shape ({count},) or (batch, {count}), an entry for each "
                f"unknown of this process, got {local.shape}"
            )
        return self._space.spread(local)

    @property
    def hessian(self) -> Any:
        """A, of shape (n, n), for `Spread` vectors."""
        return self._rows

    @property
    def linear_term(self) -> Spread:
        """b."""
        return self._space.spread(self._inside.rhs)

    @property
    def kernel(self) -> str | None:
        """Name of the compiled sweep over this process's rows; None where SciPy serves."""
        return self._inside.kernel

    def gradient(self, x: Any) -> Any:
        """``Ax − b``."""
        return self._swept(x, self._inside.gradient, 1)

    def gradient_step(self, x: Any, gamma: Any) -> Any:
        """``x − gamma·gradient(x)``."""
        gamma = x.dtype.type(gamma)
        if self._deep is not None:
            around, num_steps = x.around or (self._deep.filled(x.local), self._deep.depth)
            around = self._deep.gradient_step(around, gamma)
            own = around[..., : x.local.shape[-1]]
            left = num_steps - 1
            return Spread(own, self._space, (around, left) if left else None)
        return self._swept(x, lambda own: self._inside.gradient_step(own, gamma), -gamma)

    def product(self, rows: Any) -> Any:
        """``A v`` for a vector v or for each row of a batch."""
        return self._swept(rows, self._inside.product, 1)

    def _swept(self, x: Any, sweep: Callable[[Any], Any], factor: Any) -> Spread:
        """What a sweep over own columns gives while the halo travels, and ``factor·`` the rest."""
        finish = self.halo.begin(x.local)
        return self._space.spread(self._rows.add_outside(sweep(x.local), finish(), factor))

    def gradient_magnitude(self, lengths: FloatArray, upper: float) -> FloatArray:
        """``b‖x‖ + ‖rhs‖`` for an upper bound b of the spectrum."""
        if self._rhs_norms is None:
            self._rhs_norms = norms(self.linear_term)
        return upper * lengths + self._rhs_norms

    @property
    def sums_over_processes(self) -> bool:
        """True."""
        return True

    @property
    def sums_in_words(self) -> str:
        """What known steps save."""
        return (
            "Known steps take no sum over the processes inside a period, conjugate gradients one a "
            "step and fewer steps; `stepfold scale` tells what a sum may take for the one or the "
            "other to be faster."
        )

    def rows_of(self, places: Sequence[int]) -> Self:
        """The problem of some right-hand sides."""
        twin = copy.copy(self)
        twin._rhs_norms = None
        twin._inside = self._inside.rows_of(places)
        twin._deep = self._deep and self._deep.rows_of(places)
        twin._sizes = replace(self._sizes, rhs=self._sizes.rhs[list(places)])
        return twin

    def sizes(self) -> Sizes:
        """How large entries of A, from a sample on each process, and of b are."""
        return self._sizes

    def divided(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> Self:
        """The problem with A and b divided by powers of two."""
        twin = copy.copy(self)
        vars(twin).pop("curvature_bound", None)
        twin._rhs_norms = None
        twin._rows = self._rows.divided(exponent)
        rhs = rows_divided(self._inside.rhs, rhs_exponents)
        twin._inside = Quadratic(twin._rows.inside, rhs)
        twin._deep = self._deep and self._deep.divided(exponent, rhs_exponents)
        return twin

    def own_bounds(self, method: BoundsMethod | None, seed: int) -> SpectralBounds:
        """Bounds by ``method``; by Gershgorin's discs and Lanczos steps if it is None."""
        target = Target(self._rows, seed)
        if method is not None:
            return method.bounds(target)
        discs = self._discs()
        steps = Lanczos().bounds(Target(self._rows, seed, discs.upper, discs.lower))
        return tightest([discs, steps])

    def _discs(self) -> SpectralBounds:
        diagonal, sums = self._rows.discs()
        lower, upper = float((2 * diagonal - sums).min()), float(sums.max())
        everybody = self.group.gather((lower, upper))
        lower, upper = min(each[0] for each in everybody), max(each[1] for each in everybody)
        # A sum of absolute values is rounded by less than this; row sums of 0 must stay 0.
        rounding = 64 * math.sqrt(self.layout.size) * float(np.finfo(np.float64).eps) * upper
        is_proved = lower > -rounding
        return SpectralBounds(
            lower if lower > rounding else 0.0,
            upper,
            Certainty.GUARANTEED if is_proved else Certainty.ASSUMED,
            Certainty.GUARANTEED,
            method="Gershgorin discs",
            num_products=1,
        )

    def agree(self, **settings: Any) -> None:
        """Check that all processes were asked for the same; the clock starts anew.

        Raises:
            ValueError: If they were not, with the argument and the ranks.
        """
        x0 = settings.get("x0")
        if x0 is not None and not isinstance(x0, Spread):
            settings["x0"] = "not of this problem"  # refused by the run, everywhere alike
        elif x0 is not None:
            settings["x0"] = f"a vector of shape {x0.shape} and {x0.dtype}"
        agree(self.exchange, settings)
        if x0 is not None and not isinstance(x0, Spread):
            raise TypeError(
                f"`x0` must be spread over the processes, got {type(x0).__name__}; pass "
                "`problem.spread(local_x0)`"
            )


class _Rows(OwnOperator):
    """A, as the rows of this process."""

    vectors_like: Spread

    def __init__(self, rows: Any, layout: Layout, halo: Halo) -> None:
        import scipy.sparse

        self.shape, self.dtype = (layout.size, layout.size), rows.dtype
        self._halo = halo
        places = np.empty(layout.size, np.int64)
        count = layout.own.size
        places[layout.own] = np.arange(count)
        places[halo.numbers] = count + np.arange(halo.numbers.size)
        kind = np.int32 if max(rows.nnz, count + halo.numbers.size) < 2**31 else np.int64
        columns = places[rows.indices].astype(kind)
        shape = (count, count + halo.numbers.size)
        local = scipy.sparse.csr_array((rows.data, columns, rows.indptr.astype(kind)), shape=shape)
        # Apart: the first needs nobody else's entries, and is multiplied while they travel.
        self.inside = local[:, :count]
        outside = local[:, count:].tocsr()
        self._at_border = np.flatnonzero(np.diff(outside.indptr))
        self._outside = outside[self._at_border]

    @property
    def T(self) -> _Rows:  # noqa: N802, RUF100 (NumPy's name)
        """Itself: it is symmetric."""
        return self

    H = T

    def local_product(self, own: NDArray[Any]) -> NDArray[Any]:
        """This process's entries of A x, or of the product with each row."""
        finish = self._halo.begin(own)
        image = (self.inside @ own.T).T
        return self.add_outside(image, finish(), 1)

    def add_outside(self, image: NDArray[Any], halo: NDArray[Any], factor: Any) -> NDArray[Any]:
        """Add ``factor·`` the product with the halo's columns, in place."""
        if self._at_border.size:
            image[..., self._at_border] += factor * (self._outside @ halo.T).T
        return image

    def divided(self, exponent: int) -> _Rows:
        """A twin whose entries are divided by ``2**exponent``."""
        twin = copy.copy(self)
        twin.inside = divided(self.inside, exponent)
        twin._outside = divided(self._outside, exponent)
        return twin

    def discs(self) -> tuple[FloatArray, FloatArray]:
        """The diagonal, and the sums of absolute values of each row."""
        sums: Any = abs(self.inside).astype(np.float64).sum(axis=1)
        sums[self._at_border] += abs(self._outside).astype(np.float64).sum(axis=1)
        diagonal: FloatArray = self.inside.diagonal().astype(np.float64)
        return diagonal, sums

    def __matmul__(self, x: Any) -> Any:
        if not isinstance(x, Spread) or x.ndim != 1:
            raise TypeError(
                "`x` must be a vector that is spread over the processes, got "
                f"{type(x).__name__}; pass `problem.spread(local)`"
            )
        return Spread(self.local_product(x.local), x.space)


def _checked(local_rows: Any, local_rhs: Any, layout: Any, group: Group) -> tuple[Any, Any]:
    if not isinstance(layout, Layout):
        raise TypeError(
            f"`layout` must be a Layout or None, got {type(layout).__name__}; make it of the "
            "owners, as `Layout(owners, group.rank)`"
        )
    if layout.rank != group.rank or layout.owners.max() >= group.size:
        raise ValueError(
            f"`layout` must be that of process {group.rank} of {group.size}, got one of process "
            f"{layout.rank} of {int(layout.owners.max()) + 1}"
        )
    rows = check_matrix("local_rows", local_rows).tocsr()
    expected = (layout.own.size, layout.size)
    if rows.shape != expected:
        raise ValueError(
            f"`local_rows` must have shape {expected}, a row for each unknown of this process and "
            f"a column for each of all, got {rows.shape}"
        )
    if rows.dtype.kind not in "f":
        rows = rows.astype(np.float64)
    rhs = check_rows("local_rhs", local_rhs, expected[0], "the rows of `local_rows`")
    if not isinstance(rhs, np.ndarray) or rhs.dtype.kind != "f":
        raise TypeError(
            f"`local_rhs` must be a real array of NumPy, got {type(rhs).__name__} of {rhs.dtype}"
        )
    dtype = np.result_type(rows.dtype, rhs.dtype)
    return rows.astype(dtype, copy=False), rhs.astype(dtype, copy=False)
