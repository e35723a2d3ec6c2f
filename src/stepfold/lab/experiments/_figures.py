"""Curves over common abscissae, for experiments that compare methods."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepfold.lab.figure import Curve


def curves(
    rows: Mapping[str, Any],
    x: NDArray[Any] | None = None,
    *,
    style: str = "line",
    emphasis: Container[str] = (),
    roles: Mapping[str, str] | None = None,
) -> tuple[Curve, ...]:
    """Return a curve per row, over ``x`` or over 0, 1, 2, …

    Args:
        rows: Ordinates by label.
        x: Abscissae of all.
        style: Style of all.
        emphasis: Labels of those that the figure is about.
        roles: Role by label, of those whose label does not tell it.
    """
    return tuple(
        Curve(
            label,
            np.arange(len(values)) if x is None else x,
            np.asarray(values),
            style=style,
            emphasis=label in emphasis,
            role=(roles or {}).get(label, ""),
        )
        for label, values in rows.items()
    )
