"""What a checkpoint compares, to tell one training from another, and what it can hold."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from stepfold import Quadratic, Schedule, SpectralMeasure
from stepfold.result import TrainingRun
from stepfold.unfolded import (
    DataSetSampler,
    Sample,
    SampledLoss,
    SpectralLoss,
    UnfoldedIteration,
    all_at_once,
    incremental,
    train,
)
from stepfold.unfolded._describe import describe
from stepfold.unfolded.checkpoints import load_checkpoint, save_checkpoint

SPECTRAL = SpectralLoss(SpectralMeasure.from_eigenvalues([0.5, 1.0, 2.0, 4.0]))


def towards(x: Any, params: Any, data: Any) -> Any:
    """A step towards the data."""
    return x - params.step * (x - data)


def test_arrays_are_told_apart_by_values_order_and_type_but_not_by_rounding() -> None:
    values = np.array([1.0, 2.0, 3.0])
    alike = [values, np.nextafter(values, 9)]
    others = [values[::-1], values.astype(np.float32), values[:, None], values + 1e-3]
    assert len({describe(array) for array in alike}) == 1
    assert len({describe(array) for array in [values, *others]}) == 5


MATRIX = np.array([[1.0, -2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    "other",
    [
        -MATRIX,
        abs(MATRIX),
        MATRIX * [1, -1],
        MATRIX.T,
        MATRIX[::-1].copy(),
        MATRIX + [[0, 1e-3]] * 2,
    ],
)
@pytest.mark.parametrize("make", [np.asarray, torch.tensor, lambda a: 1j * a])
def test_signs_and_places_of_entries_tell_arrays_apart(make, other) -> None:
    assert describe(make(MATRIX)) != describe(make(other))


def test_one_sign_among_a_million_is_seen_and_rounding_is_not() -> None:
    values = np.random.default_rng(0).standard_normal(1_000_000)
    other = values.copy()
    other[np.abs(values).argmax()] *= -1
    assert describe(other) != describe(values)
    rounded = values * (1 + 1e-15 * np.random.default_rng(1).standard_normal(values.size))
    assert describe(rounded) == describe(values)


@dataclasses.dataclass
class Power:
    """A function with a setting."""

    exponent: int

    def of(self, value: float) -> float:
        return value**self.exponent


class Random(Dataset[Any]):
    """Items that differ each time."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("an item was drawn")


def numbers(value: float) -> TensorDataset:
    """Eight equal rows."""
    return TensorDataset(torch.full((8, 3), value).double())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (functools.partial(pow, 3), functools.partial(pow, 4)),
        (functools.partial(pow, exp=3), functools.partial(pow, exp=4)),
        (Power(3).of, Power(4).of),
        ({"a": 1.0}, {"a": 2.0}),
        (numbers(1.0), numbers(-1.0)),
        (Subset(numbers(1.0), [0, 1]), Subset(numbers(1.0), [0, 2])),
        (Subset(numbers(1.0), range(200)), Subset(numbers(2.0), range(200))),
        (list(range(200)), list(range(199, -1, -1))),
        (Subset(numbers(1.0), range(4)), Subset(numbers(1.0), range(4, 8))),
        (list(np.arange(200)), list(np.arange(1, 201))),
        (np.int64(3), np.int64(4)),
        (1j, 2j),
        (torch.float32, torch.float64),
        (Random(3), Random(4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_of_functions_and_data_sets_are_compared(one, other) -> None:
    assert describe(one) == describe(one)
    assert describe(one) != describe(other)


def _train(loss: Any, path: Path, **options: Any) -> TrainingRun:
    network = UnfoldedIteration(Schedule([0.5, 0.3]), iteration=towards)
    return train(network, loss, all_at_once(2, 8), checkpoint=path, **options)


def _stopping(now: Any) -> bool:
    return bool(now.done == 3)


def test_a_training_on_other_data_is_refused(tmp_path) -> None:
    def sampler(value: float) -> DataSetSampler:
        def pose(batch: Any) -> Sample:
            return Sample(batch[0], batch[0], 0 * batch[0])

        return DataSetSampler(numbers(value), batch_size=4, pose=pose)

    _train(sampler(1.0), tmp_path / "checkpoint", callback=_stopping)
    with pytest.raises(ValueError, match=r"`loss\.sampler\.data\.tensors` is .* there and .* here"):
        _train(sampler(-1.0), tmp_path / "checkpoint", resume=True)


def test_a_training_of_other_parameters_is_refused(tmp_path) -> None:
    def begin(**options: Any) -> None:
        network = UnfoldedIteration(
            Schedule([0.3]),
            iteration=lambda x, params, data: x - params.w * params.step * (x - data),
            parameters={"w": 1.0},
            train_steps=options.pop("train_steps"),
        )
        ones = torch.ones(4, 3).double()
        loss = SampledLoss(lambda _rng: Sample(ones, ones, 0 * ones))
        train(network, loss, all_at_once(1, 8), checkpoint=tmp_path / "checkpoint", **options)

    begin(train_steps=True, callback=_stopping)
    with pytest.raises(ValueError, match=r"`network\.trained` is \['step.*'\] there and \['extra"):
        begin(train_steps=False, resume=True)


class Counting:
    """A sampler that remembers how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rng: np.random.Generator) -> Sample:  # noqa: ARG002
        self.calls += 1
        data = torch.full((2, 3), float(self.calls)).double()
        return Sample(data, data, 0 * data)

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


class CountingModule(nn.Module):
    """The same as a module."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, rng: np.random.Generator) -> Sample:  # noqa: ARG002
        self.calls += 1
        data = self.calls * torch.ones(2, 3).double()
        return Sample(data, data, 0 * data)


@pytest.mark.parametrize("make", [Counting, CountingModule])
def test_a_sampler_that_remembers_goes_on_where_it_was(tmp_path, make) -> None:
    whole = _train(make(), tmp_path / "whole")
    _train(make(), tmp_path / "part", callback=_stopping)
    rest = _train(make(), tmp_path / "part", resume=True)
    np.testing.assert_array_equal(rest.history.losses, whole.history.losses)
    assert rest.schedule == whole.schedule


def test_a_module_of_a_generator_is_a_sampler_of_problems() -> None:
    class Draws(nn.Module):
        def forward(self, rng: np.random.Generator) -> Any:
            x = torch.from_numpy(rng.standard_normal((3, 2)))
            return Quadratic(torch.eye(2).double(), x), x

    run = train(UnfoldedIteration(Schedule([0.3])), Draws(), all_at_once(1, 2))
    assert np.isfinite(run.history.losses).all()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("conjugated", [False, True])
def test_complex_tensors_and_arrays_are_stored_to_the_last_bit(tmp_path, dtype, conjugated) -> None:
    tensor = torch.randn(3, 2, dtype=dtype, generator=torch.Generator().manual_seed(0)).T
    tensor = tensor.conj() if conjugated else tensor
    state = {"tensor": tensor, "array": tensor.resolve_conj().numpy(), "number": tensor[0, 0]}
    save_checkpoint(tmp_path / "checkpoint", {}, state)
    found = load_checkpoint(tmp_path / "checkpoint", {})
    assert torch.equal(found["tensor"], tensor)
    assert torch.equal(found["number"], tensor[0, 0])
    np.testing.assert_array_equal(found["array"], state["array"])


class Ruled(torch.optim.lr_scheduler.LRScheduler):
    """Keeps a function, which no checkpoint can hold."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.rule = lambda epoch: 0.9**epoch
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [rate * self.rule(self.last_epoch) for rate in self.base_lrs]


def test_a_state_that_cannot_be_stored_is_refused_before_the_work(tmp_path) -> None:
    begun: list[int] = []
    network = UnfoldedIteration(Schedule([0.3, 0.3]))
    with pytest.raises(
        TypeError, match=r"cannot hold 'scheduler\.rule', which is function; .*leave"
    ):
        train(
            network,
            SPECTRAL,
            incremental(2, 5),
            scheduler=Ruled,
            checkpoint=tmp_path / "checkpoint",
            callback=lambda now: begun.append(now.done),
        )
    assert not begun
    assert list(tmp_path.iterdir()) == []


def test_a_training_removes_the_draft_of_one_killed_before_its_first_checkpoint(tmp_path) -> None:
    (tmp_path / ".checkpoint-a1b2c3").write_bytes(b"half")
    _train(Counting(), tmp_path / "checkpoint", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


RATES = torch.optim.lr_scheduler
SCHEDULERS = {
    "one cycle": lambda optimizer: RATES.OneCycleLR(optimizer, max_lr=0.1, total_steps=41),
    "cosine": lambda optimizer: RATES.CosineAnnealingLR(optimizer, 40),
    "lambda": lambda optimizer: RATES.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    "plateau": lambda optimizer: RATES.ReduceLROnPlateau(optimizer, patience=1),
}
OPTIMIZERS = {
    "Adam": functools.partial(torch.optim.Adam, lr=0.01),
    "SGD with momentum": functools.partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "RAdam": torch.optim.RAdam,
    "AdamW with amsgrad": functools.partial(torch.optim.AdamW, lr=0.01, amsgrad=True),
}


# Accumulators in single precision beside counts in another: what is rounded on the way shows.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [*(("Adam", name) for name in SCHEDULERS), *((name, None) for name in OPTIMIZERS)],
)
def test_every_optimiser_and_rate_goes_on_to_the_same_bits(
    tmp_path, optimizer, scheduler, dtype
) -> None:
    def run(name: str, **options: Any) -> TrainingRun:
        return train(
            UnfoldedIteration(Schedule([0.3, 0.3]), dtype=dtype),
            SPECTRAL,
            incremental(2, 20),
            optimizer=OPTIMIZERS[optimizer],
            scheduler=scheduler and SCHEDULERS[scheduler],
            checkpoint=tmp_path / name,
            **options,
        )

    whole = run("whole")
    run("part", callback=lambda now: now.done == 27)
    rest = run("part", resume=True)
    np.testing.assert_array_equal(rest.history.losses, whole.history.losses)
    assert rest.schedule == whole.schedule


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_sparse_tensors_are_described_without_being_filled(layout) -> None:
    tensor = torch.eye(3).to_sparse() if layout == "coo" else torch.eye(3).to_sparse_csr()
    assert describe(tensor).startswith("float32 of shape (3, 3), checksum 1.73205")
