"""Quadrature rules from the factor of a Jacobi matrix, each node and weight to nearly all digits.

A measure on eigenvalues at least 0 has a Jacobi matrix ``J = L Lᵀ`` with L lower bidiagonal. It is
kept as the squared entries of L, ``q`` on the diagonal and ``e`` below it, all positive:
``J[i, i] = q[i] + e[i − 1]`` and ``J[i, i + 1]² = q[i]·e[i]``. J itself is never formed: nodes far
below the largest one would lose their digits.
"""

from __future__ import annotations

import numpy as np

from stepfold._krylov import Bidiagonal, Tridiagonal, golub_kahan
from stepfold._typing import FloatArray

Factor = tuple[FloatArray, FloatArray]
"""q and e, both of shape (k,); the last e couples to the next row, and is 0 if there is none."""


def factor_of(nodes: FloatArray, weights: FloatArray, count: int) -> Factor:
    """Factor of at most ``count`` rows for weights on nodes, in units of the largest node.

    Golub–Kahan on the roots of the nodes, so that nodes far below the largest keep their digits.
    """
    return from_bidiagonal(_project(nodes, weights, count))


def gauss_nodes(nodes: FloatArray, weights: FloatArray, count: int) -> FloatArray:
    """Nodes of the Gauss rule for weights on nodes, ascending, at most ``count`` of them."""
    values: FloatArray = nodes[-1] * _project(nodes, weights, count).svd()[1] ** 2
    return values


def _project(nodes: FloatArray, weights: FloatArray, count: int) -> Bidiagonal:
    root = np.sqrt(nodes / (nodes[-1] or 1.0))
    return golub_kahan(lambda v: root * v, lambda u: root * u, np.sqrt(weights), count)


def from_bidiagonal(projection: Bidiagonal) -> Factor:
    """Factor from Golub–Kahan: its upper bidiagonal matrix is ``Lᵀ``."""
    return projection.diagonal**2, projection.off_diagonal**2


def from_tridiagonal(projection: Tridiagonal) -> Factor:
    """Factor from Lanczos, whose Jacobi matrix is all there is; it must be positive definite."""
    q, e = np.zeros(projection.diagonal.size), np.zeros(projection.diagonal.size)
    before = 0.0
    for k, diagonal in enumerate(projection.diagonal.tolist()):
        q[k] = diagonal - before
        before = float(projection.off_diagonal[k]) ** 2 / q[k]
        e[k] = before
    return q, e


def ended(factor: Factor, rounding: float) -> Factor:
    """Factor without what follows an entry of ``rounding`` or less: echoes of what was there.

    A Krylov space that is exhausted up to rounding goes on with random vectors.
    """
    q, e = factor
    small = np.flatnonzero((q <= rounding) | (e <= rounding))
    if small.size == 0:
        return factor
    last = int(small[0])
    q, e = q[: last + 1].copy(), e[: last + 1].copy()
    if q[last] <= rounding:
        q[last] = 0.0
    e[last] = 0.0
    return q, e


def shifted(factor: Factor, shift: float) -> Factor:
    """Factor of ``J + shift·I`` for a shift at least 0: the stationary qd transform.

    Sums, products and quotients of positive numbers only, so no digit is lost.

    References:
        Fernando and Parlett, Accurate Singular Values and Differential qd Algorithms, Numer. Math.
        67 (1994) 191.
    """
    if shift == 0:
        return factor
    q, e = factor[0].copy(), factor[1].copy()
    move = shift
    for k in range(q.size):
        new_q = q[k] + move
        ratio = e[k] / new_q
        e[k] = q[k] * ratio
        move = shift + move * ratio
        q[k] = new_q
    return q, e


def without_atom_at_zero(factor: Factor, share: float) -> Factor | None:
    """Factor once an atom of weight ``share`` of the whole is taken from 0; None if it is too big.

    ``Lᵀ L`` is the Jacobi matrix of λ dμ and does not see the atom; it fixes all but one number.
    """
    q, e = factor[0].copy(), factor[1].copy()
    excess = q[0] * share / (1 - share)
    q[0] += excess
    for k in range(q.size):
        old_e, e[k] = e[k], e[k] - excess
        if abs(e[k]) <= 1e-10 * old_e:  # the atom was all that was left beyond row k
            e[k] = 0.0
            return q[: k + 1], e[: k + 1]
        if k + 1 == q.size:
            return (q, e) if e[k] >= 0 else None
        if e[k] < 0:
            return None
        quotient = q[k + 1] / e[k]
        q[k + 1] = old_e * quotient
        excess *= quotient
    raise AssertionError("the loop returns at the last row")


def gauss_rule(factor: Factor) -> tuple[FloatArray, FloatArray]:
    """Nodes, ascending, and weights of the Gauss rule: k nodes, exact to degree 2k − 1."""
    q, e = factor
    return _rule(_path(q, e[:-1]))


def radau_rule(factor: Factor) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of the Gauss–Radau rule with a node at 0: exact to degree 2k.

    The k nodes above 0 are the Gauss nodes of λ dμ, and the weight of 0 is the smallest mean
    squared error of k steps. Where the recurrence has ended it is the Gauss rule, which is exact.
    """
    q, e = factor
    return gauss_rule(factor) if e[-1] == 0 else _rule(_path(q, e))


def _path(q: FloatArray, e: FloatArray) -> FloatArray:
    """√q₁ √e₁ √q₂ …: edges of the path whose adjacency matrix has the singular values of L."""
    path = np.empty(q.size + e.size)
    path[::2] = np.sqrt(q)
    path[1::2] = np.sqrt(e)
    return path[:-1] if path[-1] == 0 else path  # a last q of 0 is a node at 0


def _rule(path: FloatArray) -> tuple[FloatArray, FloatArray]:
    nodes = _squares(path)
    if path.size % 2 == 0:
        nodes = np.append(0.0, nodes)
    # Without its first row the matrix has nodes between those, and the weight of node j is
    # ∏ (θ_j − φ_k) / ∏ (θ_j − θ_i): quotients that all lie between 0 and 1. Where nodes coincide up
    # to rounding, only the sum of their weights means anything: it is right if the φ stay between.
    inner = np.clip(_squares(path[1:]), nodes[:-1], nodes[1:])
    index = np.arange(nodes.size - 1)
    is_below = index < np.arange(nodes.size)[:, None]
    above = np.abs(nodes[:, None] - inner)
    below = np.abs(nodes[:, None] - nodes[np.where(is_below, index, index + 1)])
    quotients = np.divide(above, below, out=is_below.astype(np.float64), where=below > 0)
    return nodes, quotients.prod(axis=1)


def _squares(path: FloatArray) -> FloatArray:
    """Squares of the positive eigenvalues of a path with given edges, ascending.

    Bisection on a tridiagonal matrix of diagonal 0 finds each to nearly all its digits.
    """
    from scipy.linalg import eigvalsh_tridiagonal

    if path.size == 0:
        return np.empty(0)
    num_vertices = path.size + 1
    values = eigvalsh_tridiagonal(
        np.zeros(num_vertices),
        path,
        select="i",
        select_range=(num_vertices - num_vertices // 2, num_vertices - 1),
        lapack_driver="stebz",
        tol=1e-300,  # as accurate as it can be
    )
    return np.asarray(values, dtype=np.float64) ** 2
