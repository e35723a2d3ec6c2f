"""Data loaders: epochs, workers, places to go on from, and what is refused."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from stepfold import LeastSquares, Schedule
from stepfold.unfolded import (
    DataSetSampler,
    HeldOut,
    LoaderSampler,
    Sample,
    SampledLoss,
    UnfoldedIteration,
    all_at_once,
    train,
)
from stepfold.unfolded.progress import in_terminal

RNG = np.random.default_rng(0)
NUMBERS = torch.arange(10.0, dtype=torch.float64)
DATA = TensorDataset(NUMBERS, 2 * NUMBERS)


DRAWN = DataSetSampler(DATA, batch_size=2, pose=lambda batch: Sample(batch[0], batch[1]))


class _Noisy(Dataset[Tensor]):
    """Items with noise from torch's generator, as an augmentation draws it."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        return index + 0.1 * torch.rand(3, dtype=torch.float64)


class _Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(7.0, dtype=torch.float64))


def _pair(batch: Any) -> Sample:
    return Sample(batch[0], batch[1])


def _alone(batch: Tensor) -> Sample:
    return Sample(batch, 2 * batch)


def _seen(sampler: LoaderSampler, count: int) -> list[list[float]]:
    return [sampler(RNG).data.flatten().tolist() for _ in range(count)]  # type: ignore[union-attr]


def _step(x: Tensor, params: Any, y: Tensor) -> Tensor:
    return x + params.step * (y - x)


LOADERS = {
    "in order": (lambda: DataLoader(DATA, batch_size=4), _pair),
    "shuffled": (lambda: DataLoader(DATA, batch_size=4, shuffle=True), _pair),
    "last dropped": (lambda: DataLoader(DATA, batch_size=4, shuffle=True, drop_last=True), _pair),
    "own generator": (
        lambda: DataLoader(
            DATA, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(5)
        ),
        _pair,
    ),
    "weighted": (
        lambda: DataLoader(
            DATA, batch_size=4, sampler=WeightedRandomSampler(torch.arange(1, 11).tolist(), 10)
        ),
        _pair,
    ),
    "workers": (
        lambda: DataLoader(_Noisy(), batch_size=4, shuffle=True, num_workers=2),
        _alone,
    ),
    "stream": (lambda: DataLoader(_Stream(), batch_size=3), _alone),
    "no batches": (lambda: DataLoader(_Noisy(), batch_size=None, shuffle=True), _alone),
}
# Worker processes by fork warn of threads in newer Pythons.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("after", [0, 1, 3, 5, 8])
def test_a_sampler_goes_on_with_the_draws_that_it_would_have_seen(name: str, after: int) -> None:
    make, pose = LOADERS[name]
    torch.manual_seed(1)
    whole = LoaderSampler(make(), pose)
    expected = _seen(whole, after)
    state = whole.state_dict()
    expected += _seen(whole, 4)
    torch.manual_seed(2)  # what else has been drawn does not matter
    resumed = LoaderSampler(make(), pose)
    resumed.load_state_dict(state)
    if name == "no batches":  # items are drawn here, by torch's generator
        assert np.allclose(_seen(resumed, 4), expected[after:], atol=0.1)
    else:
        assert _seen(resumed, 4) == expected[after:]


def test_every_item_is_seen_once_an_epoch_in_another_order() -> None:
    sampler = LoaderSampler(DataLoader(DATA, batch_size=5, shuffle=True), _pair)
    first, second = (np.concatenate(_seen(sampler, 2)).tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == NUMBERS.tolist()
    assert first != second
    other = LoaderSampler(DataLoader(DATA, batch_size=5, shuffle=True), _pair, seed=1)
    assert np.concatenate(_seen(other, 2)).tolist() != first


def test_processes_share_out_the_order_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> LoaderSampler:
        return LoaderSampler(DataLoader(DATA, batch_size=3, shuffle=True), _pair)

    one = _seen(make(), 10)
    monkeypatch.setattr("stepfold.unfolded.distributed.num_processes", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("stepfold.unfolded.distributed.rank", lambda rank=rank: rank)
        shares.append(_seen(make(), 5))
    assert shares == [one[0::2], one[1::2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Any, workers: int) -> None:
    class Stopped(Exception):
        pass

    def run(at: int = 0, **options: Any) -> dict[str, Tensor]:
        def watch(progress: Any) -> None:
            if progress.done == at:
                raise Stopped

        torch.manual_seed(0)
        prior = nn.Linear(3, 3).double()

        def step(x: Tensor, params: Any, y: Tensor) -> Tensor:
            return x + params.step * prior(y - x)

        def loss(batch_size: int) -> SampledLoss:
            loader = DataLoader(_Noisy(), batch_size, shuffle=True, num_workers=workers)
            return SampledLoss(LoaderSampler(loader, _alone))

        network = UnfoldedIteration(Schedule([0.5]), iteration=step)
        train(
            network,
            loss(3),
            all_at_once(1, 9),
            callback=watch,
            held_out=HeldOut(loss(5), every=4, patience=10),
            **options,
        )
        return network.state_dict()

    whole = run()
    path = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        run(7, checkpoint=path, checkpoint_every=1)
    resumed = run(checkpoint=path, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_looks_at_held_out_data_see_the_same_mini_batch() -> None:
    seen = []

    def criterion(output: Tensor, sample: Sample) -> Tensor:
        seen.append(sample.data.tolist())
        return output.square().mean()

    loader = DataLoader(DATA, batch_size=3, shuffle=True)
    train(
        UnfoldedIteration(Schedule([0.5]), iteration=_step),
        LoaderSampler(loader, _pair),
        all_at_once(1, 6),
        held_out=HeldOut(
            SampledLoss(LoaderSampler(loader, _pair), criterion=criterion), every=2, patience=9
        ),
    )
    assert len(seen) == 4
    assert all(each == seen[0] for each in seen)


def _loader(data: Any = DATA, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, **options)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (_loader(), ["got DataLoader", "LoaderSampler(loader, pose)", "DataSetSampler"]),
        (_loader(_Stream()), ["got DataLoader", "LoaderSampler"]),
        (DATA, ["got TensorDataset", "DataSetSampler"]),
        (Subset(DATA, [0, 1]), ["got Subset", "DataSetSampler"]),
        (nn.MSELoss(), ["got MSELoss", "criterion"]),
        (nn.L1Loss, ["got L1Loss", "criterion"]),
        (nn.GaussianNLLLoss(), ["got GaussianNLLLoss", "criterion"]),
        (nn.functional.mse_loss, ["got mse_loss", "criterion"]),
        (lambda output, target: (output - target).sum(), ["criterion", "SampledLoss(sampler"]),
        (nn.CosineSimilarity(), ["got CosineSimilarity", "criterion"]),
        (NUMBERS, ["got Tensor", "a sampler"]),
    ],
)
@pytest.mark.parametrize("place", ["loss", "held_out"])
def test_what_a_newcomer_hands_over_is_refused_by_what_to_use(
    given: Any, words: list[str], place: str
) -> None:
    network = UnfoldedIteration(Schedule([0.5]), iteration=_step)
    take = HeldOut if place == "held_out" else lambda loss: train(network, loss)
    with pytest.raises(TypeError) as caught:
        take(given)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LoaderSampler(DATA, _pair), TypeError, "got TensorDataset; .*DataSetSampler"),
        (lambda: LoaderSampler(_loader(), None), TypeError, "`pose` must be a function"),
        (lambda: SampledLoss(_loader()), TypeError, "`sampler` .*got DataLoader.*LoaderSampler"),  # type: ignore[arg-type]
        (lambda: SampledLoss(DATA), TypeError, "`sampler` .*got TensorDataset.*DataSetSampler"),  # type: ignore[arg-type]
        (
            lambda: DataSetSampler(_loader(), batch_size=2, pose=_pair),  # type: ignore[arg-type]
            TypeError,
            "got DataLoader; use `LoaderSampler`",
        ),
        (
            lambda: SampledLoss(DRAWN, criterion=nn.MSELoss()),
            TypeError,
            r"`criterion` .*lambda output, sample: loss\(output, sample\.target\)",
        ),
        (
            lambda: SampledLoss(DRAWN, criterion=nn.functional.l1_loss),
            TypeError,
            "`criterion` .*a Sample",
        ),
        (
            lambda: LoaderSampler(_loader(num_workers=1, persistent_workers=True), _pair),
            ValueError,
            "persistent_workers",
        ),
        (
            lambda: LoaderSampler(_loader(TensorDataset(NUMBERS[:0])), _pair)(RNG),
            ValueError,
            "at least one mini-batch, got none",
        ),
        (
            lambda: LoaderSampler(_loader(batch_size=20, drop_last=True), _pair)(RNG),
            ValueError,
            "smaller than a batch",
        ),
        (
            lambda: LoaderSampler(_loader([torch.ones(2), torch.ones(3)], batch_size=2), _pair)(
                RNG
            ),
            ValueError,
            "tensors of one shape each.*collate_fn",
        ),
        (
            lambda: DataSetSampler([torch.ones(2), torch.ones(3)], batch_size=2, pose=_pair)(RNG),  # type: ignore[arg-type]
            ValueError,
            "tensors of one shape each.*LoaderSampler",
        ),
        (
            lambda: DataSetSampler([[1, 2], [1]], batch_size=2, pose=_pair)(RNG),  # type: ignore[arg-type]
            ValueError,
            "tensors of one shape each",
        ),
    ],
)
def test_data_that_make_no_batch_are_refused(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("place", ["data", "target", "start"])
def test_data_on_another_device_are_refused_with_both(place: str) -> None:
    def draw(_rng: np.random.Generator) -> Sample:
        y = torch.ones(2, 3).double()
        return Sample(y, y, y)._replace(**{place: y.to("meta")})

    network = UnfoldedIteration(Schedule([0.5]), iteration=_step)
    with pytest.raises(ValueError, match=f"`{place}` on cpu, .*got meta; .*to\\('meta'\\)"):
        train(network, draw, all_at_once(1, 2))


def test_problems_on_another_device_are_refused_with_both() -> None:
    def draw(_rng: np.random.Generator) -> Sample:
        matrix, rhs = torch.eye(3, device="meta"), torch.ones(2, 3, device="meta")
        problem = LeastSquares(torch.eye(3), torch.ones(2, 3))
        problem.operator, problem.rhs = matrix, rhs
        return Sample(problem, torch.ones(2, 3))

    with pytest.raises(ValueError, match=r"`data` on cpu, .*got meta"):
        train(UnfoldedIteration(Schedule([0.5])), draw, all_at_once(1, 2))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("progress", "shown"), [(None, True), (False, False), (True, True)])
def test_progress_is_shown_in_a_terminal_unless_it_is_turned_off(
    monkeypatch: pytest.MonkeyPatch, progress: bool | None, shown: bool
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert in_terminal()
    network = UnfoldedIteration(Schedule([0.5]), iteration=_step)
    sampler = LoaderSampler(DataLoader(DATA, batch_size=2), _pair)
    train(network, sampler, all_at_once(1, 3), progress=progress)
    assert bool(terminal.getvalue()) == shown


def test_progress_gives_way_to_a_display_that_is_shown_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    network = UnfoldedIteration(Schedule([0.5]), iteration=_step)
    sampler = LoaderSampler(DataLoader(DATA, batch_size=2), _pair)
    with Progress(console=Console(file=terminal)):
        run = train(network, sampler, all_at_once(1, 3))
    assert run.finished
