"""The documentation as it is built: without warnings, complete, offline, and cut on no screen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from _docs import DOCS, SECTIONS, sources

import stepfold

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# Attributes by which an element loads something; a link that waits for a click loads nothing.
LOADS = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
LINKS_THAT_LOAD = {"icon", "modulepreload", "preload", "prefetch", "preconnect", "stylesheet"}
# Blocks whose content is wider than they are, and that nobody can scroll. Elements for screen
# readers alone are one pixel wide.
CUT = """() => [...document.querySelectorAll("body *")].filter(element => {
  if (element.closest("svg, math, select, .visually-hidden")) return false;
  const style = getComputedStyle(element);
  const scrolls = ["auto", "scroll"].includes(style.overflowX);
  const shown = element.clientWidth > 1 && style.visibility != "hidden";
  return shown && !scrolls && !style.display.startsWith("inline")
    && element.scrollWidth > element.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 120))"""
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Page(HTMLParser):
    """What a page loads, where its links lead, and its policy."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.before_policy: list[str] = []
        self.policy = ""
        self.tags: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if values.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = values["content"]
        if not self.policy and tag in LOADS:
            self.before_policy.append(tag)
        if values.get(LOADS.get(tag, ""), ""):
            self.loaded.append(values[LOADS[tag]])
        if tag == "link" and LINKS_THAT_LOAD & set(values.get("rel", "").split()):
            self.loaded.append(values["href"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])

    def missing(self) -> list[str]:
        """Files of the site that the page names and that are not there."""
        parts = [urlsplit(address) for address in (*self.loaded, *self.links)]
        local = [unquote(part.path) for part in parts if not part.scheme and part.path]
        return [path for path in local if not (self.path.parent / path).exists()]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site; processes that test side by side build it once."""
    from filelock import FileLock

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "docs"
    with FileLock(shared / "docs.lock"):
        if not (folder / "done").exists():
            command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
            built = subprocess.run(
                [*command, str(DOCS), str(folder / "html")], capture_output=True, text=True
            )
            warnings = [line for line in built.stderr.splitlines() if "WARNING:" in line]
            assert (built.returncode, warnings) == (0, []), built.stderr[-4000:]
            (folder / "done").touch()
    return folder / "html"


@pytest.fixture(scope="session")
def pages(site) -> list[Page]:
    """Every page but source code, what the theme keeps beside its styles, and the report."""
    left_out = {"_modules", "_static", "results"}  # reports have tests of their own
    paths = [path for path in sorted(site.rglob("*.html")) if not left_out.intersection(path.parts)]
    return [Page(path) for path in paths]


def test_every_page_that_was_written_was_built(site) -> None:
    expected = {page.relative_to(DOCS).with_suffix(".html") for page in sources()}
    assert expected <= {path.relative_to(site) for path in site.rglob("*.html")}


def test_every_name_at_the_top_has_a_page_that_says_how_to_import_it(site) -> None:
    found = {path.stem.rsplit(".", 1)[-1]: path for path in (site / "reference/api").glob("*.html")}
    assert set(stepfold.__all__) <= set(found)
    words = {
        name: re.sub(r"<[^>]+>", "", found[name].read_text(encoding="utf-8"))
        for name in stepfold.__all__
    }
    assert all(f"from stepfold import {name}" in words[name] for name in stepfold.__all__)


def test_nothing_is_loaded_from_elsewhere(pages, site) -> None:
    loaded = {(str(page.path), address) for page in pages for address in page.loaded}
    elsewhere = [each for each in loaded if urlsplit(each[1]).netloc]
    assert elsewhere == []
    sheets = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    addresses = [url for sheet in sheets for url in re.findall(r"url\(([^)]+)\)", sheet)]
    imported = [rule for sheet in sheets for rule in re.findall(r"@import[^;]+", sheet)]
    assert [url for url in addresses if re.match(r"[\"']?(https?:)?//", url)] == []
    assert [rule for rule in imported if "//" in rule] == []


def test_every_page_has_a_policy_before_whatever_it_rules(pages) -> None:
    own = [page for page in pages if page.path.name != "explore.html"]
    assert [page.path.name for page in own if "default-src 'self'" not in page.policy] == []
    assert [page.path.name for page in own if page.before_policy] == []
    assert [page.path.name for page in pages if re.search(r"https?:", page.policy)] == []


def test_no_link_within_the_site_is_broken(pages) -> None:
    assert {str(page.path): page.missing() for page in pages if page.missing()} == {}


def test_the_contents_of_the_whole_site_stand_on_every_page(site) -> None:
    written = [page.relative_to(DOCS).with_suffix(".html") for page in sources()]
    listed = {path for path in written if path.name != "index.html"}
    page = site / "start" / "tutorial.html"
    contents = re.search(
        r'<nav class="site-contents".*?</nav>', page.read_text(encoding="utf-8"), re.DOTALL
    )
    links = re.findall(r'href="([^"#]*)"', contents[0])
    found = {(page.parent / link).resolve() if link else page for link in links}
    assert {site / path for path in listed} - {page} <= {*found, page}
    assert contents[0].count("<summary>") == len(SECTIONS)


def test_formulas_are_elements_and_no_script_draws_them(pages, site) -> None:
    assert any("math" in page.tags for page in pages)
    scripts = {address.lower() for page in pages for address in page.loaded}
    assert [address for address in scripts if "mathjax" in address or "katex" in address] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_cut_asks_the_network_or_reports_an_error(
    visit, site, pages, width, dark
) -> None:
    seen = visit(site / "index.html", width=width, dark=dark)
    faults: dict[str, list[str]] = {}
    for page in pages:
        seen.page.goto(page.path.as_uri(), wait_until="load")
        cut = seen.page.evaluate(CUT)
        if seen.page.evaluate(WIDER) or cut or seen.errors:
            faults[str(page.path.relative_to(site))] = [*cut, *seen.errors]
            seen.errors.clear()
    assert faults == {}
    seen.assert_quiet()


def test_all_sections_stand_in_the_open_at_the_top(visit, site) -> None:
    seen = visit(site / "index.html")
    bar = seen.page.locator(".bd-header .bd-navbar-elements")
    assert [words.strip() for words in bar.first.locator("li a").all_inner_texts()] == [
        section.capitalize() for section in SECTIONS
    ]
    assert bar.first.locator("li.dropdown, .dropdown-toggle").count() == 0
