"""The page that leads from a problem to a function: chart and tables agree and name what exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

START = Path(__file__).parent.parent / "docs" / "start"
DOCS = START.parent


@pytest.fixture(scope="module")
def which_method():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(START)
        import which_method

        yield which_method
        del sys.modules["which_method"]


@pytest.fixture(scope="module")
def uses(which_method) -> list[dict]:
    answers = [answer for each in which_method.QUESTIONS for answer in each["answer"]]
    return [answer for answer in answers if "short" in answer]


def test_the_page_and_the_chart_are_those_of_the_questions(which_method) -> None:
    page = (START / "which-method.md").read_text(encoding="utf-8")
    assert which_method.filled(page) == page
    assert (START / "which-method.svg").read_text(encoding="utf-8") == which_method.chart()


def test_each_question_but_the_last_leads_on_to_the_next(which_method) -> None:
    *earlier, last = which_method.QUESTIONS
    for question in earlier:
        onward = [answer for answer in question["answer"] if "short" not in answer]
        assert len(onward) == 1
        assert onward[0]["text"].endswith("go on")
    assert all("short" in answer for answer in last["answer"])


def test_every_page_that_an_answer_names_exists(uses) -> None:
    for use in uses:
        assert use["pages"]
        for page in use["pages"]:
            assert (DOCS / f"{page.lstrip('/')}.md").exists(), page


def test_the_chart_is_well_formed_and_links_each_use(which_method, uses) -> None:
    root = ElementTree.fromstring(which_method.chart())
    links = root.findall("{http://www.w3.org/2000/svg}a")
    assert len(links) == len(uses)
    width = float(root.attrib["viewBox"].split()[2])
    texts = list(root.iter("{http://www.w3.org/2000/svg}text"))
    # On average letters are 0.5 of their size wide, bold ones 0.57, in a wide font (DejaVu Sans).
    for text in texts:
        share = 0.6 if text.attrib["class"] == "ask" else 0.52
        right = float(text.attrib["x"]) + share * which_method.SIZE * len(text.text or "")
        assert right < width, text.text


def test_names_of_the_library_in_the_answers_exist(uses) -> None:
    import stepfold
    import stepfold.interop.scipy
    import stepfold.problems.out_of_core
    import stepfold.ridge
    from stepfold import distributed, interop, unfolded

    places = (
        stepfold,
        stepfold.ridge,
        stepfold.problems.out_of_core,
        interop.scipy,
        distributed,
        unfolded,
    )
    for use in uses:
        if use["code"].startswith(("numpy.", "solver(")):
            continue
        for name in re.findall(r"(?<![.\w])([A-Za-z_]\w*)\(", use["code"]):
            assert any(hasattr(place, name) for place in places), name


def test_commands_of_the_answers_are_known(uses) -> None:
    from stepfold.cli import COMMANDS

    for use in uses:
        if "command" in use:
            command = re.search(r"stepfold (\w+)", use["command"])
            assert command is not None
            assert command[1] in COMMANDS
