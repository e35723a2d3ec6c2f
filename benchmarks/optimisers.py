"""Schedules as learning rates of PyTorch's optimisers, and steps that need no lower bound.

    python benchmarks/optimisers.py                             # half a minute
    python benchmarks/optimisers.py --quick                     # fewer steps and seeds
    python benchmarks/optimisers.py --write docs/guides/optimisers.md  # replace its tables

Softmax regression on scikit-learn's digits with all rows at once, weights started at 0, beside Adam
and L-BFGS; a small network on mini-batches of the same data; lassos by proximal gradient.
Everybody's learning rate is the best on a grid, where there is one to choose.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_digits

from stepfold import LeastSquares, Schedule, SpectralBounds, chebyshev_steps, estimate_bounds, solve
from stepfold.interop.torch import ScheduleLR
from stepfold.iterations import Fista, ProximalGradient
from stepfold.problems import Composite
from stepfold.problems.penalties import L1
from stepfold.schedules import constant_steps, obs_f_steps, obs_s_steps, silver_steps

BEGIN, END = "<!-- benchmarks/optimisers.py: begin -->", "<!-- benchmarks/optimisers.py: end -->"
RIDGES = (1e-1, 1e-2, 1e-3, 1e-4)
GRADIENTS = 128
RATES = (0.3, 0.1, 0.03, 0.01)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with a constant 1, in double precision, and labels."""
    data = load_digits()
    rows = torch.tensor(data.data / 16.0)
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], 1), torch.tensor(
        data.target
    )


class Softmax:
    """Mean cross-entropy plus ridge/2 times the squared weights."""

    def __init__(self, ridge: float) -> None:
        self.rows, self.labels = digits()
        self.ridge = ridge
        # The Hessian of the cross-entropy of a row x is at most ½ xxᵀ (Böhning 1992).
        top = torch.linalg.matrix_norm(self.rows, 2).item() ** 2 / len(self.rows) / 2
        self.bounds = SpectralBounds(ridge, ridge + top)
        self.minimum = self.after_lbfgs(4000)

    def loss(self, weights: torch.Tensor) -> torch.Tensor:
        cross_entropy = torch.nn.functional.cross_entropy(self.rows @ weights, self.labels)
        return cross_entropy + self.ridge / 2 * (weights * weights).sum()

    def start(self) -> torch.Tensor:
        return torch.zeros(65, 10, dtype=torch.float64, requires_grad=True)

    def run(
        self,
        make: Callable[[torch.Tensor], torch.optim.Optimizer],
        schedule: Schedule | None = None,
    ) -> float:
        """Loss above its minimum after 128 gradients."""
        weights = self.start()
        optimizer = make(weights)
        scheduler = ScheduleLR(optimizer, schedule) if schedule is not None else None
        for _ in range(GRADIENTS):
            optimizer.zero_grad()
            self.loss(weights).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        return self.loss(weights).item() - self.minimum

    def after_lbfgs(self, gradients: int) -> float:
        """Loss after at most this many gradients of L-BFGS with its line search."""
        weights = self.start()
        optimizer = torch.optim.LBFGS(
            [weights],
            max_iter=gradients,
            max_eval=gradients,
            history_size=20,
            tolerance_grad=1e-12,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = self.loss(weights)
            loss.backward()
            return loss

        optimizer.step(closure)
        return self.loss(weights).item()


def softmax_table() -> Iterator[str]:
    problems = [Softmax(ridge) for ridge in RIDGES]
    yield "| 128 gradients | " + " | ".join(f"ridge {ridge:g}" for ridge in RIDGES) + " |"
    yield "| --- " * (len(RIDGES) + 1) + "|"

    def sgd(weights: torch.Tensor) -> torch.optim.Optimizer:
        return torch.optim.SGD([weights], lr=1.0)

    families: dict[str, Callable[[SpectralBounds], Schedule]] = {
        "SGD, constant 2/(a + b)": lambda bounds: constant_steps(bounds, 1),
        "SGD, Chebyshev, T = 8": lambda bounds: chebyshev_steps(bounds, 8),
        "SGD, Chebyshev, T = 32": lambda bounds: chebyshev_steps(bounds, 32),
        "SGD, silver, T = 32": lambda bounds: silver_steps(bounds, 32),
        "SGD, obs-f, T = 128": lambda bounds: obs_f_steps(bounds, 128),
    }
    for name, family in families.items():
        left = [problem.run(sgd, family(problem.bounds)) for problem in problems]
        yield _row(name, left)
    left = [
        min(problem.run(lambda w, rate=rate: torch.optim.Adam([w], lr=rate)) for rate in RATES)
        for problem in problems
    ]
    yield _row("Adam, best of four rates", left)
    yield _row("L-BFGS", [p.after_lbfgs(GRADIENTS) - p.minimum for p in problems])


def _row(name: str, left: list[float]) -> str:
    # Below this the minimum itself is not known.
    return f"| {name} | " + " | ".join("< 1e-13" if x < 1e-13 else f"{x:.1e}" for x in left) + " |"


def trained_network(make: Callable, steps: Schedule | None, seed: int, epochs: int) -> float:
    """Loss on all training rows of a network with one hidden layer, after mini-batches of 64."""
    rows, labels = digits()
    rows = rows.float()
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(65, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = make(network.parameters())
    scheduler = ScheduleLR(optimizer, steps) if steps is not None else None
    for _ in range(epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(rows[batch]), labels[batch]).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(network(rows), labels).item()


def network_table(quick: bool) -> Iterator[str]:
    seeds, epochs = (range(1), 2) if quick else (range(5), 10)
    means = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05)
    yield f"| batches of 64, {epochs} epochs | median loss | range over seeds | best mean step |"
    yield "| --- | --- | --- | --- |"
    families = {
        "SGD, constant": lambda mean: Schedule([mean]),
        # The largest step is 10 times the smallest; scaled to the same mean step.
        "SGD, Chebyshev, T = 8, κ = 10": lambda mean: _scaled(
            chebyshev_steps(SpectralBounds(0.1, 1.0), 8), mean
        ),
        "SGD, silver, T = 7": lambda mean: _scaled(obs_s_steps(SpectralBounds(0.0, 1.0), 7), mean),
    }
    for name, family in families.items():
        yield _best(
            name,
            {
                mean: [
                    trained_network(lambda p: torch.optim.SGD(p, lr=1.0), family(mean), s, epochs)
                    for s in seeds
                ]
                for mean in means
            },
        )
    yield _best(
        "Adam",
        {
            rate: [
                trained_network(lambda p, rate=rate: torch.optim.Adam(p, lr=rate), None, s, epochs)
                for s in seeds
            ]
            for rate in (0.1, 0.03, 0.01, 0.003)
        },
    )


def _best(name: str, losses: dict[float, list[float]]) -> str:
    best = min(losses, key=lambda mean: median(losses[mean]))
    left = losses[best]
    return f"| {name} | {median(left):.1e} | {min(left):.1e} to {max(left):.1e} | {best:g} |"


def _scaled(schedule: Schedule, mean: float) -> Schedule:
    return Schedule(schedule.steps * mean / schedule.steps.mean())


def lasso_table() -> Iterator[str]:
    yield "| lasso | ISTA, 1/L | silver, T = 15 | ratio | FISTA with restart |"
    yield "| --- | --- | --- | --- | --- |"
    for rows, columns, weight in ((200, 100, 0.05), (60, 120, 0.05), (100, 400, 0.2)):
        rng = np.random.default_rng(0)
        matrix = rng.standard_normal((rows, columns))
        truth = np.where(np.arange(columns) < 8, 3.0, 0.0)
        data = matrix @ truth + 0.1 * rng.standard_normal(rows)
        weight *= float(np.abs(matrix.T @ data).max())
        problem = Composite(LeastSquares(matrix, data), L1(weight))
        bounds = estimate_bounds(problem.problem)
        constant = Schedule(np.full(15, 1 / bounds.upper))
        taken = [
            solve(problem, schedule, iteration=method, gap_rtol=1e-6, max_steps=15_000)
            for schedule, method in (
                (constant, ProximalGradient),
                (obs_s_steps(bounds, 15), ProximalGradient),
                (constant, Fista),
            )
        ]
        steps = [f"{run.num_steps}" if run.converged else "> 15 000" for run in taken]
        ratio = taken[1].num_steps / taken[0].num_steps
        yield f"| {rows} × {columns} | {steps[0]} | {steps[1]} | {ratio:.2f} | {steps[2]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = [softmax_table(), network_table(arguments.quick), lasso_table()]
    titles = [
        "Loss above its minimum, softmax regression on the digits, all rows at once:",
        "Loss on all rows of a network with 64 hidden units:",
        "Steps until the duality gap is 1e-6 of the objective:",
    ]
    parts = []
    for title, table in zip(titles, tables, strict=True):
        parts.append("\n".join([title, "", *table]))
        print(parts[-1], end="\n\n", flush=True)
    if arguments.write is not None:
        page = arguments.write.read_text(encoding="utf-8")
        inside = f"{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}"
        pattern = f"{re.escape(BEGIN)}.*{re.escape(END)}"
        arguments.write.write_text(
            re.sub(pattern, lambda _: inside, page, flags=re.DOTALL), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
