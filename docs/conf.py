"""Sphinx configuration. Everything is local: the pages open without a network."""

from pathlib import Path
from typing import Any

import stepfold
from stepfold.lab.explorer import explorer_page

project = "stepfold"
author = "The stepfold developers"
release = version = stepfold.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# The docstrings' single backticks name things; they are not always links.
default_role = "code"
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "stepfold"
html_theme_options = {"show_prev_next": False, "navigation_with_keys": True}
suppress_warnings = ["config.cache"]


def setup(app: Any) -> None:
    app.connect("build-finished", write_explorer)


def write_explorer(app: Any, exception: Exception | None) -> None:
    """The explorer as a page of the site: explorer.md links to it."""
    if exception is None and app.builder.format == "html":
        page = Path(app.outdir) / "explore.html"
        page.write_text(explorer_page(), encoding="utf-8")
