"""What a layer does: a step of an `Iteration`, or a function of one's own.

Both kinds become functions ``(problem, state) -> state``, one for each layer, with the layer's own
step and parameters in place.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from stepfold.iterations import Iteration


class LayerParameters:
    """The values of one layer, as attributes: ``step``, ``layer``, other parameters by name.

    >>> LayerParameters(step=0.5, layer=0, ridge=0.1).ridge
    0.1
    """

    # No SimpleNamespace: torch.compile would break the graph at each one.
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"there is no parameter {name!r}; there are {', '.join(vars(self))}; give others in "
            "`parameters`"
        )


Step: TypeAlias = Callable[[Any, LayerParameters, Any], Any]
"""A step of one's own, ``step(x, params, data)``: the next x; ``params.step`` is γₜ,
``params.layer`` is t, from 0, other parameters of the layer have their names. One with an
attribute ``changes_shape`` that is true may return another shape than it was given."""

Layer: TypeAlias = Callable[[Any, Any], Any]
"""``(problem, state) -> state``."""


class Layers(Protocol):
    """The kind of the layers of a network."""

    def check_name(self, name: str) -> None:
        """Raise unless layers have a place for a parameter of that name."""

    def start(self, problem: Any, x0: Any) -> Any:
        """State before the first layer."""

    def layer(self, index: int, gamma: Tensor, named: Mapping[str, Any]) -> Layer:
        """The layer of that number, from its step and its parameters by their names."""

    def iterate(self, state: Any) -> Any:
        """The iterate that a state holds."""


def layers_of(iteration: Any) -> Layers:
    """The kind of layers that an iteration, a function, or one of these for each layer makes."""
    if is_list(iteration):
        return _InTurn([layers_of(each) for each in iteration])
    return _Iterated(iteration) if isinstance(iteration, Iteration) else _Own(iteration)


def is_list(iteration: Any) -> bool:
    """Whether there is an iteration for each layer, or for each of a period."""
    return isinstance(iteration, (list, tuple, nn.ModuleList))


def check_iteration(iteration: Any, num_layers: int) -> None:
    """Raise unless layers can be made of it.

    Raises:
        TypeError: If it is no `Iteration`, no function of three arguments, and no list of these.
        ValueError: If there are none, or more than layers.
    """
    if not is_list(iteration):
        _check_one(iteration)
        return
    if not 1 <= len(iteration) <= num_layers:
        raise ValueError(
            f"`iteration` must be one for each of {num_layers} layers, or fewer that they use in "
            f"turn, got {len(iteration)}"
        )
    for each in iteration:
        _check_one(each)
    if len({isinstance(each, Iteration) for each in iteration}) > 1:
        raise TypeError(
            "`iteration` must hold Iterations, or functions `step(x, params, data)`, not both: "
            "they hand on different states"
        )


def _check_one(iteration: Any) -> None:
    if isinstance(iteration, Iteration):
        return
    if is_list(iteration) or isinstance(iteration, type) or not callable(iteration):
        found = iteration.__name__ if isinstance(iteration, type) else type(iteration).__name__
        raise TypeError(
            "`iteration` must be an Iteration or a function `step(x, params, data)`, or a list of "
            f"them, got {found}"
        )
    function = iteration.forward if isinstance(iteration, nn.Module) else iteration
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not tell
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        name = getattr(iteration, "__name__", type(iteration).__name__)
        raise TypeError(
            f"`iteration` must take `(x, params, data)`, got {name}{signature}; call a denoiser "
            "in a step: `lambda x, params, data: denoiser(x - params.step * gradient(x, data))`"
        ) from None


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

    def layer(self, index: int, gamma: Tensor, named: Mapping[str, Any]) -> Layer:
        iteration = self._iteration
        for name, value in named.items():
            iteration = _replaced(iteration, name.split("."), value)
        return functools.partial(_take_step, iteration, index, gamma)

    def iterate(self, state: Any) -> Any:
        return self._iteration.iterate(state)


def _take_step(
    iteration: Iteration[Any, Any], index: int, gamma: Any, problem: Any, state: Any
) -> Any:
    following = iteration.step(problem, state, gamma)
    if getattr(following, "dtype", None) is getattr(state, "dtype", following):
        return following  # the state is the iterate, as it is for most
    before, after = iteration.iterate(state), iteration.iterate(following)
    if (
        not isinstance(before, Tensor)
        or not isinstance(after, Tensor)
        or after.dtype == before.dtype
        or torch.is_autocast_enabled(after.device.type)
    ):
        return following
    raise ValueError(
        f"layer {index} (from 0) must keep the dtype of the iterate, {before.dtype}, got "
        f"{after.dtype}; {_remedy(before, after)}"
    )


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
        if not name.isidentifier() or name in ("step", "layer"):
            raise ValueError(
                "`parameters` of a function must have names that are identifiers, and not "
                f"'step' or 'layer', got {name!r}"
            )

    def start(self, problem: Any, x0: Any) -> Any:  # noqa: ARG002
        if x0 is None:
            raise _no_start()
        return x0

    def layer(self, index: int, gamma: Tensor, named: Mapping[str, Any]) -> Layer:
        params = LayerParameters(step=gamma, layer=index, **named)
        keeps_shape = not getattr(self._function, "changes_shape", False)
        return functools.partial(_call, self._function, keeps_shape, params)

    def iterate(self, state: Any) -> Any:
        return state


class _InTurn:
    """One of these kinds for each layer, or for each of a period."""

    def __init__(self, kinds: Sequence[Layers]) -> None:
        self._kinds = kinds

    def check_name(self, name: str) -> None:
        for kind in self._kinds:
            kind.check_name(name)

    def start(self, problem: Any, x0: Any) -> Any:
        return self._kinds[0].start(problem, x0)

    def layer(self, index: int, gamma: Tensor, named: Mapping[str, Any]) -> Layer:
        return self._kinds[index % len(self._kinds)].layer(index, gamma, named)

    def iterate(self, state: Any) -> Any:
        return self._kinds[0].iterate(state)


def tensors_in(state: Any) -> Iterator[Tensor]:
    """The tensors that layers hand on, in containers and attributes."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        yield from tensors_in(list(state.values()))
    elif isinstance(state, (list, tuple)):
        for each in state:
            yield from tensors_in(each)
    elif dataclasses.is_dataclass(state):
        yield from tensors_in([getattr(state, each.name) for each in dataclasses.fields(state)])
    else:
        yield from tensors_in(list(getattr(state, "__dict__", {}).values()))


def _no_start() -> TypeError:
    return TypeError("`x0` must be given: only a linear problem tells where to start")


def _call(function: Step, keeps_shape: bool, params: LayerParameters, data: Any, x: Any) -> Any:
    following = function(x, params, data)
    _check_following(params.layer, x, following, "x", keeps_shape)
    return following


def _check_following(index: int, x: Any, following: Any, what: str, keeps_shape: bool) -> None:
    """Raise unless a tensor, or an entry of a tuple, has kept its shape, dtype and device.

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
        if (
            following.shape != x.shape
            and keeps_shape
            and (gained <= 0 or following.shape[gained:] != x.shape)
        ):
            raise ValueError(
                f"`iteration` must return {what} in the shape in which it was given, "
                f"{tuple(x.shape)}, got {tuple(following.shape)} in layer {index} (from 0); "
                "start from the shape that it returns, mend its products and sums, or set its "
                "attribute `changes_shape` to True if layers have different shapes"
            )
        # Under autocast products are in half precision, and so may the iterate be.
        if following.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"`iteration` must return {what} in the dtype in which it was given, {x.dtype}, "
                f"got {following.dtype} in layer {index} (from 0); {_remedy(x, following)}"
            )
        if following.device != x.device:
            raise ValueError(
                f"`iteration` must return {what} on the device on which it was given, {x.device}, "
                f"got {following.device} in layer {index} (from 0); move what the step holds by "
                "`network.to(device)`, and make its new tensors by `x.new_zeros(...)` and the like"
            )
    elif isinstance(x, tuple):
        if not isinstance(following, tuple) or len(following) != len(x):
            found = f" of {len(following)}" if isinstance(following, tuple) else ""
            raise TypeError(
                f"`iteration` must return {what} as a tuple of {len(x)}, as it was given, got "
                f"{type(following).__name__}{found} in layer {index} (from 0)"
            )
        for place, (entry, other) in enumerate(zip(x, following, strict=True)):
            _check_following(index, entry, other, f"{what}[{place}]", keeps_shape)


def _remedy(x: Tensor, following: Tensor) -> str:
    if following.dtype == torch.promote_types(x.dtype, torch.float64):
        real = x.real.dtype if x.is_complex() else x.dtype
        return (
            f"make the network with `dtype={real}`, as its parameters are of float64 otherwise, or "
            "end the step by `.to(x.dtype)`"
        )
    return "start in the dtype of the data, or end the step by `.to(x.dtype)`"
