"""Networks survive copies and pickles with every value that they hold."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from stepfold.unfolded.networks import NETWORKS

COPIES: dict[str, Callable[[Any], Any]] = {
    "deep copy": copy.deepcopy,
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", ["dugd", "du_ridge", "lista", "learned_sor", "logistic", "mri"])
def test_networks_survive_copies_and_pickles(name: str, way: str) -> None:
    network = NETWORKS[name]().network
    twin = COPIES[way](network)
    held, kept = network.state_dict(), twin.state_dict()
    assert held.keys() == kept.keys()
    assert all(torch.equal(held[key], kept[key]) for key in held)
    assert twin.schedule() == network.schedule()
    with torch.no_grad():
        next(twin.parameters()).add_(0.25)
    assert not all(torch.equal(held[key], twin.state_dict()[key]) for key in held)
