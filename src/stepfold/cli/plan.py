"""``stepfold plan``: which schedule, what it costs, how sure that is, and what else there is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
import numpy as np

from stepfold.cli.files import load_matrix
from stepfold.cli.options import FILE, problem_options
from stepfold.cli.output import show_table
from stepfold.cli.posing import Asked, find_ridge, pose
from stepfold.cli.wording import in_options
from stepfold.planner import Plan
from stepfold.planner import plan as make_plan


@click.command()
@click.argument("matrix", type=FILE, required=False)
@problem_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(matrix: Path | None, asked: Asked, as_json: bool) -> None:
    """Recommend steps for MATRIX, or for eigenvalues between --lower and --upper alone.

    \b
    Example:
      stepfold plan A.npz --rtol 1e-8
      stepfold plan --lower 1 --upper 1000
    """
    bounds, period = asked.bounds, asked.period
    if matrix is not None:
        entries = load_matrix(matrix)
        weight, _ = find_ridge(asked, entries, None)
        posed = pose(entries, np.zeros(entries.shape[0], entries.dtype), asked.kind, weight)
        why = posed.why
        goal = asked.tolerance(posed.problem)
        advice = make_plan(posed.problem, rtol=goal, period=period, bounds=bounds or posed.bounds)
    elif bounds is not None:
        why = "any problem with these eigenvalues"
        advice = make_plan(bounds, rtol=1e-8 if asked.rtol is None else asked.rtol, period=period)
    else:
        raise click.UsageError("give a MATRIX, or --lower and --upper")
    if as_json:
        click.echo(json.dumps(advice.to_dict()))
    else:
        _show(advice, why)


def _show(advice: Plan, why: str) -> None:
    schedule, bounds = advice.schedule, advice.bounds
    rows = [
        ("problem", why),
        ("eigenvalues from", f"{bounds.lower:.10g} ({bounds.lower_certainty.value})"),
        ("to", f"{bounds.upper:.10g} ({bounds.upper_certainty.value})"),
        ("bounds", f"{bounds.method}; {bounds.num_products} products"),
        ("condition number", f"{bounds.condition_number:.6g}"),
        ("schedule", f"{schedule.name}, period {schedule.period}, {schedule.order} order"),
        ("precision", advice.dtype),
        (f"to a gradient of {advice.rtol:g}", _expectation(advice)),
    ]
    show_table("Plan", ("quantity", "value"), rows)
    show_table(
        "Other tools",
        ("method", "products, worst case", "better when"),
        [other.texts for other in advice.alternatives],
    )
    for sentence in advice.advice:
        click.echo(click.wrap_text(in_options(sentence), 100))


def _expectation(advice: Plan) -> str:
    if not math.isfinite(advice.num_steps):
        return "no number of steps can be promised"
    return f"{advice.num_steps:.0f} steps, {advice.num_products:.0f} products, in the worst case"
