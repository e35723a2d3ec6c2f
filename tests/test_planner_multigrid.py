"""A plan names multigrid where counted steps say that it pays, and nowhere else."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import cg

from stepfold import LeastSquares, Quadratic, SpectralBounds, plan
from stepfold.planner import Plan
from stepfold.planner.multigrid import COSTS, _steps_of_conjugate_gradients, multigrid_advice


def chain(size, ends=0.0):
    diagonal = np.r_[1 + ends, np.full(size - 2, 2.0), 1 + ends]
    return sp.diags_array(
        [diagonal, -np.ones(size - 1), -np.ones(size - 1)], offsets=[0, 1, -1], format="csr"
    )


def strip(width=16, length=1200, conductivity=1.0):
    """A plate held at 0 at its two far ends: heat has ``length`` cells to travel."""
    across, along = sp.eye_array(width), sp.eye_array(length)
    far = sp.kron(across, chain(length, ends=1.0))
    return sp.csr_array(far * conductivity + sp.kron(chain(width), along))


def random_graph(size=20_000, degree=6, shift=1e-4):
    rng = np.random.default_rng(0)
    heads, tails = rng.integers(0, size, (2, size * degree // 2))
    links = sp.coo_array((np.ones(heads.size), (heads, tails)), shape=(size, size))
    links = sp.csr_array(links + links.T)
    links.setdiag(0)
    links.eliminate_zeros()
    return sp.csr_array(sp.diags_array(links.sum(axis=1) + shift) - links)


def posed(matrix, seed=1):
    return Quadratic(matrix, np.random.default_rng(seed).standard_normal(matrix.shape[0]))


@pytest.mark.parametrize("rtol", [1e-3, 1e-8])
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_counted_steps_are_those_of_conjugate_gradients(spread, rtol):
    rng = np.random.default_rng(0)
    scale = sp.diags_array(10 ** (spread * rng.random(3000)))
    matrix = sp.csr_array(scale @ (chain(3000) + 0.01 * sp.eye_array(3000)) @ scale)
    diagonal, b = matrix.diagonal(), rng.standard_normal(3000)
    # In the norm of D⁻¹, as ours: SciPy's own test is on another one.
    residuals = []

    def look(x):
        r = b - matrix @ x
        residuals.append(np.sqrt(r @ (r / diagonal)))

    cg(matrix, b, rtol=1e-14, maxiter=400, M=sp.diags_array(1 / diagonal), callback=look)
    wanted = 1 + int(np.argmax(np.array(residuals) <= rtol * np.sqrt(b @ (b / diagonal))))
    assert abs(_steps_of_conjugate_gradients(matrix, diagonal, b, rtol) - wanted) <= 1


@pytest.mark.parametrize("format", ["csr", "csc", "coo"])
def test_a_plate_with_a_long_way_for_heat_is_for_multigrid(format):  # noqa: A002
    sentence, row = multigrid_advice(posed(strip().asformat(format)), 1e-8)
    assert "Multigrid is probably cheaper" in sentence
    assert 'stepfold.interop.pyamg.solver(A).solve(b, tol=1e-08, accel="cg")' in sentence
    assert "multigrid" in row.name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_conductivities_whose_sums_are_rounded_are_recognised(dtype):
    matrix = strip(16, 1300, conductivity=1 / 3).astype(dtype)
    assert multigrid_advice(Quadratic(matrix, np.ones(20800, dtype)), 1e-6) is not None


def test_a_plan_says_so_first_and_keeps_it_as_a_record():
    advice = plan(posed(strip(length=1100)), rtol=1e-8, bounds=SpectralBounds(0.0, 8.0))
    assert advice.advice[0].startswith("Multigrid is probably cheaper.")
    assert advice.alternatives[0].name.startswith("multigrid")
    assert Plan.from_dict(advice.to_dict()).advice == advice.advice


def test_without_a_right_hand_side_a_random_one_is_counted():
    matrix = strip()
    sentence, _ = multigrid_advice(Quadratic(matrix, np.zeros(matrix.shape[0])), 1e-8)
    assert "for a random right-hand side" in sentence


@pytest.mark.parametrize("is_there", [True, False])
def test_without_pyamg_the_advice_says_how_to_install_it(monkeypatch, is_there):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if is_there else None)
    sentence, _ = multigrid_advice(posed(strip()), 1e-8)
    assert ("`pip install '.[pyamg]'` from a clone" in sentence) is not is_there


def test_multigrid_keeps_what_the_plan_says_of_it():
    pytest.importorskip("pyamg", reason="pyamg is not installed: pip install '.[pyamg]'")
    from stepfold.interop.pyamg import solver

    matrix = strip()
    b = np.random.default_rng(1).standard_normal(matrix.shape[0])
    residuals = []
    solver(matrix).solve(b, tol=1e-8, accel="cg", residuals=residuals)
    # 45 to 215 products, at five for a cycle.
    assert 5 * (len(residuals) - 1) <= 215
    assert _steps_of_conjugate_gradients(matrix, matrix.diagonal(), b, 1e-8) >= COSTS[2**14][1]


def positive_links():
    matrix = strip().tolil()
    matrix[0, 5000] = matrix[5000, 0] = 0.1
    return matrix.tocsr()


NOT = {
    "well conditioned": lambda: posed(sp.csr_array(strip() + sp.eye_array(19200))),
    "random graph with one small eigenvalue": lambda: posed(random_graph()),
    "few unknowns": lambda: posed(strip(8, 1200)),
    "chain": lambda: posed(chain(20_000, ends=1.0)),
    "positive off-diagonal entries": lambda: posed(positive_links()),
    "not dominant": lambda: posed(sp.csr_array(strip() - 1e-5 * sp.eye_array(19200))),
    "least squares": lambda: LeastSquares(strip(), np.ones(19200)),
    "complex": lambda: Quadratic(strip().astype(complex), np.ones(19200, complex)),
    "dense": lambda: Quadratic(np.eye(5), np.ones(5)),
    "bounds alone": lambda: None,
}


@pytest.mark.parametrize("name", NOT)
def test_elsewhere_multigrid_is_not_named(name):
    assert multigrid_advice(NOT[name](), 1e-8) is None


def test_few_digits_do_not_pay_for_a_hierarchy():
    assert multigrid_advice(posed(strip(16, 1200)), 0.5) is None
