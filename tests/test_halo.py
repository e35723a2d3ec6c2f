"""Unknowns shared out among processes: threads stand for them, and two processes of gloo."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from _groups import together

from stepfold import (
    Quadratic,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    estimate_bounds,
    plan,
    solve,
)
from stepfold.distributed import (
    Group,
    Layout,
    ShardedLeastSquares,
    ShardedQuadratic,
    gathered,
)
from stepfold.distributed.scale import (
    METHODS,
    Costs,
    HaloWork,
    RowsWork,
    break_even,
    measured_costs,
)


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


def posed(
    group: Group, matrix: Any, rhs: Any, owners: Any = None, depth: int = 1
) -> ShardedQuadratic:
    layout = Layout.even(matrix.shape[0], group) if owners is None else Layout(owners, group.rank)
    return ShardedQuadratic(matrix[layout.own], rhs[..., layout.own], layout, group, depth=depth)


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
        assert sums[32] - sums[31] == 1


def test_conjugate_gradients_take_one_sum_a_step() -> None:
    matrix = MATRICES["plane"]

    def program(group: Group) -> Any:
        problem = posed(group, matrix, np.random.default_rng(0).standard_normal(225))
        sums = []

        def watch(t: int, x: Any) -> None:
            sums.append(problem.exchange.num_sums)

        result = solve(problem, callback=watch, rtol=1e-8)
        return np.diff(sums), result

    for sums, result in answers(together(2, program)):
        assert result.status is Status.CONVERGED
        assert sums.size < 63  # so that no look is due but the last
        np.testing.assert_array_equal(sums, 1)


@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "three"])
@pytest.mark.parametrize("size", [60, 400])
def test_one_sum_a_step_costs_no_accuracy_beside_one_process_with_two(
    size: int, batch: tuple[int, ...]
) -> None:
    matrix = (line(size) + 1e-4 * scipy.sparse.eye_array(size)).tocsr()
    rhs = np.random.default_rng(6).standard_normal((*batch, size))
    alone = solve(Quadratic(matrix, rhs), rtol=1e-10)

    def program(group: Group) -> Any:
        result = solve(posed(group, matrix, rhs), rtol=1e-10)
        return result, gathered(result.x)

    for result, x in answers(together(2, program)):
        assert result.status is alone.status is Status.CONVERGED
        assert result.num_steps <= 1.05 * alone.num_steps + 1
        left = np.linalg.norm(x @ matrix.toarray() - rhs, axis=-1)
        assert (left <= 1.01e-10 * np.linalg.norm(rhs, axis=-1)).all()


def test_a_sum_that_cannot_be_predicted_is_made() -> None:
    # Of two eigenvalues the second step ends at rounding, where what is predicted has no digit.
    matrix = scipy.sparse.diags_array(np.repeat([1.0, 3.0], 20)).tocsr()

    def program(group: Group) -> Any:
        result = solve(posed(group, matrix, np.arange(1.0, 41.0)), rtol=1e-14)
        return result, gathered(result.x)

    for result, x in answers(together(2, program)):
        assert result.num_steps <= 3
        np.testing.assert_allclose(x, np.arange(1.0, 41.0) / matrix.diagonal(), rtol=1e-13)


class Counted(Group):
    """A group that counts exchanges of messages."""

    def __init__(self, inner: Group) -> None:
        self.rank, self.size, self.inner, self.swaps = inner.rank, inner.size, inner, 0

    def sum(self, values: Any) -> Any:
        return self.inner.sum(values)

    def gather(self, value: Any) -> list[Any]:
        return self.inner.gather(value)

    def broadcast(self, value: Any) -> Any:
        return self.inner.broadcast(value)

    def swap(self, outgoing: Any, incoming: Any) -> Any:
        self.swaps += 1
        return self.inner.swap(outgoing, incoming)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "two"])
@pytest.mark.parametrize("depth", [2, 5, 10**9])
@pytest.mark.parametrize("name", MATRICES)
def test_a_deep_halo_makes_the_same_steps_with_one_exchange_for_several(
    name: str, depth: int, batch: tuple[int, ...], dtype: str
) -> None:
    matrix = MATRICES[name].astype(dtype)
    size = matrix.shape[0]
    rng = np.random.default_rng(8)
    rhs, owners = rng.standard_normal((*batch, size)).astype(dtype), rng.integers(0, 3, size)
    upper = float(abs(matrix).sum(axis=1).max())
    schedule = chebyshev_steps(SpectralBounds(0.02 * upper, upper), 16)

    def program(inner: Group) -> Any:
        group = Counted(inner)
        problem = posed(group, matrix, rhs, owners, depth)
        x = problem.spread(np.zeros((*batch, problem.layout.own.size), dtype))
        before = group.swaps
        for gamma in schedule:
            x = problem.gradient_step(x, gamma)
        return gathered(x), group.swaps - before

    x = np.zeros_like(rhs)
    for gamma in schedule.steps:
        x = (x - gamma * ((matrix @ x.T).T - rhs)).astype(dtype)
    eps = np.finfo(dtype).eps
    for found, swaps in answers(together(3, program)):
        np.testing.assert_allclose(found, x, atol=2e3 * eps * abs(x).max())
        assert swaps == max(1, -(-16 // depth))


def test_a_vector_that_was_written_to_is_sent_anew() -> None:
    def program(group: Group) -> Any:
        problem = posed(group, line(12), np.ones(12), depth=4)
        x = problem.gradient_step(problem.spread(np.zeros(problem.layout.own.size)), 0.1)
        x[:] = np.zeros(problem.layout.own.size)
        return gathered(problem.gradient_step(x, 0.1))

    for found in answers(together(2, program)):
        np.testing.assert_allclose(found, 0.1)


def test_solve_finds_the_solution_over_deep_halos_in_any_units() -> None:
    matrix = 1e-12 * MATRICES["plane"]
    rhs = 1e9 * np.random.default_rng(9).standard_normal((2, 225))
    expected = scipy.sparse.linalg.spsolve(matrix.tocsc(), rhs.T).T

    def program(group: Group) -> Any:
        problem = posed(group, matrix, rhs, depth=3)
        bounds = SpectralBounds(0.07e-12, 8e-12)
        return gathered(solve(problem, chebyshev_steps(bounds, 32), rtol=1e-10).x)

    for x in answers(together(2, program)):
        np.testing.assert_allclose(x, expected, atol=1e-7 * abs(expected).max())


def test_depths_that_differ_are_refused_on_all_processes() -> None:
    def program(group: Group) -> Any:
        return posed(group, line(8), np.ones(8), depth=1 + group.rank)

    for found in together(2, program):
        assert isinstance(found, ValueError)
        assert "`depth` must be the same on all processes, got 1 on process 0" in str(found)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "two"])
def test_a_compiled_sweep_gives_what_products_by_scipy_give(
    batch: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepfold.kernels.base.worth_loading", lambda _: True)
    monkeypatch.setattr("stepfold.kernels.SMALLEST_SPARSE", 0)
    matrix = plane(60).astype(dtype)
    rng = np.random.default_rng(7)
    rhs, x = (rng.standard_normal((*batch, 3600)).astype(dtype) for _ in range(2))

    def program(group: Group) -> Any:
        problem = posed(group, matrix, rhs)
        start = problem.spread(x[..., problem.layout.own])
        made = problem.gradient(start), problem.gradient_step(start, 0.1), problem.product(start)
        return problem.kernel, [gathered(one) for one in made]

    image = (matrix @ x.T).T
    eps = np.finfo(dtype).eps
    for kernel, made in answers(together(2, program)):
        if kernel is None:
            pytest.skip("there is no compiler")
        for one, expected in zip(made, (image - rhs, x - 0.1 * (image - rhs), image), strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, expected, atol=50 * eps)


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


@pytest.mark.parametrize("known", [False, True], ids=["automatic", "known steps"])
def test_many_right_hand_sides_are_solved_together(known: bool) -> None:
    matrix = MATRICES["plane"]
    rhs = np.random.default_rng(2).standard_normal((3, 225))

    def program(group: Group) -> Any:
        problem = posed(group, matrix, rhs)
        schedule = chebyshev_steps(SpectralBounds(0.07, 8.0), 32) if known else None
        return gathered(solve(problem, schedule).x)

    expected = scipy.sparse.linalg.spsolve(matrix.tocsc(), rhs.T).T
    for x in answers(together(2, program)):
        np.testing.assert_allclose(x, expected, atol=1e-5)


def test_wrong_bounds_are_found_out_alike_on_all_processes() -> None:
    matrix = MATRICES["plane"]

    def program(group: Group) -> Any:
        problem = posed(group, matrix, np.ones(225))
        return solve(problem, chebyshev_steps(SpectralBounds(0.07, 4.0), 16))

    first, *others = answers(together(3, program))
    assert first.status is Status.CONVERGED
    assert first.events
    assert all(other.events == first.events for other in others)


def test_a_matrix_that_is_not_symmetric_is_refused_by_the_bounds() -> None:
    matrix = scipy.sparse.csr_array(np.triu(np.ones((40, 40))))

    def program(group: Group) -> Any:
        return estimate_bounds(posed(group, matrix, np.ones(40)))

    for found in together(2, program):
        assert isinstance(found, ValueError)
        assert "must be symmetric" in str(found)


def test_a_start_that_is_not_spread_is_refused() -> None:
    def program(group: Group) -> Any:
        return solve(posed(group, line(10), np.ones(10)), x0=np.ones(10))

    for found in together(2, program):
        assert isinstance(found, TypeError)
        assert "`problem.spread(local_x0)`" in str(found)


def test_from_the_solution_no_step_is_taken() -> None:
    matrix, rhs = MATRICES["space"], np.ones(216)
    solution = scipy.sparse.linalg.spsolve(matrix.tocsc(), rhs)

    def program(group: Group) -> Any:
        problem = posed(group, matrix, rhs)
        return solve(problem, x0=problem.spread(solution[problem.layout.own]))

    for result in answers(together(2, program)):
        assert result.status is Status.CONVERGED
        assert result.num_steps == 0


def test_the_halo_is_what_the_rows_touch_and_others_own() -> None:
    matrix = MATRICES["graph"]
    owners = np.random.default_rng(4).integers(0, 3, 150)

    def program(group: Group) -> Any:
        problem = posed(group, matrix, np.ones(150), owners)
        return set(problem.halo.numbers.tolist())

    for rank, found in enumerate(answers(together(3, program))):
        columns = np.unique(matrix[np.flatnonzero(owners == rank)].nonzero()[1])
        assert found == {int(column) for column in columns if owners[column] != rank}


def test_metis_gives_every_process_unknowns_and_fewer_neighbours_than_chance() -> None:
    pytest.importorskip("pymetis")
    matrix = MATRICES["plane"]

    def program(group: Group) -> Any:
        layout = Layout.by_metis(matrix if group.rank == 0 else None, group)
        return layout.own.size, posed(group, matrix, np.ones(225), layout.owners).halo.numbers.size

    found = answers(together(3, program))
    assert sum(size for size, _ in found) == 225
    assert (
        max(halo for _, halo in found) < 45
    )  # three slabs have up to 30 each; at random about 150


def test_a_plan_says_what_sums_mean() -> None:
    rows = ShardedLeastSquares(np.random.default_rng(0).standard_normal((60, 20)), np.ones(60))
    assert "x is on every process" in plan(rows).advice[0]
    unknowns = ShardedQuadratic(MATRICES["plane"], np.ones(225))
    assert "no sum over the processes inside a period" in plan(unknowns).advice[0]


COSTS = Costs(1e-9, 1e-10, latency=2e-6, per_byte=1e-10, step=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_on_one_process_a_step_is_its_products_and_passes(method: str) -> None:
    passes, _, _ = METHODS[method]
    expected = 1e-9 * 500 + passes * 1e-10 * 100 + 1e-6
    assert HaloWork(100, 500).step_seconds(COSTS, 1, method) == pytest.approx(expected)
    assert RowsWork(100, 500).step_seconds(COSTS, 1, method) == pytest.approx(expected)


def test_where_sums_rule_a_step_takes_as_many_as_its_method_has() -> None:
    slow_sums = Costs(0.0, 0.0, latency=0.0, per_byte=0.0, sum_latency=1.0)
    work = HaloWork(10**6, 5 * 10**6)
    seconds = [work.step_seconds(slow_sums, 1024, method, period=20) for method in METHODS]
    np.testing.assert_allclose(seconds, [1 / 20 * 10, 20, 10, 10])
    assert break_even(work, slow_sums, 1024, "textbook conjugate gradients", 20) == 40


def test_a_depth_divides_the_latency_of_messages_and_multiplies_rows() -> None:
    slow_messages = Costs(0.0, 0.0, latency=1.0, per_byte=0.0, sum_latency=0.0)
    slow_products = Costs(1.0, 0.0, latency=0.0, per_byte=0.0)
    flat, deep = (HaloWork(10**6, 5 * 10**6, 2, depth) for depth in (1, 8))
    assert flat.step_seconds(slow_messages, 100, "known steps") == 4
    assert deep.step_seconds(slow_messages, 100, "known steps") == pytest.approx(4 / 8)
    assert deep.step_seconds(slow_messages, 100, "fused conjugate gradients") == 4
    # A square of 100 × 100 unknowns with seven lines more on each of its sides.
    ratio = deep.step_seconds(slow_products, 100, "known steps") / 50_000
    assert ratio == pytest.approx((10_000 + 4 * 7 * 100) / 10_000)


def test_with_x_everywhere_no_method_saves_a_sum() -> None:
    only_network = Costs(0.0, 0.0, latency=1e-5, per_byte=1e-9)
    work = RowsWork(10**5, 10**7)
    assert len({work.step_seconds(only_network, 64, method) for method in METHODS}) == 1


def test_measured_costs_are_the_same_on_all_processes() -> None:
    found = answers(together(2, lambda group: measured_costs(group, 0.1)))
    assert found[0] == found[1]
    assert found[0].latency > 0


def test_one_process_must_be_told_of_its_network() -> None:
    (found,) = together(1, measured_costs)
    assert isinstance(found, ValueError)
    assert "`latency` must be given" in str(found)


def test_more_processes_than_unknowns_are_refused() -> None:
    with pytest.raises(ValueError, match="at most the number of unknowns, 5, got 6"):
        HaloWork(5, 5).step_seconds(COSTS, 6, "known steps")
