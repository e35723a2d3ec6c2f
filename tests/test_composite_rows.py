"""Batches of composite objectives: how each row ends."""

import numpy as np

from stepfold import Schedule, Status, lasso, solve_composite
from stepfold.iterations import ProximalGradient


def _sparse_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((50, 80))
    return matrix, matrix[:, :5] @ np.ones(5) + 0.1 * rng.standard_normal(50)


def test_each_row_tells_how_it_ended_and_after_how_many_steps() -> None:
    matrix, rhs = _sparse_data()
    batch = np.stack([rhs, 0 * rhs, 0.1 * rhs])
    schedule = Schedule(np.full(10, lasso(matrix, rhs, weight=5.0).step))
    result = solve_composite(lasso(matrix, batch, weight=5.0), schedule, gap_atol=1e-9)
    assert result.row_statuses == (Status.CONVERGED,) * 3
    alone = [
        solve_composite(lasso(matrix, row, weight=5.0), schedule, gap_atol=1e-9) for row in batch
    ]
    assert result.row_num_steps == tuple(one.num_steps for one in alone)
    assert (result.row_num_steps[1], max(result.row_num_steps)) == (0, result.num_steps)
    assert (alone[0].row_statuses, alone[0].row_num_steps) == ((), ())


def test_a_row_that_is_left_ends_as_the_run_does() -> None:
    matrix, rhs = _sparse_data()
    objective = lasso(matrix, np.stack([rhs, 0 * rhs]), weight=5.0)
    short = solve_composite(objective, gap_atol=1e-9, max_steps=20)
    assert short.row_statuses == (Status.BUDGET, Status.CONVERGED)
    assert short.row_num_steps == (20, 0)
    schedule = Schedule(np.full(5, 3 * objective.step))
    wild = solve_composite(objective, schedule, iteration=ProximalGradient)
    assert (wild.status, wild.row_statuses[0]) == (Status.DIVERGED, Status.DIVERGED)
