"""Rows shared out among processes: threads stand for them, which exchange in the same way."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from _groups import together

from stepfold import (
    LeastSquares,
    Schedule,
    SpectralBounds,
    Status,
    accelerate,
    chebyshev_steps,
    estimate_bounds,
    plan,
    solve,
)
from stepfold.distributed import (
    Alone,
    Group,
    PeerError,
    ShardedFixedPoint,
    ShardedLeastSquares,
    current_group,
    processes,
)
from stepfold.iterations import BarzilaiBorwein, GradientDescent
from stepfold.problems import Composite, lasso
from stepfold.problems.penalties import L1
from stepfold.solve import Guard

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((203, 40)), RNG.standard_normal(203)
SOLUTION = np.linalg.lstsq(A, B, rcond=None)[0]
MANY = RNG.standard_normal((3, 203))


def mine(group: Group, *arrays: Any) -> list[Any]:
    """This process's rows of matrices, and entries of right-hand sides."""
    rows = np.array_split(np.arange(203), group.size)[group.rank]
    return [a[rows] if a.shape[0] == 203 else a[..., rows] for a in arrays]


def answers(found: list[Any]) -> list[Any]:
    for one in found:
        if isinstance(one, Exception):
            raise one
    return found


def assert_one(results: list[Any]) -> None:
    """The same bits on all processes."""
    first = results[0]
    for other in results[1:]:
        np.testing.assert_array_equal(np.asarray(other.x), np.asarray(first.x))
        assert other.status is first.status
        assert other.bounds == first.bounds
        assert other.num_steps == first.num_steps
        np.testing.assert_array_equal(other.history.gradient_norms, first.history.gradient_norms)
        np.testing.assert_array_equal(other.history.seconds, first.history.seconds)


KINDS = {
    "dense": (A, B),
    "sparse": (scipy.sparse.csr_array(A), B),
    "operator": (scipy.sparse.linalg.aslinearoperator(A), B),
    "single": (A.astype(np.float32), B.astype(np.float32)),
    "batch": (A, MANY),
    "complex": (A + 1j * A[::-1], B + 1j * B[::-1]),
    "torch": (torch.from_numpy(A), torch.from_numpy(B)),
    "torch batch": (torch.from_numpy(A), torch.from_numpy(MANY)),
}


@pytest.mark.parametrize("known", [False, True], ids=["automatic", "known steps"])
@pytest.mark.parametrize("kind", KINDS)
def test_three_processes_have_the_same_bits_and_the_solution_of_one(kind: str, known: bool) -> None:
    matrix, rhs = KINDS[kind]

    def program(group: Group) -> Any:
        rows = np.array_split(np.arange(203), group.size)[group.rank]
        if kind == "operator":
            part: Any = scipy.sparse.linalg.aslinearoperator(A[rows])
        else:
            part = matrix[rows]
        problem = ShardedLeastSquares(part, rhs[..., rows], group)
        schedule = chebyshev_steps(estimate_bounds(problem), 8) if known else None
        return solve(problem, schedule)

    results = answers(together(3, program))
    assert_one(results)
    assert results[0].status is Status.CONVERGED
    dense = A + 1j * A[::-1] if kind == "complex" else A
    expected = np.linalg.lstsq(dense, np.asarray(rhs).T, rcond=None)[0].T
    precision = 1e-3 if kind == "single" else 1e-6
    np.testing.assert_allclose(np.asarray(results[0].x), expected, atol=precision)
    assert results[0].x.dtype == rhs.dtype


def test_known_steps_take_one_sum_each_and_one_for_the_linear_term() -> None:
    schedule = chebyshev_steps(SpectralBounds(50.0, 460.0), 4)

    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, B), group)
        result = solve(problem, schedule, guard=None)
        return result.num_steps, problem.exchange.num_sums

    for num_steps, num_sums in answers(together(2, program)):
        assert num_sums == num_steps + 1


def test_conjugate_gradients_take_one_sum_each_and_two_besides() -> None:
    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, B), group)
        return solve(problem).num_steps, problem.exchange.num_sums

    for num_steps, num_sums in answers(together(2, program)):
        assert num_sums == num_steps + 2  # Aᵀb, and the gradient that is looked at


def test_a_ridge_is_added_once_and_certifies_the_error() -> None:
    ridge = 7.0

    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, B), group, ridge=ridge)
        return solve(problem, error_rtol=1e-6), estimate_bounds(problem)

    result, bounds = answers(together(2, program))[0]
    expected = np.linalg.solve(A.T @ A + ridge * np.eye(40), A.T @ B)
    assert result.converged
    assert np.linalg.norm(result.x - expected) <= 1e-6 * np.linalg.norm(expected)
    eigenvalues = np.linalg.eigvalsh(A.T @ A) + ridge
    assert ridge <= bounds.lower <= eigenvalues[0] * (1 + 1e-12)
    assert eigenvalues[-1] <= bounds.upper * (1 + 1e-12)


def test_a_plan_is_the_same_on_all_processes_and_near_that_of_one() -> None:
    def program(group: Group) -> Any:
        return plan(ShardedLeastSquares(*mine(group, A, B), group), rtol=1e-6)

    found = answers(together(2, program))
    one = plan(LeastSquares(A, B), rtol=1e-6)
    assert found[0].bounds == found[1].bounds
    assert str(found[0]) == str(found[1])
    assert one.bounds.lower * 0.5 <= found[0].bounds.lower <= one.bounds.lower * (1 + 1e-9)


def test_rows_of_a_batch_leave_the_sweep_on_all_processes_at_once() -> None:
    scaled = np.array([1.0, 1.0, 0.0])[:, None] * MANY

    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, scaled), group)
        return solve(problem, chebyshev_steps(estimate_bounds(problem), 4))

    results = answers(together(2, program))
    assert_one(results)
    assert results[0].row_num_steps[2] == 0
    assert results[0].converged


def test_a_lasso_over_processes_has_the_solution_and_the_gap_of_one() -> None:
    weight = 0.3 * abs(A.T @ B).max()

    def program(group: Group) -> Any:
        return solve(
            Composite(ShardedLeastSquares(*mine(group, A, B), group), L1(weight)), gap_rtol=1e-10
        )

    results = answers(together(2, program))
    assert_one(results)
    one = solve(lasso(A, B, weight=weight), gap_rtol=1e-10)
    assert results[0].converged
    np.testing.assert_allclose(results[0].x, one.x, atol=1e-5)
    gap = float(lasso(A, B, weight=weight).gap(results[0].x))
    assert gap <= 1.01e-10 * B @ B / 2


UNLIKE = A * np.geomspace(1, 1e4, 40)
SCALED_KINDS: dict[str, Any] = {
    "dense": np.asarray,
    "sparse": scipy.sparse.csr_array,
    "torch": torch.from_numpy,
}


@pytest.mark.parametrize("kind", SCALED_KINDS)
def test_a_lasso_over_processes_scales_columns_whose_norms_differ(kind: str) -> None:
    def program(group: Group) -> Any:
        rows, entries = mine(group, UNLIKE, B)
        rhs = torch.from_numpy(entries) if kind == "torch" else entries
        problem = ShardedLeastSquares(SCALED_KINDS[kind](rows), rhs, group, ridge=0.5)
        return solve(Composite(problem, L1(1.0)), gap_rtol=1e-6), problem.column_squares()

    found = answers(together(2, program))
    assert_one([result for result, _ in found])
    result, squares = found[0]
    one = solve(lasso(UNLIKE, B, weight=1.0, ridge=0.5), gap_rtol=1e-6)
    assert result.converged
    assert result.num_steps <= 2 * one.num_steps
    np.testing.assert_allclose(np.asarray(result.x), one.x, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.asarray(squares), (UNLIKE**2).sum(0) + 0.5, rtol=1e-12)


def test_columns_are_unknown_to_all_if_they_are_to_one() -> None:
    def program(group: Group) -> Any:
        rows, entries = mine(group, A, MANY)
        part: Any = scipy.sparse.linalg.aslinearoperator(rows) if group.rank == 1 else rows
        return ShardedLeastSquares(part, entries, group).column_squares()

    assert answers(together(3, program)) == [None, None, None]


@pytest.mark.parametrize("condition", [1e4, 1e7])
def test_ill_conditioned_rows_over_processes_meet_the_tolerance(condition: float) -> None:
    rng = np.random.default_rng(3)
    left, _ = np.linalg.qr(rng.standard_normal((203, 20)))
    right, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    steep = (left * np.geomspace(1, 1 / condition, 20)) @ right.T

    def program(group: Group) -> Any:
        return solve(ShardedLeastSquares(*mine(group, steep, B), group), rtol=1e-9)

    results = answers(together(2, program))
    assert_one(results)
    assert results[0].converged
    gradient = steep.T @ (steep @ results[0].x - B)
    assert np.linalg.norm(gradient) <= 1.01e-9 * np.linalg.norm(steep.T @ B)


def test_a_map_whose_terms_lie_on_processes_has_the_fixed_point_of_the_sum() -> None:
    step = 1.0 / np.linalg.eigvalsh(A.T @ A)[-1]

    def program(group: Group) -> Any:
        rows, entries = mine(group, A, B)
        problem = ShardedFixedPoint(
            lambda x: x / group.size + step * (rows.T @ (entries - rows @ x)), group
        )
        return solve(problem, x0=np.zeros(40)), problem.exchange.num_sums

    found = answers(together(2, program))
    assert_one([result for result, _ in found])
    result, num_sums = found[0]
    np.testing.assert_allclose(result.x, SOLUTION, atol=1e-6)
    assert num_sums == result.history.num_products[-1]
    plain = accelerate(lambda x: x + step * (A.T @ (B - A @ x)), np.zeros(40))
    np.testing.assert_allclose(plain.x, result.x, atol=1e-6)


def test_shards_on_disk_are_read_once_a_step_by_their_own_process(tmp_path) -> None:
    for rank, part in enumerate(np.array_split(A, 2)):
        np.save(tmp_path / f"{rank}.npy", part)

    def program(group: Group) -> Any:
        part = np.load(tmp_path / f"{group.rank}.npy", mmap_mode="r")
        problem = ShardedLeastSquares(part, mine(group, B)[0], group, memory=8192)
        result = solve(problem, chebyshev_steps(SpectralBounds(50.0, 460.0), 4))
        return result, problem.local.bytes_read / part.nbytes

    found = answers(together(2, program))
    assert_one([result for result, _ in found])
    np.testing.assert_allclose(found[0][0].x, SOLUTION, atol=1e-6)
    for result, sweeps in found:
        assert sweeps == result.num_steps + 1


def test_a_budget_of_seconds_ends_at_the_same_step_everywhere() -> None:
    steep = A * np.geomspace(1, 1e-4, 40)

    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, steep, B), group)
        schedule = chebyshev_steps(SpectralBounds(1e-7, 500.0), 4)
        return solve(problem, schedule, max_steps=None, max_seconds=0.1, rtol=1e-14)

    results = answers(together(3, program))
    assert_one(results)
    assert results[0].status is Status.BUDGET


class Breaks:
    """A matrix whose products fail from the third on."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix, self.count = matrix, 0
        self.shape, self.dtype = matrix.shape, matrix.dtype

    @property
    def T(self) -> np.ndarray:
        return self.matrix.T

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        self.count += 1
        if self.count > 2:
            raise OSError("the disk is gone")
        return self.matrix @ x


def test_an_error_of_one_process_is_raised_by_all_of_them() -> None:
    def program(group: Group) -> Any:
        rows, entries = mine(group, A, B)
        part = Breaks(rows) if group.rank == 1 else scipy.sparse.linalg.aslinearoperator(rows)
        return solve(ShardedLeastSquares(part, entries, group))

    found = together(3, program)
    assert isinstance(found[1], OSError)
    for other in (found[0], found[2]):
        assert isinstance(other, PeerError)
        assert "process 1 of 3 has failed: OSError: the disk is gone" in str(other)


def test_iterates_that_differ_in_one_bit_are_found_out_at_the_next_sum() -> None:
    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, B), group)
        x = np.ones(40)
        if group.rank == 1:
            x[7] = np.nextafter(1.0, 2.0)
        return problem.gradient(x)

    for found in together(2, program):
        assert isinstance(found, PeerError)
        assert "out of step" in str(found)


def test_processes_that_make_different_products_are_found_out() -> None:
    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, B), group)
        return problem.product(np.ones(40)) if group.rank else problem.gradient(np.ones(40))

    for found in together(2, program):
        assert isinstance(found, PeerError)


BAD = {
    "columns": (
        lambda a, b: (a[:, :-1], b),
        ValueError,
        r"columns.*got 40 on process 0.*39 on process 1",
    ),
    "dtype": (lambda a, b: (a.astype("f"), b.astype("f")), TypeError, r"dtype.*float64 on process"),
    "library": (
        lambda a, b: (torch.from_numpy(a), torch.from_numpy(b)),
        TypeError,
        "library.*got numpy on process 0 and torch on process 1",
    ),
    "empty": (lambda a, b: (a[:0], b[:0]), ValueError, r"process 1 of 2.*at least one row"),
    "batch": (
        lambda a, b: (a, np.stack([b, b])),
        ValueError,
        r"right-hand sides.*None.*2 on process 1",
    ),
    "not finite": (
        lambda a, b: (a, b * np.nan),
        ValueError,
        r"process 1 of 2.*`rhs` must be finite",
    ),
    "lengths": (lambda a, b: (a, b[1:]), ValueError, r"process 1 of 2.*`rhs` must have shape"),
    "no matrix": (lambda a, b: (str(a.shape), b), TypeError, r"process 1 of 2: `operator` must be"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_shards_are_refused_by_all_processes_with_the_rank(what: str) -> None:
    spoil, kind, words = BAD[what]

    def program(group: Group) -> Any:
        rows, entries = mine(group, A, B)
        if group.rank == 1:
            rows, entries = spoil(rows, entries)
        return ShardedLeastSquares(rows, entries, group)

    for found in together(2, program):
        with pytest.raises(kind, match=words):
            raise found


DISAGREE = {
    "rtol": lambda rank: {"rtol": (1e-8, 1e-6)[rank]},
    "schedule": lambda rank: {"schedule": Schedule([0.001 * (1 + rank)])},
    "x0": lambda rank: {"x0": np.full(40, float(rank))},
    "max_steps": lambda rank: {"max_steps": 100 + rank},
    "max_seconds": lambda rank: {"max_seconds": (None, -1.0)[rank]},
}


@pytest.mark.parametrize("name", DISAGREE)
def test_processes_that_ask_for_different_things_are_refused_with_the_argument(name: str) -> None:
    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, B), group)
        return solve(problem, **DISAGREE[name](group.rank))

    for found in together(2, program):
        with pytest.raises(ValueError, match=rf"`{name}` must be the same.*process 0.*process 1"):
            raise found


def test_ridges_that_differ_are_refused() -> None:
    def program(group: Group) -> Any:
        return ShardedLeastSquares(*mine(group, A, B), group, ridge=float(group.rank))

    for found in together(2, program):
        with pytest.raises(ValueError, match=r"`ridge`.*0\.0 on process 0 and 1\.0 on process 1"):
            raise found


def test_what_is_no_group_is_refused() -> None:
    with pytest.raises(TypeError, match="`group` must be a Group or None, got int"):
        ShardedLeastSquares(A, B, 2)  # type: ignore[arg-type]


def test_one_process_without_torchrun_is_a_group_of_its_own() -> None:
    with processes() as group:
        assert isinstance(group, Alone)
    assert current_group().size == 1
    result = solve(ShardedLeastSquares(A, B))
    np.testing.assert_allclose(result.x, SOLUTION, atol=1e-6)


SETTINGS = {
    "iteration": (GradientDescent, BarzilaiBorwein),
    "guard": (
        lambda: Guard(rebuild=lambda bounds, period: chebyshev_steps(bounds, period)),
        lambda: Guard(max_events=3),
    ),
    "schedule": (
        lambda: Schedule([0.1], bounds=SpectralBounds(1.0, 2.0)),
        lambda: Schedule([0.1], bounds=SpectralBounds(1.0, 3.0)),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_alike_by_what_they_hold_and_not_by_their_place_in_memory(name: str) -> None:
    make, other = SETTINGS[name]

    def program(group: Group) -> Any:
        problem = ShardedLeastSquares(*mine(group, A, B), group)
        problem.agree(**{name: make()})
        problem.agree(**{name: (make, other)[group.rank]()})

    for found in together(2, program):
        with pytest.raises(ValueError, match=rf"`{name}` must be the same.*process 0.*process 1"):
            raise found
