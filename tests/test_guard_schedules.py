"""What a schedule remembers of its making: bounds and family, through files and orders."""

import json
from typing import Any

import numpy as np
import pytest

from stepfold import (
    Quadratic,
    Schedule,
    SpectralBounds,
    SpectralMeasure,
    Status,
    chebyshev_steps,
    estimate_bounds,
    optimal_steps,
    solve,
)
from stepfold.schedules import SCHEDULES


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_keep_their_bounds_through_json_and_reordering(name: str) -> None:
    bounds = estimate_bounds(np.diag([1.0, 4.0, 9.0]))
    schedule = SCHEDULES[name](bounds, 8)
    twin = Schedule.from_dict(json.loads(json.dumps(schedule.to_dict())))
    assert (twin.bounds, twin.builder, twin.reordered("leja").bounds) == (bounds, name, bounds)
    wider = SpectralBounds(1.0, 18.0)
    assert twin.rebuilt(wider) == SCHEDULES[name](wider, 8)
    assert twin.reordered("leja").rebuilt(wider).order == "leja"


def test_a_file_without_bounds_loads_and_is_not_guarded() -> None:
    record = chebyshev_steps(SpectralBounds(1.0, 50.0), 8).to_dict()
    del record["bounds"], record["builder"]
    schedule = Schedule.from_dict(record)
    assert (schedule.bounds, schedule.builder) == (None, None)
    assert solve(Quadratic(np.diag([1.0, 100.0]), np.ones(2)), schedule).status is Status.DIVERGED
    with pytest.raises(ValueError, match="must have a `builder` to be rebuilt, got None"):
        schedule.rebuilt(SpectralBounds(1.0, 100.0))


@pytest.mark.parametrize(
    "bounds",
    [3, {"lower": 1.0}, {"lower": 1.0, "upper": 2.0, "colour": 3}, {"lower": 2, "upper": 1}],
)
def test_a_record_with_bounds_that_are_none_is_refused(bounds: Any) -> None:
    record = {**Schedule([1.0]).to_dict(), "bounds": bounds}
    with pytest.raises(ValueError, match="bounds"):
        Schedule.from_dict(record)


def test_bounds_that_are_none_are_refused_by_the_schedule() -> None:
    with pytest.raises(TypeError, match=r"`bounds` must be SpectralBounds or None, got tuple"):
        Schedule([1.0], bounds=(1.0, 2.0))  # type: ignore[arg-type]


def test_optimal_steps_of_a_measure_know_no_bounds() -> None:
    assert optimal_steps(SpectralMeasure.from_eigenvalues([1.0, 3.0]), 1).bounds is None
