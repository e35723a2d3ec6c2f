"""A family of named things that finds its members: one new file, or another package, adds one."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
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


def first_line(member: object) -> str:
    """First line of the docstring of a function, a class, or a function with arguments set.

    >>> first_line(first_line)
    'First line of the docstring of a function, a class, or a function with arguments set.'
    """
    while isinstance(member, functools.partial):
        member = member.func
    return (inspect.getdoc(member) or "").split("\n", 1)[0]


class EntryPointWarning(UserWarning):
    """A member that another package offers cannot be used."""


class Registry(Mapping[str, Member]):
    """Read-only mapping from a name to a member of one family.

    Members of this package register where they are defined. Its modules are imported when the
    mapping is first read, so that a family costs nothing until somebody asks for it by name.

    Other packages offer members by entry points. Their names are known without importing them; a
    member is imported when it is asked for.

    Args:
        noun: What one member is called, in error messages.
        package: Dotted name of the package whose modules hold the members.
        group: Group of entry points in which other packages offer members; None for none.
        kind: What a member must be; `callable` for a function or a class.
    """

    def __init__(
        self,
        noun: str,
        package: str,
        group: str | None = None,
        kind: type | Callable[[object], bool] = callable,
    ) -> None:
        self._noun = noun
        self._package = package
        self._group = group
        self._kind = kind
        self._members: dict[str, Member] = {}
        self._complete = False
        self._offered: dict[str, EntryPoint] | None = None
        self._loaded: dict[str, Member] = {}

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

    def usable(self) -> dict[str, Member]:
        """All members that can be imported, by name; a warning for each of the others."""
        found = {}
        for name in self:
            try:
                found[name] = self[name]
            except (ImportError, TypeError) as error:
                warnings.warn(str(error), EntryPointWarning, stacklevel=2)
        return found

    def offered_by(self, name: str) -> str | None:
        """Name of the package that offers a member; None for one of ours."""
        entry = self._elsewhere().get(name)
        return None if entry is None or entry.dist is None else entry.dist.name

    def _discover(self) -> dict[str, Member]:
        if not self._complete:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            self._complete = True
        return self._members

    def _elsewhere(self) -> dict[str, EntryPoint]:
        """What other packages offer, by name; our own names and those taken before are left out."""
        if self._offered is None:
            self._offered = {}
            own = self._discover()
            entries = () if self._group is None else entry_points(group=self._group)
            for entry in sorted(entries, key=_origin):
                holder = self._offered.get(entry.name)
                if holder is None and entry.name not in own:
                    self._offered[entry.name] = entry
                else:
                    warnings.warn(
                        f"the {self._noun} {entry.name!r} of {_origin(entry)} is not used: "
                        f"{'stepfold' if holder is None else _origin(holder)} has one of that "
                        "name; ask the author to rename it",
                        EntryPointWarning,
                        stacklevel=4,
                    )
        return self._offered

    def _load(self, name: str, entry: EntryPoint) -> Member:
        what = f"the {self._noun} {name!r} of {_origin(entry)}"
        try:
            member = entry.load()
        except (Exception, SystemExit) as error:
            raise ImportError(
                f"{what} cannot be imported from `{entry.value}`: {type(error).__name__}: {error}; "
                "update that package, or uninstall it"
            ) from error
        kind = self._kind
        if not (isinstance(member, kind) if isinstance(kind, type) else kind(member)):
            wanted = kind.__name__ if isinstance(kind, type) else "function or a class"
            raise TypeError(
                f"{what} must be a {wanted}, but `{entry.value}` is of type "
                f"{type(member).__name__}; update that package, or uninstall it"
            )
        return cast(Member, member)

    def __getitem__(self, name: str) -> Member:
        if name in self._discover():
            return self._members[name]
        if name not in self._loaded:
            entry = self._elsewhere().get(name)
            if entry is None:
                raise KeyError(f"there is no {self._noun} {name!r}; {suggestion(name, self)}")
            self._loaded[name] = self._load(name, entry)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in self._discover() or name in self._elsewhere()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._discover(), *self._elsewhere()}))

    def __len__(self) -> int:
        return len(self._discover()) + len(self._elsewhere())


def _origin(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else "an unknown package"
