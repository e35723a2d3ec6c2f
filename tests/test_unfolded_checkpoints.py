"""Checkpoints: refused when they do not fit, kept when the disk is full, free of code."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import stepfold
from stepfold import Schedule, SpectralMeasure
from stepfold.iterations import HeavyBall
from stepfold.unfolded import (
    GaussianLeastSquares,
    HeldOut,
    SampledLoss,
    SpectralLoss,
    UnfoldedIteration,
    incremental,
    train,
)
from stepfold.unfolded._tree import flatten, unflatten
from stepfold.unfolded.checkpoints import load_checkpoint, save_checkpoint

MEASURE = SpectralMeasure.from_eigenvalues([0.5, 1.0, 2.0, 4.0])


def _train(path: Path, *, steps: Any = (0.3, 0.3), loss: Any = None, stages: Any = None, **options):
    network = UnfoldedIteration(Schedule(steps))
    loss = SpectralLoss(MEASURE) if loss is None else loss
    stages = incremental(len(steps), 10) if stages is None else stages
    return train(network, loss, stages, checkpoint=path, **options)


@pytest.fixture
def path(tmp_path) -> Path:
    """The checkpoint of a training that has ended."""
    _train(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize(
    "value",
    [
        {1: (0.9, 0.999), "a": [None, True, 1, 2.5, "x"]},
        {"big": 2**127 - 1, "odd": [float("inf"), -0.1]},
        Counter({3: 2, 7: 1}),
        (),
    ],
)
def test_values_survive_as_json_with_their_types(value) -> None:
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(flatten(value, tensors), allow_nan=False)
    back = unflatten(json.loads(text), tensors)
    assert back == value
    assert type(back) is type(value)


def test_tensors_and_arrays_survive_to_the_last_bit() -> None:
    value = {"t": torch.tensor([0.1, float("nan")]), "a": [np.array([1 / 3])], "s": torch.tensor(2)}
    tensors: dict[str, torch.Tensor] = {}
    back = unflatten(flatten(value, tensors), tensors)
    assert back["t"].numpy().tobytes() == value["t"].numpy().tobytes()
    assert isinstance(back["a"][0], np.ndarray)
    assert back["a"][0].tobytes() == value["a"][0].tobytes()
    assert back["s"].ndim == 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).double().as_strided((1,), (0,)),
        torch.tensor(2.0).expand(3, 2),
        torch.arange(6.0).reshape(2, 3).T,
        torch.ones(2, dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.empty(0),
    ],
)
def test_tensors_of_every_layout_survive_a_checkpoint(tmp_path, tensor) -> None:
    save_checkpoint(tmp_path / "checkpoint", {}, {"x": tensor, "again": tensor})
    assert torch.equal(load_checkpoint(tmp_path / "checkpoint", {})["x"], tensor)


def test_what_is_no_data_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"cannot hold 'scheduler\.rule', which is function"):
        flatten({"scheduler": {"rule": lambda: 0}}, {})


def test_a_finished_training_is_resumed_to_the_same_run(path) -> None:
    first, again = _train(path, resume=True), _train(path, resume=True)
    assert first.schedule == again.schedule
    np.testing.assert_array_equal(first.history.losses, again.history.losses)
    assert first.finished


def test_without_a_checkpoint_a_resumed_training_begins_anew(tmp_path) -> None:
    plain, resumed = _train(tmp_path / "a"), _train(tmp_path / "b", resume=True)
    assert plain.schedule == resumed.schedule


def test_a_checkpoint_is_not_overwritten_by_another_training(path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"exists; give `resume=True` to go on"):
        _train(path)
    assert path.read_bytes() == before


def test_a_stopped_training_says_so_and_goes_on_to_the_same_end(tmp_path) -> None:
    whole = _train(tmp_path / "whole")
    part = _train(tmp_path / "part", callback=lambda now: now.done == 13)
    assert not part.finished
    assert (part.history.num_layers.tolist(), np.isnan(part.history.losses).sum()) == ([1, 2], 7)
    rest = _train(tmp_path / "part", resume=True)
    assert rest.finished
    assert rest.schedule == whole.schedule
    np.testing.assert_array_equal(rest.history.losses, whole.history.losses)


def _momentum(path: Path) -> None:
    network = UnfoldedIteration(Schedule([0.3, 0.3]), iteration=HeavyBall(0.1))
    sampled = SampledLoss(GaussianLeastSquares(np.eye(2), batch_size=3, dtype=torch.float64))
    train(network, sampled, incremental(2, 10), checkpoint=path, resume=True)


SGD = functools.partial(torch.optim.SGD, lr=0.01)
OTHERS = {
    "depth": ({"steps": (0.3, 0.3, 0.3)}, r"`network\.num_layers` is 2 there and 3 here"),
    "stages": ({"stages": incremental(2, 11)}, r"`stages` is \[\[1, 10, 0\], .* here"),
    "seed": ({"seed": 1}, r"`seed` is 0 there and 1 here"),
    "optimiser": ({"optimizer": SGD}, r"`optimizer\.kind` is 'torch\.optim\.adam\.Adam' there"),
    "rate": (
        {"optimizer": functools.partial(torch.optim.Adam, lr=0.1)},
        r"`optimizer\.lr` is 0\.002 there and 0\.1 here",
    ),
    "clipping": ({"clip_norm": 1.0}, r"`clip_norm` is None there and 1\.0 here"),
    "logarithm": ({"relative": True}, r"`relative` is False there and True here"),
    "batch": (
        {"loss": SpectralLoss(MEASURE, batch_size=7)},
        r"`loss\.batch_size` is 200 there and 7 here",
    ),
    "spectrum": (
        {"loss": SpectralLoss(SpectralMeasure.from_eigenvalues([1.0, 2.0]))},
        r"`loss\.measure\.nodes` is 'float64 of shape \(4,\), checksum [-\d. ]+' there",
    ),
    "early stop": (
        {"held_out": HeldOut(SpectralLoss(MEASURE), every=5)},
        r"`held_out` is None there and \{'kind': 'stepfold\.unfolded\.options\.HeldOut'",
    ),
    "scheduler": (
        {"scheduler": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 7)},
        r"`scheduler` is None there and \{'kind': 'torch\.optim\.lr_scheduler\.StepLR', 'step_s",
    ),
    "batches": ({"batches_per_step": 2}, r"`batches_per_step` is 1 there and 2 here"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_checkpoint_of_another_training_is_refused_by_its_difference(path, name) -> None:
    options, message = OTHERS[name]
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"another training: .*{message}"):
        _train(path, resume=True, **options)
    assert path.read_bytes() == before


def test_the_checkpoint_of_another_iteration_is_refused(path) -> None:
    with pytest.raises(ValueError, match=r"GradientDescent' there and .*HeavyBall' here"):
        _momentum(path)


@pytest.mark.parametrize("length", [0, 1, 8, 100, -1, -200])
def test_a_checkpoint_that_is_cut_short_is_refused_and_left_alone(path, length) -> None:
    content = path.read_bytes()[:length]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not a whole checkpoint \((it is empty|cut short)"):
        _train(path, resume=True)
    assert path.read_bytes() == content


def test_a_checkpoint_with_a_flipped_bit_is_refused(path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged \(its checksum"):
        _train(path, resume=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A checkpoint with numbers in its state, and tensors."""
    path = tmp_path_factory.mktemp("sound") / "checkpoint"
    state = {"step": 1234, "rate": 0.25, "moments": [torch.ones(3), torch.zeros(2, 2)]}
    save_checkpoint(path, {"seed": 5}, state)
    return path


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
def test_no_changed_byte_of_a_checkpoint_is_read_as_a_state(sound, data) -> None:
    content = bytearray(sound.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    damaged = sound.with_name("damaged")
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(damaged, {"seed": 5})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"1234", b"1235"),
        (b"0.25", b"0.75"),
        (b"[2,2]", b"[4,1]"),
        (b'".moments.0":', b'".moments.9":'),
    ],
)
def test_a_checkpoint_in_which_state_shape_or_name_was_changed_is_refused(
    sound, old: bytes, new: bytes
) -> None:
    content = sound.read_bytes()
    assert old in content
    damaged = sound.with_name("edited")
    damaged.write_bytes(content.replace(old, new, 1))
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(damaged, {"seed": 5})


def test_a_checkpoint_nested_too_deep_is_refused_by_name(tmp_path) -> None:
    import safetensors.torch

    path = tmp_path / "deep"
    deep = "[" * 200_000 + "]" * 200_000
    safetensors.torch.save_file({"x": torch.ones(1)}, path, {"stepfold": deep, "checksum": "0"})
    with pytest.raises(ValueError, match=r"deep is not a whole checkpoint"):
        load_checkpoint(path, {})


def test_a_checkpoint_of_another_version_is_refused(path, monkeypatch) -> None:
    made_by = re.escape(stepfold.__version__)
    monkeypatch.setattr(stepfold, "__version__", "99.0")
    with pytest.raises(ValueError, match=rf"by stepfold {made_by}, and this is 99\.0"):
        _train(path, resume=True)


def test_a_file_of_another_kind_is_refused(tmp_path) -> None:
    import safetensors.torch

    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "weights")
    with pytest.raises(ValueError, match=r"is not a whole checkpoint"):
        _train(tmp_path / "weights", resume=True)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch, call) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {}, {"x": torch.ones(3)})
    before = path.read_bytes()

    def full(*_arguments: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":
        monkeypatch.setattr(os, "fdopen", _full_file(os.fdopen, full))
    else:
        monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[call], full)
    with pytest.raises(OSError, match=r"No space left.*the previous one is intact") as caught:
        save_checkpoint(path, {}, {"x": torch.zeros(3)})
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["checkpoint"]
    assert load_checkpoint(path, {})["x"].tolist() == [1.0, 1.0, 1.0]


def _full_file(real: Any, full: Any) -> Any:
    def fdopen(*arguments: Any) -> Any:
        file = real(*arguments)

        class Full:
            write = staticmethod(full)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

        return Full()

    return fdopen


def test_a_disk_that_fills_up_ends_the_training_and_it_goes_on_later(tmp_path, monkeypatch) -> None:
    whole = _train(tmp_path / "whole")
    real, calls = os.fsync, []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) > 2:  # a file and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"make room and resume"):
        _train(tmp_path / "part")
    monkeypatch.undo()
    assert _train(tmp_path / "part", resume=True).schedule == whole.schedule


@pytest.mark.parametrize(
    ("place", "message"),
    [("", r"is a folder; name a file"), ("file/x", r"file is not a folder; choose another")],
)
def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(
    tmp_path, place, message
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=message):
        _train(tmp_path / place, loss=_untouchable)
    assert (tmp_path / "file").read_text() == ""


def _untouchable(*_: Any) -> Any:
    raise AssertionError("the loss was asked before the place was looked at")


def test_a_checkpoint_holds_no_code(path) -> None:
    import safetensors.torch

    content = path.read_bytes()
    assert safetensors.torch.load(content)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])["__metadata__"]["stepfold"]
    assert json.loads(header)["format"] == "stepfold.checkpoint/2"


@pytest.mark.parametrize("option", [{"resume": True}, {"checkpoint_every": 3}])
def test_settings_of_checkpoints_need_a_file(option) -> None:
    network = UnfoldedIteration(Schedule([0.3]))
    with pytest.raises(ValueError, match=r"`checkpoint` must name a file"):
        train(network, SpectralLoss(MEASURE), **option)


def test_a_loss_with_a_state_of_its_own_is_resumed_with_it(tmp_path) -> None:
    class Drifting:
        measure = None
        calls = 0

        def __call__(self, network, num_layers, rng):  # noqa: ARG002
            self.calls += 1
            return (network.steps[:num_layers] - 0.001 * self.calls).square().sum()

        def state_dict(self) -> dict[str, int]:
            return {"calls": self.calls}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.calls = state["calls"]

    whole = _train(tmp_path / "whole", loss=Drifting())
    _train(tmp_path / "part", loss=Drifting(), callback=lambda now: now.done == 7)
    assert _train(tmp_path / "part", loss=Drifting(), resume=True).schedule == whole.schedule
