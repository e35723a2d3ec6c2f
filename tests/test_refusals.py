"""What is refused before work starts, by name, rule, value and remedy, whatever asks for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    accelerate,
    lasso,
    solve,
)
from stepfold.accelerate import Anderson, iterate
from stepfold.interop.scipy import chebyshev, lsq_chebyshev
from stepfold.iterations import (
    Fista,
    GradientDescent,
    ProximalGradient,
    Relaxation,
    heavy_ball,
    nesterov,
)
from stepfold.problems import Composite, gauss_seidel, jacobi_iteration, landweber, sor
from stepfold.problems.jacobian import jacobian_spectrum
from stepfold.problems.out_of_core import BlockedLeastSquares
from stepfold.problems.penalties import L1
from stepfold.schedules import SCHEDULES

MATRIX = np.random.default_rng(0).standard_normal((8, 4))
RHS = np.random.default_rng(1).standard_normal(8)
ONES = np.ones(4)
SCHEDULE = Schedule([0.05])
MASKED: Any = np.ma.masked_greater(MATRIX, 1.0)


def _problem() -> LeastSquares[Any]:
    return LeastSquares(MATRIX, RHS)


def _lasso() -> Composite[Any]:
    return lasso(MATRIX, RHS, weight=0.1)


CASES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "solve, callback": (
        lambda: solve(_problem(), SCHEDULE, callback=3),  # type: ignore[arg-type]
        TypeError,
        "`callback` must be a function or None, got int",
    ),
    "solve, class of an iteration": (
        lambda: solve(_problem(), SCHEDULE, iteration=GradientDescent),  # type: ignore[arg-type]
        TypeError,
        r"must be an Iteration, got class GradientDescent; .* `GradientDescent\(\)`",
    ),
    "solve, name of an iteration": (
        lambda: solve(_problem(), SCHEDULE, iteration="nesterov"),  # type: ignore[arg-type]
        TypeError,
        "`iteration` must be an Iteration, got 'nesterov'",
    ),
    "solve, relaxation": (
        lambda: solve(_problem(), SCHEDULE, iteration=Relaxation()),
        TypeError,
        r"got Relaxation, which steps on maps; find fixed points by `accelerate",
    ),
    "solve, FISTA": (
        lambda: solve(_problem(), SCHEDULE, iteration=Fista(L1(1.0))),
        TypeError,
        "on problems without a penalty, got Fista; minimise `Composite",
    ),
    "solve, ISTA": (
        lambda: solve(_problem(), SCHEDULE, iteration=ProximalGradient(L1(1.0))),
        TypeError,
        "on problems without a penalty, got ProximalGradient",
    ),
    "solve, data too large": (
        lambda: solve(LeastSquares(1e200 * np.eye(2), np.array([1e200, 1.0])), SCHEDULE),
        ValueError,
        "the Hessian of `problem` is outside the range of float64; scale",
    ),
    "solve, data too small": (
        lambda: solve(LeastSquares(1e-200 * np.eye(2), np.array([1e-200, 1.0])), SCHEDULE),
        ValueError,
        "the Hessian of `problem` is outside the range of float64; scale",
    ),
    "composite, data too large": (
        lambda: solve(
            Composite(LeastSquares(1e30 * torch.eye(2), 1e30 * torch.ones(2)), L1(1.0)), SCHEDULE
        ),
        ValueError,
        r"must have a Hessian, a gradient and a solution that float32 can hold",
    ),
    "composite, callback": (
        lambda: solve(_lasso(), callback="print"),  # type: ignore[arg-type]
        TypeError,
        "`callback` must be a function or None, got str",
    ),
    "composite, instance of an iteration": (
        lambda: solve(_lasso(), iteration=Fista(L1(0.1))),  # type: ignore[arg-type]
        TypeError,
        "`iteration` must make an Iteration from a penalty, got Fista; .* not an instance",
    ),
    "composite, no iteration": (
        lambda: solve(_lasso(), iteration=3),  # type: ignore[arg-type]
        TypeError,
        "`iteration` must make an Iteration from a penalty, got int",
    ),
    "composite, complex start": (
        lambda: solve(_lasso(), x0=1j * ONES),
        TypeError,
        r"`x0` must be real, as the problem is, got dtype complex128; pass `x0\.real`",
    ),
    "value": (
        lambda: _lasso().value(np.ones(3)),
        ValueError,
        r"`x` must be an array of the shape of a solution, \(4,\), got \(3,\)",
    ),
    "gap of a list": (
        lambda: _lasso().gap([1.0, 2.0, 3.0, 4.0]),  # type: ignore[arg-type]
        ValueError,
        r"`x` must be an array of the shape of a solution, \(4,\), got list",
    ),
    "optimality": (
        lambda: _lasso().optimality(np.ones((2, 4))),
        ValueError,
        r"\(4,\), got \(2, 4\)",
    ),
    "optimality, no step": (
        lambda: _lasso().optimality(ONES, 0.0),
        ValueError,
        r"`gamma` must be above 0 and finite, got 0\.0",
    ),
    "map of a composite": (
        lambda: _lasso().fixed_point("1"),  # type: ignore[arg-type]
        TypeError,
        "`gamma` must be a real number, got str",
    ),
    "Landweber of a composite": (
        lambda: landweber(_lasso()),  # type: ignore[arg-type]
        TypeError,
        r"`problem` must be a Problem, got Composite; .* `fixed_point\(\)`",
    ),
    "Jacobi, start": (
        lambda: accelerate(jacobi_iteration(MATRIX.T @ MATRIX, ONES), np.zeros(3)),
        ValueError,
        r"`x` must have the shape of `rhs`, \(4,\), got \(3,\)",
    ),
    "Gauss–Seidel, start": (
        lambda: accelerate(gauss_seidel(sp.csr_array(np.eye(4)), ONES), np.zeros((1, 4))),
        ValueError,
        r"`x` must have the shape of `rhs`, \(4,\), got \(1, 4\)",
    ),
    "over-relaxation": (
        lambda: sor(np.eye(2), np.ones(2), "1"),  # type: ignore[arg-type]
        TypeError,
        "`omega` must be a real number, got str",
    ),
    "masked matrix": (
        lambda: LeastSquares(MASKED, RHS),
        TypeError,
        r"`operator` must be an array without a mask, got MaskedArray; .* `operator\.filled\(0\)`",
    ),
    "masked right-hand side": (
        lambda: LeastSquares(MATRIX, MASKED[:, 0]),
        TypeError,
        "`rhs` must be an array without a mask",
    ),
    "sparse right-hand side": (
        lambda: Quadratic(np.eye(8), sp.csr_array(RHS[None])),
        TypeError,
        r"`rhs` must be dense, got csr_array; pass `rhs\.toarray\(\)`",
    ),
    "SciPy's door, masked matrix": (
        lambda: chebyshev(MASKED, ONES),
        TypeError,
        "`A` must be an array without a mask",
    ),
    "SciPy's door, masked right-hand side": (
        lambda: lsq_chebyshev(MATRIX, MASKED[:, 0]),
        TypeError,
        "`b` must be an array without a mask",
    ),
    "SciPy's door, callback": (
        lambda: chebyshev(np.eye(4), ONES, callback=3),
        TypeError,
        "`callback` must be a function or None, got int",
    ),
    "heavy ball": (
        lambda: heavy_ball((1.0, 9.0)),  # type: ignore[arg-type]
        TypeError,
        "`bounds` must be SpectralBounds, got tuple; wrap the ends",
    ),
    "Nesterov": (
        lambda: nesterov(None),  # type: ignore[arg-type]
        TypeError,
        "`bounds` must be SpectralBounds, got NoneType; wrap the ends",
    ),
    "a matrix on disk with a tensor": (
        lambda: BlockedLeastSquares(MATRIX, torch.ones(8)),  # type: ignore[arg-type]
        TypeError,
        r"`rhs` must be an array of NumPy, got a tensor; pass `rhs\.numpy\(\)`",
    ),
    "accelerate, sparse start": (
        lambda: accelerate(np.cos, sp.csr_array(np.eye(2))),  # type: ignore[arg-type]
        TypeError,
        r"`x0` must be dense, got csr_array; pass `x0\.toarray\(\)`",
    ),
    "accelerate, masked start": (
        lambda: accelerate(np.cos, MASKED),
        TypeError,
        "`x0` must be an array without a mask",
    ),
    "accelerate, tolerance": (
        lambda: accelerate(np.cos, ONES, rtol=None),  # type: ignore[arg-type]
        TypeError,
        "`rtol` must be a real number, got NoneType",
    ),
    "accelerate, time": (
        lambda: accelerate(np.cos, ONES, max_seconds="1"),  # type: ignore[arg-type]
        TypeError,
        "`max_seconds` must be a real number, got str",
    ),
    "accelerate, stop": (
        lambda: accelerate(np.cos, ONES, stop=1e-3),  # type: ignore[arg-type]
        TypeError,
        "`stop` must be a function or None, got float",
    ),
    "accelerate, stop of many": (
        lambda: accelerate(np.cos, ONES, stop=lambda x: x < 1),  # type: ignore[arg-type, return-value]
        ValueError,
        r"`stop` must return one truth value, got shape \(4,\); .* `\.all\(\)`",
    ),
    "accelerate, callback": (
        lambda: accelerate(np.cos, ONES, callback=1),  # type: ignore[arg-type]
        TypeError,
        "`callback` must be a function or None, got int",
    ),
    "plain iteration, callback": (
        lambda: iterate(np.cos, ONES, callback=1),  # type: ignore[arg-type]
        TypeError,
        "`callback` must be a function or None, got int",
    ),
    "accelerate, schedule and bounds": (
        lambda: accelerate(np.cos, ONES, schedule=SCHEDULE, bounds=SpectralBounds(0.1, 1.0)),
        ValueError,
        "`bounds` must be left out where a `schedule` is given, got both",
    ),
    "spectrum of a map that is not finite": (
        lambda: jacobian_spectrum(lambda x: x * np.inf, ONES),
        ValueError,
        "`map` must be differentiable near `x`, got what is not finite",
    ),
    "spectrum of the identity": (
        lambda: jacobian_spectrum(lambda x: 1 * x, ONES),
        ValueError,
        "that is 1 of the Jacobian: near this point the map is no contraction",
    ),
    "spectrum of the identity on tensors": (
        lambda: jacobian_spectrum(lambda x: 1 * x, torch.ones(4)),
        ValueError,
        "that is 1 of the Jacobian",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_a_remedy(name: str) -> None:
    call, error, message = CASES[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("bounds", [(1.0, 100.0), None, np.array([1.0, 100.0])])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ends_that_are_not_wrapped_are_refused(name: str, bounds: Any) -> None:
    with pytest.raises(TypeError, match=r"must be .*SpectralBounds, got (tuple|NoneType|nd)"):
        SCHEDULES[name](bounds, 8)


def test_the_spectrum_at_a_number_is_its_derivative() -> None:
    bounds = jacobian_spectrum(np.cos, 0.7)
    assert isinstance(bounds, SpectralBounds)
    assert bounds.lower == pytest.approx(1 + np.sin(0.7), rel=1e-6)


def test_a_start_in_the_other_byte_order_is_taken() -> None:
    result = accelerate(np.cos, np.array([0.0, 1.0]).astype(">f8"))
    np.testing.assert_allclose(result.x, 0.739085, atol=1e-6)
    assert result.x.dtype.isnative


@pytest.mark.parametrize("start", [np.ones(3, dtype=np.float16), torch.ones(3).bfloat16()])
def test_anderson_mixes_in_half_precision(start: Any) -> None:
    result = iterate(lambda x: x / 2 + 1, start, Anderson(), rtol=1e-2)
    assert result.converged
    assert result.x.dtype == start.dtype
    np.testing.assert_allclose(result.x.tolist(), 2.0, rtol=1e-2)


def test_a_gap_may_be_asked_of_what_has_diverged() -> None:
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(_lasso().gap(np.inf * ONES))
