"""How a Chromium is found or got for the browser tests, on machines of every kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chromium
import pytest
from browser import NO_BROWSER, left_out


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a program of this name on a PATH that has no other."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, body: str) -> None:
        (tmp_path / name).write_text(f"#!{sys.executable}\n{body}\n")
        (tmp_path / name).chmod(0o755)

    return put


def _way(name: str, *bodies: str, seconds: float = 60.0) -> chromium.Way:
    return chromium.Way(name, tuple((sys.executable, "-c", body) for body in bodies), seconds)


def _got(offered: list[chromium.Way], arrived: Path) -> tuple[bool, list[str]]:
    said: list[str] = []
    return chromium.get(arrived.exists, offered, said.append), said


def test_a_browser_that_is_there_is_taken_without_a_word(tmp_path) -> None:
    forbidden = _way("a download", f"open({str(tmp_path / 'done')!r}, 'w')")
    assert _got([forbidden], tmp_path) == (True, [])
    assert not (tmp_path / "done").exists()


def test_what_works_ends_the_search(tmp_path) -> None:
    arrived, too_far = tmp_path / "arrived", tmp_path / "too far"
    download = _way("a download", f"open({str(arrived)!r}, 'w')")
    package = _way("a package", f"open({str(too_far)!r}, 'w')")
    found, said = _got([download, package], arrived)
    assert found
    assert len(said) == 1
    assert "a download" in said[0]
    assert not too_far.exists()


def test_a_refused_download_is_followed_by_the_package(tmp_path) -> None:
    refused = _way("a download", "raise SystemExit(1)")
    package = _way("a package", "pass", f"open({str(tmp_path / 'arrived')!r}, 'w')")
    found, said = _got([refused, package], tmp_path / "arrived")
    assert found
    assert len(said) == 2


def test_a_download_that_does_not_open_is_followed_by_the_package(tmp_path) -> None:
    # As Playwright's does on a machine without the libraries that it needs.
    unusable = _way("a download", "pass")
    package = _way("a package", f"open({str(tmp_path / 'arrived')!r}, 'w')")
    assert _got([unusable, package], tmp_path / "arrived")[0]


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path) -> None:
    child = f"import time; time.sleep(3); open({str(tmp_path / 'alive')!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert not chromium.run(_way("a download", parent, seconds=1.0))
    assert not chromium.run(_way("a wait", "import time; time.sleep(3)", seconds=2.5))
    assert not (tmp_path / "alive").exists()


def test_a_package_whose_first_command_fails_is_not_gone_on_with(tmp_path) -> None:
    way = _way("a package", "raise SystemExit(100)", f"open({str(tmp_path / 'x')!r}, 'w')")
    assert not chromium.run(way)
    assert not (tmp_path / "x").exists()


def test_without_any_the_user_is_told_what_to_do(tmp_path) -> None:
    found, said = _got([_way("a download", "raise SystemExit(1)")], tmp_path / "never")
    assert not found
    assert "will be skipped" in said[-1]
    assert "apt-get install chromium" in said[-1]


@pytest.mark.parametrize(
    ("root", "installer", "tried"),
    [
        (True, "apt-get", ["playwright", "apt-get"]),
        (True, "dnf", ["playwright", "dnf"]),
        (True, "apk", ["playwright", "apk"]),
        (True, "true", ["playwright"]),
        (False, "apt-get", ["playwright"]),
    ],
)
def test_only_root_installs_packages_with_the_machine_s_own_installer(
    program, root: bool, installer: str, tried: list[str]
) -> None:
    program(installer, "")
    offered = list(chromium.ways(root=root))
    assert len(offered) == len(tried)
    for way, word in zip(offered, tried, strict=True):
        assert word in way.commands[0]


def test_the_debian_package_is_asked_for_unattended(program, tmp_path) -> None:
    program(
        "apt-get",
        "import os, sys\n"
        f"with open({str(tmp_path / 'log')!r}, 'a') as log:\n"
        "    print(os.environ['DEBIAN_FRONTEND'], *sys.argv[1:], file=log)",
    )
    *_, package = chromium.ways(root=True)
    assert chromium.run(package)
    update, install = (tmp_path / "log").read_text().splitlines()
    assert update.startswith("noninteractive -q -y")
    assert update.endswith("update")
    assert install.endswith("install --no-install-recommends chromium")


class _Playwright:
    """Launches only what ``good`` names; None is Playwright's own."""

    def __init__(self, *good: str | None) -> None:
        self.good = good
        self.chromium = self

    def launch(self, *, executable_path: str | None, args: list[str]) -> Any:  # noqa: ARG002
        name = executable_path and Path(executable_path).name
        if name not in self.good:
            raise OSError(f"cannot open {name}\nwith a long log")
        return name


@pytest.mark.parametrize(
    ("good", "opened"),
    [
        (("chromium", "google-chrome"), "chromium"),
        (("google-chrome", None), "google-chrome"),
        ((None,), None),
    ],
)
def test_a_browser_that_does_not_open_is_passed_over(program, good, opened) -> None:
    program("chromium", "")
    program("google-chrome", "")
    assert chromium.launch(_Playwright(*good)) == opened


def test_the_refusal_says_what_was_tried(program) -> None:
    program("chromium", "")
    with pytest.raises(chromium.NoChromium) as caught:
        chromium.launch(_Playwright())
    assert "chromium: cannot open chromium; Playwright: cannot open None" in str(caught.value)
    assert "long log" not in str(caught.value)


def _skipped(reason: str) -> Any:
    return SimpleNamespace(longrepr=("tests/test_x.py", 1, f"Skipped: {reason}"))


def test_the_end_of_a_run_counts_what_was_skipped_for_want_of_a_browser() -> None:
    other = _skipped("torch was built without gloo")
    assert left_out([]) is None
    assert left_out([other]) is None
    one = left_out([other, _skipped(f"{NO_BROWSER}none")])
    two = left_out([_skipped(f"{NO_BROWSER}none")] * 2)
    assert one is not None
    assert one.startswith("1 browser test was skipped")
    assert two is not None
    assert two.startswith("2 browser tests were skipped")
    assert "apt-get install chromium" in two
