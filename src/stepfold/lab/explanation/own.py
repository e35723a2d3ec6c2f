"""A network explained on data: its layers' spectra along one trajectory, and what they call for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stepfold.lab.explanation.network import LayerKind, explain_network
from stepfold.lab.explanation.seen import ROUNDING
from stepfold.lab.outcome import Outcome
from stepfold.result import TrainingRun

if TYPE_CHECKING:
    from stepfold.unfolded import LocalSpectra, UnfoldedIteration


def explain_layers(
    network: UnfoldedIteration,
    data: Any,
    x0: Any = None,
    *,
    run: TrainingRun | None = None,
    name: str = "the network",
) -> Outcome:
    """Curvatures that each layer sees, learned steps beside theory's, gains, and what to try.

    Args:
        network: As training left it; its layers may be anything that torch can differentiate.
        data: One problem, or ``data`` of the network's own step, or the `Sample` that a sampler
            draws, with its start; of a batch the first row is followed.
        x0: Start, as the network takes it; 0 if not given and the problem is linear.
        run: Its training, whose losses are shown too.
        name: What to call it.

    Returns:
        Sections with figures and tables; the summary ends with what to try. Where layers hand on
        something of another size than they are given it says that they have no spectra.

    Raises:
        TypeError: If ``run`` is no `TrainingRun`, or as the network's call.
        ValueError: As the network's call, or if its output is not finite on these data.
    """
    import torch

    from stepfold.unfolded import Sample

    if isinstance(data, Sample) and x0 is None:
        target = data.target
        zero = torch.zeros_like(target) if isinstance(target, torch.Tensor) else None
        data, x0 = data.data, zero if data.start is None else data.start
    if run is not None and not isinstance(run, TrainingRun):
        raise TypeError(f"`run` must be a TrainingRun or None, got {type(run).__name__}")
    training = [module for module in network.modules() if module.training]
    network.eval()  # no dropout, and no trace in running averages
    try:
        with torch.no_grad():
            network(data, x0)
        spectra = _spectra(network, data, x0)
    finally:
        for module in training:
            module.training = True
    return explain_network(
        run,
        name=name,
        steps=network.layer_steps().detach().double().cpu().numpy(),
        parameters=network.learned(),
        spectra=spectra,
        kind=kind_of(network, spectra),
    )


def _spectra(network: UnfoldedIteration, data: Any, x0: Any) -> LocalSpectra | str:
    from stepfold.unfolded import local_spectra

    try:
        return local_spectra(network, data, x0)
    except (RuntimeError, TypeError, ValueError) as error:  # the network itself has run
        return str(error).rstrip(".")


def kind_of(network: UnfoldedIteration, spectra: LocalSpectra | str) -> LayerKind:
    """What layers do, from what they are, or else from their eigenvalues."""
    from stepfold.iterations import GradientDescent, ProximalGradient, Relaxation

    if isinstance(spectra, str):
        return LayerKind.ANY
    if spectra.has_memory:
        return LayerKind.MEMORY
    layer = network.iteration
    if isinstance(layer, (GradientDescent, ProximalGradient)):
        return LayerKind.GRADIENT
    if isinstance(layer, Relaxation):
        return LayerKind.RELAXATION
    largest = np.nanmax(spectra.eigenvalues)
    negligible = ROUNDING * largest
    is_real = spectra.largest_imaginary.max() <= negligible
    is_curved = is_real and np.nanmin(spectra.eigenvalues) >= -negligible and largest > 0
    return LayerKind.CURVED if is_curved else LayerKind.ANY
