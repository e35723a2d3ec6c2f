"""How depth grows in training: a list of stages, each with the layers that it runs and trains.

Trained all at once, a deep unfolded network starts from an astronomically wrong loss or from one so
flat that nothing is learned; layer by layer, each stage starts close to a good point.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepfold._checks import check_count, check_depth, check_size


@dataclass(frozen=True)
class Stage:
    """Train layers ``first_layer`` … ``num_layers − 1`` on the loss of the first ``num_layers``.

    Args:
        num_layers: Depth of the network in this stage.
        num_iterations: Mini-batches at most.
        first_layer: Layers before it keep their values; parameters that layers share are trained
            in every stage.

    Raises:
        ValueError: If a count is not positive, or ``first_layer`` is not a layer of the stage.

    >>> Stage(num_layers=3, num_iterations=100).first_layer
    0
    """

    num_layers: int
    num_iterations: int
    first_layer: int = 0

    def __post_init__(self) -> None:
        check_depth(self.num_layers)
        check_size("num_iterations", self.num_iterations)
        if check_count("first_layer", self.first_layer, minimum=0) >= self.num_layers:
            raise ValueError(
                f"`first_layer` must be below `num_layers`, {self.num_layers}, got "
                f"{self.first_layer}; layers are counted from 0"
            )


def incremental(num_layers: int, num_iterations: int = 500) -> list[Stage]:
    """T stages; stage g trains the first g layers together, as published.

    References:
        Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded
        Gradient Descent (arXiv:2001.05142), on incremental training.

    >>> [stage.num_layers for stage in incremental(3)]
    [1, 2, 3]
    """
    depths = range(1, check_depth(num_layers) + 1)
    return [Stage(depth, num_iterations) for depth in depths]


def all_at_once(num_layers: int, num_iterations: int = 500) -> list[Stage]:
    """One stage for all layers; it needs steps from theory to start from.

    >>> all_at_once(3, 100)
    [Stage(num_layers=3, num_iterations=100, first_layer=0)]
    """
    return [Stage(num_layers, num_iterations)]


def greedy_then_refined(
    num_layers: int, num_iterations: int = 500, num_refining: int | None = None
) -> list[Stage]:
    """T stages that train the newest layer alone, then one that trains all layers together.

    Args:
        num_layers: T.
        num_iterations: Mini-batches for each layer.
        num_refining: Mini-batches of the last stage; ``num_iterations`` if not given.

    >>> [(stage.first_layer, stage.num_layers) for stage in greedy_then_refined(3)]
    [(0, 1), (1, 2), (2, 3), (0, 3)]
    """
    depths = range(1, check_depth(num_layers) + 1)
    greedy = [Stage(depth, num_iterations, depth - 1) for depth in depths]
    refining = num_iterations if num_refining is None else num_refining
    return [*greedy, Stage(num_layers, refining)]
