"""Random problems of every kind, good and bad, and what is true of each.

`case(number)` depends on its number alone. Whatever can make a solver say something false is drawn
on purpose: units of 1e±150, condition numbers up to 1e14, four dtypes, singular and inconsistent
systems, indefinite and asymmetric matrices, adjoints that are wrong, bounds that are wrong, NaN
that comes out of a product, maps without a fixed point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from stepfold import (
    L1,
    Composite,
    FixedPoint,
    Guard,
    LeastSquares,
    Logistic,
    Problem,
    Quadratic,
    SpectralBounds,
    chebyshev_steps,
    constant_steps,
    estimate_bounds,
    silver_steps,
)
from stepfold.problems import Preconditioned
from stepfold.problems.penalties import Box, ElasticNet, GroupL1, nonnegative

KINDS = (
    "least squares",
    "quadratic",
    "ridge",
    "preconditioned",
    "batch",
    "sparse",
    "complex",
    "operator",
    "penalty",
    "map",
    "smooth",
)
DTYPES = (np.float64, np.float32, np.complex128, np.complex64)


@dataclass(eq=False)
class Case:
    """A problem, how to solve it, and what is true of it.

    Attributes:
        number: Which one.
        kind: One of `KINDS`.
        flaws: What was made wrong on purpose.
        pose: Makes the problem.
        options: Makes keywords of `solve` from the problem.
        form: "least squares", "quadratic", "penalty", "map" or "smooth": how it is checked.
        matrix: A, dense or sparse, as its products are.
        rhs: b.
        ridge: μ.
        metric: Diagonal of a preconditioner, or None.
        penalty: g, or None.
        smooth: Gradient of a smooth problem in any precision.
        map: The map in any precision, or None.
        adjoint: What is given out as the adjoint of the matrix, where it is another one.
    """

    number: int
    kind: str
    flaws: set[str] = field(default_factory=set)
    pose: Callable[[], Any] = lambda: None
    options: Callable[[Any], dict[str, Any]] = lambda problem: {}
    form: str = ""
    matrix: Any = None
    rhs: Any = None
    ridge: float = 0.0
    metric: Any = None
    penalty: Any = None
    smooth: Any = None
    map: Any = None
    adjoint: Any = None
    kappa: float = 1.0
    size: int = 0

    def __str__(self) -> str:
        dtype = getattr(self.matrix, "dtype", "")
        flaws = ", ".join(sorted(self.flaws)) or "none"
        return (
            f"number {self.number}: {self.kind}, {self.size} unknowns, {dtype}, condition number "
            f"about {self.kappa:.1g}, flaws: {flaws}"
        )


def case(number: int) -> Case:
    """The case of this number."""
    rng = np.random.default_rng([20261201, number])
    kind = KINDS[number % len(KINDS)]
    made = Case(number, kind)
    made.size = _size(rng)
    MAKERS.get(kind, _quadratic)(rng, made)
    return made


def _size(rng: np.random.Generator) -> int:
    u = rng.random()
    if u < 0.72:
        return int(rng.integers(1, 31))
    return int(rng.integers(31, 201)) if u < 0.97 else int(rng.integers(201, 2001))


def _numbers(rng: np.random.Generator, shape: Any, dtype: Any) -> Any:
    numbers = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        numbers = numbers + 1j * rng.standard_normal(shape)
    return numbers


def _orthogonal(rng: np.random.Generator, rows: int, count: int, dtype: Any) -> Any:
    """Acts on columns as a unitary matrix: QR where small, three reflections where large."""
    if rows <= 200:
        unitary = np.linalg.qr(_numbers(rng, (rows, rows), dtype))[0]
        return lambda block: unitary[:, : block.shape[0]] @ block
    vectors = [_numbers(rng, rows, dtype) for _ in range(3)]

    def reflect(block: Any) -> Any:
        whole = np.zeros((rows, block.shape[1]), dtype=np.result_type(block, dtype))
        whole[: block.shape[0]] = block
        for v in vectors:
            whole -= np.outer(v, (v.conj() @ whole) * (2 / (v.conj() @ v).real))
        return whole

    return reflect


def _spectrum(rng: np.random.Generator, count: int, kappa: float) -> Any:
    shape = rng.integers(4)
    if shape == 0:
        values = np.geomspace(1, kappa, count)
    elif shape == 1:
        values = np.linspace(1, kappa, count)
    elif shape == 2:
        values = np.where(rng.random(count) < 0.5, 1.0, kappa)  # two clusters
    else:
        values = 1 + (np.sqrt(kappa) - 1) * rng.random(count)
        values[-1] = kappa  # one far out
    return values / kappa


def _unit(rng: np.random.Generator, dtype: Any) -> float:
    """A power of ten; 1 mostly."""
    if rng.random() < 0.65:
        return 1.0
    most = 150 if np.dtype(dtype).itemsize in (8, 16) and dtype not in (np.complex64,) else 15
    return 10.0 ** rng.uniform(-most, most)


def _kappa(rng: np.random.Generator) -> float:
    return 10.0 ** (14 * rng.random() ** 1.5)


def _quadratic(rng: np.random.Generator, made: Case) -> None:
    """Everything whose gradient is affine."""
    dtype: Any = DTYPES[0 if rng.random() < 0.5 else rng.integers(2)]
    if made.kind == "complex":
        dtype = DTYPES[2 + rng.integers(2)]
    made.kappa = kappa = _kappa(rng)
    squares = made.kind in ("least squares", "ridge") or (
        made.kind != "quadratic" and bool(rng.random() < 0.5)
    )
    made.form = "least squares" if squares else "quadratic"
    matrix = (
        _sparse(rng, made, squares, dtype)
        if made.kind == "sparse"
        else _dense(rng, made, squares, kappa, dtype)
    )
    matrix = matrix * _in(_unit(rng, dtype), dtype)
    rows = matrix.shape[0]
    shape = (int(rng.integers(1, 6)), rows) if made.kind == "batch" else (rows,)
    rhs = _right_hand_side(rng, made, matrix, shape, dtype)
    if made.kind == "ridge":
        top = float(np.abs(matrix).max()) if rows else 1.0
        made.ridge = min(top * top * 10.0 ** rng.uniform(-12, 0), 1e300)
    made.matrix, made.rhs = matrix, rhs
    if made.kind == "preconditioned":
        made.metric = 10.0 ** rng.uniform(-3, 3, matrix.shape[1])
        if rng.random() < 0.5:
            part = matrix.conj().T @ matrix if squares else matrix
            diagonal = np.abs(np.diag(part)).astype(np.float64)
            made.metric = np.where(diagonal > 0, diagonal, 1.0)
    posed = _operator(rng, made) if made.kind == "operator" else matrix

    def pose() -> Any:
        problem: Any = (
            LeastSquares(posed, rhs, ridge=made.ridge) if squares else Quadratic(posed, rhs)
        )
        return problem if made.metric is None else Preconditioned(problem, made.metric)

    made.pose = pose
    made.options = _options(rng, made)


def _in(unit: float, dtype: Any) -> Any:
    return np.dtype(dtype).type(unit).real


def _dense(rng: Any, made: Case, squares: bool, kappa: float, dtype: Any) -> Any:
    n = made.size
    m = max(1, int(n * rng.choice([0.5, 1.0, 1.0, 1.3, 2.0]))) if squares else n
    m = min(m, 2000)
    count = min(m, n)
    values = _spectrum(rng, count, kappa)
    if count > 1 and rng.random() < 0.15:
        values[: max(1, count // 5)] = 0.0
        made.flaws.add("singular")
    if m < n:
        made.flaws.add("singular")
    if not squares and count > 1 and rng.random() < 0.08:
        values[0] = -values[-1] * rng.uniform(0.05, 1)
        made.flaws.add("indefinite")
    left = _orthogonal(rng, m, count, dtype)
    if not squares:
        whole = left(left(np.diag(values).astype(dtype)).conj().T)
        matrix = (whole + whole.conj().T) / 2
        if n > 1 and rng.random() < 0.08:
            matrix = matrix + 0.1 * np.abs(matrix).max() * np.triu(rng.standard_normal((n, n)), 1)
            made.flaws.add("asymmetric")
        return matrix.astype(dtype)
    right = _orthogonal(rng, n, count, dtype)
    matrix = right(left(np.diag(values).astype(dtype)).conj().T).conj().T
    if rng.random() < 0.12:
        matrix = matrix * 10.0 ** rng.uniform(-4, 4, n)  # units of the unknowns
        made.kappa *= 1e8
    if n > 1 and rng.random() < 0.05:
        matrix[:, 0] = 0 if rng.random() < 0.5 else matrix[:, 1]
        made.flaws.add("singular")
    return np.ascontiguousarray(matrix.astype(dtype))


def _sparse(rng: Any, made: Case, squares: bool, dtype: Any) -> Any:
    n = made.size
    if squares:
        m = max(1, int(n * rng.choice([1.0, 1.5, 2.0])))
        matrix = sp.random_array((m, n), density=min(1.0, 4 / n), rng=rng, format="csr")
        made.flaws.add("singular")  # it may have empty columns
    else:
        kinds = {"Poisson": 0.0, "Laplacian of a path": 1.0, "shifted": -1.0}
        name = list(kinds)[rng.integers(3)]
        diagonal = np.full(n, 2.0)
        if name == "Laplacian of a path":
            diagonal[[0, -1]] = 1.0 if n > 1 else 0.0
            made.flaws.add("singular")
        if name == "shifted":
            diagonal += 10.0 ** rng.uniform(-6, 1)
        off = -np.ones(max(n - 1, 0))
        matrix = sp.diags_array([off, diagonal, off], offsets=[-1, 0, 1], shape=(n, n))
    made.kappa = 1.0 * n * n
    layout = ["csr", "csc", "coo"][rng.integers(3)]
    return matrix.astype(dtype).asformat(layout)


def _right_hand_side(rng: Any, made: Case, matrix: Any, shape: Any, dtype: Any) -> Any:
    unit = _unit(rng, dtype)
    sizes = 10.0 ** rng.uniform(-3, 3, shape[:-1]) if len(shape) == 2 else np.float64(1.0)
    consistent = rng.random() < 0.5
    if consistent:
        exact = _numbers(rng, (*shape[:-1], matrix.shape[1]), dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            rhs = (matrix @ exact.T.astype(dtype)).T
        if not np.isfinite(rhs).all():
            rhs = _numbers(rng, shape, dtype)
        unit = 1.0
    else:
        rhs = _numbers(rng, shape, dtype)
        if made.form == "quadratic" and "singular" in made.flaws:
            made.flaws.add("inconsistent")
    rhs = rhs * (sizes[..., None] if len(shape) == 2 else sizes) * unit
    rhs = rhs.astype(dtype)
    if len(shape) == 2 and rng.random() < 0.2:
        rhs[0] = 0
    return rhs


def _operator(rng: Any, made: Case) -> Any:
    """A `LinearOperator` of the matrix, with or without a flaw."""
    matrix = made.matrix
    flaw = rng.integers(5)
    adjoint = matrix.conj().T.copy()
    calls = [0]
    if flaw == 1 and made.form == "least squares":
        made.flaws.add("wrong adjoint")
        adjoint = adjoint * (1 + 10.0 ** rng.uniform(-6, -1) * rng.random(adjoint.shape))
        made.adjoint = adjoint
    breaks_at = int(rng.integers(6, 30)) if flaw == 2 else 10**9
    if flaw == 2:
        made.flaws.add("NaN")
    if flaw == 3:
        made.flaws.add("NaN")
        breaks_at = 0

    def product(part: Any) -> Callable[[Any], Any]:
        def call(v: Any) -> Any:
            calls[0] += 1
            image = part @ v
            if calls[0] > breaks_at:
                image = image * np.nan
            return image

        return call

    return LinearOperator(
        matrix.shape,
        matvec=product(matrix),
        rmatvec=product(adjoint),
        matmat=product(matrix),
        rmatmat=product(adjoint),
        dtype=matrix.dtype,
    )


def extremes(made: Case) -> tuple[float, float]:
    """Smallest and largest eigenvalue of the Hessian, and of M⁻¹H; by LAPACK, in float64."""
    matrix = made.matrix.toarray() if sp.issparse(made.matrix) else made.matrix
    wide = matrix.astype(np.clongdouble if matrix.dtype.kind == "c" else np.longdouble)
    top = np.abs(wide).max() if wide.size else 0
    if top == 0:
        return made.ridge, made.ridge
    root = 1 / np.sqrt(made.metric.astype(np.longdouble)) if made.metric is not None else 1
    flat = wide / top
    if made.adjoint is not None:
        # Of the Hessian as its products are.
        both = (made.adjoint.astype(wide.dtype) / top) @ flat
        values = np.linalg.eigvalsh(_double((both + both.conj().T) / 2))
        ends = values.astype(np.longdouble) * top * top + made.ridge
        return float(ends[0]), float(ends[-1])
    if made.form == "least squares":
        scaled = flat * root
        peak = np.abs(scaled).max()
        values = np.linalg.svd(_double(scaled / peak), compute_uv=False)
        squares = (values.astype(np.longdouble) * peak * top) ** 2
        low = squares[-1] if matrix.shape[0] >= matrix.shape[1] else np.longdouble(0)
        return float(low + made.ridge), float(squares[0] + made.ridge)
    flat = (flat + flat.conj().T) / 2  # quotients of one that is not symmetric are those of this
    if made.metric is not None:
        flat = flat * root * root[:, None]
    peak = np.abs(flat).max()
    values = np.linalg.eigvalsh(_double(flat / peak))
    wide_values = values.astype(np.longdouble) * peak * top
    return float(wide_values[0]), float(wide_values[-1])


def _double(wide: Any) -> Any:
    return wide.astype(np.complex128 if wide.dtype.kind == "c" else np.float64)


def _options(rng: Any, made: Case) -> Callable[[Any], dict[str, Any]]:
    """Without a schedule, or one for bounds that are right, estimated, or wrong."""
    mode = int(rng.integers(0, 8))
    period = int(2 ** rng.integers(0, 7))
    steps = int(rng.choice([50, 500, 3000])) if made.size <= 200 else 300
    options: dict[str, Any] = {"max_steps": steps}
    u = rng.random()
    if u < 0.3:
        options["rtol"] = float(10.0 ** rng.uniform(-15, -2))
    elif u < 0.4:
        options.update(rtol=0.0, atol=0.0)
    wrong = float(rng.uniform(0.3, 0.99))
    higher = float(10.0 ** rng.uniform(0.1, 2))
    wants_error = bool(rng.random() < 0.4)
    trusts = bool(rng.random() < 0.2)
    if mode <= 2:
        if rng.random() < 0.15 and not made.ridge:
            made.flaws.add("guessed")  # a guard with bounds beside conjugate gradients
            low = float(rng.uniform(0.1, 3))

            def guarded(problem: Any) -> dict[str, Any]:
                a, b = extremes(made)
                a = max(a, 0.0)
                if low > 1:
                    made.flaws.add("lower too high")
                bounds = SpectralBounds(min(low * a, b), max(b, 0.0))
                more = {"error_rtol": 1e-6} if low * a > 0 and made.metric is None else {}
                return {**options, "guard": Guard(bounds), **more}

            return guarded
        return lambda problem: options

    def chosen(problem: Any) -> dict[str, Any]:
        a, b = extremes(made)
        low = max(a, 0.0)
        if not 0 < b < np.inf:
            return options
        bounds = SpectralBounds(low, b)
        if mode == 3:
            bounds = estimate_bounds(problem)
        elif mode == 4:
            made.flaws.add("upper too low")
            bounds = SpectralBounds(min(low, wrong * b), wrong * b)
        elif mode == 5 and low > 0:
            made.flaws.add("lower too high")
            bounds = SpectralBounds(min(higher * low, b), b)
        if bounds.lower / bounds.upper < 1e-13:
            schedule = chebyshev_steps(bounds, period, kind=4)
        elif mode == 6:
            schedule = constant_steps(bounds)
        elif mode == 7 and period > 1:
            schedule = silver_steps(bounds, period - 1)
        else:
            schedule = chebyshev_steps(bounds, period)
        extra: dict[str, Any] = {"schedule": schedule}
        if trusts:
            extra["guard"] = None
        if wants_error and schedule.bounds.lower > 0 and made.metric is None:
            extra["error_rtol"] = 1e-6
        return {**options, **extra}

    return chosen


def _penalty(rng: Any, made: Case) -> None:
    made.size = min(made.size, 200)
    dtype = np.float64 if rng.random() < 0.7 else np.float32
    made.kappa = 10.0 ** rng.uniform(0, 6)
    matrix = _dense(rng, made, True, made.kappa, dtype)
    rhs = _numbers(rng, matrix.shape[0], dtype).astype(dtype)
    peak = float(np.abs(matrix.T @ rhs).max())
    weight = peak * 10.0 ** rng.uniform(-4, 0)
    groups = np.arange(matrix.shape[1]) // 3
    made.ridge = float(rng.random() < 0.3) * 10.0 ** rng.uniform(-6, 0)
    penalties = [
        lambda: L1(weight),
        nonnegative,
        lambda: ElasticNet(weight, 0.1),
        lambda: Box(-0.5, 0.25),
        lambda: GroupL1(weight, groups),
    ]
    made.penalty = penalties[rng.integers(len(penalties))]()
    made.form, made.matrix, made.rhs = "penalty", matrix, rhs
    made.pose = lambda: Composite(LeastSquares(matrix, rhs, ridge=made.ridge), made.penalty)
    options: dict[str, Any] = {"max_steps": int(rng.choice([50, 1000]))}
    u, share = rng.random(), float(10.0 ** rng.uniform(-10, -2))
    if u < 0.3:
        options["rtol"] = share
    has_schedule = bool(rng.random() < 0.4)

    def chosen(problem: Any) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if u > 0.6 and problem.has_gap:
            more["gap_rtol"] = share
        if has_schedule:
            more["schedule"] = constant_steps(SpectralBounds(1 / problem.step, 1 / problem.step))
        return {**options, **more}

    made.options = chosen


def _map(rng: Any, made: Case) -> None:
    made.size = min(made.size, 100)
    n = made.size
    dtype = np.float64 if rng.random() < 0.7 else np.float32
    choice = int(rng.integers(6))
    radius = 1 - 10.0 ** rng.uniform(-4, -0.3)
    matrix = _orthogonal(rng, n, n, dtype)(
        np.diag(radius * rng.uniform(-1 if choice == 1 else 0, 1, n))
    )
    matrix = matrix if choice == 1 else (matrix @ np.linalg.qr(rng.standard_normal((n, n)))[0])
    if choice in (0, 2):
        unitary = np.linalg.qr(rng.standard_normal((n, n)))[0]
        matrix = unitary @ np.diag(radius * rng.uniform(0, 1, n)) @ unitary.T
    shift = rng.standard_normal(n)
    if choice == 3:
        made.flaws.add("no fixed point")
        matrix = np.eye(n)
    if choice == 4:
        made.flaws.add("NaN")
    if choice == 5:
        made.flaws.add("expanding")
        matrix = matrix * 3 / radius
    matrix, shift = matrix.astype(dtype), shift.astype(dtype)

    def plain(x: Any) -> Any:
        part = matrix.astype(x.dtype) if matrix.dtype != x.dtype else matrix
        image = part @ (np.sin(x) if choice == 2 else x) + shift.astype(x.dtype)
        if choice == 4:
            with np.errstate(invalid="ignore"):
                image = np.sqrt(image + 1)
        return image

    made.form, made.matrix, made.map = "map", matrix, plain
    made.rhs = (10.0 ** rng.uniform(-2, 2) * rng.standard_normal(n)).astype(dtype)  # the start
    made.kappa = 1 / (1 - radius)
    made.pose = lambda: FixedPoint(plain)
    options: dict[str, Any] = {"x0": made.rhs, "max_products": int(rng.choice([100, 2000]))}
    if rng.random() < 0.5:
        options["rtol"] = float(10.0 ** rng.uniform(-14, -2))
    made.options = lambda problem: options


class Huber(Problem[Any]):
    """``Σ h(aᵢᵀx − bᵢ) + ½μ‖x‖²`` with Huber's h."""

    def __init__(self, matrix: Any, rhs: Any, ridge: float) -> None:
        self.matrix, self.rhs, self.ridge = matrix, rhs, ridge

    def value(self, x: Any) -> Any:
        r = abs(self.matrix @ x - self.rhs)
        small = r.clip(None, 1)
        return (small * (r - small / 2)).sum() + self.ridge / 2 * (x * x).sum()

    def gradient(self, x: Any) -> Any:
        return self.matrix.T @ (self.matrix @ x - self.rhs).clip(-1, 1) + self.ridge * x

    @property
    def curvature_bound(self) -> float:
        return float(np.linalg.norm(self.matrix.astype(np.float64), 2) ** 2 * 1.001) + self.ridge

    @property
    def zero(self) -> Any:
        return 0 * self.matrix[0]


def _smooth(rng: Any, made: Case) -> None:
    made.size = min(made.size, 60)
    dtype = np.float64 if rng.random() < 0.7 else np.float32
    rows = 2 * made.size + 1
    matrix = _numbers(rng, (rows, made.size), dtype).astype(dtype)
    matrix = matrix * dtype(10.0 ** rng.uniform(-3, 3))
    made.ridge = float(rng.random() < 0.7) * 10.0 ** rng.uniform(-6, 1)
    is_huber = bool(rng.random() < 0.5)
    labels = np.sign(_numbers(rng, rows, dtype)).astype(dtype)
    rhs = (3 * _numbers(rng, rows, dtype)).astype(dtype) if is_huber else labels
    made.form, made.matrix, made.rhs = "smooth", matrix, rhs
    wide, target = matrix.astype(np.longdouble), rhs.astype(np.longdouble)

    def gradient(x: Any) -> Any:
        if is_huber:
            return wide.T @ (wide @ x - target).clip(-1, 1) + made.ridge * x
        return -wide.T @ (target / (1 + np.exp(target * (wide @ x)))) + made.ridge * x

    made.smooth = gradient
    made.pose = lambda: (
        Huber(matrix, rhs, made.ridge) if is_huber else Logistic(matrix, rhs, ridge=made.ridge)
    )
    options: dict[str, Any] = {"max_steps": int(rng.choice([100, 2000]))}
    if rng.random() < 0.5:
        options["rtol"] = float(10.0 ** rng.uniform(-10, -2))
    made.options = lambda problem: options


MAKERS = {"penalty": _penalty, "map": _map, "smooth": _smooth}
