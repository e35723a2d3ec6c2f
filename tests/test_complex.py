"""Complex problems, against the real problems of twice the size that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stepfold import (
    L1,
    Composite,
    LeastSquares,
    Quadratic,
    Schedule,
    chebyshev_steps,
    estimate_bounds,
    solve,
)
from stepfold.iterations import (
    BarzilaiBorwein,
    Fista,
    GradientDescent,
    HeavyBall,
    Nesterov,
    ProximalGradient,
    SemiIteration,
)
from stepfold.problems.penalties import GroupL1
from stepfold.unfolded import BatchedLeastSquares, UnfoldedIteration, local_spectra

RNG = np.random.default_rng(11)
MATRIX = RNG.standard_normal((14, 6)) + 1j * RNG.standard_normal((14, 6))
RHS = RNG.standard_normal((3, 14)) + 1j * RNG.standard_normal((3, 14))
START = RNG.standard_normal((3, 6)) + 1j * RNG.standard_normal((3, 6))
STEPS = Schedule([0.01, 0.03, 0.02])
PAIRS = np.tile(np.arange(6), 2)
"""The real and the imaginary part of an entry are one group."""


def embedded(matrix: np.ndarray) -> np.ndarray:
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def parts(rows: Any) -> np.ndarray:
    rows = np.asarray(rows)
    return np.concatenate([rows.real, rows.imag], axis=-1)


def in_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def in_numpy(array: np.ndarray) -> np.ndarray:
    return array


ITERATIONS: dict[str, Callable[[], Any]] = {
    "gradient descent": GradientDescent,
    "heavy ball": lambda: HeavyBall(0.4),
    "Nesterov": lambda: Nesterov(0.3),
    "semi-iteration": lambda: SemiIteration(0.8),
    "Barzilai-Borwein": BarzilaiBorwein,
    "short Barzilai-Borwein": lambda: BarzilaiBorwein(short=True),
}


@pytest.mark.parametrize("library", [in_numpy, in_torch])
@pytest.mark.parametrize("name", ITERATIONS)
def test_an_iteration_takes_complex_steps_as_the_real_ones(
    name: str, library: Callable[[np.ndarray], Any]
) -> None:
    found = LeastSquares(library(MATRIX), library(RHS))
    wanted = LeastSquares(embedded(MATRIX), parts(RHS))
    method = ITERATIONS[name]()
    state, twin = method.init(found, library(START)), method.init(wanted, parts(START))
    for gamma in STEPS.steps:
        state, twin = method.step(found, state, gamma), method.step(wanted, twin, gamma)
        np.testing.assert_allclose(
            parts(method.iterate(state)), method.iterate(twin), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("library", [in_numpy, in_torch])
@pytest.mark.parametrize("method", [Fista, ProximalGradient])
def test_proximal_steps_are_those_of_groups_of_two(
    method: Any, library: Callable[[np.ndarray], Any]
) -> None:
    found = LeastSquares(library(MATRIX), library(RHS))
    wanted = LeastSquares(embedded(MATRIX), parts(RHS))
    first, second = method(L1(3.0)), method(GroupL1(3.0, PAIRS))
    state, twin = first.init(found, library(START)), second.init(wanted, parts(START))
    for _ in range(40):  # long enough for momentum to be dropped
        state, twin = first.step(found, state, 0.02), second.step(wanted, twin, 0.02)
    np.testing.assert_allclose(
        parts(first.iterate(state)), second.iterate(twin), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("library", [in_numpy, in_torch])
def test_values_gaps_and_solutions_are_those_of_groups_of_two(
    library: Callable[[np.ndarray], Any],
) -> None:
    found = Composite(LeastSquares(library(MATRIX), library(RHS), ridge=0.0), L1(3.0))
    wanted = Composite(LeastSquares(embedded(MATRIX), parts(RHS)), GroupL1(3.0, PAIRS))
    for name in ("value", "gap", "optimality"):
        ours, theirs = (
            getattr(each, name)(x) if name != "optimality" else each.optimality(x, 0.01)
            for each, x in ((found, library(START)), (wanted, parts(START)))
        )
        np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-11)
    for schedule in (None, Schedule([0.01])):
        result = solve(found, schedule, gap_rtol=1e-10, max_steps=20_000)
        assert result.converged
        twin = solve(wanted, schedule, gap_rtol=1e-10, max_steps=20_000)
        np.testing.assert_allclose(parts(result.x), twin.x, atol=1e-4)


@pytest.mark.parametrize("library", [in_numpy, in_torch])
@pytest.mark.parametrize("schedule", [False, True])
def test_a_complex_system_is_solved(library: Callable[[np.ndarray], Any], schedule: bool) -> None:
    hessian = MATRIX.conj().T @ MATRIX
    for problem in (
        LeastSquares(library(MATRIX), library(RHS)),
        Quadratic(library(hessian), library(RHS @ MATRIX.conj())),
    ):
        steps = chebyshev_steps(estimate_bounds(problem), 8) if schedule else None
        result = solve(problem, steps, rtol=1e-10)
        expected = np.linalg.lstsq(MATRIX, RHS.T, rcond=None)[0].T
        np.testing.assert_allclose(np.asarray(result.x), expected, rtol=1e-7, atol=1e-8)


def test_a_batch_of_complex_matrices_is_one_problem_each() -> None:
    matrices = np.stack([MATRIX, 2j * MATRIX[::-1], MATRIX.conj()])
    problem = BatchedLeastSquares(in_torch(matrices), in_torch(RHS), ridge=0.2)
    x = in_torch(START)
    for index, matrix in enumerate(matrices):
        alone = LeastSquares(matrix, RHS[index], ridge=0.2)
        np.testing.assert_allclose(problem.gradient(x)[index], alone.gradient(START[index]))
        np.testing.assert_allclose(problem.linear_term[index], alone.linear_term)
        eigenvalues = np.linalg.eigvalsh(problem.hessian[index].numpy())
        singular = np.linalg.svd(matrix, compute_uv=False)[::-1]
        np.testing.assert_allclose(eigenvalues, singular**2 + 0.2)
        value = alone.value(START[index]) - np.linalg.norm(RHS[index]) ** 2 / 2
        np.testing.assert_allclose(problem.value(x)[index], value)
    with pytest.raises(TypeError, match="`rhs` and `operators` must be of one dtype"):
        BatchedLeastSquares(in_torch(matrices), in_torch(RHS.real.copy()))


@pytest.mark.parametrize(
    "iteration", [GradientDescent(), HeavyBall(0.3), ProximalGradient(L1(2.0))]
)
@pytest.mark.parametrize("rows", [1, 3])
def test_spectra_of_complex_layers_are_those_of_real_ones(iteration: Any, rows: int) -> None:
    twin = iteration
    if isinstance(iteration, ProximalGradient):
        twin = ProximalGradient(GroupL1(2.0, PAIRS))
    rhs, start = (RHS[0], START[0]) if rows == 1 else (RHS, START)
    found = local_spectra(
        UnfoldedIteration(STEPS, iteration=iteration),
        LeastSquares(in_torch(MATRIX), in_torch(rhs)),
        in_torch(start),
    )
    wanted = local_spectra(
        UnfoldedIteration(STEPS, iteration=twin),
        LeastSquares(in_torch(embedded(MATRIX)), in_torch(parts(rhs))),
        in_torch(parts(start)),
    )
    assert found.eigenvalues.shape == wanted.eigenvalues.shape
    for name in ("eigenvalues", "largest_imaginary", "radii", "gains"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(wanted, name), rtol=1e-7, atol=1e-7
        )


def test_a_complex_network_learns_what_the_real_one_does() -> None:
    gradients = []
    for penalty, matrix, rhs, start in (
        (L1(2.0), MATRIX, RHS, START),
        (GroupL1(2.0, PAIRS), embedded(MATRIX), parts(RHS), parts(START)),
    ):
        network = UnfoldedIteration(STEPS, iteration=Fista(penalty))
        output = network(LeastSquares(in_torch(matrix), in_torch(rhs)), in_torch(start))
        output.abs().square().sum().backward()
        gradients.append([p.grad.numpy() for p in network.parameters() if p.grad is not None])
    np.testing.assert_allclose(*gradients, rtol=1e-8)
    assert np.all(np.abs(gradients[0]) > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("kind", ["automatic", "schedule", "lasso", "gap"])
def test_default_tolerances_of_single_precision_are_met(kind: str, dtype: torch.dtype) -> None:
    matrix = in_torch(MATRIX.real if dtype == torch.float32 else MATRIX).to(dtype)
    rhs = in_torch(RHS.real if dtype == torch.float32 else RHS).to(dtype)
    problem: Any = LeastSquares(matrix, rhs)
    steps = chebyshev_steps(estimate_bounds(problem), 8) if kind == "schedule" else None
    if kind in ("lasso", "gap"):
        problem = Composite(problem, L1(1.0))
    result = solve(problem, steps, gap_rtol=1e-4 if kind == "gap" else None)
    assert result.converged
    assert result.x.dtype == dtype
