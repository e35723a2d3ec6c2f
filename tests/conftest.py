"""Problems with a prescribed spectrum, and the settings that every test shares."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# Otherwise a failed assertion in a helper would not say what it found.
pytest.register_assert_rewrite("browser", "cli_runner")
from browser import Visitor, launch, left_out  # noqa: E402

from stepfold import kernels  # noqa: E402

settings.register_profile(
    "stepfold", deadline=None, derandomize=True, max_examples=50, database=None
)
settings.load_profile("stepfold")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run insist on a browser."""
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail the browser tests, instead of skipping them, where there is no Chromium",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say last, below pytest's own summary, how many browser tests were left out."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    sentence = left_out(terminal.stats.get("skipped", [])) if terminal else None
    if sentence:
        terminal.write_line(sentence, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def _kernels_from_the_first_step() -> None:
    """Otherwise which tests are served by kernels would depend on those before them."""
    kernels.load()


def _orthogonal(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def _symmetric(eigenvalues: Any, seed: int = 0) -> np.ndarray:
    eigenvalues = np.asarray(eigenvalues, dtype=float)
    basis = _orthogonal(eigenvalues.size, np.random.default_rng(seed))
    matrix = (basis * eigenvalues) @ basis.T
    return (matrix + matrix.T) / 2


def _factor(singular_values: Any, num_rows: int, seed: int = 0) -> np.ndarray:
    singular_values = np.asarray(singular_values, dtype=float)
    rng = np.random.default_rng(seed)
    left = _orthogonal(num_rows, rng)[:, : singular_values.size]
    return (left * singular_values) @ _orthogonal(singular_values.size, rng)


@pytest.fixture(scope="session")
def symmetric_with() -> Callable[..., np.ndarray]:
    """Builder of a symmetric matrix from its eigenvalues (n,)."""
    return _symmetric


@pytest.fixture(scope="session")
def factor_with() -> Callable[..., np.ndarray]:
    """Builder of a matrix (num_rows, n) from its singular values (n,), num_rows ≥ n."""
    return _factor


@pytest.fixture(scope="session")
def published_eigenvalues() -> np.ndarray:
    """Eigenvalues of the published experiment: n = 300, m = 600, seed 12, legacy generator."""
    rng = np.random.RandomState(12)
    matrix = rng.normal(0, 1 / np.sqrt(300), (300, 600))
    eigenvalues: np.ndarray = np.linalg.eigvalsh(matrix @ matrix.T)
    return eigenvalues


class CountingOperator:
    """A matrix that counts products with itself and with its transpose in ``counter[0]``."""

    def __init__(self, matrix: np.ndarray, counter: list[int] | None = None) -> None:
        self.matrix = matrix
        self.shape = matrix.shape
        self.counter = [0] if counter is None else counter

    @property
    def T(self) -> "CountingOperator":  # noqa: N802, RUF100 (NumPy's name)
        return CountingOperator(self.matrix.T, self.counter)

    def __matmul__(self, x: Any) -> Any:
        self.counter[0] += 1
        return self.matrix @ x


@pytest.fixture
def counting() -> type[CountingOperator]:
    """Operator that counts its own products."""
    return CountingOperator


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Headless Chromium; tests that need it are skipped, or fail, where there is none."""
    yield from launch(required=request.config.getoption("--require-browser"))


@pytest.fixture
def visit(browser: Any) -> Iterator[Visitor]:
    """Opens pages and watches them; see browser.py."""
    visitor = Visitor(browser)
    yield visitor
    visitor.close()
