"""A family of named things that finds its own members: one new file adds one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar, cast

Member = TypeVar("Member")
Exact = TypeVar("Exact")


def suggestion(name: object, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name, or what there is.

    >>> suggestion("lebedew", ["leja", "lebedev"]), suggestion("x", ["leja"])
    ('did you mean lebedev?', 'there are leja')
    """
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(known) or 'none'}"


class Registry(Mapping[str, Member]):
    """Read-only mapping from a name to a member of one family.

    Members register where they are defined. The package's modules are imported when the mapping is
    first read, so that a family costs nothing until somebody asks for it by name.

    Args:
        noun: What one member is called, in error messages.
        package: Dotted name of the package whose modules hold the members.
    """

    def __init__(self, noun: str, package: str) -> None:
        self._noun = noun
        self._package = package
        self._members: dict[str, Member] = {}
        self._complete = False

    def register(self, name: str) -> Callable[[Exact], Exact]:
        """Return a decorator that adds its argument under ``name`` and hands it back unchanged."""

        # The decorated name keeps its own, wider signature; that it fits the family's is for the
        # shared tests of members to show.
        def add(member: Exact) -> Exact:
            if name in self._members:
                raise ValueError(
                    f"the {self._noun} {name!r} is registered twice; rename one of them"
                )
            self._members[name] = cast(Member, member)
            return member

        return add

    def _discover(self) -> dict[str, Member]:
        if not self._complete:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            self._complete = True
        return self._members

    def __getitem__(self, name: str) -> Member:
        members = self._discover()
        if name not in members:
            raise KeyError(f"there is no {self._noun} {name!r}; {suggestion(name, self)}")
        return members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._discover()))

    def __len__(self) -> int:
        return len(self._discover())
