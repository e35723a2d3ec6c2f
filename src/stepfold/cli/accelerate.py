"""``stepfold accelerate``: a fixed point of the user's own map."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from stepfold.accelerate import Anderson, Plain, Steffensen, iterate
from stepfold.accelerate import accelerate as run_accelerate
from stepfold.cli.files import load_array, save_vector
from stepfold.cli.options import FILE, choice_option, given_bounds, output_option, output_options
from stepfold.cli.output import PERIOD, check_output, last
from stepfold.cli.user_function import load_function, plain_warnings
from stepfold.cli.wording import in_options
from stepfold.problems.fixed_point import StochasticMapWarning

METHODS: dict[str, Callable[..., Any]] = {
    "relaxation": run_accelerate,
    **{
        type(method).__name__.lower(): functools.partial(iterate, method=method)
        for method in (Plain(), Anderson(), Steffensen())
    },
}


@click.command()
@click.argument("function")
@click.option(
    "--x0", "start", type=FILE, required=True, help="Start, of any shape (.npy, .npz or .csv)."
)
@output_option("Where to write the fixed point (.npy).")
@choice_option("--method", METHODS, "Guarded Chebyshev relaxation, or a rival of it.", "relaxation")
@click.option(
    "--rtol",
    type=float,
    default=1e-8,
    show_default=True,
    help="Tolerance on the residual norm ‖f(x) − x‖, relative to that at the start.",
)
@click.option("--atol", type=float, default=0.0, help="The same, absolute.")
@click.option(
    "--max-products",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="Budget of calls of f.",
)
@click.option("--max-seconds", type=click.FloatRange(0), help="Budget of time.")
@click.option("--lower", type=float, help="Smallest eigenvalue of I − J, if known.")
@click.option("--upper", type=float, help="Largest eigenvalue of I − J, if known.")
@click.option("--period", type=PERIOD, help="T, the period; chosen if not given.")
@click.option("--torch", "as_tensor", is_flag=True, help="Call the function with torch tensors.")
@output_options
def accelerate(
    function: str,
    start: Path,
    output: Path | None,
    method: str,
    rtol: float,
    atol: float,
    max_products: int,
    max_seconds: float | None,
    lower: float | None,
    upper: float | None,
    period: int | None,
    as_tensor: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Find x = f(x) for FUNCTION, given as module:function, in fewer calls than x ← f(x) takes.

    The module is looked up from the current folder. Exits with 1 if the tolerance was not met; the
    best iterate is written all the same.

    \b
    Example:
      stepfold accelerate mymodel:update --x0 start.npy -o x.npy
    """
    if output is not None:
        check_output(output, force=force, suffix=".npy")
    options: dict[str, Any] = {}
    bounds = given_bounds(lower, upper)
    if method == "relaxation":
        options = {"bounds": bounds, "period": period}
        if max_seconds is not None:
            options["max_seconds"] = max_seconds
    elif (bounds, period, max_seconds) != (None, None, None):
        raise click.UsageError(
            "--lower, --upper, --period and --max-seconds go with --method relaxation"
        )
    x0 = load_array(start)
    if as_tensor:
        import torch

        x0 = torch.from_numpy(x0)
    own_map = load_function(function)
    begun = time.perf_counter()
    with plain_warnings(StochasticMapWarning):
        result = METHODS[method](
            own_map, x0, rtol=rtol, atol=atol, max_products=max_products, **options
        )
    seconds = time.perf_counter() - begun
    if output is not None:
        save_vector(output, np.asarray(result.x))
    history = result.history
    if as_json:
        record = result.to_dict()
        if output is not None:
            del record["x"]
        where = None if output is None else str(output)
        record |= {"solution": where, "seconds": seconds}
        click.echo(json.dumps(record, default=_pair))
    else:
        sizes = history.gradient_norms
        click.echo(f"{result.status.name}: {in_options(result.advice)}")
        line = f"{last(history.num_products)} evaluations, {seconds:.2f} s"
        if len(sizes):
            line += f"; residual norm {sizes[0]:.4g} at the start, {np.nanmin(sizes):.4g} at best"
        click.echo(line)
        if output is None:
            click.echo(np.array2string(np.asarray(result.x), threshold=20))
        else:
            click.echo(f"solution: {output}")
    return 0 if result.converged else 1


def _pair(number: Any) -> list[float]:
    """A complex number as JSON has it: real and imaginary part."""
    if not isinstance(number, complex):
        raise TypeError(f"{type(number).__name__} is no JSON")
    return [number.real, number.imag]
