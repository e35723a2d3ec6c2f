"""Least squares over a box, and over {−1, 1}: projected gradients with trained steps.

``x ← P(x − γₜ Aᵀ(Ax − y))``, P the projection onto ``[−1, 1]ⁿ``. For the box the target is the
minimiser, and only the steps are trained. For binary x the target is x itself, seen as
``y = Ax + w``, and a layer is ``P(αₜ(x − γₜ Aᵀ(Ax − y)))``: a slope αₜ above 1 presses entries to
the corners.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfold._checks import (
    check_array,
    check_count,
    check_depth,
    check_entries,
    check_nonnegative,
    check_positive,
    check_seed,
    check_size,
)
from stepfold._typing import FloatArray
from stepfold.iterations import ProximalGradient
from stepfold.problems import LeastSquares
from stepfold.problems.penalties import Box
from stepfold.schedules import Schedule
from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded.losses import SampledLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import NETWORKS, Task, TrainingSettings
from stepfold.unfolded.networks.mimo import bit_error_rate
from stepfold.unfolded.networks.sparse_signals import lipschitz_constant
from stepfold.unfolded.samplers import Sample


class BoxLeastSquares:
    """Sampler of least-squares problems over ``[−1, 1]ⁿ`` and their solutions.

    All problems share A; their solutions are computed once, to 1e-10.

    Args:
        num_unknowns: n.
        num_rows: m, at least n.
        spread: Standard deviation of the entries of y. The minimiser without the box has entries of
            about ``spread/√(m − n − 1)``: with 1, as published for n = 10 and m = 20, the box
            hardly ever matters.
        num_problems: Problems in the pool that batches are drawn from.
        batch_size: Problems in a batch.
        matrix_seed: Seed of A, whose entries are standard normal.

    Attributes:
        matrix: A, tensor of shape (m, n), float64.
        share_at_bounds: Share of the solutions' entries that are −1 or 1.

    Raises:
        ValueError: If a number is out of range.

    >>> tuple(BoxLeastSquares(2, 4, num_problems=10, batch_size=5).matrix.shape)
    (4, 2)
    """

    def __init__(
        self,
        num_unknowns: int = 10,
        num_rows: int = 20,
        *,
        spread: float = 3.0,
        num_problems: int = 4000,
        batch_size: int = 200,
        matrix_seed: int = 0,
    ) -> None:
        shape = check_size("num_rows", num_rows), check_size("num_unknowns", num_unknowns)
        if num_rows < num_unknowns:
            raise ValueError(
                f"`num_rows` must be at least `num_unknowns`, {num_unknowns}, got {num_rows}: the "
                "solutions would not be unique"
            )
        check_positive("spread", spread)
        if check_size("batch_size", batch_size) > check_size("num_problems", num_problems):
            raise ValueError(
                f"`batch_size` must be at most `num_problems`, {num_problems}, got {batch_size}"
            )
        rng = np.random.default_rng(check_seed("matrix_seed", matrix_seed))
        matrix = rng.standard_normal(shape)
        seen = spread * rng.standard_normal((num_problems, num_rows))
        solutions = box_least_squares(matrix, seen)
        self.matrix = torch.from_numpy(matrix)
        self.share_at_bounds = float((np.abs(solutions) == 1).mean())
        self._seen, self._solutions = torch.from_numpy(seen), torch.from_numpy(solutions)
        self._batch_size = batch_size

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of different problems, and their solutions, shape (batch, n)."""
        return self.problems(rng.choice(len(self._seen), self._batch_size, replace=False))

    def problems(self, indices: Any) -> Sample:
        """These problems of the pool; a longer pool of the same seed begins with a shorter one."""
        chosen = torch.as_tensor(indices)
        problem: LeastSquares[Any] = LeastSquares(self.matrix, self._seen[chosen])
        return Sample(problem, self._solutions[chosen])


def box_least_squares(
    matrix: FloatArray, rhs: FloatArray, *, rtol: float = 1e-10, max_iterations: int = 100_000
) -> FloatArray:
    """Minimisers of ``‖Ax − y‖`` over ``[−1, 1]ⁿ`` for each row y of ``rhs``, shape (batch, n).

    Cyclic coordinate descent, exact along each coordinate, until no entry of any row moves by more
    than ``rtol``.

    Raises:
        ArithmeticError: If that takes more than ``max_iterations`` sweeps.
        ValueError: If shapes do not fit, or a column of ``matrix`` is zero.

    >>> box_least_squares(np.eye(2), np.array([[0.5, -3.0]]))
    array([[ 0.5, -1. ]])
    """
    matrix, rhs = check_array("matrix", matrix), check_array("rhs", rhs)
    if matrix.ndim != 2 or rhs.ndim != 2 or rhs.shape[1] != matrix.shape[0] or matrix.size == 0:
        raise ValueError(
            f"`matrix` must be a matrix and `rhs` rows as long as its columns, got shapes "
            f"{matrix.shape} and {rhs.shape}"
        )
    check_entries("matrix", matrix)
    check_entries("rhs", rhs)
    check_positive("rtol", rtol)
    check_count("max_iterations", max_iterations)
    if not matrix.any(axis=0).all():
        raise ValueError("`matrix` must have no column of zeros, got one: its entry is free")
    gram = matrix.T @ matrix
    linear = rhs @ matrix
    x = np.zeros_like(linear)
    for _ in range(max_iterations):
        largest = 0.0
        for i in range(x.shape[1]):
            gradient = x @ gram[:, i] - linear[:, i]
            moved = np.clip(x[:, i] - gradient / gram[i, i], -1, 1)
            largest = max(largest, float(np.abs(moved - x[:, i]).max()))
            x[:, i] = moved
        if largest <= rtol:
            return x
    raise ArithmeticError(
        f"coordinate descent moves by {largest:.1e} after {max_iterations} sweeps; the matrix is "
        "nearly singular"
    )


class BinarySignals:
    """Sampler of ``y = Ax + w`` with entries of x that are −1 or 1.

    Args:
        num_unknowns: n.
        num_rows: m.
        noise: Standard deviation of the entries of w.
        batch_size: Signals in a batch.
        matrix_seed: Seed of A, whose entries are standard normal.

    Attributes:
        matrix: A, tensor of shape (m, n), float32.

    Raises:
        ValueError: If a number is out of range.

    >>> tuple(BinarySignals(4, 6, batch_size=2).matrix.shape)
    (6, 4)
    """

    def __init__(
        self,
        num_unknowns: int = 100,
        num_rows: int = 100,
        *,
        noise: float = 3.0,
        batch_size: int = 500,
        matrix_seed: int = 0,
    ) -> None:
        shape = check_size("num_rows", num_rows), check_size("num_unknowns", num_unknowns)
        check_nonnegative("noise", noise)
        entries = np.random.default_rng(check_seed("matrix_seed", matrix_seed)).standard_normal(
            shape
        )
        self.matrix = torch.from_numpy(entries.astype(np.float32))
        self.noise = noise
        self._batch_size = check_size("batch_size", batch_size)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """A batch of problems that share A, and the signals, shape (batch, n)."""
        num_rows, num_unknowns = self.matrix.shape
        signs = 1 - 2 * rng.integers(0, 2, (self._batch_size, num_unknowns))
        signals = torch.from_numpy(signs.astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal((self._batch_size, num_rows), np.float32))
        problem: LeastSquares[Any] = LeastSquares(
            self.matrix, signals @ self.matrix.T + self.noise * noise
        )
        return Sample(problem, signals)


def sloped_layer(unit: float, x: Tensor, params: LayerParameters, problem: Any) -> Tensor:
    """``P(α(x − γ∇f(x)))`` with γ in units of ``unit``, so that γ and α are of one size."""
    moved = problem.gradient_step(x, unit * params.step)
    projected: Tensor = (params.slope * moved).clamp(-1, 1)
    return projected


@NETWORKS.register("box_least_squares")
def box(
    *,
    num_layers: int = 25,
    num_unknowns: int = 10,
    num_rows: int = 20,
    spread: float = 3.0,
    num_problems: int = 4000,
    batch_size: int = 200,
    matrix_seed: int = 0,
) -> Task:
    """Projected gradients with trained steps for least squares over a box.

    Args:
        num_layers: T.
        num_unknowns: n.
        num_rows: m, at least n.
        spread: Standard deviation of the entries of y.
        num_problems: Problems in the pool that batches are drawn from.
        batch_size: Problems in a mini-batch.
        matrix_seed: Seed of the matrix, and of the pool.

    >>> box(num_layers=2, num_problems=4, batch_size=2).network.steps.shape
    torch.Size([2])
    """
    sampler = BoxLeastSquares(
        num_unknowns,
        num_rows,
        spread=spread,
        num_problems=num_problems,
        batch_size=batch_size,
        matrix_seed=matrix_seed,
    )
    step = 1 / lipschitz_constant(sampler.matrix)
    steps = Schedule(np.full(check_depth(num_layers), step))
    return Task(
        UnfoldedIteration(steps, iteration=ProximalGradient(Box(-1.0, 1.0))),
        SampledLoss(sampler),
        TrainingSettings(num_iterations=100, learning_rate=0.003),
    )


@NETWORKS.register("binary_least_squares")
def binary(
    *,
    num_layers: int = 30,
    num_unknowns: int = 100,
    num_rows: int = 100,
    noise: float = 3.0,
    batch_size: int = 500,
    matrix_seed: int = 0,
) -> Task:
    """Projected gradients with trained steps and slopes for least squares over {−1, 1}.

    Args:
        num_layers: T.
        num_unknowns: n.
        num_rows: m.
        noise: Standard deviation of the entries of w.
        batch_size: Signals in a mini-batch.
        matrix_seed: Seed of the matrix.

    >>> binary(num_layers=2, num_unknowns=4, num_rows=4, batch_size=2).network.values("slope").shape
    torch.Size([2])
    """
    sampler = BinarySignals(
        num_unknowns, num_rows, noise=noise, batch_size=batch_size, matrix_seed=matrix_seed
    )
    network = UnfoldedIteration(
        Schedule(np.ones(check_depth(num_layers))),
        iteration=functools.partial(sloped_layer, 1 / lipschitz_constant(sampler.matrix)),
        parameters={"slope": 1.0},
        dtype=torch.float32,
    )
    return Task(
        network,
        SampledLoss(sampler),
        TrainingSettings(num_iterations=40, learning_rate=0.02),
        evaluate=lambda network: binary_errors(network, sampler),
    )


def binary_errors(network: UnfoldedIteration, sampler: BinarySignals) -> Mapping[str, float]:
    """Mean squared error and bit error rate on one batch that training does not see."""
    problem, target, _ = sampler(np.random.default_rng([2**32, 2]))
    with torch.no_grad():
        output = network(problem, torch.zeros_like(target))
    return {
        "mean squared error": float(((output - target) ** 2).mean()),
        "bit error rate": bit_error_rate(output, target),
    }
