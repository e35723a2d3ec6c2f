"""Values that a constraint computes, as a tensor into which one can write all the same.

What layers use is a function of what the optimiser changes, so that writing into it in place would
change a copy, and be lost. A `Written` tensor passes what is written into it, or into a view of it,
on to its owner, who sets what is trained to what gives these values, or refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Owner = Callable[[Tensor], None]


class Written(Tensor):
    """A tensor whose owner is told what is written into it; computed with like any other."""

    _owner: Owner
    _whole: Tensor

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            own = _marked_in((*args, *kwargs.values()))
            before = [each._version for each in own]
            result = func(*args, **kwargs)
            for each, version in zip(own, before, strict=True):
                if getattr(func, "__name__", "") == "__set__" and not _shares(each, each._whole):
                    each._owner(each.detach())  # by `tensor.data = …`
                elif each._version != version:
                    each._pass_on()
            return _wrapped(result, own[0]) if own else result

    def _pass_on(self) -> None:
        if self.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "values of layers cannot be changed in place while gradients are recorded; do it "
                "under `torch.no_grad()`"
            )
        self._owner(self._whole)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _plain(self).__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]
        return repr(_plain(self))


def written(values: Tensor, owner: Owner) -> Tensor:
    """``values`` such that ``owner`` is called with what they are once somebody writes into them.

    >>> seen = []
    >>> values = written(torch.zeros(2), seen.append)
    >>> values[1:] = 3.0
    >>> seen
    [tensor([0., 3.])]
    >>> type(values + 1).__name__
    'Tensor'
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return values
    return _marked(values, owner, values.detach())


def _marked(values: Tensor, owner: Owner, whole: Tensor) -> Tensor:
    marked: Written = values.as_subclass(Written)
    marked._owner, marked._whole = owner, whole
    return marked


def _marked_in(arguments: Any) -> list[Written]:
    own = [each for each in arguments if isinstance(each, Written)]
    for each in arguments:
        if isinstance(each, (list, tuple)):
            own += [entry for entry in each if isinstance(entry, Written)]
    return own


def _plain(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def _wrapped(result: Any, own: Written) -> Any:
    """The result, views in it marked as parts of the same values."""
    if isinstance(result, Written):
        return result
    if isinstance(result, Tensor):
        return _marked(result, own._owner, own._whole) if _shares(result, own._whole) else result
    if isinstance(result, np.ndarray):
        result.flags.writeable = False  # nobody would be told
        return result
    if isinstance(result, (tuple, list)) and any(isinstance(each, Tensor) for each in result):
        entries = [_wrapped(each, own) for each in result]
        return type(result)(entries) if type(result) in (tuple, list) else result
    return result


def _shares(result: Tensor, whole: Tensor) -> bool:
    if result.layout is not torch.strided or not result.numel() or result.device != whole.device:
        return False
    return result.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
