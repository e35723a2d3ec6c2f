"""``stepfold explore``: where pages come from, and what is refused."""

from __future__ import annotations

import json
import re
from unittest import mock

import numpy as np
import pytest
from cli_runner import assert_refused, stepfold

from stepfold import Schedule, SpectralMeasure
from stepfold.lab.explorer import subject


def embedded(path) -> dict:
    """What Python put into a page."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found[1])


@pytest.fixture
def write(tmp_path):
    """Writes a file, and returns its path."""

    def write(name: str, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            np.save(path, content)
        return path

    return write


def explore(*words, to):
    return stepfold("explore", *words, "-o", to, "--no-open")


def test_the_page_of_no_data_has_none(tmp_path) -> None:
    run = explore(to=tmp_path / "page.html")
    assert (run.code, run.out, run.err) == (0, f"page: {tmp_path / 'page.html'}\n", "")
    data = embedded(tmp_path / "page.html")
    assert (data["measured"], data["run"]) == (None, None)
    assert [len(order) for order in data["permutations"]] == list(range(1, 65))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.npy", np.array([4.0, 1.0, 2.0])),
        ("column.npy", np.array([[4], [1], [2]])),
        ("list.json", "[4, 1, 2]"),
        ("list.txt", "4\n1 2\n"),
        ("list.csv", "4, 1\n2,\n"),
        ("measure.json", json.dumps(SpectralMeasure.from_eigenvalues([4.0, 1.0, 2.0]).to_dict())),
    ],
)
def test_eigenvalues_are_read_from_every_kind_of_file(write, tmp_path, name, content) -> None:
    path = write(name, content)
    run = explore("--eigenvalues", path, to=tmp_path / "page.html")
    assert (run.code, run.err) == (0, "")
    assert "spectrum: 3 eigenvalues.\n" in run.out
    data = embedded(tmp_path / "page.html")
    assert data["measured"]["nodes"] == [1.0, 2.0, 4.0]
    assert data["title"] == str(path)
    names: dict = {}
    exec(
        "import numpy as np\nfrom stepfold import *\n" + "\n".join(data["measured"]["lines"]), names
    )
    assert names["measure"].nodes.tolist() == [1.0, 2.0, 4.0]
    assert (names["bounds"].lower, names["bounds"].upper) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("negative.npy", np.array([1.0, -2.0]), ("not a spectrum", "-2.0")),
        ("nan.npy", np.array([1.0, np.nan]), ("not a spectrum", "nan at index 1")),
        ("empty.npy", np.array([]), ("not a spectrum", "at least one number")),
        ("wide.npy", np.ones((3, 4)), ("not a spectrum", "shape (3, 4)")),
        ("text.npy", np.array(["a"]), ("not a spectrum", "real numbers")),
        ("complex.npy", np.array([1j]), ("not a spectrum", "real numbers")),
        ("zero.npy", np.zeros(3), ("above 0", "got none")),
        ("words.txt", "lambda\n1\n", ("not a list of eigenvalues", "'lambda'")),
        ("empty.txt", "", ("not a spectrum", "at least one number")),
        ("cut.json", '{"format": ', ("not a list of eigenvalues",)),
        ("other.json", '{"a": 1}', ("not a spectrum", "stepfold.measure/1")),
        ("nested.json", "[1, [2]]", ("not a spectrum",)),
        ("fake.npy", "not numpy", ("not a list of eigenvalues",)),
        ("list.xls", "1", ("unknown ending '.xls'", ".npy, .json, .txt or .csv")),
    ],
)
def test_what_is_no_spectrum_is_refused(write, tmp_path, name, content, words) -> None:
    path = write(name, content)
    assert_refused(explore("--eigenvalues", path, to=tmp_path / "page.html"), *words)
    assert not (tmp_path / "page.html").exists()


def test_a_missing_file_is_named(tmp_path) -> None:
    run = explore("--eigenvalues", tmp_path / "none.npy", to=tmp_path / "page.html")
    assert_refused(run, "none.npy", "No such file")


def test_a_matrix_brings_the_squares_of_its_singular_values(write, tmp_path, factor_with) -> None:
    path = write("A.npy", factor_with([3.0, 2.0, 1.0], 5))
    run = explore("--matrix", path, to=tmp_path / "page.html")
    assert (run.code, run.err) == (0, "")
    data = embedded(tmp_path / "page.html")["measured"]
    np.testing.assert_allclose(data["nodes"], [1.0, 4.0, 9.0])
    assert any("Gram(matrix)" in line for line in data["lines"])


def test_a_positive_definite_matrix_brings_its_eigenvalues(write, tmp_path, symmetric_with) -> None:
    path = write("A.npy", symmetric_with([1.0, 2.0, 5.0]))
    assert explore("--matrix", path, to=tmp_path / "page.html").code == 0
    np.testing.assert_allclose(embedded(tmp_path / "page.html")["measured"]["nodes"], [1, 2, 5])


def test_a_kernel_is_left_out_and_said(write, tmp_path, factor_with) -> None:
    path = write("A.npy", factor_with([3.0, 1.0], 5) @ np.eye(2, 4))
    run = explore("--matrix", path, to=tmp_path / "page.html")
    assert "2 at 0 left out" in run.out
    np.testing.assert_allclose(embedded(tmp_path / "page.html")["measured"]["nodes"], [1, 9])


def test_many_eigenvalues_become_a_gauss_rule(write, tmp_path) -> None:
    values = np.linspace(1.0, 9.0, subject.MOST_NODES + 1)
    run = explore("--eigenvalues", write("many.npy", values), to=tmp_path / "page.html")
    assert "a Gauss rule of 129 nodes stands for the 1,001" in run.out
    data = embedded(tmp_path / "page.html")["measured"]
    weights = np.array(data["weights"])
    assert len(data["nodes"]) == 129
    assert weights @ np.array(data["nodes"]) == pytest.approx(values.mean(), rel=1e-12)
    assert (data["lower"], data["upper"]) == (1.0, 9.0)


def test_a_matrix_too_large_to_diagonalise_brings_its_lanczos_measure(write, tmp_path) -> None:
    import scipy.sparse

    diagonal = np.linspace(1.0, 50.0, 5000)
    path = tmp_path / "A.npz"
    scipy.sparse.save_npz(path, scipy.sparse.diags_array(diagonal).tocsr())
    run = explore("--matrix", path, to=tmp_path / "page.html")
    assert (run.code, run.err) == (0, "")
    assert "5,000 eigenvalues are too many to compute; their Lanczos measure" in run.out
    data = embedded(tmp_path / "page.html")["measured"]
    assert data["lower"] <= 1.0
    assert 50.0 <= data["upper"] <= 50.0 * 1.03
    mean = np.array(data["weights"]) @ np.array(data["nodes"])
    assert mean == pytest.approx(diagonal.mean(), rel=0.05)


@pytest.fixture
def run_folder(write):
    """Folder of a run: learned steps, and the spectrum they were learned on."""
    schedule = json.dumps(Schedule([0.5, 0.9], "learned").to_dict())
    path = write("runs/mine/schedules/learned.json", schedule)
    spectrum = SpectralMeasure.from_eigenvalues([1.0, 3.0]).to_dict()
    write("runs/mine/spectrum.json", json.dumps(spectrum))
    return path.parent.parent


def test_a_run_brings_its_steps_and_its_spectrum(run_folder, tmp_path) -> None:
    run = explore("--run", run_folder, to=tmp_path / "page.html")
    assert (run.code, run.err) == (0, "")
    data = embedded(tmp_path / "page.html")
    assert data["run"] == {"name": "mine", "steps": [0.5, 0.9], "by_length": {}}
    assert data["measured"]["nodes"] == [1.0, 3.0]


def test_a_run_without_a_spectrum_asks_for_one(run_folder, write, tmp_path) -> None:
    (run_folder / "spectrum.json").unlink()
    page = tmp_path / "page.html"
    assert_refused(explore("--run", run_folder, to=page), "no spectrum.json", "--eigenvalues")
    values = write("values.npy", np.array([2.0, 5.0]))
    assert explore("--run", run_folder, "--eigenvalues", values, to=page).code == 0
    assert embedded(page)["measured"]["nodes"] == [2.0, 5.0]


def test_a_training_folder_brings_what_every_depth_had_learned(tmp_path) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "three"
    words = ("--set", "num_layers=3", "--set", "training.num_iterations=20", "-o", folder)
    assert stepfold("train", "dugd", *words).code == 0
    assert explore("--run", folder, to=tmp_path / "page.html").code == 0
    data = embedded(tmp_path / "page.html")
    assert [len(data["run"]["by_length"][str(depth)]) for depth in (1, 2, 3)] == [1, 2, 3]
    assert data["run"]["by_length"]["3"] == data["run"]["steps"]
    assert len(data["measured"]["nodes"]) == 300


@pytest.mark.parametrize("name", ["none", "empty", "runs/mine/schedules"])
def test_a_folder_that_is_no_run_is_refused(run_folder, tmp_path, name) -> None:
    (tmp_path / "empty").mkdir()
    run = explore("--run", tmp_path / name, to=tmp_path / "page.html")
    assert_refused(run, "is not the folder of a training", "stepfold run dugd")


@pytest.mark.parametrize("name", ["spectrum.json", "schedules/learned.json", "training.json"])
def test_a_damaged_run_is_refused(run_folder, tmp_path, name) -> None:
    (run_folder / name).write_text('{"format": ', encoding="utf-8")
    assert_refused(explore("--run", run_folder, to=tmp_path / "page.html"), name.split("/")[-1])


def test_an_existing_page_is_replaced_by_force_only(tmp_path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine", encoding="utf-8")
    assert_refused(explore(to=page), "exists", "--force")
    assert page.read_text(encoding="utf-8") == "mine"
    assert stepfold("explore", "-o", page, "--no-open", "--force").code == 0
    assert embedded(page)["measured"] is None


def test_a_page_that_is_not_named_so_is_refused(tmp_path) -> None:
    assert_refused(explore(to=tmp_path / "page.txt"), "must end in .html")


def test_two_spectra_are_one_too_many(tmp_path) -> None:
    run = explore("--matrix", "A.npy", "--eigenvalues", "v.npy", to=tmp_path / "page.html")
    assert_refused(run, "--matrix or --eigenvalues, not both")


def test_the_page_is_opened_by_its_address(tmp_path) -> None:
    page = tmp_path / "a page.html"
    with mock.patch("webbrowser.open", return_value=True) as opened:
        run = stepfold("explore", "-o", page)
    opened.assert_called_once_with(page.resolve().as_uri())
    assert (run.code, run.err) == (0, "")


def test_without_a_browser_the_name_of_the_page_is_printed(tmp_path) -> None:
    with (
        mock.patch("webbrowser.open", return_value=False),
        mock.patch("tempfile.tempdir", str(tmp_path)),
    ):
        run = stepfold("explore")
    assert run.code == 0
    assert "No browser was found" in run.err
    (page,) = tmp_path.glob("stepfold-explore-*.html")
    assert run.out == f"page: {page}\n"
