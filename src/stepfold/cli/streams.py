"""Standard output and error: letters they cannot show, and readers that leave."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

# What is shown where an output's encoding lacks a sign; for any other one, a question mark.
PLAIN = {
    "α": "alpha", "β": "beta", "γ": "gamma", "ε": "eps", "θ": "theta", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "ω": "omega",
    "‖": "||", "½": "1/2", "·": "*", "×": "x", "−": "-", "–": "-", "—": "-", "…": "...",
    "√": "sqrt ", "²": "^2", "³": "^3", "ᵀ": "^T", "ᴴ": "^H", "⁻": "^-", "¹": "1", "∇": "grad ",
    "≤": "<=", "≥": ">=", "≈": "~", "→": "->", "←": "<-", "∞": "inf", "∫": "integral ",
    "∈": "in", "∝": "~", "₀": "_0", "₁": "_1", "₂": "_2", "‘": "'", "’": "'",
    "“": '"', "”": '"', "₊": "_+", "ₜ": "_t", "ᵢ": "_i", "ₖ": "_k",
}  # fmt: skip


# ASCII by a name of its own: click takes "ascii" for a mistake and writes UTF-8 instead.
ASCII = "stepfold_ascii"


def prepare() -> None:
    """Let both streams write something else for what their encoding lacks; a closed one nothing."""
    codecs.register_error("stepfold.plain", _plain)
    codecs.register(_find_ascii)
    # Closed from outside (`>&-`) they are None.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=ASCII if is_ascii else None, errors="stepfold.plain")


def _find_ascii(name: str) -> codecs.CodecInfo | None:
    if name != ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        incrementalencoder=plain.incrementalencoder,
        incrementaldecoder=plain.incrementaldecoder,
        name=ASCII,
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in signs), error.end


def flush() -> None:
    """Write what is left, while an error can still be told."""
    sys.stdout.flush()


def give_up() -> None:
    """Write to nowhere from now on: closing standard output would complain once more."""
    with contextlib.suppress(OSError, ValueError):
        number = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
