"""The claims that the experiment tests."""

from __future__ import annotations

import numpy as np

from stepfold.lab.experiments._trainings import EARLIER, THEORY
from stepfold.lab.experiments.learned_steps.findings import NULLS, SHOWN, Found
from stepfold.lab.outcome import Check

# Mean squared errors on the published matrix, measured before this program existed.
EXPECTED = {
    2: {"learned": 0.1426, "optimal": 0.1426, "Chebyshev": 0.2710, "constant": 0.1853},
    5: {"learned": 1.648e-2, "optimal": 1.617e-2, "Chebyshev": 4.955e-2, "constant": 6.02e-2},
    8: {"learned": 2.51e-3, "optimal": 1.90e-3, "Chebyshev": 5.87e-3, "constant": 2.69e-2},
}


def checks(found: Found, *, published_matrix: bool, trained_in_full: bool) -> list[Check]:
    """Claims that hold for every matrix, or for a stated share.

    Args:
        found: What was found.
        published_matrix: Whether the first matrix is the published one.
        trained_in_full: Whether the trainings are at least as long as published; claims about
            training are tested only then.
    """
    seeds = len(found.replicas) // len(found.measures)
    by_depth = {d: found.errors(d) for d in SHOWN if d in found.depths}
    surplus = [each["learned"] / np.repeat(each["optimal"], seeds) for each in by_depth.values()]
    claims = [
        Check.at_least(
            "smallest learned MSE over the optimum, all T", 1, np.min(surplus), THEORY, "it is best"
        )
    ]
    for depth, row in EXPECTED.items() if published_matrix else ():
        for name, value in row.items():
            learned = name == "learned"
            if depth in by_depth and (trained_in_full or not learned):
                found_here = np.median(by_depth[depth][name][: seeds if learned else 1])
                claim, rtol = (
                    f"MSE {name}, T = {depth}, published matrix",
                    0.02 if learned else 4e-3,
                )
                claims.append(
                    Check.close(claim, value, float(found_here), rtol=rtol, source=EARLIER)
                )
    if not trained_in_full:
        return claims
    total = len(found.measures)
    gap = found.deviations["optimal"] - found.deviations["Chebyshev"]
    few = [found.depths.index(d) for d in (2, 5, 8, 11) if d in found.depths]
    longest = found.surplus(found.longer)[:, -1].max()
    claims += [
        Check.count(
            f"T = 2, 5, 8, 11: least of {total} matrices where optimal steps are nearer",
            total,
            (gap[:, few] < 0).sum(0).min(),
            EARLIER,
        ),
        Check.at_most("longer training: largest MSE over the optimum", 1.02, longest, THEORY),
    ]
    if found.depths[-1] < 25:
        return claims
    near = {name: rows[:, found.depths.index(25)] for name, rows in found.deviations.items()}
    null = np.min([near[name] for name in NULLS], axis=0)
    rivals = [near[name].mean() / near["Chebyshev"].mean() for name in ("second kind", "optimal")]
    return [
        *claims,
        Check.at_most(
            "T = 25: largest distance from Chebyshev over that from the nearest null model",
            0.5,
            (near["Chebyshev"] / null).max(),
            EARLIER,
        ),
        Check(
            "T = 25: smallest mean distance of a rival over Chebyshev's",
            "0.9 to 1.2: no difference of substance",
            float(min(rivals)),
            0.9,
            1.2,
            EARLIER,
        ),
        Check.at_least(
            "T = 20: share of matrices where Chebyshev steps are nearer than optimal ones",
            0.5,
            (gap[:, found.depths.index(20)] > 0).mean(),
            EARLIER,
        ),
        Check(
            "share of random draws with a log-log correlation above 0.97, T = 25",
            "0.42, within 0.15: a correlation proves nothing",
            found.correlated,
            0.27,
            0.57,
            EARLIER,
        ),
    ]
