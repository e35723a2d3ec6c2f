"""An iteration unrolled into a network: layer t takes one step of trainable size γₜ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stepfold._checks import check_count
from stepfold.iterations import GradientDescent, Iteration
from stepfold.problems import Problem
from stepfold.schedules import Schedule


class _Absolute(nn.Module):
    # Published training uses |γ|: it keeps steps positive and, unlike a softplus, leaves the size
    # of an Adam update alone.
    def forward(self, values: Tensor) -> Tensor:
        return values.abs()

    def right_inverse(self, values: Tensor) -> Tensor:
        return values


class UnfoldedIteration(nn.Module):
    """Network of T layers, each one step of an iteration with its own trainable size.

    The layers are the iteration's own three methods, so whatever `solve` can run can be trained.

    Args:
        schedule: Initial step sizes; its length is the number T of layers.
        iteration: What a layer does; `GradientDescent` if not given.
        dtype: Floating-point type of the trainable steps.

    Attributes:
        steps: Positive step sizes, tensor of shape (T,), in units of 1 / Hessian.
        num_layers: T.

    Raises:
        TypeError: If ``schedule`` is not a `Schedule`.

    >>> from stepfold import LeastSquares, Schedule
    >>> network = UnfoldedIteration(Schedule([0.5, 0.25]))
    >>> problem = LeastSquares(torch.eye(2, dtype=torch.float64), torch.ones(2).double())
    >>> network(problem).tolist()
    [0.625, 0.625]
    """

    steps: Tensor

    def __init__(
        self,
        schedule: Schedule,
        *,
        iteration: Iteration[Any, Any] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if not isinstance(schedule, Schedule):
            raise TypeError(
                f"`schedule` must be a Schedule, got {type(schedule).__name__}; "
                "wrap step sizes as `Schedule(steps)`"
            )
        self.iteration = GradientDescent() if iteration is None else iteration
        self.num_layers = schedule.num_steps
        self.steps = nn.Parameter(torch.tensor(schedule.steps.tolist(), dtype=dtype))
        parametrize.register_parametrization(self, "steps", _Absolute())

    def forward(
        self, problem: Problem[Any], x0: Any = None, *, num_layers: int | None = None
    ) -> Any:
        """Iterate after the first ``num_layers`` layers, all of them if not given.

        Args:
            problem: Problem over tensors.
            x0: Start, shape (n,) or (batch, n); 0 if not given.
            num_layers: At most T.

        Raises:
            TypeError: If the problem or the start is not made of tensors.
            ValueError: If ``num_layers`` is out of range.
        """
        num_layers = self.check_num_layers(num_layers)
        if x0 is None:
            x0 = 0 * problem.linear_term
        if not isinstance(x0, Tensor):
            raise TypeError(
                f"the network needs a problem and a start made of torch tensors, got "
                f"{type(x0).__name__}; make them by `torch.tensor(...)`, or run its `schedule()` "
                "through `solve`"
            )
        state = self.iteration.init(problem, x0)
        for gamma in self.steps[:num_layers]:
            state = self.iteration.step(problem, state, gamma)
        return self.iteration.iterate(state)

    def check_num_layers(self, num_layers: int | None) -> int:
        """Return ``num_layers``, or T for None, after checking its range."""
        if num_layers is None:
            return self.num_layers
        if check_count("num_layers", num_layers) > self.num_layers:
            raise ValueError(
                f"`num_layers` must be at most the network's {self.num_layers}, got {num_layers}"
            )
        return num_layers

    def schedule(self, num_layers: int | None = None) -> Schedule:
        """Step sizes of the first ``num_layers`` layers as data, in the order of the layers.

        >>> from stepfold import Schedule
        >>> UnfoldedIteration(Schedule([0.5, 0.25])).schedule().name
        'learned'
        """
        num_layers = self.check_num_layers(num_layers)
        return Schedule(self.steps.detach().double().cpu().numpy()[:num_layers], "learned")
