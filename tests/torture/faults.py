"""Kill, interrupt and terminate commands at random calls, then run them again.

    python tests/torture/faults.py                    # 200 faults, and the places of `places.py`
    python tests/torture/faults.py --count 12 --seed 5 --jobs solve train

After each fault the same command is run once more (with --resume, or --force where it would refuse
to replace what is there). It must end well, with the same answer as one that was never stopped, and
leave nothing beside its outputs. Exit code 1 if it does not.
"""

from __future__ import annotations

import argparse
import collections
import filecmp
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from faulted import SIGNALS, child, command, warm
from places import PLACES
from sharded import SHARDED, fault_of_shards


@dataclass(frozen=True)
class Job:
    """A command that is to be stopped.

    Attributes:
        words: The command.
        again: What to run after a fault.
        outputs: What it leaves.
        answer: Reads its answer, to be compared with that of a run that was not stopped.
    """

    words: tuple[str, ...]
    again: tuple[str, ...]
    outputs: tuple[str, ...]
    answer: Callable[[Path], Any]


def _record(path: Path) -> Any:
    """A JSON record without what differs from run to run: times, and where and when it was made."""
    differs = {"seconds", "created", "started", "finished", "duration", "environment", "time"}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {name: plain(part) for name, part in value.items() if name not in differs}
            return dict(sorted(kept.items()))
        return [plain(part) for part in value] if isinstance(value, list) else value

    return plain(json.loads(path.read_text()))


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _numbers(folder: Path) -> Any:
    return [(path.name, _record(path)) for path in sorted(folder.rglob("*.json"))]


TRAIN = ("train", "dugd", "--set", "num_layers=3", "--set", "training.num_iterations=12")
JOBS: dict[str, Job] = {
    "solve": Job(
        ("solve", "A.npy", "b.npy", "-o", "x.npy"),
        ("solve", "A.npy", "b.npy", "-o", "x.npy", "--force"),
        ("x.npy",),
        lambda folder: np.load(folder / "x.npy").tolist(),
    ),
    "train": Job(
        (*TRAIN, "--checkpoint-every", "3", "-o", "training"),
        (*TRAIN, "--checkpoint-every", "3", "-o", "training", "--resume"),
        ("training",),
        lambda folder: (_files(folder / "training"), _numbers(folder / "training")),
    ),
    "run": Job(
        ("run", "rates", "--quick", "-o", "rates"),
        ("run", "rates", "--quick", "-o", "rates"),
        ("rates",),
        lambda folder: (_files(folder / "rates"), _numbers(folder / "rates")),
    ),
    "report": Job(
        ("report", "runs", "-o", "site"),
        ("report", "runs", "-o", "site", "--force"),
        ("site",),
        lambda folder: _files(folder / "site"),
    ),
    "explain": Job(
        ("explain", "A.npy", "--rhs", "b.npy", "-o", "explained"),
        ("explain", "A.npy", "--rhs", "b.npy", "-o", "explained", "--force"),
        ("explained",),
        lambda folder: _files(folder / "explained"),
    ),
}
INPUTS = ("A.npy", "b.npy", "runs")


def prepare(folder: Path, *, with_runs: bool = True) -> None:
    """A folder with the inputs of every job: a matrix, a right-hand side and two runs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    np.save(folder / "A.npy", rng.standard_normal((60, 40)))
    np.save(folder / "b.npy", rng.standard_normal(60))
    (folder / "runs").mkdir()
    for name in ("rates", "order") if with_runs else ():
        end = child(folder, command("run", name, "--quick", "-o", f"runs/{name}"), counts=False)
        assert end.code == 0, end.text


def age_drafts(folder: Path) -> None:
    """Let a day pass: a draft is only taken for that of a dead process after a minute."""
    for path in folder.glob(".stepfold-*"):
        long_ago = time.time() - 86_400
        os.utime(path, (long_ago, long_ago))


def stopped(source: Path, folder: Path, job: Job, at: int, number: int, answer: Any) -> str:
    """Stop a job at a call, run it again, and say what is wrong; an empty string if nothing is."""
    shutil.copytree(source, folder)
    before = {name: source / name for name in INPUTS}
    first = child(folder, command(*job.words), at=at, number=number)
    if first.code == 71 or "Traceback" in first.text:
        return f"a traceback after signal {number}: {first.text[-300:]}"
    age_drafts(folder)
    second = child(folder, command(*job.again), counts=False)
    if second.code != 0:
        return f"the second run ended with {second.code}: {second.text[-300:]}"
    left = sorted(path.name for path in folder.iterdir())
    if left != sorted({*INPUTS, *job.outputs}):
        return f"left behind: {left}"
    for name, path in before.items():
        if path.is_file() and not filecmp.cmp(path, folder / name, shallow=False):
            return f"the input {name} was changed"
    return "" if job.answer(folder) == answer else "another answer than without the fault"


def series(root: Path, names: list[str], first: int, count: int, seed: int) -> dict[str, Any]:
    """So many faults, shared out among the jobs; how many went well, and what did not.

    A fault depends on the seed and its number alone.
    """
    source = root / "source"
    prepare(source, with_runs="report" in names)
    whole: dict[str, tuple[int, Any]] = {}
    for name in names:
        if name in JOBS:
            folder = root / f"whole-{name}"
            shutil.copytree(source, folder)
            end = child(folder, command(*JOBS[name].words))
            assert end.code == 0, end.text
            whole[name] = end.calls, JOBS[name].answer(folder)
    done: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    for index in range(first, first + count):
        name = names[index % len(names)]
        number = SIGNALS[index // len(names) % len(SIGNALS)]
        at = int(np.random.default_rng([seed, index]).integers(1, 1 << 62))
        folder = root / f"fault-{index}"
        if name in JOBS:
            calls, answer = whole[name]
            at = at % calls + 1
            problem = stopped(source, folder, JOBS[name], at, number, answer)
        else:
            problem = fault_of_shards(folder, at, number)
        label = f"{name}, {signal.Signals(number).name}"
        done[label] += 1
        if problem:
            wrong.append(f"fault {index} of seed {seed}: {label} at call {at}: {problem}")
            print(wrong[-1], flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return {"faults": dict(sorted(done.items())), "wrong": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="*", default=[*JOBS, SHARDED])
    parser.add_argument("--no-places", action="store_true")
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        root = Path(scratch)
        warm(root)
        found = series(root, given.jobs, given.first, given.count, given.seed)
        places = {}
        if not given.no_places:
            for name, place in PLACES.items():
                places[name] = place(root / "source", root / f"place-{name.replace(' ', '-')}")
                print(f"{name}: {places[name] or 'as it must be'}", flush=True)
    print(f"{sum(found['faults'].values())} faults: {found['faults']}")
    if given.record:
        given.record.write_text(json.dumps({**found, "places": places}, indent=1))
    bad = [name for name, outcome in places.items() if outcome and not outcome.startswith("skip")]
    return int(bool(found["wrong"] or bad))


if __name__ == "__main__":
    sys.exit(main())
