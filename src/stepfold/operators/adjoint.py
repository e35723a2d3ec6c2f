"""The test that an adjoint is one, on products that somebody makes."""

from __future__ import annotations

import contextlib
import math
import weakref
from typing import Any

import numpy as np

from stepfold._arrays import copy_of, detached, dtype_kind, epsilon, norms, reshaped, row_dots

# Adjoints are tested once: what has passed, by the object that the user gave, with the function
# that was given as its adjoint. Another function beside the same object is another adjoint.
_TESTED: weakref.WeakKeyDictionary[Any, weakref.ref[Any] | None] = weakref.WeakKeyDictionary()


class AdjointTest:
    """Compares ``uᴴ(Av)`` with ``(Aᴴu)ᴴv`` for the first two products that allow it, once."""

    def __init__(self, name: str, source: Any, adjoint: Any = None) -> None:
        self._name, self._source, self._adjoint = name, source, adjoint
        self._seen: dict[bool, tuple[Any, Any]] = {}
        self.is_over = False
        with contextlib.suppress(TypeError):  # what cannot be remembered is tested again
            self.is_over = source in _TESTED and _is(_TESTED[source], adjoint)

    def see(self, x: Any, image: Any, *, is_adjoint: bool) -> None:
        """Take in a product, if it is the first of its kind."""
        if is_adjoint in self._seen:
            return
        x, image = (detached(reshaped(part, (-1, part.shape[-1]))[0]) for part in (x, image))
        # Copies: the caller may go on to write into these.
        self._seen[is_adjoint] = copy_of(x), copy_of(image)
        if len(self._seen) < 2:
            return
        (v, image), (u, other) = self._seen[False], self._seen[True]
        self._seen.clear()
        kinds = [dtype_kind(part.dtype) for part in (v, u, image, other)]
        if kinds == ["f", "f", "c", "c"]:
            return  # real vectors do not tell an adjoint from a transpose
        with np.errstate(all="ignore"):
            left = float(norms(u)[0] * norms(image)[0])
            right = float(norms(v)[0] * norms(other)[0])
            difference = abs(float(row_dots(u, image)[0] - row_dots(other, v)[0]))
        if not 0 < left + right < math.inf:
            return
        self.is_over = True
        rounding = epsilon(image)
        tolerance = min(math.sqrt(rounding), max(1e3 * rounding, 1e-8))
        if difference > tolerance * (left + right):
            raise ValueError(
                f"the adjoint of `{self._name}` must satisfy uᴴ(Av) = (Aᴴu)ᴴv: for two vectors u "
                f"and v the sides differ by {difference / (left + right):.2g} of ‖u‖‖Av‖ + "
                f"‖Aᴴu‖‖v‖, where rounding is below {tolerance:.1g}; check `.H`, `.T`, `rmatvec` "
                "or the adjoint you gave, and that the map is linear (a layer with a bias is not)"
            )
        with contextlib.suppress(TypeError):
            adjoint = self._adjoint
            _TESTED[self._source] = None if adjoint is None else weakref.ref(adjoint)


def _is(known: weakref.ref[Any] | None, adjoint: Any) -> bool:
    return adjoint is None if known is None else adjoint is not None and known() is adjoint
