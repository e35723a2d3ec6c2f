"""``stepfold solve`` against ``numpy.linalg``, on every kind of matrix, and what it refuses."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
from cli_runner import Run, assert_refused, stepfold

from stepfold import Schedule, SpectralBounds, chebyshev_steps
from stepfold.schedules import SCHEDULES


def _symmetric(eigenvalues: np.ndarray, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((eigenvalues.size, eigenvalues.size)))[0]
    matrix = q @ np.diag(eigenvalues) @ q.T
    return (matrix + matrix.T) / 2


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape)


POSITIVE = np.linspace(1.0, 10.0, 20)
MATRICES = {
    "positive definite": _symmetric(POSITIVE),
    "singular symmetric": _symmetric(np.append(POSITIVE, 0.0)),
    "indefinite symmetric": _symmetric(np.append(POSITIVE, -2.0)),
    "negative definite": _symmetric(-POSITIVE),
    "eigenvalues of opposite signs": _symmetric(np.append(POSITIVE, -1.0)),
    "not symmetric": np.eye(12) + 0.2 * _random(12, 12),
    "tall": _random(30, 12),
    "wide": _random(12, 30),
    "rank-deficient tall": _random(30, 5) @ _random(5, 20),
    "rank-deficient wide": _random(15, 4) @ _random(4, 25),
    "one column": _random(30, 1),
    "one row": _random(1, 20),
    "1 by 1": np.array([[4.0]]),
    "1 by 1, negative": np.array([[-4.0]]),
    "integers": np.array([[2, 1], [1, 3]]),
    "unsigned bytes": np.array([[200, 100], [100, 250]], dtype=np.uint8),
    "signed bytes": np.array([[-128, 1], [1, 127]], dtype=np.int8),
    "booleans": _random(30, 6) > 0,
    "float32": _random(30, 12).astype(np.float32),
    "long double": _random(30, 12).astype(np.longdouble),
    "big-endian": _random(30, 12).astype(">f8"),
    "columns first": np.asfortranarray(_random(30, 12)),
    "large": 1e100 * _random(30, 12),
    "small": 1e-100 * _random(30, 12),
    "large symmetric": 1e150 * _symmetric(POSITIVE),
    "small symmetric": 1e-150 * _symmetric(POSITIVE),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "A.npy", MATRICES["positive definite"])
    np.save(tmp_path / "b.npy", _random(20))
    return tmp_path


def _solve(folder: Path, matrix, rhs, *options) -> tuple[Run, np.ndarray]:
    if sp.issparse(matrix):
        sp.save_npz(folder / "M.npz", matrix)
        name = "M.npz"
    else:
        np.save(folder / "M.npy", matrix)
        name = "M.npy"
    np.save(folder / "r.npy", rhs)
    run = stepfold("solve", folder / name, folder / "r.npy", "-o", folder / "x.npy", *options)
    return run, np.load(folder / "x.npy")


def _plain(folder: Path, *options) -> Run:
    return stepfold("solve", folder / "A.npy", folder / "b.npy", "-o", folder / "x.npy", *options)


@pytest.mark.parametrize("name", MATRICES)
def test_solutions_are_those_of_numpy(folder, name) -> None:
    matrix = MATRICES[name]
    rhs = _random(matrix.shape[0])
    run, x = _solve(folder, matrix, rhs, "--rtol", 1e-11)
    assert (run.code, run.err) == (0, "")
    # The smallest solution in norm, which is what a start from 0 finds.
    dense = matrix.astype(np.float64)
    expected = np.linalg.lstsq(dense / np.abs(dense).max(), rhs, rcond=1e-10)[0]
    x = x * np.abs(dense).max()
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("positive definite", "a symmetric system"),
        ("negative definite", "least squares, for the matrix is symmetric but indefinite"),
        ("singular symmetric", "least squares, for as a symmetric system it ended"),
        ("indefinite symmetric", "least squares, for as a symmetric system it ended DIVERGED"),
        ("not symmetric", "least squares, for the matrix is not symmetric"),
        ("tall", "least squares, for the matrix is not square"),
    ],
)
def test_the_kind_of_problem_is_told(folder, name, why) -> None:
    run, _ = _solve(folder, MATRICES[name], _random(MATRICES[name].shape[0]))
    assert f", {why}" in run.out


def test_both_files_may_be_parts_of_one(folder) -> None:
    matrix, rhs = MATRICES["tall"], _random(30)
    expected = np.linalg.lstsq(matrix, rhs)[0]
    np.savez(folder / "data.npz", A=matrix, b=rhs)
    data = folder / "data.npz"
    run = stepfold("solve", f"{data}:A", f"{data}:b", "-o", folder / "x.npy", "--rtol", 1e-12)
    assert run.code == 0
    np.testing.assert_allclose(np.load(folder / "x.npy"), expected, atol=1e-9)
    names = ",".join([*(f"x{k}" for k in range(12)), "y"])
    table = np.column_stack([matrix, rhs])
    np.savetxt(folder / "data.csv", table, "%.17g", ",", header=names, comments="")
    data = folder / "data.csv"
    run = stepfold("solve", f"{data}:1-12", f"{data}:y", "-o", folder / "y.npy", "--rtol", 1e-12)
    assert run.code == 0
    np.testing.assert_allclose(np.load(folder / "y.npy"), expected, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.5, 1e3])
def test_a_ridge_term_is_that_of_the_normal_equations(folder, ridge) -> None:
    matrix, rhs = MATRICES["wide"], _random(12)
    run, x = _solve(folder, matrix, rhs, "--ridge", ridge, "--rtol", 1e-11)
    assert run.code == 0
    expected = np.linalg.solve(matrix.T @ matrix + ridge * np.eye(30), matrix.T @ rhs)
    np.testing.assert_allclose(x, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("batch", [2, 20, 30])
def test_many_right_hand_sides_are_rows(folder, batch) -> None:
    matrix, rhs = MATRICES["tall"], _random(batch, 30)
    run, x = _solve(folder, matrix, rhs, "--rtol", 1e-11)
    assert run.code == 0
    np.testing.assert_allclose(x, np.linalg.lstsq(matrix, rhs.T)[0].T, atol=1e-8)


@pytest.mark.parametrize("shape", [(30, 1), (1, 30)])
def test_a_single_column_or_row_is_one_right_hand_side(folder, shape) -> None:
    rhs = _random(30)
    _, x = _solve(folder, MATRICES["tall"], rhs.reshape(shape))
    assert x.shape == (12,)


def test_a_sparse_system_is_solved(folder) -> None:
    chain = sp.diags_array([np.full(300, 2.2), *[np.full(299, -1.0)] * 2], offsets=[0, 1, -1])
    rhs = np.ones(300)
    run, x = _solve(folder, sp.csr_array(chain), rhs, "--rtol", 1e-10)
    assert run.code == 0
    np.testing.assert_allclose(x, np.linalg.solve(chain.toarray(), rhs), rtol=1e-8)


@pytest.mark.parametrize("method", SCHEDULES)
def test_every_family_solves_an_easy_system(folder, method) -> None:
    run = _plain(folder, "--method", method, "--period", 16, "--max-steps", 5000, "--rtol", 1e-6)
    assert run.code == 0
    expected = np.linalg.solve(MATRICES["positive definite"], np.load(folder / "b.npy"))
    np.testing.assert_allclose(np.load(folder / "x.npy"), expected, atol=1e-4)


def test_a_schedule_from_a_file_is_what_is_run(folder) -> None:
    schedule = chebyshev_steps(SpectralBounds(1, 10), 5)
    schedule.save(folder / "s.json")
    run = _plain(folder, "--schedule", folder / "s.json", "--json")
    assert Schedule.from_dict(run.json()["schedule"]) == schedule


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e290])
def test_solutions_scale_with_the_right_hand_side(folder, scale) -> None:
    matrix, rhs = MATRICES["positive definite"], _random(20)
    run, x = _solve(folder, matrix, scale * rhs)
    assert run.code == 0
    expected = np.linalg.solve(matrix, rhs)
    np.testing.assert_allclose(x / scale, expected, atol=1e-6)


def test_a_right_hand_side_of_zeros_is_solved_by_zero_at_once(folder) -> None:
    run, x = _solve(folder, MATRICES["tall"], np.zeros(30), "--json")
    assert (run.code, run.json()["num_steps"]) == (0, 0)
    np.testing.assert_array_equal(x, np.zeros(12))


def test_json_says_what_was_done(folder) -> None:
    run = _plain(folder, "--json")
    record = run.json()
    assert record["status"] == "CONVERGED"
    assert record["solution"] == str(folder / "x.npy")
    assert "x" not in record
    assert record["history"]["num_steps"][-1] == record["num_steps"]


@pytest.mark.parametrize("max_steps", [0, 1, 3])
def test_without_budget_the_best_iterate_is_written_and_the_exit_code_is_1(
    folder, max_steps
) -> None:
    run = _plain(folder, "--max-steps", max_steps, "--rtol", 1e-12, "--json")
    assert (run.code, run.json()["status"]) == (1, "BUDGET")
    matrix, rhs = MATRICES["positive definite"], np.load(folder / "b.npy")
    norm = np.linalg.norm(matrix @ np.load(folder / "x.npy") - rhs)
    assert norm == pytest.approx(min(run.json()["history"]["gradient_norms"]), rel=1e-9)


def test_indefinite_systems_say_why_they_are_least_squares(folder) -> None:
    run, _ = _solve(folder, MATRICES["indefinite symmetric"], _random(21))
    assert "symmetric system: The Hessian is indefinite: a direction p" in run.out


def test_a_singular_system_with_a_solution_stays_symmetric(folder) -> None:
    matrix = MATRICES["singular symmetric"]
    run, x = _solve(folder, matrix, matrix @ _random(21))
    assert run.code == 0
    assert "a symmetric system\n" in run.out
    np.testing.assert_allclose(matrix @ x, matrix @ _random(21), atol=1e-6)


@pytest.mark.parametrize("kind", ["Hermitian", "tall"])
def test_complex_systems_are_solved(folder, kind) -> None:
    matrix = MATRICES["tall"] + 1j * _random(30, 12)[::-1]
    matrix = matrix.conj().T @ matrix if kind == "Hermitian" else matrix
    run, x = _solve(folder, matrix, matrix @ (1 + 1j * np.arange(12)), "--rtol", 1e-12)
    assert run.code == 0
    assert ("a symmetric system\n" in run.out) == (kind == "Hermitian")
    np.testing.assert_allclose(x, 1 + 1j * np.arange(12), atol=1e-8)


@pytest.mark.parametrize("noise", [(), ("--noise", 0.01)])
def test_a_ridge_is_chosen_for_a_blur(folder, noise) -> None:
    grid = np.arange(40.0)
    blur = np.exp(-((grid[:, None] - grid) ** 2) / 18)
    blur /= blur.sum(1, keepdims=True)
    rhs = blur @ np.sin(grid / 8) + 0.01 * np.random.default_rng(0).standard_normal(40)
    run, x = _solve(folder, blur, rhs, "--ridge", "auto", *noise, "--json", "--rtol", 1e-12)
    assert run.code == 0
    record = run.json()
    ridge = record["ridge"]["ridge"]
    expected = np.linalg.solve(blur.T @ blur + ridge * np.eye(40), blur.T @ rhs)
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert np.abs(x - np.sin(grid / 8)).max() < 0.3
    assert record["ridge"]["rule"] == (
        "discrepancy principle" if noise else "robust generalised cross-validation"
    )


def test_products_for_ridges_bounds_and_earlier_runs_are_in_the_count(folder) -> None:
    matrix = sp.csr_array(sp.diags_array([0.5, 1.0, 0.5], offsets=(-1, 0, 1), shape=(1800, 1800)))
    rhs = matrix @ np.sin(np.arange(1800.0) / 50)
    rhs += 0.01 * np.random.default_rng(0).standard_normal(1800)
    run, _ = _solve(folder, matrix, rhs, "--ridge", "auto", "--json")
    chosen = run.json()["ridge"]["num_products"]
    assert chosen > 0
    assert run.json()["num_products"] == chosen + run.json()["history"]["num_products"][-1]
    options = ("--ridge", 0.1, "--period", 8, "--json")
    run, _ = _solve(folder, matrix, rhs, "--force", *options)
    bounds = run.json()["schedule"]["bounds"]["num_products"]
    assert bounds > 0
    assert run.json()["num_products"] == bounds + run.json()["history"]["num_products"][-1]


@pytest.mark.parametrize("budget", [5, 20, 60])
def test_a_budget_of_products_holds_for_all_of_them(folder, budget) -> None:
    matrix = MATRICES["tall"] @ np.diag(np.geomspace(1e-6, 1, 12))
    options = ("--max-products", budget, "--rtol", 1e-14, "--json")
    run, _ = _solve(folder, matrix, _random(30), *options)
    assert run.json()["num_products"] <= budget


def test_a_budget_of_time_ends_a_long_run(folder) -> None:
    matrix = np.diag(np.geomspace(1e-9, 1, 50))
    options = ("--method", "constant", "--lower", 1e-9, "--upper", 1, "--period", 1)
    options = (*options, "--max-seconds", 0.05, "--max-steps", 10**9)
    run, _ = _solve(folder, matrix, np.ones(50), *options)
    assert run.code == 1
    assert "BUDGET: The budget was spent; raise --max-steps, --max-products or" in run.out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_default_tolerance_is_in_reach_of_the_data_s_precision(folder, dtype) -> None:
    run, x = _solve(folder, MATRICES["tall"].astype(dtype), _random(30).astype(dtype))
    assert run.code == 0
    assert x.dtype == dtype


def test_an_error_that_is_certain_is_kept(folder) -> None:
    matrix, rhs = MATRICES["tall"], _random(30)
    run, x = _solve(folder, matrix, rhs, "--ridge", 0.5, "--error-rtol", 1e-4)
    assert run.code == 0
    expected = np.linalg.solve(matrix.T @ matrix + 0.5 * np.eye(12), matrix.T @ rhs)
    assert np.linalg.norm(x - expected) <= 1e-4 * np.linalg.norm(expected)


def test_a_run_that_diverges_writes_its_best_iterate_and_exits_with_1(folder) -> None:
    Schedule([1.0, 100.0]).save(folder / "steps.json")
    run = _plain(folder, "--schedule", folder / "steps.json")
    assert run.code == 1
    assert "DIVERGED" in run.out
    np.testing.assert_array_equal(np.load(folder / "x.npy"), np.zeros(20))


def test_wrong_bounds_are_mended_and_reported(folder) -> None:
    run = _plain(folder, "--lower", 1, "--upper", 2)
    assert run.code == 0
    assert "upper" in run.out
    expected = np.linalg.solve(MATRICES["positive definite"], np.load(folder / "b.npy"))
    np.testing.assert_allclose(np.load(folder / "x.npy"), expected, rtol=1e-6)


def test_a_run_that_overflows_is_strict_json(folder) -> None:
    Schedule([1e300, 1e300]).save(folder / "steps.json")
    run = _plain(folder, "--schedule", folder / "steps.json", "--json")
    assert run.code == 1
    assert run.json()["history"]["gradient_norms"][-1] is None


def test_a_tolerance_below_rounding_stalls_with_advice(folder) -> None:
    run = _plain(folder, "--rtol", "1e-300")
    assert run.code == 1
    assert "STALLED" in run.out
    assert "loosen --rtol" in run.out


def test_an_ill_conditioned_matrix_is_planned_without_delay(folder) -> None:
    # The planner once tried ten million numbers of periods here.
    matrix = _symmetric(np.geomspace(1e-14, 1.0, 20))
    options = ("--method", "chebyshev-fourth-kind", "--max-steps", 1024)
    run, _ = _solve(folder, matrix, np.ones(20), *options)
    assert "period 1024" in run.out


@pytest.mark.parametrize(
    ("matrix", "options", "words"),
    [
        (np.zeros((7, 5)), ("--period", 8), "the operator is zero"),
        (np.zeros((7, 5)), ("--ridge", "auto"), "the operator is zero"),
        (sp.csr_array((4000, 3000)), ("--period", 8), "the operator is zero"),
        (sp.csr_array((0, 0)), (), "at least one row and column"),
        (MATRICES["tall"], ("--kind", "symmetric"), "MATRIX must be square"),
        (MATRICES["tall"], ("--kind", "symmetric", "--ridge", "auto"), "--ridge goes with least"),
    ],
)
def test_matrices_without_an_answer_are_refused(folder, matrix, options, words) -> None:
    name = "M.npz" if sp.issparse(matrix) else "M.npy"
    (sp.save_npz if sp.issparse(matrix) else np.save)(folder / name, matrix)
    np.save(folder / "r.npy", np.ones(max(matrix.shape[0], 1)))
    run = stepfold("solve", folder / name, folder / "r.npy", "-o", folder / "x.npy", *options)
    assert_refused(run, words)
    assert not (folder / "x.npy").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--period", 0), "--period"),
        (("--period", -1), "--period"),
        (("--period", 10**12), "--period"),
        (("--rtol", -1), "--rtol must be at least 0"),
        (("--rtol", "nan"), "--rtol must be at least 0"),
        (("--rtol", "inf"), "--rtol must be at least 0"),
        (("--atol", -1), "--atol must be at least 0"),
        (("--error-rtol", -1), "--error-rtol must be at least 0"),
        (("--error-rtol", 0.1), "--error-rtol needs a lower bound above 0"),
        (("--max-steps", -1), "--max-steps must be an integer of at least 0"),
        (("--max-products", -1), "--max-products"),
        (("--max-seconds", -1), "--max-seconds"),
        (("--max-seconds", "nan"), "--max-seconds must be at least 0"),
        (("--ridge", -1), "--ridge must be at least 0 and finite"),
        (("--ridge", "nan"), "--ridge must be at least 0 and finite"),
        (("--ridge", "inf"), "--ridge must be at least 0 and finite"),
        (("--ridge", "most"), "'most' is not a valid float"),
        (("--ridge", "auto", "--noise", 0), "--noise must be positive"),
        (("--ridge", "auto", "--noise", 1e9), "--noise must be well below"),
        (("--noise", 1), "--noise goes with --ridge auto"),
        (("--ridge", 1, "--kind", "symmetric"), "--ridge goes with least squares"),
        (("--lower", 1), "give both --lower and --upper"),
        (("--upper", 1), "give both --lower and --upper"),
        (("--lower", 2, "--upper", 1), "--lower must be smaller than --upper"),
        (("--lower", 2, "--upper", 2), "--lower must be smaller than --upper"),
        (("--lower", -2, "--upper", 1), "0 <= lower"),
        (("--lower", "nan", "--upper", "nan"), "--lower must be smaller than --upper"),
        (("--lower", 1, "--upper", "inf"), "upper < inf"),
        (("--lower", 0, "--upper", 9, "--method", "chebyshev"), "needs --lower > 0"),
        (("--method", "no"), "'no' is not one of"),
        (("--kind", "no"), "'no' is not one of"),
        (("--no-such-option",), "No such option"),
        (("surplus",), "unexpected extra argument"),
    ],
)
def test_bad_options_are_refused(folder, options, words) -> None:
    assert_refused(_plain(folder, *options), words)
    assert not (folder / "x.npy").exists()


def _schedule_file(**changes) -> str:
    return json.dumps({**Schedule([0.1, 0.2]).to_dict(), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        _schedule_file()[:40],
        "[1, 2]",
        "null",
        "[" * 100_000,
        _schedule_file(steps=[1.0, -1.0]),
        _schedule_file(steps=[0.0]),
        _schedule_file(steps=[float("nan")]),
        _schedule_file(steps=["a"]),
        _schedule_file(steps=[]),
        _schedule_file(steps=[[1.0]]),
        _schedule_file(steps=[[1.0], [1.0, 2.0]]),
        _schedule_file(steps=None),
        _schedule_file(steps={}),
        _schedule_file(steps=[10**400]),
        _schedule_file(format="stepfold.schedule/99"),
        json.dumps({"format": "stepfold.schedule/1"}),
    ],
)
def test_damaged_schedules_are_refused(folder, text) -> None:
    (folder / "bad.json").write_text(text)
    assert_refused(_plain(folder, "--schedule", folder / "bad.json"), "bad.json is not a schedule")


def test_binary_schedules_are_refused(folder) -> None:
    assert_refused(_plain(folder, "--schedule", folder / "A.npy"), "A.npy is not a schedule")


@pytest.mark.parametrize("name", ["no.json", ""])
def test_schedules_that_are_no_files_are_refused(folder, name) -> None:
    assert_refused(_plain(folder, "--schedule", folder / name), str(folder / name))


@pytest.mark.parametrize(
    "options", [("--method", "silver"), ("--period", 3), ("--lower", 1, "--upper", 2)]
)
def test_a_schedule_file_goes_with_no_option_that_it_overrules(folder, options) -> None:
    Schedule([0.1]).save(folder / "s.json")
    run = _plain(folder, "--schedule", folder / "s.json", *options)
    assert_refused(run, "--schedule brings its own steps")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.txt", "must end in .npy"),
        ("x", "must end in .npy"),
        ("b.npy", "exists; choose another name or replace it with --force"),
        ("no/x.npy", "no is not a folder; make it first"),
        ("b.npy/x.npy", "b.npy is not a folder"),
        ("d.npy", "d.npy is a folder; name a file"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(folder, name, words) -> None:
    (folder / "d.npy").mkdir()
    before = (folder / "b.npy").read_bytes()
    run = stepfold("solve", folder / "A.npy", folder / "b.npy", "-o", folder / name)
    assert_refused(run, words)
    assert (folder / "b.npy").read_bytes() == before


def test_an_output_s_name_may_be_as_long_as_names_can_be(folder) -> None:
    name = "x" * 251 + ".npy"
    run = stepfold("solve", folder / "A.npy", folder / "b.npy", "-o", folder / name)
    assert (run.code, run.err) == (0, "")
    assert np.load(folder / name).shape == (20,)
    run = stepfold("solve", folder / "A.npy", folder / "b.npy", "-o", folder / f"x{name}")
    assert_refused(run, "File name too long")


def test_force_replaces_the_output(folder) -> None:
    (folder / "x.npy").write_text("old")
    assert _plain(folder, "--force").code == 0
    assert np.load(folder / "x.npy").shape == (20,)


def test_a_failing_write_keeps_the_old_output_and_leaves_no_draft(folder) -> None:
    (folder / "x.npy").write_text("old")
    with mock.patch("numpy.save", side_effect=OSError(28, "No space left on device")):
        run = _plain(folder, "--force")
    assert_refused(run, "No space left on device")
    assert (folder / "x.npy").read_text() == "old"
    assert sorted(os.listdir(folder)) == ["A.npy", "b.npy", "x.npy"]


def test_running_out_of_memory_is_one_clear_line(folder) -> None:
    with mock.patch("stepfold.cli.solve.run_solve", side_effect=MemoryError("8 GiB")):
        assert_refused(_plain(folder), "not enough memory (8 GiB)")


def test_the_text_says_what_the_solution_is_worth(tmp_path) -> None:
    matrix, rhs = _random(30, 12), np.random.default_rng(5).standard_normal(30)
    np.save(tmp_path / "A.npy", matrix)
    np.save(tmp_path / "b.npy", rhs)
    words = ("solve", tmp_path / "A.npy", tmp_path / "b.npy", "-o", tmp_path / "x.npy")
    run = stepfold(*words, "--ridge", "0.5", "--error-rtol", "1e-6")
    assert run.code == 0, run.err
    x = np.load(tmp_path / "x.npy")
    share = np.linalg.norm(rhs - matrix @ x) / np.linalg.norm(rhs)
    assert f"at most {share:.4g} of" in run.out
    (bound,) = re.findall(r"error .*: at most (\S+)$", run.out, re.MULTILINE)
    solution = np.linalg.solve(matrix.T @ matrix + 0.5 * np.eye(12), matrix.T @ rhs)
    assert np.linalg.norm(x - solution) <= float(bound)
    assert re.search(r"^eigenvalues: from \S+ \(\w+\) to \S+ \(\w+\), by ", run.out, re.MULTILINE)


def test_without_a_lower_bound_the_text_names_no_error(tmp_path) -> None:
    np.save(tmp_path / "A.npy", np.diag([0.0, 1.0, 2.0]))
    np.save(tmp_path / "b.npy", np.array([0.0, 1.0, 1.0]))
    run = stepfold("solve", tmp_path / "A.npy", tmp_path / "b.npy", "-o", tmp_path / "x.npy")
    assert run.code == 0, run.err
    assert "no bound is known; --error-rtol with --ridge or --lower" in run.out
