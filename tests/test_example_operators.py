"""The example of other packages' operators runs, for each of them."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "operators.py"


@pytest.mark.parametrize("name", ["pylops", "pyproximal", "odl", "sigpy"])
@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_example_solves_by_each_package(name: str) -> None:
    pytest.importorskip(name)
    assert " steps" in runpy.run_path(str(EXAMPLE))[name]()
