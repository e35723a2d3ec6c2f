"""Which code made a run: a digest of the sources and libraries that its numbers depend on."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import platform
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import stepfold

_LIBRARIES = ("numpy", "scipy", "numba", "torch")


def code_version(function: Callable[..., object]) -> str:
    """Return a digest of what ``function``, an experiment, is computed with; 16 hexadecimal digits.

    It changes with the core, the experiment's own files, the helpers that experiments share, the
    records and renderers of the lab, Python and the numerical libraries; not with the command
    line and other experiments.
    """
    digest = hashlib.sha256()
    versions = [platform.python_version()]
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{library} {metadata.version(library)}")
    digest.update("\n".join(versions).encode())
    root = Path(stepfold.__file__).parent
    for path in sorted({*_shared_sources(root), *_own_sources(root, function)}):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        digest.update(f"\n{name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _shared_sources(root: Path) -> Iterator[Path]:
    for path in root.rglob("*.py"):
        folder, *rest = path.relative_to(root).parts
        if folder == "cli":
            continue
        if folder == "lab" and len(rest) > 1:
            shared = rest[0] == "experiments" and (rest[1].startswith("_") or rest[1] == "base.py")
            if not shared:
                continue
        yield path


def _own_sources(root: Path, function: Callable[..., object]) -> list[Path]:
    path = Path(inspect.getfile(function))
    experiments = root / "lab" / "experiments"
    if path.is_relative_to(experiments):
        path = experiments / path.relative_to(experiments).parts[0]
    return list(path.rglob("*.py")) if path.is_dir() else [path]
