"""The public names, as the reference lists them, and what their docstrings say."""

from __future__ import annotations

import ast
import inspect
import operator
import re
import textwrap
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from _docs import DOCS

# A shape such as (n,) or (m, n), or the word itself.
_SHAPE = re.compile(r"\bshapes?\b|\(\.*\s*\w+,[^()]*\)|\bscalars?\b")
_UNIT = re.compile(r"\bunits?\b")
_ARRAY = re.compile(r"Array|Tensor|Matrix|ndarray")
# A year, a report's number, a standard's name, or a page that derives it.
_SOURCE = re.compile(r"\b(1[89]|20)\d\d\b|arXiv|Derived|References:|docs/theory")


@dataclass(frozen=True)
class Name:
    """A public name."""

    module: str
    path: str

    def __str__(self) -> str:
        return f"{self.module}.{self.path}"

    @cached_property
    def value(self) -> Any:
        """What it names."""
        *modules, name = self.path.split(".")
        return getattr(import_module(".".join([self.module, *modules])), name)

    @property
    def doc(self) -> str:
        """Its docstring."""
        return inspect.getdoc(self.value) or ""

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        return inspect.isclass(self.value)

    @property
    def has_signature(self) -> bool:
        """Whether it takes arguments of its own; errors and warnings take a message."""
        return not (self.is_class and issubclass(self.value, BaseException))

    @property
    def returned(self) -> str:
        """What a function returns, as it is annotated."""
        return "" if self.is_class else str(inspect.signature(self.value).return_annotation)

    def parameters(self) -> list[inspect.Parameter]:
        """The arguments that somebody gives it."""
        signature = inspect.signature(self.value)
        return [each for name, each in signature.parameters.items() if name != "self"]

    def takes_or_returns_arrays(self) -> bool:
        """Whether arrays are annotated."""
        words = [str(each.annotation) for each in self.parameters()]
        return any(map(_ARRAY.search, [*words, self.returned]))

    def says_shapes(self) -> bool:
        """Whether the docstring has a shape."""
        return bool(_SHAPE.search(self.doc))

    def is_measured(self) -> bool:
        """Whether it makes steps, bounds or a spectrum, which have units."""
        makes = re.search(r"\bSchedule\b|SpectralBounds|SpectralMeasure|Ellipse", self.returned)
        parts = ("schedules", "spectrum", "measure")
        return bool(makes) and self.module.removeprefix("stepfold.").split(".")[0] in parts

    def says_units(self) -> bool:
        """Whether the docstring has a unit."""
        return bool(_UNIT.search(self.doc))

    def is_published(self) -> bool:
        """Whether it is a formula or a method that somebody found."""
        package = self.module.removeprefix("stepfold.").split(".")[0]
        if package == "iterations":
            return str(self).rsplit(".", 1)[1] not in ("Iteration", "GradientDescent")
        makes = re.search(r"\bSchedule\b|SpectralMeasure", self.returned)
        rate = re.search(r"_(rate|bound|steps)$", self.path)
        return bool(makes or rate) and package in ("schedules", "measure", "polynomial")

    def says_source(self) -> bool:
        """Whether the docstring has one."""
        return bool(_SOURCE.search(self.doc))

    def raised(self) -> set[str]:
        """Errors about arguments that its own lines raise."""
        if self.is_class:
            functions = [vars(self.value).get(name) for name in ("__init__", "__post_init__")]
        else:
            functions = [self.value]
        found: set[str] = set()
        written = [each for each in functions if inspect.isfunction(each)]
        for function in written:
            if function.__code__.co_filename == "<string>":  # what a dataclass makes
                continue
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
            for node in ast.walk(tree):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    found.add(ast.unparse(node.exc.func))
        return {name for name in found if name in ("TypeError", "ValueError", "KeyError")}

    def unsaid(self) -> set[str]:
        """Errors that it raises and does not say."""
        said = self.doc.split("Raises:", 1)[-1] if "Raises:" in self.doc else ""
        return {name for name in self.raised() if name not in said}


def listed() -> list[Name]:
    """Every name of the reference."""
    found, module = [], ""
    for line in (DOCS / "reference" / "api.md").read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.fullmatch(r"   ([\w.]+)", line):
            found.append(Name(module, match[1]))
    return sorted(found, key=operator.attrgetter("module", "path"))
