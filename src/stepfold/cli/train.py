"""``stepfold train``: train a network, alone or by several processes, and go on after an end."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from stepfold._registry import first_line
from stepfold.cli.options import output_option, settings_option
from stepfold.cli.output import show_table
from stepfold.cli.training_file import read_order

if TYPE_CHECKING:
    from stepfold.result import TrainingRun

INTERRUPTED = 130


def _list_networks(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from stepfold.unfolded.networks import NETWORKS

    rows = []
    for name, build in NETWORKS.usable().items():
        signature = inspect.signature(build).parameters.values()
        settings = ", ".join(f"{each.name}={each.default}" for each in signature)
        rows.append((name, first_line(build), settings))
    show_table("Networks", ("name", "what it is", "parameters"), rows)
    context.exit()


@click.command()
@click.argument("source", metavar="NAME|FILE.toml|MODULE:FUNCTION")
@settings_option("Set a parameter of the network, or training.NAME.")
@output_option("Folder to write; runs/training/NAME by default.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint, if there is one.")
@click.option("--force", is_flag=True, help="Replace a folder that holds an earlier training.")
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where to train: cpu, or cuda, which under torchrun is a GPU for each process.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    metavar="N",
    help="Keep a checkpoint every N iterations, not at stages' ends only.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_networks,
    help="Name the networks, and their parameters.",
)
def train(
    source: str,
    settings: tuple[str, ...],
    output: Path | None,
    resume: bool,
    force: bool,
    device: str,
    checkpoint_every: int | None,
    as_json: bool,
) -> int:
    """Train the network NAME, or what FILE.toml says, and keep it in a folder.

    MODULE:FUNCTION is a function of your own that returns a `Task`: a network, and its loss or
    sampler. Its module is looked for in the current folder first.

    Stopped by Ctrl-C or killed, it goes on with --resume where its last checkpoint was. Several
    processes share the work under torchrun, which restarts them if one dies.

    \b
    Example:
      stepfold train dugd --set num_layers=5 -o runs/five
      torchrun --nproc-per-node 2 -m stepfold train dugd
    """
    if resume and force:
        raise click.UsageError("give --resume or --force, not both")
    from stepfold.unfolded import distributed
    from stepfold.unfolded.runs import train_in_folder

    order = read_order(source, settings)
    stem = Path(source).stem.replace(":", "-")
    folder = Path("runs/training") / stem if output is None else output
    # torchrun starts its processes again with the same words.
    resume = resume or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    with distributed.process_group(), _asked_to_stop() as asked:
        first = distributed.rank() == 0
        if resume and first and not (folder / "checkpoint.safetensors").exists():
            click.echo(f"{folder} has no checkpoint; beginning anew.", err=True)
        run = train_in_folder(
            order,
            folder,
            resume=resume,
            force=force and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0",
            device=device,
            checkpoint_every=checkpoint_every,
            callback=lambda _progress: bool(asked),
            progress=sys.stderr.isatty() and not as_json,
        )
    if first:
        _show(run, order.network, folder, as_json=as_json)
        if not run.finished:
            words = [word for word in sys.argv[1:] if word not in ("--resume", "--force")]
            click.echo(
                f"Interrupted; the checkpoint is kept. Go on with: stepfold {shlex.join(words)} "
                "--resume",
                err=True,
            )
    return 0 if run.finished else INTERRUPTED


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Signals so far; the first one ends the training after its iteration, the next at once."""
    asked: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    watched = [signal.SIGINT]
    if "RANK" not in os.environ:  # torchrun's own way to end processes whose fellows have died
        watched.append(signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(run: TrainingRun, network: str, folder: Path, *, as_json: bool) -> None:
    from stepfold.unfolded.runs import evaluation

    history: Any = run.history
    figures = evaluation(folder) if run.finished else {}
    num_skipped = int(history.num_skipped.sum())
    if as_json:
        record = {
            "network": network,
            "folder": str(folder),
            "finished": run.finished,
            "num_stages": len(history.steps),
            "num_skipped": num_skipped,
            "seconds": float(history.seconds[-1]),
            "schedule": run.schedule.to_dict(),
            "evaluation": {k: v if math.isfinite(v) else None for k, v in figures.items()},
        }
        click.echo(json.dumps(record))
        return
    last = [row[np.isfinite(row)][-max(1, row.size // 10) :] for row in history.losses]
    columns = [("layers", [str(depth) for depth in history.num_layers])]
    columns.append(("loss at the end", [f"{row.mean():.3e}" if row.size else "" for row in last]))
    for title, values in (
        ("held-out loss", history.held_out_losses),
        ("mean squared error", history.mean_squared_errors),
        ("spectral radius", history.spectral_radii),
    ):
        if values is not None:
            columns.append((title, [f"{value:.3e}" for value in values]))
    titles = [title for title, _ in columns]
    rows = zip(*(cells for _, cells in columns), strict=True)
    show_table(f"Training of {network}", titles, rows)
    for name, value in figures.items():
        click.echo(f"{name}: {value:.6g}")
    skipped = f", {num_skipped} iterations skipped" if num_skipped else ""
    click.echo(f"{len(history.steps)} stages in {history.seconds[-1]:.1f} s{skipped}.")
    click.echo(f"folder: {folder}")
