"""What `import stepfold` loads, and what it offers."""

import inspect
import subprocess
import sys

import pytest

import stepfold

HEAVY = ["torch", "numba", "matplotlib", "plotly", "click", "rich", "scipy.sparse.linalg"]


@pytest.fixture(scope="module")
def modules_after_import() -> set[str]:
    code = "import sys, stepfold; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", HEAVY)
def test_a_plain_import_leaves_heavy_packages_alone(
    name: str, modules_after_import: set[str]
) -> None:
    assert "stepfold.solve" in modules_after_import
    assert name not in modules_after_import


@pytest.mark.parametrize("name", stepfold.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    member = getattr(stepfold, name)
    assert inspect.getdoc(member)
    assert member.__module__.startswith("stepfold.")


def test_public_names_are_few_and_unique() -> None:
    assert len(set(stepfold.__all__)) == len(stepfold.__all__) <= 25


def test_a_solve_on_arrays_does_not_load_torch() -> None:
    code = (
        "import sys, numpy as np; sys.modules['torch'] = None\n"
        "from stepfold import *\n"
        "problem = Quadratic(np.diag([1.0, 2.0]), np.ones(2))\n"
        "print(solve(problem, chebyshev_steps(estimate_bounds(problem), 4)).status.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CONVERGED"


def test_star_import_brings_the_public_names_only() -> None:
    namespace: dict[str, object] = {}
    exec("from stepfold import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(stepfold.__all__)
