"""One or more examples of every registered penalty, on rows of eight entries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stepfold.problems.penalties import PENALTIES, Penalty

SIZE = 8

EXAMPLES: dict[str, tuple[str, Callable[[], Penalty]]] = {
    "l1": ("l1", lambda: PENALTIES["l1"](0.7)),
    "l1 of weight 0": ("l1", lambda: PENALTIES["l1"](0.0)),
    "elastic net": ("elastic_net", lambda: PENALTIES["elastic_net"](0.5, 0.3)),
    "elastic net without ridge": ("elastic_net", lambda: PENALTIES["elastic_net"](0.5, 0.0)),
    "group l1": ("group_l1", lambda: PENALTIES["group_l1"](0.8, [5, 2, 2, 5, 1, 5, 1, 2])),
    "nuclear norm": ("nuclear_norm", lambda: PENALTIES["nuclear_norm"](0.6, (2, 4))),
    "box": ("box", lambda: PENALTIES["box"](-0.5, np.linspace(-0.5, 1.0, SIZE))),
    "half-bounded box": ("box", lambda: PENALTIES["box"](-np.inf, 0.3)),
    "nonnegative": ("nonnegative", lambda: PENALTIES["nonnegative"]()),
    "ball": ("ball", lambda: PENALTIES["ball"](1.2)),
    "ball off centre": ("ball", lambda: PENALTIES["ball"](0.9, np.linspace(-1.0, 1.0, SIZE))),
    "point": ("ball", lambda: PENALTIES["ball"](0.0, np.linspace(-1.0, 1.0, SIZE))),
    "simplex": ("simplex", lambda: PENALTIES["simplex"]()),
    "simplex of total 3": ("simplex", lambda: PENALTIES["simplex"](3.0)),
    "total variation": ("total_variation", lambda: PENALTIES["total_variation"](0.4, rtol=0.0)),
    "total variation of a picture": (
        "total_variation",
        lambda: PENALTIES["total_variation"](0.4, (4, 2), rtol=0.0),
    ),
}
# Those whose proximal operator is a formula.
PLAIN = tuple(name for name, (member, _) in EXAMPLES.items() if member != "total_variation")


def example(name: str) -> Penalty:
    return EXAMPLES[name][1]()
