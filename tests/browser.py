"""Pages opened in headless Chromium, watched: what they print, what they ask for, how they look.

    def test_the_page_opens(visit, tmp_path):
        seen = visit(tmp_path / "page.html", width=390, dark=True)
        seen.page.get_by_role("button", name="Reset").click()
        seen.assert_quiet()

`visit` and `browser` are fixtures of conftest.py; tests that use them are skipped without Chromium.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT = 120_000  # milliseconds; a busy machine is no reason to fail
LOCAL = ("file:", "data:", "blob:", "about:")


def find_chromium() -> str | None:
    """Path of a Chromium on this machine."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def launch() -> Iterator[Any]:
    """A running browser; skips where there is none."""
    executable = find_chromium()
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUM)} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Seen:
    """An open page, with all that it printed as an error and all that it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def assert_quiet(self) -> None:
        """No error on the console, and no request that leaves the machine."""
        assert self.errors == []
        assert self.requests
        assert [url for url in self.requests if not url.startswith(LOCAL)] == []

    def assert_no_sideways_scroll(self) -> None:
        """The page is not wider than the window."""
        widths = self.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert widths[0] <= widths[1]

    def assert_accessible(self) -> None:
        """axe finds no violation that it calls serious or critical."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        bad = [entry for entry in found if entry["impact"] in ("serious", "critical")]
        assert [(entry["id"], node["html"][:200]) for entry in bad for node in entry["nodes"]] == []


class Visitor:
    """Opens files and addresses, each in a context of its own, in the manner asked for."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._contexts: list[Any] = []

    def __call__(
        self,
        target: Path | str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        javascript: bool = True,
    ) -> Seen:
        """Open a file or an address, and wait until it is loaded."""
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            accept_downloads=True,
        )
        context.set_default_timeout(TIMEOUT)
        self._contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.on("console", lambda m: m.type == "error" and seen.errors.append(m.text))
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        context.on("request", lambda request: seen.requests.append(request.url))
        url = target.resolve().as_uri() if isinstance(target, Path) else target
        seen.page.goto(url, wait_until="load")
        return seen

    def close(self) -> None:
        """Close every page."""
        for context in self._contexts:
            context.close()
