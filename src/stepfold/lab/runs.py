"""Runs of experiments that are computed once: what a folder holds decides what is left to do."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepfold.lab._folder import free_beside
from stepfold.lab.experiments.base import Experiment
from stepfold.lab.parameters import Value
from stepfold.lab.provenance import code_version
from stepfold.lab.report import check_free, write_run

_RUN = "run"
_OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Job:
    """An experiment with its parameters, and the folder for its run."""

    experiment: Experiment
    values: dict[str, Value]
    folder: Path

    def is_done(self) -> bool:
        """Whether the folder holds this run, made by the code that would make it now.

        Of a run on a file it is never said: the file may have changed.
        """
        stored = self._stored()
        parameters = self.experiment.parameters
        return (
            stored is not None
            and not any(value and parameters[name].is_file for name, value in self.values.items())
            and stored.get("experiment") == self.experiment.name
            and stored.get("parameters") == self.values
            and stored.get("code") == code_version(self.experiment.function)
        )

    def check(self, *, force: bool) -> None:
        """Raise unless the folder may be written; before the work, not after it.

        A run of the same experiment with the same parameters by other code is out of date and may
        be replaced; any other run only by ``force``, and what is no run never.

        Raises:
            OSError: If it may not; the message says why and what to do.
        """
        stored = None if force else self._stored()
        if stored is None:
            check_free(self.folder, force=force)
            return
        theirs = stored.get("parameters")
        if stored.get("experiment") != self.experiment.name or not isinstance(theirs, dict):
            check_free(self.folder, force=False)
        elif theirs != self.values:
            names = sorted(
                name
                for name in {*theirs, *self.values}
                if theirs.get(name) != self.values.get(name)
            )
            raise FileExistsError(
                f"{self.folder} already holds a run with other values of {', '.join(names)}; "
                "choose another output folder or replace it by --force"
            )
        check_free(self.folder, force=True)

    def compute(self, *, progress: bool = False) -> None:
        """Run the experiment and write its folder, in place of what is there."""
        stands = self.folder.is_dir()  # what comes after this was not there to be replaced
        code = code_version(self.experiment.function)  # as imported, not as edited meanwhile
        start = time.perf_counter()
        outcome = self.experiment.run(self.values, progress=progress)
        seconds = time.perf_counter() - start
        run = {
            "experiment": self.experiment.name,
            "parameters": self.values,
            "code": code,
            "seconds": seconds,
        }
        outcome = dataclasses.replace(outcome, records={**outcome.records, _RUN: run})
        if stands or not self.folder.exists():
            write_run(outcome, self.folder, seconds=seconds, force=stands)
            return
        place = free_beside(self.folder)
        write_run(outcome, place, seconds=seconds)
        raise FileExistsError(
            f"{self.folder} was taken by somebody else in the meantime and is left alone; the run "
            f"is in {place}"
        )

    def load(self) -> dict[str, Any]:
        """Return what the folder's outcome says, with "report" and "seconds", as plain values.

        The story and the data of its figures are left out; `stepfold.lab.report.read_run` has them.

        Raises:
            OSError, ValueError: If it cannot be read.
        """
        record: dict[str, Any] = json.loads((self.folder / _OUTCOME).read_text(encoding="utf-8"))
        run = json.loads((self.folder / f"{_RUN}.json").read_text(encoding="utf-8"))
        del record["sections"]
        report = os.path.join(self.folder, "report.html")
        return {**record, "report": report, "seconds": run["seconds"]}

    def _stored(self) -> dict[str, Any] | None:
        """What a complete run says of itself, or None if there is none that can be read."""
        try:
            self.load()
            stored = json.loads((self.folder / f"{_RUN}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, RecursionError, TypeError):
            return None
        return stored if isinstance(stored, dict) else None
