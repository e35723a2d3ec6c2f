"""Random maps of many kinds, on which the plain iteration mostly converges."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from gallery.mixtures import mixture_map, mixture_samples
from scipy.linalg import block_diag

Made = tuple[Callable[[Any], Any], Any]
RADII = (0.3, 0.6, 0.9, 0.97, 0.99)


def _affine(jacobian: Any, rng: np.random.Generator) -> Made:
    rhs = rng.standard_normal(len(jacobian))
    return lambda x: jacobian @ x + rhs, np.zeros(len(jacobian))


def symmetric(rng: np.random.Generator) -> Made:
    basis, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    radius = rng.choice(RADII)
    return _affine((basis * np.linspace(rng.choice([0, -radius]), radius, 30)) @ basis.T, rng)


def ginibre(rng: np.random.Generator) -> Made:
    """Eigenvalues all over a disc around 0, which no relaxation improves on."""
    jacobian = rng.standard_normal((30, 30))
    return _affine(rng.choice(RADII) * jacobian / abs(np.linalg.eigvals(jacobian)).max(), rng)


def skew_basis(rng: np.random.Generator) -> Made:
    basis = rng.standard_normal((20, 20))
    return _affine(
        basis @ np.diag(rng.uniform(0, rng.choice(RADII), 20)) @ np.linalg.inv(basis), rng
    )


def jordan(rng: np.random.Generator) -> Made:
    """One eigenvalue, one eigenvector: the residual rises before it falls."""
    size = int(rng.integers(3, 11))
    return _affine(
        rng.uniform(0.3, 0.9) * np.eye(size) + rng.uniform(0.1, 1) * np.eye(size, k=1), rng
    )


def triangular(rng: np.random.Generator) -> Made:
    jacobian = np.triu(rng.standard_normal((20, 20)), 1) / 5
    np.fill_diagonal(jacobian, rng.choice(RADII))
    return _affine(jacobian, rng)


def rotations(rng: np.random.Generator) -> Made:
    angles = np.linspace(0, rng.uniform(0.3, np.pi), 20)
    blocks = [[[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]] for t in angles]
    return _affine(rng.choice(RADII) * block_diag(*blocks), rng)


def mixture(rng: np.random.Generator) -> Made:
    """Expectation maximisation, from anywhere; near saddles if all means start alike."""
    count = int(rng.integers(2, 4))
    samples = mixture_samples(rng, count, rng.uniform(1.5, 4.0))
    starts = [
        np.quantile(samples, (np.arange(count) + 0.5) / count),
        rng.choice(samples, count, replace=False),
        samples.mean() + 1e-3 * rng.standard_normal(count),
        samples.mean() + 3 * samples.std() * rng.standard_normal(count),
    ]
    spread = np.full(count, samples.var())
    start = np.concatenate([np.full(count, 1 / count), starts[rng.integers(4)], spread])
    return mixture_map(samples), start


def matrix_factors(rng: np.random.Generator) -> Made:
    """Multiplicative updates; the factors stay positive, and are not unique."""
    target = rng.random((15, 20)) + 4 * rng.random((15, 3)) @ rng.random((3, 20))

    def update(x: Any) -> Any:
        left, right = x[:45].reshape(15, 3), x[45:].reshape(3, 20)
        right = right * (left.T @ target) / (left.T @ left @ right + 1e-12)
        left = left * (target @ right.T) / (left @ right @ right.T + 1e-12)
        return np.concatenate([left.ravel(), right.ravel()])

    return update, rng.random(105) + 0.1


def poisson(rng: np.random.Generator) -> Made:
    """Richardson–Lucy deconvolution."""
    blur = rng.random((40, 10))
    blur /= blur.sum(0)
    counts = rng.poisson(300 * blur @ rng.random(10)) + 1e-3
    return lambda x: x * (blur.T @ (counts / (blur @ x))), np.ones(10)


def lasso(rng: np.random.Generator) -> Made:
    matrix = rng.standard_normal((30, 60)) / np.sqrt(30)
    rhs = matrix @ (rng.standard_normal(60) * (rng.random(60) < 0.1))
    rhs += 0.1 * rng.standard_normal(30)
    step = 1 / np.linalg.norm(matrix, 2) ** 2
    threshold = step * 0.05 * abs(matrix.T @ rhs).max()

    def proximal_step(x: Any) -> Any:
        moved = x - step * (matrix.T @ (matrix @ x - rhs))
        return moved - moved.clip(-threshold, threshold)

    return proximal_step, np.zeros(60)


def sinkhorn(rng: np.random.Generator) -> Made:
    """Scaling that is not centred: a line of fixed points."""
    costs = ((rng.random((20, 1, 2)) - rng.random((1, 20, 2))) ** 2).sum(-1)
    kernel = np.exp(-costs / rng.choice([0.1, 0.03]))
    rows, columns = rng.dirichlet(np.full(20, 3.0)), rng.dirichlet(np.full(20, 3.0))

    def scale(x: Any) -> Any:
        other = np.log(columns) - np.log(kernel.T @ np.exp(x))
        return np.log(rows) - np.log(kernel @ np.exp(other))

    return scale, np.zeros(20)


def power_method(rng: np.random.Generator) -> Made:
    factor = rng.standard_normal((20, 20))
    matrix = factor @ factor.T

    def normalised(x: Any) -> Any:
        image = matrix @ x
        return image / np.linalg.norm(image)

    return normalised, np.ones(20) / np.sqrt(20)


def values(rng: np.random.Generator) -> Made:
    """Value iteration, with kinks where another action becomes the best."""
    moves, ends = rng.dirichlet(np.full(8, 0.3), size=(30, 3)), rng.integers(0, 30, (30, 3, 8))
    rewards, discount = rng.random((30, 3)), rng.choice([0.9, 0.98])
    return lambda x: (rewards + discount * (moves * x[ends]).sum(-1)).max(1), np.zeros(30)


def logistic(rng: np.random.Generator) -> Made:
    points = rng.standard_normal((60, 10))
    signs = np.where(rng.random(60) < 1 / (1 + np.exp(-points @ rng.standard_normal(10))), 1, -1)
    bound = np.linalg.norm(points, 2) ** 2 / 4 + 0.1

    def gradient_step(x: Any) -> Any:
        pull = points.T @ (signs / (1 + np.exp(signs * (points @ x))))
        return x + (pull - 0.1 * x) / bound

    return gradient_step, np.zeros(10)


def newton(rng: np.random.Generator) -> Made:
    target = rng.uniform(1, 9, 5)
    return lambda x: (x + target / x) / 2, rng.uniform(0.1, 30, 5)


def saddle(rng: np.random.Generator) -> Made:
    """Gradient steps from next to the stable manifold of a saddle of six dimensions."""
    basis, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    curvatures = np.concatenate([-rng.uniform(0.05, 1, 2), rng.uniform(0.02, 1, 4)])
    hessian = (basis * curvatures) @ basis.T
    away = 10.0 ** rng.integers(-7, -1) * rng.standard_normal(2)
    start = 0.5 * basis @ np.concatenate([away, rng.standard_normal(4)])
    return lambda x: x - 0.5 * (hessian @ x + x * (x @ x) / 2), start


def low_rank(rng: np.random.Generator) -> Made:
    """Gradient steps on a factorisation, from next to the saddle at 0; turned factors are alike."""
    factor = rng.standard_normal((8, 2))
    target = factor @ factor.T
    step = 0.1 / np.linalg.norm(target, 2)
    start = 1e-4 * rng.standard_normal((8, 2))
    return lambda x: x - step * (x @ (x.T @ x) - target @ x), start


def valley(rng: np.random.Generator) -> Made:
    """Gradient steps in a curved valley."""

    def step(x: Any) -> Any:
        across = x[1] - x[0] ** 2
        return x - 0.01 * np.array([-2 * (1 - x[0]) - 40 * x[0] * across, 20 * across])

    return step, np.array([-1.0, 1.0]) + 0.5 * rng.standard_normal(2)


def network(rng: np.random.Generator) -> Made:
    weights = rng.standard_normal((30, 30))
    weights *= rng.choice([0.9, 1.2, 1.5]) / np.linalg.norm(weights, 2)
    bias = 0.3 * rng.standard_normal(30)
    return lambda x: np.tanh(weights @ x + bias), np.zeros(30)


def rounded(rng: np.random.Generator) -> Made:
    """A map whose values are rounded to some ten digits."""
    slopes = np.linspace(0.01, 1, 50)
    large = 1e6

    def image(x: Any) -> Any:
        return ((large + x) - large) - slopes * (x - 1)

    return image, rng.standard_normal(50)


def projections(rng: np.random.Generator) -> Made:
    """Projections in turn on an affine set and on the positive orthant."""
    matrix = rng.standard_normal((12, 30))
    inverse, rhs = np.linalg.pinv(matrix), matrix @ rng.random(30)
    return lambda x: (x - inverse @ (matrix @ x - rhs)).clip(0), rng.standard_normal(30)


def mean_shift(rng: np.random.Generator) -> Made:
    points = rng.standard_normal((50, 2)) * [1, 2]

    def shift(x: Any) -> Any:
        weights = np.exp(-2 * ((x[:, None] - points[None]) ** 2).sum(-1))
        return weights @ points / weights.sum(1, keepdims=True)

    return shift, points[:10] + 0.01


def geometric_median(rng: np.random.Generator) -> Made:
    points = rng.standard_normal((50, 2)) * [1, 2]

    def average(x: Any) -> Any:
        weights = 1 / np.sqrt(((x - points) ** 2).sum(-1) + 1e-10)
        return weights @ points / weights.sum()

    return average, np.full(2, 3.0)


def density(rng: np.random.Generator) -> Made:
    """Self-consistent occupations of the lowest states."""
    matrix = rng.standard_normal((8, 8))
    matrix = matrix + matrix.T

    def occupy(x: Any) -> Any:
        _, states = np.linalg.eigh(matrix + np.diag(0.3 * x))
        return (states[:, :3] ** 2).sum(1)

    return occupy, np.full(8, 3 / 8)


def sublinear(rng: np.random.Generator) -> Made:
    slope = rng.uniform(0.2, 1)
    return lambda x: x - slope * x * abs(x), rng.uniform(0.3, 0.9, 2)


def orbit(rng: np.random.Generator) -> Made:
    """Kepler's equation."""
    eccentricity, anomaly = rng.uniform(0.3, 0.9), 6 * rng.random(5)
    return lambda x: anomaly + eccentricity * np.sin(x), np.zeros(5)


KINDS: dict[str, Callable[[np.random.Generator], Made]] = {
    kind.__name__: kind
    for kind in (
        symmetric, ginibre, skew_basis, jordan, triangular, rotations, mixture, matrix_factors,
        poisson, lasso, sinkhorn, power_method, values, logistic, newton, saddle, low_rank, valley,
        network, rounded, projections, mean_shift, geometric_median, density, sublinear, orbit,
    )
}  # fmt: skip


def cases(seeds: range) -> list[tuple[str, int]]:
    """Names and seeds."""
    return list(itertools.product(KINDS, seeds))


def made(kind: str, seed: int) -> Made:
    """The map and the start."""
    return KINDS[kind](np.random.default_rng([seed, len(kind)]))
