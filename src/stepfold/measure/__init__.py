"""How an error is spread over the eigenvalues: the record, and where it comes from."""

from stepfold.measure.base import SpectralMeasure
from stepfold.measure.ensemble import ensemble_measure
from stepfold.measure.exact import exact_measure
from stepfold.measure.krylov import error_measure, lanczos_measure, residual_measure

__all__ = [
    "SpectralMeasure",
    "ensemble_measure",
    "error_measure",
    "exact_measure",
    "lanczos_measure",
    "residual_measure",
]
