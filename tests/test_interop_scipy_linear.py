"""`chebyshev` beside `scipy.sparse.linalg.cg`: same arguments, same answers, same codes."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg

from stepfold import SpectralBounds
from stepfold.interop.scipy import chebyshev

RNG = np.random.default_rng(5)
SIZE = 60


class Duck:
    """What `aslinearoperator` takes: a shape, a dtype and a product."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.shape, self.dtype, self._matrix = matrix.shape, matrix.dtype, matrix

    def matvec(self, x: Any) -> Any:
        return self._matrix @ x


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": lambda a: a,
    "column-major": np.asfortranarray,
    "list": lambda a: a.tolist(),
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "csr matrix": sp.csr_matrix,
    "operator": aslinearoperator,
    "duck": Duck,
}
SPECTRA = {
    "clustered": np.repeat([1.0, 2.0, 7.0], SIZE // 3),
    "uniform": np.linspace(1.0, 50.0, SIZE),
    "logarithmic": np.geomspace(1.0, 1e4, SIZE),
    "outlier below": np.r_[1e-3, np.linspace(1.0, 5.0, SIZE - 1)],
    "outlier above": np.r_[np.linspace(1.0, 5.0, SIZE - 1), 1e3],
    "one": np.full(SIZE, 3.0),
}


def residual(matrix: Any, x: Any, b: Any) -> float:
    return float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b))


def test_the_arguments_are_those_of_cg() -> None:
    ours, theirs = (inspect.signature(f).parameters for f in (chebyshev, cg))
    assert list(ours) == [*theirs, "bounds"]
    assert [ours[name].kind for name in theirs] == [theirs[name].kind for name in theirs]
    assert [ours[name].default for name in theirs] == [theirs[name].default for name in theirs]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_is_solved(
    symmetric_with: Callable[..., np.ndarray], kind: str
) -> None:
    matrix = symmetric_with(SPECTRA["uniform"])
    b = np.random.default_rng(1).standard_normal(SIZE)
    x, info = chebyshev(KINDS[kind](matrix), b, rtol=1e-11)
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), atol=1e-9)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("rtol", [1e-2, 1e-5, 1e-11])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_tolerance_is_met_by_the_true_residual(
    symmetric_with: Callable[..., np.ndarray], spectrum: str, rtol: float, known: bool
) -> None:
    eigenvalues = SPECTRA[spectrum]
    matrix = symmetric_with(eigenvalues)
    b = np.random.default_rng(1).standard_normal(SIZE)
    bounds = SpectralBounds(eigenvalues.min(), eigenvalues.max()) if known else None
    x, info = chebyshev(matrix, b, rtol=rtol, bounds=bounds, maxiter=20_000)
    assert info == 0
    assert residual(matrix, x, b) <= rtol


@pytest.mark.parametrize(
    ("a_dtype", "b_dtype"),
    [
        ("f4", "f4"), ("f4", "f8"), ("f8", "f4"), ("i8", "f4"), ("i4", "i4"), ("?", "f8"),
        ("c8", "f4"), ("c16", "f8"), ("f8", "c16"), ("f4", "c8"), ("f2", "f2"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["dense", "operator"])
def test_types_are_those_of_cg(kind: str, a_dtype: str, b_dtype: str) -> None:
    matrix = KINDS[kind](np.eye(6).astype(a_dtype))
    b = np.arange(1, 7).astype(b_dtype)
    ours, theirs = chebyshev(matrix, b), cg(matrix, b)
    assert (ours[0].dtype, ours[0].shape, ours[1]) == (theirs[0].dtype, theirs[0].shape, 0)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_hermitian_systems_are_solved_in_every_precision(dtype: str, preconditioned: bool) -> None:
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.standard_normal((30, 30)) + 1j * rng.standard_normal((30, 30)))[0]
    if dtype.startswith("f"):
        basis = np.linalg.qr(basis.real)[0]
    scale = np.geomspace(1.0, 100.0, 30)
    matrix = (basis * np.linspace(1.0, 20.0, 30)) @ basis.conj().T
    matrix = (scale[:, None] * matrix * scale).astype(dtype)
    b = (scale * (rng.standard_normal(30) + (0 if dtype[0] == "f" else 1j))).astype(dtype)
    inverse = sp.diags_array(1 / scale**2) if preconditioned else None
    x, info = chebyshev(matrix, b, rtol=3e-5, maxiter=30_000, M=inverse)
    assert (info, x.dtype) == (0, np.dtype(dtype))
    assert residual(matrix, x, b) <= 4e-5


def test_a_preconditioner_takes_the_place_of_many_iterations() -> None:
    rng = np.random.default_rng(2)
    size = 400
    scale = np.geomspace(1.0, 1e3, size)
    core = sp.diags_array([np.full(size, 2.1), -np.ones(size - 1), -np.ones(size - 1)],
                          offsets=[0, 1, -1])  # fmt: skip
    matrix = sp.csr_array(sp.diags_array(scale) @ core @ sp.diags_array(scale))
    b = scale * rng.standard_normal(size)
    inverse = sp.diags_array(1 / matrix.diagonal())
    counts = []
    for preconditioner in (None, inverse):
        steps: list[int] = []
        x, info = chebyshev(
            matrix, b, M=preconditioner, maxiter=100_000, callback=lambda _, s=steps: s.append(1)
        )
        assert info == 0
        assert residual(matrix, x, b) <= 1e-5
        counts.append(len(steps))
    assert counts[1] < counts[0] / 10


def test_bounds_with_a_preconditioner_are_those_of_the_product(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    matrix = symmetric_with(np.linspace(1.0, 50.0, SIZE))
    inverse = np.diag(np.linspace(0.5, 2.0, SIZE))
    eigenvalues = np.linalg.eigvals(inverse @ matrix).real
    bounds = SpectralBounds(eigenvalues.min(), eigenvalues.max())
    b = np.ones(SIZE)
    x, info = chebyshev(matrix, b, M=inverse, bounds=bounds, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), atol=1e-8)


@pytest.mark.parametrize("factor", [0.02, 0.5, 0.9, 0.98])
def test_an_upper_bound_that_is_too_low_is_raised(
    symmetric_with: Callable[..., np.ndarray], factor: float
) -> None:
    matrix = symmetric_with(np.geomspace(1.0, 100.0, SIZE))
    b = np.random.default_rng(1).standard_normal(SIZE)
    counts = []
    for bounds in (SpectralBounds(1.0, 100.0), SpectralBounds(1.0, 100.0 * factor)):
        steps: list[int] = []
        x, info = chebyshev(
            matrix, b, rtol=1e-8, bounds=bounds, callback=lambda _, s=steps: s.append(1)
        )
        assert info == 0
        assert residual(matrix, x, b) <= 1e-8
        counts.append(len(steps))
    assert counts[1] <= 2 * counts[0]


@pytest.mark.parametrize("factor", [3.0, 30.0, 0.1, 0.0])
def test_a_wrong_lower_bound_only_slows(
    symmetric_with: Callable[..., np.ndarray], factor: float
) -> None:
    matrix = symmetric_with(np.geomspace(1.0, 100.0, SIZE))
    b = np.random.default_rng(1).standard_normal(SIZE)
    bounds = SpectralBounds(factor, 100.0)
    x, info = chebyshev(matrix, b, rtol=1e-8, bounds=bounds, maxiter=600)
    assert info == 0
    assert residual(matrix, x, b) <= 1e-8


@pytest.mark.parametrize("maxiter", [0, 1, 2, 5, 31, 32, 33, 40])
@pytest.mark.parametrize("known", [False, True])
def test_the_budget_is_kept_and_returned(
    symmetric_with: Callable[..., np.ndarray], maxiter: int, known: bool
) -> None:
    matrix = symmetric_with(np.geomspace(1.0, 1e4, SIZE))
    b = np.random.default_rng(1).standard_normal(SIZE)
    seen: list[Any] = []
    bounds = SpectralBounds(1.0, 1e4) if known else None
    x, info = chebyshev(
        matrix, b, rtol=1e-12, maxiter=maxiter, bounds=bounds,
        callback=lambda xk: seen.append(xk.copy()),
    )  # fmt: skip
    assert (info, len(seen)) == (maxiter, maxiter)
    assert residual(matrix, x, b) <= 1


def test_the_callback_sees_every_iterate_and_the_last_is_returned(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    matrix = symmetric_with(np.linspace(1.0, 100.0, SIZE))
    b = np.ones(SIZE)
    seen: list[Any] = []
    x, _ = chebyshev(matrix, b, callback=lambda xk: seen.append(xk.copy()))
    np.testing.assert_array_equal(seen[-1], x)
    assert len({row.tobytes() for row in seen}) == len(seen)


@pytest.mark.parametrize("x0", [None, np.ones(SIZE)])
def test_a_right_hand_side_of_0_gives_0_at_once(x0: Any) -> None:
    x, info = chebyshev(np.eye(SIZE), np.zeros(SIZE), x0)
    assert (info, np.count_nonzero(x), x.shape) == (0, 0, (SIZE,))


def test_an_exact_start_takes_no_iteration(symmetric_with: Callable[..., np.ndarray]) -> None:
    matrix = np.diag(np.arange(1.0, SIZE + 1))
    seen: list[Any] = []
    x0 = np.ones(SIZE)
    x, info = chebyshev(matrix, matrix @ x0, x0, rtol=0.0, callback=seen.append)
    assert (info, seen, x.tolist()) == (0, [], x0.tolist())


def test_a_start_is_used_and_not_written_to(symmetric_with: Callable[..., np.ndarray]) -> None:
    matrix = symmetric_with(np.linspace(1.0, 50.0, SIZE))
    b = np.ones(SIZE)
    x0 = np.linalg.solve(matrix, b) + 1e-4
    x0.flags.writeable = b.flags.writeable = matrix.flags.writeable = False
    steps: list[int] = []
    _, info = chebyshev(matrix, b, x0, callback=lambda _: steps.append(1))
    assert info == 0
    assert len(steps) < 30


def test_columns_are_flattened_as_cg_does(symmetric_with: Callable[..., np.ndarray]) -> None:
    matrix = symmetric_with(np.linspace(1.0, 5.0, SIZE))
    x, info = chebyshev(matrix, np.ones((SIZE, 1)), np.ones((SIZE, 1)))
    assert (info, x.shape) == (0, (SIZE,))


def test_the_absolute_tolerance_counts(symmetric_with: Callable[..., np.ndarray]) -> None:
    matrix = symmetric_with(np.linspace(1.0, 50.0, SIZE))
    b = np.ones(SIZE)
    x, info = chebyshev(matrix, b, rtol=0.0, atol=0.5)
    assert info == 0
    assert 1e-3 < np.linalg.norm(b - matrix @ x) <= 0.5


@pytest.mark.parametrize("scale", [1e-290, 1e-170, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("known", [False, True])
def test_units_of_the_right_hand_side_do_not_matter(
    symmetric_with: Callable[..., np.ndarray], scale: float, known: bool
) -> None:
    matrix = symmetric_with(np.linspace(1.0, 50.0, SIZE))
    bounds = SpectralBounds(1.0, 50.0) if known else None
    b = np.random.default_rng(1).standard_normal(SIZE)
    one, other = (chebyshev(matrix, s * b, bounds=bounds) for s in (1.0, scale))
    assert (one[1], other[1]) == (0, 0)
    np.testing.assert_allclose(other[0] / scale, one[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-140, 1e-12, 1e12, 1e140])
def test_units_of_the_matrix_do_not_matter(
    symmetric_with: Callable[..., np.ndarray], scale: float
) -> None:
    matrix = symmetric_with(np.linspace(1.0, 50.0, SIZE))
    x, info = chebyshev(scale * matrix, np.ones(SIZE), rtol=1e-8)
    assert info == 0
    np.testing.assert_allclose(x * scale, np.linalg.solve(matrix, np.ones(SIZE)), atol=1e-6)


@pytest.mark.parametrize("known", [False, True])
def test_an_indefinite_matrix_is_refused_with_evidence(
    symmetric_with: Callable[..., np.ndarray], known: bool
) -> None:
    matrix = symmetric_with(np.r_[-2.0, np.linspace(1.0, 10.0, SIZE - 1)])
    bounds = SpectralBounds(1.0, 10.0) if known else None
    with pytest.raises(ValueError, match=r"`A` must be positive definite.*pᴴAp/pᴴp = -\d"):
        chebyshev(matrix, np.ones(SIZE), bounds=bounds, rtol=1e-10)


def test_a_preconditioner_that_is_not_definite_is_refused_with_evidence() -> None:
    with pytest.raises(ValueError, match=r"`M` must be positive definite.*rᴴMr/rᴴr = -1"):
        chebyshev(np.eye(3), np.ones(3), M=-np.eye(3))


@pytest.mark.parametrize("known", [False, True])
def test_a_singular_system_with_a_solution_is_solved(
    symmetric_with: Callable[..., np.ndarray], known: bool
) -> None:
    matrix = symmetric_with(np.r_[np.zeros(5), np.linspace(1.0, 10.0, SIZE - 5)])
    b = matrix @ np.ones(SIZE)
    bounds = SpectralBounds(1.0, 10.0) if known else None
    x, info = chebyshev(matrix, b, bounds=bounds, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.pinv(matrix) @ b, atol=1e-8)


@pytest.mark.parametrize("known", [False, True])
def test_a_singular_system_without_a_solution_ends_without_a_claim(
    symmetric_with: Callable[..., np.ndarray], known: bool
) -> None:
    matrix = symmetric_with(np.r_[np.zeros(5), np.linspace(1.0, 10.0, SIZE - 5)])
    b = np.random.default_rng(1).standard_normal(SIZE)
    x, info = chebyshev(matrix, b, bounds=SpectralBounds(1.0, 10.0) if known else None)
    assert info > 0
    assert np.isfinite(x).all()
    least = b - matrix @ (np.linalg.pinv(matrix) @ b)
    # Conjugate gradients, which know nothing of the part that no x can reach, come near only.
    assert np.linalg.norm(b - matrix @ x) <= (1.5 if known else 2) * np.linalg.norm(least)


def test_the_zero_matrix_ends_without_a_claim() -> None:
    x, info = chebyshev(np.zeros((3, 3)), np.ones(3))
    assert (x.tolist(), info) == ([0.0, 0.0, 0.0], 1)


def test_a_tolerance_below_rounding_ends_at_the_precision_floor(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    matrix = symmetric_with(np.geomspace(1.0, 1e4, SIZE))
    x, info = chebyshev(matrix, np.ones(SIZE), rtol=0.0, maxiter=10**6)
    assert 0 < info < 20_000
    assert residual(matrix, x, np.ones(SIZE)) < 1e-11


def test_one_unknown_is_enough() -> None:
    x, info = chebyshev(np.array([[4.0]]), np.array([2.0]))
    assert (x.tolist(), info) == ([0.5], 0)


def test_two_runs_are_the_same(symmetric_with: Callable[..., np.ndarray]) -> None:
    matrix = symmetric_with(np.geomspace(1.0, 1e3, SIZE))
    one, other = (chebyshev(matrix, np.ones(SIZE))[0] for _ in range(2))
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((np.ones((2, 3)), np.ones(2)), {}, r"`A` must be square, got shape \(2, 3\)"),
        ((np.ones(3), np.ones(3)), {}, r"`A` must have two dimensions .*got shape \(3,\)"),
        ((np.eye(3), np.ones(2)), {}, r"`b` must have shape \(3,\) or \(3, 1\).*got \(2,\)"),
        ((np.eye(3), np.ones((3, 2))), {}, r"`b` must have shape .*got \(3, 2\)"),
        ((np.eye(3), np.ones(3), np.ones(4)), {}, r"`x0` must have shape .*got \(4,\)"),
        ((np.eye(3), np.ones(3)), {"M": np.eye(2)}, r"`M` must have the shape of `A`, \(3, 3\)"),
        ((np.eye(3), np.array([1, np.nan, 2])), {}, r"`b` must be finite, got nan at index 1"),
        ((np.diag([1, np.inf, 2]), np.ones(3)), {}, r"`A` must be finite, got inf at .*\(1, 1\)"),
        ((np.eye(3), np.ones(3), [0, 0, np.nan]), {}, r"`x0` must be finite, got nan at index 2"),
        ((np.eye(3), np.ones(3)), {"M": np.nan * np.eye(3)}, r"`M` must be finite"),
        ((np.eye(3), np.ones(3)), {"rtol": -1.0}, r"`rtol` must be at least 0"),
        ((np.eye(3), np.ones(3)), {"atol": np.nan}, r"`atol` must be at least 0"),
        ((np.eye(3), np.ones(3)), {"maxiter": -1}, r"`maxiter` must be an integer of at least 0"),
        (
            (np.eye(3), np.ones(3)),
            {"bounds": SpectralBounds(0.0, 0.0)},
            r"`bounds.upper` must be positive",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_value_is_said(
    arguments: tuple[Any, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        chebyshev(*arguments, **settings)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("A", np.ones(3)), {}, r"`A` must be a matrix or a linear operator"),
        ((np.eye(3), ["a", "b", "c"]), {}, r"`b` must hold numbers"),
        ((np.eye(3), np.ones(3), np.ones(3) * 1j), {}, r"`x0` must be real for a real system"),
        ((np.eye(3), np.ones(3)), {"bounds": (1, 2)}, r"`bounds` must be SpectralBounds"),
        ((np.eye(3), np.ones(3)), {"maxiter": 1.5}, r"`maxiter` must be an integer, got 1.5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_type_is_said(
    arguments: tuple[Any, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        chebyshev(*arguments, **settings)


@pytest.mark.parametrize("place", [0, 3, 40])
def test_an_operator_that_returns_nan_ends_without_a_claim(place: int) -> None:
    calls = [0]

    def product(x: Any) -> Any:
        calls[0] += 1
        return np.linspace(1.0, 1e3, SIZE) * x + (np.nan if calls[0] > place else 0.0)

    operator = LinearOperator((SIZE, SIZE), matvec=product, dtype=np.float64)
    x, info = chebyshev(operator, np.ones(SIZE), rtol=1e-12)
    assert info > 0
    assert np.isfinite(x).all()


@given(
    eigenvalues=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=25),
    log_unit=st.floats(-100.0, 100.0),
    log_rhs=st.floats(-150.0, 150.0),
    seed=st.integers(0, 100),
    preconditioned=st.booleans(),
)
def test_any_definite_system_in_any_units_is_solved(
    eigenvalues: list[float], log_unit: float, log_rhs: float, seed: int, preconditioned: bool
) -> None:
    rng = np.random.default_rng(seed)
    size = len(eigenvalues)
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    matrix = (basis * np.array(eigenvalues)) @ basis.T
    matrix = (matrix + matrix.T) / 2
    b = rng.standard_normal(size)
    inverse = np.diag(10.0**-log_unit / matrix.diagonal()) if preconditioned else None
    x, info = chebyshev(10.0**log_unit * matrix, 10.0**log_rhs * b, M=inverse, maxiter=3000)
    assert info == 0
    x = x * 10.0 ** (log_unit - log_rhs) if abs(log_unit - log_rhs) < 300 else x
    assert np.linalg.norm(b - matrix @ x) <= 1.001e-5 * np.linalg.norm(b)


LARGE = {
    "uniform": np.linspace(1.0, 100.0, 2000),
    "logarithmic": np.geomspace(1.0, 1e4, 2000),
    "outlier below": np.r_[1e-2, np.linspace(1.0, 10.0, 1999)],
    "half in one": np.r_[np.full(1000, 1.0), np.geomspace(1.0, 300.0, 1000)],
    "Poisson": np.add.outer(*[4 * np.sin(np.arange(1, 46) * np.pi / 92) ** 2] * 2).ravel(),
}


@pytest.mark.parametrize("rtol", [1e-5, 1e-9])
@pytest.mark.parametrize("spectrum", LARGE)
def test_bounds_are_found_and_put_right_at_a_price_in_products(spectrum: str, rtol: float) -> None:
    eigenvalues = LARGE[spectrum]
    b = np.random.default_rng(7).standard_normal(eigenvalues.size)
    counts = []
    for solver in (chebyshev, cg):
        count = [0]

        def product(x: Any, count: list[int] = count) -> Any:
            count[0] += 1
            return eigenvalues * np.ravel(x)

        operator = LinearOperator((b.size, b.size), matvec=product, dtype=float)
        x, info = solver(operator, b, rtol=rtol)
        assert info == 0
        assert np.linalg.norm(b - eigenvalues * x) <= 1.01 * rtol * np.linalg.norm(b)
        counts.append(count[0])
    # Conjugate gradients need the fewest; an isolated eigenvalue costs them one step, and
    # Chebyshev's interval a factor of 10 in κ.
    assert counts[0] <= (6 if spectrum == "outlier below" else 2.6) * counts[1]


@pytest.mark.parametrize("unit", [1e-300, 1e-150, 1e150, 1e300])
def test_nor_do_units_whose_squares_are_out_of_range(unit: float) -> None:
    # Squares of its entries are out of range: the interval was looked for without an end.
    eigenvalues = np.linspace(1.0, 50.0, 60)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))[0]
    matrix = (rotation * eigenvalues) @ rotation.T
    matrix = (matrix + matrix.T) / 2
    x, info = chebyshev(unit * matrix, unit * np.ones(60), rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.solve(matrix, np.ones(60)), rtol=1e-7)
