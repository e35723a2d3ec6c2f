"""What `accelerate` is measured against: `iterate` by a method, with the same kind of result.

Each takes one evaluation of the map per step and is not guarded: what it does is what its formula
does. The best iterate is returned all the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
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


class Method(ABC):
    """How `iterate` goes on from an iterate x with the residual r = f(x) − x."""

    @abstractmethod
    def start(self, x0: Any) -> Callable[[Any, Any], Any]:
        """The function from x and r to the next iterate, for one run from ``x0``."""

    @property
    def schedule(self) -> Schedule:
        """The relaxations that results show: 1, where the method has others of its own."""
        return Schedule(np.ones(1), type(self).__name__)


class Plain(Method):
    """``x ← f(x)``.

    >>> iterate(np.cos, np.zeros(1), Plain()).x.round(6)
    array([0.739085])
    """

    def start(self, x0: Any) -> Callable[[Any, Any], Any]:
        """Moves by r."""
        del x0
        return lambda x, r: x + r


@dataclass(frozen=True)
class Constant(Method):
    """``x ← x + ω(f(x) − x)`` with the best constant, ω = 2/(a + b).

    Args:
        bounds: Interval [a, b] of the spectrum of ``B = I − J``; `jacobian_spectrum` finds it.

    Raises:
        ValueError: If these are no bounds with an upper end above 0.

    >>> iterate(np.cos, np.zeros(1), Constant(SpectralBounds(1.67, 1.68))).num_steps
    5
    """

    bounds: SpectralBounds

    def __post_init__(self) -> None:
        if not isinstance(self.bounds, SpectralBounds) or self.bounds.upper == 0:
            raise ValueError(
                f"`bounds` must be SpectralBounds with an upper end above 0, got {self.bounds!r}; "
                "`jacobian_spectrum` finds them"
            )

    @property
    def schedule(self) -> Schedule:
        """ω."""
        omega = 2 / (self.bounds.lower + self.bounds.upper)
        return Schedule(np.array([omega]), "Constant")

    def start(self, x0: Any) -> Callable[[Any, Any], Any]:
        """Moves by ω r."""
        del x0
        omega = float(self.schedule.steps[0])
        return lambda x, r: relaxed(x, omega, r)


@dataclass(frozen=True)
class Anderson(Method):
    """Anderson acceleration (type II) without damping.

    ``x ← x + r − (ΔX + ΔR) c``, with c the least-squares solution of ``ΔR c = r`` over the last
    differences of iterates and residuals, by QR.

    Args:
        memory: Differences kept, at least 1; on linear maps n of them make it GMRES.

    References:
        Walker and Ni, Anderson acceleration for fixed-point iterations (SIAM J. Numer. Anal. 49,
        2011), section 2.

    >>> iterate(np.cos, np.zeros(1), Anderson(memory=2)).x.round(6)
    array([0.739085])
    """

    memory: int = 5

    def __post_init__(self) -> None:
        check_count("memory", self.memory)

    def start(self, x0: Any) -> Callable[[Any, Any], Any]:
        """Remembers nothing yet."""
        del x0
        return _Mixing(self.memory)


class Steffensen(Method):
    """Aitken's Δ² on every second iterate, in one dimension.

    >>> iterate(np.cos, np.zeros(1), Steffensen()).num_steps
    8
    """

    def start(self, x0: Any) -> Callable[[Any, Any], Any]:
        """Moves by r first."""
        if math.prod(x0.shape) != 1:
            raise ValueError(
                f"`x0` must hold one number, got shape {tuple(x0.shape)}: Steffensen's method is "
                "for one dimension; take `Anderson()`"
            )
        return _Aitken()


def iterate(
    map: FixedPoint[ArrayT] | Callable[[ArrayT], ArrayT],  # noqa: A002 (the field's word)
    x0: ArrayT,
    method: Method | None = None,
    *,
    rtol: float = 1e-8,
    atol: float = 0.0,
    max_products: int = 10_000,
    stop: Callable[[ArrayT], bool] | None = None,
    callback: Callable[[int, ArrayT], None] | None = None,
) -> Result[ArrayT]:
    """Find a fixed point ``x = f(x)`` by a method that is known by its formula.

    Args:
        map: f, or a `FixedPoint` of it; for what is not explained here see `accelerate`.
        x0: Start, of shape (n,).
        method: `Plain` if not given, `Constant`, `Anderson` or `Steffensen`.

    Raises:
        TypeError: If ``method`` is none; else as `accelerate`.
        ValueError: As `accelerate`; or if `Steffensen` is to find more than one number.

    >>> iterate(np.cos, np.array([0.0, 1.0])).num_steps
    46
    >>> iterate(np.cos, np.zeros(1), Constant(SpectralBounds(1.67, 1.68))).num_steps
    5
    >>> result = iterate(np.cos, np.array([0.0, 1.0]), Anderson())
    >>> result.status.name, result.x.round(6)
    ('CONVERGED', array([0.739085, 0.739085]))
    >>> iterate(np.cos, np.array([0.0]), Steffensen()).num_steps
    8
    """
    method = Plain() if method is None else method
    if not isinstance(method, Method):
        raise TypeError(
            f"`method` must be a Method, got {type(method).__name__}; give one such as `Anderson()`"
        )
    return run_map(
        map if isinstance(map, FixedPoint) else FixedPoint(map),
        x0,
        _Steps(method.start(start_of(x0)), method.schedule),
        Terms(rtol, atol, budgets=Budgets(None, max_products), callback=callback),
        stop=stop,
        exploded="The residual grew without bounds; `accelerate` has a guard.",
    )


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
        self._last: tuple[Any, Any] | None = None
        self._differences: deque[tuple[Any, Any]] = deque(maxlen=memory)

    def __call__(self, x: Any, residual: Any) -> Any:
        if self._last is not None:
            self._differences.append((x - self._last[0], residual - self._last[1]))
        self._last = x, residual
        moved = x + residual
        if self._differences:
            shares = self._shares(residual)
            for share, (move, change) in zip(shares, self._differences, strict=True):
                moved = moved - share * (move + change)
        return moved

    def _shares(self, residual: Any) -> list[Any]:
        xp = namespace(residual)
        columns = xp.stack([reshaped(change, (-1,)) for _, change in self._differences]).T
        # In single precision at least: there is no QR in half of it.
        orthogonal, triangle = xp.linalg.qr(at_least_single(columns))
        target = conjugate(orthogonal.T) @ at_least_single(reshaped(residual, (-1,)))
        small, right = to_host(triangle), to_host(target)
        shares: list[Any] = np.linalg.lstsq(small, right, rcond=DEPENDENT)[0].tolist()
        return shares
