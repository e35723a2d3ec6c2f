"""A ridge for an ill-posed least-squares problem: from the noise, or by cross-validation.

Let sᵢ be the singular values of A, m of them with zeros, βᵢ the components of b along its left
singular vectors, and ``φᵢ = μ/(sᵢ² + μ)``. The minimiser of ``½‖Ax − b‖² + ½μ‖x‖²`` leaves a
residual r with ``‖r‖² = Σ φᵢ²|βᵢ|²`` and ``d = Σ φᵢ`` of the m equations free.

*Discrepancy principle* (Morozov): the μ with which ``‖r‖`` is the norm of the noise. For noise of
standard deviation σ that norm is at most ``σ √(m + 2√(2m))`` in 98 cases of 100.
*Generalised cross-validation* (Golub, Heath and Wahba): the μ that makes ``V = m‖r‖²/d²`` least,
which estimates how well equations left out would be predicted. It needs no noise level; the noise
must be independent from one equation to the next. V is flat, and its least value may lie where μ is
much too small. The robust form (Lukas) is ``V·(c + (1 − c)·Σ(1 − φᵢ)²/m)``, c = 0.1.

Small matrices get a singular value decomposition. For large ones both sums are integrals over a
spectral measure. Golub–Kahan steps from b, and from random vectors, give a Gauss rule that bounds
``‖r‖²`` and d from below, and a Gauss–Radau rule with a node at 0 that bounds them from above, for
every μ at once (Golub and von Matt). Steps go on until both agree at the ridge chosen.

References:
    Morozov, On the solution of functional equations by the method of regularization, Soviet
    Mathematics Doklady 7 (1966). Golub, Heath and Wahba, Generalized cross-validation as a method
    for choosing a good ridge parameter, Technometrics 21 (1979). Golub and von Matt, Generalized
    cross-validation for large-scale problems, Journal of Computational and Graphical Statistics 6
    (1997). Lukas, Robust generalized cross-validation for choosing the regularization parameter,
    Inverse Problems 22 (2006). Hansen, Discrete Inverse Problems (2010), chapter 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._arrays import dtype_kind, epsilon, from_host, largest_entry, norms, to_host
from stepfold._checks import check_count, check_positive
from stepfold._codec import JsonRecord
from stepfold._krylov import Bidiagonal, golub_kahan
from stepfold._typing import FloatArray
from stepfold.measure._rules import from_bidiagonal, gauss_rule, radau_rule
from stepfold.operators import apply
from stepfold.problems import LeastSquares
from stepfold.spectrum import fits_dense_eigensolver
from stepfold.spectrum.target import dense

# Ridges that are tried lie between the rounding of the largest eigenvalue of AᵀA and so many times
# that eigenvalue.
LARGEST = 100.0
NUM_TRIED = 300
# c of the robust form. On blurs, Hilbert matrices, second derivatives, integration and tomography
# (noise 1e-4 to 5e-2) the error was within 1.5 times the least possible in nine draws of ten; with
# c = 1, the plain form, up to 1e5 times.
ROBUSTNESS = 0.1
# Random vectors for the trace: its error relative to m is about √(2(m − d)/probes)/m.
NUM_PROBES = 4
FIRST_STEPS = 24
# Difference of the two rules, relative, from which on the ridge is taken to be settled.
CLOSE = 0.02
# Vectors are kept, and kept orthogonal, up to so many numbers in all.
KEPT_NUMBERS = 5e6
DEFAULT_MAX_STEPS = 1000

DISCREPANCY = "discrepancy principle"
CROSS_VALIDATION = "robust generalised cross-validation"
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, slots=True)
class RidgeChoice(JsonRecord):
    """A ridge and where it comes from.

    Args:
        ridge: μ, the weight of ``½μ‖x‖²``, in units of AᵀA.
        rule: "discrepancy principle" or "robust generalised cross-validation".
        noise: Standard deviation of the noise in an entry of b: as given, or as estimated from the
            residual that the ridge leaves.
        residual_norm: ``‖Ax − b‖`` at the minimiser, over all right-hand sides.
        num_products: Products with A or its transpose that the choice took; 0 for a decomposition.
        notes: What there is to say against it.

    >>> from stepfold import LeastSquares
    >>> choice = choose_ridge(LeastSquares(np.diag([1.0, 0.1]), np.array([1.0, 0.2])), noise=0.05)
    >>> choice.rule
    'discrepancy principle'
    """

    ridge: float
    rule: str
    noise: float
    residual_norm: float
    num_products: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = "given" if self.rule == DISCREPANCY else "estimated"
        how = f"{self.ridge:.4g} by {self.rule}, noise {self.noise:.4g} ({kind})"
        return " ".join((f"{how}.", *self.notes))


def choose_ridge(
    problem: LeastSquares[Any],
    *,
    noise: float | None = None,
    seed: int = 0,
    max_steps: int = DEFAULT_MAX_STEPS,
) -> RidgeChoice:
    """Choose the ridge of an ill-posed least-squares problem from its data.

    Several right-hand sides get one ridge, chosen for all of them together.

    Args:
        problem: Least squares without a ridge.
        noise: Standard deviation of the noise in each entry of b, if it is known: the discrepancy
            principle. If not given, generalised cross-validation.
        seed: Seed of the random vectors that estimate a trace where A is large.
        max_steps: Most Golub–Kahan steps, of two products each, from b and from those vectors.

    Raises:
        TypeError: If ``problem`` is not least squares, or ``noise`` no number.
        ValueError: If the problem has a ridge, its right-hand side or A is 0, no ridge leaves a
            residual of the size of the noise, or cross-validation cannot tell noise from signal.

    >>> grid = np.linspace(0, 1, 40)
    >>> blur = np.exp(-((grid[:, None] - grid) ** 2) / 0.005) / 5
    >>> noise = 1e-2 * np.random.default_rng(0).standard_normal(40)
    >>> problem = LeastSquares(blur, blur @ np.sin(3 * grid) + noise)
    >>> choice = choose_ridge(problem)
    >>> 5e-4 < choice.ridge < 5e-3, 0.005 < choice.noise < 0.015
    (True, True)
    >>> print(f"{choose_ridge(problem, noise=1e-2).ridge:.3f}")
    0.015
    """
    if not isinstance(problem, LeastSquares):
        raise TypeError(
            f"`problem` must be LeastSquares, got {type(problem).__name__}; pose a symmetric "
            "system as `LeastSquares(matrix, rhs)`, too"
        )
    if problem.ridge:
        raise ValueError(
            f"`problem` must have no ridge, got {problem.ridge!r}; pose it without the one that is "
            "to be chosen"
        )
    max_steps = check_count("max_steps", max_steps)
    count = math.prod(problem.rhs.shape)
    size = float(np.linalg.norm(norms(problem.rhs) / max(largest_entry(problem.rhs), TINY)))
    size *= largest_entry(problem.rhs)  # so that squares of small entries do not vanish
    if size == 0:
        raise ValueError("`problem.rhs` must not be 0; every ridge then gives x = 0")
    target = None
    if noise is not None:
        check_positive("noise", noise, "leave it out if it is not known")
        noise = min(noise, 1e150 * size)  # its square is a float
        target = (count + 2 * math.sqrt(2 * count)) * (noise / size) ** 2
        if target >= 1:
            raise ValueError(
                f"`noise` must be well below {size / math.sqrt(count):.4g}, the root mean square "
                f"of `problem.rhs`, got {noise!r}; the data hold nothing else"
            )
    if fits_dense_eigensolver(problem.hessian):
        sums = _exact_sums(problem, size)
        return _record(problem, noise, size, sums, _best(sums, target), 0)
    return _choose_by_steps(problem, noise, target, size, seed, max_steps)


class _Measure:
    """Masses on eigenvalues of AAᵀ, and sums over them for any ridge."""

    def __init__(self, nodes: FloatArray, masses: FloatArray, mass_at_zero: float) -> None:
        self._nodes, self._masses, self._rest = nodes, masses, mass_at_zero

    def _shares(self, ridge: Any) -> Any:
        ridge = np.asarray(ridge)[..., None]
        return ridge / (self._nodes + ridge)

    def total(self, ridge: Any, power: int) -> Any:
        """``Σ φ^power``."""
        return self._shares(ridge) ** power @ self._masses + self._rest

    def total_removed(self, ridge: Any) -> Any:
        """``Σ (1 − φ)²``."""
        return (1 - self._shares(ridge)) ** 2 @ self._masses


@dataclass(frozen=True, slots=True)
class _Sums:
    """What both rules look at.

    Args:
        data: Squared components of the right-hand sides, divided by their squared norm.
        trace: One for each left singular vector; not used where the noise is known.
        num_rows: m.
        largest: Largest eigenvalue of AᵀA, or nearly.
        rounding: Its relative rounding.
    """

    data: _Measure
    trace: _Measure
    num_rows: int
    largest: float
    rounding: float

    def score(self, ridge: Any) -> Any:
        """Logarithm of the robust form of V, up to a constant."""
        removed = self.trace.total_removed(ridge) / self.num_rows
        penalty = ROBUSTNESS + (1 - ROBUSTNESS) * removed
        free = self.trace.total(ridge, 1)
        return np.log(self.data.total(ridge, 2)) - 2 * np.log(free) + np.log(penalty)


def _rounding(problem: LeastSquares[Any]) -> float:
    dtype = getattr(problem.operator, "dtype", None)
    in_few_bits = dtype is not None and dtype_kind(dtype) in "fc"
    return max(epsilon(problem.rhs), epsilon(problem.operator) if in_few_bits else 0.0)


def _check_largest(largest: float) -> float:
    if not 0 < largest < math.inf:
        raise ValueError(
            f"`problem` must have a right-hand side that A can reach, got {largest} for the "
            "largest eigenvalue of AᵀA that it shows; the operator is zero, out of range, or "
            "orthogonal to the right-hand side"
        )
    return largest


def _exact_sums(problem: LeastSquares[Any], size: float) -> _Sums:
    matrix = dense(problem.operator)
    matrix = matrix.astype(np.result_type(matrix.dtype, np.float32), copy=False)
    rows = np.atleast_2d(to_host(problem.rhs)) / size
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    parts = rows @ left.conj()
    outside = float(np.linalg.norm(rows - parts @ left.T)) ** 2
    num_rows = matrix.shape[0]
    return _Sums(
        _Measure(values**2, (np.abs(parts) ** 2).sum(0), outside),
        _Measure(values**2, np.ones(values.size), num_rows - values.size),
        num_rows,
        _check_largest(float(values[0]) ** 2),
        _rounding(problem),
    )


def _choose_by_steps(
    problem: LeastSquares[Any],
    noise: float | None,
    target: float | None,
    size: float,
    seed: int,
    max_steps: int,
) -> RidgeChoice:
    num_rows, num_columns = problem.operator.shape
    shorter = min(num_rows, num_columns)
    signs = np.random.default_rng(seed).integers(0, 2, (NUM_PROBES, shorter)) * 2.0 - 1
    steps, num_products = min(FIRST_STEPS, max_steps), 0
    while True:
        runs = [_golub_kahan(problem, problem.rhs, steps, of_adjoint=True)]
        if target is None:
            start = from_host(signs, problem.rhs)
            runs.append(_golub_kahan(problem, start, steps, of_adjoint=num_rows <= num_columns))
        num_products += sum(2 * run.diagonal.size for run in runs)
        largest = _check_largest(float(radau_rule(from_bidiagonal(runs[0]))[0][-1]))
        low, high = (
            _Sums(
                _rule(runs[0], 1.0, 0.0, radau=radau),
                _rule(runs[-1], shorter, num_rows - shorter, radau=radau),
                num_rows,
                largest,
                _rounding(problem),
            )
            for radau in (False, True)
        )
        # Where few steps see nothing of small eigenvalues, only the rule from above is of use.
        ridge = _best(high, target)
        if _are_close(low, high, ridge, target) or all(run.off_diagonal[-1] == 0 for run in runs):
            return _record(problem, noise, size, high, ridge, num_products)
        if steps == max_steps:
            note = f"{steps} Golub–Kahan steps do not bound what it rests on to {CLOSE:.0%}."
            return _record(problem, noise, size, high, ridge, num_products, note)
        steps = min(2 * steps, max_steps)


def _are_close(low: _Sums, high: _Sums, ridge: float, target: float | None) -> bool:
    """Whether both rules see the same at a ridge."""
    residuals = [float(sums.data.total(ridge, 2)) for sums in (low, high)]
    frees = [float(sums.trace.total(ridge, 1)) for sums in (low, high)]
    if residuals[0] < (1 - CLOSE) * residuals[1]:
        return False
    return target is not None or frees[0] >= (1 - CLOSE) * frees[1]


def _golub_kahan(
    problem: LeastSquares[Any], start: Any, num_steps: int, *, of_adjoint: bool
) -> Bidiagonal:
    """Steps from rows as from one long vector: one recurrence, the sum of their measures."""
    matrix: Any = problem.operator
    num_rows, num_columns = matrix.shape
    batch = start.shape[:-1]

    def forward(v: Any) -> Any:
        return apply(matrix, v.reshape((*batch, num_columns))).reshape(-1)

    def backward(u: Any) -> Any:
        return problem.adjoint_product(u.reshape((*batch, num_rows))).reshape(-1)

    product, transposed = (backward, forward) if of_adjoint else (forward, backward)
    kept = math.prod(batch) * (num_rows + num_columns) * num_steps
    return golub_kahan(
        product, transposed, start.reshape(-1), num_steps, reorthogonalise=kept <= KEPT_NUMBERS
    )


def _rule(run: Bidiagonal, mass: float, mass_at_zero: float, *, radau: bool) -> _Measure:
    """Gauss' rule, or Radau's with a node at 0."""
    factor = from_bidiagonal(run)
    nodes, weights = radau_rule(factor) if radau else gauss_rule(factor)
    return _Measure(nodes, mass * weights, mass_at_zero)


def _best(sums: _Sums, target: float | None) -> float:
    """The ridge of least score, or the one that leaves a squared residual norm of ``target``."""
    from scipy.optimize import brentq, minimize_scalar

    tried = np.log(sums.largest * np.geomspace(sums.rounding, LARGEST, NUM_TRIED))
    if target is None:

        def score(log_ridge: Any) -> Any:
            return sums.score(np.exp(log_ridge))

        place = int(np.argmin(score(tried)))
        if 0 < place < NUM_TRIED - 1:
            ends = (tried[place - 1], tried[place + 1])
            best = float(minimize_scalar(score, bounds=ends, method="bounded").x)
        else:
            best = float(tried[place])
    else:

        def excess(log_ridge: float) -> float:
            return float(sums.data.total(np.exp(log_ridge), 2)) - target

        if excess(tried[0]) >= 0:
            best = float(tried[0])
        elif excess(tried[-1]) <= 0:
            best = float(tried[-1])
        else:
            best = float(brentq(excess, tried[0], tried[-1], xtol=1e-6))
    return math.exp(best)


def _record(
    problem: LeastSquares[Any],
    noise: float | None,
    size: float,
    sums: _Sums,
    ridge: float,
    num_products: int,
    *notes: str,
) -> RidgeChoice:
    count = math.prod(problem.rhs.shape)
    residual = float(sums.data.total(ridge, 2))
    is_least = ridge <= sums.largest * sums.rounding * (1 + 1e-9)
    if noise is not None and is_least and not notes:
        least = size * math.sqrt(residual / (count + 2 * math.sqrt(2 * count)))
        if noise < least:
            raise ValueError(
                f"`noise` must be at least {least:.4g}: no x leaves less of `problem.rhs`, got "
                f"{noise!r}; leave it out if it is not known"
            )
    if is_least:
        notes = (*notes, "It is the smallest ridge that rounding allows: the data show no noise.")
    if noise is None and ridge > sums.largest and not notes:
        raise ValueError(
            "`noise` must be given for this problem: without it the data look like noise, for the "
            "ridge chosen would halve every component of x or more. Where A is square and well "
            "conditioned they always do; no ridge is needed there"
        )
    if noise is None:
        free = count / sums.num_rows * float(sums.trace.total(ridge, 1))
        return RidgeChoice(
            ridge,
            CROSS_VALIDATION,
            size * math.sqrt(residual / free),
            size * math.sqrt(residual),
            num_products,
            notes,
        )
    return RidgeChoice(
        ridge, DISCREPANCY, float(noise), size * math.sqrt(residual), num_products, notes
    )
