"""Long histories: what is kept of them, and that a run does not notice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stepfold import (
    Quadratic,
    Result,
    Schedule,
    SpectralBounds,
    Status,
    accelerate,
    lasso,
    solve,
)
from stepfold.iterations import heavy_ball
from stepfold.problems import Composite
from stepfold.problems.penalties import ElasticNet
from stepfold.run.thinned import Thinned

LIMIT = 8
EIGENVALUES = np.geomspace(0.01, 1.0, 20)


def _solved() -> Result[Any]:
    problem = Quadratic(np.diag(EIGENVALUES), np.ones(20))
    return solve(problem, Schedule([1.0]), rtol=0.0, max_steps=333, keep_iterates=True)


def _batch_solved() -> Result[Any]:
    problem = Quadratic(np.diag(EIGENVALUES), np.stack([np.ones(20), np.eye(20)[-1]]))
    return solve(problem, Schedule([0.9]), rtol=1e-6, max_steps=333, keep_iterates=True)


def _stalled_with_momentum() -> Result[Any]:
    problem = Quadratic(np.diag(EIGENVALUES), np.ones(20))
    schedule, iteration = heavy_ball(SpectralBounds(0.01, 1.0))
    return solve(problem, schedule, iteration=iteration, rtol=0.0, guard=None)


def _composite_stalled() -> Result[Any]:
    rng = np.random.default_rng(0)
    matrix, rhs = rng.standard_normal((30, 20)), rng.standard_normal(30)
    return solve(lasso(matrix, rhs, weight=2.0), gap_rtol=0.0, gap_atol=1e-300)


def _accelerated() -> Result[Any]:
    return accelerate(lambda x: x - EIGENVALUES * x + 1, np.zeros(20), rtol=1e-12)


RUNS = {
    "solve": _solved,
    "batch": _batch_solved,
    "momentum": _stalled_with_momentum,
    "composite": _composite_stalled,
    "accelerate": _accelerated,
}


@pytest.fixture(params=RUNS)
def results(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[Result[Any], Result[Any]]:
    """One run with everything kept, and the same with little."""
    run: Callable[[], Result[Any]] = RUNS[request.param]
    whole = run()
    monkeypatch.setattr(Thinned, "limit", LIMIT)
    return whole, run()


def test_a_thinned_history_is_a_part_of_the_whole_with_both_ends(
    results: tuple[Result[Any], Result[Any]],
) -> None:
    whole, thin = results[0].history, results[1].history
    kept = np.flatnonzero(np.isin(whole.num_products, thin.num_products))
    assert len(whole.num_steps) > LIMIT + 1
    assert LIMIT // 2 < len(thin.num_steps) == len(kept) <= LIMIT + 1
    assert (kept[0], kept[-1]) == (0, len(whole.num_steps) - 1)
    stride = kept[1]
    np.testing.assert_array_equal(kept[:-1], stride * np.arange(len(kept) - 1))
    assert stride & (stride - 1) == 0
    np.testing.assert_array_equal(whole.gradient_norms[kept], thin.gradient_norms)
    np.testing.assert_array_equal(whole.num_steps[kept], thin.num_steps)
    if whole.gaps is not None:
        np.testing.assert_array_equal(whole.gaps[kept], thin.gaps)
    if whole.iterates is not None:
        np.testing.assert_array_equal(np.stack(whole.iterates)[kept], np.stack(thin.iterates))


def test_a_run_does_not_notice_that_its_history_is_thinned(
    results: tuple[Result[Any], Result[Any]],
) -> None:
    whole, thin = results
    assert (whole.status, whole.num_steps, whole.advice) == (
        thin.status,
        thin.num_steps,
        thin.advice,
    )
    np.testing.assert_array_equal(whole.x, thin.x)


@pytest.mark.parametrize("run", [_stalled_with_momentum, _composite_stalled])
def test_these_runs_are_ended_by_a_share_of_their_checks(run: Callable[[], Result[Any]]) -> None:
    assert run().status is Status.STALLED


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 9, 100])
def test_first_and_last_are_kept_and_no_more_than_the_limit_and_one(limit: int, count: int) -> None:
    numbers: Thinned[int] = Thinned()
    numbers.limit = limit
    for number in range(count):
        numbers.append(number)
    entries = numbers.entries()
    assert numbers.num_seen == count
    assert len(entries) <= limit + 1
    assert entries[:1] + entries[-1:] == [*range(count)][:1] + [*range(count)][-1:]
    assert entries == sorted(set(entries))


def test_a_hundred_thousand_are_kept_whole_and_one_more_halves_them() -> None:
    numbers: Thinned[int] = Thinned()
    for number in range(100_000):
        numbers.append(number)
    assert numbers.entries() == list(range(100_000))
    numbers.append(100_000)
    assert numbers.entries() == list(range(0, 100_001, 2))


@pytest.mark.parametrize(("width", "limit"), [(1, 100_000), (100, 100_000), (1000, 10_000)])
def test_wide_entries_are_bounded_by_their_numbers(width: int, limit: int) -> None:
    numbers: Thinned[int] = Thinned(width)
    for number in range(limit + 1):
        numbers.append(number)
    assert numbers.entries() == list(range(0, limit + 1, 2))


def test_of_the_widest_entries_a_few_are_kept_all_the_same() -> None:
    assert Thinned(10**9).limit == 64


@pytest.mark.parametrize("method", [solve])
def test_the_history_of_a_huge_batch_is_bounded_by_its_numbers(
    monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    monkeypatch.setattr(Thinned, "most_numbers", 1000)
    monkeypatch.setattr(Thinned, "fewest", 4)
    rhs = np.random.default_rng(0).standard_normal((50, 20))
    problem = Quadratic(np.diag(EIGENVALUES), rhs)
    posed = problem if method is solve else Composite(problem, ElasticNet(0.01, 0.01))
    history = method(posed, Schedule([1.0]), rtol=0.0, max_steps=101).history
    numbers = history.gradient_norms.size + (0 if history.gaps is None else history.gaps.size)
    assert 400 <= numbers <= 1100
    assert (history.num_steps[0], history.num_steps[-1]) == (0, 101)
