"""Deep-unfolded gradient descent: the experiment that the project starts from.

Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient
Descent (arXiv:2001.05142), Figure 1: what training finds, and what explains it.
"""

from __future__ import annotations

from typing import Annotated

from stepfold.lab.experiments._published import Seed, published_matrix, published_measure, train
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.dugd.checks import checks
from stepfold.lab.experiments.dugd.findings import Findings
from stepfold.lab.experiments.dugd.story import story
from stepfold.lab.outcome import Outcome
from stepfold.lab.parameters import Between
from stepfold.schedules import chebyshev_steps, constant_steps, optimal_steps

__all__ = ["dugd", "published_matrix"]


@experiment("dugd", seconds=9, quick={"period": 8, "num_iterations": 200})
def dugd(
    *,
    period: Annotated[int, Between(2, 64)] = 25,
    num_iterations: Annotated[int, Between(1, 100_000)] = 500,
    batch_size: Annotated[int, Between(1, 1_000_000)] = 200,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Deep-unfolded gradient descent against constant, Chebyshev and optimal steps.

    Args:
        period: T, the number of layers; claims about 25 are tested at 25 only.
        num_iterations: Mini-batches per stage; claims about training are tested at 500 and
            more only.
        batch_size: Problems in a mini-batch.
        seed: Seed of the training data; the matrix is the published one.
        progress: Whether to show a progress bar.
    """
    from stepfold.unfolded import SpectralLoss

    measure = published_measure()
    run = train(
        SpectralLoss(measure, batch_size=batch_size),
        period,
        num_iterations=num_iterations,
        seed=seed,
        progress=progress,
    )
    bounds = measure.bounds
    found = Findings(
        measure,
        bounds,
        run,
        constant_steps(bounds, period),
        chebyshev_steps(bounds, period),
        optimal_steps(measure, period),
    )
    gain = found.final_error(found.constant) / found.final_error(found.learned)
    surplus = found.final_error(found.learned) / found.final_error(found.optimal)
    return Outcome(
        title="What deep-unfolded gradient descent learns, and why",
        summary=(
            f"After {period} iterations the learned steps are {gain:,.0f} times closer to the "
            "solution, in mean squared error, than the best constant step. Chebyshev steps, "
            "computed from two numbers, explain them; optimal steps, computed from the spectrum in "
            f"milliseconds and without training, are {surplus:.0f} times better still."
        ),
        sections=story(found),
        checks=checks(found, trained_in_full=num_iterations >= 500 and batch_size >= 200),
        parameters={
            "unknowns": 300,
            "rows": 600,
            "matrix seed": 12,
            "learning rate": 0.002,
            "initial step": 0.3,
        },
        records={
            "schedules/learned": found.learned.to_dict(),
            "schedules/chebyshev": found.chebyshev.to_dict(),
            "schedules/optimal": found.optimal.to_dict(),
            "schedules/constant": found.constant.to_dict(),
            "training": run.to_dict(),
            "spectrum": measure.to_dict(),
        },
    )
