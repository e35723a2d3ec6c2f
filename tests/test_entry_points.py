"""Other packages offer members of our families, and what is wrong with theirs harms nobody else."""

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

MODULE = '''
import numpy as np
from stepfold import Schedule

def halves(bounds, period):
    """Steps that halve."""
    return Schedule(2.0 ** -np.arange(1, period + 1) / bounds.upper, "halves")

NUMBER = 5
'''
EXPERIMENT = '''
from stepfold.lab.experiments import Experiment
from stepfold.lab.outcome import Outcome
from stepfold.lab.sources import OWN, Source

def two(*, size: int = 3) -> Outcome:
    """Shows that two is two."""
    return Outcome("Two", "Two is two.", [])

TWO = Experiment("two", Source(OWN, "two"), two, 1.0, {})
'''
ENTRIES = """
[stepfold.schedules]
halves = nice_steps:halves
missing = nice_steps:nothing
broken = broken_steps:halves
exits = exiting_steps:halves
number = nice_steps:NUMBER
chebyshev = nice_steps:halves

[stepfold.orders]
backwards = nice_steps:halves
"""


def run(folder: Path, code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def packages(tmp_path_factory: Any) -> Path:
    """Packages as an installer leaves them, in a folder of modules."""
    folder: Path = tmp_path_factory.mktemp("packages")
    (folder / "nice_steps.py").write_text(MODULE)
    (folder / "broken_steps.py").write_text("import a_module_that_is_not_there\n")
    (folder / "exiting_steps.py").write_text("raise SystemExit('no licence')\n")
    for name, entries in (
        ("nice_steps", ENTRIES),
        ("twin_steps", "[stepfold.schedules]\nhalves = nice_steps:halves\n"),
    ):
        (folder / f"{name}-1.0.dist-info").mkdir()
        (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        )
        (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(entries)
    return folder


def command(*words: str) -> str:
    return f"""
        import sys
        sys.argv = ["stepfold", *{list(words)!r}]
        from _stepfold_command import main
        try:
            main()
        except SystemExit as ended:
            print("exit", ended.code)
    """


def test_a_member_of_another_package_is_used_as_one_of_ours(packages: Path) -> None:
    printed = run(
        packages,
        """
        from stepfold import SpectralBounds
        from stepfold.schedules import SCHEDULES, ORDERS
        print(SCHEDULES["halves"](SpectralBounds(1.0, 2.0), 2).steps.tolist())
        print("halves" in SCHEDULES, "backwards" in list(ORDERS), SCHEDULES.offered_by("halves"))
        """,
        "-W",
        "ignore",
    )
    assert printed == "[0.25, 0.125]\nTrue True nice-steps\n"


def test_names_cost_no_import(packages: Path) -> None:
    printed = run(
        packages,
        """
        import sys
        import stepfold
        print("importlib.metadata" in sys.modules and "email" in sys.modules)
        from stepfold.schedules import SCHEDULES
        SCHEDULES["chebyshev"]
        assert SCHEDULES._offered is None
        list(SCHEDULES)
        print("nice_steps" in sys.modules)
        """,
        "-W",
        "ignore",
    )
    assert printed.split()[-1] == "False"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "cannot be imported from `nice_steps:nothing`: AttributeError"),
        ("broken", "ModuleNotFoundError: No module named 'a_module_that_is_not_there'; update"),
        ("exits", "SystemExit: no licence"),
        ("number", "must be a function or a class, but `nice_steps:NUMBER` is of type int"),
    ],
)
def test_what_is_wrong_is_said_with_package_and_reason(
    packages: Path, name: str, message: str
) -> None:
    words = ("steps", "--lower", "1", "--upper", "2", "--period", "2", "--method", name)
    printed = run(packages, command(*words))
    assert f"Error: the schedule '{name}' of package nice-steps" in printed
    assert message in printed
    assert "exit 2" in printed


def test_names_that_are_taken_stay_whose_they_are(packages: Path) -> None:
    printed = run(
        packages,
        """
        from stepfold.schedules import SCHEDULES, chebyshev_steps
        assert SCHEDULES["chebyshev"] is chebyshev_steps
        print(len(SCHEDULES) == len(list(SCHEDULES)))
        """,
    )
    assert "the schedule 'chebyshev' of package nice-steps is not used: stepfold has one" in printed
    assert "'halves' of package twin-steps is not used: package nice-steps has one" in printed
    assert "True" in printed


def test_the_command_line_lists_and_takes_them(packages: Path) -> None:
    printed = run(packages, command("list", "schedules", "--json"))
    rows = json.loads(printed[printed.index("[") : printed.index("]") + 1])
    assert {"name": "halves", "description": "Steps that halve.", "package": "nice-steps"} in rows
    assert {row["name"] for row in rows} >= {"chebyshev", "silver", "halves"}
    assert "broken" not in {row["name"] for row in rows}
    assert "EntryPointWarning: the schedule 'broken' of package nice-steps" in printed
    words = ("steps", "--lower", "1", "--upper", "2", "--period", "2", "--method", "halves")
    assert "0.25" in run(packages, command(*words))


def test_commands_that_need_no_member_do_not_look(packages: Path) -> None:
    printed = run(
        packages,
        command("steps", "--lower", "1", "--upper", "2", "--period", "2")
        + """
        from stepfold.schedules import SCHEDULES
        print("looked", SCHEDULES._offered is not None)
        """,
    )
    assert "looked False" in printed
    assert "Warning" not in printed


def test_an_experiment_of_another_package_runs(packages: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    (folder / "more-1.0.dist-info").mkdir(parents=True)
    (folder / "more.py").write_text(EXPERIMENT)
    (folder / "more-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: more\nVersion: 1.0\n"
    )
    (folder / "more-1.0.dist-info" / "entry_points.txt").write_text(
        "[stepfold.experiments]\ntwo = more:TWO\n"
    )
    printed = run(folder, command("run", "two", "-o", str(tmp_path / "two")))
    assert "exit 0" in printed
    assert (tmp_path / "two" / "report.html").exists()
    assert "Shows that two is two." in run(folder, command("list"))


def test_the_package_of_the_page_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "guides" / "extending.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (project,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    settings = tomllib.loads(project)["project"]
    (tmp_path / "halving_steps.py").write_text(code)
    described = tmp_path / "halving_steps-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {settings['name']}\nVersion: {settings['version']}\n"
    )
    entries = [
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in members.items())
        for group, members in settings["entry-points"].items()
    ]
    (described / "entry_points.txt").write_text("\n".join(entries))
    words = re.search(r"stepfold (steps .*)\n", page)
    assert words is not None
    printed = run(tmp_path, command(*words[1].split(), "--json"))
    assert json.loads(printed.splitlines()[0])["steps"] == [0.5, 0.25, 0.125]
