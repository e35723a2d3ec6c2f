"""``stepfold explain RUN``: what a training learned, from its folder alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from stepfold import Schedule, SpectralMeasure
from stepfold.cli import cli
from stepfold.lab.explanation.folder import explain_folder
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.unfolded.runs import Order, train_in_folder


def write_training(folder: Path, *, spectrum: bool, finished: bool = True) -> Path:
    folder.mkdir()
    steps = np.array([[0.4, 0.9]])
    history = TrainingHistory(
        steps=steps, losses=np.linspace(2, 1, 50)[None], seconds=np.ones(1), num_layers=[2]
    )
    run = TrainingRun(Schedule(steps[0], "learned"), history, 50, 0, finished=finished)
    (folder / "training.json").write_text(json.dumps(run.to_dict()))
    if spectrum:
        measure = SpectralMeasure.from_eigenvalues([1.0, 2.0, 3.0])
        (folder / "spectrum.json").write_text(json.dumps(measure.to_dict()))
    return folder


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    code = result.return_value if result.exception is None else 2
    return code, result.output + ("" if result.exception is None else str(result.exception))


def test_a_training_with_a_spectrum_is_compared_with_the_optimum(tmp_path: Path) -> None:
    code, text = invoke("explain", write_training(tmp_path / "t", spectrum=True))
    assert code == 0
    assert "times the smallest possible" in " ".join(text.split())


def test_a_training_without_a_spectrum_is_told_by_its_losses(tmp_path: Path) -> None:
    outcome = explain_folder(write_training(tmp_path / "t", spectrum=False))
    assert "has not converged" in outcome.summary


def test_a_training_that_was_stopped_says_so(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=False, finished=False)
    assert "--resume" in explain_folder(folder).summary


def test_the_json_holds_the_distances(tmp_path: Path) -> None:
    code, text = invoke("explain", write_training(tmp_path / "t", spectrum=True), "--json")
    assert code == 0
    record = json.loads(text)
    assert record["distances"]["gap"] > 1
    assert record["distances"]["verdict"] == "UNFINISHED"


def test_a_report_is_written(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=True)
    code, _ = invoke("explain", folder, "-o", tmp_path / "report")
    assert code == 0
    assert (tmp_path / "report" / "report.html").exists()


def test_options_for_matrices_are_refused(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=True)
    code, text = invoke("explain", folder, "--ridge", "1")
    assert code == 2
    assert "--ridge is for a matrix" in text


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no finished training"):
        explain_folder(tmp_path)


def test_a_damaged_spectrum_is_named(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=True)
    (folder / "spectrum.json").write_text("{}")
    with pytest.raises(ValueError, match=r"spectrum\.json is not the record of a spectrum"):
        explain_folder(folder)


def test_the_noise_of_a_training_is_kept_beside_its_spectrum(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).standard_normal((12, 6)) / np.sqrt(12)
    order = Order(
        "dugd", {"num_layers": 3, "matrix": matrix, "noise": 0.5}, {"num_iterations": 400}
    )
    run = train_in_folder(order, tmp_path / "t")
    outcome = explain_folder(tmp_path / "t")
    assert outcome.parameters["noise"] == 0.5
    assert outcome.records["distances"]["verdict"] == "OPTIMAL"
    recorded = run.history.mean_squared_errors[-1]
    error = outcome.records["distances"]["mean_squared_errors"]["learned"]
    assert error == pytest.approx(recorded, rel=1e-12)


def test_damaged_noise_is_named(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=True)
    record = json.loads((folder / "spectrum.json").read_text())
    (folder / "spectrum.json").write_text(json.dumps({**record, "noise": -1}))
    with pytest.raises(ValueError, match=r"spectrum\.json is not .*`noise` must be at least 0"):
        explain_folder(folder)
