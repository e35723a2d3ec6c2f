"""Expectation maximisation for mixtures: 160 runs from four kinds of starts."""

from __future__ import annotations

from typing import Any

import numpy as np
from _gallery import GALLERY, mixture_map, mixture_samples
from _timing import Report

from stepfold.accelerate import accelerate, iterate

MOST = 20_000
STARTS = ("quantiles", "samples", "alike", "far")
LIMIT = 1.15, 32


def mixtures(report: Report, *, quick: bool) -> None:
    """Evaluations beside the plain iteration, to the same tolerance on the residual."""
    every: list[float] = []
    rows = []
    for start in STARTS:
        runs = [_run(seed, count, start) for seed in range(2 if quick else 20) for count in (2, 3)]
        rows.append(_row(f"mixtures, {start}", runs))
        every += [ours / plain for plain, ours in runs if plain and ours]
    gallery = [
        _counts(member.map, member.start)
        for name in GALLERY
        for member in [
            GALLERY[name](np.random.default_rng(seed)) for seed in range(1 if quick else 3)
        ]
    ]
    rows.append(_row("gallery", gallery))
    every += [ours / plain for plain, ours in gallery if plain and ours]
    report.table(
        "Beside the plain iteration",
        [
            "maps",
            "runs",
            "plain converges",
            "`accelerate` does not",
            "share of evaluations, median",
            "worst",
            "runs above 1.15 plain + 32",
        ],
        rows,
        f"To a residual of 1e-8 of the first. Over all of them the median share is "
        f"{np.median(every):.3f}. Mixtures of two and three normal densities, 200 samples, means "
        "1.5 to 4 apart; means start at quantiles, at samples, all within 0.001 of the mean (next "
        f"to a saddle), or far from all samples. Of {MOST} evaluations.",
    )


def _run(seed: int, count: int, start: str) -> tuple[int, int]:
    rng = np.random.default_rng([seed, count])
    samples = mixture_samples(rng, count, rng.uniform(1.5, 4.0))
    means = {
        "quantiles": np.quantile(samples, (np.arange(count) + 0.5) / count),
        "samples": rng.choice(samples, count, replace=False),
        "alike": samples.mean() + 1e-3 * rng.standard_normal(count),
        "far": samples.mean() + 3 * samples.std() * rng.standard_normal(count),
    }[start]
    first = np.concatenate([np.full(count, 1 / count), means, np.full(count, samples.var())])
    return _counts(mixture_map(samples), first)


def _counts(function: Any, start: Any) -> tuple[int, int]:
    """Evaluations of the plain iteration and of `accelerate`; 0 if it does not converge."""
    with np.errstate(all="ignore"):
        plain = iterate(function, start, max_products=MOST)
        ours = accelerate(function, start, max_products=int(LIMIT[0] * MOST + LIMIT[1]))
    return tuple(  # type: ignore[return-value]
        int(result.history.num_products[-1]) if result.converged else 0 for result in (plain, ours)
    )


def _row(name: str, runs: list[tuple[int, int]]) -> list[str]:
    both = [(plain, ours) for plain, ours in runs if plain and ours]
    failed = sum(1 for plain, ours in runs if plain and not ours)
    shares = [ours / plain for plain, ours in both]
    above = sum(ours > LIMIT[0] * plain + LIMIT[1] for plain, ours in both)
    return [
        name,
        str(len(runs)),
        str(len(both) + failed),
        str(failed),
        f"{np.median(shares):.2f}",
        f"{max(shares):.2f}",
        str(above),
    ]
