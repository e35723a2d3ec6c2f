"""Deep unfolding: iterations as trainable torch networks, one step size per layer.

Needs torch; ``pip install 'stepfold[unfolded]'`` brings it.
"""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`stepfold.unfolded` needs torch, which is not installed; "
        "install it with `pip install 'stepfold[unfolded]'`",
        name=error.name,
    ) from error

from stepfold.unfolded.exact import train_exactly
from stepfold.unfolded.losses import GaussianLeastSquares, Loss, SampledLoss, SpectralLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.training import train_incrementally

__all__ = [
    "GaussianLeastSquares",
    "Loss",
    "SampledLoss",
    "SpectralLoss",
    "UnfoldedIteration",
    "train_exactly",
    "train_incrementally",
]
