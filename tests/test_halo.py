"""Unknowns shared out among processes: threads stand for them, and two processes of gloo."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from _groups import together

from stepfold import Quadratic, Schedule, SpectralBounds, Status, chebyshev_steps, estimate_bounds, solve
from stepfold.distributed import Group, Layout, ShardedQuadratic, gathered


def line(size: int) -> Any:
    off = -np.ones(size - 1)
    return scipy.sparse.diags_array([2 * np.ones(size), off, off], offsets=[0, 1, -1]).tocsr()


def plane(size: int) -> Any:
    eye = scipy.sparse.eye_array(size)
    return (scipy.sparse.kron(line(size), eye) + scipy.sparse.kron(eye, line(size))).tocsr()


def space(size: int) -> Any:
    eye = scipy.sparse.eye_array(size)
    return (scipy.sparse.kron(plane(size), eye) + scipy.sparse.kron(scipy.sparse.eye_array(size**2), line(size))).tocsr()


def graph(size: int) -> Any:
    """A Laplacian of a random graph, plus 0.1."""
    rng = np.random.default_rng(3)
    ends = rng.integers(0, size, (2, 4 * size))
    edges = scipy.sparse.coo_array((np.ones(4 * size), (ends[0], ends[1])), (size, size))
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
def test_three_processes_find_the_solution_of_a_direct_method(name, known, dtype) -> None:
    matrix = MATRICES[name].astype(dtype)
    size = matrix.shape[0]
    rng = np.random.default_rng(1)
    rhs, owners = rng.standard_normal(size).astype(dtype), rng.integers(0, 3, size)

    def program(group: Group) -> Any:
        problem = posed(group, matrix, rhs, owners)
        schedule = chebyshev_steps(estimate_bounds(problem), 16) if known else None
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
