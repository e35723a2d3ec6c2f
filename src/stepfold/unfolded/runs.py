"""The folder of a training: its settings, its checkpoint, and in the end what was learned.

``settings.json`` says what is trained, ``checkpoint.safetensors`` is replaced as it goes on, and
``training.json`` (a `TrainingRun`), ``schedule.json`` (a `Schedule`), ``evaluation.json`` and,
where it is known, ``spectrum.json`` (a `SpectralMeasure`) with ``noise.json`` (η of its
data, unless it is 0) are written at the end; ``weights.safetensors`` too, where the layers have
modules. All but the last and the checkpoint are read without torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import stepfold
from stepfold._codec import from_json, to_json
from stepfold.iterations import GradientDescent
from stepfold.result import TrainingRun
from stepfold.result.training import RUN_FILE
from stepfold.unfolded import distributed
from stepfold.unfolded._describe import describe
from stepfold.unfolded._device import check_device
from stepfold.unfolded.checkpoints import (
    check_place,
    claimed,
    differing,
    remove_drafts,
    replace_file,
)
from stepfold.unfolded.choice import as_loss
from stepfold.unfolded.losses import SpectralLoss, measure_of
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks import NETWORKS, Task, TrainingSettings
from stepfold.unfolded.options import Callback

FORMAT = "stepfold.training-folder/1"
SETTINGS = "settings.json"
CHECKPOINT = "checkpoint.safetensors"
SCHEDULE = "schedule.json"
EVALUATION = "evaluation.json"
SPECTRUM = "spectrum.json"
NOISE = "noise.json"
WEIGHTS = "weights.safetensors"
WRITTEN = (SETTINGS, CHECKPOINT, RUN_FILE, SCHEDULE, EVALUATION, SPECTRUM, NOISE, WEIGHTS)


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """What to train: a named network, its parameters, and changes to its published training.

    Args:
        network: Name in ``NETWORKS``, or "module:function" for a function of one's own that returns
            a `Task`; its module is looked for in the current folder first.
        parameters: Keywords of the function behind that name.
        training: Fields of `TrainingSettings`.
    """

    network: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def check_names(self) -> None:
        """Raise a ValueError if there is no such network, parameter or setting."""
        known = inspect.signature(builder_of(self.network)).parameters
        fields = {each.name for each in dataclasses.fields(TrainingSettings)}
        for what, unknown in (
            (f"parameter of {self.network!r}", self.parameters.keys() - known.keys()),
            ("setting of a training", self.training.keys() - fields),
        ):
            if unknown:
                raise ValueError(f"there is no {what} called {', '.join(sorted(unknown))}")

    def task(self) -> Task:
        """The network, at its initial values, with what it is trained on."""
        task: Any = builder_of(self.network)(**self.parameters)
        if not isinstance(task, Task):
            raise TypeError(
                f"{self.network} must return a Task, got {type(task).__name__}; write "
                "`Task(network, loss)`, from `stepfold.unfolded.networks`"
            )
        training = dataclasses.replace(task.training, **self.training)
        # A sampler in place of a loss is looked at by its loss later on.
        return dataclasses.replace(task, training=training, loss=as_loss(task.network, task.loss))

    def settings(self, task: Task) -> dict[str, Any]:
        """All settings, defaults included, as JSON values; matrices by their checksums."""
        signature = inspect.signature(builder_of(self.network))
        defaults = {name: each.default for name, each in signature.parameters.items()}
        return {
            "format": FORMAT,
            "version": stepfold.__version__,
            "network": self.network,
            "parameters": {
                name: value if isinstance(value, float) else describe(value)
                for name, value in {**defaults, **self.parameters}.items()
            },
            "training": dataclasses.asdict(task.training),
        }


def builder_of(network: str) -> Callable[..., Any]:
    """The function behind the name of a network, or behind "module:function".

    Raises:
        ValueError: If there is no such network, module or function.
    """
    module, colon, path = network.partition(":")
    if not colon:
        if network not in NETWORKS:
            raise ValueError(f"there is no network {network!r}; there are {', '.join(NETWORKS)}")
        return NETWORKS[network]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name):
            raise  # a module that the user's own module wants
        raise ValueError(
            f"there is no module {module!r} in this folder or among the installed ones"
        ) from None
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"module {module!r} has no function {path!r} that makes a Task")
    built: Callable[..., Any] = found
    return built


def train_in_folder(
    order: Order,
    folder: Path,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    checkpoint_every: int | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> TrainingRun:
    """Train what the order says and keep everything in a folder.

    Args:
        order: What to train.
        folder: Made if need be.
        resume: Whether to go on from the folder's checkpoint; begins anew where there is none.
        force: Whether to replace an earlier training.
        device: Where to train, as torch names it; evaluation is on the CPU.
        checkpoint_every: Iterations after which the checkpoint is replaced, beside stages' ends.
        callback: As in `train`.
        progress: As in `train`.

    Returns:
        The run, unfinished if the callback stopped it.

    Raises:
        FileExistsError: If the folder holds an earlier training, and neither ``resume`` nor
            ``force`` is true; if it holds something else, or another training is writing there.
        ValueError: If the folder's training has other settings, each of which is named, or one of
            the order's is out of range.
    """
    check_device(device)
    task = order.task()
    task.network.to(device)
    _check_folder(folder)
    with contextlib.ExitStack() as stack:
        if distributed.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(folder / SETTINGS))
            for name in WRITTEN:
                remove_drafts(folder / name)
        held = _held(folder, resume=resume, force=force)
        return _train_claimed(
            order,
            task,
            folder,
            held,
            checkpoint_every=checkpoint_every,
            callback=callback,
            progress=progress,
        )


def _train_claimed(
    order: Order, task: Task, folder: Path, held: dict[str, Any] | None, **options: Any
) -> TrainingRun:
    if task.training.batches_per_step is None:
        share = held["training"]["batches_per_step"] if held else distributed.num_processes()
        training = dataclasses.replace(task.training, batches_per_step=share)
        task = dataclasses.replace(task, training=training)
    settings = order.settings(task)
    if held and (differences := differing(held, json.loads(json.dumps(settings)))):
        raise ValueError(
            f"{folder} holds another training: {'; '.join(differences)}. Give the settings it was "
            "begun with, choose another folder, or replace it by --force"
        )
    distributed.wait()  # everybody has looked before anything is written
    if distributed.rank() == 0 and not held:
        for name in WRITTEN[1:]:
            (folder / name).unlink(missing_ok=True)
        _write(folder / SETTINGS, settings)
    distributed.wait()
    run = task.train(checkpoint=folder / CHECKPOINT, resume=True, **options)
    if run.finished and distributed.rank() == 0:
        _write(folder / SCHEDULE, run.schedule.to_dict())
        task.network.to("cpu")
        if task.evaluate is not None:
            figures = {name: float(value) for name, value in task.evaluate(task.network).items()}
            _write(folder / EVALUATION, to_json(figures))
        measure = measure_of(task.loss)
        if measure is not None and isinstance(task.network.iteration, GradientDescent):
            noise = float(task.loss.noise) if isinstance(task.loss, SpectralLoss) else 0.0
            _write(folder / SPECTRUM, measure.to_dict())
            if noise:
                _write(folder / NOISE, noise)
        if task.network.weights():  # of modules, which a run does not hold
            _write_weights(folder / WEIGHTS, task.network)
        _write(folder / RUN_FILE, run.to_dict())
    return run


def _write_weights(path: Path, network: UnfoldedIteration) -> None:
    import safetensors.torch

    values = network.state_dict().items()
    state = {
        name: torch.empty(value.shape, dtype=value.dtype).copy_(value) for name, value in values
    }
    replace_file(path, safetensors.torch.save(state))


def _restore(network: UnfoldedIteration, run: TrainingRun, weights: Path) -> None:
    import safetensors.torch

    if weights.exists():
        network.load_state_dict(safetensors.torch.load(weights.read_bytes()))
    else:
        network.restore(run)


def evaluation(folder: Path) -> dict[str, float]:
    """Figures of merit in the folder of a finished training; NaN where one was not finite."""
    path = folder / EVALUATION
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        figures: dict[str, float] = from_json(dict[str, float], record, EVALUATION)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not the record of figures of merit: {error}") from None
    return figures


def trained_task(folder: Path, *, at_most: Mapping[str, int] | None = None) -> Task:
    """The network as the training in a folder left it, with what it was trained on.

    Args:
        folder: Of a finished training.
        at_most: Largest values from now on of parameters that say how much data there are, such as
            ``batch_size``, where the network has them.

    Raises:
        FileNotFoundError: If the folder does not hold a finished training.
        ModuleNotFoundError: If its data are those of a package that is not installed.
        ValueError: If it was trained with a matrix, of which the folder keeps a checksum only, is
            of a version that has other networks or parameters, or its files are damaged.
    """
    run = TrainingRun.load(folder)
    settings = _settings(folder / SETTINGS)
    parameters = settings["parameters"]
    for name, value in parameters.items():
        if isinstance(value, str) and ", checksum " in value:
            raise ValueError(
                f"{folder} was trained with its own `{name}`, of which it keeps a checksum only"
            )
    limits = at_most or {}
    parameters = {
        name: min(value, limits[name]) if name in limits and isinstance(value, int) else value
        for name, value in parameters.items()
    }
    order = Order(settings["network"], parameters, settings["training"])
    try:
        order.check_names()
        task = order.task()
        _restore(task.network, run, folder / WEIGHTS)
    except (RuntimeError, TypeError, ValueError) as error:
        version = settings.get("version")
        written = (
            ""
            if version == stepfold.__version__
            else f", of version {version}, cannot be made anew by version {stepfold.__version__}"
        )
        raise ValueError(f"the network of {folder / SETTINGS}{written}: {error}") from error
    return task


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; choose another one")
    check_place(folder / SETTINGS)
    if not folder.exists() or (folder / SETTINGS).exists():
        return
    # What begins with this is left by a training that was killed as it began.
    if any(not each.name.startswith(f".{SETTINGS}") for each in folder.iterdir()):
        raise FileExistsError(
            f"{folder} exists and is not the folder of a training; choose another one"
        )


def _held(folder: Path, *, resume: bool, force: bool) -> dict[str, Any] | None:
    """Settings of the training to go on with; None if there is none, or it is to be replaced."""
    # One that was refused, or killed, before its first checkpoint has nothing to keep.
    if force or not any((folder / name).exists() for name in (CHECKPOINT, RUN_FILE)):
        return None
    if not resume:
        raise FileExistsError(
            f"{folder} already holds a training; go on with it by --resume, replace it by --force, "
            "or choose another folder"
        )
    return _settings(folder / SETTINGS)


def _settings(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise ValueError(f"its format is {held['format']!r}, not {FORMAT!r}")
        for name, kind in (("network", str), ("parameters", dict), ("training", dict)):
            if not isinstance(held[name], kind):
                raise TypeError(f"`{name}` must be of type {kind.__name__}, got {held[name]!r}")
        held["training"]["batches_per_step"]
    except KeyError as error:
        raise ValueError(
            f"{path} is not the record of a training's settings: it has no {error}"
        ) from None
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the record of a training's settings: {error}") from None
    settings: dict[str, Any] = held
    return settings


def _write(path: Path, record: Any) -> None:
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    try:
        replace_file(path, (text + "\n").encode())
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: the record could not be written; make room and resume",
            str(path),
        ) from error
