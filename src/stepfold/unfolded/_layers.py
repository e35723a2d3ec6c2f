"""What a layer does: a step of an `Iteration`, or a function of one's own.

Both kinds become functions ``(problem, state) -> state``, one for each layer, with the layer's own
step and parameters in place.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from stepfold.iterations import Iteration


class LayerParameters:
    """The values of one layer, as attributes: ``step``, and the other parameters by name.

    >>> LayerParameters(step=0.5, ridge=0.1).ridge
    0.1
    """

    # No SimpleNamespace: torch.compile would break the graph at each one.
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


Step: TypeAlias = Callable[[Any, LayerParameters, Any], Any]
"""A step of one's own, ``step(x, params, data)``: the next x; ``params.step`` is γₜ, other
parameters of the layer have their names."""

Layer: TypeAlias = Callable[[Any, Any], Any]
"""``(problem, state) -> state``."""


class Layers(Protocol):
    """The kind of the layers of a network."""

    def check_name(self, name: str) -> None:
        """Raise unless layers have a place for a parameter of that name."""

    def start(self, problem: Any, x0: Any) -> Any:
        """State before the first layer."""

    def made(self, gammas: Sequence[Tensor], columns: Mapping[str, Sequence[Any]]) -> list[Layer]:
        """The layers; of each step and each parameter by its name there is one value for each."""

    def iterate(self, state: Any) -> Any:
        """The iterate that a state holds."""


def layers_of(iteration: Any) -> Layers:
    """The kind of layers that an iteration, or a function, makes."""
    return _Iterated(iteration) if isinstance(iteration, Iteration) else _Own(iteration)


class _Iterated:
    """Steps of an iteration, of which each layer has a copy with its own parameters."""

    def __init__(self, iteration: Iteration[Any, Any]) -> None:
        self._iteration = iteration

    def check_name(self, name: str) -> None:
        owner: Any = self._iteration
        for part in name.split("."):
            if not hasattr(owner, part):
                raise ValueError(
                    f"`parameters` must name attributes of {type(self._iteration).__name__}, got "
                    f"{name!r}; {type(owner).__name__} has {', '.join(vars(owner)) or 'none'}"
                )
            owner = getattr(owner, part)
        if callable(owner):
            raise ValueError(
                f"`parameters` must name values of {type(self._iteration).__name__}, got {name!r}, "
                "a method; its steps are trained without being named"
            )

    def start(self, problem: Any, x0: Any) -> Any:
        if x0 is None:
            if not hasattr(problem, "linear_term"):
                raise _no_start()
            x0 = 0 * problem.linear_term
        if not isinstance(x0, Tensor):
            raise TypeError(
                f"the network needs a problem and a start made of torch tensors, got "
                f"{type(x0).__name__}; make them by `torch.tensor(...)`, or run its `schedule()` "
                "through `solve`"
            )
        return self._iteration.init(problem, x0)

    def made(self, gammas: Sequence[Tensor], columns: Mapping[str, Sequence[Any]]) -> list[Layer]:
        iterations = [self._iteration] * len(gammas)
        for name, values in columns.items():
            iterations = [
                _replaced(iteration, name.split("."), value)
                for iteration, value in zip(iterations, values, strict=True)
            ]
        return [
            functools.partial(_take_step, iteration, gamma)
            for iteration, gamma in zip(iterations, gammas, strict=True)
        ]

    def iterate(self, state: Any) -> Any:
        return self._iteration.iterate(state)


def _take_step(iteration: Iteration[Any, Any], gamma: Any, problem: Any, state: Any) -> Any:
    return iteration.step(problem, state, gamma)


def _replaced(owner: Any, path: Sequence[str], value: Tensor) -> Any:
    """A shallow copy of ``owner`` with the attribute at ``path`` replaced, constructors unasked."""
    clone = copy.copy(owner)
    if len(path) > 1:
        value = _replaced(getattr(owner, path[0]), path[1:], value)
    object.__setattr__(clone, path[0], value)
    return clone


class _Own:
    """Calls of a function; the state is what it returns."""

    def __init__(self, function: Step) -> None:
        self._function = function

    def check_name(self, name: str) -> None:
        if not name.isidentifier() or name == "step":
            raise ValueError(
                "`parameters` of a function must have names that are identifiers, and not "
                f"'step', got {name!r}"
            )

    def start(self, problem: Any, x0: Any) -> Any:  # noqa: ARG002
        if x0 is None:
            raise _no_start()
        return x0

    def made(self, gammas: Sequence[Tensor], columns: Mapping[str, Sequence[Any]]) -> list[Layer]:
        layers: list[Layer] = []
        for index, gamma in enumerate(gammas):
            named = {name: values[index] for name, values in columns.items()}
            params = LayerParameters(step=gamma, **named)
            layers.append(functools.partial(_call, self._function, index, params))
        return layers

    def iterate(self, state: Any) -> Any:
        return state


def _no_start() -> TypeError:
    return TypeError("`x0` must be given: only a linear problem tells where to start")


def _call(function: Step, index: int, params: LayerParameters, data: Any, x: Any) -> Any:
    following = function(x, params, data)
    _check_following(index, x, following, "x")
    return following


def _check_following(index: int, x: Any, following: Any, what: str) -> None:
    """Raise unless a tensor, or an entry of a tuple, has kept its shape and its dtype.

    What lists, dictionaries and other objects hold is the function's own affair. The first layer
    may turn a tensor into one of these, and may add a batch in front of it.
    """
    if isinstance(x, Tensor):
        if not isinstance(following, Tensor):
            simple = following is None or hasattr(following, "__float__")
            if index == 0 and what == "x" and not simple:
                return
            raise TypeError(
                f"`iteration` must return {what} as a tensor, as it was given, got "
                f"{type(following).__name__} in layer {index} (from 0); return the next x"
            )
        gained = following.ndim - x.ndim if index == 0 else 0
        if following.shape != x.shape and (gained <= 0 or following.shape[gained:] != x.shape):
            raise ValueError(
                f"`iteration` must return {what} in the shape in which it was given, "
                f"{tuple(x.shape)}, got {tuple(following.shape)} in layer {index} (from 0); "
                "start from the shape that it returns, or mend its products and sums"
            )
        # Under autocast products are in half precision, and so may the iterate be.
        if following.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"`iteration` must return {what} in the dtype in which it was given, {x.dtype}, "
                f"got {following.dtype} in layer {index} (from 0); start in the dtype of the "
                "data, or end the step by `.to(x.dtype)`"
            )
    elif isinstance(x, tuple):
        if not isinstance(following, tuple) or len(following) != len(x):
            found = f" of {len(following)}" if isinstance(following, tuple) else ""
            raise TypeError(
                f"`iteration` must return {what} as a tuple of {len(x)}, as it was given, got "
                f"{type(following).__name__}{found} in layer {index} (from 0)"
            )
        for place, (entry, other) in enumerate(zip(x, following, strict=True)):
            _check_following(index, entry, other, f"{what}[{place}]")
