"""What the browser tests rely on: a bad page is seen to be bad."""

from __future__ import annotations

import pytest

PAGE = '<!doctype html><html lang="en"><title>t</title><main><h1>t</h1>{}</main></html>'


@pytest.fixture
def show(visit, tmp_path):
    """Opens a page with this content."""

    def open_page(content: str, **manner):
        (tmp_path / "page.html").write_text(PAGE.format(content))
        return visit(tmp_path / "page.html", **manner)

    return open_page


def test_a_good_page_passes(show) -> None:
    seen = show("<p>text</p>")
    seen.assert_quiet()
    seen.assert_no_sideways_scroll()
    seen.assert_accessible()


@pytest.mark.parametrize(
    "content",
    [
        "<script>console.error('no')</script>",
        "<script>throw new Error('no')</script>",
        '<img alt="a" src="missing.png">',
        '<img alt="a" src="http://127.0.0.1:9/x.png">',
        "<script>fetch('http://127.0.0.1:9/')</script>",
    ],
)
def test_errors_and_requests_are_seen(show, content) -> None:
    with pytest.raises(AssertionError):
        show(content).assert_quiet()


def test_a_request_that_leaves_the_machine_is_told_from_an_error(show) -> None:
    seen = show('<link rel="stylesheet" href="http://127.0.0.1:9/x.css">')
    seen.errors.clear()
    with pytest.raises(AssertionError, match=r"127\.0\.0\.1"):
        seen.assert_quiet()


def test_a_page_wider_than_the_window_is_seen(show) -> None:
    with pytest.raises(AssertionError):
        show('<div style="width: 500px">wide</div>', width=390).assert_no_sideways_scroll()


def test_what_shuts_readers_out_is_seen(show) -> None:
    with pytest.raises(AssertionError, match="image-alt"):
        show('<img src="data:,">').assert_accessible()
