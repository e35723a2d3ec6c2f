"""Every record survives pickle, deep copies and JSON: equal, and still read-only."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepfold
from stepfold import LeastSquares, Quadratic, SpectralBounds, chebyshev_steps, plan, solve
from stepfold._codec import JsonRecord
from stepfold.distributed.scale import Costs, HaloWork, RowsWork
from stepfold.lab.environment import Environment
from stepfold.lab.figure import Axis, Curve, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.sources import Paper, Source
from stepfold.measure import exact_measure
from stepfold.planner.other_tools import Alternative
from stepfold.ridge import choose_ridge
from stepfold.schedules.noisy import RidgeSteps
from stepfold.spectrum.ellipse import Ellipse

MATRIX = np.diag([1.0, 2.0, 8.0])
SCHEDULE = chebyshev_steps(SpectralBounds(1.0, 8.0), 4)
CURVE = Curve("steps", np.arange(3.0), np.ones(3))
FIGURE = Figure(
    "steps", "Steps", "three steps", (CURVE,), Axis("t"), Axis("step"), (Level("1", 1.0),)
)
PICTURES = Pictures("p", "P", "a picture", (Image("one", np.zeros((2, 2), np.uint8)),))
PAPER = Paper("Somebody (2020)", "A title", "https://example.org")
TABLE = Table(("a", "b"), (("1", "2"),))
CHECK = Check("claim", "1", 1.0, 0.5, 2.0)


def _guarded() -> Any:
    return solve(Quadratic(MATRIX, np.ones(3)), chebyshev_steps(SpectralBounds(1.0, 4.0), 8))


def _trained() -> Any:
    from stepfold import Schedule
    from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally

    network = UnfoldedIteration(Schedule([0.3, 0.2]))
    return train_incrementally(network, SpectralLoss(exact_measure(MATRIX)), num_iterations=3)


def _choice() -> Any:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((40, 5)) @ np.diag([1.0, 0.5, 0.1, 0.01, 0.001])
    return choose_ridge(LeastSquares(matrix, rng.standard_normal(40)), noise=1.0)


RECORDS: dict[str, Callable[[], Any]] = {
    "Alternative": lambda: Alternative("cg", 12.0, "always"),
    "Axis": lambda: Axis("t", log=True),
    "Check": lambda: CHECK,
    "Costs": lambda: Costs(1e-9, 1e-9, 1e-6, 1e-10),
    "Curve": lambda: CURVE,
    "Ellipse": lambda: Ellipse(1.0, 0.5, 0.1),
    "Environment": lambda: Environment("2020-01-01", 1.0, {"numpy": "2"}, "a machine"),
    "Figure": lambda: FIGURE,
    "GuardEvent": lambda: _guarded().events[0],
    "HaloWork": lambda: HaloWork(100, 500),
    "History": lambda: _guarded().history,
    "Image": lambda: PICTURES.images[0],
    "Level": lambda: Level("one", 1.0),
    "Outcome": lambda: Outcome(
        "Title", "Summary.", (Section("Heading", ("Text.",), FIGURE, TABLE),), (CHECK,), name="one"
    ),
    "Paper": lambda: PAPER,
    "Pictures": lambda: PICTURES,
    "Plan": lambda: plan(Quadratic(MATRIX, np.ones(3))),
    "Result": _guarded,
    "RidgeChoice": _choice,
    "RidgeSteps": lambda: RidgeSteps(SCHEDULE, 0.5),
    "RowsWork": lambda: RowsWork(10, 100),
    "Schedule": lambda: SCHEDULE,
    "Section": lambda: Section("Heading", ("Text.",), PICTURES, TABLE),
    "Source": lambda: Source(PAPER, "Figure 1"),
    "SpectralBounds": lambda: SpectralBounds(1.0, 8.0),
    "SpectralMeasure": lambda: exact_measure(MATRIX),
    "Table": lambda: TABLE,
    "TrainingHistory": lambda: _trained().history,
    "TrainingRun": _trained,
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda record: pickle.loads(pickle.dumps(record)),
    "deep copy": copy.deepcopy,
    "JSON": lambda record: type(record).from_dict(json.loads(json.dumps(record.to_dict()))),
}


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, JsonRecord):
        for name in value.__dataclass_fields__:
            if not (isinstance(value, stepfold.Result) and name == "x"):  # the caller's to change
                yield from _arrays(getattr(value, name))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _arrays(part)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RECORDS)
def test_a_copy_of_a_record_is_equal_and_read_only(name: str, way: str) -> None:
    record = RECORDS[name]()
    again = WAYS[way](record)
    assert type(again) is type(record)
    assert again.to_dict() == record.to_dict()
    assert [array.flags.writeable for array in _arrays(again)] == [
        array.flags.writeable for array in _arrays(record)
    ]


def _all_records(kind: type) -> Iterator[type]:
    for part in kind.__subclasses__():
        yield part
        yield from _all_records(part)


def test_no_record_is_missing_here() -> None:
    for module in pkgutil.walk_packages(stepfold.__path__, "stepfold."):
        if "kernels._" not in module.name and "__main__" not in module.name:
            importlib.import_module(module.name)
    ours = {
        kind.__name__ for kind in _all_records(JsonRecord) if kind.__module__[:9] == "stepfold."
    }
    assert ours == set(RECORDS)
