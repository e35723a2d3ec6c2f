"""Small convolutional networks as priors of unfolded iterations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from stepfold._checks import check_count

Edges = Literal["zeros", "reflect", "replicate", "circular"]


def small_network(num_channels: int, seed: int, *, edges: Edges = "zeros") -> nn.Sequential:
    """Three convolutions of 3×3 pixels, of pictures of shape (batch, 1, rows, columns).

    The last one starts at 0, so that before training the network returns 0, as the correction of a
    step should.

    Args:
        num_channels: Channels between the convolutions.
        seed: Seed of the weights.
        edges: What the picture is continued by, in the words of ``torch.nn.Conv2d``.

    >>> small_network(4, 0)(torch.ones(1, 1, 5, 5)).abs().max().item()
    0.0
    """
    check_count("num_channels", num_channels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, num_channels, 3, padding=1, padding_mode=edges),
            nn.ReLU(),
            nn.Conv2d(num_channels, num_channels, 3, padding=1, padding_mode=edges),
            nn.ReLU(),
            nn.Conv2d(num_channels, 1, 3, padding=1, padding_mode=edges),
        )
    for parameter in network[-1].parameters():
        nn.init.zeros_(parameter)
    return network
