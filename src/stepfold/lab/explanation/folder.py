"""The folder of a training, explained: of ``stepfold train``, or of an experiment that trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from stepfold._checks import check_nonnegative
from stepfold._codec import from_json
from stepfold.lab.explanation.network import LayerKind, explain_network
from stepfold.lab.explanation.own import kind_of
from stepfold.lab.explanation.training import explain_run
from stepfold.lab.outcome import Outcome
from stepfold.measure import SpectralMeasure
from stepfold.result import TrainingRun

SPECTRUM, NOISE = "spectrum.json", "noise.json"
SETTINGS = "settings.json"
# One problem, of a size whose Jacobians have their eigenvalues in seconds.
SMALL = {"batch_size": 1, "side": 12}
# Networks whose own layers are a gradient step, or one with a proximal operator.
GRADIENT_NETWORKS = ("du_ridge", "learned_ista")


def explain_folder(folder: Path) -> Outcome:
    """What the training in a folder learned.

    Where the folder holds a spectrum the steps are compared with the optimum. Otherwise the network
    is made anew, and one problem drawn, whose trajectory shows what each layer does.

    Where that cannot be done (another version's folder, a matrix that is not in it, a package that
    is not installed) the report says why, and shows the rest.

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
        measure = _read(folder / SPECTRUM, SpectralMeasure, "a spectrum")
        noise = 0.0
        if (folder / NOISE).exists():
            noise = _read(folder / NOISE, float, "a noise", partial(check_nonnegative, "noise"))
        return explain_run(run, measure, name=name, noise=noise)
    if not (folder / SETTINGS).exists():
        return explain_network(run, name=name)
    try:
        from stepfold.unfolded.runs import evaluation
    except ModuleNotFoundError as error:
        return explain_network(run, name=name, spectra=str(error))
    return explain_network(run, name=name, figures_of_merit=evaluation(folder), **_local(folder))


def _read(path: Path, kind: Any, what: str, check: Callable[[Any], Any] | None = None) -> Any:
    try:
        value = from_json(kind, json.loads(path.read_text(encoding="utf-8")), path.name)
        return value if check is None else check(value)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not the record of {what}: {error}") from None


def _local(folder: Path) -> dict[str, Any]:
    """Local spectra along one trajectory, and what they are of; or why there are none."""
    import numpy as np
    import torch

    from stepfold.unfolded import Sample, SampledLoss, local_spectra
    from stepfold.unfolded.runs import trained_task

    try:
        task = trained_task(folder, at_most=SMALL)
        if not isinstance(task.loss, SampledLoss):
            return {"spectra": "its loss does not say which problems it is trained on"}
        sample = Sample(*task.loss.sampler(np.random.default_rng(0)))
        start = sample.start
        if start is None and isinstance(sample.target, torch.Tensor):
            start = torch.zeros_like(sample.target)
        spectra = local_spectra(task.network, sample.data, start)
    except (ModuleNotFoundError, TypeError, ValueError) as error:
        return {"spectra": str(error).rstrip(".")}
    kind = kind_of(task.network, spectra)
    name = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["network"]
    if name in GRADIENT_NETWORKS and not spectra.has_memory:
        kind = LayerKind.GRADIENT
    shape = tuple(start.shape[1:]) if start is not None else ()
    named = f"one patch of {shape[0]} × {shape[1]} pixels" if len(shape) == 2 else "one problem"
    return {"spectra": spectra, "kind": kind, "sample": named}
