"""A schedule: step sizes in the order in which they are taken, as data.

Whoever consumes one does not care whether a formula, a quadrature rule or training made it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, overload

import numpy as np

from stepfold._checks import check_count, check_path, check_text, check_vector
from stepfold._codec import JsonRecord
from stepfold._registry import Registry
from stepfold._show import Shown, axes_of, drawing, in_a_line, lines
from stepfold._typing import FloatArray
from stepfold.schedules.ordering import ORDERS
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.bounds import check_bounds

FORMAT = "stepfold.schedule/1"


@dataclass(frozen=True, eq=False)
class Schedule(Shown, JsonRecord, Sequence[float]):
    """T positive step sizes that repeat with period T.

    A schedule is a sequence of floats and a function of the step's count, so that it goes where
    other libraries expect either.

    Args:
        steps: Positive numbers of shape (T,), in units of 1 / Hessian; copied and made read-only.
        name: What the steps are, for people and legends.
        order: What order they are in: a name from ``ORDERS``, or "given".
        bounds: Interval of eigenvalues that the steps were made for, where there is one; `solve`
            watches whether the spectrum keeps to it. Schedules with the same steps are equal
            whether or not they know it.
        builder: Name in ``SCHEDULES`` of the family that made them, where `rebuilt` may ask it for
            other bounds.
        signed: Whether steps may be negative or 0, as training without a constraint may leave them;
            they are data then, and solvers refuse them.

    Raises:
        TypeError: If ``steps`` is not real, or ``bounds`` are not `SpectralBounds`.
        ValueError: If it is empty, not one-dimensional, not finite, or, unless ``signed``, not
            positive.

    >>> schedule = Schedule([0.5, 1.0], name="mine")
    >>> len(schedule), schedule[0], schedule(3)
    (2, 0.5, 1.0)
    """

    tag: ClassVar = ("format", FORMAT)

    steps: FloatArray
    name: str = "given"
    order: str = "given"
    bounds: SpectralBounds | None = None
    builder: str | None = None
    signed: bool = False

    def __post_init__(self) -> None:
        check_bounds(self.bounds)
        steps = check_vector("steps", self.steps)
        if steps.min() <= 0 and not self.signed:
            raise ValueError(
                f"`steps` must be positive, got {steps.min()} at index {int(steps.argmin())}; "
                "a step that is not positive moves uphill"
            )
        steps.flags.writeable = False
        object.__setattr__(self, "steps", steps)

    @property
    def period(self) -> int:
        """T, the period."""
        return self.steps.size

    def __len__(self) -> int:
        return self.steps.size

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        chosen: float | list[float] = self.steps[index].tolist()
        return chosen

    def __iter__(self) -> Iterator[float]:
        # Python floats: a NumPy scalar would turn a float32 iterate into a float64 one.
        return iter(self.steps.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.steps, dtype=dtype, copy=copy)

    def __call__(self, count: int) -> float:
        """Step size of iteration ``count`` = 0, 1, …, repeating with period T."""
        return float(self.steps[check_count("count", count, minimum=0) % self.period])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self.name, self.order) == (other.name, other.order) and np.array_equal(
            self.steps, other.steps
        )

    def __hash__(self) -> int:
        return hash((self.steps.tobytes(), self.name, self.order))

    def __reduce__(self) -> tuple[type[Schedule], tuple[Any, ...]]:
        # Copies and pickles go through the constructor: NumPy would hand back writeable steps.
        return Schedule, (
            self.steps,
            self.name,
            self.order,
            self.bounds,
            self.builder,
            self.signed,
        )

    def __str__(self) -> str:
        """Three lines: what the steps are, the first of them, and what they are for.

        >>> print(Schedule([0.5, 0.25]))
        given: period 2, order given
        0.5, 0.25
        """
        bounds = self.bounds
        return lines(
            (
                f"{self.name}: period {self.period}, order {self.order}",
                in_a_line(self.steps),
                None
                if bounds is None
                else f"for eigenvalues in [{bounds.lower:.4g}, {bounds.upper:.4g}]",
            )
        )

    def _drawing(self) -> str:
        return drawing(f"Steps of {self.name}, in the order of the layers", self.steps)

    def plot(self, ax: Any = None) -> Any:
        """Draw the steps in their order, and sorted as a second curve.

        Args:
            ax: Axes of matplotlib; new ones if not given.

        Returns:
            The axes.

        Raises:
            ModuleNotFoundError: If ``ax`` is not given and matplotlib is missing.

        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> Schedule([0.5, 0.25]).plot().get_ylabel()
        'step size'
        """
        ax = axes_of(ax)
        places = np.arange(1, self.period + 1)
        ax.plot(places, self.steps, "o-", label=self.name)
        ax.plot(places, np.sort(self.steps)[::-1], "--", alpha=0.6, label="sorted")
        ax.set(xlabel="step", ylabel="step size")
        ax.legend(frameon=False)
        return ax

    def reordered(self, order: str) -> Schedule:
        """Return the same steps in another order; ``order`` is a name from ``ORDERS``.

        Raises:
            KeyError: If there is no such order.
            ValueError: If the order does not exist for this number of steps.

        >>> Schedule([1.0, 2.0, 3.0, 4.0]).reordered("lebedev").steps
        array([1., 4., 2., 3.])
        """
        ascending = np.sort(self.steps)
        check_text("order", order)
        steps = ascending[ORDERS[order](ascending)]
        return dataclasses.replace(self, steps=steps, order=order)

    def rebuilt(self, bounds: SpectralBounds) -> Schedule:
        """Return as many steps of the same family, in the same order, for other bounds.

        Raises:
            ValueError: If the schedule does not know which family made it.

        >>> schedule = SCHEDULES["constant"](SpectralBounds(1.0, 3.0), 2)
        >>> schedule.rebuilt(SpectralBounds(1.0, 7.0)).steps
        array([0.25, 0.25])
        """
        if self.builder is None:
            raise ValueError(
                f"a schedule of {self.name} steps must have a `builder` to be rebuilt, got None; "
                "build it anew from the bounds"
            )
        check_bounds(bounds, or_none=False)
        schedule = SCHEDULES[self.builder](bounds, self.period)
        return schedule if schedule.order == self.order else schedule.reordered(self.order)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the schedule to a new JSON file.

        Raises:
            FileExistsError: If ``path`` exists; nothing is overwritten.
        """
        with check_path("path", path).open("x", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=2)
            file.write("\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Schedule:
        """Read a schedule from a JSON file that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a schedule.
        """
        path = check_path("path", path)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            # Not JSON, not UTF-8, an integer of 4300 digits, or brackets without end.
            raise ValueError(f"{path} is not a schedule: it is not JSON ({error})") from None
        try:
            return cls.from_dict(record)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a schedule: {error}") from None


def check_schedule(schedule: Any, *, or_none: bool = True, signed: bool = False) -> None:
    """Raise unless it is a `Schedule` of positive steps, or of others, or None, where allowed."""
    if not isinstance(schedule, Schedule) and not (or_none and schedule is None):
        raise TypeError(
            f"`schedule` must be a Schedule{' or None' * or_none}, got {type(schedule).__name__}; "
            "wrap step sizes as `Schedule(steps)`"
        )
    if isinstance(schedule, Schedule) and not signed and schedule.steps.min() <= 0:
        raise ValueError(
            f"`schedule` must have positive steps to be run, got {schedule.steps.min()}; train "
            "with `constraint=Positive`, or run the network itself"
        )


class ScheduleBuilder(Protocol):
    """A family of schedules: what makes T steps for an interval of eigenvalues."""

    def __call__(self, bounds: SpectralBounds, period: int, /) -> Schedule:
        """Return T = ``period`` steps for eigenvalues in ``bounds``."""


SCHEDULES: Registry[ScheduleBuilder] = Registry(
    "schedule", "stepfold.schedules", "stepfold.schedules"
)


def check_lower(builder: str, bounds: SpectralBounds) -> None:
    """Refuse bounds on which the builder's optimum does not exist."""
    check_bounds(bounds, or_none=False)
    if bounds.lower == 0:
        raise ValueError(
            f"`{builder}` needs `bounds.lower > 0`, got 0.0; take "
            "`chebyshev_steps(bounds, period, kind=4)`, which needs no lower bound, or add a "
            "ridge term of weight μ, which lifts both ends by μ"
        )


def check_upper(builder: str, bounds: SpectralBounds) -> None:
    """Refuse the zero operator, for which every step is as good as none."""
    check_bounds(bounds, or_none=False)
    if bounds.upper == 0:
        raise ValueError(
            f"`{builder}` needs `bounds.upper > 0`, got 0.0; the operator is zero: check what it "
            "was made of"
        )
