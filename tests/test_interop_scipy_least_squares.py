"""`lsq_chebyshev` beside `scipy.sparse.linalg.lsqr`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator, lsqr

from stepfold import SpectralBounds
from stepfold.interop.scipy import LsqResult, lsq_chebyshev

KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "column-major": np.asfortranarray,
    "list": lambda a: a.tolist(),
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "operator": aslinearoperator,
}
SPECTRA = {
    "uniform": np.linspace(1.0, 10.0, 30),
    "logarithmic": np.geomspace(1.0, 300.0, 30),
    "outlier below": np.r_[0.05, np.linspace(1.0, 3.0, 29)],
    "one": np.full(30, 2.0),
}


def solved(matrix: Any, b: Any, damp: float = 0.0, x0: Any = None) -> Any:
    start = np.zeros(matrix.shape[1]) if x0 is None else x0
    tall = np.vstack([matrix, damp * np.eye(matrix.shape[1])])
    rhs = np.concatenate([b - matrix @ start, np.zeros(matrix.shape[1])])
    return start + np.linalg.lstsq(tall, rhs)[0]


@pytest.fixture(scope="module")
def rhs() -> Any:
    return np.random.default_rng(3).standard_normal(50)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_is_solved(
    factor_with: Callable[..., np.ndarray], rhs: Any, kind: str
) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    result = lsq_chebyshev(KINDS[kind](matrix), rhs, atol=1e-12, btol=1e-12)
    assert isinstance(result, LsqResult)
    assert result.istop == 2
    np.testing.assert_allclose(result.x, solved(matrix, rhs), atol=1e-10)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("damp", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("consistent", [False, True])
def test_the_rules_of_lsqr_are_met(
    factor_with: Callable[..., np.ndarray],
    rhs: Any,
    spectrum: str,
    damp: float,
    known: bool,
    consistent: bool,
) -> None:
    values = SPECTRA[spectrum]
    matrix = factor_with(values, 50)
    b = matrix @ np.ones(30) if consistent else rhs
    bounds = SpectralBounds(values.min() ** 2, values.max() ** 2).shifted(damp**2)
    result = lsq_chebyshev(matrix, b, damp, 1e-8, 1e-8, 50_000, bounds=bounds if known else None)
    norm = np.hypot(values.max(), damp)
    r = b - matrix @ result.x
    gradient = matrix.T @ r - damp**2 * result.x
    r2norm = np.hypot(np.linalg.norm(r), damp * np.linalg.norm(result.x))
    assert result.istop in (1, 2)
    allowed = 1.1 * 1e-8 * norm * (r2norm if result.istop == 2 else 1e9)
    assert np.linalg.norm(gradient) <= allowed
    if result.istop == 1:
        slack = 1e-8 * np.linalg.norm(b) + 1.1e-8 * norm * np.linalg.norm(result.x)
        assert r2norm <= slack
    np.testing.assert_allclose(
        [result.r1norm, result.r2norm, result.arnorm, result.xnorm],
        [np.linalg.norm(r), r2norm, np.linalg.norm(gradient), np.linalg.norm(result.x)],
        rtol=1e-6,
        atol=1e-10,
    )
    np.testing.assert_allclose(result.x, solved(matrix, b, damp), rtol=0, atol=1e-4)


def test_the_first_nine_fields_are_lsqrs(factor_with: Callable[..., np.ndarray], rhs: Any) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    x, istop, _, r1norm, r2norm, *_ = lsq_chebyshev(matrix, rhs, 0.3, 1e-10, 1e-10)[:9]
    expected = lsqr(matrix, rhs, 0.3, 1e-10, 1e-10)
    np.testing.assert_allclose(x, expected[0], atol=1e-8)
    assert (istop, r1norm, r2norm) == (
        expected[1],
        pytest.approx(expected[3]),
        pytest.approx(expected[4]),
    )


def test_a_start_shifts_the_ridge_as_in_lsqr(
    factor_with: Callable[..., np.ndarray], rhs: Any
) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    x0 = np.linspace(-1.0, 1.0, 30)
    result = lsq_chebyshev(matrix, rhs, 2.0, 1e-11, 1e-11, x0=x0)
    np.testing.assert_allclose(result.x, solved(matrix, rhs, 2.0, x0), atol=1e-8)
    np.testing.assert_allclose(result.x, lsqr(matrix, rhs, 2.0, 1e-11, 1e-11, x0=x0)[0], atol=1e-8)


@pytest.mark.parametrize("kind", ["dense", "csr", "operator"])
def test_complex_systems_are_solved(kind: str) -> None:
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((40, 20)) + 1j * rng.standard_normal((40, 20))
    b = rng.standard_normal(40) + 1j * rng.standard_normal(40)
    result = lsq_chebyshev(KINDS[kind](matrix), b, 0.7, 1e-11, 1e-11)
    tall = np.vstack([matrix, 0.7 * np.eye(20)])
    expected = np.linalg.lstsq(tall, np.r_[b, np.zeros(20)])[0]
    np.testing.assert_allclose(result.x, expected, atol=1e-9)


def test_float32_stays_float32(factor_with: Callable[..., np.ndarray], rhs: Any) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    result = lsq_chebyshev(matrix.astype("f4"), rhs.astype("f4"), atol=1e-5, btol=1e-5)
    assert (result.istop, result.x.dtype) == (2, np.float32)
    np.testing.assert_allclose(result.x, solved(matrix, rhs), atol=1e-3)


def test_integers_count_as_float64() -> None:
    result = lsq_chebyshev(np.array([[1, 0], [0, 2], [0, 0]]), np.array([1, 4, 3]))
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, [1.0, 2.0], atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "csr", "operator"])
@pytest.mark.parametrize("known", [False, True])
def test_rows_are_solved_together_and_each_to_its_own_tolerance(
    factor_with: Callable[..., np.ndarray], known: bool, kind: str
) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    scales = np.array([[1e-9], [1.0], [1e9], [0.0]])
    rows = np.random.default_rng(6).standard_normal((4, 50)) * scales
    bounds = SpectralBounds(1.0, 100.0) if known else None
    result = lsq_chebyshev(KINDS[kind](matrix), rows, 0.0, 1e-10, 1e-10, bounds=bounds)
    assert result.x.shape == (4, 30)
    assert result.istop.tolist() == [2, 2, 2, 0]
    expected = np.linalg.lstsq(matrix, rows.T)[0].T
    scales[3] = 1.0
    np.testing.assert_allclose(result.x / scales, expected / scales, atol=1e-8)
    np.testing.assert_allclose(result.xnorm, np.linalg.norm(result.x, axis=1))


def test_a_column_is_one_right_hand_side(factor_with: Callable[..., np.ndarray], rhs: Any) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    column, vector = (lsq_chebyshev(matrix, b) for b in (rhs[:, None], rhs))
    np.testing.assert_array_equal(column.x, vector.x)


def test_bounds_found_serve_the_next_call(factor_with: Callable[..., np.ndarray], rhs: Any) -> None:
    matrix = factor_with(SPECTRA["logarithmic"], 50)
    first = lsq_chebyshev(matrix, rhs, atol=1e-9, btol=1e-9, iter_lim=10_000)
    assert first.bounds is not None
    assert first.bounds.upper >= 300.0**2
    again = lsq_chebyshev(matrix, rhs, atol=1e-9, btol=1e-9, iter_lim=10_000, bounds=first.bounds)
    assert again.istop == 2
    np.testing.assert_allclose(again.x, solved(matrix, rhs), atol=1e-5)


def test_products_are_counted(factor_with: Callable[..., np.ndarray], rhs: Any) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    count = [0]

    def counted(product: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            count[0] += 1
            return product(x)

        return call

    operator = LinearOperator(
        matrix.shape,
        matvec=counted(lambda x: matrix @ x),
        rmatvec=counted(lambda y: matrix.T @ y),
        dtype=float,
    )
    result = lsq_chebyshev(operator, rhs, atol=1e-9, btol=1e-9)
    assert result.num_products == count[0]
    # One product each way per iteration, one residual at the start, one when the first steps end.
    assert count[0] <= 2 * result.itn + 6


def test_a_wide_matrix_gives_the_solution_of_smallest_norm(
    factor_with: Callable[..., np.ndarray],
) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50).T
    b = np.arange(30.0)
    result = lsq_chebyshev(matrix, b, atol=1e-12, btol=1e-12)
    assert result.istop == 1
    np.testing.assert_allclose(result.x, np.linalg.pinv(matrix) @ b, atol=1e-9)


def test_zero_rows_and_columns_do_no_harm(factor_with: Callable[..., np.ndarray], rhs: Any) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    matrix[7], matrix[:, 4] = 0.0, 0.0
    result = lsq_chebyshev(matrix, rhs, atol=1e-11, btol=1e-11)
    assert result.istop == 2
    np.testing.assert_allclose(result.x, np.linalg.pinv(matrix) @ rhs, atol=1e-7)


def test_a_singular_matrix_gives_the_solution_of_smallest_norm(rhs: Any) -> None:
    rng = np.random.default_rng(8)
    matrix = rng.standard_normal((50, 6)) @ rng.standard_normal((6, 20))
    result = lsq_chebyshev(matrix, rhs, atol=1e-11, btol=1e-11)
    assert result.istop == 2
    np.testing.assert_allclose(result.x, np.linalg.pinv(matrix) @ rhs, atol=1e-8)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("iter_lim", [0, 1, 5, 40])
def test_the_budget_is_kept(
    factor_with: Callable[..., np.ndarray], rhs: Any, iter_lim: int, known: bool
) -> None:
    matrix = factor_with(SPECTRA["logarithmic"], 50)
    bounds = SpectralBounds(1.0, 300.0**2) if known else None
    result = lsq_chebyshev(matrix, rhs, 0.0, 1e-12, 1e-12, iter_lim, bounds=bounds)
    assert (result.istop, result.itn) == (7, iter_lim)
    assert result.r1norm <= np.linalg.norm(rhs)


def test_a_right_hand_side_of_0_gives_0_at_once(factor_with: Callable[..., np.ndarray]) -> None:
    result = lsq_chebyshev(factor_with(SPECTRA["uniform"], 50), np.zeros(50))
    assert (result.itn, np.count_nonzero(result.x), result.bounds) == (0, 0, None)
    assert result.istop == 0


def test_an_exact_start_takes_no_iteration(factor_with: Callable[..., np.ndarray]) -> None:
    matrix = np.vstack([np.diag(np.arange(1.0, 6.0)), np.zeros((2, 5))])
    b = np.r_[np.arange(1.0, 6.0), 1.0, 1.0]
    result = lsq_chebyshev(matrix, b, 0.0, 0.0, 0.0, x0=np.ones(5))
    assert (result.itn, result.x.tolist(), result.istop) == (0, [1.0] * 5, 2)


def test_the_zero_matrix_is_solved_by_0() -> None:
    result = lsq_chebyshev(np.zeros((4, 3)), np.ones(4))
    assert (result.x.tolist(), result.itn, result.istop) == ([0.0] * 3, 0, 2)


def test_a_tolerance_below_rounding_ends_at_the_precision_floor(
    factor_with: Callable[..., np.ndarray], rhs: Any
) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    result = lsq_chebyshev(matrix, rhs, 0.0, 0.0, 0.0, 10**6)
    assert result.istop == 8
    np.testing.assert_allclose(result.x, solved(matrix, rhs), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-290, 1e-170, 1e170])
def test_units_of_the_right_hand_side_do_not_matter(
    factor_with: Callable[..., np.ndarray], rhs: Any, scale: float
) -> None:
    matrix = factor_with(SPECTRA["uniform"], 50)
    result = lsq_chebyshev(matrix, scale * rhs, atol=1e-9, btol=1e-9)
    assert result.istop == 2
    np.testing.assert_allclose(result.x / scale, solved(matrix, rhs), atol=1e-7)


def test_callers_arrays_are_not_written_to(
    factor_with: Callable[..., np.ndarray], rhs: Any
) -> None:
    matrix, x0, b = factor_with(SPECTRA["uniform"], 50), np.ones(30), rhs.copy()
    copies = matrix.copy(), x0.copy()
    for array in (matrix, x0, b):
        array.flags.writeable = False
    lsq_chebyshev(matrix, b, x0=x0)
    assert (copies[0] == matrix).all()
    assert (copies[1] == x0).all()


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((np.ones((4, 3)), np.ones(3)), {}, r"`b` must have shape \(4,\) or \(4, k\).* \(k, 4\)"),
        ((np.ones((4, 3)), np.ones((5, 2))), {}, r"`b` must have shape .*got \(5, 2\)"),
        ((np.ones((4, 3)), np.ones((0, 4))), {}, r"`b` must have shape .*got \(0, 4\)"),
        ((np.ones((4, 3)), 1.0), {}, r"`b` must have shape .*got \(\)"),
        (
            (np.ones((0, 3)), np.ones(0)),
            {},
            r"`A` must have .* at least one row .*got shape \(0, 3\)",
        ),
        (
            (np.ones((3, 0)), np.ones(3)),
            {},
            r"`A` must have .* at least one row .*got shape \(3, 0\)",
        ),
        ((np.ones((4, 3)), np.ones(4)), {"x0": np.ones(4)}, r"`x0` must have shape \(3,\)"),
        (
            (np.ones((4, 3)), np.ones((2, 4))),
            {"x0": np.ones(3)},
            r"`x0` must have one row for each right-hand side",
        ),
        ((np.ones((4, 3)), [1, 2, np.nan, 4]), {}, r"`b` must be finite, got nan at index 2"),
        ((np.full((4, 3), np.inf), np.ones(4)), {}, r"`A` must be finite"),
        ((np.ones((4, 3)), np.ones(4), -1.0), {}, r"`damp` must be at least 0 and finite"),
        ((np.ones((4, 3)), np.ones(4), 0.0, np.nan), {}, r"`atol` must be at least 0 and finite"),
        ((np.ones((4, 3)), np.ones(4), 0, 0, -1), {}, r"`btol` must be at least 0 and finite"),
        ((np.ones((4, 3)), np.ones(4)), {"iter_lim": -1}, r"`iter_lim` must be an integer of at"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_value_is_said(
    arguments: tuple[Any, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        lsq_chebyshev(*arguments, **settings)


@pytest.mark.parametrize("unit", [1e-300, 1e-150, 1e-60, 1e60, 1e80, 1e200, 1e300])
def test_units_of_the_matrix_do_not_matter(unit: float) -> None:
    matrix = np.random.default_rng(0).standard_normal((8, 4))
    result = lsq_chebyshev(unit * matrix, np.ones(8), atol=1e-12, btol=1e-12)
    expected = np.linalg.lstsq(matrix, np.ones(8))[0]
    np.testing.assert_allclose(unit * result.x, expected, rtol=1e-8)
    assert result.r1norm == pytest.approx(np.linalg.norm(matrix @ expected - 1), rel=1e-6)


def test_bounds_of_a_hessian_that_underflows_are_not_gone_by() -> None:
    matrix = np.random.default_rng(0).standard_normal((8, 4))
    result = lsq_chebyshev(1e-300 * matrix, np.ones(8), bounds=SpectralBounds(1e-320, 1e-310))
    expected = np.linalg.lstsq(matrix, np.ones(8))[0]
    np.testing.assert_allclose(1e-300 * result.x, expected, rtol=1e-5)


def test_columns_are_right_hand_sides_and_a_square_of_them_too() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((9, 9)) + 6 * np.eye(9)
    for count in (9, 2):
        solutions = rng.standard_normal((9, count))
        result = lsq_chebyshev(matrix, matrix @ solutions, atol=1e-12, btol=1e-12)
        np.testing.assert_allclose(result.x, solutions, atol=1e-8)
        assert result.istop.shape == (count,)
    rows = lsq_chebyshev(matrix, (matrix @ solutions).T, atol=1e-12, btol=1e-12)
    np.testing.assert_allclose(rows.x, solutions.T, atol=1e-8)


@pytest.mark.parametrize(("m", "n", "rank"), [(40, 80, 40), (60, 30, 12), (25, 60, 9), (30, 30, 7)])
def test_many_right_hand_sides_end_at_the_solutions_of_smallest_norm(
    m: int, n: int, rank: int
) -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) / np.sqrt(rank)
    rows = rng.standard_normal((70, m))
    result = lsq_chebyshev(matrix, rows.T, atol=1e-13, btol=1e-13)
    best = np.linalg.pinv(matrix, rcond=1e-10) @ rows.T
    assert abs(result.x - best).max() <= 1e-9 * abs(best).max()
