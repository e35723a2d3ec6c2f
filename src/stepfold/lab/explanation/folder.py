"""The folder of a training, explained: of ``stepfold train``, or of an experiment that trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from stepfold._checks import check_nonnegative
from stepfold.lab.explanation.network import explain_network
from stepfold.lab.explanation.training import explain_run
from stepfold.lab.outcome import Outcome
from stepfold.measure import SpectralMeasure
from stepfold.result import TrainingRun

if TYPE_CHECKING:
    from stepfold.unfolded.local import LocalSpectra

SPECTRUM = "spectrum.json"
SETTINGS = "settings.json"


def explain_folder(folder: Path) -> Outcome:
    """What the training in a folder learned.

    Where the folder holds a spectrum the steps are compared with the optimum. Otherwise the network
    is made anew, and one problem drawn, whose trajectory shows what each layer does.

    Raises:
        FileNotFoundError: If there is no finished training.
        ValueError: If a file in it is damaged.
    """
    if not (folder / "training.json").exists():
        raise FileNotFoundError(
            f"{folder} holds no finished training; `stepfold train NAME -o {folder}` makes one, "
            "and --resume finishes one that was stopped"
        )
    run = TrainingRun.load(folder)
    name = str(folder)
    if (folder / SPECTRUM).exists():
        measure, noise = _spectrum(folder / SPECTRUM)
        return explain_run(run, measure, name=name, noise=noise)
    if not (folder / SETTINGS).exists():
        return explain_network(run, name=name)
    from stepfold.unfolded.runs import evaluation

    figures = evaluation(folder)
    return explain_network(run, name=name, figures_of_merit=figures, spectra=_spectra(folder))


def _spectrum(path: Path) -> tuple[SpectralMeasure, float]:
    """Spectrum that a training was on, and the noise η of its data."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        measure = SpectralMeasure.from_dict(record)
        return measure, float(check_nonnegative("noise", record.get("noise", 0.0)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the record of a spectrum: {error}") from None


def _spectra(folder: Path) -> LocalSpectra | None:
    """Local spectra along one trajectory; None if layers are no maps, or the data are not known."""
    import numpy as np
    import torch

    from stepfold.unfolded import Sample, SampledLoss, local_spectra
    from stepfold.unfolded.runs import trained_task

    try:
        task = trained_task(folder, batch_size=1)
    except ValueError:
        return None  # its matrix is not in the folder
    if not isinstance(task.loss, SampledLoss):
        return None
    sample = Sample(*task.loss.sampler(np.random.default_rng(0)))
    start = sample.start
    if start is None and isinstance(sample.target, torch.Tensor):
        start = torch.zeros_like(sample.target)
    try:
        return local_spectra(task.network, sample.data, start)
    except (TypeError, ValueError):
        return None  # layers with a memory, or too many unknowns
