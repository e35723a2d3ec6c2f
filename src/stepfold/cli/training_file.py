"""Settings of a training from a TOML file or from ``--set``, checked against what they set.

network = "dugd"

[parameters]            # of the network; a matrix is the name of a .npy file beside this one
num_layers = 11

[training]              # fields of TrainingSettings
num_iterations = 300
"""

from __future__ import annotations

import inspect
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from stepfold._registry import suggestion
from stepfold.cli.files import load_matrix
from stepfold.cli.user_function import load_function

if TYPE_CHECKING:
    from stepfold.unfolded.runs import Order

TABLES = ("network", "parameters", "training")
WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


def read_order(source: str, settings: Sequence[str]) -> Order:
    """What to train: the network of that name, or what a TOML file says, with changes on top.

    Args:
        source: Name of a network, "module:function" for one's own, or path of a file that ends in
            .toml.
        settings: Changes, each NAME=VALUE for a parameter or training.NAME=VALUE.

    Raises:
        click.UsageError: If the file cannot be read, or a setting is unknown or of another type.
        KeyError: If there is no such network.
    """
    from stepfold.unfolded.networks import NETWORKS, TrainingSettings
    from stepfold.unfolded.runs import Order, builder_of

    record: dict[str, Any] = {"network": source}
    place, folder = source, Path()
    if source.endswith(".toml"):
        folder = Path(source).parent
        record = _read(Path(source))
    network = record["network"]
    if ":" in network:
        load_function(network)  # its errors name the place in the user's files
    types = _types(builder_of(network) if ":" in network else NETWORKS[network])
    training_types = typing.get_type_hints(TrainingSettings)
    parameters = _checked(record.get("parameters", {}), types, f"{place}: [parameters]", folder)
    training = _checked(record.get("training", {}), training_types, f"{place}: [training]", folder)
    for setting in settings:
        name, value = _parse(setting)
        if name.startswith("training."):
            name = name.removeprefix("training.")
            training |= _checked({name: value}, training_types, "--set training:", Path())
        else:
            parameters |= _checked({name: value}, types, f"--set for {network}:", Path())
    return Order(network, parameters, training)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise click.UsageError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from None
    try:
        record = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an integer of 4300 digits is no TOMLDecodeError
        raise click.UsageError(f"{path} is not TOML: {error}") from None
    _refuse_unknown(record, TABLES, f"{path}:")
    if not isinstance(record.get("network"), str):
        raise click.UsageError(f'{path} must say which network, as in network = "dugd"')
    for name in TABLES[1:]:
        if not isinstance(record.get(name, {}), dict):
            raise click.UsageError(f"{path}: {name} must be a table, [{name}]")
    return record


def _parse(setting: str) -> tuple[str, Any]:
    name, sign, text = setting.partition("=")
    if not sign or not name.strip():
        raise click.UsageError(f"--set must be NAME=VALUE, got {setting!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a string needs no quotes here
    except RecursionError:
        raise click.UsageError(f"--set {name.strip()} is nested too deep") from None
    except ValueError as error:
        raise click.UsageError(f"--set {name.strip()} cannot be read: {error}") from None
    return name.strip(), value


def _types(build: Any) -> dict[str, Any]:
    parameters = inspect.signature(build, eval_str=True).parameters.values()
    return {
        each.name: type(each.default) if each.annotation is each.empty else each.annotation
        for each in parameters
    }


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for name in given:
        if name not in known:
            raise click.UsageError(f"{place} has no setting {name!r}; {suggestion(name, known)}")


def _checked(
    given: Mapping[str, Any], types: Mapping[str, Any], place: str, folder: Path
) -> dict[str, Any]:
    _refuse_unknown(given, list(types), place)
    return {
        name: _converted(value, types[name], f"{place} {name}", folder)
        for name, value in given.items()
    }


def _converted(value: Any, annotation: Any, place: str, folder: Path) -> Any:
    options = set(typing.get_args(annotation)) - {NoneType} or {annotation}
    for kind, words in WORDS.items():
        if kind in options:
            fits = isinstance(value, (int, float) if kind is float else kind)
            if not fits or (isinstance(value, bool) and kind is not bool):
                raise click.UsageError(f"{place} must be {words}, got {value!r}")
            return kind(value)
    if not isinstance(value, str):
        raise click.UsageError(f"{place} must name a .npy file, got {value!r}")
    matrix = load_matrix(folder / value)
    if not isinstance(matrix, np.ndarray):
        raise click.UsageError(f"{place} must name a dense matrix, .npy; {value} is sparse")
    return matrix
