"""Logistic regression of many small data sets: learned steps and momentum beside tuned rivals."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np

from stepfold.iterations import GradientDescent, HeavyBall, Iteration, Nesterov
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments._rivals import RATIOS, tuned_chebyshev
from stepfold.lab.experiments._unfolded import MiniBatches, iterates, layers, trained, unseen
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source
from stepfold.schedules import Schedule, chebyshev_steps

STEPS = tuple(float(step) for step in np.geomspace(0.5, 8, 25))
"""Constant steps that are tried, in units of 1 over the largest curvature at 0."""
MOMENTA = tuple(float(momentum) for momentum in np.linspace(0.1, 0.9, 17))
NUM_TUNING = 200
"""Tasks on which rivals are tuned."""
NUM_TEST = 1000
CHEBYSHEV = "Chebyshev steps"
LOCAL = "Chebyshev steps of the local spectrum"
LEARNED = "learned steps and momentum"


@experiment(
    "logistic",
    source=Source(OWN, "learned steps and momentum of logistic regression"),
    seconds=40,
    quick={"num_layers": 8, "num_iterations": 150},
)
def logistic(
    *,
    num_layers: Annotated[int, Between(2, 64)] = 16,
    num_iterations: MiniBatches = 600,
    seed: Seed = 0,
    progress: bool = False,
) -> Outcome:
    """Steps and momentum learned on tasks of logistic regression, beside tuned rivals.

    Args:
        num_layers: T, the number of layers.
        num_iterations: Mini-batches of 32 tasks.
        seed: Seed of the training data.
    """
    import torch

    from stepfold.unfolded import UnfoldedIteration
    from stepfold.unfolded.networks import logistic as networks

    def sampled(number: int, count: int, **options: Any) -> Any:
        tasks = networks.RandomTasks(batch_size=count, **options)
        return unseen(tasks, number)

    tuning, test = sampled(1, NUM_TUNING), sampled(2, NUM_TEST)
    other = sampled(3, NUM_TEST, certainty=3.0)
    bounds = networks.bounds_at_solutions(networks.RandomTasks())

    def error(points: Any, sample: Any) -> float:
        return float(networks.relative_error(points, sample))

    def path(iteration: Iteration[Any, Any], steps: Iterable[float], sample: Any) -> list[float]:
        steps = [float(step) for step in steps]
        points = iterates(iteration, sample.data, sample.start, steps)
        return [error(point, sample) for point in points]

    def cost(iteration: Iteration[Any, Any], step: float) -> float:
        found = path(iteration, np.full(num_layers, step), tuning)[-1]
        return found if np.isfinite(found) else np.inf

    momentum: list[Any] = [Nesterov(beta) for beta in (None, *MOMENTA)]
    balls: list[Any] = [HeavyBall(beta) for beta in MOMENTA]
    best = {
        name: min(itertools.product(kinds, STEPS), key=lambda pair: cost(*pair))
        for name, kinds in (
            ("gradient descent", [GradientDescent()]),
            ("Nesterov", momentum),
            ("heavy ball", balls),
        )
    }
    methods = {
        name: (kind, np.full(num_layers, step), _words(kind, step))
        for name, (kind, step) in best.items()
    }
    known = tuned_chebyshev(
        lambda steps, _: path(GradientDescent(), steps, tuning)[-1],
        num_layers,
        starts=RATIOS[5:6],
    )
    methods[CHEBYSHEV] = (GradientDescent(), known.steps(num_layers), str(known))
    methods[LOCAL] = (
        GradientDescent(),
        np.resize(chebyshev_steps(bounds, num_layers).steps, num_layers),
        f"nothing: [a, b] = [{bounds.lower:.2g}, {bounds.upper:.2g}] at solutions",
    )
    rows = {name: path(kind, steps, test) for name, (kind, steps, _) in methods.items()}
    elsewhere = {name: path(kind, steps, other)[-1] for name, (kind, steps, _) in methods.items()}
    tuned = {name: words for name, (_, _, words) in methods.items()}

    ball = networks.logistic(num_layers=num_layers)
    start = [error(point, test) for point in layers(ball.network, test)][-1]
    alone = dataclasses.replace(
        ball,
        network=UnfoldedIteration(Schedule(known.steps(num_layers)), dtype=torch.float32),
    )
    for name, task in (("learned steps", alone), (LEARNED, ball)):
        trained(task, num_iterations=num_iterations, seed=seed, progress=progress)
        rows[name] = [error(point, test) for point in layers(task.network, test)]
        elsewhere[name] = error(layers(task.network, other)[-1], other)
    last = {name: row[-1] for name, row in rows.items()}
    rival = min((name for name in tuned), key=lambda name: last[name])
    return Outcome(
        title="Learning to solve logistic regressions",
        summary=(
            f"After {num_layers} iterations the heavy ball with learned steps and momentum has a "
            f"mean relative squared error of {last[LEARNED]:.1e} on {NUM_TEST} new data sets. The "
            f"heavy ball with its best two numbers is at {last['heavy ball']:.1e}, Nesterov's "
            f"method with its best two at {last['Nesterov']:.1e}, Chebyshev steps of the best "
            f"interval at {last[CHEBYSHEV]:.1e}, gradient descent at "
            f"{last['gradient descent']:.1e}. Learned steps without momentum end at "
            f"{last['learned steps']:.1e}."
        ),
        sections=[
            Section(
                "Error by iteration",
                (
                    "A task is a data set of 60 samples with 12 features, and labels of a random "
                    "direction; the ridge term is 0.02, and the largest curvature at 0 is 1.02. "
                    "The function is no quadratic: far from 0 the curvature of sure labels "
                    "vanishes. At solutions it lies between "
                    f"{bounds.lower:.2g} (mean) and {bounds.upper:.2g} (the largest of 32 tasks).",
                    "All methods start at 0 and take one gradient in an iteration. Rivals have "
                    "their numbers chosen on "
                    f"{NUM_TUNING} other tasks, for the error after the last iteration. Training "
                    f"takes {num_iterations} mini-batches of 32 tasks; steps with momentum start "
                    "from Polyak's for the spectrum at solutions, which alone end at "
                    f"{start:.1e}, steps alone from the best Chebyshev steps.",
                    "Most of the way from Nesterov's method to the learned ones needs no training: "
                    "the heavy ball needs two good numbers for it, and Chebyshev steps two ends of "
                    "an interval, without momentum. The ends of the local spectrum serve less "
                    "well, because the first steps see the larger curvature at 0. A number for "
                    "each layer gains the rest.",
                ),
                figure=Figure(
                    "error_by_iteration",
                    "Relative squared error by iteration",
                    "Error against iteration. Gradient descent ends highest; learned steps and "
                    "momentum end lowest, below the tuned heavy ball.",
                    curves(
                        {name: row for name, row in rows.items() if name != LOCAL},
                        emphasis=(LEARNED,),
                    ),
                    Axis("iteration"),
                    Axis("relative squared error, mean over tasks", log=True),
                ),
                table=Table(
                    (
                        "method",
                        f"error after {num_layers}",
                        "on tasks with surer labels",
                        "chosen on other tasks",
                    ),
                    tuple(
                        (
                            name,
                            f"{last[name]:.1e}",
                            f"{elsewhere[name]:.1e}",
                            tuned.get(name, "trained"),
                        )
                        for name in rows
                    ),
                ),
            ),
            Section(
                "What was learned",
                (
                    "Steps and momentum of the layers, beside the best two numbers for all layers: "
                    f"a step of {best['heavy ball'][1]:.2f} and a momentum of "
                    f"{best['heavy ball'][0].momentum:.2f}.",
                    "On tasks whose labels are surer (the direction is three times as long), which "
                    "no method has seen, all keep their order: see the table.",
                ),
                figure=Figure(
                    "learned_parameters",
                    "Learned steps and momentum",
                    "Steps and momentum against layer: steps are near 4, momentum near a half.",
                    curves(
                        {
                            "step γ, learned": ball.network.schedule().steps,
                            "momentum β, learned": ball.network.learned()["momentum"],
                        },
                        np.arange(1, num_layers + 1),
                        style="both",
                    ),
                    Axis("layer"),
                    Axis("value"),
                ),
            ),
        ],
        checks=[
            Check.below(
                "error of learned steps and momentum over that of the best rival",
                0.5 if num_layers >= 16 else 1,
                last[LEARNED] / last[rival],
                "an earlier run",
                f"the best rival is {rival}",
            ),
            Check.below(
                "error of learned steps over that of the Chebyshev steps they start from",
                1,
                last["learned steps"] / last[CHEBYSHEV],
                "theory",
                "training goes on from there",
            ),
            Check.below(
                "error of the heavy ball over that of Nesterov's method, each at its best numbers",
                0.5 if num_layers >= 16 else 1,
                last["heavy ball"] / last["Nesterov"],
                "an earlier run",
            ),
            Check.below(
                "error of tuned Chebyshev steps over that of gradient descent at its best step",
                0.5,
                last[CHEBYSHEV] / last["gradient descent"],
                "an earlier run",
            ),
        ],
        records={
            "schedules/learned": ball.network.schedule(),
            "momentum": ball.network.learned()["momentum"],
            "errors": rows,
        },
    )


def _words(iteration: Any, step: float) -> str:
    momentum = getattr(iteration, "momentum", 0)
    if momentum == 0:
        return f"γ = {step:.2g}"
    return f"γ = {step:.2g}, β = " + ("(t − 1)/t⁺" if momentum is None else f"{momentum:.2g}")
