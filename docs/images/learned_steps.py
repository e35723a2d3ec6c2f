"""The picture of README: steps that training found, and Chebyshev's formula through them.

    python docs/images/learned_steps.py     writes learned-steps.svg beside this file

The published setting of Takabe and Wadayama (arXiv:2001.05142), Figure 1, with 11 layers: H has 600
rows and 300 columns, seed 12; every layer starts at 0.3; 500 mini-batches a stage. The numbers are
in the picture, as JSON in its metadata.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np

from stepfold import Schedule, SpectralMeasure, chebyshev_steps, optimal_steps
from stepfold.lab.experiments.dugd import published_matrix
from stepfold.lab.roles import LEVEL, ROLES
from stepfold.polynomial import mean_squared_error

PERIOD = 11
PICTURE = Path(__file__).with_name("learned-steps.svg")

WIDTH, HEIGHT, TOP, BOTTOM = 752, 420, 66, 352
LEFT = (58, 432)  # where each of the two panels begins
PANEL = 304
LOWEST, HIGHEST = 0.14, 6.0
TICKS = (0.2, 0.5, 1, 2, 5)


def computed() -> dict[str, object]:
    """Train, and put what theory has beside it."""
    from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally

    matrix = published_matrix()
    measure = SpectralMeasure.from_eigenvalues(np.linalg.eigvalsh(matrix.T @ matrix))
    network = UnfoldedIteration(Schedule(np.full(PERIOD, 0.3)))
    run = train_incrementally(network, SpectralLoss(measure), num_iterations=500, seed=0)
    constant = 2 / (measure.bounds.lower + measure.bounds.upper)
    schedules = {
        "learned": run.schedule.steps,
        "chebyshev": np.sort(chebyshev_steps(measure.bounds, PERIOD).steps),
        "optimal": np.sort(optimal_steps(measure, PERIOD).steps),
        "constant": np.full(PERIOD, constant),
    }
    return {
        "lower": measure.bounds.lower,
        "upper": measure.bounds.upper,
        "steps": {name: steps.tolist() for name, steps in schedules.items()},
        "mean_squared_error": {
            name: mean_squared_error(steps, measure) for name, steps in schedules.items()
        },
    }


def chebyshev_curve(lower: float, upper: float, places: np.ndarray) -> np.ndarray:
    """Chebyshev's formula at sorted places 1 to T, and between them."""
    angles = (2 * places - 1) * np.pi / (2 * PERIOD)
    return 2 / (upper + lower + (upper - lower) * np.cos(angles))


def drawn(found: dict) -> str:
    """The picture as SVG, in the colours of the reports, light or dark as the reader's system."""
    learned = np.array(found["steps"]["learned"])
    places = np.arange(1, PERIOD + 1)
    between = np.linspace(1, PERIOD, 201)
    curve = chebyshev_curve(found["lower"], found["upper"], between)
    constant = found["steps"]["constant"][0]
    one, two = LEFT
    zigzag = " ".join(f"{_x(one, t)},{_y(step)}" for t, step in zip(places, learned, strict=True))
    smooth = " ".join(f"{_x(two, t)},{_y(step)}" for t, step in zip(between, curve, strict=True))
    parts = [
        *(_panel(one, "By layer: they zig-zag", "layer")),
        *(_panel(two, "Sorted: on a curve", "place")),
        f'<path class="constant" d="M{one} {_y(constant)}h{PANEL}"/>',
        f'<path class="constant" d="M{_x(one, 4.4)} {_y(4) - 7}h36"/>',
        f'<text class="grey" x="{_x(one, 4.4) + 44}" y="{_y(4)}">best constant</text>',
        f'<polyline class="thin learned" points="{zigzag}"/>',
        f'<polyline class="chebyshev" points="{smooth}"/>',
        *(_square(_x(one, t), _y(step)) for t, step in zip(places, learned, strict=True)),
        *(_square(_x(two, t), _y(step)) for t, step in zip(places, np.sort(learned), strict=True)),
        f'<text class="blue" x="{_x(two, 0.7)}" y="{_y(3.4)}">Chebyshev steps:</text>',
        f'<text class="blue" x="{_x(two, 0.7)}" y="{_y(3.4) + 26}">no training</text>',
    ]
    errors = found["mean_squared_error"]
    text = (
        f"Two panels show the same {PERIOD} learned step sizes, on a logarithmic axis from 0.2 to "
        "5. Left, in the order of the layers: long and short steps alternate at first, from "
        f"{learned.max():.2f} down and from {learned.min():.2f} up. Right, sorted: they lie on the "
        "curve of Chebyshev's formula, but for the longest, which is below it. Mean squared error "
        f"after {PERIOD} steps: best constant {errors['constant']:.1e}, learned "
        f"{errors['learned']:.1e}, Chebyshev {errors['chebyshev']:.1e}, optimal "
        f"{errors['optimal']:.1e}."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title desc">',
            '<title id="title">Learned step sizes zig-zag; sorted, they follow a formula</title>',
            f'<desc id="desc">{escape(text)}</desc>',
            f"<metadata>{json.dumps(found)}</metadata>",
            f"<style>{_style()}</style>",
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _x(left: int, place: float) -> float:
    return round(left + PANEL * (place - 0.3) / (PERIOD + 0.4), 1)


def _y(step: float) -> float:
    share = np.log(step / LOWEST) / np.log(HIGHEST / LOWEST)
    return round(float(BOTTOM - (BOTTOM - TOP) * share), 1)


def _square(x: float, y: float) -> str:
    return f'<rect class="point" x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12"/>'


def _panel(left: int, title: str, below: str) -> list[str]:
    middle = left + PANEL / 2
    lines = [
        f'<text class="title" x="{middle}" y="36" text-anchor="middle">{title}</text>',
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{below}</text>',
    ]
    for tick in TICKS:
        lines.append(f'<path class="grid" d="M{left} {_y(tick)}h{PANEL}"/>')
        lines.append(
            f'<text x="{left - 9}" y="{_y(tick) + 8:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for place in (1, 6, 11):
        lines.append(
            f'<text x="{_x(left, place)}" y="{BOTTOM + 26}" text-anchor="middle">{place}</text>'
        )
    return lines


def _style() -> str:
    """Both themes; the page's own colour is drawn, so that text is legible wherever it stands."""
    themes = []
    for at, (page, ink, line) in enumerate(
        (("#ffffff", "#1f2328", "#d8dee4"), ("#0d1117", "#e6edf3", "#30363d"))
    ):
        learned, chebyshev = (
            (role.light, role.dark)[at] for role in (ROLES["learned"], ROLES["chebyshev"])
        )
        themes.append(
            f".page{{fill:{page}}}text{{fill:{ink}}}.grid{{stroke:{line}}}"
            f".grey{{fill:{LEVEL[at]}}}.constant{{stroke:{LEVEL[at]}}}.blue{{fill:{chebyshev}}}"
            f".point{{fill:{learned}}}.learned{{stroke:{learned}}}.chebyshev{{stroke:{chebyshev}}}"
        )
    return (
        "text{font:22px system-ui,sans-serif}.title{font-weight:600}"
        "polyline,path{fill:none;stroke-width:1}.constant{stroke-width:2;stroke-dasharray:7 5}"
        ".thin{stroke-width:1.5}.chebyshev{stroke-width:4}"
        f"{themes[0]}@media(prefers-color-scheme:dark){{{themes[1]}}}"
    )


def main() -> None:
    PICTURE.write_text(drawn(computed()), encoding="utf-8")


if __name__ == "__main__":
    main()
