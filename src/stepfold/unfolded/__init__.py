"""Deep unfolding: iterations as trainable torch networks, one step size per layer.

Needs torch; ``pip install '.[unfolded]'`` from a clone brings it.
"""

from stepfold._extras import not_installed

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise not_installed("`stepfold.unfolded` needs torch", "unfolded", error) from error

from stepfold.unfolded._layers import LayerParameters
from stepfold.unfolded._warnings import TrainingWarning
from stepfold.unfolded.choice import loss_for
from stepfold.unfolded.criteria import squared_error, squared_residual
from stepfold.unfolded.distributed import process_group
from stepfold.unfolded.exact import train_exactly
from stepfold.unfolded.fixed_point import fixed_point
from stepfold.unfolded.loaders import LoaderSampler
from stepfold.unfolded.local import LocalSpectra, local_spectra
from stepfold.unfolded.losses import Loss, SampledLoss, SpectralLoss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.options import HeldOut
from stepfold.unfolded.parameters import Bounded, Positive, Trainable
from stepfold.unfolded.problems import BatchedLeastSquares
from stepfold.unfolded.progress import Progress
from stepfold.unfolded.replicas import Replicas, train_replicas
from stepfold.unfolded.samplers import DataSetSampler, GaussianLeastSquares, Sample
from stepfold.unfolded.stages import Stage, all_at_once, greedy_then_refined, incremental
from stepfold.unfolded.theory import TheoryStart, theory_start
from stepfold.unfolded.training import train, train_incrementally

__all__ = [
    "BatchedLeastSquares",
    "Bounded",
    "DataSetSampler",
    "GaussianLeastSquares",
    "HeldOut",
    "LayerParameters",
    "LoaderSampler",
    "LocalSpectra",
    "Loss",
    "Positive",
    "Progress",
    "Replicas",
    "Sample",
    "SampledLoss",
    "SpectralLoss",
    "Stage",
    "TheoryStart",
    "Trainable",
    "TrainingWarning",
    "UnfoldedIteration",
    "all_at_once",
    "fixed_point",
    "greedy_then_refined",
    "incremental",
    "local_spectra",
    "loss_for",
    "process_group",
    "squared_error",
    "squared_residual",
    "theory_start",
    "train",
    "train_exactly",
    "train_incrementally",
    "train_replicas",
]
