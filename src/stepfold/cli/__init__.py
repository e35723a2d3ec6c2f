"""The command line. Exit codes: 0 done, 1 not converged or a check failed, 2 bad input."""

from __future__ import annotations

import os
import sys

import click

import stepfold
from stepfold.cli.accelerate import accelerate
from stepfold.cli.data import solve
from stepfold.cli.experiments import list_experiments, run
from stepfold.cli.explain import explain
from stepfold.cli.explore import explore
from stepfold.cli.lasso import lasso
from stepfold.cli.plan import plan
from stepfold.cli.report import report
from stepfold.cli.steps import steps
from stepfold.cli.train import train

NOT_CONVERGED = 1
BAD_INPUT = 2


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(stepfold.__version__, prog_name="stepfold")
@click.pass_context
def cli(context: click.Context) -> None:
    """Step sizes of iterative methods: computed from the spectrum, learned, and explained.

    \b
    Example:
      stepfold steps --lower 1 --upper 100 --period 8
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


COMMANDS = (
    accelerate,
    explain,
    explore,
    lasso,
    list_experiments,
    plan,
    report,
    run,
    solve,
    steps,
    train,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line; one clear line instead of a traceback for bad input."""
    try:
        code = cli.main(prog_name="stepfold", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone (`| head`); closing standard output again would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NOT_CONVERGED)
    except (click.ClickException, ArithmeticError, ImportError, LookupError) as error:
        _fail(error, NOT_CONVERGED if isinstance(error, ArithmeticError) else BAD_INPUT)
    except (MemoryError, OSError, TypeError, ValueError) as error:
        _fail(error, BAD_INPUT)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: Exception, code: int) -> None:
    if os.environ.get("STEPFOLD_TRACEBACK"):
        raise error
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error})"
    else:
        # The text of a KeyError is its repr; its argument is the message.
        text = str(error.args[0]) if error.args else type(error).__name__
    click.echo(f"Error: {' '.join(text.split())}", err=True)
    sys.exit(code)
