"""Runs the command line in this process, as `main` would run it in its own."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any
from unittest import mock

from stepfold.cli import main


@dataclass(frozen=True)
class Run:
    """What a command left: exit code and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as strict JSON, without NaN and Infinity."""
        return json.loads(self.out, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def stepfold(*arguments: Any) -> Run:
    """Run ``stepfold`` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    words = ["stepfold", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            return Run(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main() must end by SystemExit")


def assert_refused(run: Run, *words: str) -> None:
    """One clear line on standard error, exit code 2, nothing on standard output."""
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("Error: ")
    assert run.err.count("\n") == 1
    assert run.err.endswith("\n")
    assert "Traceback" not in run.err
    for word in words:
        assert word in run.err
