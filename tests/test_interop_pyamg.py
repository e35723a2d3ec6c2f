"""Chebyshev steps as PyAMG's smoothers, beside dense algebra and PyAMG's own smoothers."""

from __future__ import annotations

import copy
import importlib
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from stepfold import SpectralBounds, chebyshev_steps
from stepfold.interop.petsc import multigrid_options
from stepfold.kernels import smoothing
from stepfold.kernels.smoothing import LEAST_ROWS, DiagonalSteps
from stepfold.schedules import (
    SCHEDULES,
    Schedule,
    optimised_fourth_kind_steps,
    smoothing_constant,
)

pyamg = pytest.importorskip("pyamg", reason="pyamg is not installed: pip install '.[pyamg]'")
ours = importlib.import_module("stepfold.interop.pyamg")

ROOT = Path(__file__).parent.parent
FAMILIES = {
    "fourth": ours.FOURTH_KIND,
    "optimised": optimised_fourth_kind_steps,
    "first": chebyshev_steps,
}


@pytest.fixture
def is_compiled(request, monkeypatch):
    """Steps by the compiled loop, or by SciPy's products."""
    monkeypatch.setattr(smoothing, "worth_loading", lambda *_, **__: request.param)


def poisson(*shape, dtype="float64", format="csr"):  # noqa: A002 (PyAMG's name)
    return pyamg.gallery.poisson(shape, format=format, dtype=dtype)


def uneven(size=60, seed=0, dtype=np.float64):
    """Positive definite, with a diagonal of many sizes; Hermitian if complex."""
    rng = np.random.default_rng(seed)
    scale = sp.diags_array(10 ** rng.uniform(-2, 2, size))
    matrix = scale @ (poisson(size) + 0.01 * sp.eye_array(size)) @ scale
    if np.dtype(dtype).kind == "c":
        phases = sp.diags_array(np.exp(2j * np.pi * rng.random(size)))
        matrix = phases @ matrix @ phases.conj()
    return sp.csr_array(matrix).astype(dtype)


def closed_form(family, degree, upper, part, eigenvalues):
    """The residual polynomials in cosines: none of our steps takes part."""
    share = np.asarray(eigenvalues) / upper
    if family == "first":
        numerator = np.polynomial.chebyshev.Chebyshev.basis(degree)
        return numerator((1 + part - 2 * share) / (1 - part)) / numerator((1 + part) / (1 - part))
    odd = 2 * degree + 1
    if family == "fourth":
        phi = np.arcsin(np.sqrt(share))
        return np.sin(odd * phi) / (odd * np.sin(phi))
    theta = np.pi / (2 * odd)
    phi = np.arccos(share * (1 + np.cos(2 * theta)) - np.cos(2 * theta))
    return (-1) ** degree * np.sin(theta) * np.cos(odd * phi / 2) / np.cos(phi / 2)


@pytest.mark.parametrize("degree", [1, 2, 3, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_smoother_multiplies_each_eigenvector_by_the_closed_form(family, degree):
    matrix = uneven()
    smoother = ours.smoother(matrix, FAMILIES[family], degree, part=0.3)
    diagonal = matrix.diagonal()
    eigenvalues, vectors = scipy.linalg.eigh(matrix.toarray(), np.diag(diagonal))
    errors = vectors.copy()
    for column in range(60):
        error = errors[:, column].copy()
        smoother(matrix, error, np.zeros(60))
        errors[:, column] = error
    p = closed_form(family, degree, smoother.bounds.upper, 0.3, eigenvalues)
    np.testing.assert_allclose(vectors.T @ (diagonal[:, None] * errors), np.diag(p), atol=1e-11)


@pytest.mark.parametrize("is_compiled", [False, True], indirect=True)
@pytest.mark.parametrize("start", ["zero", "other"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_steps_are_those_of_the_formula_in_place_and_in_the_dtype(
    dtype, degree, start, is_compiled
):
    matrix = uneven(dtype=dtype)
    rng = np.random.default_rng(1)
    x, b = rng.standard_normal((2, 60)).astype(dtype)
    x = np.zeros_like(x) if start == "zero" else x
    inverse = 1 / matrix.diagonal().real
    gammas = list(chebyshev_steps(SpectralBounds(0.5, 2.0), degree))
    expected = x.astype("complex128")
    for gamma in gammas:
        wide = matrix.astype("complex128")
        expected = expected + gamma * inverse.astype(float) * (b - wide @ expected)
    steps = DiagonalSteps(matrix, inverse, gammas)
    before = b.copy()
    steps(x, b)
    assert x.dtype == dtype
    np.testing.assert_array_equal(b, before)
    atol = 200 * np.finfo(dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(x, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("is_compiled", [True], indirect=True)
def test_threads_share_the_rows(monkeypatch, is_compiled):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    matrix = poisson(4 * LEAST_ROWS)
    x, b = np.random.default_rng(0).standard_normal((2, 4 * LEAST_ROWS))
    inverse = 1 / matrix.diagonal()
    steps = DiagonalSteps(matrix, inverse, [0.4, 1.1])
    assert len(steps._ranges) == 3
    expected = x + 0.4 * inverse * (b - matrix @ x)
    expected = expected + 1.1 * inverse * (b - matrix @ expected)
    steps(x, b)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("is_compiled", [False, True], indirect=True)
def test_a_real_matrix_smooths_complex_and_strided_vectors(is_compiled):
    matrix = uneven()
    rng = np.random.default_rng(2)
    b = rng.standard_normal(60) + 1j * rng.standard_normal(60)
    steps = DiagonalSteps(matrix, 1 / matrix.diagonal(), [0.5, 0.7])
    x = np.zeros(60, complex)
    steps(x, b)
    real, imaginary = np.zeros(60), np.zeros(120)[::2]
    steps(real, np.ascontiguousarray(b.real))
    steps(imaginary, b.imag)
    np.testing.assert_allclose(x, real + 1j * imaginary, rtol=1e-13, atol=1e-14)


def cycle_matrix(hierarchy):
    """Error propagation of a cycle: what it leaves of each unit vector, with right-hand side 0."""
    size = hierarchy.levels[0].A.shape[0]
    zero = np.zeros(size)
    columns = [hierarchy.solve(zero, x0=unit, maxiter=1, tol=1e-300) for unit in np.eye(size)]
    return np.array(columns).T


def energy_form(matrix, error):
    """A map in coordinates in which the energy norm is the Euclidean one."""
    root = scipy.linalg.sqrtm(matrix.toarray()).real
    return root @ error @ np.linalg.inv(root)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_two_levels_contract_as_the_smoothing_constant_promises(degree):
    # With C from ‖(I − Π)v‖_A² ≤ C‖Av‖²_{D⁻¹} and γ the constant: ‖E‖_A ≤ C / (C + 1/γ).
    matrix = poisson(12, 12) + sp.diags_array(np.linspace(0, 3, 144))
    matrix = sp.csr_array(matrix)
    hierarchy = pyamg.smoothed_aggregation_solver(matrix, max_levels=2)
    (smoother,) = ours.change_smoothers(hierarchy, optimised_fourth_kind_steps, degree)
    dense, p = matrix.toarray(), hierarchy.levels[0].P.toarray()
    missed = np.eye(144) - p @ np.linalg.solve(p.T @ dense @ p, p.T @ dense)
    numerator = missed.T @ dense @ missed
    denominator = dense @ np.diag(1 / matrix.diagonal()) @ dense
    constant = scipy.linalg.eigh(numerator, denominator, eigvals_only=True)[-1]
    gamma = smoothing_constant(smoother.bounds, degree)
    contraction = np.linalg.norm(energy_form(matrix, cycle_matrix(hierarchy)), 2)
    assert 0.02 < contraction <= constant / (constant + 1 / gamma)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", ["smoothed_aggregation_solver", "ruge_stuben_solver"])
def test_the_v_cycle_is_symmetric_and_contracts_faster_with_more_steps(make, family):
    matrix = poisson(14, 14)
    norms = []
    for degree in (1, 2, 4):
        hierarchy = getattr(pyamg, make)(matrix, max_coarse=5)
        assert len(hierarchy.levels) >= 3
        ours.change_smoothers(hierarchy, FAMILIES[family], degree)
        form = energy_form(matrix, cycle_matrix(hierarchy))
        np.testing.assert_allclose(form, form.T, atol=1e-11)
        norms.append(np.linalg.norm(form, 2))
    assert 0.8 > norms[0] > norms[1] > norms[2]


def iterations(hierarchy, b, **keywords):
    residuals = []
    hierarchy.solve(b, tol=1e-8, accel="cg", residuals=residuals, **keywords)
    return len(residuals) - 1


@pytest.mark.parametrize(("epsilon", "share"), [(1.0, 0.95), (0.01, 1.1)])
def test_conjugate_gradients_take_as_few_products_as_with_the_default_smoother(epsilon, share):
    stencil = pyamg.gallery.diffusion.diffusion_stencil_2d(epsilon=epsilon, type="FD")
    matrix = pyamg.gallery.stencil_grid(stencil, (96, 96), format="csr")
    b = np.random.default_rng(0).standard_normal(96**2)
    default = pyamg.smoothed_aggregation_solver(matrix)
    # A product for conjugate gradients and one for the residual; a symmetric sweep of Gauss–Seidel
    # reads the matrix twice; of our steps from 0 the first takes no product.
    theirs = 6 * iterations(default, b)
    assert 5 * iterations(ours.solver(matrix), b) <= share * theirs


@pytest.mark.parametrize("format", ["csr", "csc", "bsr", "lil"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_the_solver_keeps_the_dtype_and_solves(dtype, format):  # noqa: A002
    size = 900
    matrix = poisson(30, 30).astype(dtype)
    if np.dtype(dtype).kind == "c":
        phases = np.exp(2j * np.pi * np.random.default_rng(3).random(size)).astype(dtype)
        matrix = sp.diags_array(phases) @ matrix @ sp.diags_array(phases.conj())
    matrix = sp.csr_array(matrix).astype(dtype).asformat(format)
    b = (matrix @ np.linspace(1, 2, size)).astype(dtype)
    hierarchy = ours.solver(matrix)
    assert isinstance(hierarchy, pyamg.MultilevelSolver)
    assert len(hierarchy.levels) > 1
    tol = 100 * float(np.finfo(dtype).eps)
    x = hierarchy.solve(b, tol=tol, accel="cg")
    assert x.dtype == dtype
    assert np.linalg.norm(b - matrix @ x) <= 3 * tol * np.linalg.norm(b)
    assert hierarchy.levels[0].presmoother._steps.inverse.dtype == np.empty(0, dtype).real.dtype


def test_elasticity_is_solved_with_its_rigid_motions():
    matrix, motions = pyamg.gallery.linear_elasticity((20, 20))
    b = matrix @ np.random.default_rng(0).standard_normal(matrix.shape[0])
    hierarchy = ours.solver(matrix, motions)
    x = hierarchy.solve(b, tol=1e-10, accel="cg")
    reference = spsolve(sp.csc_matrix(matrix), b)
    assert np.linalg.norm(x - reference) <= 1e-7 * np.linalg.norm(reference)
    assert iterations(hierarchy, b) < iterations(ours.solver(matrix), b)


def test_a_singular_laplacian_is_solved_up_to_constants():
    chain = poisson(400).tolil()
    chain[0, 0] = chain[399, 399] = 1.0
    matrix = chain.tocsr()
    b = np.random.default_rng(0).standard_normal(400)
    b -= b.mean()
    x = ours.solver(matrix).solve(b, tol=1e-6, accel="cg")
    assert np.linalg.norm(b - matrix @ x) <= 2e-6 * np.linalg.norm(b)


@pytest.mark.parametrize(("units", "is_rounding"), [(20, True), (1e8, False)])
def test_a_coarse_matrix_may_be_below_zero_by_what_rounding_leaves(units, is_rounding):
    chain = poisson(400).tolil()
    chain[0, 0] = chain[399, 399] = 1.0
    hierarchy = pyamg.smoothed_aggregation_solver(chain.tocsr())
    coarse = hierarchy.levels[3].A
    assert coarse.shape[0] < 50  # all eigenvalues are computed
    below = units * coarse.shape[0] * np.finfo(float).eps
    hierarchy.levels[3].A = sp.csr_array(coarse - below * sp.diags_array(coarse.diagonal()))
    if is_rounding:
        assert ours.change_smoothers(hierarchy)[3].schedule.bounds.upper > 0
    else:
        with pytest.raises(ValueError, match="level 3 of the hierarchy: `A` must be symmetric"):
            ours.change_smoothers(hierarchy)


def two_levels(matrix, p):
    levels = [pyamg.MultilevelSolver.Level() for _ in range(2)]
    levels[0].A, levels[0].P = matrix, sp.csr_array(p)
    levels[1].A = sp.csr_array(p.T @ matrix @ p)
    return pyamg.MultilevelSolver(levels)


def test_a_hierarchy_made_by_hand_is_served():
    matrix = poisson(63)
    p = np.zeros((63, 31))
    for column in range(31):
        p[2 * column : 2 * column + 3, column] = 0.5, 1.0, 0.5
    hierarchy = two_levels(matrix, p)
    assert not hierarchy.symmetric_smoothing
    ours.change_smoothers(hierarchy)
    assert hierarchy.symmetric_smoothing
    assert np.linalg.norm(energy_form(matrix, cycle_matrix(hierarchy)), 2) < 0.1


def test_a_level_with_one_unknown_is_solved_by_its_smoother():
    matrix = poisson(63)
    levels = [pyamg.MultilevelSolver.Level() for _ in range(3)]
    levels[0].A, levels[0].P = matrix, sp.csr_array(np.ones((63, 1)))
    levels[1].A, levels[1].P = sp.csr_array([[2.0]]), sp.csr_array([[1.0]])
    levels[2].A = sp.csr_array([[2.0]])
    hierarchy = pyamg.MultilevelSolver(levels)
    _, single = ours.change_smoothers(hierarchy)
    x = np.array([0.0])
    single(levels[1].A, x, np.array([3.0]))
    p = closed_form("fourth", 2, single.bounds.upper, 0.25, [1.0])
    assert x == pytest.approx(1.5 * (1 - p))
    assert single.bounds.upper == pytest.approx(1.0)
    b = np.ones(63)
    assert iterations(hierarchy, b) > 0


@pytest.mark.parametrize("size", [1, 2, 9])
def test_a_matrix_that_needs_no_coarse_level_has_no_smoothers(size):
    hierarchy = ours.solver(poisson(size))
    assert ours.change_smoothers(hierarchy) == []
    x = hierarchy.solve(poisson(size) @ np.ones(size), accel="cg", tol=1e-12)
    np.testing.assert_allclose(x, 1.0)


def test_rows_of_zeros_on_a_coarse_level_stay_zero():
    matrix = poisson(63)
    p = np.zeros((63, 8))
    for column in range(7):
        p[9 * column : 9 * column + 9, column] = 1.0
    levels = [pyamg.MultilevelSolver.Level() for _ in range(3)]
    levels[0].A, levels[0].P = matrix, sp.csr_array(p)
    levels[1].A = sp.csr_array(p.T @ matrix @ p)
    levels[1].P = sp.csr_array(np.eye(8)[:, :4])
    levels[2].A = sp.csr_array(levels[1].P.T @ levels[1].A @ levels[1].P)
    hierarchy = pyamg.MultilevelSolver(levels)
    ours.change_smoothers(hierarchy)
    assert np.linalg.norm(energy_form(matrix, cycle_matrix(hierarchy)), 2) < 1


def test_bounds_hold_on_every_level_and_are_not_twice_too_high():
    matrix = pyamg.gallery.stencil_grid(
        [[0, -1, 0], [-0.05, 2.1, -0.05], [0, -1, 0]], (40, 40), format="csr"
    )
    hierarchy = pyamg.smoothed_aggregation_solver(matrix)
    for level, smoother in zip(hierarchy.levels, ours.change_smoothers(hierarchy), strict=False):
        dense = level.A.toarray()
        largest = scipy.linalg.eigh(dense, np.diag(np.diag(dense)), eigvals_only=True)[-1]
        assert largest * (1 - 1e-12) <= smoother.bounds.upper <= 1.25 * largest


def test_copies_and_pickles_of_a_smoother_are_called_with_their_own_matrix():
    matrix = poisson(40)
    smoother = ours.smoother(matrix)
    b = np.ones(40)
    x = np.zeros(40)
    smoother(matrix, x, b)
    for twin in (copy.deepcopy(smoother), pickle.loads(pickle.dumps(smoother))):
        y = np.zeros(40)
        twin(twin.matrix, y, b)
        np.testing.assert_array_equal(x, y)


def test_a_matrix_of_integers_smooths_as_its_floats_do():
    matrix = poisson(40)
    whole = sp.csr_array(matrix.astype(int))
    x, y = np.zeros((2, 40))
    first, second = ours.smoother(matrix), ours.smoother(whole)
    first(matrix, x, np.ones(40))
    second(whole, y, np.ones(40))
    np.testing.assert_allclose(x, y, rtol=1e-14)


def test_a_column_is_smoothed_in_place():
    matrix = poisson(40)
    smoother = ours.smoother(matrix)
    x, column = np.zeros(40), np.zeros((40, 1))
    smoother(matrix, x, np.ones(40))
    smoother(matrix, column, np.ones((40, 1)))
    np.testing.assert_array_equal(column[:, 0], x)


def test_any_family_of_schedules_serves():
    matrix = poisson(20, 20)
    for name in ("inverse-upper-bound", "silver"):
        smoother = ours.smoother(matrix, SCHEDULES[name], 3)
        assert smoother.schedule.period == 3
    assert "3 silver steps on D⁻¹A" in repr(smoother)


def test_the_example_runs_and_all_smoothers_agree(capsys):
    example = runpy.run_path(str(ROOT / "examples" / "multigrid.py"))
    example["main"](64)
    lines = capsys.readouterr().out.splitlines()
    hottest = [float(line.split()[-1]) for line in lines if "steps  " in line or "default)" in line]
    assert len(hottest) == 3
    assert max(hottest) == pytest.approx(min(hottest), rel=1e-6)
    assert "-mg_levels_ksp_chebyshev_kind opt_fourth" in lines


# Refusals.

BAD = {
    "negative": (sp.csr_array(poisson(30) - 5 * sp.eye_array(30)), r"positive diagonal, got -3.0"),
    "zero": (sp.csr_array(np.diag([1.0, 0.0, 2.0])), r"positive diagonal, got 0.0 at index 1"),
    "nan": (sp.csr_array(np.diag([1.0, np.nan])), r"`A` must be finite"),
    "nonsymmetric": (
        sp.csr_array(poisson(30) + sp.eye_array(30, k=1)),
        r"must be symmetric \(Hermitian\).*gauss_seidel_nr",
    ),
    "complex symmetric": (
        sp.csr_array(
            poisson(30) * (1 + 0j) + 1j * (sp.eye_array(30, k=1) + sp.eye_array(30, k=-1))
        ),
        r"must be symmetric \(Hermitian\)",
    ),
    "indefinite": (sp.csr_array(np.array([[1.0, 2.0], [2.0, 1.0]])), r"positive semidefinite"),
    "not square": (sp.csr_array(np.ones((2, 3))), r"square and not empty, got shape \(2, 3\)"),
    "empty": (sp.csr_array((0, 0)), r"square and not empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_matrix_that_steps_cannot_smooth_is_refused(name):
    matrix, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        ours.smoother(matrix)
    with pytest.raises(ValueError, match=message):
        ours.solver(matrix)


def test_a_refused_level_is_named_and_the_hierarchy_is_as_it_was():
    hierarchy = pyamg.smoothed_aggregation_solver(poisson(20, 20))
    before = [level.presmoother for level in hierarchy.levels[:-1]]
    hierarchy.levels[1].A = sp.csr_array(hierarchy.levels[1].A * -1.0)
    with pytest.raises(ValueError, match=r"level 1 of the hierarchy: `A` must have a positive"):
        ours.change_smoothers(hierarchy)
    assert [level.presmoother for level in hierarchy.levels[:-1]] == before


def test_a_smoother_refuses_another_matrix():
    smoother = ours.smoother(poisson(30))
    with pytest.raises(ValueError, match="call `change_smoothers` again"):
        smoother(poisson(30), np.zeros(30), np.ones(30))


def test_a_level_that_was_changed_is_not_smoothed_with_the_old_bound():
    hierarchy = ours.solver(poisson(20, 20))
    hierarchy.levels[0].A = sp.csr_array(3.0 * poisson(20, 20))
    with pytest.raises(ValueError, match="the matrix that the smoother was made for"):
        hierarchy.solve(np.ones(400))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ours.smoother(np.eye(3)), TypeError, r"sparse matrix, got ndarray.*csr_array"),
        (lambda: ours.solver(np.eye(3)), TypeError, r"sparse matrix, got ndarray"),
        (lambda: ours.solver(poisson(9).astype(int)), TypeError, r"floating-point.*got int64"),
        (lambda: ours.change_smoothers(poisson(9)), TypeError, r"MultilevelSolver, got .*solver"),
        (lambda: ours.smoother(poisson(9), "chebyshev"), TypeError, r"`steps` must be a function"),
        (lambda: ours.smoother(poisson(9), lambda *_: [1.0]), TypeError, r"must be a Schedule"),
        (
            lambda: ours.smoother(poisson(9), degree=0),
            ValueError,
            r"`degree` must be an integer of at",
        ),
        (lambda: ours.smoother(poisson(9), part=0.0), ValueError, r"`part` must .* between 0 and"),
        (
            lambda: ours.smoother(poisson(9), lambda *_: Schedule([3.0])),
            ValueError,
            r"`steps` must not amplify an error, got a residual polynomial that reaches",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# PETSc's options.


def test_petsc_levels_are_counted_from_the_coarsest():
    schedules = [
        chebyshev_steps(SpectralBounds(0.5, 2.0), 3),
        optimised_fourth_kind_steps(SpectralBounds(0.375, 1.5), 2),
    ]
    lines = multigrid_options(schedules, prefix="flow_").splitlines()
    assert "-flow_mg_levels_2_ksp_chebyshev_eigenvalues 0.5,2.0" in lines
    assert "-flow_mg_levels_2_ksp_chebyshev_kind first" in lines
    assert "-flow_mg_levels_2_ksp_max_it 3" in lines
    assert "-flow_mg_levels_1_ksp_chebyshev_eigenvalues 0.375,1.5" in lines
    assert "-flow_mg_levels_1_ksp_chebyshev_kind opt_fourth" in lines
    assert "-flow_mg_levels_1_pc_type jacobi" in lines
    assert len(lines) == 10


def test_petsc_is_told_the_bounds_of_a_hierarchy_in_full_precision():
    smoothers = ours.change_smoothers(ours.solver(poisson(30, 30)))
    text = multigrid_options([smoother.schedule for smoother in smoothers])
    ends = [line.split()[1].split(",") for line in text.splitlines() if "eigenvalues" in line]
    assert [float(upper) for _, upper in ends] == [s.bounds.upper for s in smoothers]
    assert all(float(lower) == 0.25 * float(upper) for lower, upper in ends)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule([1.0]), "of a family that PETSc has.*given steps"),
        (SCHEDULES["silver"](SpectralBounds(0.5, 2.0), 2), "got silver steps"),
        (chebyshev_steps(SpectralBounds(0.0, 2.0), 2, kind=4), "PETSc refuses 0"),
        (optimised_fourth_kind_steps(SpectralBounds(0.5, 2.0), 17), "at most 16 .* got 17"),
    ],
)
def test_what_petsc_does_not_have_is_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        multigrid_options(schedule)


@pytest.mark.parametrize("family", FAMILIES)
def test_petsc_takes_the_same_steps(family):
    petsc4py = pytest.importorskip(
        "petsc4py", reason="petsc4py is not installed; PETSc has no wheel for this Python"
    )
    petsc4py.init([])
    from petsc4py import PETSc

    matrix = uneven()
    smoother = ours.smoother(matrix, FAMILIES[family], 2)
    for line in multigrid_options(smoother.schedule).splitlines():
        name, value = line.split(" ", 1)
        PETSc.Options().setValue(name, value)
    operator = PETSc.Mat().createAIJ(matrix.shape, csr=(matrix.indptr, matrix.indices, matrix.data))
    ksp = PETSc.KSP().create()
    ksp.setOperators(operator)
    ksp.setOptionsPrefix("mg_levels_")
    ksp.setNormType(PETSc.KSP.NormType.NONE)
    ksp.setFromOptions()
    b, x = operator.createVecs()
    b.setArray(np.random.default_rng(0).standard_normal(60))
    ksp.solve(b, x)
    expected = np.zeros(60)
    smoother(matrix, expected, b.getArray().copy())
    np.testing.assert_allclose(x.getArray(), expected, rtol=1e-10)
