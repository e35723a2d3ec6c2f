"""Expectation maximisation for mixtures of normal densities.

References:
    Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm (J. R.
    Stat. Soc. B 39, 1977), section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gallery.base import GALLERY, GalleryMap
from stepfold._typing import FloatArray


def mixture_map(samples: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """One step of expectation maximisation in one dimension.

    Args:
        samples: Shape (n,).

    Returns:
        A map of vectors of shape (3k,): the weights, means and variances of k densities.
    """

    def improve(parameters: FloatArray) -> FloatArray:
        weights, means, variances = parameters.reshape(3, -1, 1)
        densities = weights * np.exp(-((samples - means) ** 2) / (2 * variances))
        densities = densities / np.sqrt(variances)
        shares = densities / densities.sum(0)
        counts = shares.sum(1)
        means = (shares * samples).sum(1) / counts
        variances = (shares * (samples - means[:, None]) ** 2).sum(1) / counts
        return np.concatenate([counts / samples.size, means, variances])

    return improve


def mixture_samples(
    rng: np.random.Generator, num_densities: int, distance: float, size: int = 200
) -> FloatArray:
    """Samples of normal densities with means at equal distances.

    Args:
        rng: Source of randomness.
        num_densities: k.
        distance: Between neighbouring means; standard deviations are between 0.5 and 1.5.
        size: n.
    """
    deviations = rng.uniform(0.5, 1.5, num_densities)
    weights = rng.dirichlet(np.full(num_densities, 5.0))
    which = rng.choice(num_densities, size, p=weights)
    samples: FloatArray = distance * which + deviations[which] * rng.standard_normal(size)
    return samples


@GALLERY.register("mixture")
def mixture(rng: np.random.Generator) -> GalleryMap:
    """Weights, means and variances of two overlapping normal densities, from 1000 samples.

    The start has the means at the quartiles. The solution is by Newton's method on f(x) − x with
    differences for the Jacobian.
    """
    is_second = rng.random(1000) < 0.6
    samples = np.where(is_second, 2.5, 0.0) + np.where(is_second, 1.0, 0.5) * rng.standard_normal(
        1000
    )
    improve = mixture_map(samples)
    spread = samples.var()
    start = np.array([0.5, 0.5, *np.quantile(samples, [0.25, 0.75]), spread, spread])
    solution = np.array([0.4, 0.6, 0.0, 2.5, 0.25, 1.0])  # what the samples were drawn from
    for _ in range(100):
        residual = improve(solution) - solution
        steps = 1e-6 * np.eye(solution.size)
        columns = [(improve(solution + h) - improve(solution - h)) / 2e-6 - h / 1e-6 for h in steps]
        move = np.linalg.lstsq(np.array(columns).T, -residual, rcond=None)[0]
        # Weights and variances must stay positive.
        solution = solution + move * min(1.0, 0.2 / float(abs(move).max()))
        if float(abs(move).max()) < 1e-14:
            break
    return GalleryMap(improve, start, solution)
