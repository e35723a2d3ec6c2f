"""The interval that holds the eigenvalues of a Hessian: given, proved or estimated."""

from stepfold.spectrum.bounds import Certainty, SpectralBounds, tightest
from stepfold.spectrum.closed_forms import Convolution, GaussianFactor
from stepfold.spectrum.entries import Gershgorin, Norms
from stepfold.spectrum.estimate import (
    BoundsMethod,
    Tightest,
    estimate_bounds,
    fits_dense_eigensolver,
)
from stepfold.spectrum.exact import Exact, NotSemidefiniteError, exact_eigenvalues
from stepfold.spectrum.gram import Gram
from stepfold.spectrum.lanczos import Lanczos
from stepfold.spectrum.target import Target

__all__ = [
    "BoundsMethod",
    "Certainty",
    "Convolution",
    "Exact",
    "GaussianFactor",
    "Gershgorin",
    "Gram",
    "Lanczos",
    "Norms",
    "NotSemidefiniteError",
    "SpectralBounds",
    "Target",
    "Tightest",
    "estimate_bounds",
    "exact_eigenvalues",
    "fits_dense_eigensolver",
    "tightest",
]
