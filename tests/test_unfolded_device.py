"""Trainings beside the CPU. "meta" stands for a GPU: its tensors cannot be mixed with others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cli_runner import assert_refused, stepfold

from stepfold.unfolded import Sample
from stepfold.unfolded._device import moved
from stepfold.unfolded.networks import NETWORKS

META = torch.device("meta")


# torch makes no products of sparse tensors without values, of which tomography is made.
@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"tomography"}))
def test_every_named_network_trains_where_its_parameters_are(name) -> None:
    task = NETWORKS[name]()
    task.network.to(META)
    loss = task.loss(task.network, task.network.num_layers, np.random.default_rng(0))
    loss.backward()
    gradients = [each.grad for each in task.network.parameters() if each.requires_grad]
    assert {loss.device, *(gradient.device for gradient in gradients)} == {META}


@dataclass(frozen=True)
class Data:
    """Tensors in an attribute, and deeper."""

    rows: torch.Tensor
    others: tuple[dict[str, torch.Tensor], str]


def test_tensors_are_moved_wherever_they_are_and_the_sample_is_left_alone() -> None:
    sample = Sample(Data(torch.ones(2), ({"deep": torch.ones(3)}, "name")), [torch.ones(1)])
    there = moved(sample, META)
    assert isinstance(there, Sample)
    assert isinstance(there.data, Data)
    assert there.data.others[1] == "name"
    tensors = [there.data.rows, there.data.others[0]["deep"], there.target[0]]
    assert [tensor.device for tensor in tensors] == [META] * 3
    assert [tuple(tensor.shape) for tensor in tensors] == [(2,), (3,), (1,)]
    assert sample.data.rows.device.type == "cpu"
    assert sample.data.others[0]["deep"].device.type == "cpu"


@pytest.mark.parametrize("name", ["meta", "gpu"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path, name, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = stepfold("train", "dugd", "--device", name, "-o", "out")
    assert_refused(run, f"`device` must be one that torch finds here, got '{name}'")
    assert not list(tmp_path.iterdir())
