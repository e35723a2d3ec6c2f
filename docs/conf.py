"""Sphinx configuration. Everything is local: the pages open without a network."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import stepfold
from stepfold.lab.explorer import explorer_page

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "stepfold"
author = "The stepfold developers"
release = version = stepfold.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "contents",
    "gallery",
    "mathml",
]
exclude_patterns = ["_build", "_ext"]
suppress_warnings = ["config.cache"]
templates_path = ["_templates"]
# The docstrings' single backticks name things; they are not always links.
default_role = "code"

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_context = {"top": stepfold.__all__}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"FloatArray": "FloatArray", "NDArray": "NDArray"}
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "stepfold"
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "navigation_with_keys": True,
}
html_context = {"default_mode": "auto"}  # light or dark, as the system is
html_sidebars = {"**": ["contents"]}
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ |In \[\d*\]: "
copybutton_prompt_is_regexp = True


def library() -> str:
    """What the library's sources are, in few letters."""
    digest = hashlib.sha256()
    for path in sorted(Path(stepfold.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# Pages with `{code-cell}` run when the site is built, in an empty folder. What they printed is kept
# for as long as neither the page nor the library changes.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed" / library())
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 120
nb_merge_streams = True


def write_kernel_settings() -> None:
    """Figures of pages are drawings, not pixels; no history is kept."""
    folder = HERE / "_build" / "ipython"
    settings = folder / "profile_default" / "ipython_kernel_config.py"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(
        'c.InlineBackend.figure_formats = {"svg"}\nc.HistoryManager.enabled = False\n',
        encoding="utf-8",
    )
    os.environ["IPYTHONDIR"] = str(folder)


write_kernel_settings()

# Whatever a page holds, it loads nothing from elsewhere.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; base-uri 'none'; form-action 'self'"
)


def setup(app: Any) -> None:
    app.connect("html-page-context", add_policy)
    app.connect("build-finished", write_explorer)


def add_policy(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """The policy stands before everything that it rules."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    context["metatags"] = meta + context.get("metatags", "")


def write_explorer(app: Any, exception: Exception | None) -> None:
    """The explorer as a page of the site: explorer.md links to it."""
    if exception is None and app.builder.format == "html":
        page = Path(app.outdir) / "explore.html"
        page.write_text(explorer_page(), encoding="utf-8")
