"""Deep-unfolded gradient descent on Gaussian least squares, as published or from theory.

References:
    Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded Gradient
    Descent (arXiv:2001.05142), on the numerical experiment.
"""

from __future__ import annotations

import numpy as np

from stepfold._checks import check_depth
from stepfold._typing import FloatArray
from stepfold.measure import SpectralMeasure
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import Gram, exact_eigenvalues
from stepfold.unfolded.losses import SpectralLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.networks.base import FROM_THEORY, NETWORKS, Task, TrainingSettings


@NETWORKS.register("dugd")
def dugd(
    *,
    num_layers: int = 25,
    initial_step: float = 0.3,
    batch_size: int = 200,
    noise: float = 0.0,
    matrix: FloatArray | None = None,
    matrix_seed: int = 12,
    from_theory: bool = False,
) -> Task:
    """Gradient descent with learned steps, trained layer by layer in the eigenbasis.

    Args:
        num_layers: T.
        initial_step: Step of every layer before training, in units of 1 / Hessian.
        batch_size: Problems in a mini-batch.
        noise: Variance of the data's noise over that of the unknowns, 0 as published.
        matrix: H, of shape (m, n); a Gaussian one of shape (600, 300) if not given.
        matrix_seed: Seed of that matrix; 12 is the published one.
        from_theory: Whether training starts from Chebyshev steps and trains all layers at once on
            the logarithm of the error, at a rate that falls. It ends at the optimum, where training
            as published ends 46 times above it.

    Raises:
        ValueError: If ``from_theory`` is asked for and the matrix is singular.

    >>> dugd(num_layers=3, matrix=np.eye(4)).network.steps.tolist()
    [0.3, 0.3, 0.3]
    """
    if matrix is None:
        # The published draw is this generator's.
        legacy = np.random.RandomState(matrix_seed)
        matrix = legacy.normal(0, 1 / np.sqrt(300), (300, 600)).T
    measure = SpectralMeasure.from_eigenvalues(exact_eigenvalues(Gram(matrix)))
    steps = Schedule(np.full(check_depth(num_layers), initial_step))
    if from_theory:
        steps = chebyshev_steps(measure.bounds, num_layers)
    return Task(
        UnfoldedIteration(steps),
        SpectralLoss(measure, batch_size=batch_size, noise=noise),
        FROM_THEORY if from_theory else TrainingSettings(),
    )
