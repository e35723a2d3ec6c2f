"""What `accelerate` is measured against, with the same arguments and the same kind of result.

Each takes one evaluation of the map per step and is not guarded: what it does is what its formula
does. The best iterate is returned all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepfold._arrays import at_least_single, conjugate, namespace, reshaped, to_host
from stepfold._checks import check_count
from stepfold._typing import ArrayT
from stepfold.problems.fixed_point import FixedPoint, relaxed, start_of
from stepfold.result import Result
from stepfold.run import Budgets, Loop, Terms
from stepfold.run.maps import MapPolicy, run_map
from stepfold.schedules import Schedule
from stepfold.spectrum import SpectralBounds

# Directions that others explain to this share are left out of a least-squares problem.
DEPENDENT = 1e-12


def plain_iteration(
    map: FixedPoint[ArrayT] | Callable[[ArrayT], ArrayT],  # noqa: A002 (the field's word)
    x0: ArrayT,
    *,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_products: int = 10_000,
    stop: Callable[[ArrayT], bool] | None = None,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """``x ← f(x)``; for the arguments and what comes back see `accelerate`.

    >>> plain_iteration(np.cos, np.array([0.0, 1.0])).num_steps
    46
    """
    terms = Terms(rtol, atol, budgets=Budgets(None, max_products), callback=callback)
    return _iterate(map, x0, terms, stop, "plain", lambda x, r: x + r)


def constant_relaxation(
    map: FixedPoint[ArrayT] | Callable[[ArrayT], ArrayT],  # noqa: A002 (the field's word)
    x0: ArrayT,
    *,
    bounds: SpectralBounds,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_products: int = 10_000,
    stop: Callable[[ArrayT], bool] | None = None,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """``x ← x + ω(f(x) − x)`` with the best constant, ω = 2/(a + b); else as `accelerate`.

    Args:
        map: f.
        x0: Start.
        bounds: Interval [a, b] of the spectrum of ``B = I − J``; `jacobian_spectrum` finds it.

    >>> result = constant_relaxation(np.cos, np.zeros(1), bounds=SpectralBounds(1.67, 1.68))
    >>> result.status.name, result.num_steps
    ('CONVERGED', 5)
    """
    if not isinstance(bounds, SpectralBounds) or bounds.upper == 0:
        raise ValueError(
            f"`bounds` must be SpectralBounds with an upper end above 0, got {bounds!r}; "
            "`jacobian_spectrum` finds them"
        )
    omega = 2 / (bounds.lower + bounds.upper)
    terms = Terms(rtol, atol, budgets=Budgets(None, max_products), callback=callback)
    return _iterate(
        map, x0, terms, stop, "constant", lambda x, r: relaxed(x, omega, r), omega=omega
    )


def anderson(
    map: FixedPoint[ArrayT] | Callable[[ArrayT], ArrayT],  # noqa: A002 (the field's word)
    x0: ArrayT,
    *,
    memory: int = 5,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_products: int = 10_000,
    stop: Callable[[ArrayT], bool] | None = None,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Anderson acceleration (type II) without damping; else as `accelerate`.

    ``x ← x + r − (ΔX + ΔR) c``, with c the least-squares solution of ``ΔR c = r`` over the last
    differences of iterates and residuals, by QR.

    Args:
        map: f.
        x0: Start.
        memory: Differences kept, at least 1; on linear maps n of them make it GMRES.

    References:
        Walker and Ni, Anderson acceleration for fixed-point iterations (SIAM J. Numer. Anal. 49,
        2011), section 2.

    >>> result = anderson(np.cos, np.array([0.0, 1.0]))
    >>> result.status.name, result.x.round(6)
    ('CONVERGED', array([0.739085, 0.739085]))
    """
    terms = Terms(rtol, atol, budgets=Budgets(None, max_products), callback=callback)
    mixing = _Mixing(check_count("memory", memory))
    return _iterate(map, x0, terms, stop, "Anderson", mixing)


def steffensen(
    map: FixedPoint[ArrayT] | Callable[[ArrayT], ArrayT],  # noqa: A002 (the field's word)
    x0: ArrayT,
    *,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_products: int = 10_000,
    stop: Callable[[ArrayT], bool] | None = None,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Aitken's Δ² on every second iterate, in one dimension; else as `accelerate`.

    Raises:
        ValueError: If ``x0`` holds more than one number.

    >>> steffensen(np.cos, np.array([0.0])).num_steps
    8
    """
    if math.prod(start_of(x0).shape) != 1:
        raise ValueError(
            f"`x0` must hold one number, got shape {tuple(start_of(x0).shape)}: Steffensen's "
            "method is for one dimension; take `anderson`"
        )
    terms = Terms(rtol, atol, budgets=Budgets(None, max_products), callback=callback)
    return _iterate(map, x0, terms, stop, "Aitken", _Aitken())


class _Aitken:
    """From x and f(x), with their residuals r and r′: ``x − r²/(r′ − r)``."""

    def __init__(self) -> None:
        self._before: tuple[Any, Any] | None = None

    def __call__(self, x: Any, residual: Any) -> Any:
        if self._before is None:
            self._before = x, residual
            return x + residual
        (start, first), self._before = self._before, None
        change = residual - first
        return start - first * first / change if bool((change != 0).all()) else x + residual


class _Mixing:
    """Anderson's next iterate from the last few and their residuals."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._last: tuple[Any, Any] | None = None
        self._moves: list[Any] = []
        self._changes: list[Any] = []

    def __call__(self, x: Any, residual: Any) -> Any:
        if self._last is not None:
            self._moves = [*self._moves[1 - self._memory :], x - self._last[0]]
            self._changes = [*self._changes[1 - self._memory :], residual - self._last[1]]
            if self._memory == 1:
                self._moves, self._changes = self._moves[-1:], self._changes[-1:]
        self._last = x, residual
        moved = x + residual
        if self._changes:
            for share, move, change in zip(
                self._shares(residual), self._moves, self._changes, strict=True
            ):
                moved = moved - share * (move + change)
        return moved

    def _shares(self, residual: Any) -> list[Any]:
        xp = namespace(residual)
        columns = xp.stack([reshaped(change, (-1,)) for change in self._changes]).T
        # In single precision at least: there is no QR in half of it.
        orthogonal, triangle = xp.linalg.qr(at_least_single(columns))
        target = conjugate(orthogonal.T) @ at_least_single(reshaped(residual, (-1,)))
        small, right = to_host(triangle), to_host(target)
        shares: list[Any] = np.linalg.lstsq(small, right, rcond=DEPENDENT)[0].tolist()
        return shares


class _Steps(MapPolicy):
    """One step of a method, over and over."""

    def __init__(self, advance: Callable[[Any, Any], Any], schedule: Schedule) -> None:
        super().__init__()
        self._advance, self._schedule = advance, schedule

    @property
    def schedule(self) -> Schedule:
        return self._schedule

    def move(self, loop: Loop) -> Any:
        del loop
        return self._advance(self._x, self._residual)


def _iterate(
    map: FixedPoint[ArrayT] | Callable[[ArrayT], ArrayT],  # noqa: A002 (the field's word)
    x0: ArrayT,
    terms: Terms,
    stop: Callable[[ArrayT], bool] | None,
    name: str,
    advance: Callable[[Any, Any], Any],
    *,
    omega: float = 1.0,
) -> Result[ArrayT]:
    return run_map(
        map if isinstance(map, FixedPoint) else FixedPoint(map),
        x0,
        _Steps(advance, Schedule(np.array([omega]), name)),
        terms,
        stop=stop,
        exploded="The residual grew without bounds; `accelerate` has a guard.",
    )
