"""Checkpoints: one safetensors file with JSON in its header, replaced as a whole or not at all.

Nothing in it is code. Its checksum covers all that is read from it: settings, state, and the names,
types, shapes and bytes of tensors. A draft is written beside the old file, synced to the disk and
renamed over it: whoever kills the process, or fills the disk, leaves the old checkpoint or the new
one.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor

import stepfold
from stepfold._files import replacing
from stepfold.unfolded._tree import flatten, unflatten
from stepfold.unfolded._warnings import quiet

FORMAT = "stepfold.checkpoint/2"


def save_checkpoint(path: Path, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace the checkpoint at ``path`` by one that holds ``state`` of a training.

    Args:
        path: File; its folder is made if need be.
        settings: What the training is, as JSON values, compared when it is resumed.
        state: Nested dictionaries, lists and tuples of numbers, strings and tensors.

    Raises:
        OSError: If it cannot be written; the previous checkpoint is then as it was.
        TypeError: If the state holds something else.
    """
    import safetensors.torch

    tensors: dict[str, Tensor] = {}
    tree = flatten(state, tensors)
    header = {
        "format": FORMAT,
        "version": stepfold.__version__,
        "settings": settings,
        "state": tree,
    }
    text = json.dumps(header, allow_nan=False)
    metadata = {"stepfold": text, "checksum": str(_checksum(text, tensors))}
    content = safetensors.torch.save(tensors, metadata)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        kept = "the previous one is intact" if path.exists() else "there is no earlier one"
        raise OSError(
            error.errno,
            f"{error.strerror}: the checkpoint could not be written, {kept}; make room and resume",
            str(path),
        ) from error


def check_storable(**owners: Any) -> None:
    """Raise unless a checkpoint can hold what their ``state_dict`` return; before the work.

    Raises:
        TypeError: If a state holds something else than data, with its place.
    """
    for name, owner in owners.items():
        if hasattr(owner, "state_dict"):
            with quiet():
                flatten(owner.state_dict(), {}, f".{name}")


def check_place(path: Path) -> None:
    """Raise unless a checkpoint may be written to ``path``; before the work, not after it."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file for the checkpoint")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; choose another place for {path.name}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} may not be written to; choose another place")


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other trainings from ``path`` while the block runs; its folder must exist.

    The operating system drops the claim when its process ends, however it ends. On file systems
    without locks nobody is kept away.

    Raises:
        FileExistsError: If another training has claimed it.
    """
    name = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(name, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise FileExistsError(
            f"another training is writing {path}; wait for its end, or choose another place"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
    try:
        yield
    finally:
        if lock.is_locked:
            # First the name, then the lock: who gets the lock of a removed file tries again.
            with contextlib.suppress(OSError):  # Windows keeps open files, and filelock removes it
                name.unlink()
            lock.release()


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, whole and synced to the disk, or leave what is there."""
    with replacing(path, prefix=f".{path.name}-", synced=True) as file:
        file.write(content)


def remove_drafts(path: Path) -> None:
    """Remove what a process that was killed while it wrote ``path`` has left beside it."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}-*"):
        draft.unlink(missing_ok=True)


def load_checkpoint(
    path: Path, settings: dict[str, Any], *, extend: bool = False
) -> dict[str, Any]:
    """State that `save_checkpoint` wrote, after checking that it belongs to this training.

    Args:
        path: File.
        settings: As in `save_checkpoint`.
        extend: Whether its stages may be the beginning of those in ``settings``: the last may have
            had fewer iterations, and others may follow. They are in the state as "stages" then.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is cut short or damaged, of another version, or of a training with other
            settings; each difference is named. The file is left as it is.
    """
    import safetensors
    import safetensors.torch

    content = path.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        text = metadata["stepfold"]
        header = json.loads(text)
        found = header["format"]
    except (
        safetensors.SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ) as error:
        cause = "it is empty" if not content else f"cut short, damaged or of another kind: {error}"
        raise ValueError(
            f"{path} is not a whole checkpoint ({cause}); start anew at another path"
        ) from None
    if found != FORMAT or header.get("version") != stepfold.__version__:
        raise ValueError(
            f"{path} is a checkpoint of format {found!r} by stepfold {header.get('version')}, and "
            f"this is {stepfold.__version__} with {FORMAT!r}; finish it with the version that "
            "began it, or start anew at another path"
        )
    if metadata.get("checksum") != str(_checksum(text, tensors)):
        raise ValueError(
            f"{path} is damaged (its checksum is not that of its content); start anew at another "
            "path"
        )
    held = header["settings"]
    if extend:
        _check_extended(path, held["stages"], json.loads(json.dumps(settings["stages"])))
        settings = {**settings, "stages": held["stages"]}
    differences = differing(held, settings)
    if differences:
        raise ValueError(
            f"{path} is the checkpoint of another training: {'; '.join(differences)}. Give the "
            "settings it was begun with, or start anew at another path"
        )
    state: dict[str, Any] = unflatten(header["state"], tensors)
    if extend:
        state["stages"] = held["stages"]
    return state


def _check_extended(path: Path, there: list[list[int]], here: list[list[int]]) -> None:
    """Raise unless stages begin as those of a checkpoint."""
    last = len(there) - 1
    begins = len(here) > last and here[:last] == there[:last]
    if begins:
        depth, num_iterations, first = there[last]
        begins = here[last][::2] == [depth, first] and here[last][1] >= num_iterations
    if not begins:
        raise ValueError(
            f"`stages` must begin as those of {path} to extend it, which has (layers, iterations, "
            f"first layer) {there}, got {here}; give the same stages, the last of them with at "
            "least as many iterations, and more behind them"
        )


def differing(there: Any, here: Any, name: str = "") -> list[str]:
    """Each difference between two nested JSON values, in words."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = [*there, *(key for key in here if key not in there)]
        return [
            difference
            for key in names
            for difference in differing(
                there.get(key, "nothing"), here.get(key, "nothing"), f"{name}.{key}".lstrip(".")
            )
        ]
    there, here = (json.loads(json.dumps(value)) for value in (there, here))
    return [] if there == here else [f"`{name}` is {there!r} there and {here!r} here"]


def _checksum(text: str, tensors: dict[str, Tensor]) -> int:
    """That of a header and of everything of the tensors: names, types and shapes, then bytes."""
    names = sorted(tensors)
    kinds = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in names]
    total = zlib.crc32(json.dumps([text, kinds]).encode())
    for name in names:
        content: Any = tensors[name].reshape(-1).view(torch.uint8).numpy()
        total = zlib.crc32(content, total)
    return total
