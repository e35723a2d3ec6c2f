"""Batches of fixed points: each row has its own tolerance and its own end."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from stepfold import Schedule, SpectralBounds, Status, accelerate

SIZE = 40
KAPPAS = (3.0, 100.0, 20.0)


def _spectra() -> np.ndarray:
    return np.stack([np.geomspace(1 / kappa, 1.0, SIZE) for kappa in KAPPAS])


def _map(x: Any) -> Any:
    """Rows of their own spectra, all with the fixed point 1."""
    spectra = _spectra() if isinstance(x, np.ndarray) else torch.tensor(_spectra())
    return x - spectra * (x - 1)


SCALES = np.array([[1e6], [1.0], [1e-6]])
START = 1 + SCALES * np.random.default_rng(0).standard_normal((3, SIZE))
RTOL = 1e-8  # accelerate's own


def _sizes(x: Any) -> np.ndarray:
    sizes: np.ndarray = np.linalg.norm(np.asarray(_map(x) - x), axis=1)
    return sizes


def _assert_all_rows_are_done(x: np.ndarray) -> None:
    """Each row's residual meets its tolerance, and its error what follows from that.

    How many steps that takes, and where inside the tolerance a run ends, hangs on rounding.
    """
    first = RTOL * _sizes(START) * (1 + 1e-6)
    assert (_sizes(x) <= first).all()
    assert (np.linalg.norm(x - 1, axis=1) <= KAPPAS * first).all()


@pytest.mark.parametrize("options", [{}, {"bounds": SpectralBounds(0.01, 1.0), "period": 16}])
def test_each_row_meets_its_own_tolerance(options: dict[str, Any]) -> None:
    result = accelerate(_map, START, batch=True, **options)
    assert result.row_statuses == (Status.CONVERGED,) * 3
    _assert_all_rows_are_done(result.x)


def test_one_tolerance_for_all_is_met_when_the_largest_row_has_come_down() -> None:
    together = accelerate(_map, START)
    assert together.converged
    assert (_sizes(together.x) > 1e-6 * _sizes(START))[2]


def test_a_row_that_has_converged_rests_to_the_last_bit() -> None:
    seen: list[np.ndarray] = []
    result = accelerate(_map, START, batch=True, callback=lambda _, x: seen.append(x.copy()))
    ended = result.row_num_steps
    assert len(set(ended)) == 3
    assert max(ended) == result.num_steps == len(seen)
    for row, step in enumerate(ended):
        later = np.stack([x[row] for x in seen[step - 1 :]])
        assert (later == result.x[row]).all()
    assert not (seen[min(ended) - 2] == result.x).all(axis=1).any()


def test_the_history_has_a_column_for_each_row_which_stops_with_it() -> None:
    result = accelerate(_map, START, batch=True)
    norms = result.history.gradient_norms
    assert norms.shape == (len(result.history.num_steps), 3)
    np.testing.assert_allclose(norms[0], _sizes(START))
    np.testing.assert_allclose(norms[-1], _sizes(result.x), rtol=1e-6)
    after = result.history.num_steps >= result.row_num_steps[0]
    assert np.unique(norms[after, 0]).size == 1
    assert json.dumps(result.to_dict())


def test_a_batch_of_one_row_is_the_problem_itself() -> None:
    spectrum = _spectra()[1]

    def function(x: np.ndarray) -> np.ndarray:
        return x - spectrum * (x - 1)

    one = accelerate(function, START[1])
    batch = accelerate(function, START[1:2], batch=True)
    assert batch.row_statuses == (one.status,) == (Status.CONVERGED,)
    assert batch.row_num_steps == (batch.num_steps,)
    assert abs(batch.num_steps - one.num_steps) <= 0.25 * one.num_steps
    size = np.linalg.norm(spectrum * (START[1] - 1))
    assert np.linalg.norm(spectrum * (batch.x[0] - 1)) <= RTOL * size * (1 + 1e-6)


def test_rows_cost_no_more_than_the_slowest_of_them_and_a_half() -> None:
    def alone(row: int) -> int:
        spectrum = _spectra()[row]
        result = accelerate(lambda x: x - spectrum * (x - 1), START[row])
        return int(result.history.num_products[-1])

    batch = accelerate(_map, START, batch=True)
    assert batch.history.num_products[-1] <= 1.5 * max(alone(row) for row in range(3))


@pytest.mark.parametrize(
    "wild", [lambda x: 3 * x + 1, lambda x: x * np.where(abs(x) < 2, 2, np.nan)]
)
def test_a_row_that_diverges_leaves_the_others_alone(wild: Any) -> None:
    def function(x: np.ndarray) -> np.ndarray:
        return np.stack([wild(x[0]), np.cos(x[1]), x[2] / 2 + 1])

    start = np.ones((3, 4))
    result = accelerate(function, start, batch=True, rtol=1e-10)
    ends = (Status.DIVERGED, Status.CONVERGED, Status.CONVERGED)
    assert (result.status, result.row_statuses) == (Status.DIVERGED, ends)
    np.testing.assert_allclose(result.x[1:], [[0.7390851332] * 4, [2.0] * 4], atol=1e-8)
    assert np.isfinite(result.x).all()


def test_a_row_without_a_fixed_point_spends_the_budget_alone() -> None:
    def function(x: np.ndarray) -> np.ndarray:
        return np.stack([x[0] + 1, x[1] / 2 + 1])

    result = accelerate(function, np.zeros((2, 3)), batch=True, max_products=1000)
    assert result.row_statuses == (Status.BUDGET, Status.CONVERGED)
    assert "no fixed point" in result.advice
    assert result.row_num_steps[1] < 50


def test_a_budget_ends_the_rows_that_are_left_with_their_best() -> None:
    result = accelerate(_map, START, batch=True, max_products=30)
    assert result.row_statuses == (Status.CONVERGED, Status.BUDGET, Status.BUDGET)
    assert (_sizes(result.x) <= result.history.gradient_norms.min(axis=0) * (1 + 1e-6)).all()


@pytest.mark.parametrize("at", [1, 2, 25])
def test_an_interrupt_keeps_what_has_converged(at: int) -> None:
    calls: list[int] = []

    def interrupted(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        image: np.ndarray = _map(x)
        return image

    result = accelerate(interrupted, START, batch=True)
    first = Status.CONVERGED if at == 25 else Status.INTERRUPTED
    assert result.row_statuses == (first, Status.INTERRUPTED, Status.INTERRUPTED)
    assert result.status is Status.INTERRUPTED
    assert result.history.gradient_norms.shape[1] == 3


def test_rows_that_start_at_their_fixed_points_take_no_step() -> None:
    start = START.copy()
    start[1] = 1.0
    result = accelerate(_map, start, batch=True)
    assert result.converged
    assert result.row_num_steps[1] == 0
    assert (result.x[1] == 1.0).all()


def test_every_number_of_an_array_may_be_a_problem() -> None:
    start = np.linspace(-3, 3, 101)
    result = accelerate(np.cos, start, batch=True, rtol=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, 0.7390851332, atol=1e-8)
    assert len(result.row_num_steps) == 101


@pytest.mark.parametrize("shape", [(3, SIZE), (3, 5, 8)])
def test_rows_of_any_shape_and_tensors_end_alike(shape: tuple[int, ...]) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = _map(x.reshape(3, SIZE)).reshape(shape)
        return image

    expected = accelerate(_map, START, batch=True)
    result = accelerate(function, torch.tensor(START).reshape(shape), batch=True)
    assert result.row_statuses == expected.row_statuses == (Status.CONVERGED,) * 3
    assert result.x.shape == shape
    _assert_all_rows_are_done(result.x.reshape(3, SIZE).numpy())


def test_complex_rows_are_a_batch_too() -> None:
    turns = np.stack([0.9j * np.linspace(0, 1, 20), 0.3j * np.linspace(0, 1, 20)])
    result = accelerate(lambda x: turns * x + 1, np.zeros((2, 20), dtype=complex), batch=True)
    assert result.converged
    np.testing.assert_allclose(result.x, 1 / (1 - turns), atol=1e-7)


def test_without_a_guard_rows_rest_as_well() -> None:
    result = accelerate(_map, START, batch=True, schedule=Schedule([1.0]), guard=False)
    assert result.converged
    assert result.row_num_steps[0] < result.row_num_steps[2] < result.row_num_steps[1]


def test_a_single_number_is_no_batch() -> None:
    with pytest.raises(ValueError, match="`batch=True` needs an `x0` with an axis of rows"):
        accelerate(np.cos, 1.0, batch=True)  # type: ignore[arg-type]
