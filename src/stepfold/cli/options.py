"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from stepfold._registry import Registry
from stepfold.cli.output import PERIOD
from stepfold.cli.posing import KINDS, Asked
from stepfold.run import Budgets
from stepfold.spectrum import SpectralBounds

FILE = click.Path(path_type=Path)


def output_option(text: str, **options: Any) -> Callable[..., Any]:
    """``-o``, where to write what ``text`` says."""
    return click.option("-o", "--output", type=FILE, help=text, **options)


class _Member(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A member's name; other packages are looked through only for names that are not our own."""

    name = "choice"

    def __init__(self, family: Registry[Any]) -> None:
        self._family = family

    def get_metavar(self, param: Any, ctx: Any = None) -> str:  # noqa: ARG002 (as click calls it)
        """All names, for the help."""
        return f"[{'|'.join(self._family)}]"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The name, if there is such a member."""
        if value not in self._family:
            names = ", ".join(map(repr, self._family))
            self.fail(f"{value!r} is not one of {names}.", param, ctx)
        return str(value)


def choice_option(
    flag: str, choices: Iterable[str], text: str, default: str | None = None
) -> Callable[..., Any]:
    """An option that takes one of several words; its default, if it has one, is in the help."""
    kind = _Member(choices) if isinstance(choices, Registry) else click.Choice(sorted(choices))
    return click.option(flag, type=kind, default=default, show_default=bool(default), help=text)


def system_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a command takes that solves for a matrix and a right-hand side from files."""
    options = (
        click.argument("matrix", type=FILE),
        click.argument("rhs", type=FILE),
        output_option("Where to write the solution (.npy).", required=True),
    )
    return _with(options, command)


def settings_option(text: str) -> Callable[..., Any]:
    """``--set NAME=VALUE``, any number of times."""
    return click.option(
        "--set", "settings", multiple=True, metavar="NAME=VALUE", help=f"{text} Repeatable."
    )


class _Ridge(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number, or None for "auto"."""

    name = "number|auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | None:
        if value == "auto":
            return None
        number: float = click.FLOAT.convert(value, param, ctx)
        return number


noise_option = click.option(
    "--noise",
    type=float,
    help="Standard deviation of the noise in RHS, for --ridge auto; cross-validation if not given.",
)


def budget_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add budgets of steps, products and seconds, which the command gets as ``budgets``."""

    @functools.wraps(command)
    def called(
        *, max_steps: int, max_products: int | None, max_seconds: float | None, **others: Any
    ) -> Any:
        return command(budgets=Budgets(max_steps, max_products, max_seconds), **others)

    options = (
        click.option(
            "--max-steps", type=int, default=100_000, show_default=True, help="Budget of steps."
        ),
        click.option(
            "--max-products",
            type=click.IntRange(0),
            help="Budget of products with MATRIX or its transpose.",
        ),
        click.option(
            "--max-seconds", type=click.FloatRange(0), help="Budget of time, reading files aside."
        ),
    )
    return _with(options, called)


def problem_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what the problem is and how to step, which the command gets as ``asked``."""

    @functools.wraps(command)
    def called(
        *,
        rtol: float | None,
        kind: str,
        ridge: float | None,
        lower: float | None,
        upper: float | None,
        period: int | None,
        noise: float | None = None,
        **others: Any,
    ) -> Any:
        bounds = given_bounds(lower, upper)
        return command(asked=Asked(rtol, kind, ridge, noise, bounds, period), **others)

    options = (
        choice_option(
            "--kind",
            KINDS,
            "What MATRIX poses; auto: a symmetric system if it is one and not indefinite.",
            "auto",
        ),
        click.option(
            "--ridge",
            type=_Ridge(),
            default=0.0,
            help="Weight μ ≥ 0 of a term ½μ‖x‖², or auto; makes the problem least squares.",
        ),
        click.option("--lower", type=float, help="Smallest eigenvalue of the Hessian, if known."),
        click.option("--upper", type=float, help="Largest eigenvalue of the Hessian, if known."),
        click.option("--period", type=PERIOD, help="T, the period; chosen if not given."),
        click.option(
            "--rtol",
            type=float,
            help="Tolerance on the gradient norm, relative to that at 0.  [default: 1e-8, in "
            "single precision 1e-4]",
        ),
    )
    return _with(options, called)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--force`` and ``--json``."""
    options = (
        click.option("--force", is_flag=True, help="Replace what is at the output's path."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )
    return _with(options, command)


def _with(
    options: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]],
    command: Callable[..., Any],
) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def given_bounds(lower: float | None, upper: float | None) -> SpectralBounds | None:
    """Return the bounds that ``--lower`` and ``--upper`` give, or None.

    Raises:
        click.UsageError: If only one is given, or they are out of order.
    """
    if lower is None and upper is None:
        return None
    if lower is None or upper is None:
        raise click.UsageError("give both --lower and --upper, or neither")
    if not lower < upper:
        raise click.UsageError(f"--lower must be smaller than --upper, got {lower} and {upper}")
    return SpectralBounds(lower, upper)
