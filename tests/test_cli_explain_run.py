"""``stepfold explain RUN``: what a training learned, from its folder alone."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import stepfold
from stepfold import Schedule, SpectralMeasure
from stepfold.cli import cli
from stepfold.lab.explanation.folder import explain_folder
from stepfold.result import TrainingHistory, TrainingRun
from stepfold.unfolded.runs import Order, train_in_folder, trained_task


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


def test_a_loss_lost_in_its_noise_is_not_called_settled(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=False)
    record = json.loads((folder / "training.json").read_text())
    noise = np.random.default_rng(0).standard_normal(50)
    record["history"]["losses"] = [(np.linspace(2, 1, 50) + noise).tolist()]
    (folder / "training.json").write_text(json.dumps(record))
    assert "cannot be told from its noise" in explain_folder(folder).summary


def test_a_training_that_was_stopped_says_so(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=False, finished=False)
    assert "--resume" in explain_folder(folder).summary


def test_the_json_holds_the_distances(tmp_path: Path) -> None:
    code, text = invoke("explain", write_training(tmp_path / "t", spectrum=True), "--json")
    assert code == 0
    record = json.loads(text)
    assert record["distances"]["gap"] > 1
    assert record["distances"]["verdict"] == "UNFINISHED"


def test_the_terminal_shows_learned_steps_and_no_captions_of_figures(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=True)
    code, text = invoke("explain", folder)
    assert code == 0
    outcome = explain_folder(folder)
    words = " ".join(text.split())
    captions = [section.caption for section in outcome.sections if section.caption]
    assert captions
    assert [caption for caption in captions if caption in words] == []
    bars = re.findall(r"^ +\d +(\S+) +(#+)", text, re.MULTILINE)
    assert [(gamma, len(bar)) for gamma, bar in bars] == [("0.4", 1), ("0.9", 40)]
    assert "seed: 0" in text
    assert f"stepfold {stepfold.__version__}" in words


def test_a_report_is_written(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=True)
    code, _ = invoke("explain", folder, "-o", tmp_path / "report")
    assert code == 0
    assert (tmp_path / "report" / "report.html").exists()


def test_an_explanation_does_not_replace_what_it_explains(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "t", spectrum=True)
    before = sorted(path.name for path in folder.iterdir())
    for output in (folder, folder.parent):
        code, text = invoke("explain", folder, "-o", output, "--force")
        assert code == 2
        assert "which is to be explained" in " ".join(text.split())
    assert sorted(path.name for path in folder.iterdir()) == before


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
    (folder / "noise.json").write_text('"loud"')
    with pytest.raises(ValueError, match=r"noise\.json is not the record of a noise: .* 'loud'"):
        explain_folder(folder)
    (folder / "noise.json").write_text("-1")
    with pytest.raises(ValueError, match=r"noise\.json is not .*`noise` must be at least 0"):
        explain_folder(folder)


@pytest.fixture(scope="module")
def tista_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tista"
    small = {"num_layers": 2, "num_unknowns": 16, "num_rows": 8, "batch_size": 4}
    train_in_folder(Order("tista", small, {"num_iterations": 2}), folder)
    return folder


def edited(folder: Path, change: Callable[[dict[str, Any]], object], copy: Path) -> Path:
    """A copy of a training's folder with other settings."""
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "settings.json").read_text())
    change(settings)
    (copy / "settings.json").write_text(json.dumps(settings))
    return copy


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.update(network="gone"), "there is no network 'gone'; there are "),
        (lambda s: s["parameters"].update(newer=1), "no parameter of 'tista' called newer"),
        (lambda s: s["training"].update(newer=1), "no setting of a training called newer"),
        (lambda s: s["parameters"].update(batch_size="x"), "`batch_size` must be an integer"),
        (lambda s: s["parameters"].update(num_layers=3), "with 3 layers"),
        (lambda s: s.update(parameters=[]), "`parameters` must be of type dict"),
        (lambda s: s.pop("network"), "it has no 'network'"),
    ],
    ids=["network", "parameter", "setting", "type", "layers", "parameters", "missing"],
)
def test_a_folder_that_cannot_be_made_anew_says_why(
    tista_folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    copy = edited(tista_folder, change, tmp_path / "copy")
    with pytest.raises(ValueError, match=re.escape(reason)):
        trained_task(copy)
    outcome = explain_folder(copy)
    assert reason in str(outcome.sections[1].paragraphs[0])
    assert outcome.sections[1].figure is None


def test_a_folder_of_another_version_names_both(tista_folder: Path, tmp_path: Path) -> None:
    copy = edited(
        tista_folder, lambda s: s.update(version="9.9", network="gone"), tmp_path / "copy"
    )
    ours = re.escape(stepfold.__version__)
    with pytest.raises(ValueError, match=rf"of version 9\.9, .*by version {ours}: there is no"):
        trained_task(copy)


def test_damaged_figures_of_merit_are_named(tista_folder: Path, tmp_path: Path) -> None:
    copy = edited(tista_folder, lambda _: None, tmp_path / "copy")
    (copy / "evaluation.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"evaluation\.json is not the record of figures of merit"):
        explain_folder(copy)


def test_a_package_that_is_missing_is_named_in_the_report(
    tista_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("the photographs are those of scikit-image, install it")

    monkeypatch.setattr("stepfold.unfolded.runs.trained_task", missing)
    section = explain_folder(tista_folder).sections[1]
    assert section.paragraphs == (
        "That cannot be shown: the photographs are those of scikit-image, install it.",
    )


def test_only_gradient_steps_are_said_to_meet_curvatures(tista_folder: Path) -> None:
    section = explain_folder(tista_folder).sections[1]
    assert "they are no curvatures" in str(section.paragraphs[0])
    assert section.figure is not None
    assert section.figure.y.label == "eigenvalue"


def test_a_ridge_network_meets_the_curvatures_of_its_problem(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).standard_normal((12, 6)) / np.sqrt(12)
    order = Order("du_ridge", {"num_layers": 2, "matrix": matrix}, {"num_iterations": 2})
    train_in_folder(order, tmp_path / "own")
    own = explain_folder(tmp_path / "own").sections[1]
    assert "was trained with its own `matrix`" in str(own.paragraphs[0])
    train_in_folder(
        Order("du_ridge", {"num_layers": 2}, {"num_iterations": 2}), tmp_path / "published"
    )
    section = explain_folder(tmp_path / "published").sections[1]
    assert "the curvatures that the step meets" in str(section.paragraphs[0])
    assert section.figure is not None
    assert section.figure.y.label == "curvature"


def test_deblurring_is_shown_on_a_small_patch_with_its_memory(tmp_path: Path) -> None:
    small = {"num_layers": 2, "batch_size": 1}
    train_in_folder(Order("deblurring", small, {"num_iterations": 1}), tmp_path / "t")
    values, section, *_ = explain_folder(tmp_path / "t").sections
    assert values.caption == "Steps, momentum by layer."
    assert "Of threshold each layer has several numbers" in str(values.paragraphs[1])
    assert "one patch of 12 × 12 pixels" in str(section.paragraphs[0])
    assert "hand on the iterate and what they remember" in str(section.paragraphs[0])
    assert section.figure is not None
