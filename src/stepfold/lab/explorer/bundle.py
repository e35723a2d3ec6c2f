"""One script from plain modules: pages opened from a file may not import any.

Each module becomes a function's body that returns what it exports; an import becomes a
destructuring of that. The modules stay as they are for whoever can import them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(
    r"^export (?=(?:async )?(?:function\*?|const|let|class) ([\w$]+))", re.MULTILINE
)


def bundle(modules: Mapping[str, str], entry: str) -> str:
    """Return a script that runs the modules an entry needs, and yields the entry's exports.

    Args:
        modules: Text of each module, by its file name.
        entry: File name of the module whose exports are wanted.

    Returns:
        An expression; its value is an object of the entry's exports.

    Raises:
        ValueError: If a module is missing, or imports itself through others.

    >>> bundle({"a.js": "export const one = 1;\\n"}, "a.js").splitlines()[1]
    'const a_js = (() => {'
    """
    parts: list[str] = []
    done: set[str] = set()

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in importers:
            raise ValueError(
                f"modules must not import each other: {' → '.join((*importers, name))}"
            )
        if name not in modules:
            raise ValueError(f"there is no module {name}, which {importers[-1]} imports")
        text = modules[name]
        for _, other in _IMPORT.findall(text):
            add(other, (*importers, name))
        done.add(name)
        body = _IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_variable(found[2])};\n", text)
        exports = ", ".join(_EXPORT.findall(body))
        body = _EXPORT.sub("", body)
        if re.search(r"^(import|export)\b", body, re.MULTILINE):
            raise ValueError(f'{name} must import by `import {{…}} from "./…";` and export names')
        parts.append(
            f"const {_variable(name)} = (() => {{\n{body}return {{ {exports} }};\n}})();\n"
        )

    add(entry, ())
    return f"(() => {{\n{''.join(parts)}return {_variable(entry)};\n}})()"


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name)
