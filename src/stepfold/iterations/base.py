"""An iteration: what one step size does to a state. The schedule supplies the sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from stepfold._typing import ArrayT
from stepfold.problems import Problem

State = TypeVar("State")


class Iteration(ABC, Generic[State, ArrayT]):
    """Three small methods; loops, stopping and recording live in `solve`.

    Arithmetic only (``+ - * @``), and the step size as given: with a torch tensor for ``gamma`` the
    same three methods are a trainable network.
    """

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
