"""The command line.

Exit codes: 0 done, 1 not converged or a check failed, 2 bad input, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

import stepfold
from stepfold.cli import streams
from stepfold.cli.wording import in_options

NOT_CONVERGED = 1
BAD_INPUT = 2
INTERRUPTED = 130

# Name: module in this package, name in it, and what help says. A command's module is imported when
# it is called: some take long to load.
COMMANDS = {
    "accelerate": ("accelerate", "accelerate", "Find a fixed point of your own map."),
    "explain": ("explain", "explain", "Explain a matrix, or what a training learned."),
    "explore": (
        "explore",
        "explore",
        "Make a page to play with: spectrum, steps, order, precision, noise.",
    ),
    "lasso": ("lasso", "lasso", "Solve a lasso or an elastic net from files."),
    "list": ("experiments", "list_members", "Name the experiments, or another family."),
    "plan": ("plan", "plan", "Recommend a schedule, and say when another tool is better."),
    "report": ("report", "report", "Make one offline site from all runs."),
    "run": ("experiments", "run", "Run experiments and write their reports."),
    "scale": ("scale", "scale", "Predict the seconds of a step on many processes."),
    "solve": ("solve", "solve", "Solve a system or least-squares problem from files."),
    "steps": ("steps", "steps", "Print or save the steps for an interval of eigenvalues."),
    "train": ("train", "train", "Train an unfolded network; resumable."),
}
# `--set NAME=VALUE` takes names as Python has them.
WITH_SETTINGS = ("run", "train")


class _Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click itself would print an empty line
            raise click.exceptions.Abort from None


@click.group(
    cls=_Commands,
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


def main() -> None:
    """Run the command line; one clear line instead of a traceback for bad input."""
    streams.prepare()
    try:
        code = cli.main(prog_name="stepfold", standalone_mode=False)
        streams.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        streams.give_up()  # the reader has gone (`| head`)
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
    text = " ".join(text.split())
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    click.echo(f"Error: {text if command in WITH_SETTINGS else in_options(text)}", err=True)
    if isinstance(error, OSError):
        streams.give_up()  # it may be standard output that is full
    sys.exit(code)
