"""Stepfold beside PyTorch's optimisers: a schedule as the learning rates of gradient descent.

The learning rate of ``torch.optim.SGD`` without momentum is the step size γₜ, so that a schedule of
T steps is a scheduler of period T. The steps are in units of 1 / Hessian of the *whole* loss as it
is differentiated: its mean over the rows if the loss takes the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepfold._checks import check_count
from stepfold._extras import check_version, not_installed
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule

NEED = "`stepfold.interop.torch` needs torch >= 2.2"
try:
    import torch
except ModuleNotFoundError as error:
    raise not_installed(NEED, "unfolded", error) from error
check_version(torch, NEED, "unfolded")

__all__ = ["ScheduleLR"]


class ScheduleLR(torch.optim.lr_scheduler.LRScheduler):
    """Set the learning rate of every parameter group to the steps of a schedule, in turn.

    Call ``scheduler.step()`` after every ``optimizer.step()``, not once an epoch. After T steps the
    schedule begins again. In place of the optimiser's own learning rate, which is not looked at,
    step t takes ``schedule(t)``. What another scheduler of a ``ChainedScheduler``, or the caller,
    multiplied the rate by in between remains as a factor; make this scheduler before such others.

    Args:
        optimizer: Any optimiser whose groups have an ``"lr"``. The guarantees of a schedule are for
            ``torch.optim.SGD`` without momentum.
        schedule: One schedule for all groups, or one for each group. Parameters that are stepped by
            different schedules do not share a Hessian's spectrum: take bounds for each group's own.
        last_epoch: Number of steps that were taken before, less one: as PyTorch counts.

    Raises:
        TypeError: If ``optimizer`` is not an optimiser or a schedule not a `Schedule`.
        ValueError: If a schedule has steps that are not positive, or there are not as many
            schedules as groups, now or after a group was added.

    >>> x = torch.ones(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([x], lr=1.0)
    >>> scheduler = ScheduleLR(optimizer, Schedule([0.5, 0.25]))
    >>> rates = []
    >>> for _ in range(3):
    ...     rates += scheduler.get_last_lr()
    ...     optimizer.step()
    ...     scheduler.step()
    >>> rates
    [0.5, 0.25, 0.5]
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule | Sequence[Schedule],
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                "`optimizer` must be a torch.optim.Optimizer, got "
                f"{type(optimizer).__name__}; give `torch.optim.SGD(parameters, lr=1.0)`"
            )
        check_count("last_epoch", last_epoch, minimum=-1)
        groups = len(optimizer.param_groups)
        if isinstance(schedule, Schedule):
            schedules = [schedule] * groups
        elif isinstance(schedule, list | tuple):
            schedules = list(schedule)
        else:
            check_schedule(schedule, or_none=False)
        for one in schedules:
            check_schedule(one, or_none=False)
        self._steps = [one.steps.tolist() for one in schedules]
        self._set: list[float] = []
        self._check_groups(groups)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """The next learning rate of each group; `get_last_lr` tells the present ones."""
        groups = self.optimizer.param_groups
        self._check_groups(len(groups))
        steps = [own[self.last_epoch % len(own)] for own in self._steps]
        before, self._set = self._set, steps
        if self.last_epoch <= 0 or not before:
            return [*steps]
        # A rate that is still ours gives the step itself, without a rounding.
        return [
            step if group["lr"] == old else step * (float(group["lr"]) / old)
            for step, group, old in zip(steps, groups, before, strict=True)
        ]

    def _get_closed_form_lr(self) -> list[float]:
        # Asked for where an epoch is named: by `SequentialLR` where its next part begins.
        self._check_groups(len(self.optimizer.param_groups))
        self._set = [own[self.last_epoch % len(own)] for own in self._steps]
        return [*self._set]

    def state_dict(self) -> dict[str, Any]:
        """Counts, steps and rates as plain numbers, for ``torch.load(weights_only=True)``."""
        state = super().state_dict()
        for rates in ("base_lrs", "_last_lr"):
            state[rates] = [float(rate) for rate in state[rates]]
        return state | {"_steps": [[*own] for own in self._steps], "_set": [*self._set]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the other scheduler was, with its schedules.

        Raises:
            ValueError: If it is not the state of a `ScheduleLR` with as many groups.
        """
        if "_steps" not in state_dict:
            raise ValueError(
                "`state_dict` must come from `ScheduleLR.state_dict()`, got one without steps; "
                "load the state of this scheduler"
            )
        groups = len(self.optimizer.param_groups)
        if len(state_dict["_steps"]) != groups:
            raise ValueError(
                f"`state_dict` must have a schedule for each of {groups} parameter groups, got "
                f"{len(state_dict['_steps'])}; add the groups before loading"
            )
        super().load_state_dict(dict(state_dict))

    def _check_groups(self, groups: int) -> None:
        if len(self._steps) != groups:
            raise ValueError(
                f"`schedule` must be one schedule, or one for each of {groups} parameter groups, "
                f"got {len(self._steps)}; make the scheduler after the last `add_param_group`"
            )
