"""Landweber's iteration on a blurred, noisy picture, and what relaxation does to its stopping.

``x ← x + γAᵀ(b − Ax)`` restores large scales first; noise comes back with small ones, so the error
falls and then rises. Relaxation by steps of the fourth kind goes the same way in about the square
root of the iterations. The blur is periodic, so its eigenvalues are known, and with them everything
that must come out.

Wadayama and Takabe, Chebyshev Inertial Iteration for Accelerating Fixed-Point Iterations
(arXiv:2001.03280), on Landweber's iteration.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from stepfold._typing import FloatArray
from stepfold.lab.curves import curves
from stepfold.lab.experiments._published import Seed
from stepfold.lab.experiments.base import experiment
from stepfold.lab.figure import Axis, Figure
from stepfold.lab.formula import Formula
from stepfold.lab.outcome import Check, Outcome, Section, Table
from stepfold.lab.parameters import Between
from stepfold.lab.picture import Image, Pictures
from stepfold.lab.sources import INERTIAL_ITERATION, Source
from stepfold.polynomial import residual_polynomial
from stepfold.problems.fixed_point import FixedPoint
from stepfold.schedules import chebyshev_steps
from stepfold.spectrum import SpectralBounds

LOWEST = 0.01


@experiment(
    "landweber",
    source=Source(INERTIAL_ITERATION, "Landweber's iteration"),
    seconds=3,
    quick={"side": 32, "num_iterations": 1000, "noise": 0.01},
)
def landweber(
    *,
    side: Annotated[int, Between(16, 256)] = 64,
    width: Annotated[float, Between(0.5, 5)] = 1.5,
    noise: Annotated[float, Between(0, 0.5)] = 0.005,
    period: Annotated[int, Between(2, 64)] = 16,
    num_iterations: Annotated[int, Between(64, 20_000)] = 2000,
    seed: Seed = 0,
) -> Outcome:
    """Landweber's iteration on a blurred picture: relaxed, it restores it several times sooner.

    Args:
        side: Pixels on a side.
        width: Standard deviation of the blur, in pixels.
        noise: Standard deviation of the noise; the picture's range is 0 to 1.
        period: T, the period of the relaxations.
        num_iterations: Iterations of the plain method.
        seed: Seed of the noise.
    """
    picture = _picture(side)
    transfer = _transfer(side, width)
    blurred = _apply(transfer, picture)
    blurred = blurred + noise * np.random.default_rng(seed).standard_normal((side, side))
    problem = FixedPoint(lambda x: x + _apply(transfer, blurred - _apply(transfer, x)))
    schedules = {
        "Landweber (ω = 1)": np.ones(1),
        f"a = {LOWEST:g}, T = {period}": chebyshev_steps(SpectralBounds(LOWEST, 1.0), period).steps,
        f"fourth kind, T = {period}": chebyshev_steps(
            SpectralBounds(0.0, 1.0), period, kind=4
        ).steps,
    }
    errors, restored = {}, {}
    for name, steps in schedules.items():
        errors[name], restored[name] = _run(problem, steps, picture, num_iterations)
    plain, lower, fourth = schedules
    ends = {name: (curve if name == plain else curve[::period]) for name, curve in errors.items()}
    best = {name: float(curve.min()) for name, curve in ends.items()}
    at = {
        name: int(curve.argmin()) * (1 if name == plain else period) for name, curve in ends.items()
    }
    predicted = _predicted(transfer, blurred, picture, schedules[fourth], period)
    start = float(np.sqrt(((blurred - picture) ** 2).mean()))
    return Outcome(
        title="Landweber's iteration on a blurred picture",
        summary=(
            f"Landweber's iteration is closest to the picture after {at[plain]} iterations, root "
            f"mean square error {best[plain]:.4f}; relaxation by steps of the fourth kind of "
            f"period {period} after {at[fourth]}, error {best[fourth]:.4f}; with the spectrum "
            f"cut at {LOWEST:g} after {at[lower]}, error {best[lower]:.4f}. The blurred picture "
            f"is {start:.4f} away. All must be stopped in time: later the noise comes back."
        ),
        sections=[
            Section(
                "The pictures",
                (
                    Formula(r"x \leftarrow x + \omega_t A^\top (b - Ax)"),
                    f"A picture of {side} × {side} pixels, blurred by a Gaussian of {width:g} "
                    f"pixels, with noise of {noise:g}; and what steps of the fourth kind restore.",
                ),
                figure=Pictures(
                    "pictures",
                    "Original, blurred and restored",
                    "Bars, a disc and a ramp: sharp, blurred with grain, and restored with sharper "
                    "edges by steps of the fourth kind.",
                    (
                        Image.from_values("original", picture),
                        Image.from_values("blurred, with noise", blurred),
                        Image.from_values(f"restored in {at[fourth]}", restored[fourth]),
                    ),
                ),
            ),
            Section(
                "Error by iteration",
                (
                    "Root mean square difference from the original. The error falls while large "
                    "scales are restored and rises when noise in the small scales is. Relaxations "
                    "are read at multiples of their period.",
                ),
                figure=Figure(
                    "errors",
                    "Distance from the original picture",
                    "Error against iteration on a logarithmic axis: all three curves fall and rise "
                    "again; relaxed ones have their minimum several times earlier.",
                    curves({plain: errors[plain][1:]}, np.arange(1, errors[plain].size))
                    + tuple(
                        curve
                        for name in (lower, fourth)
                        for curve in curves(
                            {name: ends[name][1:]},
                            period * np.arange(1, ends[name].size),
                            style="both",
                            emphasis=(name,),
                        )
                    ),
                    Axis("iteration", log=True),
                    Axis("root mean square error (range 0 to 1)", log=True),
                ),
                table=Table(
                    ("relaxation", "best after", "error then", "error at the end"),
                    tuple(
                        (name, str(at[name]), f"{best[name]:.4f}", f"{ends[name][-1]:.4f}")
                        for name in ends
                    ),
                ),
            ),
        ],
        checks=[
            Check(
                "error after a period of the fourth kind, over that from the eigenvalues",
                "1",
                ends[fourth][1] / predicted,
                1 - 1e-9,
                1 + 1e-9,
            ),
            Check.below(
                "iterations to the best picture, fourth kind over Landweber",
                0.5,
                at[fourth] / at[plain],
            ),
            Check.at_most(
                "best error, fourth kind over Landweber", 1.05, best[fourth] / best[plain]
            ),
            Check.below("best error of Landweber over that of the data", 1, best[plain] / start),
            Check.above(
                "error of the fourth kind at the end over its best",
                1 if noise > 0 else 0,
                float(ends[fourth][-1]) / best[fourth],
                why="it must be stopped",
            ),
        ],
        records={"schedules/fourth-kind": {"steps": schedules[fourth]}},
    )


def _picture(side: int) -> FloatArray:
    """Bars of falling width, a disc and a ramp, values from 0 to 1."""
    y, x = np.mgrid[0:side, 0:side] / side
    picture = 0.15 + 0.5 * (y > 0.55) * (x > 0.5) * x
    bars = np.sin(2 * np.pi * (2 + 14 * x) * x) > 0
    picture = picture + 0.7 * bars * (y > 0.1) * (y < 0.4) * (x > 0.08) * (x < 0.92)
    disc = (x - 0.28) ** 2 + (y - 0.72) ** 2 < 0.03
    return np.asarray(np.clip(picture + 0.8 * disc, 0, 1))


def _transfer(side: int, width: float) -> FloatArray:
    """Eigenvalues of the periodic Gaussian blur, a symmetric matrix, on the frequencies."""
    frequencies = np.fft.fftfreq(side)
    line = np.exp(-2 * (np.pi * width * frequencies) ** 2)
    return np.outer(line, line)


def _apply(transfer: FloatArray, x: FloatArray) -> FloatArray:
    half = transfer[:, : x.shape[1] // 2 + 1]
    image: FloatArray = np.fft.irfft2(half * np.fft.rfft2(x), s=x.shape)
    return image


def _run(
    problem: FixedPoint[FloatArray], steps: FloatArray, picture: FloatArray, num_iterations: int
) -> tuple[FloatArray, FloatArray]:
    """Errors before the first and after each iteration, and the best iterate at a period's end."""
    x = best = np.zeros(picture.shape)
    errors = [float(np.sqrt((picture**2).mean()))]
    smallest = errors[0]
    for t in range(num_iterations):
        x = problem.relaxation_step(x, steps[t % steps.size])
        errors.append(float(np.sqrt(((x - picture) ** 2).mean())))
        if (t + 1) % steps.size == 0 and errors[-1] < smallest:
            smallest, best = errors[-1], x
    return np.array(errors), best


def _predicted(
    transfer: FloatArray,
    blurred: FloatArray,
    picture: FloatArray,
    steps: FloatArray,
    period: int,
) -> float:
    """Error after one period from 0, from eigenvalues: ``(1 − p(λ))/√λ`` times the data."""
    eigenvalues = transfer**2
    filtered = (1 - residual_polynomial(steps[:period], eigenvalues)) / transfer
    x = np.fft.ifft2(filtered * np.fft.fft2(blurred)).real
    return float(np.sqrt(((x - picture) ** 2).mean()))
