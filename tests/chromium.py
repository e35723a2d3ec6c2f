"""Finds a Chromium for the browser tests, or gets one: ``python tests/chromium.py``.

Tried in this order, each only if nothing before it opens a page: a Chromium on the PATH; the one
that Playwright has downloaded; downloading it; the distribution's package, where the user is root.
Without any, the browser tests are skipped, and the test run says so at its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REMEDY = (
    "put a Chromium on the PATH (on Debian and Ubuntu `apt-get install chromium`), or run "
    "`.venv/bin/python -m playwright install --with-deps --only-shell chromium`; "
    "then run the tests again"
)
# In the environment of every command: no questions, and a host that does not answer is left soon.
UNATTENDED = {
    "DEBIAN_FRONTEND": "noninteractive",
    "PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": "5000",
}
APT = ("apt-get", "-q", "-y", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15")


@dataclass(frozen=True)
class Way:
    """Commands that may bring a Chromium, and the seconds that each may take."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    seconds: float = 300.0


DOWNLOAD = Way(
    "Playwright's download",
    ((sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"),),
)
PACKAGES = (
    Way(
        "the distribution's package",
        ((*APT, "update"), (*APT, "install", "--no-install-recommends", "chromium")),
    ),
    Way("the distribution's package", (("dnf", "-q", "-y", "install", "chromium-headless"),)),
    Way("the distribution's package", (("apk", "add", "-q", "chromium"),)),
)


class NoChromium(Exception):
    """No Chromium opens a page here; the message says what was tried."""


def ways(*, root: bool) -> Iterator[Way]:
    """What may bring a Chromium to this machine, the smallest change first."""
    yield DOWNLOAD
    if root:
        yield from (way for way in PACKAGES if shutil.which(way.commands[0][0]))


def run(way: Way) -> bool:
    """Whether every command of it ended well, each within its time."""
    return all(_succeeds(command, way.seconds) for command in way.commands)


def _succeeds(command: tuple[str, ...], seconds: float) -> bool:
    # A group of its own: a download's children are ended with it.
    with subprocess.Popen(
        command,
        env={**os.environ, **UNATTENDED},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False


def get(available: Callable[[], bool], offered: Iterable[Way], tell: Callable[[str], None]) -> bool:
    """Try what is offered until a Chromium is available; whether one is."""
    if available():
        return True
    for way in offered:
        tell(f"No Chromium for the browser tests yet: trying {way.name}.")
        if run(way) and available():
            return True
    tell(f"No Chromium for the browser tests, which will be skipped: {REMEDY}.")
    return False


def launch(playwright: Any) -> Any:
    """A running browser.

    Raises:
        NoChromium: If none opens.
    """
    refusals = []
    found = [path for path in map(shutil.which, ON_PATH) if path]
    for path in (*found, None):  # None: the one that Playwright keeps
        try:
            return playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        except Exception as error:  # noqa: BLE001 (whatever keeps a browser from opening)
            refusals.append(f"{path or 'Playwright'}: {str(error).strip().splitlines()[0]}")
    raise NoChromium("; ".join(refusals))


def opens() -> bool:
    """Whether a browser opens a page on this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = launch(playwright)
        except NoChromium:
            return False
        browser.new_page().set_content("<p>text</p>")
        browser.close()
    return True


if __name__ == "__main__":
    get(opens, ways(root=hasattr(os, "geteuid") and os.geteuid() == 0), print)
