"""Plain modules become one script, or are refused."""

from __future__ import annotations

import pytest

from stepfold.lab.explorer import explorer_script
from stepfold.lab.explorer.bundle import bundle


@pytest.fixture
def run(browser):
    """Value of a JavaScript expression."""
    page = browser.new_page()
    yield page.evaluate
    page.close()


def test_modules_see_what_they_import_and_nothing_else(run) -> None:
    modules = {
        "entry.js": 'import { two } from "./part.js";\nconst hidden = 20;\n'
        "export const sum = hidden + two();\nexport function twice(x) {\n  return 2 * x;\n}\n",
        "part.js": "const hidden = 2;\nexport function two() {\n  return hidden;\n}\n",
    }
    script = bundle(modules, "entry.js")
    assert run(f"(() => {{ const m = {script}; return [m.sum, m.twice(4), m.hidden]; }})()") == [
        22,
        8,
        None,
    ]


def test_a_module_shared_by_two_runs_once() -> None:
    modules = {
        "entry.js": 'import { a } from "./a.js";\nimport { b } from "./b.js";\n'
        "export const c = a + b;\n",
        "a.js": 'import { one } from "./one.js";\nexport const a = one;\n',
        "b.js": 'import { one } from "./one.js";\nexport const b = one;\n',
        "one.js": "export const one = 1;\n",
    }
    assert bundle(modules, "entry.js").count("const one_js = ") == 1


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ({"entry.js": 'import { a } from "./a.js";\n'}, "there is no module a.js, which entry.js"),
        (
            {
                "entry.js": 'import { a } from "./a.js";\nexport const b = a;\n',
                "a.js": 'import { b } from "./entry.js";\nexport const a = b;\n',
            },
            "entry.js → a.js → entry.js",
        ),
        ({"entry.js": 'import * as all from "./a.js";\n'}, "entry.js must import by"),
        ({"entry.js": "export default 1;\n"}, "entry.js must import by"),
    ],
)
def test_what_cannot_be_put_into_one_script_is_refused(modules, words) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        bundle(modules, "entry.js")


def test_an_unknown_entry_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no module 'none\.js'; there are compute\.js"):
        explorer_script("none.js")
