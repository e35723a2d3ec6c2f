"""Mini-batches from a ``torch.utils.data.DataLoader``: its workers, its order, its epochs.

An epoch begins from a seed of its own, and the place in it is a number: a training that was
interrupted begins the epoch again, passes over what it had seen, and goes on with the draws that it
would have seen. Of several processes each takes every n-th mini-batch of the same order.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from stepfold._checks import check_count
from stepfold.unfolded import distributed
from stepfold.unfolded.samplers import Sample, collating


class LoaderSampler:
    """Sampler of the mini-batches of a ``DataLoader``, epoch after epoch.

    Its workers, its collate function and its order are the loader's own; ``shuffle=True`` shuffles
    anew in every epoch. What it remembers is a part of checkpoints. Of several processes each takes
    every n-th mini-batch of one order, so that they train on what one process would.

    Args:
        loader: The loader.
        pose: Makes a `Sample` of one of its mini-batches.
        seed: Seed of the order of the epochs, and of the workers; a ``generator`` of the loader's
            own takes its place where it has one.

    Raises:
        TypeError: If ``loader`` is not a ``DataLoader``, or ``pose`` cannot be called.
        ValueError: If the loader is empty, or has ``persistent_workers``, whose random state
            outlives epochs and could not be restored.

    >>> from torch.utils.data import TensorDataset
    >>> data = TensorDataset(torch.arange(4.0), torch.zeros(4))
    >>> loader = DataLoader(data, batch_size=2)
    >>> sampler = LoaderSampler(loader, lambda batch: Sample(batch[0], batch[1]))
    >>> [sampler(np.random.default_rng(0)).data.tolist() for _ in range(3)]
    [[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        pose: Callable[[Any], Sample | tuple[Any, Any]],
        *,
        seed: int = 0,
    ) -> None:
        if not isinstance(loader, DataLoader):
            raise TypeError(
                f"`loader` must be a torch.utils.data.DataLoader, got {type(loader).__name__}; for "
                "a data set use `DataSetSampler`"
            )
        if not callable(pose):
            raise TypeError(f"`pose` must be a function of a batch, got {type(pose).__name__}")
        if loader.persistent_workers:
            raise ValueError(
                "`loader` must not have `persistent_workers=True`: what they have drawn in earlier "
                "epochs could not be restored; leave it out"
            )
        self._loader = loader
        self._pose = pose
        self._seed = check_count("seed", seed, minimum=0)
        self._epoch, self._position = 0, 0
        self._generator_state: torch.Tensor | None = None
        self._iterator: Iterator[Any] | None = None  # of the epoch under way
        self._first: list[Any] = []

    def __call__(self, rng: np.random.Generator) -> Sample | tuple[Any, Any]:
        """The next mini-batch that falls to this process; the generator is not used."""
        del rng
        place, size = distributed.rank(), distributed.num_processes()
        batches = [self._drawn() for _ in range(size)]
        return self._pose(batches[place])

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the place in it, and the state of the loader's generator as it began."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "generator": self._generator_state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: mini-batches that were seen are loaded again, and passed over."""
        self._epoch, self._iterator = state["epoch"], None
        if self._loader.generator is not None and state["generator"] is not None:
            self._loader.generator.set_state(state["generator"])
        position, self._position = state["position"], 0
        # torch's own generator stays with whoever draws from it.
        with torch.random.fork_rng(devices=[]):
            for _ in range(position):
                self._drawn()

    def _drawn(self) -> Any:
        if self._iterator is None:
            self._begin()
        batch = self._following()
        if batch is _END:
            self._epoch, self._position = self._epoch + 1, 0
            self._begin()
            batch = self._following()
        self._position += 1
        return batch

    def _begin(self) -> None:
        generator = self._loader.generator
        self._generator_state = None if generator is None else generator.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(zlib.crc32(f"{self._seed} {self._epoch}".encode()))
            self._iterator = iter(self._loader)
            # Some orders are drawn when they are first asked for.
            first = self._following()
        if first is _END:
            raise ValueError(
                "`loader` must yield at least one mini-batch, got none; its data set may be empty, "
                "or smaller than a batch with `drop_last=True`"
            )
        self._first = [first]

    def _following(self) -> Any:
        if self._first:
            return self._first.pop()
        with collating():
            return _END if self._iterator is None else next(self._iterator, _END)


_END = object()
