"""Operators and penalties of PyLops, pyproximal, ODL and SigPy, against the packages themselves."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from stepfold import (
    Gram,
    LeastSquares,
    Status,
    chebyshev_steps,
    constant_steps,
    estimate_bounds,
    solve,
)
from stepfold.iterations import ProximalGradient
from stepfold.problems import Composite
from stepfold.problems.penalties import L1, Ball

pylops = pytest.importorskip("pylops")
pyproximal = pytest.importorskip("pyproximal")

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((30, 12))
COMPLEX = MATRIX + 1j * RNG.standard_normal((30, 12))
SEEN = RNG.standard_normal(30)


def dense(operator: object, like: object) -> np.ndarray:
    return np.stack([operator @ column for column in np.eye(operator.shape[1], dtype=like)], 1)


PYLOPS = {
    "real": lambda: pylops.MatrixMult(MATRIX),
    "complex": lambda: pylops.MatrixMult(COMPLEX, dtype="complex128"),
    "stacked": lambda: pylops.VStack([pylops.MatrixMult(MATRIX), pylops.FirstDerivative(12)]),
    "pictures": lambda: pylops.VStack(
        [
            pylops.signalprocessing.Convolve2D((4, 3), np.eye(3) + 2),
            pylops.Identity(12),
        ]
    ),
    "Fourier": lambda: pylops.signalprocessing.FFT(12, dtype="complex128"),
}


@pytest.mark.parametrize("name", PYLOPS)
def test_an_operator_of_pylops_has_the_least_squares_solution_of_its_matrix(name: str) -> None:
    operator = PYLOPS[name]()
    kind = operator.dtype
    seen = RNG.standard_normal(operator.shape[0]).astype(kind)
    result = solve(LeastSquares(operator, seen), rtol=1e-10)
    assert result.status is Status.CONVERGED
    matrix = dense(operator, kind)
    expected = np.linalg.lstsq(matrix, seen, rcond=None)[0]
    np.testing.assert_allclose(result.x, expected, atol=1e-7)
    assert estimate_bounds(Gram(operator)).upper >= np.linalg.norm(matrix, 2) ** 2 * (1 - 1e-9)


def test_steps_of_a_schedule_in_ista_of_pylops_are_those_of_proximal_gradient() -> None:
    operator = pylops.MatrixMult(MATRIX)
    bounds = estimate_bounds(Gram(operator))
    alpha = float(constant_steps(bounds).steps[0])
    theirs, *_ = pylops.optimization.sparsity.ista(
        operator, SEEN, niter=40, eps=0.6, alpha=alpha, tol=0.0, monitorres=False
    )
    # PyLops penalises by eps/2 in units of ‖Ax − b‖²/2.
    result = solve(
        Composite(LeastSquares(MATRIX, SEEN), L1(0.3)),
        constant_steps(bounds),
        iteration=ProximalGradient,
        max_steps=40,
        rtol=0.0,
        guard=None,
        keep_iterates=True,
    )
    assert result.history.iterates is not None
    np.testing.assert_allclose(result.history.iterates[-1], theirs, atol=1e-9)


def test_a_cycle_of_steps_in_ista_of_pylops_reaches_the_solution_of_solve() -> None:
    from pylops.optimization.cls_sparsity import ISTA

    operator = pylops.MatrixMult(MATRIX)
    steps = chebyshev_steps(estimate_bounds(Gram(operator)), 8)
    solver = ISTA(operator)
    x = solver.setup(SEEN, np.zeros(12), eps=0.2, alpha=float(steps[0]), monitorres=False)
    for gamma in 20 * steps.steps.tolist():
        solver.alpha, solver.thresh = gamma, 0.2 * gamma / 2
        x, _ = solver.step(x)
    result = solve(Composite(LeastSquares(MATRIX, SEEN), L1(0.1)), rtol=1e-12)
    np.testing.assert_allclose(x, result.x, atol=1e-8)


def test_a_constant_step_in_pyproximal_ends_where_solve_ends() -> None:
    from pyproximal.optimization.primal import ProximalGradient as Theirs

    operator = pylops.MatrixMult(MATRIX)
    step = float(constant_steps(estimate_bounds(Gram(operator))).steps[0])
    x = Theirs(
        pyproximal.L2(Op=operator, b=SEEN),
        pyproximal.L1(sigma=2.0),
        x0=np.zeros(12),
        tau=step,
        niter=400,
    )
    ours = solve(Composite(LeastSquares(MATRIX, SEEN), penalty_of(pyproximal.L1(2.0))), rtol=1e-12)
    np.testing.assert_allclose(x, ours.x, atol=1e-9)


def penalty_of(operator: object) -> object:
    from stepfold.interop.pyproximal import penalty

    return penalty(operator)


CONVEX = {
    "l1": lambda: pyproximal.L1(sigma=0.7),
    "norm": lambda: pyproximal.Euclidean(sigma=0.7),
    "ball": lambda: pyproximal.EuclideanBall(0.0, 0.6),
    "box": lambda: pyproximal.Box(-0.2, 0.3),
    "ridge": lambda: pyproximal.L2(sigma=0.4),
    "groups": lambda: pyproximal.L21(ndim=2, sigma=0.5),
    "nuclear norm": lambda: pyproximal.Nuclear((4, 3), sigma=0.5),
    "half-space": lambda: pyproximal.HalfSpace(np.ones(12), 0.1),
    "affine set": lambda: pyproximal.AffineSet(
        pylops.MatrixMult(np.ones((1, 12)) / 4), np.ones(1), niter=200
    ),
    "l1 ball": lambda: pyproximal.L1Ball(12, 0.8, maxiter=200, xtol=1e-12),
    "total variation": lambda: pyproximal.TV((4, 3), sigma=0.3, niter=2000, rtol=1e-14),
}


@pytest.mark.parametrize("name", CONVEX)
def test_no_point_near_the_proximal_one_is_better(name: str) -> None:
    g = penalty_of(CONVEX[name]())
    v = RNG.standard_normal(12)
    best = g.prox(v, 0.5)

    def objective(x: np.ndarray) -> float:
        return float(g.value(x) + np.sum((x - v) ** 2))

    least = objective(best)
    assert np.isfinite(least)
    others = [objective(best + 1e-2 * each) for each in RNG.standard_normal((50, 12))]
    assert min(others) >= least - 1e-5


@pytest.mark.parametrize("name", ["l1", "ridge", "box", "norm", "nuclear norm"])
@pytest.mark.parametrize("batch", [False, True])
def test_a_composite_with_a_penalty_of_pyproximal_converges_to_a_fixed_point(
    name: str, batch: bool
) -> None:
    g = penalty_of(CONVEX[name]())
    rhs = np.stack([SEEN, 2 * SEEN]) if batch else SEEN
    problem = LeastSquares(pylops.MatrixMult(MATRIX), rhs)
    result = solve(Composite(problem, g), rtol=1e-10)
    assert result.status is Status.CONVERGED
    step = 1 / np.linalg.norm(MATRIX, 2) ** 2
    moved = g.prox(result.x - step * problem.gradient(result.x), step)
    np.testing.assert_allclose(moved, result.x, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "ours"),
    [("l1", lambda: L1(0.7)), ("ball", lambda: Ball(0.6))],
)
def test_complex_penalties_of_pyproximal_have_the_solution_of_ours(name: str, ours) -> None:
    problem = LeastSquares(COMPLEX, COMPLEX @ np.ones(12) + 1j * SEEN)
    theirs = solve(Composite(problem, penalty_of(CONVEX[name]())), rtol=1e-11)
    expected = solve(Composite(problem, ours()), rtol=1e-11)
    np.testing.assert_allclose(theirs.x, expected.x, atol=1e-8)


def test_a_point_outside_a_set_has_the_value_infinity() -> None:
    ball = penalty_of(CONVEX["ball"]())
    assert ball.value(np.full(12, 3.0)) == np.inf
    assert ball.value(np.zeros((2, 12))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyproximal.L0(0.1),
        lambda: pyproximal.SCAD(0.1),
        lambda: pyproximal.SingularValuePenalty((4, 3), pyproximal.Log(0.1)),
    ],
)
def test_functions_that_are_not_convex_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"must stand for a convex function, got (L0|SCAD|Log)"):
        penalty_of(make())


def test_the_huber_function_is_refused_whose_proximal_operator_is_another_ones() -> None:
    theirs = pyproximal.Huber(alpha=0.3)
    v = np.array([0.5])
    right = v - 0.5 * v / max(0.5, 0.5 + 0.3)  # the closed form of the minimiser
    objective = [theirs(x) + float(np.sum((x - v) ** 2)) for x in (theirs.prox(v, 0.5), right)]
    assert objective[0] > objective[1] * (1 + 1e-3)
    with pytest.raises(ValueError, match="proximal operator of its own value, got Huber"):
        penalty_of(theirs)


def test_what_is_no_operator_of_pyproximal_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a pyproximal\.ProxOperator, got L1; give"):
        penalty_of(L1(0.1))


def test_a_penalty_of_pyproximal_refuses_tensors() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"take arrays of NumPy, got torch\.Tensor"):
        penalty_of(pyproximal.L1(0.1)).prox(torch.ones(3), 0.1)


def wrong_adjoint() -> object:
    class Wrong(pylops.LinearOperator):
        def _matvec(self, x: np.ndarray) -> np.ndarray:
            return MATRIX @ x

        def _rmatvec(self, x: np.ndarray) -> np.ndarray:
            return 2 * MATRIX.T @ x

    return Wrong(dtype=np.dtype("float64"), shape=MATRIX.shape)


def test_an_operator_of_pylops_whose_adjoint_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="the adjoint of `operator` must satisfy"):
        solve(LeastSquares(wrong_adjoint(), SEEN))


SIGPY = {
    "Fourier": lambda linop: linop.FFT((4, 3)),
    "a product": lambda linop: linop.MatMul((12, 1), COMPLEX),
    "differences": lambda linop: linop.FiniteDifference((4, 3)),
    "a chain": lambda linop: linop.FFT((4, 3)) * linop.Multiply((4, 3), COMPLEX[:4, :3]),
}


@pytest.mark.parametrize("name", SIGPY)
def test_an_operator_of_sigpy_has_its_products_and_their_adjoint(name: str) -> None:
    pytest.importorskip("sigpy")
    import sigpy.linop

    from stepfold.interop.sigpy import linear_map

    theirs = SIGPY[name](sigpy.linop)
    operator = linear_map(theirs, like=np.complex128)
    matrix = dense(operator, "complex128")
    x = RNG.standard_normal(12) + 1j * RNG.standard_normal(12)
    np.testing.assert_allclose(matrix @ x, theirs(x.reshape(theirs.ishape)).ravel(), atol=1e-12)
    np.testing.assert_allclose(dense(operator.H, "complex128"), matrix.conj().T, atol=1e-12)
    seen = RNG.standard_normal(operator.shape[0]) + 0j
    result = solve(LeastSquares(operator, seen, ridge=0.1), rtol=1e-11)
    normal = matrix.conj().T @ matrix + 0.1 * np.eye(12)
    np.testing.assert_allclose(result.x, np.linalg.solve(normal, matrix.conj().T @ seen), atol=1e-8)


def odl_operators(odl) -> dict[str, object]:
    space = odl.uniform_discr([0, 0], [1, 2], (4, 3))
    gradient = odl.Gradient(space)
    return {
        "a gradient, into a product space": gradient,
        "a Laplacian": odl.Laplacian(space),
        "a stack": odl.BroadcastOperator(gradient, odl.IdentityOperator(space)),
    }


@pytest.mark.parametrize("name", ["a gradient, into a product space", "a Laplacian", "a stack"])
def test_an_operator_of_odl_has_its_products_and_their_transpose(name: str) -> None:
    odl = pytest.importorskip("odl")
    from stepfold.interop.odl import linear_map

    operator = linear_map(odl_operators(odl)[name])
    matrix = dense(operator, "float64")
    np.testing.assert_allclose(dense(operator.H, "float64"), matrix.T, atol=1e-9)
    seen = RNG.standard_normal(operator.shape[0])
    result = solve(LeastSquares(operator, seen, ridge=0.5), rtol=1e-11)
    normal = matrix.T @ matrix + 0.5 * np.eye(12)
    np.testing.assert_allclose(result.x, np.linalg.solve(normal, matrix.T @ seen), atol=1e-7)


def test_operators_of_other_packages_are_refused_by_name() -> None:
    pytest.importorskip("odl")
    pytest.importorskip("sigpy")
    from stepfold.interop import odl, sigpy

    with pytest.raises(TypeError, match=r"must be a sigpy\.linop\.Linop, got ndarray"):
        sigpy.linear_map(MATRIX)
    with pytest.raises(TypeError, match=r"must be an odl\.Operator, got ndarray"):
        odl.linear_map(MATRIX)


@pytest.mark.parametrize("package", ["pyproximal", "odl", "sigpy"])
def test_an_absent_package_is_named_with_its_extra_and_version(package: str) -> None:
    module = f"stepfold.interop.{package}"
    code = f"import sys; sys.modules[{package!r}] = None\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"`{module}` needs {package} >= " in done.stderr
    assert f"pip install '.[{package}]'" in done.stderr
