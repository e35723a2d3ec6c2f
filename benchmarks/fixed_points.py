"""Fixed points and proximal problems beside what people use: evaluations, gradients, seconds.

    python benchmarks/fixed_points.py                                  # everything
    python benchmarks/fixed_points.py --quick                          # small sizes, one draw
    python benchmarks/fixed_points.py --only facts maps
    python benchmarks/fixed_points.py --write docs/reference/fixed-points-benchmarks.md

Counts are exact and repeat on every machine; only the table of the large lasso is in seconds, with
turns and ratios as `_timing.py` explains. Losses are printed like wins.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from _timing import Report, with_threads
from solve import machine

PARTS = {
    "facts": "published settings",
    "lassos": "27 settings of a relaxed lasso; ISTA, FISTA and accelerate",
    "maps": "evaluations to tolerance over the gallery",
    "mixtures": "accelerate beside the plain iteration: 160 mixtures and the gallery",
    "large": "a lasso of 2000 × 5000 beside scikit-learn, celer and skglm",
}
BEGIN = "<!-- benchmarks/fixed_points.py: begin -->"
END = "<!-- benchmarks/fixed_points.py: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small sizes, one draw")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page with the markers")
    arguments = parser.parse_args()
    if arguments.write and arguments.quick:
        parser.error("--write replaces published tables: leave out --quick")
    page = arguments.write.read_text() if arguments.write else ""
    names = arguments.only or list(PARTS)
    for name in names if arguments.write else ():
        if not all(_marker(line, name) in page for line in (BEGIN, END)):
            parser.error(f"{arguments.write} has no markers for {name!r}")
    with_threads(arguments.threads)
    conditions = machine(arguments.threads, quick=arguments.quick)
    print(conditions)
    for name in names:
        begin = time.perf_counter()
        report = Report()
        run(name, report, quick=arguments.quick)
        print(f"({name}: {time.perf_counter() - begin:.0f} s)", file=sys.stderr, flush=True)
        text = f"{conditions}\n\n" if name == "large" else ""
        text += "\n".join([*report.tables, *(f"- {note}" for note in report.notes)])
        begin_line, end_line = _marker(BEGIN, name), _marker(END, name)
        pattern = re.compile(f"{re.escape(begin_line)}.*?{re.escape(end_line)}", re.DOTALL)
        block = f"{begin_line}\n{text.rstrip()}\n{end_line}"
        page = pattern.sub(lambda _, block=block: block, page)
        if arguments.write:
            arguments.write.write_text(page)


def run(name: str, report: Report, *, quick: bool) -> None:
    """One part; NumPy and what is above it are loaded here, with the threads set."""
    import _fixed_facts as settings
    import _fixed_lasso as large
    import _fixed_maps as maps
    import _fixed_mixtures as mixtures

    {
        "facts": settings.facts,
        "lassos": settings.lassos,
        "maps": maps.evaluations,
        "mixtures": mixtures.mixtures,
        "large": large.lasso_beside,
    }[name](report, quick=quick)


def _marker(line: str, name: str) -> str:
    return line.replace(".py:", f".py {name}:")


if __name__ == "__main__":
    main()
