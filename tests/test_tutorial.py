"""The tutorial of examples/ runs from its first line to its last, and says what is true."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

TUTORIAL = Path(__file__).parent.parent / "examples" / "tutorial.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return runpy.run_path(str(TUTORIAL)), folder


def test_the_tutorial_has_forty_lines_of_code() -> None:
    _, _, code = TUTORIAL.read_text(encoding="utf-8").split('"""', 2)
    lines = [line.strip() for line in code.splitlines()]
    assert sum(bool(line) and not line.startswith("#") for line in lines) <= 40


def test_learned_layers_end_far_below_untrained_ones(run) -> None:
    rows = run[0]["rows"]
    assert rows["learned"][-1] < 0.2 * rows["untrained"][-1]


def test_exported_values_do_without_the_library_what_the_network_does(run) -> None:
    names, folder = run
    with np.load(folder / "learned.npz") as arrays:
        assert set(arrays) == {"steps", "threshold"}
        np.testing.assert_array_equal(arrays["steps"], names["run"].schedule.steps)
    error = ((names["found"] - names["signals"][1000:]) ** 2).mean()
    assert error == pytest.approx(names["rows"]["learned"][-1], rel=1e-9)


def test_the_report_holds_the_figure_and_the_explanation(run) -> None:
    names, folder = run
    report = (folder / "explained" / "report.html").read_text(encoding="utf-8")
    assert names["alt"] in report
    assert len(names["sections"]) > 2
    assert "fewer" not in names["outcome"].summary
    assert names["outcome"].summary.split(".")[0] in report
