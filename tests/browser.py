"""Pages opened in headless Chromium, watched: what they print, what they ask for, how they look.

    def test_the_page_opens(visit, tmp_path):
        seen = visit(tmp_path / "page.html", width=390, dark=True)
        seen.page.get_by_role("button", name="Reset").click()
        seen.assert_quiet()

`visit` and `browser` are fixtures of conftest.py; chromium.py finds the browser. Without one, tests
that use them are skipped, or fail if pytest was called with ``--require-browser``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chromium
import pytest

TIMEOUT = 120_000  # milliseconds; a busy machine is no reason to fail
LOCAL = ("file:", "data:", "blob:", "about:")


NO_BROWSER = "no browser: "


def launch(*, required: bool) -> Iterator[Any]:
    """A running browser; where there is none, skips, or fails if it is ``required``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = chromium.launch(playwright)
        except chromium.NoChromium as error:
            (pytest.fail if required else pytest.skip)(f"{NO_BROWSER}{error}")
        yield browser
        browser.close()


def left_out(reports: list[Any]) -> str | None:
    """What to say at the end of a run with these skipped tests: nothing if all had a browser."""
    missed = sum(NO_BROWSER in str(report.longrepr) for report in reports)
    if missed == 0:
        return None
    verb = "test was" if missed == 1 else "tests were"
    return f"{missed} browser {verb} skipped, as no Chromium opens here: {chromium.REMEDY}."


@dataclass
class Seen:
    """An open page, with all that it printed as an error and all that it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def wait_until(self, expression: str) -> None:
        """Wait until JavaScript is true; playwright's own waiting needs `eval`."""
        for _ in range(TIMEOUT // 50):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"the page never came to {expression}")

    def address(self) -> str:
        """The address as the page has it; playwright's own lags behind a change of it."""
        return self.page.evaluate("location.href")

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
