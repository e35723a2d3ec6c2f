"""``stepfold explore``: a page to play with, in one file."""

from __future__ import annotations

import json
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import click
import numpy as np

from stepfold.cli.files import load_matrix
from stepfold.cli.options import FILE, output_option
from stepfold.cli.output import check_output, write_whole
from stepfold.cli.posing import pose
from stepfold.measure import SpectralMeasure
from stepfold.problems import Quadratic

LISTS = ".npy, .json, .txt or .csv"


@click.command()
@click.option(
    "--matrix",
    type=FILE,
    help="Start from the spectrum of this matrix (.npy, .npz, .mtx or .csv).",
)
@click.option(
    "--eigenvalues",
    type=FILE,
    help="Start from these eigenvalues (.npy, .json, .txt or .csv).",
)
@click.option(
    "--run",
    "run_folder",
    type=FILE,
    help="Show the learned steps of this run's folder, on its spectrum.",
)
@output_option("Where to write the page.")
@click.option("--open/--no-open", "opens", default=True, help="Open the page in a browser.")
@click.option("--force", is_flag=True, help="Replace the output file.")
def explore(
    matrix: Path | None,
    eigenvalues: Path | None,
    run_folder: Path | None,
    output: Path | None,
    opens: bool,
    force: bool,
) -> None:
    """Write one HTML page that computes in the browser, without a network, and open it.

    Condition number, spectrum, period, order, precision and noise can be moved; steps, residual
    polynomial, convergence and rounding follow at once. A matrix poses least squares unless it is
    symmetric positive definite. Without -o the page goes to a temporary file.

    \b
    Example:
      stepfold explore
      stepfold explore --matrix A.npz -o A.html --no-open
      stepfold explore --run runs/dugd
    """
    from stepfold.lab.explorer import Subject, explorer_page
    from stepfold.lab.explorer.sources import load_run, spectrum_of_measure

    if matrix is not None and eigenvalues is not None:
        raise click.UsageError("give --matrix or --eigenvalues, not both")
    if output is not None:
        if output.suffix.lower() not in (".html", ".htm"):
            raise click.UsageError(f"--output must end in .html, got {output}")
        check_output(output, force=force)
    run = measured = None
    if run_folder is not None:
        run, measure = load_run(run_folder)
        if measure is not None:
            path = str(run_folder / "spectrum.json")
            lines = [
                "import json",
                f'with open({path!r}, encoding="utf-8") as file:',
                "    measure = SpectralMeasure.from_dict(json.load(file))",
            ]
            measured = spectrum_of_measure(measure, lines, f"Spectrum of the run {run.name}")
    if matrix is not None:
        measured = _from_matrix(matrix)
    if eigenvalues is not None:
        measured = _from_list(eigenvalues)
    if run is not None and measured is None:
        raise click.UsageError(
            f"{run_folder} does not say which spectrum it was trained on (no spectrum.json); "
            "add --matrix or --eigenvalues"
        )
    title = Subject().title
    for source in (run_folder, eigenvalues, matrix):
        title = title if source is None else str(source)
    page = explorer_page(Subject(title, measured, run)).encode()
    if output is None:
        # Kept: the browser may read it after this process has ended.
        with tempfile.NamedTemporaryFile(
            prefix="stepfold-explore-", suffix=".html", delete=False
        ) as file:
            file.write(page)
        output = Path(file.name)
    else:
        write_whole(output, lambda file: file.write(page))
    if measured is not None:
        click.echo(f"spectrum: {measured.note}")
    click.echo(f"page: {output}")
    if opens and not webbrowser.open(output.resolve().as_uri()):
        click.echo("No browser was found; open the page by hand.", err=True)


def _from_matrix(path: Path) -> Any:
    from stepfold.lab.explorer.sources import spectrum_of_hessian

    matrix = load_matrix(path)
    posed = pose(matrix, np.zeros(matrix.shape[0], matrix.dtype), "auto", 0.0)
    name = str(path)
    reader = {
        ".npy": [f"matrix = np.load({name!r})"],
        ".mtx": ["import scipy.io", f"matrix = scipy.io.mmread({name!r}, spmatrix=False)"],
    }.get(path.suffix.lower())
    if reader is None:
        reader = [
            "from pathlib import Path",
            "from stepfold.cli.formats import read_array",
            f"matrix = read_array(Path({name!r}))",
        ]
    hessian = "matrix" if isinstance(posed.problem, Quadratic) else "Gram(matrix)"
    lines = [*reader, f"hessian = {hessian}  # {posed.why}"]
    return spectrum_of_hessian(posed.problem.hessian, lines)


def _from_list(path: Path) -> Any:
    from stepfold.lab.explorer.sources import spectrum_of_measure

    measure, reader = _read_list(path)
    return spectrum_of_measure(measure, reader, f"{measure.nodes.size:,} eigenvalues")


def _read_list(path: Path) -> tuple[SpectralMeasure, list[str]]:
    name = repr(str(path))
    suffix = path.suffix.lower()
    lines: dict[str, list[str]] = {
        ".npy": [f"eigenvalues = np.load({name}).ravel()"],
        ".txt": [
            "from pathlib import Path",
            f"eigenvalues = np.array(Path({name}).read_text().split(), dtype=float)",
        ],
        ".csv": [
            "from pathlib import Path",
            f'text = Path({name}).read_text().replace(",", " ")',
            "eigenvalues = np.array(text.split(), dtype=float)",
        ],
        ".json": ["import json", f'with open({name}, encoding="utf-8") as file:'],
    }
    if suffix not in lines:
        raise click.UsageError(f"{path}: unknown ending {path.suffix!r}; give {LISTS}")
    try:
        with path.open("rb") as file:
            values = _parse(file.read(), suffix)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except (EOFError, SyntaxError, RecursionError, TypeError, ValueError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise click.UsageError(f"{path} is not a list of eigenvalues: {detail}") from None
    try:
        if isinstance(values, dict):
            measure = SpectralMeasure.from_dict(values)
            return measure, [
                *lines[suffix],
                "    measure = SpectralMeasure.from_dict(json.load(file))",
            ]
        if np.ndim(values) == 2 and 1 in np.shape(values):
            values = np.ravel(values)
        measure = SpectralMeasure.from_eigenvalues(values)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{path} is not a spectrum: {error}") from None
    if suffix == ".json":
        lines[suffix].append("    eigenvalues = np.ravel(json.load(file))")
    return measure, [*lines[suffix], "measure = SpectralMeasure.from_eigenvalues(eigenvalues)"]


def _parse(content: bytes, suffix: str) -> Any:
    import io

    if suffix == ".npy":
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    text = content.decode()
    if suffix == ".json":
        return json.loads(text)
    words = text.replace(",", " " if suffix == ".csv" else ",").split()
    return np.array([float(word) for word in words])
