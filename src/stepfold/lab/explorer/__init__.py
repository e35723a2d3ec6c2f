"""A page to play with: one HTML file that computes in the browser, without a server or a network.

Its mathematics are the plain JavaScript modules in ``js/``; a browser test holds them to the
package. Plotly comes from its Python package.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources

import numpy as np

import stepfold
from stepfold._extras import not_installed
from stepfold.lab.explorer.bundle import bundle
from stepfold.lab.explorer.subject import LONGEST, LearnedSteps, MeasuredSpectrum, Subject
from stepfold.lab.roles import DASHES, MARKERS, css, styles
from stepfold.schedules import ORDERS

# Role of each of the page's schedules; a run's steps are learned ones, too.
_FAMILIES = {
    "learned": "learned",
    "chebyshev": "chebyshev",
    "optimal": "optimal",
    "constant": "constant",
    "second-kind": "second-kind",
    "fourth-kind": "fourth-kind",
    "silver": "silver",
    "run": "learned",
}

__all__ = [
    "LearnedSteps",
    "MeasuredSpectrum",
    "Subject",
    "explorer_page",
    "explorer_script",
]


def explorer_page(subject: Subject | None = None) -> str:
    """Return the page as HTML text, complete in itself; about 5 MB, most of it plotly.

    Args:
        subject: A measured spectrum or a run's steps to start with; the published random matrix if
            not given. Texts in it are escaped.

    Raises:
        ModuleNotFoundError: If plotly is missing.

    >>> page = explorer_page()
    >>> page.startswith("<!doctype html>"), "src=" in page.split("<script>")[0]
    (True, False)
    """
    subject = Subject() if subject is None else subject
    scripts = {
        "plotly": _plotly(),
        "script": f"const {{ start }} = {explorer_script('page.js')};\n"
        'start(JSON.parse(document.getElementById("data").textContent), Plotly);\n',
    }
    # A text that gets past all escaping still runs nothing: only these two scripts may.
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in scripts.values())
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        **scripts,
        "policy": policy,
        "version": stepfold.__version__,
        "title": html.escape(f"{subject.title} · stepfold"),
        "style": css() + _text("page.css"),
        "data": _json(subject),
    }
    # In one pass, so that a text that looks like a place is not taken for one.
    return re.sub(r"\{(\w+)\}", lambda place: parts[place[1]], _text("page.html"))


def explorer_script(entry: str) -> str:
    """Return a JavaScript expression: the exports of one of the page's modules.

    Args:
        entry: File name of the module, such as "compute.js".

    Raises:
        ValueError: If there is no such module.

    >>> isinstance(explorer_script("compute.js"), str)
    True
    """
    folder = resources.files(__name__) / "js"
    modules = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
    if entry not in modules:
        raise ValueError(f"there is no module {entry!r}; there are {', '.join(sorted(modules))}")
    return bundle(modules, entry)


def _text(name: str) -> str:
    return (resources.files(__name__) / name).read_text(encoding="utf-8")


def _json(subject: Subject) -> str:
    record = {
        "title": subject.title,
        "note": subject.measured.note if subject.measured else None,
        "measured": subject.measured.to_dict() if subject.measured else None,
        "run": subject.run.to_dict() if subject.run else None,
        "styles": {
            family: {
                "variable": style.variable,
                "dash": DASHES[style.dash][1],
                "pattern": DASHES[style.dash][2],
                "symbol": MARKERS[style.marker][1],
                "outline": MARKERS[style.marker][2],
            }
            for family, style in zip(_FAMILIES, styles(_FAMILIES.values()), strict=True)
        },
        "permutations": [
            ORDERS["random"](np.ones(size)).tolist() for size in range(1, LONGEST + 1)
        ],
    }
    # Inside a script element nothing but "<" can end the data.
    return json.dumps(record, allow_nan=False).replace("<", "\\u003c")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise not_installed("the explorer needs plotly", "lab", error) from error
    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
