"""``stepfold steps``: a schedule from two numbers."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from stepfold.cli.options import choice_option, given_bounds, output_option
from stepfold.cli.output import PERIOD, check_output, show_table, write_whole
from stepfold.measure import SpectralMeasure
from stepfold.polynomial import (
    first_order_lower_bound,
    mean_squared_error,
    worst_case_period_rate,
)
from stepfold.schedules import ORDERS, SCHEDULES, Schedule, optimal_steps
from stepfold.spectrum import SpectralBounds

MEASURES = {
    "uniform": "constant density on [lower, upper]",
    "marchenko-pastur": "the density of large Gaussian matrices with these ends",
}


@click.command()
@click.option("--lower", type=float, required=True, help="Smallest eigenvalue of the Hessian.")
@click.option("--upper", type=float, required=True, help="Largest eigenvalue of the Hessian.")
@click.option("--period", type=PERIOD, required=True, help="T, the number of steps.")
@choice_option("--method", SCHEDULES, "Family of schedules.", "chebyshev")
@choice_option("--measure", MEASURES, "What optimal steps are averaged over.", "uniform")
@choice_option("--order", ORDERS, "Order; a safe one by default.")
@output_option("Save as JSON.")
@click.option("--force", is_flag=True, help="Replace the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print the schedule as JSON.")
def steps(
    lower: float,
    upper: float,
    period: int,
    method: str,
    measure: str,
    order: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Print or save T step sizes for a Hessian with eigenvalues between LOWER and UPPER.

    Steps are printed in the order in which to take them, in units of 1 / Hessian.

    \b
    Example:
      stepfold steps --lower 0.18 --upper 5.68 --period 25 --method optimal \\
          --measure marchenko-pastur -o steps.json
    """
    bounds = given_bounds(lower, upper)
    assert bounds is not None  # noqa: S101 (both are required)
    if output is not None:
        check_output(output, force=force)
    spectrum = _measure(measure, bounds, num_nodes=max(256, period + 1))
    with np.errstate(over="ignore", divide="ignore"):  # the schedule's own checks say it better
        if method == "optimal":
            schedule = optimal_steps(spectrum, period)
        else:
            schedule = SCHEDULES[method](bounds, period)
    if order is not None:
        schedule = schedule.reordered(order)
    if output is not None:
        record = json.dumps(schedule.to_dict(), indent=2) + "\n"
        write_whole(output, lambda file: file.write(record.encode()))
    if as_json:
        click.echo(json.dumps(schedule.to_dict()))
    else:
        _show(schedule, bounds, spectrum, output)


def _measure(name: str, bounds: SpectralBounds, num_nodes: int) -> SpectralMeasure:
    if name == "uniform":
        return SpectralMeasure.uniform(bounds, num_nodes=num_nodes)
    if bounds.lower == 0:
        return SpectralMeasure.marchenko_pastur(1.0, scale=bounds.upper / 4, num_nodes=num_nodes)
    # [s(1 − √r)², s(1 + √r)²] solved for r and s; √r is the first-order lower bound.
    root = first_order_lower_bound(bounds)
    return SpectralMeasure.marchenko_pastur(
        root**2, scale=bounds.upper / (1 + root) ** 2, num_nodes=num_nodes
    )


def _show(
    schedule: Schedule, bounds: SpectralBounds, spectrum: SpectralMeasure, output: Path | None
) -> None:
    rate = worst_case_period_rate(schedule, bounds)
    per_step = rate ** (1 / schedule.period)
    limit = first_order_lower_bound(bounds)
    show_table(
        f"{schedule.name} steps, order {schedule.order}",
        ("t", "step size"),
        [(str(t), f"{gamma!r}") for t, gamma in enumerate(schedule)],
    )
    click.echo(f"condition number: {bounds.condition_number:.6g}")
    click.echo(
        f"worst case: factor {rate:.4g} per period, {per_step:.6f} per step "
        f"(no first-order method has less than {limit:.6f} in the limit)"
    )
    error = mean_squared_error(schedule, spectrum)
    click.echo(f"mean squared error over the {spectrum.name} spectrum: {error:.4g} per period")
    if output is not None:
        click.echo(f"saved: {output}")
