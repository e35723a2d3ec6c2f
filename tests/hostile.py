"""Damaged and malicious files for every reader: `python tests/hostile.py --inputs 1000000`.

Each input is a valid file with a few mutations (bits, cuts, repeats, splices with other files,
numbers and words that parsers fear), read in a child process with limits on memory and time. It is
accepted ("read"), refused in our words or the system's ("refused"), or stops the reader by an
exception that nobody raised on purpose ("foreign"). A reader that dies ("crash") or does not end
("hang") is counted and not fatal. Some seeds are pickles that write a file when they are loaded:
if that file is there at the end, code was executed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import math
import os
import pickle
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import scipy.io
import scipy.sparse as sp
import torch

import stepfold
from stepfold import lab, unfolded
from stepfold.cli.formats import read_array
from stepfold.cli.training_file import read_order
from stepfold.distributed import Parts, resumable_solve, write_parts
from stepfold.lab.report import read_run, write_run
from stepfold.lab.site import find_runs
from stepfold.result import TrainingRun

SECONDS = 20.0
MEMORY = 6 * 2**30
CHUNK = 2000
"""Inputs of one child process."""


class Opens:
    """A pickle of it makes the file ``canary`` when it is loaded."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.canary, "w")


class Reader(NamedTuple):
    """One reader, and valid files for it, of which ``file`` is the one that is damaged."""

    name: str
    seeds: list[bytes]
    read: Callable[[Path], Any]
    file: str
    folder: Path | None = None
    """What else has to be there: a folder around the file."""
    weight: float = 1.0
    """Its share of the inputs, beside those of the others."""


def _bytes_of(write: Callable[[Any], Any]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def _arrays() -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((6, 4)),
        rng.standard_normal(5).astype(">f4"),
        np.arange(12, dtype=np.int16).reshape(3, 4),
        np.asfortranarray(rng.standard_normal((3, 3)) + 1j),
        rng.standard_normal((6, 4)),
    ]


def _readers(canary: str, workplace: Path) -> list[Reader]:
    arrays = _arrays()
    sparse = sp.random_array((8, 8), density=0.3, rng=np.random.default_rng(0), format="coo")
    symmetric = sparse + sparse.T
    npy = [_bytes_of(lambda f, a=a: np.save(f, a)) for a in arrays]
    evil = np.array([Opens(canary)], dtype=object)
    npy.append(_bytes_of(lambda f: np.save(f, evil, allow_pickle=True)))
    npy.append(pickle.dumps(Opens(canary)))
    npz = [
        _bytes_of(lambda f, k=k: sp.save_npz(f, sparse.asformat(k), compressed=k == "csr"))
        for k in ("csr", "csc", "coo", "dia", "bsr")
    ]
    npz.append(_bytes_of(lambda f: np.savez(f, arrays[0])))
    npz.append(_bytes_of(lambda f: np.savez(f, x=evil, allow_pickle=True)))
    mtx = [
        _bytes_of(lambda f, m=m: scipy.io.mmwrite(f, m))
        for m in (sparse, symmetric, arrays[0], arrays[2], sparse.astype(complex), sparse > 0)
    ]
    csv = [
        b"a,b,c\n" + b"\n".join(b"%d,%.3f,%g" % (i, i / 3, 10.0**i) for i in range(6)),
        b"1;2;3\n4;5;6\n",
        b'"x y","z"\n1.5,-2\n3,4\n',
    ]
    schedule = stepfold.chebyshev_steps(stepfold.SpectralBounds(1.0, 9.0), 4)
    schedules = [json.dumps(schedule.to_dict()).encode()]
    toml = [
        b'network = "dugd"\n[parameters]\nnum_layers = 3\n[training]\nnum_iterations = 3\n',
        b'network = "ridge"\n[training]\nseed = 1\nlearning_rate = 1e-3\n',
    ]
    problem = stepfold.LeastSquares(arrays[0], np.ones(6))
    checkpoint = workplace / "seed.npz"

    def stop(count: int, x: Any) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        resumable_solve(problem, checkpoint=checkpoint, every=0.0, callback=stop)
    training = workplace / "seed.safetensors"

    def train(path: Path, **options: Any) -> TrainingRun:
        network = unfolded.UnfoldedIteration(stepfold.Schedule([0.1]))
        measure = stepfold.SpectralMeasure.from_eigenvalues([1.0, 2.0])
        stages = [unfolded.Stage(1, 2)]
        loss = unfolded.SpectralLoss(measure, batch_size=2)
        return unfolded.train(network, loss, stages, checkpoint=path, **options)

    run = train(training)
    run_folder = workplace / "run"
    outcome = lab.Outcome(
        "A title",
        "A summary",
        (lab.Section("a", ("b",), None, lab.Table(("c",), (("d",),))),),
        (lab.Check("claim", "1", 1.0, 0.0, 2.0),),
        {"period": 3},
        {"run": {"seconds": 1.0}, "training": run},
        "dugd",
    )
    write_run(outcome, run_folder, seconds=1.0)
    parts = workplace / "parts"
    write_parts(parts, [arrays[0][:3], arrays[0][3:]])
    record = json.dumps(run.to_dict()).encode()

    def of_parts(path: Path) -> Any:
        found = Parts.of_matrix(path.parent)
        return found.rows(0, found.num_rows)[0 : found.num_rows]

    def of_toml(path: Path) -> Any:
        return read_order(str(path), [])

    def of_set(path: Path) -> Any:
        text = path.read_bytes().decode("utf-8", "surrogateescape").replace("\0", "")
        return read_order("dugd", [text])

    def of_checkpoint(path: Path) -> Any:
        return resumable_solve(problem, checkpoint=path, max_steps=3)

    def of_training(path: Path) -> Any:
        return train(path, resume=True)

    def of_site(path: Path) -> Any:
        found = find_runs([path.parent])
        return found.entries or found.failures

    return [
        Reader(".npy", npy, read_array, "a.npy"),
        Reader(".npz", npz, read_array, "a.npz"),
        Reader(".mtx", mtx, read_array, "a.mtx"),
        Reader(".csv", csv, read_array, "a.csv"),
        Reader("schedule", schedules, stepfold.Schedule.load, "a.json"),
        Reader("training run", [record], TrainingRun.load, "a.json"),
        Reader("run folder", _seed(run_folder, "outcome.json"), _run, "outcome.json", run_folder),
        Reader("site", _seed(run_folder, "outcome.json"), of_site, "outcome.json", run_folder),
        Reader("TOML", toml, of_toml, "a.toml"),
        Reader("--set", [b"num_layers=3", b"training.seed=[1]"], of_set, "a.txt"),
        Reader("checkpoint of solve", [checkpoint.read_bytes()], of_checkpoint, "a.npz"),
        Reader(  # ten times slower than the others
            "checkpoint of train", [training.read_bytes()], of_training, "a.safetensors", None, 0.1
        ),
        Reader("parts", _seed(parts, "parts.json"), of_parts, "parts.json", parts),
    ]


def _seed(folder: Path, name: str) -> list[bytes]:
    return [(folder / name).read_bytes()]


def _run(path: Path) -> Any:
    return read_run(path.parent)


_WORDS = (
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"1E", b"9" * 30, b"18446744073709551616", b"0x10"),
    *(b"null", b"true", b"{}", b"[]", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b'"\\ud800"'),
    *(b"../../etc/passwd", b"/dev/zero", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"%"),
    *(b"1000000000 1000000000 1", b"(1000000000, 1000000000)", b"(-1,)", b"|O", b"descr", b"<f16"),
    *(b"__import__('os')", b"cos\nsystem\n(S'true'\ntR.", b"PK\x05\x06", b"PK\x03\x04"),
    *(b"e+", b"1_0", b"'", b'"', b"#", b"<script>alert(1)</script>"),
)


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    """A seed with one to four mutations."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        at = rng.randrange(len(data) + 1)
        span = min(len(data) - at, rng.choice((1, 1, 2, 4, 8, 16, 64)))
        kind = rng.randrange(9)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + span]
        elif kind == 4:
            data[at:at] = data[at : at + span] * rng.choice((1, 1, 2, 50))
        elif kind == 5:
            data[at : at + rng.choice((0, span))] = rng.choice(_WORDS)
        elif kind == 6:
            other = rng.choice(seeds)
            data[at:] = other[rng.randrange(len(other)) :]
        elif kind == 7:
            _change_number(data, at, rng)
        else:
            data[at : at + span] = rng.randbytes(span)
    return bytes(data)


def _change_number(data: bytearray, at: int, rng: random.Random) -> None:
    while at < len(data) and not 48 <= data[at] <= 57:
        at += 1
    end = at
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    if end > at:
        choices = (b"0", b"1", b"2", b"-1", b"10", b"4294967296", b"99999999999", b"1.5", b"1e9")
        data[at:end] = rng.choice(choices)


class Input(NamedTuple):
    """Which reader gets which mutation."""

    reader: str
    seed: int


def _kind(error: BaseException) -> str:
    if isinstance(error, (click.ClickException, OSError, MemoryError)):
        return "refused"
    if not isinstance(error, (ValueError, TypeError, KeyError)):
        return "foreign"
    if isinstance(error, (UnicodeError, json.JSONDecodeError)):
        return "foreign"
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    is_ours = f"{os.sep}stepfold{os.sep}" in last.filename
    return "refused" if is_ours and (last.line or "").startswith("raise ") else "foreign"


def _one(reader: Reader, seed: int, workplace: Path) -> tuple[str, str]:
    data = mutated(reader.seeds, random.Random(f"{reader.name} {seed}"))
    path = workplace / reader.name.replace(" ", "-") / reader.file
    if not path.parent.exists():
        if reader.folder is not None:
            shutil.copytree(reader.folder, path.parent)
        else:
            path.parent.mkdir()
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        kind = _kind(error)
        text = "" if kind == "refused" else "".join(traceback.format_exception(error)[-3:])
        return kind, text
    return "read", ""


def run(
    names: list[str], first: int, count: int, *, seconds: float = SECONDS
) -> Iterator[tuple[Input, str, str]]:
    """Read ``count`` mutations, shared out among these readers, in child processes."""
    with tempfile.TemporaryDirectory(prefix="stepfold-hostile-") as folder:
        workplace = Path(folder)
        canary = str(workplace / "canary")
        readers = {reader.name: reader for reader in _readers(canary, workplace)}
        total = sum(readers[name].weight for name in names)
        for name in names:
            seed, end = first, first + math.ceil(count * readers[name].weight / total)
            while seed < end:
                stop = min(seed + CHUNK, end)
                for kind, text in _in_a_child(readers[name], seed, stop, workplace, seconds):
                    yield Input(name, seed), kind, text
                    seed += 1
        if Path(canary).exists():
            yield Input("any", 0), "executed", "a pickle was loaded"


def _in_a_child(
    reader: Reader, first: int, stop: int, workplace: Path, seconds: float
) -> Iterator[tuple[str, str]]:
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        _serve(reader, first, stop, workplace, sink)
    os.close(sink)
    done, rest = 0, b""
    while select.select([source], [], [], seconds)[0]:
        data = os.read(source, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            done += 1
            yield tuple(json.loads(line))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(source)
    if done < stop - first:
        hangs = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        yield "hang" if hangs else "crash", f"status {status}"


def _serve(reader: Reader, first: int, stop: int, workplace: Path, sink: int) -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for seed in range(first, stop):
        ending = _one(reader, seed, workplace)
        os.write(sink, (json.dumps(ending)[:60_000] + "\n").encode())
    os._exit(0)


def main() -> None:
    """Print how the inputs ended, and those that did not end as they should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=13_000, help="inputs in all")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--only", action="append", default=[], help="a reader's name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun, counts = time.monotonic(), collections.Counter[tuple[str, str]]()
    examples: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        names = options.only or [r.name for r in _readers(f"{folder}/canary", Path(folder))]
    for item, kind, text in run(names, options.first, options.inputs):
        counts[item.reader, kind] += 1
        if kind not in ("read", "refused") and text not in examples:
            examples[text] = f"{kind}: {item.reader} {item.seed}\n{text}"
            print(examples[text], flush=True)
    kinds = sorted({kind for _, kind in counts})
    print("reader".ljust(22), *(kind.rjust(9) for kind in kinds))
    for name in names:
        print(name.ljust(22), *(f"{counts[name, kind]:9}" for kind in kinds))
    total = {kind: sum(counts[name, kind] for name in [*names, "any"]) for kind in kinds}
    print(f"{sum(total.values())} inputs in {time.monotonic() - begun:.0f} s: {total}")
    print(f"largest memory of a child: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss} KB")
    sys.exit(any(total[kind] for kind in kinds if kind not in ("read", "refused")))


if __name__ == "__main__":
    main()
