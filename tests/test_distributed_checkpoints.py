"""Runs that go on after a restart: nothing is lost, nothing is believed that is damaged."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from _groups import together

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    Status,
    chebyshev_steps,
    lasso,
    solve,
)
from stepfold.distributed import (
    Group,
    Layout,
    ShardedFixedPoint,
    ShardedLeastSquares,
    ShardedQuadratic,
    gathered,
    resumable_solve,
)
from stepfold.distributed.checkpoint import _checksum, _content

RNG = np.random.default_rng(1)
A, B = RNG.standard_normal((203, 30)), RNG.standard_normal(203)
SOLUTION = np.linalg.lstsq(A, B, rcond=None)[0]


def record_of(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with np.load(path) as held:
        return held["x"], json.loads(held["record"].item())


class Stopped(Exception):
    """Stands for a process that is killed."""


def test_known_steps_go_on_bit_by_bit_after_a_restart(tmp_path) -> None:
    schedule = chebyshev_steps(SpectralBounds(60.0, 440.0), 4)
    path = tmp_path / "run.npz"

    def program(group: Group, kills: bool) -> Any:
        rows = np.array_split(np.arange(203), group.size)[group.rank]
        problem = ShardedLeastSquares(A[rows], B[rows], group)

        def callback(count: int, x: np.ndarray) -> None:
            if kills and count == 10:
                raise Stopped

        return resumable_solve(
            problem, schedule, checkpoint=path, every=0, rtol=1e-10, callback=callback
        )

    whole = together(2, lambda group: program(group, False))[0]
    assert not path.exists()  # it has converged
    stopped = together(2, lambda group: program(group, True), lost=Stopped)
    assert any(isinstance(one, Stopped) for one in stopped)
    assert path.exists()
    rest = together(2, lambda group: program(group, False))
    for result in rest:
        np.testing.assert_array_equal(result.x, whole.x)
        assert result.num_steps == whole.num_steps - 8
    assert not path.exists()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_goes_on_with_kernels_where_it_had_them(
    tmp_path: Path, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = LeastSquares(np.diag(np.linspace(1.0, 3.0, 20)), np.ones(20))
    loaded: list[None] = []
    monkeypatch.setattr("stepfold.distributed.checkpoint.is_loaded", lambda: compiled)
    monkeypatch.setattr("stepfold.distributed.checkpoint.load", lambda: loaded.append(None))
    schedule = chebyshev_steps(SpectralBounds(1.0, 9.0), 4)
    options: dict[str, Any] = {"checkpoint": tmp_path / "run.npz", "every": 0, "rtol": 1e-12}
    assert not resumable_solve(problem, schedule, max_steps=8, **options).converged
    assert not loaded
    assert resumable_solve(problem, schedule, **options).converged
    assert len(loaded) == compiled


def test_conjugate_gradients_go_on_from_the_iterate_that_was_kept(tmp_path) -> None:
    path, problem = tmp_path / "run.npz", LeastSquares(A, B)
    first = resumable_solve(problem, checkpoint=path, every=0, max_steps=8)
    assert first.status is Status.BUDGET
    second = resumable_solve(problem, checkpoint=path, every=0)
    assert second.converged
    np.testing.assert_allclose(second.x, SOLUTION, atol=1e-6)
    assert second.history.gradient_norms[0] < 0.1 * first.history.gradient_norms[0]


def test_a_checkpoint_that_is_damaged_or_of_another_problem_is_refused(tmp_path) -> None:
    path = tmp_path / "run.npz"
    resumable_solve(LeastSquares(A, B), checkpoint=path, every=0, max_steps=5)
    with pytest.raises(ValueError, match="of another problem"):
        resumable_solve(LeastSquares(A, B + 1), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="not a whole one"):
        resumable_solve(LeastSquares(A, B), checkpoint=path)


def test_rows_may_go_on_with_another_number_of_processes(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"

    def program(group: Group, steps: int) -> Any:
        rows = np.array_split(np.arange(203), group.size)[group.rank]
        problem = ShardedLeastSquares(A[rows], B[rows], group)
        schedule = chebyshev_steps(SpectralBounds(60.0, 440.0), 4)
        return resumable_solve(problem, schedule, checkpoint=path, max_steps=steps, rtol=1e-10)

    for result in together(2, lambda group: program(group, 8)):
        assert result.status is Status.BUDGET
    for result in together(3, lambda group: program(group, 1000)):
        assert result.converged
        np.testing.assert_allclose(result.x, SOLUTION, atol=1e-8)


@pytest.mark.parametrize("known", [False, True], ids=["automatic", "known steps"])
def test_unknowns_that_are_shared_out_go_on_in_another_layout(tmp_path: Path, known: bool) -> None:
    path = tmp_path / "run.npz"
    matrix = scipy.sparse.diags_array([2.2, -1.0, -1.0], offsets=[0, 1, -1], shape=(40, 40)).tocsr()
    schedule = chebyshev_steps(SpectralBounds(0.2, 4.2), 4) if known else None

    def program(group: Group, steps: int) -> Any:
        owners = np.random.default_rng(group.size).permutation(np.arange(40) % group.size)
        layout = Layout(owners, group.rank)
        problem = ShardedQuadratic(matrix[layout.own], B[layout.own], layout, group)
        result = resumable_solve(problem, schedule, checkpoint=path, every=0, max_steps=steps)
        return result, gathered(result.x)

    for result, _ in together(2, lambda group: program(group, 8)):
        assert result.status is Status.BUDGET
    first, record = record_of(path)
    assert record["spent"][0] == 8
    for result, x in together(3, lambda group: program(group, 1000)):
        assert result.converged
        assert result.history.gradient_norms[0] < 0.9 * np.linalg.norm(B[:40])
        np.testing.assert_allclose(x, np.linalg.solve(matrix.toarray(), B[:40]), atol=1e-6)
    assert first.shape == (40,)
    assert not path.exists()


def test_checkpoints_of_conjugate_gradients_hold_bounds(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    held = []

    def callback(count: int, x: np.ndarray) -> None:
        if count == 12:
            held.append(record_of(path)[1])

    resumable_solve(LeastSquares(A, B), checkpoint=path, every=0, callback=callback)
    bounds = SpectralBounds.from_dict(held[0]["bounds"])
    eigenvalues = np.linalg.eigvalsh(A.T @ A)
    assert eigenvalues[0] * 0.1 < bounds.lower
    assert bounds.upper >= 0.9 * eigenvalues[-1]


def test_bounds_of_a_run_that_was_at_its_end_are_not_lost(tmp_path: Path) -> None:
    path, problem = tmp_path / "run.npz", LeastSquares(A, B)
    resumable_solve(problem, checkpoint=path, every=0, rtol=1e-13, max_steps=15)
    known = record_of(path)[1]["bounds"]
    again = resumable_solve(problem, checkpoint=path, rtol=0.5)
    assert again.num_steps == 0
    assert again.bounds == SpectralBounds.from_dict(known)


def test_budgets_go_on_after_a_restart(tmp_path: Path) -> None:
    path, schedule = tmp_path / "run.npz", chebyshev_steps(SpectralBounds(1.0, 500.0), 4)
    problem = LeastSquares(A, B)

    def run(**budgets: Any) -> Any:
        return resumable_solve(problem, schedule, checkpoint=path, rtol=1e-12, **budgets)

    one = solve(problem, schedule, rtol=1e-12, max_products=60)
    first = run(max_products=30)
    second = run(max_products=60)
    assert first.num_steps + second.num_steps in (one.num_steps, one.num_steps - 4)
    third = run(max_products=60)
    assert third.num_steps == 0
    assert third.status is Status.BUDGET
    spent = record_of(path)[1]["spent"]
    assert spent[0] == first.num_steps + second.num_steps
    assert run(max_seconds=spent[2] / 2).num_steps == 0
    assert run(max_steps=spent[0]).num_steps == 0


def test_a_run_whose_budget_ends_before_the_first_writing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    result = resumable_solve(LeastSquares(A, B), checkpoint=path, every=1e6, max_steps=5)
    x, record = record_of(path)
    np.testing.assert_array_equal(x, result.x)
    assert record["spent"][:2] == [5, result.history.num_products[-1]]


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_data_in_other_units_go_on_in_them(tmp_path: Path, dtype: str) -> None:
    path, schedule = tmp_path / "run.npz", chebyshev_steps(SpectralBounds(6e-49, 4.4e-48), 4)
    held, rhs = (1e-25 * A).astype(dtype), (1e-25 * B).astype(dtype)
    problem = ShardedLeastSquares(held, rhs)
    whole = solve(problem, schedule)
    first = resumable_solve(problem, schedule, checkpoint=path, max_steps=8)
    assert first.num_steps == 8
    kept, record = record_of(path)
    np.testing.assert_array_equal(kept, first.x)
    assert Schedule.from_dict(record["schedule"]).bounds == schedule.bounds
    rest = resumable_solve(problem, schedule, checkpoint=path)
    np.testing.assert_array_equal(rest.x, whole.x)
    assert rest.num_steps == whole.num_steps - 8
    other = ShardedLeastSquares(held, 2 * rhs)
    resumable_solve(problem, schedule, checkpoint=path, max_steps=8)
    with pytest.raises(ValueError, match="of another problem"):
        resumable_solve(other, schedule, checkpoint=path)


def test_steps_that_were_changed_since_are_taken(tmp_path: Path) -> None:
    path, problem = tmp_path / "run.npz", LeastSquares(A, B)
    bounds = SpectralBounds(60.0, 440.0)
    resumable_solve(problem, chebyshev_steps(bounds, 4), checkpoint=path, max_steps=4)
    other = chebyshev_steps(bounds, 8)
    assert resumable_solve(problem, other, checkpoint=path, max_steps=12).schedule.period == 8
    assert resumable_solve(problem, checkpoint=path).converged


def test_a_lasso_goes_on_from_its_best_iterate(tmp_path: Path) -> None:
    path, problem = tmp_path / "run.npz", lasso(A, B, weight=20.0)
    first = resumable_solve(problem, checkpoint=path, max_steps=10, rtol=1e-9)
    assert first.status is Status.BUDGET
    second = resumable_solve(problem, checkpoint=path, rtol=1e-9)
    np.testing.assert_allclose(second.x, solve(problem, rtol=1e-9).x, atol=1e-7)


OTHERS = {
    "right-hand side": lambda: Quadratic(np.diag(np.arange(1.0, 9.0)), np.arange(8.0) + 1),
    "matrix": lambda: Quadratic(np.diag(np.arange(2.0, 10.0)), np.arange(8.0)),
    "dtype": lambda: Quadratic(
        np.diag(np.arange(1.0, 9.0)).astype("f"), np.arange(8.0).astype("f")
    ),
    "batch": lambda: Quadratic(np.diag(np.arange(1.0, 9.0)), np.arange(16.0).reshape(2, 8)),
    "ridge": lambda: LeastSquares(np.eye(8), np.arange(8.0), ridge=1.0),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_problem_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run.npz"
    mine = Quadratic(np.diag(np.arange(1.0, 9.0)), np.arange(8.0))
    if what == "ridge":
        mine = LeastSquares(np.eye(8), np.arange(8.0))  # type: ignore[assignment]
    resumable_solve(mine, Schedule([0.01]), checkpoint=path, max_steps=2, rtol=1e-12)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"run\.npz is of another problem"):
        resumable_solve(OTHERS[what](), checkpoint=path)
    assert path.read_bytes() == content


def small_checkpoint(path: Path) -> tuple[Any, np.ndarray]:
    problem = Quadratic(np.diag([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0]))
    schedule = Schedule([0.3, 0.5], bounds=SpectralBounds(1.0, 3.0))
    resumable_solve(problem, schedule, checkpoint=path, max_steps=4, rtol=1e-12)
    return problem, schedule


def spoilt(content: bytes, place: int, how: str) -> bytes:
    if how == "cut":
        return content[:place]
    other = 0 if how == "zero" else content[place] ^ int(how)
    return content[:place] + bytes([other]) + content[place + 1 :]


@pytest.mark.parametrize(("how", "every"), [("255", 1), ("1", 9), ("zero", 9), ("cut", 9)])
def test_no_byte_can_be_changed_unnoticed(tmp_path: Path, how: str, every: int) -> None:
    path = tmp_path / "run.npz"
    small_checkpoint(path)
    content, whole = path.read_bytes(), _content(path)
    assert isinstance(whole, dict)
    refused = changed = 0
    for place in range(0, len(content), every):
        path.write_bytes(spoilt(content, place, how))
        changed += path.read_bytes() != content
        found = _content(path)
        if isinstance(found, str):
            refused += 1
            continue
        # Bytes that say nothing: times and attributes of the archive.
        np.testing.assert_array_equal(found.pop("x"), whole["x"])
        assert found == {name: value for name, value in whole.items() if name != "x"}
    assert refused > 0.8 * changed


@pytest.mark.parametrize("place", [0, 200, 500, 900])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, place: int) -> None:
    path = tmp_path / "run.npz"
    problem, schedule = small_checkpoint(path)
    path.write_bytes(spoilt(path.read_bytes(), place, "255"))
    with pytest.raises(ValueError, match=r"run\.npz is .*; remove it to begin anew"):
        resumable_solve(problem, schedule, checkpoint=path)


RECORDS = {
    "position": lambda record: record["spent"].__setitem__(0, 0),
    "bounds": lambda record: record["bounds"].__setitem__("upper", 2.0),
    "steps": lambda record: record["schedule"].__setitem__("steps", [1.0, 1.0]),
}


@pytest.mark.parametrize("what", RECORDS)
def test_the_record_is_covered_by_the_checksum(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run.npz"
    problem, schedule = small_checkpoint(path)
    x, record = record_of(path)
    with np.load(path) as held:
        checksum = held["checksum"]
    RECORDS[what](record)
    np.savez(path, x=x, record=np.bytes_(json.dumps(record).encode()), checksum=checksum)
    with pytest.raises(ValueError, match=r"run\.npz is damaged: its checksum"):
        resumable_solve(problem, schedule, checkpoint=path)


@pytest.mark.parametrize("change", ["dtype", "shape"])
def test_dtype_and_shape_are_covered_by_the_checksum(tmp_path: Path, change: str) -> None:
    path = tmp_path / "run.npz"
    problem, schedule = small_checkpoint(path)
    with np.load(path) as held:
        x, rest = held["x"], {name: held[name] for name in ("record", "checksum")}
    np.savez(path, x=x.view("int64") if change == "dtype" else x[None], **rest)
    with pytest.raises(ValueError, match="its checksum"):
        resumable_solve(problem, schedule, checkpoint=path)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


STRANGE = {
    "empty": b"",
    "text": b"not an archive",
    "pickle": b"\x80\x04N.",
    "nested": nested(100_000).encode(),
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_checkpoint_is_refused_by_its_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run.npz"
    path.write_bytes(STRANGE[what])
    with pytest.raises(ValueError, match=r"run\.npz is not a whole one.*remove it"):
        resumable_solve(LeastSquares(A, B), checkpoint=path)
    assert path.read_bytes() == STRANGE[what]


def test_a_record_nested_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    path, text, x = tmp_path / "run.npz", nested(100_000), np.zeros(30)
    content = io.BytesIO()
    np.savez(content, x=x, record=np.bytes_(text.encode()), checksum=np.bytes_(_checksum(text, x)))
    path.write_bytes(content.getvalue())
    with pytest.raises(ValueError, match=r"run\.npz is not a whole one \(RecursionError"):
        resumable_solve(LeastSquares(A, B), checkpoint=path)


def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    np.savez_compressed(path, x=np.zeros(3000), record=np.bytes_(b"{}"), checksum=np.bytes_(b"-"))
    content = bytearray(path.read_bytes())
    start = content.index(b"x.npy") + 40
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.npz is not a whole one"):
        resumable_solve(LeastSquares(A, B), checkpoint=path)


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path: Path) -> None:
    problem = LeastSquares(A, B)
    with pytest.raises(FileNotFoundError, match="needs a folder that may be written to"):
        resumable_solve(problem, checkpoint=tmp_path / "none" / "run.npz")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        resumable_solve(problem, checkpoint=tmp_path)


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "run.npz"
    with pytest.warns(RuntimeWarning, match=r"No space left on device\), there is no earlier one"):
        result = resumable_solve(LeastSquares(A, B), checkpoint=path, every=0)
    assert result.converged
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_a_process_that_was_killed_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    (tmp_path / ".run.npz-abc").write_bytes(b"half")
    (tmp_path / ".other.npz-abc").write_bytes(b"not mine")
    resumable_solve(LeastSquares(A, B), checkpoint=path)
    assert [one.name for one in tmp_path.iterdir()] == [".other.npz-abc"]


def test_a_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a Problem that knows its point 0"):
        resumable_solve(ShardedFixedPoint(lambda x: x), checkpoint=tmp_path / "run.npz")
