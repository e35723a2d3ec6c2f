"""Where training data come from: a generative model, or a data set.

A sampler is a callable ``(rng) -> Sample``. Its randomness comes from the generator that it is
handed, or from torch's, which training seeds anew for every mini-batch; so one that was interrupted
goes on with the draws that it would have seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate

from stepfold._checks import (
    check_count,
    check_flag,
    check_instance,
    check_matrix,
    check_nonnegative,
)
from stepfold.measure import SpectralMeasure
from stepfold.problems import LeastSquares, Problem, Quadratic
from stepfold.spectrum import Gram, exact_eigenvalues
from stepfold.unfolded._device import check_device


class Sample(NamedTuple):
    """A mini-batch.

    Args:
        data: Problem over tensors, or whatever the network's own step wants.
        target: What the network should return, say x* of shape (batch, n); None for losses that
            need none.
        start: Where the network starts; 0 in the shape of ``target`` if not given.

    >>> Sample(data=None, target=np.zeros((4, 2))).start is None
    True
    """

    data: Any
    target: Any = None
    start: Any = None


Sampler = Callable[[np.random.Generator], Sample | tuple[Any, Any]]
"""Draws a problem (or a batch of them) and its solution, of shape (n,) or (batch, n)."""


class GaussianLeastSquares:
    """Sampler of the published experiment: ``y = Hx`` with x ~ N(0, I), fresh for every batch.

    Args:
        operator: H, of shape (m, n), as a NumPy array.
        batch_size: Problems in a batch.
        noise: Standard deviation of the entries of w in ``y = Hx + w``; the target stays x.
        gram: Whether to pose the problems as quadratics with the Hessian HᵀH, made once: n² instead
            of 2mn multiplications a layer, for the rounding of a squared condition number.
        dtype: Floating-point type of the tensors.
        device: Where they are; the CPU if not given.

    Raises:
        TypeError: If ``operator`` is not an array of NumPy.
        ValueError: If a number is out of range.

    >>> sampler = GaussianLeastSquares(np.eye(3), batch_size=2)
    >>> problem, target = sampler(np.random.default_rng(0))
    >>> problem.gradient(target).abs().max().item(), tuple(target.shape)
    (0.0, (2, 3))
    """

    def __init__(
        self,
        operator: Any,
        *,
        batch_size: int = 200,
        noise: float = 0.0,
        gram: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        self._operator = check_matrix("operator", operator)
        if not isinstance(self._operator, np.ndarray):
            raise TypeError(
                f"`operator` must be a NumPy array, got {type(operator).__name__}; write a sampler "
                "of your own for other operators"
            )
        check_flag("gram", gram)
        check_instance("dtype", dtype, torch.dtype, "as `torch.float64`")
        if device is not None:
            check_device(device)
        self._matrix = torch.tensor(self._operator, dtype=dtype, device=device)
        self.batch_size = check_count("batch_size", batch_size)
        self.noise = float(check_nonnegative("noise", noise))
        rows = torch.zeros_like(self._matrix)
        # Checked once; each batch is a twin with its own right-hand sides.
        self._problem: Any = LeastSquares(self._matrix, rows[:, 0])
        if gram:
            hessian = torch.tensor(self._operator.T @ self._operator, dtype=dtype, device=device)
            self._problem = Quadratic(hessian, rows[0])

    @property
    def measure(self) -> SpectralMeasure:
        """Equal weight on the eigenvalues of ``HᵀH``."""
        return SpectralMeasure.from_eigenvalues(exact_eigenvalues(Gram(self._operator)))

    def __call__(self, rng: np.random.Generator) -> tuple[Problem[Any], Tensor]:
        """A batch of problems that share H, and their solutions, shape (batch, n)."""
        solutions = self._normal(rng, self._matrix.shape[1])
        rhs = solutions @ self._matrix.T
        if self.noise:
            rhs = rhs + self.noise * self._normal(rng, self._matrix.shape[0])
        if isinstance(self._problem, Quadratic):
            rhs = rhs @ self._matrix
        return self._problem.with_rhs(rhs), solutions

    def _normal(self, rng: np.random.Generator, length: int) -> Tensor:
        draw = rng.standard_normal((self.batch_size, length))
        return torch.from_numpy(draw).to(self._matrix)


class DataSetSampler:
    """Sampler of mini-batches from a ``torch.utils.data.Dataset``.

    Every batch is drawn without replacement, independently of those before: there are no epochs,
    and so no place in one that a checkpoint would have to keep.

    Args:
        data: Map-style data set, of tensors or tuples of tensors.
        batch_size: Items in a batch.
        pose: Makes a `Sample` of what ``torch.utils.data.default_collate`` makes of the items.

    Raises:
        TypeError: If ``data`` is an ``IterableDataset``, which cannot be drawn from.
        ValueError: If it is empty, or smaller than a batch.

    >>> from torch.utils.data import TensorDataset
    >>> data = TensorDataset(torch.ones(4, 3), torch.zeros(4, 2))
    >>> sampler = DataSetSampler(data, batch_size=2, pose=lambda batch: Sample(batch[0], batch[1]))
    >>> sampler(np.random.default_rng(0)).data.shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        data: Dataset[Any],
        *,
        batch_size: int,
        pose: Callable[[Any], Sample | tuple[Any, Any]],
    ) -> None:
        has_items = hasattr(data, "__len__") and hasattr(data, "__getitem__")
        if isinstance(data, IterableDataset) or not has_items:
            raise TypeError(
                f"`data` must be a data set with items and a length, got {type(data).__name__}; "
                "use `LoaderSampler` for a DataLoader, or one around a stream"
            )
        self._data: Any = data
        size = len(data)  # type: ignore[arg-type]
        self._batch_size = check_count("batch_size", batch_size)
        self._pose = pose
        if not callable(pose):
            raise TypeError(f"`pose` must be a function of a batch, got {type(pose).__name__}")
        if size == 0:
            raise ValueError("`data` must hold at least one item, got an empty data set")
        if size < self._batch_size:
            raise ValueError(
                f"`batch_size` must be at most the number of items, {size}, got {batch_size}"
            )

    def __call__(self, rng: np.random.Generator) -> Sample | tuple[Any, Any]:
        """A batch of different items, in random order."""
        chosen = rng.choice(len(self._data), self._batch_size, replace=False)
        with collating():
            batch = default_collate([self._data[int(index)] for index in chosen])
        return self._pose(batch)


@contextlib.contextmanager
def collating() -> Iterator[None]:
    """Say what to do where the items of a mini-batch do not fit together."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        text = str(error)
        if not any(word in text for word in ("equal size", "equal length", "default_collate")):
            raise
        reason = text.strip().splitlines()[-1]
        raise ValueError(
            f"items of a data set must be tensors of one shape each to make a batch ({reason}); "
            "crop or pad them in the data set, or use a DataLoader with a `collate_fn` in a "
            "`LoaderSampler`"
        ) from error
