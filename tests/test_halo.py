"""Unknowns shared out among processes: threads stand for them, and two processes of gloo."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from _groups import together

from stepfold import Schedule, Status, chebyshev_steps, estimate_bounds, solve
from stepfold.distributed import Group, Layout, ShardedQuadratic, gathered


def line(size: int) -> Any:
    off: Any = -np.ones(size - 1)
    diagonals: Any = [2 * np.ones(size), off, off]
    return scipy.sparse.diags_array(diagonals, offsets=[0, 1, -1]).tocsr()


def plane(size: int) -> Any:
    eye = scipy.sparse.eye_array(size)
    return (scipy.sparse.kron(line(size), eye) + scipy.sparse.kron(eye, line(size))).tocsr()


def space(size: int) -> Any:
    eye, square = scipy.sparse.eye_array(size), scipy.sparse.eye_array(size**2)
    return (scipy.sparse.kron(plane(size), eye) + scipy.sparse.kron(square, line(size))).tocsr()


def graph(size: int) -> Any:
    """A Laplacian of a random graph, plus 0.1."""
    rng = np.random.default_rng(3)
    ends = rng.integers(0, size, (2, 4 * size))
    edges: Any = scipy.sparse.coo_array((np.ones(4 * size), (ends[0], ends[1])), (size, size))
    edges = (edges + edges.T).tocsr()
    edges.setdiag(0)
    degrees = scipy.sparse.diags_array(np.asarray(edges.sum(axis=1)) + 0.1)
    return (degrees - edges).tocsr()


MATRICES = {"plane": plane(15), "space": space(6), "graph": graph(150)}


def answers(found: list[Any]) -> list[Any]:
    for one in found:
        if isinstance(one, Exception):
            raise one
    return found


def posed(group: Group, matrix: Any, rhs: Any, owners: Any = None) -> ShardedQuadratic:
    layout = Layout.even(matrix.shape[0], group) if owners is None else Layout(owners, group.rank)
    return ShardedQuadratic(matrix[layout.own], rhs[..., layout.own], layout, group)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("known", [False, True], ids=["automatic", "known steps"])
@pytest.mark.parametrize("name", MATRICES)
def test_three_processes_find_the_solution_of_a_direct_method(
    name: str, known: bool, dtype: str
) -> None:
    matrix = MATRICES[name].astype(dtype)
    size = matrix.shape[0]
    rng = np.random.default_rng(1)
    rhs, owners = rng.standard_normal(size).astype(dtype), rng.integers(0, 3, size)

    def program(group: Group) -> Any:
        problem = posed(group, matrix, rhs, owners)
        schedule = None
        if known:
            bounds = replace(estimate_bounds(problem), lower=0.05)
            schedule = chebyshev_steps(bounds, 16)
        result = solve(problem, schedule)
        return result, gathered(result.x)

    found = answers(together(3, program))
    solution = scipy.sparse.linalg.spsolve(MATRICES[name].tocsc(), rhs.astype(float))
    for result, x in found:
        assert result.status is Status.CONVERGED
        assert x.dtype == dtype
        residual = np.linalg.norm(matrix @ x - rhs)
        assert residual <= (1.1e-8 if dtype == "float64" else 1.5e-4) * np.linalg.norm(rhs)
        assert np.linalg.norm(x - solution) <= 1e-3 * np.linalg.norm(solution)
        assert result.num_steps == found[0][0].num_steps
        assert result.bounds == found[0][0].bounds
        np.testing.assert_array_equal(x, found[0][1])
        np.testing.assert_array_equal(
            result.history.gradient_norms, found[0][0].history.gradient_norms
        )


def test_bounds_are_those_of_one_process_and_contain_the_spectrum() -> None:
    matrix = MATRICES["plane"]
    eigenvalues = np.linalg.eigvalsh(matrix.toarray())

    def program(group: Group) -> Any:
        return estimate_bounds(posed(group, matrix, np.ones(225)))

    (one,) = answers(together(1, program))
    for bounds in answers(together(3, program)):
        assert bounds.lower <= eigenvalues[0]
        assert eigenvalues[-1] <= bounds.upper <= 8.0
        np.testing.assert_allclose(bounds.reached_upper, one.reached_upper, rtol=1e-10)


def test_a_period_of_known_steps_takes_no_sum() -> None:
    matrix = MATRICES["plane"]

    def program(group: Group) -> Any:
        problem = posed(group, matrix, np.ones(225))
        sums = []

        def watch(t: int, x: Any) -> None:
            sums.append(problem.exchange.num_sums)

        solve(problem, Schedule(np.full(32, 0.2), "constant"), max_steps=64, callback=watch)
        return sums

    for sums in answers(together(2, program)):
        assert sums[:32] == [sums[0]] * 32
        assert sums[32:] == [sums[32]] * 32
        assert 1 <= sums[32] - sums[31] <= 2


def test_rows_with_unknown_columns_are_refused_on_all_processes_with_the_rank() -> None:
    def program(group: Group) -> Any:
        layout = Layout.even(10, group)
        rows = line(10)[layout.own] if group.rank == 0 else line(10)[layout.own][:, :9]
        return ShardedQuadratic(rows, np.ones(5), layout, group)

    for found in together(2, program):
        assert isinstance(found, ValueError)
        assert "process 1 of 2: `local_rows` must have shape (5, 10)" in str(found)


def test_processes_with_other_layouts_are_refused() -> None:
    def program(group: Group) -> Any:
        owners = np.array([0, 1, 0, 1]) if group.rank == 0 else np.array([0, 0, 1, 1])
        layout = Layout(owners, group.rank)
        return ShardedQuadratic(line(4)[layout.own], np.ones(2), layout, group)

    for found in together(2, program):
        assert isinstance(found, ValueError)
        assert "`layout` must be the same on all processes" in str(found)


def test_a_process_without_unknowns_is_refused() -> None:
    with pytest.raises(ValueError, match="none for process 1"):
        Layout(np.zeros(4, int), 1)
