"""An iteration: what one step size does to a state. The schedule supplies the sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from stepfold._arrays import take
from stepfold._typing import ArrayT
from stepfold.problems import Problem

State = TypeVar("State")


class Iteration(ABC, Generic[State, ArrayT]):
    """Three small methods; loops, stopping and recording live in `solve`.

    Arithmetic only (``+ - * @``), and the step size as given: with a torch tensor for ``gamma`` the
    same three methods are a trainable network.

    Attributes:
        steps_on: What it steps on: a "gradient", a gradient and a "penalty", or a "map".
        takes_gradient: Whether a step costs nothing beside the gradient at the iterate, and takes
            one that is known already.
        follows_schedule: Whether a period multiplies the error on a quadratic by ``∏ₜ (1 − γₜ H)``,
            so that a guard can judge it.
    """

    steps_on: ClassVar[Literal["gradient", "penalty", "map"]] = "gradient"
    takes_gradient: ClassVar[bool] = False
    follows_schedule: ClassVar[bool] = False

    @abstractmethod
    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> State:
        """State before the first step."""

    @abstractmethod
    def step(
        self, problem: Problem[ArrayT], state: State, gamma: Any, gradient: ArrayT | None = None
    ) -> State:
        """State after one step of size ``gamma``.

        ``gradient`` is the gradient at the current iterate where the caller has it already; using
        it saves products, ignoring it is allowed.
        """

    @abstractmethod
    def iterate(self, state: State) -> ArrayT:
        """Current approximation x of the solution."""

    def rows_of(self, state: State, places: Sequence[int]) -> State | None:
        """State of some rows of a batch; None if it cannot be cut.

        Args:
            state: State of all rows.
            places: Indices to keep, ascending.
        """
        del state, places
        return None


class Stateless(Iteration[ArrayT, ArrayT]):
    """An iteration that remembers nothing: its state is the iterate."""

    def init(self, problem: Problem[ArrayT], x0: ArrayT) -> ArrayT:
        """The state is the iterate."""
        return x0

    def iterate(self, state: ArrayT) -> ArrayT:
        """The state."""
        return state

    def rows_of(self, state: ArrayT, places: Sequence[int]) -> ArrayT:
        """Some rows of the iterate."""
        rows: ArrayT = take(state, places)
        return rows


def gradient_step(
    problem: Problem[ArrayT], x: ArrayT, gamma: Any, gradient: ArrayT | None
) -> ArrayT:
    """``x − gamma·∇f(x)``, from the gradient at ``x`` where it is known."""
    if gradient is None:
        return problem.gradient_step(x, gamma)
    # In this order NumPy adds in place to the product: one vector less.
    step: ArrayT = -gamma * gradient + x
    return step
