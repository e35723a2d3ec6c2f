"""Measures from products with the operator alone: random probes, known errors, known residuals.

k Lanczos steps from a vector v give the k-node Gauss rule of the measure ``∑ᵢ (vᵢᵀ v)² δ(λᵢ)`` that
v puts on the spectrum. Rows of a batch are one long vector here, and the Hessian acts on each: one
scalar recurrence with the inner product ``∑ Eᵢⱼ Fᵢⱼ``, whose measure is the sum over the rows. A
`Gram` gets Golub–Kahan steps on its factor instead, which never square it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepfold._arrays import epsilon, is_foreign, reshaped, to_host
from stepfold._checks import check_count, check_matrix, check_nonnegative, check_seed
from stepfold._krylov import Bidiagonal, Product, Tridiagonal, golub_kahan, lanczos
from stepfold._typing import FloatArray, Operator
from stepfold.measure._inputs import check_errors, check_symmetric, like, to_float64, to_numpy
from stepfold.measure._rules import (
    Factor,
    ended,
    from_bidiagonal,
    from_tridiagonal,
    gauss_rule,
    radau_rule,
    shifted,
    without_atom_at_zero,
)
from stepfold.measure.base import SpectralMeasure
from stepfold.operators import LinearMap, OwnOperator, adjoint_of
from stepfold.spectrum import Gram
from stepfold.spectrum.complex_form import is_complex, real_form

PROBES = 0x70726F6265
# Each costs `num_nodes` products; the error falls as one over the root of their number.
_MOST_PROBES = 100_000


def lanczos_measure(
    hessian: Operator,
    *,
    num_nodes: int,
    start: Any = None,
    num_probes: int = 8,
    seed: int = 0,
    shape: tuple[int, int] | None = None,
    like: Any = None,
) -> SpectralMeasure:
    """Measure of a Hessian that is known by its products: stochastic Lanczos quadrature.

    Args:
        hessian: Symmetric or Hermitian positive semidefinite map of shape (n, n): dense, sparse,
            ``LinearOperator``, `Gram`, dense torch tensor, or what `estimate_bounds` takes besides.
            With a tensor the products are made on its device, in double precision.
        num_nodes: k, the Lanczos steps and products per probe.
        start: An error, shape (n,), or errors as rows, shape (batch, n), whose own measure is
            wanted. Random probes, for isotropic errors, if not given.
        num_probes: Random vectors to average over; not looked at if ``start`` is given.
        seed: Seed of the probes; the same seed gives the same measure.
        shape: (n, n), where ``hessian`` does not tell.
        like: What vectors are, where it does not tell; see `estimate_bounds`.

    Returns:
        A measure of at most ``num_probes·k`` nodes (k with ``start``) in units of the Hessian,
        exact for the average of the probes on polynomials of degree up to 2k − 1: optimal steps of
        up to k − 1 steps are those of the probes. The steps and their error estimates then differ
        from those of all eigenvalues by a relative O((n·num_probes)^(−1/2)).

        Memory: k + 1 vectors of length n; batch·n with ``start``; twice that for a `Gram`.

    Raises:
        TypeError: If ``start`` is complex and ``hessian`` is not.
        ValueError: If shapes do not fit, ``start`` is 0 or not finite, or ``hessian`` is found not
            to be symmetric or not to be positive semidefinite.

    References:
        Ubaru, Chen and Saad, Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature, SIAM J.
        Matrix Anal. Appl. 38 (2017) 1075.

    >>> measure = lanczos_measure(np.diag([1.0, 2.0, 4.0]), num_nodes=3, start=np.ones(3))
    >>> measure.nodes.round(12), measure.weights.round(12)
    (array([1., 2., 4.]), array([0.33333333, 0.33333333, 0.33333333]))
    """
    num_nodes = check_count("num_nodes", num_nodes)
    num_probes = check_count("num_probes", num_probes, maximum=_MOST_PROBES)
    seed = check_seed("seed", seed)
    operator = _Rows(hessian, shape, like)
    if start is not None:
        rows = operator.errors("start", start)
        name = f"{num_nodes} Lanczos steps from {rows.shape[0]} errors"
        return operator.project(rows, num_nodes).rule(gauss_rule, name)
    # A stream of its own: with `default_rng(seed)` a probe would be the first row of a matrix that
    # the caller drew with the same seed.
    rng = np.random.default_rng([seed, PROBES])
    name = f"{num_nodes} Lanczos steps from each of {num_probes} probes"
    probes = (rng.standard_normal((1, operator.size)) for _ in range(num_probes))
    average = SpectralMeasure.mixture(
        [operator.project(probe, num_nodes).rule(gauss_rule, name) for probe in probes]
    )
    return SpectralMeasure(average.nodes, average.weights, name)


def error_measure(hessian: Operator, errors: Any, *, num_steps: int) -> SpectralMeasure:
    """All that T steps can know of given errors, from T batched products with the Hessian.

    `optimal_steps` of T steps on the result are the best T steps for exactly these errors, and
    their mean squared error there is the true ``∑ ‖p(A) eᵢ‖² / ∑ ‖eᵢ‖²``.

    Args:
        hessian: Symmetric or Hermitian positive semidefinite map of shape (n, n), as for
            `lanczos_measure`.
        errors: ``x₀ − x*``, shape (n,) or (batch, n).
        num_steps: T, the products to spend (pairs of products with the factor of a `Gram`).

    Returns:
        The Gauss–Radau rule of T + 1 nodes, in units of the Hessian, with a node at 0, exact to
        degree 2T. Its other nodes
        are the roots of the optimal polynomial (the harmonic Ritz values), and the weight of 0 is
        the smallest mean squared error of T steps. Once T reaches the number of distinct
        eigenvalues that the errors touch, it is their measure itself, with no node added.

        Memory: T + 1 arrays of the size of ``errors``; for a `Gram` as many images besides.

    Raises:
        TypeError: If the errors are complex and ``hessian`` is not.
        ValueError: If shapes do not fit, the errors are 0 or not finite, or ``hessian`` is found
            not to be symmetric or not to be positive semidefinite.

    References:
        Golub and Meurant, Matrices, Moments and Quadrature (2010), section 6.2 (Gauss–Radau);
        Paige, Parlett and van der Vorst, Approximate Solutions and Eigenvalue Bounds from Krylov
        Subspaces, Numer. Linear Algebra Appl. 2 (1995) 115 (harmonic Ritz values).

    >>> measure = error_measure(np.diag([1.0, 3.0]), np.ones((1, 2)), num_steps=1)
    >>> measure.nodes, measure.weights.round(12)
    (array([0. , 2.5]), array([0.2, 0.8]))
    """
    num_steps = check_count("num_steps", num_steps)
    operator = _Rows(hessian)
    rows = operator.errors("errors", errors)
    name = f"{rows.shape[0]} errors, {num_steps} products"
    return operator.project(rows, num_steps).rule(radau_rule, name)


def residual_measure(
    operator: Operator, residual: Any, *, num_nodes: int, misfit: float = 0.0
) -> SpectralMeasure:
    """Measure of the unknown error of ``min ‖Ax − b‖``, from the known residual ``b − A x₀``.

    The error is ``e₀ = x₀ − x*`` with x* the solution nearest to x₀, the limit of gradient
    descent. Its measure μ and that of the residual, ν, on the spectrum of ``AAᵀ`` are related by
    ``dν = λ dμ + c δ₀``, where c is the squared norm of what no x can fit. Golub–Kahan steps from
    the residual give the Gauss rule of ν, the atom c is taken out, and the weights are divided by
    λ. Where b can be fitted, c = 0, and `optimal_steps` of up to k steps on the result are exactly
    the best for the unknown error.

    Where it cannot, c is needed: T steps see the residual only, and the best steps for the error
    depend on c. Give it as ``misfit`` (for noise of variance σ² and full column rank, about
    ``σ·√(m − n)``). The steps that make the *residual* smallest need no c:
    ``optimal_steps(error_measure(Gram(A.T), residual, num_steps=T), T)``.

    Args:
        operator: A, of shape (m, n): what `LeastSquares` takes. Products with a tensor are made on
            its device, in double precision.
        residual: ``b − A x₀``, shape (m,) or (batch, m): one measure for all rows.
        num_nodes: k, the pairs of products with A and its transpose to spend.
        misfit: √c, the norm of the part of ``residual`` outside the range of A, over all rows.

    Returns:
        A measure of k nodes above 0, in units of ``AᵀA`` (fewer where the Krylov space is
        exhausted). ``∫ λ f dμ`` is right for f of degree up to 2k − 1, up to one factor: the norm
        of e₀ is not known, only estimated from below, and with it the mean squared error of T
        steps, which makes sense for T well below k only. For T = k every node is a root, and the
        estimate is 0.

        Memory: k + 1 arrays of the size of ``residual`` and k of the size of the solutions.

    Raises:
        TypeError: If the residual is complex and ``operator`` is not.
        ValueError: If shapes do not fit, the residual is not finite or orthogonal to the range of A
            (x₀ is a solution), or ``misfit`` exceeds what the k steps leave of the residual.

    References:
        Paige and Saunders, LSQR, ACM Trans. Math. Softw. 8 (1982) 43 (the recurrence).

    >>> measure = residual_measure(np.diag([1.0, 2.0]), np.array([1.0, 2.0]), num_nodes=2)
    >>> measure.nodes.round(12), measure.weights.round(12)
    (array([1., 4.]), array([0.5, 0.5]))
    """
    num_nodes = check_count("num_nodes", num_nodes)
    check_nonnegative("misfit", misfit)
    operator = to_float64(operator)
    matrix = check_matrix("operator", operator, allow_complex=True, rows=residual)
    transposed = adjoint_of(real_form(matrix))
    left = _Rows(Gram.of_checked(transposed))
    rows = check_errors("residual", residual, left.size, parts=is_complex(matrix))
    numbers = np.asarray(to_numpy("residual", residual))
    peak = max(float(np.abs(part).max()) for part in (numbers.real, numbers.imag))
    projection = left.project(rows, num_nodes)
    factor, unit = projection.factor, projection.unit
    share = min(misfit / peak / float(np.linalg.norm(rows)), 1.0) ** 2
    if share > 0:
        cleaned = without_atom_at_zero(factor, share) if share < 1 else None
        if cleaned is None:
            raise ValueError(
                "`misfit` must not exceed the norm that the best x in the Krylov space leaves of "
                f"the residual, got {misfit!r}; lower it, or make steps for the residual instead"
            )
        factor = cleaned
    nodes, weights = gauss_rule(factor)
    positive = nodes > _rounding(transposed) ** 2
    if not positive.any():
        raise ValueError(
            "`residual` must not be orthogonal to the range of `operator`; here it is, and x₀ "
            "solves the problem already"
        )
    nodes, weights = nodes[positive], weights[positive]
    name = f"residual, {num_nodes} pairs of products"
    return SpectralMeasure(nodes * unit, weights / (nodes / nodes[0]), name)


class _Rows:
    """A Hessian that acts on the rows of a batch, flattened: what the recurrences ask for."""

    def __init__(self, hessian: Any, shape: Any = None, like: Any = None) -> None:
        self._is_gram = isinstance(hessian, Gram)
        self._shift = 0.0
        if isinstance(hessian, Gram):
            self._shift = hessian.shift
            hessian = hessian.factor
        matrix = check_matrix(
            "hessian", to_float64(hessian), allow_complex=True, shape=shape, like=like
        )
        self._is_complex = is_complex(matrix)
        self._matrix = real_form(matrix)
        self.size = int(self._matrix.shape[1])
        if not self._is_gram:
            check_symmetric(self._matrix)

    def errors(self, name: str, rows: Any) -> FloatArray:
        """Vectors as rows of float64; of a complex map, real and imaginary parts."""
        return check_errors(name, rows, self.size, parts=self._is_complex)

    def project(self, rows: FloatArray, num_steps: int) -> _Projection:
        """Run the recurrence from the rows."""
        start = like(self._matrix, rows.ravel())
        product = _by_rows(self._matrix, self.size)
        if self._is_gram:
            transposed = _by_rows(adjoint_of(self._matrix), int(self._matrix.shape[0]))
            pairs = golub_kahan(product, transposed, start, num_steps)
            unit = float(max(pairs.diagonal.max(), pairs.off_diagonal.max())) or 1.0
            factor = from_bidiagonal(Bidiagonal(pairs.diagonal / unit, pairs.off_diagonal / unit))
            factor = ended(factor, _rounding(self._matrix) ** 2)
            return _Projection(shifted(factor, self._shift / unit / unit), unit * unit)
        steps = lanczos(product, start, num_steps)
        unit = float(max(np.abs(steps.diagonal).max(), steps.off_diagonal.max())) or 1.0
        diagonal, off_diagonal = steps.diagonal / unit, steps.off_diagonal / unit
        echoes = np.flatnonzero(off_diagonal <= _rounding(self._matrix))
        if echoes.size > 0:
            count = int(echoes[0]) + 1
            diagonal, off_diagonal = diagonal[:count], off_diagonal[:count]
            off_diagonal[-1] = 0.0
        lowest = float(Tridiagonal(diagonal, off_diagonal).eigh()[0][0])
        rounding = (self.size + 30) * _epsilon(self._matrix)
        if lowest < -rounding:
            raise ValueError(
                "`hessian` must be positive semidefinite, but it has an eigenvalue of at most "
                f"{unit * lowest:.6g}; for least squares with this matrix pass `Gram(matrix)`"
            )
        if lowest > rounding:
            return _Projection(from_tridiagonal(Tridiagonal(diagonal, off_diagonal)), unit)
        # A node at 0 up to rounding: factor a little further up, and let nothing follow.
        offset = 2 * rounding
        off_diagonal[-1] = 0.0
        lifted = Tridiagonal(diagonal + offset, off_diagonal)
        return _Projection(from_tridiagonal(lifted), unit, offset)


@dataclass(frozen=True, eq=False)
class _Projection:
    """Factor of the Jacobi matrix ``J/unit + offset·I`` that a recurrence gave."""

    factor: Factor
    unit: float
    offset: float = 0.0

    def rule(
        self, make: Callable[[Factor], tuple[FloatArray, FloatArray]], name: str
    ) -> SpectralMeasure:
        nodes, weights = make(self.factor)
        nodes = np.where(nodes > 2 * self.offset, nodes - self.offset, 0.0)
        return SpectralMeasure(nodes * self.unit, weights, name)


def _rounding(matrix: Any) -> float:
    """Singular values and couplings below this, relative to the largest, are rounding errors."""
    return float(32 * max(matrix.shape) * _epsilon(matrix))


def _epsilon(matrix: Any) -> float:
    """Of what products are computed in: double precision, but for maps that have their own."""
    if isinstance(matrix, LinearMap):
        return epsilon(matrix.like)
    return epsilon(matrix) if isinstance(matrix, OwnOperator) else float(np.finfo(float).eps)


def _by_rows(matrix: Any, length: int) -> Product:
    def product(flat: Any) -> Any:
        if isinstance(matrix, LinearMap):
            rows = reshaped(flat, (-1, length))
            image = to_host(matrix.of_host(rows[0] if rows.shape[0] == 1 else rows.T))
            return image.T.reshape(-1).astype(np.float64)
        if flat.shape[0] == length:
            image = matrix @ flat
        else:
            image = reshaped((matrix @ reshaped(flat, (-1, length)).T).T, (-1,))
        if is_foreign(image):
            return image
        return np.asarray(image, dtype=np.float64)

    return product
