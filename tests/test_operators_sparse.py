"""Sparse tensors of torch: stored by rows beside their adjoint."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from stepfold import L1, Composite, LeastSquares, Quadratic, Schedule, estimate_bounds, plan, solve
from stepfold.operators import adjoint_of
from stepfold.unfolded import UnfoldedIteration

pytestmark = pytest.mark.filterwarnings("ignore:Sparse .* beta state:UserWarning")
RNG = np.random.default_rng(3)
REAL = np.where(RNG.random((60, 30)) < 0.3, RNG.standard_normal((60, 30)), 0)
DENSE = {
    torch.float64: torch.from_numpy(REAL),
    torch.float32: torch.from_numpy(REAL).float(),
    torch.complex128: torch.from_numpy(REAL * (1 + 2j) + 1j * REAL[::-1]),
    torch.complex64: torch.from_numpy(REAL * (1 + 2j) + 1j * REAL[::-1]).to(torch.complex64),
}
ROWS = torch.from_numpy(RNG.standard_normal((4, 60)))
TOLERANCE = {torch.float64: 1e-11, torch.complex128: 1e-11}


@pytest.mark.parametrize("dtype", DENSE)
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_a_sparse_tensor_and_its_adjoint_stay_by_rows(layout: str, dtype: torch.dtype) -> None:
    dense = DENSE[dtype]
    problem = LeastSquares(getattr(dense, layout)(), ROWS.to(dtype))
    adjoint = adjoint_of(problem.operator)
    assert problem.operator.layout == adjoint.layout == torch.sparse_csr
    assert adjoint is adjoint_of(problem.operator)
    assert adjoint_of(adjoint) is problem.operator
    assert torch.equal(adjoint.to_dense(), dense.mH)
    x = ROWS[:, :30].to(dtype)
    wanted = LeastSquares(dense, ROWS.to(dtype)).gradient(x)
    tolerance = TOLERANCE.get(dtype, 1e-4)
    torch.testing.assert_close(problem.gradient(x), wanted, rtol=tolerance, atol=tolerance)
    assert problem.with_rhs(2 * problem.rhs).operator is problem.operator


def test_a_tensor_stored_by_rows_shares_its_values_and_is_not_written_to() -> None:
    csr = DENSE[torch.float64].to_sparse_csr()
    before = dict(vars(csr))
    problem = LeastSquares(csr, ROWS[0])
    assert problem.operator.values().data_ptr() == csr.values().data_ptr()
    assert vars(csr) == before
    assert csr.col_indices().dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivatives_through_a_sparse_tensor_are_those_through_the_dense_one(
    dtype: torch.dtype,
) -> None:
    gradients = []
    for matrix in (DENSE[dtype], DENSE[dtype].to_sparse_csr()):
        problem = LeastSquares(matrix, ROWS.to(dtype))
        network = UnfoldedIteration(Schedule([0.02, 0.01, 0.03]))
        x = (0.1 * ROWS[:, :30]).to(dtype).requires_grad_()
        loss = network(problem, x).abs().square().sum()
        (by_x,) = torch.autograd.grad(loss, x, create_graph=True)
        (second,) = torch.autograd.grad(by_x.abs().square().sum(), x)
        gradients.append((by_x, second))
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_bounds_plan_and_solution_are_those_of_the_dense_tensor() -> None:
    dense = DENSE[torch.complex128]
    problem = LeastSquares(dense.to_sparse(), ROWS.to(torch.complex128))
    largest = float(torch.linalg.matrix_norm(dense, 2)) ** 2
    assert largest <= estimate_bounds(problem).upper <= 1.03 * largest
    wide = LeastSquares(dense.mH.resolve_conj().to_sparse(), ROWS[0, :30].to(torch.complex128))
    assert plan(wide).bounds.upper == pytest.approx(largest, rel=0.05)
    wanted = torch.linalg.lstsq(dense, ROWS.T.to(dense.dtype)).solution.T
    torch.testing.assert_close(solve(problem).x, wanted, rtol=1e-6, atol=1e-7)


def test_a_sparse_system_and_a_sparse_lasso_are_solved() -> None:
    grid = sp.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(200, 200)).tocsr()
    parts = (torch.from_numpy(part) for part in (grid.indptr, grid.indices, grid.data))
    csr = torch.sparse_csr_tensor(*parts, (200, 200))
    result = solve(Quadratic(csr, torch.ones(200, dtype=torch.float64)))
    expected = sp.linalg.spsolve(grid.tocsc(), np.ones(200))
    np.testing.assert_allclose(result.x.numpy(), expected, rtol=1e-6)
    found, wanted = (
        solve(Composite(LeastSquares(matrix, ROWS[0]), L1(2.0)), gap_rtol=1e-10).x
        for matrix in (DENSE[torch.float64].to_sparse_csr(), DENSE[torch.float64])
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_entries_that_are_trained_get_their_gradient() -> None:
    dense = DENSE[torch.float64]
    weights = dense.to_sparse_csr().requires_grad_()
    LeastSquares(weights, ROWS[0]).residual(ROWS[0, :30]).square().sum().backward()
    twin = dense.clone().requires_grad_()
    (ROWS[0, :30] @ twin.T - ROWS[0]).square().sum().backward()
    assert weights.grad is not None
    assert twin.grad is not None
    torch.testing.assert_close(weights.grad.to_dense(), twin.grad)
