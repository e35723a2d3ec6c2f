"""The book of a run, entry by entry: what ends a row, what is kept, and what still fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stepfold.result import Status
from stepfold.run.ledger import (
    AS_GOOD,
    CLOSER,
    DIVERGED_BEYOND,
    PATIENCE,
    Budgets,
    Ledger,
    Seen,
    Terms,
    worst_end,
)


class Clock:
    """Stands where it is put."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def seen(*sizes: float, met: Any = None, floor: Any = 0.0, **others: Any) -> Seen:
    count = len(sizes)
    holds = np.zeros(count, dtype=bool) if met is None else np.array(met)
    return Seen(np.array(sizes), holds, np.broadcast_to(np.float64(floor), count).copy(), **others)


def book(num_rows: int | None = None, clock: Callable[[], float] | None = None, **budgets: Any):
    x0 = np.zeros(2 if num_rows is None else (num_rows, 2))
    return Ledger(x0, num_rows, Budgets(**budgets), clock=clock or Clock())


def at(value: float, num_rows: int | None = None) -> np.ndarray:
    return np.full(2 if num_rows is None else (num_rows, 2), value)


def test_a_row_that_meets_its_criteria_is_converged_with_that_iterate() -> None:
    ledger = book()
    ledger.check(at(1.0), seen(3.0))
    assert ledger.status is None
    ledger.num_steps = 5
    ledger.check(at(2.0), seen(4.0, met=[True]))
    assert (ledger.status, ledger.ended_at.tolist()) == (Status.CONVERGED, [5])
    # It was not the smallest, and still it is the one that the verdict is about.
    assert ledger.best.tolist() == [2.0, 2.0]
    assert ledger.best_sizes.tolist() == [4.0]


def test_the_best_iterate_of_each_row_is_kept_and_later_looks_are_of_the_rows_left() -> None:
    ledger = book(3)
    ledger.check(at(1.0, 3), seen(3.0, 5.0, 2.0))
    ledger.check(at(2.0, 3), seen(4.0, 1.0, 1.0, met=[False, True, False]))
    assert ledger.active.tolist() == [0, 2]
    ledger.check(at(3.0, 2), seen(2.0, 9.0))
    assert ledger.best[:, 0].tolist() == [3.0, 2.0, 2.0]
    assert ledger.last.tolist() == [2.0, 1.0, 9.0]
    assert ledger.first.tolist() == [3.0, 5.0, 2.0]
    assert ledger.factors.tolist() == [0.5, 0.2, 9.0]


def test_an_equal_score_keeps_the_earlier_iterate_and_scores_come_before_sizes() -> None:
    ledger = book()
    ledger.check(at(1.0), seen(3.0))
    ledger.check(at(2.0), seen(3.0))
    assert ledger.best[0] == 1.0
    ledger = book()
    ledger.check(at(1.0), seen(3.0, scores=np.array([1.0])))
    ledger.check(at(2.0), seen(2.0, scores=np.array([5.0])))
    assert (ledger.best[0], ledger.best_sizes[0]) == (1.0, 3.0)


def test_no_number_is_worse_than_any_number() -> None:
    ledger = book()
    ledger.check(at(1.0), seen(3.0))
    ledger.check(at(2.0), seen(math.nan, floor=math.inf))
    assert (ledger.best[0], ledger.floor[0]) == (1.0, 0.0)
    ledger.judge()
    assert ledger.status is Status.DIVERGED


@pytest.mark.parametrize(("growth", "status"), [(1.0, None), (1.01, Status.DIVERGED)])
def test_growth_beyond_all_bounds_is_divergence(growth: float, status: Status | None) -> None:
    ledger = book()
    ledger.check(at(1.0), seen(2.0))
    ledger.check(at(2.0), seen(2.0 * DIVERGED_BEYOND * growth))
    ledger.judge()
    assert ledger.status is status


def test_growth_from_the_level_of_rounding_is_measured_from_that_level() -> None:
    ledger = book()
    ledger.check(at(1.0), seen(0.0, floor=1.0))
    ledger.check(at(2.0), seen(DIVERGED_BEYOND / 2))
    ledger.judge()
    assert ledger.status is None


@pytest.mark.parametrize("explicit", [False, True])
def test_a_row_is_stalled_after_ten_looks_at_the_attainable_without_progress(
    explicit: bool,
) -> None:
    ledger = book()
    others = {"resting": np.array([True])} if explicit else {}
    for _ in range(PATIENCE):
        ledger.check(at(1.0), seen(1.0, floor=1.0, **others))
        ledger.judge()
        assert ledger.status is None
    ledger.check(at(1.0), seen(1.0, floor=1.0, **others))
    ledger.judge()
    assert ledger.status is Status.STALLED
    assert ledger.waited.tolist() == [PATIENCE]


def test_a_plateau_above_the_attainable_is_no_stall_but_is_told() -> None:
    ledger = book()
    told = []
    for _ in range(2 * PATIENCE + 1):
        ledger.check(at(1.0), seen(1.0, floor=0.5))
        ledger.judge()
        told.append(ledger.waits)
    assert ledger.status is None
    assert [place for place, waits in enumerate(told) if waits] == [PATIENCE, 2 * PATIENCE]


def test_at_the_attainable_only_a_clear_fall_is_progress() -> None:
    ledger = book()
    ledger.check(at(0.0), seen(1.0, floor=2.0))
    ledger.check(at(1.0), seen(CLOSER, floor=2.0))  # lower, and not clearly
    assert ledger.waited.tolist() == [1]
    ledger.check(at(2.0), seen(0.9 * CLOSER, floor=2.0))
    assert ledger.waited.tolist() == [0]


@pytest.mark.parametrize(("size", "kept"), [(AS_GOOD, 1.0), (1.01 * AS_GOOD, 0.0)])
def test_at_the_attainable_a_later_iterate_that_is_as_good_is_kept(
    size: float, kept: float
) -> None:
    ledger = book()
    ledger.check(at(0.0), seen(1.0, floor=3.0))
    ledger.check(at(1.0), seen(size, floor=3.0))
    assert ledger.best[0] == kept


@pytest.mark.parametrize(("best", "ends"), [(AS_GOOD, True), (1.01 * AS_GOOD, False)])
def test_a_best_size_at_what_no_iterate_can_be_below_is_a_stall(best: float, ends: bool) -> None:
    ledger = book(2)
    ledger.check(at(0.0, 2), seen(best, 50.0))
    ledger.attain(np.array([1.0, 1.0]))
    assert ledger.floor.tolist() == [1.0, 1.0]
    assert ledger.statuses == [Status.STALLED if ends else None, None]
    assert ledger.active.tolist() == ([1] if ends else [0, 1])


def test_a_restart_forgets_patience_and_goes_on_from_the_best() -> None:
    ledger = book()
    ledger.check(at(0.0), seen(1.0))
    for _ in range(PATIENCE):
        ledger.check(at(1.0), seen(5.0))
    assert ledger.waits
    ledger.restart()
    assert not ledger.waits
    assert ledger.last.tolist() == [1.0]


def test_a_caller_who_wants_no_more_gets_the_iterate_of_now() -> None:
    ledger = book(2)
    ledger.check(at(0.0, 2), seen(1.0, 1.0))
    ledger.check(at(1.0, 2), seen(2.0, 3.0, met=[True, False]))
    ledger.leave_at(at(7.0, 2))
    assert ledger.statuses == [Status.CONVERGED, Status.INTERRUPTED]
    assert ledger.best[:, 0].tolist() == [7.0, 7.0]
    assert ledger.best_sizes.tolist() == [2.0, 3.0]


def test_the_worst_end_of_rows_is_that_of_the_run() -> None:
    order = [Status.CONVERGED, Status.BUDGET, Status.STALLED, Status.DIVERGED, Status.INTERRUPTED]
    for place, status in enumerate(order):
        assert worst_end(order[: place + 1]) is status
    assert worst_end([]) is Status.CONVERGED


# Budgets.


def test_a_period_fits_up_to_the_last_step_and_the_last_product() -> None:
    ledger = book(max_steps=10, max_products=20)
    ledger.num_steps, ledger.num_products = 6, 12
    assert ledger.fits(4, 8)
    assert not ledger.fits(5, 8)
    assert not ledger.fits(4, 9)
    assert ledger.affords(8)
    assert not ledger.affords(9)
    assert book().fits(10**9, 10**9)
    assert book().affords(10**9)


def test_a_period_starts_only_if_the_slowest_so_far_would_still_end_in_time() -> None:
    clock = Clock()
    ledger = book(clock=clock, max_seconds=10.0)
    for now in (100.0, 103.0, 104.0):  # periods of 3 seconds and of 1
        clock.now = now
        ledger.check(at(0.0), seen(1.0))
    assert ledger.fits(1, 1)  # 4 + 3 < 10
    clock.now = 106.9
    assert ledger.fits(1, 1)
    clock.now = 107.0
    assert not ledger.fits(1, 1)


def test_products_are_afforded_at_the_pace_of_those_so_far() -> None:
    clock = Clock()
    ledger = book(clock=clock, max_seconds=10.0)
    ledger.num_products, clock.now = 4, 102.0  # half a second each
    assert ledger.affords(16)
    assert not ledger.affords(17)


@pytest.mark.parametrize("name", ["max_steps", "max_products", "max_seconds"])
def test_a_negative_budget_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must"):
        Budgets(**{name: -1})
    assert Budgets(max_seconds=math.inf).max_seconds == math.inf


def test_terms_check_what_they_are_given() -> None:
    for name in ("rtol", "atol", "error_rtol", "gap_rtol", "gap_atol"):
        with pytest.raises(ValueError, match=f"`{name}` must"):
            Terms(**{name: -1.0})
    with pytest.raises(TypeError, match="`callback` must"):
        Terms(callback=3)  # type: ignore[arg-type]
    ledger = Terms().ledger(np.zeros((3, 2)), Clock())
    assert (ledger.is_batch, ledger.active.tolist()) == (True, [0, 1, 2])
    assert ledger.history().iterates is None


# The history.


def test_the_history_has_every_look_with_its_time_and_products() -> None:
    clock = Clock()
    ledger = book(2, clock)
    for step, sizes in enumerate(([4.0, 5.0], [2.0, 3.0])):
        clock.now += 0.5
        ledger.num_steps, ledger.num_products = 3 * step, 7 * step
        ledger.check(at(step, 2), seen(*sizes, met=[False, step == 1], gaps=np.array(sizes) / 2))
    ledger.num_steps, ledger.num_products = 5, 20
    ledger.note(np.array([1.0]))  # carried along, for the row that is left
    ledger.num_products = 22  # spent on a diagnosis after the last look
    history = ledger.history()
    assert history.num_steps.tolist() == [0, 3, 5]
    assert history.num_products.tolist() == [0, 7, 22]
    assert history.seconds.tolist() == [0.5, 1.0, 1.0]
    assert history.gradient_norms.tolist() == [[4.0, 5.0], [2.0, 3.0], [1.0, 3.0]]
    assert history.gaps.tolist() == [[2.0, 2.5], [1.0, 1.5], [1.0, 1.5]]
    assert ledger.last.tolist() == [2.0, 3.0]
    dtypes = (history.num_steps.dtype, history.num_products.dtype, history.seconds.dtype)
    assert dtypes == (np.int64, np.int64, np.float64)


def test_the_smallest_gap_of_each_row_is_remembered() -> None:
    ledger = book()
    for gap in (3.0, 1.0, math.nan, 2.0):
        ledger.check(at(0.0), seen(1.0, gaps=np.array([gap])))
    assert ledger.least_gaps.tolist() == [1.0]
    assert ledger.gaps.tolist() == [2.0]


def test_a_run_that_saw_nothing_has_an_empty_history() -> None:
    for num_rows, shape in ((None, (0,)), (3, (0, 3))):
        history = book(num_rows).history()
        assert history.gradient_norms.shape == shape
        assert history.num_steps.size == history.seconds.size == 0
        assert history.gaps is None


def test_kept_iterates_have_every_row_at_every_look() -> None:
    ledger = Ledger(np.zeros((2, 2)), 2, Budgets(), keep_iterates=True, clock=Clock())
    ledger.check(at(1.0, 2), seen(1.0, 1.0, met=[True, False]))
    ledger.check(at(2.0, 1), seen(0.5))
    iterates = ledger.history().iterates
    assert [iterate[:, 0].tolist() for iterate in iterates] == [[1.0, 1.0], [1.0, 2.0]]
