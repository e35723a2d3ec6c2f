"""``stepfold lasso`` against scikit-learn, by every method, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from cli_runner import Run, assert_refused, stepfold
from sklearn.linear_model import Lasso

from stepfold.run import Loop

METHODS = ["auto", "fista", "ista", "relaxation"]


@pytest.fixture
def data(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((60, 40)) * (rng.random((60, 40)) < 0.5)
    rhs = matrix[:, :4] @ np.ones(4) + 0.1 * rng.standard_normal(60)
    np.save(tmp_path / "A.npy", matrix)
    np.save(tmp_path / "b.npy", rhs)
    sp.save_npz(tmp_path / "A.npz", sp.csr_array(matrix))
    scipy.io.mmwrite(tmp_path / "A.mtx", sp.coo_array(matrix))
    return matrix, rhs


def _lasso(folder: Path, *options: Any, matrix: str = "A.npy", rhs: str = "b.npy") -> Run:
    return stepfold("lasso", folder / matrix, folder / rhs, "-o", folder / "x.npy", *options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("matrix", ["A.npy", "A.npz", "A.mtx"])
def test_the_solution_is_that_of_scikit_learn(
    tmp_path: Path, data: tuple[np.ndarray, np.ndarray], matrix: str, method: str
) -> None:
    run = _lasso(tmp_path, "--weight", 4.0, "--gap", 1e-12, "--method", method, matrix=matrix)
    model = Lasso(alpha=4.0 / 60, fit_intercept=False, tol=1e-13, max_iter=100_000).fit(*data)
    assert run.code == 0
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), model.coef_, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_json_tells_the_gap_and_the_weight(
    tmp_path: Path, data: tuple[np.ndarray, np.ndarray], method: str
) -> None:
    record = _lasso(tmp_path, "--ratio", 0.1, "--json", "--method", method).json()
    matrix, rhs = data
    assert record["weight"] == pytest.approx(0.1 * np.abs(matrix.T @ rhs).max())
    assert record["status"] == "CONVERGED"
    assert record["gap"] <= 1e-6 * (rhs @ rhs) / 2
    x = np.load(tmp_path / "x.npy")
    assert record["num_nonzeros"] == [int((x != 0).sum())]
    value = np.sum((matrix @ x - rhs) ** 2) / 2 + record["weight"] * np.abs(x).sum()
    assert record["objective"] == [pytest.approx(value)]


def test_people_are_told_the_same(tmp_path: Path, data: Any) -> None:
    run = _lasso(tmp_path, "--ratio", 0.1)
    assert run.code == 0
    assert "CONVERGED: The duality gap fell below the tolerance." in run.out
    assert "duality gap:" in run.out
    assert "entries that are not 0:" in run.out


@pytest.mark.parametrize("method", METHODS)
def test_many_right_hand_sides_are_solved_at_once(
    tmp_path: Path, data: tuple[np.ndarray, np.ndarray], method: str
) -> None:
    matrix, rhs = data
    np.save(tmp_path / "many.npy", np.stack([rhs, -2 * rhs, rhs[::-1]]))
    run = _lasso(tmp_path, "--weight", 4.0, "--gap", 1e-12, "--method", method, rhs="many.npy")
    assert run.code == 0
    model = Lasso(alpha=4.0 / 60, fit_intercept=False, tol=1e-13, max_iter=100_000)
    found = np.load(tmp_path / "x.npy")
    np.testing.assert_allclose(found[1], model.fit(matrix, -2 * rhs).coef_, atol=1e-5)


def test_a_budget_that_is_too_small_is_exit_code_1(tmp_path: Path, data: Any) -> None:
    run = _lasso(tmp_path, "--ratio", 0.001, "--max-steps", 10, "--gap", 1e-12)
    assert run.code == 1
    assert (tmp_path / "x.npy").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["give --weight or --ratio"]),
        (["--weight", 1, "--ratio", 1], ["not both"]),
        (["--weight", -1], ["--weight must be at least 0", "-1"]),
        (["--ratio", -1], ["--ratio must be at least 0"]),
        (["--weight", 0], ["the weight is 0", "stepfold solve"]),
        (["--weight", 1, "--ridge", -1], ["--ridge must be at least 0"]),
        (["--weight", 1, "--gap", -1], ["must be at least 0"]),
        (["--weight", 1, "--gap", -1, "--method", "relaxation"], ["--gap must be at least 0"]),
        (["--weight", 1, "--max-steps", -1], ["--max-steps"]),
        (["--weight", "nan"], ["--weight"]),
        (["--weight", 1, "--method", "magic"], ["magic"]),
    ],
)
def test_bad_options_are_refused_in_one_line(
    tmp_path: Path, data: Any, options: list[Any], words: list[str]
) -> None:
    assert_refused(_lasso(tmp_path, *options), *words)
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [("--max-products", 12), ("--max-seconds", 0)])
def test_budgets_are_those_of_solve(
    tmp_path: Path, data: Any, method: str, budget: tuple[Any, ...]
) -> None:
    options = ("--ratio", 0.001, "--gap", 1e-14, "--method", method, "--json", *budget)
    run = _lasso(tmp_path, *options)
    assert (run.code, run.json()["status"]) == (1, "BUDGET")
    assert run.json()["num_products"] <= 14


def test_files_that_do_not_fit_are_refused(tmp_path: Path, data: Any) -> None:
    np.save(tmp_path / "short.npy", np.ones(3))
    assert_refused(_lasso(tmp_path, "--weight", 1, rhs="short.npy"), "RHS must have shape")


def test_what_exists_is_not_replaced(tmp_path: Path, data: Any) -> None:
    assert _lasso(tmp_path, "--ratio", 0.5).code == 0
    assert_refused(_lasso(tmp_path, "--ratio", 0.5), "exists", "--force")
    assert _lasso(tmp_path, "--ratio", 0.5, "--force").code == 0


@pytest.mark.parametrize("command", ["lasso", "solve"])
def test_an_interrupt_before_the_first_check_writes_the_start(
    tmp_path: Path, data: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "look", interrupt)
    options = ("--weight", 4.0) if command == "lasso" else ()
    x = tmp_path / "x.npy"
    run = stepfold(command, tmp_path / "A.npy", tmp_path / "b.npy", "-o", x, *options)
    assert (run.code, run.err) == (1, "")
    assert "INTERRUPTED: The run was interrupted" in run.out
    assert "\n0 steps, " in run.out
    assert not np.load(x).any()
