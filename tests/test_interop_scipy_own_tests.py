"""SciPy's own tests of its solvers, run with ours in their place."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

tests = pytest.importorskip("scipy.sparse.linalg._isolve.tests", reason="SciPy without its tests")
FOLDER = Path(tests.__file__).parent

AS_SCIPY = """
from stepfold.interop.scipy import lsq_chebyshev

def lsqr(A, b, damp=0.0, atol=1e-6, btol=1e-6, conlim=1e8, iter_lim=None, show=False,
         calc_var=False, x0=None):
    return (*lsq_chebyshev(A, b, damp, atol, btol, iter_lim, x0)[:9], None)

def lsmr(A, b, damp=0.0, atol=1e-6, btol=1e-6, conlim=1e8, maxiter=None, show=False, x0=None):
    r = lsq_chebyshev(A, b, damp, atol, btol, maxiter, x0)
    return r.x, r.istop, r.itn, r.r1norm, r.arnorm, r.anorm, r.acond, r.xnorm

"""


def _iterative(source: str) -> str:
    start = source.index("_SOLVERS")
    end = source.index("]", start) + 1
    ours = "from stepfold.interop.scipy import chebyshev as cg\n_SOLVERS = [cg]\n"
    return source[:start] + ours + source[end:]


def _least_squares(source: str) -> str:
    source = re.sub(r"^from scipy\S* import (lsqr|lsmr)\n", "", source, flags=re.M)
    source = source.replace("from .test_lsqr import", "from test_lsqr import")
    last = list(re.finditer(r"^(import|from) .*\n", source, flags=re.M))[-1].end()
    return source[:last] + AS_SCIPY + source[last:]


@pytest.mark.parametrize("name", ["iterative", "lsqr", "lsmr"])
def test_ours_pass_where_scipys_do(tmp_path: Path, name: str) -> None:
    edit = _iterative if name == "iterative" else _least_squares
    for needed in {name, "lsqr"}:
        source = (FOLDER / f"test_{needed}.py").read_text()
        edited = edit(source) if needed == name else _least_squares(source)
        (tmp_path / f"test_{needed}.py").write_text(edited)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    # ODL's plugin is not one for the pytest that is pinned.
    plugins = ("no:cacheprovider", "no:xdist", "no:odl_plugins")
    command = [sys.executable, "-m", "pytest", "-q", *(f"-p{name}" for name in plugins)]
    done = subprocess.run(
        [*command, "-W", "ignore", f"test_{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"(\d+) passed", done.stdout)
