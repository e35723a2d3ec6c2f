"""Modules and parameters that a function or an object holds, wherever it keeps them.

A step may hold a network in a closure, a default, a ``partial``, an object whose method it is, a
global name, an attribute, or a container in one of these. torch registers none of them. `held_by`
follows all of these; `leaves_of` reads the graph of a loss, and so finds what hides anywhere else.
"""

from __future__ import annotations

import dis
import functools
import gc
import re
import sys
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Globals that functions of these packages use are their own affair.
_OTHERS = frozenset({*sys.stdlib_module_names, "torch", "numpy", "scipy", "stepfold"}) - {
    "__main__"
}
_PLAIN = (str, bytes, int, float, complex, bool, type(None), np.ndarray, np.generic, torch.dtype)
_CONTAINERS = (list, tuple, set, frozenset)
# What is larger is data; the graph of the loss shows what it holds.
_MOST_ENTRIES = 10_000
_MOST_OBJECTS = 100_000


@dataclass
class Held:
    """What was found, by names made of those under which it is kept.

    Args:
        modules: The outermost modules.
        parameters: Parameters of no module.
        tensors: Other tensors that carry gradients: torch cannot register them.
    """

    modules: dict[str, nn.Module] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def held_by(owner: Any, registered: Iterable[nn.Module] = (), *, root: str = "step") -> Held:
    """Modules, parameters and other tensors with gradients that ``owner`` reaches.

    Args:
        owner: A function, an object, or a container of them.
        registered: Modules that are known already; what they register is left out, what else they
            hold, say in a plain list, is not.
        root: Name of what is found under no name.

    >>> list(held_by(functools.partial(max, key=nn.Linear(2, 2))).modules)
    ['key']
    """
    return _Search(registered, root).of(owner)


class _Search:
    def __init__(self, registered: Iterable[nn.Module], root: str) -> None:
        self._root = root
        self._registered = {id(part) for module in registered for part in module.modules()}
        self._known = {id(value) for module in registered for value in module.parameters()}
        # Objects stay alive meanwhile: another one could get the number of one that is gone.
        self._seen: dict[int, Any] = {}
        self._queue: list[tuple[Any, str]] = []
        self._modules: list[tuple[nn.Module, str]] = []
        self._tensors: list[tuple[Tensor, str]] = []

    def of(self, owner: Any) -> Held:
        self._queue.append((owner, self._root))
        while self._queue and len(self._seen) < _MOST_OBJECTS:
            value, name = self._queue.pop()
            if isinstance(value, _PLAIN) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            self._queue += reversed(list(self._parts(value, name)))
        return self._outermost()

    def _outermost(self) -> Held:
        held = Held()
        inner = {
            id(part)
            for module, _ in self._modules
            for part in module.modules()
            if part is not module
        }
        known = set(self._known)
        for module, name in self._modules:
            if id(module) not in inner and id(module) not in self._registered:
                held.modules[_unused(name, held.modules)] = module
                known |= {id(value) for value in module.parameters()}
        for tensor, name in self._tensors:
            if id(tensor) in known:
                continue
            known.add(id(tensor))
            name = _unused(name, held.modules | held.parameters | held.tensors)
            if isinstance(tensor, nn.Parameter):
                held.parameters[name] = tensor
            else:
                held.tensors[name] = tensor
        return held

    def _parts(self, value: Any, name: str) -> Iterator[tuple[Any, str]]:
        if isinstance(value, Tensor):
            if value.requires_grad or isinstance(value, nn.Parameter):
                self._tensors.append((value, name))
        elif isinstance(value, nn.Module):
            self._modules.append((value, name))
            yield from ((part, f"{name}_{key}") for key, part in value.named_children())
            registries = ("_parameters", "_buffers", "_modules")
            yield from _named((k, x) for k, x in vars(value).items() if k not in registries)
            yield from _of_class(type(value), name)
        elif isinstance(value, types.FunctionType):
            yield from _of_function(value)
        elif isinstance(value, types.MethodType):
            yield value.__self__, name
            yield value.__func__, name
        elif isinstance(value, (staticmethod, classmethod)):
            yield value.__func__, name
        elif isinstance(value, property):
            yield from ((function, name) for function in (value.fget, value.fset))
        elif isinstance(value, functools.partial):
            yield value.func, name
            yield from _named(value.keywords.items())
            yield from _numbered(value.args, name)
            yield from _named(vars(value).items())
        elif isinstance(value, weakref.ReferenceType):
            yield value(), name
        elif isinstance(value, Mapping):
            if len(value) <= _MOST_ENTRIES:
                yield from ((x, k if isinstance(k, str) else name) for k, x in value.items())
            yield from _of_object(value, name)
        elif isinstance(value, _CONTAINERS) or type(value).__module__ == "collections":
            if len(value) <= _MOST_ENTRIES:
                yield from _numbered(value, name)
            yield from _of_object(value, name)
        elif isinstance(value, type):
            yield from _of_class(value, name)
        elif not isinstance(value, types.ModuleType):
            yield from _of_object(value, name)


def _named(items: Iterable[tuple[str, Any]]) -> list[tuple[Any, str]]:
    return [(value, str(name)) for name, value in items]


def _numbered(values: Iterable[Any], name: str) -> Iterator[tuple[Any, str]]:
    return ((value, f"{name}_{index}") for index, value in enumerate(values))


def _is_others(kind: Any) -> bool:
    return str(getattr(kind, "__module__", None) or "").split(".")[0] in _OTHERS


def _of_object(value: Any, name: str) -> Iterator[tuple[Any, str]]:
    wrapped = getattr(value, "__wrapped__", None)  # functools.lru_cache
    if wrapped is not None:
        yield wrapped, name
    kind = type(value)
    if _is_others(kind) and not kind.__module__.startswith(("stepfold", "types")):
        return
    for each in kind.__mro__:
        for slot in getattr(each, "__slots__", ()):
            if isinstance(slot, str) and hasattr(value, slot):
                yield getattr(value, slot), slot.strip("_")
    yield from _named(getattr(value, "__dict__", {}).items())
    yield from _of_class(kind, name)


def _of_class(kind: type, name: str) -> Iterator[tuple[Any, str]]:
    """Attributes of a class, and what its methods hold."""
    for each in kind.__mro__:
        if not _is_others(each):
            for key, value in list(vars(each).items()):
                method = isinstance(value, (types.FunctionType, staticmethod, classmethod))
                yield value, name if method or isinstance(value, property) else key


def _of_function(function: types.FunctionType) -> Iterator[tuple[Any, str]]:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    enclosed = {name: cell.cell_contents for name, cell in cells.items() if _is_filled(cell)}
    yield from ((x, name) for name, x in enclosed.items() if not isinstance(x, types.ModuleType))
    names = function.__code__.co_varnames
    defaults = function.__defaults__ or ()
    first = function.__code__.co_argcount - len(defaults)
    yield from ((value, names[first + i]) for i, value in enumerate(defaults))
    yield from _named((function.__kwdefaults__ or {}).items())
    yield from _named(vars(function).items())
    if not _is_others(function):
        yield from _loaded(function.__code__, function.__globals__, enclosed)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that is bound later
        return False


def _loaded(
    code: types.CodeType, names: Mapping[str, Any], enclosed: Mapping[str, Any]
) -> Iterator[tuple[Any, str]]:
    """Values of the global names that a function's code loads, attributes of imports followed."""
    module: Any = None
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name in names:
            value = names[name]
        elif instruction.opname == "LOAD_DEREF" and name in enclosed:
            value = enclosed[name]
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and module is not None:
            value = getattr(module, name, None)
        else:
            # Compilers put other instructions between an import and its attribute.
            module = None if instruction.opname not in ("CACHE", "PUSH_NULL") else module
            continue
        module = None
        if not isinstance(value, types.ModuleType):
            yield value, str(name)
        elif value.__name__.split(".")[0] not in _OTHERS:
            module = value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):  # a function or comprehension within
            yield from _loaded(constant, names, enclosed)


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    """A name for `torch.nn.Module.add_module`: no dots, no word of torch's own modules."""
    name = re.sub(r"\W", "_", name).strip("_") or "held"
    name = f"{name}_" if hasattr(nn.Module, name) else name
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def register(owner: nn.Module, found: Mapping[str, nn.Module | nn.Parameter]) -> None:
    """Make what was found a part of ``owner``, under names that are free there."""
    for name, value in found.items():
        while hasattr(owner, name):
            name += "_"
        if isinstance(value, nn.Module):
            owner.add_module(name, value)
        else:
            owner.register_parameter(name, value)


def leaves_of(value: Tensor, stop: Iterable[Any] = ()) -> dict[int, Tensor]:
    """The leaves to which ``value.backward()`` would add gradients, by their identities.

    Args:
        value: Result of a computation.
        stop: Nodes of the graph behind which leaves do not count.

    >>> leaf = torch.ones(2, requires_grad=True)
    >>> [found is leaf for found in leaves_of((2 * leaf).sum()).values()]
    [True]
    """
    seen = {id(node): node for node in stop}
    queue = [] if value.grad_fn is None else [value.grad_fn]
    leaves: dict[int, Tensor] = {}
    while queue:
        node: Any = queue.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node  # kept alive: Python's view of a node is made anew each time
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves[id(leaf)] = leaf
        queue += [following for following, _ in node.next_functions if following is not None]
    return leaves


def described(tensor: Tensor) -> str:
    """A parameter in words: its module and its name there, if any module has it, and its shape."""
    shape = f"shape {tuple(tensor.shape)}"
    for owner in gc.get_objects():
        if issubclass(type(owner), nn.Module):  # `isinstance` would ask deprecated objects
            for name, value in vars(owner).get("_parameters", {}).items():
                if value is tensor:
                    return f"`{name}` of a {type(owner).__name__}, {shape}"
    return f"a tensor of {shape}"


def checked_modules(modules: Any) -> Mapping[str, nn.Module | nn.Parameter]:
    """Modules that somebody names, after checking the names and that they are some."""
    if modules is None:
        return {}
    if not isinstance(modules, Mapping):
        raise TypeError(
            f"`modules` must be a dictionary of modules by names, got {type(modules).__name__}; "
            'write `{"prior": module}`'
        )
    for name, module in modules.items():
        if not isinstance(module, (nn.Module, nn.Parameter)):
            raise TypeError(
                f"`modules` must hold torch modules or parameters, got {type(module).__name__} for "
                f"{name!r}; write `nn.Parameter(tensor)` for a tensor"
            )
        if not isinstance(name, str) or not name.isidentifier() or hasattr(nn.Module, name):
            raise ValueError(
                "`modules` must be named by identifiers that are no words of torch's modules, got "
                f"{name!r}"
            )
    return modules
