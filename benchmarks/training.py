"""Training of deep-unfolded gradient descent: our forms beside the published loop and deepinv.

The published loop, written anew from its description: float32, y = xH for a batch of 200, two
matrix products a layer, backpropagation through all of them. All of them train the first g of 25
layers for g = 1 … 25; here with fewer mini-batches a stage than the published 500, because the
time of one does not depend on how many there are: the losses are the same random variables, so the
ratio of times is that of times to equal loss. Interleaved; medians and spread of the ratios.

deepinv's unfolded gradient descent takes part where it is installed; each stage has a model of
its own there, because it has no way to run a part of its layers.

The overhead of `train` beside a loop written by hand, with the same draws and optimiser, is that of
one mini-batch at four sizes; the forward pass alone stands beside it.

Many seeds and spectra at once (`train_replicas`) stand beside one training in the eigenbasis.
Exact training, and optimal steps from the spectrum, need no iterations at all.

    python benchmarks/training.py [--iterations 4] [--repeats 5] [--overhead]
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stepfold import Gram, LeastSquares, Schedule, SpectralMeasure, optimal_steps
from stepfold.lab.experiments.dugd import published_matrix
from stepfold.polynomial import mean_squared_error
from stepfold.spectrum import exact_eigenvalues
from stepfold.unfolded import (
    GaussianLeastSquares,
    Sample,
    SampledLoss,
    SpectralLoss,
    Stage,
    UnfoldedIteration,
    train,
    train_exactly,
    train_incrementally,
    train_replicas,
)

NUM_STEPS = 25
BATCH = 200
PUBLISHED_ITERATIONS = 500


def published_loop(num_iterations: int) -> None:
    matrix = torch.tensor(published_matrix().T, dtype=torch.float32)
    num_unknowns = matrix.shape[0]
    gamma = torch.nn.Parameter(torch.full((NUM_STEPS,), 0.3))
    optimizer = torch.optim.Adam([gamma], lr=0.002)
    for stage in range(1, NUM_STEPS + 1):
        for _ in range(num_iterations):
            optimizer.zero_grad()
            target = torch.randn(BATCH, num_unknowns)
            y = target @ matrix
            x = torch.zeros(BATCH, num_unknowns)
            for t in range(stage):
                x = x - gamma[t].abs() * ((x @ matrix - y) @ matrix.T)
            torch.nn.functional.mse_loss(x, target).backward()
            optimizer.step()


def deepinv_loop(num_iterations: int) -> None:
    from deepinv.optim.data_fidelity import L2
    from deepinv.physics import LinearPhysics
    from deepinv.unfolded import unfolded_builder

    matrix = torch.tensor(published_matrix(), dtype=torch.float32)
    physics = LinearPhysics(A=lambda x: x @ matrix.T, A_adjoint=lambda y: y @ matrix)
    steps = [0.3] * NUM_STEPS
    for stage in range(1, NUM_STEPS + 1):
        model = unfolded_builder(
            "GD",
            params_algo={"stepsize": steps[:stage], "lambda": 0.0},
            trainable_params=["stepsize"],
            data_fidelity=L2(),
            max_iter=stage,
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
        for _ in range(num_iterations):
            optimizer.zero_grad()
            target = torch.randn(BATCH, matrix.shape[1])
            torch.nn.functional.mse_loss(model(target @ matrix.T, physics), target).backward()
            optimizer.step()
        steps[:stage] = [float(p.detach()) for p in model.parameters()]


def our_loop(loss: SampledLoss | SpectralLoss, dtype: torch.dtype) -> Callable[[int], None]:
    def run(num_iterations: int) -> None:
        network = UnfoldedIteration(Schedule(np.full(NUM_STEPS, 0.3)), dtype=dtype)
        train_incrementally(network, loss, num_iterations=num_iterations)

    return run


def replicas_table(repeats: int, num_iterations: int = 100) -> None:
    measures = [
        SpectralMeasure.from_eigenvalues(exact_eigenvalues(Gram(published_matrix(seed))))
        for seed in (12, 13, 14)
    ]
    alone = our_loop(SpectralLoss(measures[0]), torch.float64)
    contestants: dict[str, Callable[[], object]] = {
        "1, `SpectralLoss`": lambda: alone(num_iterations),
        "8 seeds, `train_replicas`": lambda: train_replicas(
            measures[0], NUM_STEPS, range(8), num_iterations=num_iterations
        ),
        "8 seeds on each of 3 matrices": lambda: train_replicas(
            measures, NUM_STEPS, range(8), num_iterations=num_iterations
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    print(f"\n| trainings | seconds for {PUBLISHED_ITERATIONS} a stage | over one (spread) |")
    print("|---|---|---|")
    one = seconds["1, `SpectralLoss`"]
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, one, strict=True)]
        print(
            f"| {name} | {PUBLISHED_ITERATIONS / num_iterations * statistics.median(times):.1f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


# Rows and columns of the matrix, problems in a batch, layers.
SIZES = ((60, 30, 20, 5), (60, 30, 200, 10), (300, 150, 200, 10), (600, 300, 200, 10))


def overhead_runs(
    num_rows: int, num_unknowns: int, batch: int, num_layers: int
) -> tuple[Callable[[int], None], ...]:
    """A training by hand and by `train`; a forward pass by hand, by the network, and compiled."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(num_rows, num_unknowns, generator=generator).double() / num_rows**0.5
    steps = np.linspace(0.3, 0.5, num_layers)
    parameter = torch.nn.Parameter(torch.from_numpy(steps.copy()))
    network = UnfoldedIteration(Schedule(steps))
    # A rate of 0 keeps both where they are, at the same work.
    adam = functools.partial(torch.optim.Adam, lr=0.0)

    def draw(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        target = torch.from_numpy(rng.standard_normal((batch, num_unknowns)))
        return target @ matrix.T, target

    def layers(y: torch.Tensor) -> torch.Tensor:
        x = torch.zeros(batch, num_unknowns, dtype=torch.float64)
        for step in parameter.abs():
            x = x - step * ((x @ matrix.T - y) @ matrix)
        return x

    def sampler(rng: np.random.Generator) -> Sample:
        y, target = draw(rng)
        return Sample(problem.with_rhs(y), target)

    def train_by_hand(count: int) -> None:
        rng = np.random.default_rng(0)
        optimizer = adam([parameter])
        for _ in range(count):
            optimizer.zero_grad()
            y, target = draw(rng)
            loss = torch.nn.functional.mse_loss(layers(y), target)
            loss.backward()
            optimizer.step()
            loss.item()

    def train_ours(count: int) -> None:
        stages = [Stage(num_layers, count)]
        train(network, SampledLoss(sampler), stages, optimizer=adam, progress=False)

    y, target = draw(np.random.default_rng(0))
    problem, start = LeastSquares(matrix, y), torch.zeros_like(target)

    def forward_by_hand(count: int) -> None:
        for _ in range(count):
            layers(y)

    def forward_ours(count: int) -> None:
        for _ in range(count):
            network(problem, start)

    def step(x: torch.Tensor, params: Any, y: torch.Tensor) -> torch.Tensor:
        return x - params.step * ((x @ matrix.T - y) @ matrix)

    compiled = torch.compile(UnfoldedIteration(Schedule(steps), iteration=step))

    def forward_compiled(count: int) -> None:
        for _ in range(count):
            compiled(y, start)

    return train_by_hand, train_ours, forward_by_hand, forward_ours, forward_compiled


def overhead_table(repeats: int) -> None:
    print(
        "\n| matrix | batch | layers | ms by hand | `train` / by hand | forward / by hand | "
        "compiled forward / by hand |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in SIZES:
        num_rows, num_unknowns, batch, num_layers = size
        runs = overhead_runs(*size)
        count = max(3, round(4e8 / (num_rows * num_unknowns * batch * num_layers)))
        count = min(count, 100)
        seconds: list[list[float]] = [[] for _ in runs]
        for repeat in range(repeats + 1):
            for run, times in zip(runs, seconds, strict=True):
                start = time.process_time()
                run(count)
                if repeat:  # the first one warms up
                    times.append(time.process_time() - start)
        columns = []
        for ours, hand in ((1, 0), (3, 2), (4, 2)):
            ratios = [a / b for a, b in zip(seconds[ours], seconds[hand], strict=True)]
            columns.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        milliseconds = 1000 * statistics.median(seconds[0]) / count
        print(
            f"| {num_rows} × {num_unknowns} | {batch} | {num_layers} | {milliseconds:.2f} | "
            f"{' | '.join(columns)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=4, help="mini-batches a stage")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--overhead", action="store_true", help="the overhead of `train` alone")
    arguments = parser.parse_args()
    if arguments.overhead:
        torch.set_num_threads(1)
        overhead_table(arguments.repeats)
        return
    torch.set_num_threads(2)
    matrix = published_matrix()
    measure = SpectralMeasure.from_eigenvalues(exact_eigenvalues(Gram(matrix)))
    sampled = SampledLoss(GaussianLeastSquares(matrix, batch_size=BATCH))
    squared = SampledLoss(GaussianLeastSquares(matrix, batch_size=BATCH, gram=True))
    contestants = {
        "published loop": published_loop,
        "matrix form (`SampledLoss`)": our_loop(sampled, torch.float32),
        "matrix form, `gram=True`": our_loop(squared, torch.float32),
        "spectral form (`SpectralLoss`)": our_loop(SpectralLoss(measure), torch.float64),
    }
    if importlib.util.find_spec("deepinv") is not None:
        contestants["deepinv, unfolded GD"] = deepinv_loop
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run(1)  # warm-up
    for _ in range(arguments.repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run(arguments.iterations)
            seconds[name].append(time.perf_counter() - start)
    scale = PUBLISHED_ITERATIONS / arguments.iterations
    print(f"| form | seconds for {PUBLISHED_ITERATIONS} a stage | published / this (spread) |")
    print("|---|---|---|")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(seconds["published loop"], times, strict=True)]
        print(
            f"| {name} | {scale * statistics.median(times):.1f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    replicas_table(arguments.repeats)
    published = scale * statistics.median(seconds["published loop"])
    rng = np.random.default_rng(0)
    solutions = rng.standard_normal((BATCH, matrix.shape[1]))
    problem = LeastSquares(matrix, solutions @ matrix.T)
    exact: dict[str, Callable[[], Schedule]] = {
        f"`train_exactly` on {BATCH} problems": lambda: (
            train_exactly(problem, solutions, NUM_STEPS).schedule
        ),
        "`optimal_steps` on the eigenvalues": lambda: optimal_steps(measure, NUM_STEPS),
    }
    print("\n| without iterating | milliseconds (most) | published / this | mean squared error |")
    print("|---|---|---|---|")
    for name, compute in exact.items():
        times = []
        for _ in range(20):
            start = time.perf_counter()
            schedule = compute()
            times.append(time.perf_counter() - start)
        median = statistics.median(times)
        error = mean_squared_error(schedule, measure)
        print(
            f"| {name} | {1000 * median:.2f} ({1000 * max(times):.2f}) | "
            f"{published / median:,.0f} | {error:.3g} |"
        )


if __name__ == "__main__":
    main()
