"""Values from theory beside trained ones and FISTA, for every named network, at equal layers.

How much of what training gains over FISTA do a few forward passes gain, in which share of its time,
and how many mini-batches does a training need that starts there?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

import numpy as np

from stepfold.lab.curves import curves
from stepfold.lab.experiments._trainings import spread
from stepfold.lab.experiments.base import experiment
from stepfold.lab.experiments.theory_start.findings import MOST_AGAIN, SIZES, compared
from stepfold.lab.figure import Axis, Figure, Level
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.sources import OWN, Source

SHOWN = "tomography"
"""The network of which both trainings are drawn."""
TARGET = 0.9


@experiment(
    "theory_start",
    source=Source(OWN, "values of all layers without training"),
    seconds=550,
    quick={"num_seeds": 1, "portion": 0.01},
)
def theory_start(
    *,
    num_seeds: Annotated[int, Between(1, 20)] = 3,
    portion: Annotated[float, Between(0.001, 1)] = 1.0,
) -> Outcome:
    """Steps, relaxations and thresholds from theory beside trained ones, for every network.

    Args:
        num_seeds: Trainings of each network.
        portion: Share of the networks' mini-batches that trainings take.
    """
    found = {name: [compared(name, seed, portion) for seed in range(num_seeds)] for name in SIZES}
    shares = {name: [each.share for each in rows] for name, rows in found.items()}
    medians = {name: float(np.median(values)) for name, values in shares.items()}
    reached = [name for name, share in medians.items() if share >= TARGET]
    short = [name for name in found if name not in reached]
    times = {
        name: float(np.median([each.seconds[0] / each.seconds[1] for each in rows]))
        for name, rows in found.items()
    }
    most_passes = max(each.passes for rows in found.values() for each in rows)
    ahead = [
        name
        for name, rows in found.items()
        if np.median([each.theory - each.fista for each in rows]) < 0
    ]
    batches = {
        name: float(np.median([each.num_again / each.num_batches for each in rows]))
        for name, rows in found.items()
    }
    places = np.arange(1, len(found) + 1)
    is_full = portion >= 1
    return Outcome(
        title="Networks without training",
        summary=(
            f"In at most {most_passes:.0f} forward passes theory gains at least 90 % of what "
            f"training gains over FISTA on {len(reached)} of {len(found)} networks "
            f"({', '.join(reached) or 'none'}), in {_percent(times)} "
            "of the time of training in the median. Training that starts there needs "
            f"{_percent(batches)} of the mini-batches to be as good, "
            "in the median."
        ),
        sections=[
            Section(
                "Errors after the last layer",
                (
                    "Every network is trained as published, or nearly so, from the values that "
                    "are its own start; those whose trainings start from theory are trained "
                    "from equal values here. FISTA has the plain prior that is nearest "
                    "to the network's, with a weight that is tuned on one mini-batch; theory "
                    "looks at the same mini-batch. Errors are what training minimises, on held-out "
                    f"mini-batches; medians of {num_seeds} seeds, with their range. "
                    "Where the loss knows its spectrum (consensus, dugd) theory takes the optimal "
                    "steps, and needs no pass.",
                    "Theory sets one number for the steps, and one for each layer and threshold, "
                    "slope or width; matrices and convolutions it leaves alone. Where what is "
                    "learned is more than that, or where values of many layers must be chosen "
                    "together, training stays ahead" + (f": {', '.join(short)}." if short else "."),
                ),
                figure=Figure(
                    "share_of_gain",
                    "Gain over FISTA as a share of what training gains",
                    "One point for each network: values from theory lie between FISTA at 0 and "
                    "training at 1, some above.",
                    curves(
                        {
                            "from theory, untrained": np.array(
                                [
                                    [shares[name][seed] for name in found]
                                    for seed in range(num_seeds)
                                ]
                            )
                        },
                        places,
                        style="points",
                        roles={"from theory, untrained": "chebyshev"},
                    ),
                    Axis("network, in the order of the table"),
                    Axis("share of the gain in dB"),
                    (Level("trained", 1.0), Level("target", TARGET), Level("FISTA", 0.0)),
                ),
                table=Table(
                    (
                        "network",
                        "FISTA, dB",
                        "from theory",
                        "trained",
                        "share of the gain",
                        "passes",
                        "time over training's",
                    ),
                    tuple(
                        (
                            name,
                            spread([each.fista for each in rows], 4),
                            spread([each.theory for each in rows], 4),
                            spread([each.trained for each in rows], 4),
                            spread(shares[name]),
                            spread([each.passes for each in rows], 3),
                            f"{100 * times[name]:.2g} %",
                        )
                        for name, rows in found.items()
                    ),
                ),
            ),
            Section(
                "Training from there",
                (
                    "Trained on from theory, all layers at once on the logarithm of the error, "
                    "with the network's own learning rate, which falls to a twentieth. Counted "
                    "are mini-batches until the error on held-out data is that of the published "
                    f"training, looked at every few; at most {MOST_AGAIN} are tried, and inf "
                    "means that these did not do. On quadratics of a known spectrum theory is "
                    "the optimum, and training on loses some of it.",
                ),
                figure=Figure(
                    "training_from_theory",
                    f"Two trainings: {SHOWN}",
                    "Error against mini-batches: the training from theory starts lower and is "
                    "soon where the other ends.",
                    curves(
                        {
                            label: np.array([each.curves[label][1] for each in found[SHOWN]])
                            for label in ("learned from its own start", "learned from theory")
                        },
                        found[SHOWN][0].curves["learned from theory"][0],
                        emphasis=("learned from theory",),
                    ),
                    Axis("mini-batches"),
                    Axis("held-out error in dB"),
                ),
                table=Table(
                    (
                        "network",
                        "mini-batches as published",
                        "from theory until as good",
                        "dB as published",
                        "dB from theory in the end",
                    ),
                    tuple(
                        (
                            name,
                            f"{rows[0].num_batches}",
                            spread([each.num_again for each in rows]),
                            spread([each.trained for each in rows], 4),
                            spread([each.again for each in rows], 4),
                        )
                        for name, rows in found.items()
                    ),
                ),
            ),
        ],
        checks=[
            Check("forward passes that theory takes, the most", "at most 20", most_passes, 0, 20),
            Check(
                "networks whose values from theory are ahead of FISTA",
                f"all {len(found)}",
                len(ahead),
                lower=len(found),
            ),
        ]
        + (
            [
                Check(
                    "networks on which theory gains 90 % of what training gains",
                    "at least 5",
                    len(reached),
                    lower=5,
                ),
                Check(
                    "time of theory over that of training, median of the networks",
                    "at most 0.01",
                    float(np.median(list(times.values()))),
                    0,
                    0.01,
                ),
            ]
            if is_full
            else []
        ),
        records={
            "comparisons": {
                name: [
                    {
                        key: value
                        for key, value in dataclasses.asdict(each).items()
                        if key not in ("curves", "num_again")
                    }
                    for each in rows
                ]
                for name, rows in found.items()
            }
        },
    )


def _percent(shares: Mapping[str, float]) -> str:
    """The median in per cent, to two digits."""
    return f"{float(f'{100 * np.median(list(shares.values())):.2g}'):g} %"
