"""`stepfold train`: by name or file, in a folder, interrupted, resumed, refused."""

from __future__ import annotations

import inspect
import os
import signal
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from cli_runner import assert_refused, stepfold

from stepfold import Schedule
from stepfold.result import TrainingRun
from stepfold.unfolded import _loop
from stepfold.unfolded.networks import NETWORKS, Task
from stepfold.unfolded.runs import trained_task

QUICK = ("--set", "num_layers=2", "--set", "training.num_iterations=6")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("H.npy", np.diag([1.0, 2.0, 3.0]))


def _quick(*words: str) -> Any:
    return stepfold("train", "dugd", "--set", "matrix=H.npy", *QUICK, *words)


def test_a_training_leaves_a_folder_that_is_read_without_torch() -> None:
    run = _quick("-o", "out")
    assert (run.code, run.err) == (0, "")
    assert "Training of dugd" in run.out
    assert sorted(os.listdir("out")) == [
        "checkpoint.safetensors",
        "schedule.json",
        "settings.json",
        "spectrum.json",
        "training.json",
    ]
    record = TrainingRun.load("out")
    assert record.finished
    assert Schedule.load("out/schedule.json") == record.schedule
    assert record.history.losses.shape == (2, 6)


def test_the_default_folder_is_named_after_the_network() -> None:
    assert _quick().code == 0
    assert TrainingRun.load("runs/training/dugd").schedule.period == 2


def test_the_list_names_every_network_and_its_parameters() -> None:
    run = stepfold("train", "--list")
    assert (run.code, run.err) == (0, "")
    assert all(name in run.out for name in NETWORKS)
    assert "matrix_seed=12" in run.out


def test_json_is_one_record() -> None:
    record = _quick("-o", "out", "--json").json()
    assert (record["network"], record["finished"], record["num_stages"]) == ("dugd", True, 2)
    assert Schedule.from_dict(record["schedule"]) == Schedule.load("out/schedule.json")


FILE = """
network = "dugd"

[parameters]
num_layers = 2
matrix = "H.npy"

[training]
num_iterations = 6
"""


def test_a_file_sets_the_same_as_the_options(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    np.save("sub/H.npy", np.diag([1.0, 2.0, 3.0]))  # found beside the file
    Path("sub/mine.toml").write_text(FILE)
    assert stepfold("train", "sub/mine.toml").code == 0
    assert _quick("-o", "out").code == 0
    first, second = (Path(p, "schedule.json") for p in ("runs/training/mine", "out"))
    assert first.read_bytes() == second.read_bytes()


def test_options_change_what_the_file_says() -> None:
    Path("mine.toml").write_text(FILE)
    record = stepfold("train", "mine.toml", "--set", "num_layers=1", "--json").json()
    assert record["num_stages"] == 1


def _interrupted(monkeypatch, number: int, after: int) -> Any:
    """Run with a signal to this process in the middle of an iteration."""
    real, calls = _loop.Loop._iterate, []

    def iterate(self: Any, stage: Any) -> float:
        calls.append(stage)
        if len(calls) == after:
            os.kill(os.getpid(), number)
        return real(self, stage)

    monkeypatch.setattr(_loop.Loop, "_iterate", iterate)
    run = _quick("-o", "out")
    monkeypatch.undo()
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [1, 6, 9])
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    monkeypatch, tmp_path, number, after
) -> None:
    assert _quick("-o", "whole").code == 0
    run = _interrupted(monkeypatch, number, after)
    os.chdir(tmp_path)
    assert run.code == 130
    assert "Interrupted; the checkpoint is kept. Go on with: stepfold train dugd" in run.err
    assert "-o out --resume" in run.err
    assert not Path("out/schedule.json").exists()
    assert _quick("-o", "out", "--resume").code == 0
    assert Path("out/schedule.json").read_bytes() == Path("whole/schedule.json").read_bytes()
    losses = [TrainingRun.load(name).history.losses for name in ("out", "whole")]
    np.testing.assert_array_equal(*losses)


def test_signals_mean_what_they_meant_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    _quick("-o", "out")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_folder_with_a_training_is_kept_unless_told_otherwise() -> None:
    _quick("-o", "out")
    before = Path("out/training.json").read_bytes()
    assert_refused(_quick("-o", "out"), "already holds a training", "--resume", "--force")
    assert Path("out/training.json").read_bytes() == before
    assert _quick("-o", "out", "--force").code == 0
    assert Path("out/training.json").read_bytes() != before  # other seconds


def test_a_finished_training_is_resumed_to_itself() -> None:
    _quick("-o", "out")
    before = Path("out/schedule.json").read_bytes()
    assert _quick("-o", "out", "--resume").code == 0
    assert Path("out/schedule.json").read_bytes() == before


def test_nothing_to_resume_is_said_and_begun() -> None:
    run = _quick("-o", "out", "--resume")
    assert (run.code, run.err) == (0, "out has no checkpoint; beginning anew.\n")


def test_a_training_with_other_settings_is_refused_by_their_names() -> None:
    _quick("-o", "out")
    run = stepfold("train", "dugd", "--set", "num_layers=3", "-o", "out", "--resume")
    assert_refused(
        run,
        "`parameters.num_layers` is 2 there and 3 here",
        "`training.num_iterations` is 6 there and 500 here",
        "`parameters.matrix` is 'float64 of shape (3, 3)",
    )


def test_a_foreign_folder_is_left_alone(tmp_path) -> None:
    assert_refused(_quick("-o", "."), "is not the folder of a training")
    assert os.listdir(tmp_path) == ["H.npy"]


def test_a_file_in_the_folder_s_place_is_refused() -> None:
    assert_refused(_quick("-o", "H.npy"), "H.npy is not a folder")


def test_a_damaged_checkpoint_is_refused_and_kept() -> None:
    _quick("-o", "out")
    path = Path("out/checkpoint.safetensors")
    path.write_bytes(path.read_bytes()[:300])
    assert_refused(_quick("-o", "out", "--resume"), "is not a whole checkpoint")
    assert path.stat().st_size == 300


@pytest.mark.parametrize(
    "text", ["", "{}", "[1", '{"format": "other"}', pytest.param("[" * 10**5, id="deep")]
)
def test_damaged_settings_are_refused(text) -> None:
    _quick("-o", "out")
    Path("out/settings.json").write_text(text)
    assert_refused(_quick("-o", "out", "--resume"), "settings.json is not the record")


def test_a_setting_nested_too_deep_is_refused_by_its_name() -> None:
    run = stepfold("train", "dugd", "--set", f"num_layers={'[' * 10**5}", "-o", "out")
    assert_refused(run, "--set num_layers is nested too deep")


BAD_FILES = {
    "nested too deep": ("network = " + "[" * 10**5, "is not TOML"),
    "no TOML": ("network = ", "is not TOML"),
    "no network": ("[training]\nseed = 1", 'must say which network, as in network = "dugd"'),
    "unknown network": ('network = "dugb"', "there is no network 'dugb'; did you mean dugd"),
    "unknown table": ('network = "dugd"\n[trainig]', "no setting 'trainig'; did you mean tr"),
    "unknown parameter": (FILE.replace("num_layers", "layers"), "no setting 'layers'; did you"),
    "unknown training": (FILE.replace("num_iterations", "epochs"), "no setting 'epochs'; there"),
    "no table": ('network = "dugd"\ntraining = 3', "training must be a table, [training]"),
    "string": (FILE.replace("= 6", '= "6"'), "num_iterations must be an integer, got '6'"),
    "float": (FILE.replace("= 2", "= 2.5"), "num_layers must be an integer, got 2.5"),
    "bool": (FILE.replace("= 2", "= true"), "num_layers must be an integer, got True"),
    "matrix as number": (FILE.replace('"H.npy"', "3"), "matrix must name a .npy file, got 3"),
    "no matrix": (FILE.replace("H.npy", "G.npy"), "G.npy: there is no such file"),
    "depth 0": (FILE.replace("= 2", "= 0"), "`num_layers` must be an integer of at least 1, got 0"),
    "no iterations": (FILE.replace("= 6", "= 0"), "`num_iterations` must be an integer of at"),
    "rate": (FILE + "learning_rate = -1.0", "`learning_rate` must be positive and finite"),
    "optimiser": (FILE + 'optimizer = "adan"', "`optimizer` must be one of adam, adamw,"),
    "strategy": (FILE + 'strategy = "all"', "`strategy` must be one of incremental, all-at-once"),
    "patience": (FILE + "patience = 0", "`patience` must be an integer of at least 1, got 0"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_one_clear_line_and_leave_nothing(tmp_path, name) -> None:
    text, message = BAD_FILES[name]
    Path("bad.toml").write_text(text)
    assert_refused(stepfold("train", "bad.toml", "-o", "out"), message)
    assert sorted(os.listdir(tmp_path)) in (["H.npy", "bad.toml"], ["H.npy", "bad.toml", "out"])
    assert not Path("out/training.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("missing.toml",), "missing.toml: there is no such file"),
        (("nonsense",), "there is no network 'nonsense'"),
        (("dugd", "--set", "num_layers"), "--set must be NAME=VALUE"),
        (("dugd", "--set", "depth=3"), "no setting 'depth'"),
        (("dugd", "--set", "training.seed=x"), "--set training: seed must be an integer, got 'x'"),
        (("dugd", "--resume", "--force"), "give --resume or --force, not both"),
        (("dugd", "--checkpoint-every", "0"), "--checkpoint-every"),
        ((), "Missing argument"),
    ],
)
def test_bad_words_are_one_clear_line(words, message) -> None:
    assert_refused(stepfold("train", *words), message)


def test_a_file_that_is_no_text_is_refused() -> None:
    Path("bad.toml").write_bytes(b"\xff\xfe")
    assert_refused(stepfold("train", "bad.toml"), "bad.toml cannot be read")


def test_a_sparse_matrix_is_refused() -> None:
    import scipy.sparse

    scipy.sparse.save_npz("S.npz", scipy.sparse.csr_array(np.eye(3)))
    run = stepfold("train", "dugd", "--set", "matrix=S.npz")
    assert_refused(run, "must name a dense matrix, .npy; S.npz is sparse")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_set_from_a_file(name) -> None:
    signature = inspect.signature(NETWORKS[name], eval_str=True)
    assert inspect.getdoc(NETWORKS[name])
    for parameter in signature.parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        plain = {int, float, bool, str, type(None)}
        given = set(typing.get_args(parameter.annotation)) or {parameter.annotation}
        assert given <= plain or any("ndarray" in str(kind) for kind in given)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_made_with_its_defaults(name) -> None:
    assert isinstance(NETWORKS[name](), Task)


OWN = """
import numpy as np
import torch

from stepfold import Schedule
from stepfold.unfolded import Sample, UnfoldedIteration
from stepfold.unfolded.networks import Task, TrainingSettings


def task(num_layers=3, scale: float = 1.0):
    torch.manual_seed(0)
    prior = torch.nn.Linear(4, 4).double()

    def step(x, params, y):
        return x + params.step * (y - x) + 0.1 * prior(x)

    def draw(rng):
        y = scale * torch.from_numpy(rng.standard_normal((6, 4)))
        return Sample(y, 2 * y, 0 * y)

    network = UnfoldedIteration(Schedule(np.full(num_layers, 0.3)), iteration=step)
    return Task(network, draw, TrainingSettings(num_iterations=5))


def nothing():
    return 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """Name of a module in the current folder."""
    name = f"own_{tmp_path.name.translate(str.maketrans('-', '_'))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_task_of_ones_own_is_trained_and_explained_with_its_weights(own) -> None:
    run = stepfold("train", f"{own}:task", "--set", "num_layers=2", "--set", "scale=0.5")
    assert run.code == 0, run.err
    folder = f"runs/training/{own}-task"
    assert TrainingRun.load(folder).schedule.period == 2
    network = trained_task(Path(folder)).network
    state = safetensors.torch.load_file(f"{folder}/weights.safetensors")
    assert {name: value.tolist() for name, value in network.state_dict().items()} == {
        name: value.tolist() for name, value in state.items()
    }
    explained = stepfold("explain", folder)
    assert explained.code == 0, explained.err
    assert "What each layer does near its iterate" in explained.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{own}:task", "--set", "num_layer=2"), "did you mean num_layers"),
        (("{own}:nothing",), "must return a Task, got int"),
        (("{own}:none",), "has no 'none'"),
        (("no_such_module:task",), "there is no module 'no_such_module'"),
    ],
)
def test_a_task_of_ones_own_that_is_none_is_refused(own, words, message) -> None:
    run = stepfold("train", *(word.format(own=own) for word in words), "-o", "out")
    assert run.code != 0
    assert message in run.err
