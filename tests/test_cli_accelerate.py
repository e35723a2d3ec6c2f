"""``stepfold accelerate``: the user's own map, and what it refuses."""

import sys
from pathlib import Path

import click
import numpy as np
import pytest
from cli_runner import assert_refused, stepfold

SOURCE = """
import numpy as np
number = 3
def cosine(x): return np.cos(x)
def tensor(x): return x.cos()
def grows(x): return 2 * x + 1
def cuts(x): return x[:1]
def noisy(x): return np.cos(x) + np.random.default_rng().random(x.shape)
def divides(x):
    return x + 1 / number_of(x)
def number_of(x): return 3 - number
def deep(x): return np.linalg.inv(x)
def silent(x): raise KeyError
def interrupted(x): raise KeyboardInterrupt
class Model:
    step = staticmethod(np.cos)
def rotates(x): return 0.5j * x + 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mymap_of_the_test.py").write_text(SOURCE)
    np.save(tmp_path / "x0.npy", np.zeros((2, 3)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mymap_of_the_test", raising=False)
    return tmp_path


@pytest.mark.parametrize("method", ["relaxation", "plain", "anderson"])
@pytest.mark.parametrize("name", ["cosine", "Model.step"])
def test_the_fixed_point_is_written(folder: Path, name: str, method: str) -> None:
    run = stepfold(
        "accelerate", f"mymap_of_the_test:{name}", "--x0", "x0.npy", "-o", "x.npy",
        "--method", method,
    )  # fmt: skip
    assert run.code == 0
    assert "CONVERGED" in run.out
    np.testing.assert_allclose(np.load(folder / "x.npy"), np.full((2, 3), 0.739085), atol=1e-6)


@pytest.mark.parametrize("method", ["relaxation", "plain", "anderson"])
def test_an_interrupt_in_the_first_evaluation_writes_the_start(folder: Path, method: str) -> None:
    run = stepfold(
        "accelerate", "mymap_of_the_test:interrupted", "--x0", "x0.npy", "-o", "x.npy",
        "--method", method,
    )  # fmt: skip
    assert (run.code, run.err) == (1, "")
    assert run.out.startswith("INTERRUPTED: The run was interrupted")
    assert "\n0 evaluations, " in run.out
    assert not np.load(folder / "x.npy").any()


def test_tensors_are_passed_if_asked_for(folder: Path) -> None:
    run = stepfold("accelerate", "mymap_of_the_test:tensor", "--x0", "x0.npy", "--torch")
    assert run.code == 0
    assert "0.739085" in run.out


def test_complex_numbers_are_pairs_in_json(folder: Path) -> None:
    np.save(folder / "z0.npy", np.zeros(2, complex))
    words = ("mymap_of_the_test:rotates", "--x0", "z0.npy", "--json", "--method", "plain")
    record = stepfold("accelerate", *words).json()
    expected = 1 / (1 - 0.5j)
    np.testing.assert_allclose(record["x"], [[expected.real, expected.imag]] * 2, atol=1e-7)


def test_a_budget_of_time_ends_a_long_run(folder: Path) -> None:
    words = ("mymap_of_the_test:cosine", "--x0", "x0.npy", "--rtol", 0, "--max-seconds", 0)
    run = stepfold("accelerate", *words)
    assert run.code == 1
    assert "--max-seconds" in run.out
    assert_refused(stepfold("accelerate", *words, "--method", "plain"), "--max-seconds go with")


def test_json_holds_the_solution_where_no_file_does(folder: Path) -> None:
    record = stepfold("accelerate", "mymap_of_the_test:cosine", "--x0", "x0.npy", "--json").json()
    assert record["status"] == "CONVERGED"
    np.testing.assert_allclose(record["x"], 0.739085, atol=1e-6)


def test_what_does_not_converge_ends_with_1_and_is_written(folder: Path) -> None:
    run = stepfold("accelerate", "mymap_of_the_test:grows", "--x0", "x0.npy", "-o", "x.npy")
    assert run.code == 1
    assert "DIVERGED" in run.out
    assert np.load(folder / "x.npy").shape == (2, 3)


def test_nothing_is_overwritten(folder: Path) -> None:
    arguments = ["accelerate", "mymap_of_the_test:cosine", "--x0", "x0.npy", "-o", "x0.npy"]
    assert_refused(stepfold(*arguments), "exists", "--force")
    assert stepfold(*arguments, "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mymap_of_the_test"], ["module:function"]),
        (["no_such_module:f"], ["there is no module 'no_such_module'"]),
        (["mymap_of_the_test:nothing"], ["has no 'nothing'"]),
        (["mymap_of_the_test:number"], ["must be callable, got int"]),
        (["mymap_of_the_test:cuts"], ["`map` must keep the shape"]),
        (["mymap_of_the_test:cosine", "-o", "x.txt"], ["--output must end in .npy"]),
        (["mymap_of_the_test:cosine", "--lower", "0.1"], ["give both --lower and --upper"]),
        (["mymap_of_the_test:cosine", "--method", "plain", "--period", "4"], ["go with --method"]),
        (["mymap_of_the_test:cosine", "--method", "steffensen"], ["must hold one number"]),
        (["mymap_of_the_test:cosine", "--rtol", "-1"], ["--rtol must be at least 0"]),
    ],
)
def test_bad_input_is_refused_in_one_line(
    folder: Path, arguments: list[str], words: list[str]
) -> None:
    assert_refused(stepfold("accelerate", *arguments, "--x0", "x0.npy"), *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("divides", ["divides raised ZeroDivisionError", "mymap_of_the_test.py, line 10, in div"]),
        ("deep", ["raised LinAlgError: ", "(mymap_of_the_test.py, line 12, in deep)"]),
        ("silent", ["raised KeyError (mymap_of_the_test.py, line 13, in silent)"]),
    ],
)
@pytest.mark.parametrize("method", ["relaxation", "plain"])
def test_what_the_map_raises_is_one_line_with_its_place(
    folder: Path, name: str, words: list[str], method: str
) -> None:
    arguments = [f"mymap_of_the_test:{name}", "--x0", "x0.npy", "--method", method]
    assert_refused(stepfold("accelerate", *arguments), *words, "STEPFOLD_TRACEBACK=1")


def test_a_traceback_of_the_map_is_shown_on_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFOLD_TRACEBACK", "1")
    with pytest.raises(click.ClickException, match="divides raised ZeroDivisionError") as caught:
        stepfold("accelerate", "mymap_of_the_test:divides", "--x0", "x0.npy")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\nf = x / 0\n", ["ZeroDivisionError: division by zero", "line 2, in <module>"]),
        ("import no_such_package\n", ["No module named 'no_such_package'", "line 1"]),
        ("def f(x) return x\n", ["SyntaxError: ", "broken_map_of_the_test.py, line 1"]),
    ],
)
def test_a_module_that_fails_to_import_is_one_line_with_its_place(
    folder: Path, source: str, words: list[str]
) -> None:
    (folder / "broken_map_of_the_test.py").write_text(source)
    run = stepfold("accelerate", "broken_map_of_the_test:f", "--x0", "x0.npy")
    assert_refused(run, "importing broken_map_of_the_test raised ", *words)


def test_a_stochastic_map_is_one_line_of_warning(folder: Path) -> None:
    arguments = ["mymap_of_the_test:noisy", "--x0", "x0.npy", "--max-products", "20", "--json"]
    run = stepfold("accelerate", *arguments)
    assert run.json()["status"] == "BUDGET"
    assert run.err.startswith("Warning: The map is stochastic: two evaluations at x0 differ by ")
    assert (run.err.count("\n"), ".py" in run.err) == (1, False)


@pytest.mark.parametrize("start", ["missing.npy", "mymap_of_the_test.py"])
def test_a_start_that_is_no_array_is_refused(folder: Path, start: str) -> None:
    assert_refused(stepfold("accelerate", "mymap_of_the_test:cosine", "--x0", start), start)
