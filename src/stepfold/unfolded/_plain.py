"""A network as a module of torch alone: its operations, recorded once, with the values learned."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


class _Bound(nn.Module):
    """The network with its data built in."""

    def __init__(self, network: nn.Module, data: Any) -> None:
        super().__init__()
        self.network = network
        self._data = data

    def forward(self, x0: Any) -> Any:
        return self.network(self._data, x0)


def plain_module(network: nn.Module, data: Any, x0: Any) -> nn.Module:
    """What ``network.export_module`` returns."""
    leaves = pytree.tree_leaves(data)
    has_inputs = bool(leaves) and all(isinstance(leaf, Tensor) for leaf in leaves)
    if has_inputs:
        traced, inputs = network, (data, x0)
    else:
        traced, inputs = _Bound(network, data), (x0,)  # type: ignore[assignment]

    def first_axis(value: Any) -> Any:
        free = isinstance(value, Tensor) and value.ndim > 1 and len(value) > 1
        return {0: torch.export.Dim.AUTO} if free else None

    shapes = tuple(pytree.tree_map(first_axis, each) for each in inputs)
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.no_grad():
            program = torch.export.export(traced, inputs, dynamic_shapes=shapes)
    finally:
        for module in training:
            module.training = True
    recorded: Any = program.module(check_guards=False)
    graph = recorded.graph
    # Of what `torch.export` wraps around the operations some cannot be pickled, or loaded again.
    graph._tracer_cls = torch.fx.Tracer
    (output,) = (node for node in graph.nodes if node.op == "output")
    returned = output.args[0]
    if all(isinstance(each, Tensor) for each in inputs) and len(returned) == 1:
        graph.set_codegen(torch.fx.graph.CodeGen())  # no containers to take apart
        output.args = (returned[0],)
    # A copy: the network may be trained further.
    return copy.deepcopy(torch.fx.GraphModule(recorded, graph))
