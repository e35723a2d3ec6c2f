"""Which path a problem takes, what it does without a compiler, and that nothing is written to."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import aslinearoperator

from stepfold import LeastSquares, Problem, Quadratic, chebyshev_steps, solve
from stepfold import kernels as kernels_module
from stepfold.kernels import KernelWarning, _compiler, _threads
from stepfold.spectrum import SpectralBounds

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((60, 40))
SYMMETRIC = sp.csr_array(MATRIX.T @ MATRIX)
RHS, X = RNG.standard_normal(60), RNG.standard_normal(40)
SIXTY = np.ones(60)


@pytest.fixture
def no_size_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_module, "SMALLEST_DENSE", 0)
    monkeypatch.setattr(kernels_module, "SMALLEST_SPARSE", 0)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_compiler, "REASONS", [])
    _compiler._compile.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    yield
    _compiler._compile.cache_clear()


def plain_step(problem: Any, x: Any, gamma: float) -> Any:
    matrix = problem.operator
    return x - gamma * (matrix.conj().T @ (matrix @ x - problem.rhs) + problem.ridge * x)


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize(
    ("convert", "kernel"),
    [
        (np.ascontiguousarray, "DenseRows"),
        (np.asfortranarray, "DenseColumns"),
        (sp.csr_array, "SparseRows"),
        (sp.csc_array, "SparseColumns"),
        (sp.coo_array, "SparseRows"),  # which becomes CSR
        (sp.csr_matrix, "SparseRows"),
    ],
)
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_steps_and_gradients_are_swept(
    convert: Callable[..., Any], kernel: str, ridge: float
) -> None:
    problem = LeastSquares(convert(MATRIX), RHS, ridge=ridge)
    assert problem.kernel == kernel
    step = problem.gradient_step(X, 0.01)
    gradient = problem.gradient(X)
    assert problem._sweep is not None
    assert problem._sweep.num_calls == 2
    np.testing.assert_allclose(step, plain_step(problem, X, 0.01), rtol=1e-12)
    np.testing.assert_allclose(X - 0.01 * gradient, step, rtol=1e-12)


@pytest.mark.usefixtures("no_size_too_small")
def test_quadratics_in_csr_are_swept() -> None:
    problem = Quadratic(SYMMETRIC, X)
    assert problem.kernel == "SparseSymmetric"
    expected = X - 0.01 * (SYMMETRIC @ X - X)
    np.testing.assert_allclose(problem.gradient_step(X, 0.01), expected, rtol=1e-12)
    np.testing.assert_allclose(problem.gradient(X), SYMMETRIC @ X - X, rtol=1e-11)


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize(
    "problem",
    [
        LeastSquares(aslinearoperator(MATRIX), RHS),
        LeastSquares(torch.tensor(MATRIX), torch.tensor(RHS)),
        LeastSquares(MATRIX, np.ones(60, np.longdouble)),
        LeastSquares(MATRIX, RHS * 1j),
        LeastSquares(MATRIX * 1j, RHS * 1j),
        LeastSquares(np.asfortranarray(MATRIX * 1j).astype(np.complex64), RHS.astype(np.complex64)),
        LeastSquares(MATRIX, np.ones((9, 60))),
        LeastSquares(np.ones((60, 2)), RHS),
    ],
    ids=[
        "LinearOperator",
        "torch",
        "longdouble",
        "real matrix, complex data",
        "complex128",
        "complex by columns",
        "nine right-hand sides",
        "two columns",
    ],
)
def test_what_has_no_kernel_takes_the_plain_path(problem: Problem) -> None:
    rebuilt = LeastSquares(problem.operator, problem.rhs)  # with the sizes of the fixture
    assert rebuilt.kernel is None


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize(
    "matrix",
    [
        np.repeat(MATRIX, 2, axis=1)[:, ::2],
        MATRIX.astype(">f8"),
        np.frombuffer(b"?" + MATRIX.tobytes(), np.uint8)[1:].view(np.float64).reshape(60, 40),
    ],
    ids=["every other column", "big-endian", "misaligned"],
)
def test_arrays_that_kernels_cannot_read_take_the_plain_path(matrix: np.ndarray) -> None:
    problem = LeastSquares(matrix, RHS)
    assert problem.kernel is None
    np.testing.assert_allclose(
        problem.gradient_step(X, 0.01), X - 0.01 * MATRIX.T @ (MATRIX @ X - RHS), rtol=1e-12
    )


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize("convert", [sp.csr_array, sp.csc_array])
def test_sparse_arrays_in_the_other_byte_order_are_copied(convert: Callable[..., Any]) -> None:
    matrix = convert(MATRIX)
    matrix.data = matrix.data.astype(">f8")
    problem = LeastSquares(matrix, RHS)
    assert problem.kernel is not None
    assert matrix.data.dtype == ">f8"
    expected = X - 0.01 * MATRIX.T @ (MATRIX @ X - RHS)
    np.testing.assert_allclose(problem.gradient_step(X, 0.01), expected, rtol=1e-12)


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize(
    "convert", [np.ascontiguousarray, np.asfortranarray, sp.csr_array, sp.csc_array]
)
def test_arrays_may_be_read_only_and_are_not_written_to(convert: Callable[..., Any]) -> None:
    matrix, rhs, x = convert(MATRIX.copy(order="K")), RHS.copy(), X.copy()
    for array in (rhs, x, *([matrix.data, matrix.indices] if sp.issparse(matrix) else [matrix])):
        array.flags.writeable = False
    problem = LeastSquares(matrix, rhs)
    step = problem.gradient_step(x, 0.01)
    assert problem._sweep is not None
    assert problem._sweep.num_calls == 1
    assert step.flags.writeable
    assert not np.shares_memory(step, x)


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize("convert", [np.ascontiguousarray, sp.csr_array, sp.csc_array])
def test_a_problem_that_was_swept_can_be_pickled(convert: Callable[..., Any]) -> None:
    problem = LeastSquares(convert(MATRIX), RHS)
    step = problem.gradient_step(X, 0.01)
    copied = pickle.loads(pickle.dumps(problem))
    assert copied.kernel == problem.kernel
    np.testing.assert_array_equal(copied.gradient_step(X, 0.01), step)


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_may_lie_anywhere(order: Any) -> None:
    x = np.repeat(np.asarray([X, 2 * X], order=order), 2, axis=1)[:, ::2]
    rhs = np.repeat(np.asarray([RHS, SIXTY], order=order), 3, axis=0)[::3]
    problem = LeastSquares(MATRIX, rhs)
    expected = x - 0.01 * (x @ MATRIX.T - rhs) @ MATRIX
    np.testing.assert_allclose(problem.gradient_step(x, 0.01), expected, rtol=1e-12)
    assert problem._sweep is not None
    assert problem._sweep.num_calls == 1


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize(
    ("x", "gamma"),
    [
        (X.astype(np.float32), 0.01),
        (np.array([X, X]), 0.01),
        (X * 1j, 0.01),
        (X, np.full(40, 0.01)),
        (X, np.longdouble(0.01)),
        (X, 0.01j),
    ],
    ids=["float32", "batch", "complex", "a step each", "longdouble step", "complex step"],
)
def test_iterates_and_steps_of_another_kind_take_the_plain_path(x: Any, gamma: Any) -> None:
    problem = LeastSquares(MATRIX, RHS)
    expected = x - gamma * ((x @ MATRIX.T - RHS) @ MATRIX)
    step = problem.gradient_step(x, gamma)
    np.testing.assert_allclose(step, expected, rtol=1e-6)
    assert step.dtype == expected.dtype
    assert problem._sweep is not None
    assert problem._sweep.num_calls == 0


def test_small_problems_do_not_load_the_compiler() -> None:
    code = """
        import sys, numpy as np, scipy.sparse as sp
        from stepfold import LeastSquares, Quadratic
        LeastSquares(np.ones((100, 100)), np.ones(100)).gradient_step(np.ones(100), 0.1)
        Quadratic(sp.eye_array(100).tocsr(), np.ones(100)).gradient_step(np.ones(100), 0.1)
        assert "numba" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


LARGE = """
    import sys, numpy as np, scipy.sparse as sp
    from stepfold import LeastSquares, Quadratic, kernels, solve
    from stepfold.kernels import _compiler
    kernels.SMALLEST_DENSE = kernels.SMALLEST_SPARSE = 0
    problem = LeastSquares(np.ones((40, 30)) + np.eye(40, 30), np.arange(40.0))
"""


@pytest.mark.parametrize(
    ("code", "is_loaded"),
    [
        ("solve(problem)", False),
        ("solve(problem); solve(problem)", True),
        ("_compiler.READ_BEFORE_LOADING = 1000; solve(problem)", True),
        ("kernels.load(); solve(problem)", True),
        ("_compiler.READ_BEFORE_LOADING = 20000; [problem.gradient(np.ones(30))] * 99", False),
        (
            "_compiler.READ_BEFORE_LOADING = 2 * 40 * 30 * 8 * 3; x = np.ones(30);"
            "[problem.gradient(x) for _ in range(3)]; assert 'numba' not in sys.modules;"
            "problem.gradient(x); assert problem._sweep.num_calls == 1",
            True,
        ),
    ],
    ids=["one run", "two runs", "one long run", "load", "one gradient", "four gradients"],
)
def test_the_compiler_is_loaded_once_it_pays(code: str, is_loaded: bool) -> None:
    code = f"{textwrap.dedent(LARGE)}\n{code}\nassert ('numba' in sys.modules) == {is_loaded}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


@pytest.mark.usefixtures("no_size_too_small", "no_compiler")
def test_without_a_compiler_everything_works_and_is_said_once() -> None:
    problem = LeastSquares(MATRIX, RHS, ridge=0.5)
    with pytest.warns(KernelWarning, match=r"numba cannot be imported.*NumPy and SciPy take") as w:
        step = problem.gradient_step(X, 0.01)
    assert len(w) == 1
    np.testing.assert_allclose(step, plain_step(problem, X, 0.01), rtol=1e-12)
    assert problem.kernel is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem.gradient_step(X, 0.01)
        assert LeastSquares(MATRIX, RHS).kernel is None


@pytest.mark.usefixtures("no_size_too_small")
def test_a_compiler_that_fails_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiler, "REASONS", [])

    def fail(*arguments: Any) -> None:
        raise LookupError("no such instruction")

    monkeypatch.setattr(_compiler, "_compile", fail)
    problem = Quadratic(SYMMETRIC, X)
    with pytest.warns(KernelWarning, match="cannot compile `csr_step`: LookupError: no such"):
        step = problem.gradient_step(X, 0.01)
    np.testing.assert_allclose(step, X - 0.01 * (SYMMETRIC @ X - X), rtol=1e-12)


SWEEP = """
    import numpy as np, scipy.sparse as sp
    from stepfold import Quadratic, kernels
    kernels.SMALLEST_SPARSE = 0
    kernels.load()
    problem = Quadratic(sp.eye_array(300).tocsr(), np.ones(300))
    def step():
        assert problem.gradient_step(np.zeros(300), 0.5).tolist() == [0.5] * 300
        assert problem._sweep.num_calls > 0
"""


def run_code(code: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SWEEP) + textwrap.dedent(code)],
        check=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # a folder cannot be made below a file
    run_code("step()", NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_may_fork_after_a_sweep() -> None:
    run_code(
        """
        import os, warnings
        warnings.simplefilter("ignore")  # newer Pythons warn of threads
        step()
        child = os.fork()
        if child == 0:
            step()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        NUMBA_NUM_THREADS="2",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("delay", [0.05, 0.3])
def test_a_process_may_fork_while_a_thread_loads_the_compiler(delay: float, tmp_path: Path) -> None:
    run_code(
        f"""
        import os, signal, threading, time, warnings
        warnings.simplefilter("ignore")  # newer Pythons warn of threads
        thread = threading.Thread(target=kernels.load)
        compiles = threading.Thread(target=step)
        for each in (thread, compiles):
            each.start()
        time.sleep({delay})
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            step()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        compiles.join()
        """,
        NUMBA_CACHE_DIR=str(tmp_path),
    )


@pytest.mark.usefixtures("no_size_too_small")
def test_problems_may_be_swept_from_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    problem = LeastSquares(MATRIX, RHS)
    expected = problem.gradient_step(X, 0.01)
    wrong: list[int] = []

    def work() -> None:
        for k in range(50):
            if not np.array_equal(problem.gradient_step(X, 0.01), expected):
                wrong.append(k)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_error_in_a_thread_is_raised_where_it_was_called() -> None:
    def fail(part: int) -> None:
        if part == 1:
            raise ZeroDivisionError("part 1")

    with pytest.raises(ZeroDivisionError, match="part 1"):
        _threads.run(fail, [(0,), (1,), (2,)])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"NUMBA_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5), ({"OMP_NUM_THREADS": "3"}, 3)],
)
def test_the_environment_says_how_many_threads(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: int
) -> None:
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _threads.num_threads() == expected


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [0, 0, 0], [9], [100, 0, 0, 0]])
def test_ranges_cover_every_row_once(counts: list[int], parts: int) -> None:
    starts = np.concatenate([[0], np.cumsum(counts)])
    for ranges in (
        _threads.split_by_weight(starts, parts),
        _threads.split_evenly(len(counts), parts),
    ):
        assert [i for start, stop in ranges for i in range(start, stop)] == list(range(len(counts)))
        assert len(ranges) <= parts


@pytest.mark.usefixtures("no_size_too_small")
@pytest.mark.parametrize("kernel", [True, False])
def test_solve_finds_the_same_solution_with_and_without_a_kernel(
    kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:
        monkeypatch.setattr(kernels_module, "SMALLEST_DENSE", 2**60)
    problem = LeastSquares(MATRIX, RHS)
    assert (problem.kernel is not None) == kernel
    eigenvalues = np.linalg.svd(MATRIX, compute_uv=False) ** 2
    bounds = SpectralBounds(eigenvalues[-1], eigenvalues[0])
    result = solve(problem, chebyshev_steps(bounds, 32), rtol=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.lstsq(MATRIX, RHS)[0], rtol=1e-8)


@pytest.mark.parametrize(
    "convert",
    [lambda a: a, sp.csr_array, sp.csc_array, aslinearoperator, torch.tensor],
    ids=["dense", "csr", "csc", "LinearOperator", "torch"],
)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_complex_gradients_have_the_adjoint(
    convert: Callable[..., Any], batch: tuple[int, ...]
) -> None:
    matrix = MATRIX + 1j * RNG.standard_normal(MATRIX.shape)
    rhs = RNG.standard_normal((*batch, 60)) + 1j
    x = RNG.standard_normal((*batch, 40)) - 1j
    array = torch.tensor if convert is torch.tensor else np.asarray
    problem = LeastSquares(convert(matrix), array(rhs), ridge=0.5)
    expected = (x @ matrix.T - rhs) @ matrix.conj() + 0.5 * x
    np.testing.assert_allclose(np.asarray(problem.gradient(array(x))), expected, rtol=1e-10)
    np.testing.assert_allclose(
        np.asarray(problem.linear_term), rhs @ matrix.conj(), rtol=1e-10, atol=1e-10
    )


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)
def test_threads_keep_away_from_the_core_of_their_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.sched_getaffinity(0)
    here = min(allowed)
    monkeypatch.setattr(_threads, "_current_cpu", lambda: lambda: here)
    monkeypatch.setattr(_threads, "_avoided", (-1, 0))
    seen: dict[int, set[int]] = {}
    both = threading.Barrier(2)

    def look() -> None:
        both.wait(timeout=60)  # so that neither takes the other's call
        seen[threading.get_native_id()] = os.sched_getaffinity(0)

    _threads.run(look, [(), ()])
    assert seen.pop(threading.get_native_id()) == allowed
    assert list(seen.values()) == [allowed - {here}]
