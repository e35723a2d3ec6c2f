"""Places and circumstances that are no good: what a command does there, as a table of functions.

Each function gets a folder with inputs and one for itself, and returns what is wrong, "skipped: "
and the reason, or an empty string.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from faulted import End, child, command, file_limit

SOLVE = ("solve", "A.npy", "b.npy", "-o")
RATES = ("run", "rates", "--quick", "-o")
EXPLAIN = ("explain", "A.npy", "--rhs", "b.npy", "-o")


def _refused(end: End, *words: str) -> str:
    """One clear line and exit code 2, with these words in it."""
    lines = end.text.strip().splitlines()
    if end.code != 2 or "Traceback" in end.text or not lines or not lines[-1].startswith("Error: "):
        return f"ended with {end.code}: {end.text[-300:]!r}"
    missing = [word for word in words if word.lower() not in lines[-1].lower()]
    return f"does not say {missing}: {lines[-1]!r}" if missing else ""


def _right(folder: Path, name: str = "x.npy") -> str:
    matrix, rhs = np.load(folder / "A.npy"), np.load(folder / "b.npy")
    exact = np.linalg.lstsq(matrix, rhs, rcond=None)[0]
    return "" if np.abs(np.load(folder / name) - exact).max() < 1e-5 else "a wrong solution"


def _drafts(folder: Path) -> str:
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return f"left behind: {left}" if left else ""


@contextlib.contextmanager
def _mounted(place: Path, options: str) -> Iterator[bool]:
    """A small file system in memory; false where this user may not mount one."""
    place.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    words = [str(mount), "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    done = mount and subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield bool(done)
    finally:
        if done:
            subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def full_disk(source: Path, folder: Path) -> str:
    """Outputs that do not fit: one line, nothing half-written, inputs as they were."""
    shutil.copytree(source, folder)
    np.save(folder / "wide.npy", np.ones((1, 40_000)))
    np.save(folder / "one.npy", np.ones(1))
    with _mounted(folder / "small", "size=64k") as is_mounted:
        if not is_mounted:
            return "skipped: this user may not mount a file system"
        cases = (
            ("solve", "wide.npy", "one.npy", "-o", "small/x.npy"),
            (*RATES, "small/rates"),
            (*EXPLAIN, "small/explained"),
            ("report", "runs", "-o", "small/site"),
        )
        for words in cases:
            end = child(folder, command(*words), counts=False)
            wrong = _refused(end, "space") or _drafts(folder / "small")
            if wrong:
                return f"{words[0]}: {wrong}"
            if any((folder / "small").iterdir()):
                return f"{words[0]}: left {os.listdir(folder / 'small')}"
    return ""


def full_file(source: Path, folder: Path) -> str:
    """A limit of the size of files, as of a quota."""
    shutil.copytree(source, folder)

    np.save(folder / "wide.npy", np.ones((1, 400)))  # less than a buffer
    np.save(folder / "one.npy", np.ones(1))
    words = ("solve", "wide.npy", "one.npy", "-o", "x.npy")
    end = child(folder, command(*words), before=lambda: file_limit(2500), counts=False)
    wrong = _refused(end, "large")
    if not wrong and (folder / "x.npy").exists():
        wrong = "a cut file was left"
    return wrong or _drafts(folder)


def read_only_disk(source: Path, folder: Path) -> str:
    """A place that nobody can write to is refused before the work."""
    shutil.copytree(source, folder)
    with _mounted(folder / "fixed", "ro,size=64k") as is_mounted:
        if not is_mounted:
            return "skipped: this user may not mount a file system"
        for words in ((*SOLVE, "fixed/x.npy"), (*RATES, "fixed/rates"), (*EXPLAIN, "fixed/e")):
            end = child(folder, command(*words), counts=False)
            wrong = _refused(end, "fixed")
            if wrong:
                return f"{words[0]}: {wrong}"
    return ""


def few_descriptors(source: Path, folder: Path) -> str:
    """With hardly any descriptors a command works, or says so in one line."""
    shutil.copytree(source, folder)
    for count in (5, 12):

        def limit(count: int = count) -> None:
            used = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(used, count + 3), 4096))

        for index, words in enumerate((SOLVE, RATES, EXPLAIN)):
            target = f"out-{count}-{index}" + (".npy" if words is SOLVE else "")
            end = child(folder, command(*words, target), before=limit, counts=False)
            if "Traceback" in end.text or (end.code and _refused(end)):
                return f"{words[0]} with {count}: {end.code} {end.text[-300:]!r}"
    return _drafts(folder)


def little_memory(source: Path, folder: Path) -> str:
    """A matrix that does not fit is one line, with its size."""
    shutil.copytree(source, folder)
    with open(folder / "large.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (20_000, 20_000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 20_000 * 20_000 * 8)
    np.save(folder / "long.npy", np.ones(20_000))

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + 500_000_000
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    words = ("solve", "large.npy", "long.npy", "-o", "x.npy")
    end = child(folder, command(*words), before=limit, counts=False)
    os.unlink(folder / "large.npy")
    return _refused(end, "large.npy") or _drafts(folder)


def two_into_one_folder(source: Path, folder: Path) -> str:
    """Two runs at once into one folder: one of them is there, whole, and the other is told of."""
    shutil.copytree(source, folder)
    for attempt in range(2):
        target = f"both-{attempt}"
        pids = []
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                copied = Path(f"{folder}-{os.getpid()}")
                copied.mkdir()
                end = child(copied, command(*RATES, str(folder / target)), counts=False)
                (folder.parent / f"{folder.name}-{os.getpid()}.end").write_text(end.text)
                os._exit(max(end.code, 0) if "Traceback" not in end.text else 99)
            pids.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        if 0 not in codes or not set(codes) <= {0, 2}:
            return f"ended with {codes}"
        if not (folder / target / "report.html").is_file():
            return f"no run is there: {os.listdir(folder)}"
        # The other one's folder is kept beside it under another name, if it was too late.
        if _drafts(folder):
            return _drafts(folder)
    return ""


def jumping_clock(source: Path, folder: Path) -> str:
    """Clocks that jump by years, back and forth, change no result."""
    shutil.copytree(source, folder)

    def jump() -> None:
        jumps, plain = random.Random(1), time.time
        time.time = lambda: plain() + jumps.choice([-3e8, 0.0, 3e8])

    for words in ((*SOLVE, "x.npy"), (*RATES, "rates"), (*EXPLAIN, "explained")):
        end = child(folder, command(*words), before=jump, counts=False)
        if end.code:
            return f"{words[0]}: ended with {end.code}: {end.text[-300:]}"
    return _right(folder) or _drafts(folder)


def locales(source: Path, folder: Path) -> str:
    """Languages and encodings change no number and raise no error."""
    shutil.copytree(source, folder)
    for index, name in enumerate(("C", "C.UTF-8", "de_DE.UTF-8", "tr_TR.UTF-8", "nonsense")):

        def settle(name: str = name) -> None:
            import locale

            os.environ.update(LC_ALL=name, LANG=name)
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, name)

        end = child(folder, command(*SOLVE, f"x{index}.npy"), before=settle, counts=False)
        if end.code or _right(folder, f"x{index}.npy"):
            return f"{name}: {end.code} {end.text[-300:]}"
    return ""


ODD = (
    "with space.npy",
    "new\nline.npy",
    "Größe λ.npy",
    "-dash.npy",
    "per%cent{brace}.npy",
    "[b]bold[b]*?.npy",
    "quote'\"$HOME`x`.npy",
    "n" * 250 + ".npy",
    "tab\tand\x1b[31mred.npy",
)


def odd_paths(source: Path, folder: Path) -> str:
    """Names with spaces, line ends, markup, wildcards, 254 bytes, or a dash in front."""
    shutil.copytree(source, folder)
    for name in ODD:
        end = child(folder, command(*SOLVE, f"./{name}"), counts=False)
        if end.code or _right(folder, name):
            return f"{name!r}: {end.code} {end.text[-300:]!r}"
        if "\x1b" in end.text:
            return f"{name!r}: a control character is printed as it is"
    end = child(folder, command(*SOLVE, "m" * 251 + ".npy.npy"), counts=False)
    return _refused(end) or _drafts(folder)


def closed_pipes(source: Path, folder: Path) -> str:
    """Closed outputs, and readers that leave: no traceback, and the work is done."""
    shutil.copytree(source, folder)

    def no_reader(number: int) -> Callable[[], None]:
        def before() -> None:
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, number)

        return before

    def closed(number: int) -> Callable[[], None]:
        return lambda: os.close(number)

    befores = (no_reader(1), no_reader(2), closed(1), closed(2))
    for index, before in enumerate(befores):
        end = child(folder, command(*SOLVE, f"x{index}.npy"), before=before, counts=False)
        if "Traceback" in end.text or end.code not in (0, 1, 120, 141, -signal.SIGPIPE):
            return f"case {index}: {end.code} {end.text[-300:]!r}"
        if _right(folder, f"x{index}.npy"):
            return f"case {index}: a wrong solution"
    return ""


PLACES: dict[str, Callable[[Path, Path], str]] = {
    "full disk": full_disk,
    "full file": full_file,
    "read-only disk": read_only_disk,
    "few descriptors": few_descriptors,
    "little memory": little_memory,
    "two into one folder": two_into_one_folder,
    "jumping clock": jumping_clock,
    "locales": locales,
    "odd paths": odd_paths,
    "closed pipes": closed_pipes,
}
