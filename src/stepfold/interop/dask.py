"""Least squares whose rows are in a cluster of Dask already.

Each worker keeps the blocks of rows that it has in an actor. A step sends x to the actors and adds
up what they return; no graph is made, so the scheduler sees nothing that grows with iterations. The
run is `stepfold.solve`'s, in the client's process.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepfold._checks import check_nonnegative, check_positive
from stepfold._extras import how_to_install
from stepfold.distributed.agreement import largest_sizes
from stepfold.distributed.group import LONGEST_WAIT
from stepfold.distributed.summed import SummedLeastSquares, part_of
from stepfold.problems import LeastSquares
from stepfold.problems._units import Sizes


class Shard:
    """The rows of one worker; lives there as an actor.

    Args:
        matrices: Blocks of rows of A.
        rhs: The entries of b that go with each, (mᵢ,) or (batch, mᵢ).
    """

    def __init__(self, matrices: list[NDArray[Any]], rhs: list[NDArray[Any]]) -> None:
        matrix = matrices[0] if len(matrices) == 1 else np.concatenate(matrices)
        self._whole: Any = LeastSquares(matrix, np.concatenate(rhs, axis=-1))
        self._unit: tuple[Any, Any] = (None, self._whole)
        self._cut: tuple[Any, Any] = ((None, None), self._whole)

    def sizes(self) -> Sizes:
        """How large the numbers are."""
        sizes: Sizes = self._whole.sizes()
        return sizes

    def part(self, what: int, x: Any, unit: Any, places: Any) -> tuple[Any, Any]:
        """What these rows add to a sum, in some units, for some of the right-hand sides."""
        if unit != self._unit[0]:
            held = self._whole
            if unit is not None:
                held = held.divided(unit[0], np.array(unit[1], np.int64))
            self._unit = unit, held
        if (unit, places) != self._cut[0]:
            held = self._unit[1]
            self._cut = (unit, places), held if places is None else held.rows_of(places)
        return part_of(self._cut[1], what, x)


class DaskLeastSquares(SummedLeastSquares[NDArray[Any]]):
    """Minimise ``½‖Ax − b‖² + ½μ‖x‖²`` for arrays of Dask, whose blocks stay on their workers.

    Args:
        operator: A, a Dask array of shape (m, n) in one block of columns; it is persisted.
        rhs: b, of shape (m,), or (batch, m) in one block of the batch: a Dask array with the same
            blocks of rows, or an array of NumPy, which is sent.
        ridge: μ, at least 0.
        client: ``dask.distributed.Client``; the current one if None.
        timeout: How many seconds to wait for the workers, at the beginning and at every sum.

    Raises:
        ConnectionError: From every sum, if a worker that holds rows is lost or does not answer in
            time. Its rows are gone; persist the arrays again, and make the problem anew.
        ImportError: If Dask's distributed scheduler is not installed.
        TypeError: If ``operator`` is not an array of Dask.
        ValueError: If shapes or blocks do not fit, or there is no client.
    """

    def __init__(
        self,
        operator: Any,
        rhs: Any,
        *,
        ridge: float = 0.0,
        client: Any = None,
        timeout: float = LONGEST_WAIT.total_seconds(),
    ) -> None:
        ridge = float(check_nonnegative("ridge", ridge))
        check_positive("timeout", timeout)
        self._timeout = float(timeout)
        client = _client() if client is None else client
        rows = _checked(operator, rhs)
        starts = np.cumsum([0, *rows]).tolist()
        if hasattr(rhs, "dask"):
            entries = _futures(
                client,
                rhs.rechunk({rhs.ndim - 1: tuple(rows), 0: -1} if rhs.ndim > 1 else (tuple(rows),)),
            )
        else:
            rhs = np.asarray(rhs)
            pieces = [rhs[..., a:b] for a, b in itertools.pairwise(starts)]
            entries = client.scatter(pieces, hash=False)
        blocks = _futures(client, operator)
        by_worker: dict[str, list[int]] = {}
        places = client.who_has(blocks)
        for count, block in enumerate(blocks):
            by_worker.setdefault(min(places[block.key]), []).append(count)
        made = [
            client.submit(
                Shard,
                [blocks[i] for i in held],
                [entries[i] for i in held],
                actor=True,
                workers=[worker],
                pure=False,
            )
            for worker, held in by_worker.items()
        ]
        self._actors = self._answers(made)
        self._places: list[int] | None = None
        self._unit: tuple[int, list[int]] | None = None
        kind = np.result_type(operator.dtype, rhs.dtype, np.float32)
        self._num_rhs = 1 if rhs.ndim == 1 else int(rhs.shape[0])
        like = np.zeros((*rhs.shape[:-1], operator.shape[1]), kind)
        super().__init__((int(operator.shape[0]), int(operator.shape[1])), like, ridge, None)

    def total(self, what: int, x: Any) -> tuple[Any, Any]:
        """Sums of what the actors return, in their order."""
        asked = [actor.part(what, x, self._unit, self._places) for actor in self._actors]
        parts = self._answers(asked)
        vector = sum((part for part, _ in parts[1:]), parts[0][0])
        numbers = parts[0][1]
        if numbers is not None:
            numbers = sum((more for _, more in parts[1:]), numbers)
        return vector, numbers

    def _found_sizes(self) -> Sizes:
        asked = [actor.sizes() for actor in self._actors]
        return largest_sizes(self._answers(asked))

    def _answers(self, asked: list[Any]) -> list[Any]:
        """What workers answer, all of them in time."""
        deadline = time.monotonic() + self._timeout
        try:
            return [
                answer.result(timeout=max(0.0, deadline - time.monotonic())) for answer in asked
            ]
        except TimeoutError:
            cause = f"no answer within {self._timeout:g} s"
        except OSError as error:
            cause = str(error)
        raise ConnectionError(
            f"a worker of Dask that holds rows is lost or hangs: {cause}. Look at what it wrote "
            "last; then persist the arrays again, and make the problem anew"
        )

    def _divide(self, exponent: int, rhs_exponents: NDArray[np.int64]) -> None:
        known = range(self._num_rhs) if self._places is None else self._places
        before, exponents = (0, [0] * self._num_rhs) if self._unit is None else self._unit
        exponents = list(exponents)
        for place, more in zip(known, rhs_exponents.tolist(), strict=True):
            exponents[place] += more
        self._unit = before + exponent, exponents

    def rows_of(self, places: Sequence[int]) -> Self:
        """The problem of some right-hand sides."""
        twin = self._of_rows(places)
        known = range(self._like.shape[0]) if self._places is None else self._places
        twin._places = [known[place] for place in places]
        return twin


def _client() -> Any:
    try:
        from distributed import get_client
    except ImportError:
        raise ImportError(
            f"`DaskLeastSquares` needs dask and distributed; {how_to_install('dask')}"
        ) from None
    try:
        return get_client()
    except ValueError:
        raise ValueError(
            "`client` must be given, got None and there is no current one; make a "
            "`dask.distributed.Client` first"
        ) from None


def _checked(operator: Any, rhs: Any) -> tuple[int, ...]:
    """Rows of each block of A, once both are known to fit."""
    if not hasattr(operator, "dask") or not hasattr(operator, "chunks"):
        raise TypeError(
            f"`operator` must be an array of Dask, got {type(operator).__name__}; one of NumPy "
            "goes into `LeastSquares`"
        )
    if operator.ndim != 2 or 0 in operator.shape or np.isnan(operator.shape).any():
        raise ValueError(
            f"`operator` must be a matrix whose shape is known, got {operator.shape}; see "
            "`compute_chunk_sizes`"
        )
    if len(operator.chunks[1]) > 1:
        raise ValueError(
            f"`operator` must be in one block of columns, got {len(operator.chunks[1])}; pass "
            "`operator.rechunk({1: -1})`"
        )
    shape = tuple(getattr(rhs, "shape", ()))
    if len(shape) not in (1, 2) or shape[-1] != operator.shape[0]:
        raise ValueError(
            f"`rhs` must have shape ({operator.shape[0]},) or (batch, {operator.shape[0]}), got "
            f"{shape}"
        )
    rows: tuple[int, ...] = operator.chunks[0]
    return rows


def _futures(client: Any, array: Any) -> list[Any]:
    """The blocks of an array along its rows, computed where they are."""
    import distributed

    wait: Any = distributed.wait  # which has no types

    delayed = array.to_delayed().ravel().tolist()
    futures: list[Any] = client.compute(client.persist(delayed))
    wait(futures)
    return futures
