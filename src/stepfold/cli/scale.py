"""``stepfold scale``: what a step takes on many processes, and what sums over them cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from stepfold.cli.options import output_option
from stepfold.cli.output import check_output, show_table, write_whole
from stepfold.distributed.group import processes
from stepfold.distributed.scale import METHODS, Costs, HaloWork, RowsWork, measured_costs

MOST = 10_000
COUNTS = (1, 2, 4, 16, 64, 256, 1024, 4096, MOST)
POINTS = 41


@click.command()
@click.option("--unknowns", type=click.IntRange(1), default=10**7, show_default=True, help="n.")
@click.option(
    "--entries",
    type=click.IntRange(1),
    help="Stored entries; 2d + 1 for each unknown if not given.",
)
@click.option(
    "--dimensions", type=click.IntRange(1, 3), default=2, show_default=True, help="d of the grid."
)
@click.option("--rows", is_flag=True, help="Rows shared out with x on every process, not unknowns.")
@click.option(
    "--period", type=click.IntRange(1), default=64, show_default=True, help="T of known steps."
)
@click.option(
    "--depth",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Known steps for one exchange of messages.",
)
@click.option("--latency", type=click.FloatRange(0), help="Seconds of a message.")
@click.option("--bandwidth", type=click.FloatRange(0, min_open=True), help="Bytes per second.")
@output_option("Save the figure; a name that ends in .svg or .png.")
@click.option("--force", is_flag=True, help="Replace the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def scale(
    unknowns: int,
    entries: int | None,
    dimensions: int,
    rows: bool,
    period: int,
    depth: int,
    latency: float | None,
    bandwidth: float | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Predict the seconds of a step on 1 to 10 000 processes, from measured costs.

    One process measures its memory and its products, and needs --latency and --bandwidth of the
    network. Under torchrun these are measured, unless they are given.

    \b
    Example:
      stepfold scale --latency 2e-6 --bandwidth 1e10
      torchrun --nproc-per-node 2 -m stepfold scale --unknowns 1000000
    """
    if output is not None:
        if output.suffix not in (".svg", ".png"):
            raise click.UsageError(f"--output must end in .svg or .png, got {output}")
        check_output(output, force=force)
    if rows and depth > 1:
        raise click.UsageError("--depth is for unknowns that are shared out; leave out --rows")
    given = {} if latency is None else {"latency": latency}
    if bandwidth is not None:
        given["per_byte"] = 1 / bandwidth
    with processes() as group:
        if group.size == 1 and len(given) < 2:
            raise click.UsageError(
                "one process has no network to measure: give --latency and --bandwidth, or start "
                "two by torchrun"
            )
        costs = measured_costs(group, **given)
        is_first = group.rank == 0
    if not is_first:
        return
    count = (2 * dimensions + 1) * unknowns if entries is None else entries
    work = RowsWork(unknowns, count) if rows else HaloWork(unknowns, count, dimensions, depth)
    most = MOST if rows else min(MOST, unknowns)
    table = {
        method: [work.step_seconds(costs, n, method, period) for n in COUNTS if n <= most]
        for method in METHODS
    }
    if output is not None:
        _draw(work, costs, most, period, output)
    if as_json:
        numbers = {"costs": costs.to_dict(), "work": work.to_dict(), "seconds": table}
        click.echo(json.dumps({**numbers, "processes": [n for n in COUNTS if n <= most]}))
        return
    _show(table, costs, rows=rows)
    if output is not None:
        click.echo(f"saved: {output}")


def _show(table: dict[str, list[float]], costs: Costs, *, rows: bool) -> None:
    click.echo(
        f"costs ({costs.source}): an entry {costs.entry:.2g} s, a number {costs.number:.2g} s, "
        f"a message {costs.latency:.2g} s + {costs.per_byte:.2g} s a byte, "
        f"a step {costs.step:.2g} s"
    )
    lines = []
    for place, num_processes in enumerate(COUNTS[: len(table["known steps"])]):
        ours = table["known steps"][place]
        others = [
            f"{1e6 * seconds[place]:.4g} ({seconds[place] / ours:.2f})"
            for method, seconds in table.items()
            if method != "known steps"
        ]
        lines.append((str(num_processes), f"{1e6 * ours:.4g}", *others))
    names = [method.replace("conjugate gradients", "CG") for method in METHODS]
    show_table("Microseconds of a step", ("processes", *names), lines)
    click.echo(
        "In brackets: how many times as many known steps as these take as long. Conjugate "
        "gradients need fewer steps."
    )
    if rows:
        click.echo(
            "With x on every process all methods take one sum of n numbers a step: prefer "
            "conjugate gradients."
        )
    click.echo(
        "Left out: slow processes that others wait for, shared networks, caches. Beyond the "
        "processes that were measured these are orders of magnitude."
    )


def _draw(work: Any, costs: Costs, most: int, period: int, output: Path) -> None:
    from stepfold.lab import Axis, Curve, Figure
    from stepfold.lab._matplotlib import to_bytes

    counts = np.unique(np.geomspace(1, most, POINTS).round().astype(int))
    roles = ("chebyshev", "tool", "momentum", "fourth-kind")
    curves = [
        Curve(
            method,
            counts,
            np.array([work.step_seconds(costs, int(n), method, period) for n in counts]),
            emphasis=method == "known steps",
            role=role,
        )
        for method, role in zip(METHODS, roles, strict=True)
    ]
    figure = Figure(
        "seconds-against-processes",
        "Seconds of a step, by the model",
        "Seconds of a step against the number of processes, for known steps and three kinds of "
        "conjugate gradients.",
        tuple(curves),
        Axis("processes", log=True),
        Axis("seconds of a step", log=True),
    )
    write_whole(output, lambda file: file.write(to_bytes(figure, output.suffix[1:])))
