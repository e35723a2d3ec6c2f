"""An iteration unrolled into a network: layer t takes one step of trainable size γₜ."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stepfold._arrays import to_host
from stepfold._checks import check_count, check_depth, check_flag
from stepfold.iterations import GradientDescent, Iteration
from stepfold.result import TrainingRun
from stepfold.schedules import Schedule
from stepfold.schedules.base import check_schedule
from stepfold.unfolded._held import Held, checked_modules, held_by, register
from stepfold.unfolded._layers import Layer, Layers, Step, check_iteration, is_list, layers_of
from stepfold.unfolded._plain import plain_module
from stepfold.unfolded._trainables import TrainableLayers
from stepfold.unfolded._warnings import quiet
from stepfold.unfolded.parameters import Constraint, Positive


class UnfoldedIteration(TrainableLayers):
    """Network of T layers, each one step of an iteration with its own trainable size.

    The layers are the iteration's own three methods, so whatever `solve` can run can be trained.

    Args:
        schedule: Initial step sizes, say from `chebyshev_steps`, `optimal_steps` or
            `constant_steps`. With fewer of them than layers, layers share them periodically.
        iteration: What a layer does: an `Iteration`, or a function ``step(x, params, data)`` (a
            ``torch.nn.Module`` may be one) that returns the next x; `GradientDescent` if not given.
            ``params.step`` is the layer's step size, ``params.layer`` its number from 0, other
            parameters go by their names. A tensor must keep its shape, dtype and device (the first
            layer may add a batch in front of the shape), and so must tensors in a tuple; other
            states are the function's own affair. A function, or module, with an attribute
            ``changes_shape`` that is true may change the shape. A list, or ``nn.ModuleList``, of
            these has one for each layer; layers use fewer in turn.
        num_layers: T; the length of the schedule, or of a longer list of iterations, if not given.
        parameters: Further trainable values by name: a `Trainable`, or its ``initial`` alone, then
            one positive value per layer. For an `Iteration` a name is an attribute that each layer
            replaces, such as "momentum" of `HeavyBall` or "penalty.weight" of `ProximalGradient`;
            for a function it is any identifier but "step".
        modules: Modules, or single ``nn.Parameter``, that the iteration uses, by names of one's
            own; needed only where they are not found. Found, and named by where it is kept, is what
            the iteration holds in attributes, closures, defaults, partials, bound methods, global
            names and containers.
        constraint: What keeps the steps in their range, as in `Trainable`: `Positive` if not given,
            ``Bounded(0, 2 / b)``, None for steps of either sign, or a module of one's own.
        train_steps: Whether the steps are trained; else only the other parameters are, and the
            weights of a step that is a module.
        recompute_every: Layers in a segment of which only the start is kept for the backward pass,
            which computes the rest again: less memory for one more forward pass. About √T keeps
            least. None keeps everything.
        dtype: Floating-point type of the trainable values.

    Attributes:
        steps: Step sizes, tensor of shape (period,), in units of 1 / Hessian. What is written into
            it in place, under ``torch.no_grad()``, or assigned, is what layers use from then on; a
            ValueError if ``constraint`` cannot give it.
        num_layers: T.
        held: The modules that the iteration uses, by name: trained, saved and moved with the
            network. Freeze one by ``requires_grad_(False)``.

    Raises:
        TypeError: If ``schedule`` is not a `Schedule`, ``iteration`` cannot be called, or something
            in ``modules`` is none.
        ValueError: If there are more steps than layers, a name fits nothing, or initial values are
            out of range.

    >>> from stepfold import LeastSquares, Schedule
    >>> network = UnfoldedIteration(Schedule([0.5, 0.25]))
    >>> problem = LeastSquares(torch.eye(2, dtype=torch.float64), torch.ones(2).double())
    >>> network(problem).tolist()
    [0.625, 0.625]

    >>> def damped(x, params, data):
    ...     return x + params.step * (torch.cos(x) - x) - params.drift * x
    >>> network = UnfoldedIteration(
    ...     Schedule([0.5]), iteration=damped, num_layers=3, parameters={"drift": 0.0}
    ... )
    >>> network.steps.shape, network.values("drift").shape
    (torch.Size([1]), torch.Size([3]))

    >>> import functools
    >>> def denoised(prior, x, params, y):
    ...     return prior(x + params.step * (y - x))
    >>> step = functools.partial(denoised, nn.Linear(3, 3))
    >>> UnfoldedIteration(Schedule([0.5]), iteration=step).held
    Module(
      (step_0): Linear(in_features=3, out_features=3, bias=True)
    )
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        iteration: Iteration[Any, Any] | Step | Sequence[Any] | nn.ModuleList | None = None,
        num_layers: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        modules: Mapping[str, nn.Module | nn.Parameter] | None = None,
        constraint: Constraint | None = Positive,
        train_steps: bool = True,
        recompute_every: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        check_schedule(schedule, or_none=False, signed=True)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"`dtype` must be a real floating-point type of torch, got {dtype!r}")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise TypeError(
                "`parameters` must be a dictionary of initial values by their names, got "
                f"{type(parameters).__name__}"
            )
        iteration = GradientDescent() if iteration is None else iteration
        listed: Any = iteration if is_list(iteration) else []
        if num_layers is None:
            num_layers = max(schedule.period, len(listed))
        if schedule.period > check_depth(num_layers):
            raise ValueError(
                f"`num_layers` must be at least the number of steps, {schedule.period}, got "
                f"{num_layers}; give more layers, or fewer steps"
            )
        check_iteration(iteration, num_layers)
        for name in parameters or {}:
            if hasattr(nn.ModuleDict(), name):
                raise ValueError(
                    f"`parameters` cannot be called {name!r}, a word of torch's modules"
                )
            layers_of(iteration).check_name(name)
        super().__init__(schedule, int(num_layers), parameters or {}, constraint, dtype)
        if listed and all(isinstance(each, nn.Module) for each in listed):
            iteration = nn.ModuleList(listed)
        self.iteration: Any = tuple(iteration) if isinstance(iteration, list) else iteration
        self._watch: Callable[[int, Any], None] | None = None
        self.recompute_every = (
            None if recompute_every is None else check_count("recompute_every", recompute_every)
        )
        if not check_flag("train_steps", train_steps):
            # Not the weights of a step that is a module: they are trained, and the caller's own.
            self.step_values.requires_grad_(False)
        self.held = nn.Module()
        register(self.held, checked_modules(modules))
        self.register_held()

    def register_held(self) -> Held:
        """Register the modules and parameters that the iteration holds by now, and return them.

        A network does it when it is made; `train` again, for what was put in place since.
        """
        found = held_by(self.iteration, [self])
        register(self.held, {**found.modules, **found.parameters})
        return found

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimiser changes, by the names that ``train(groups=…)`` takes."""
        names = ["steps", *self._names]
        groups = {name: [raw] for name, raw in zip(names, self.stacked_parameters(), strict=True)}
        if isinstance(self.iteration, nn.Module):
            groups["iteration"] = list(self.iteration.parameters())
        for name, module in self.held.named_children():
            groups[name] = list(module.parameters())
        groups |= {name: [value] for name, value in self.held.named_parameters(recurse=False)}
        return groups

    @property
    def _kind(self) -> Layers:
        return layers_of(self.iteration)

    def forward(
        self,
        problem: Any,
        x0: Any = None,
        *,
        num_layers: int | None = None,
        every_layer: bool = False,
    ) -> Any:
        """Iterate after the first ``num_layers`` layers, all of them if not given.

        Args:
            problem: Problem over tensors; for a function of one's own, its ``data``.
            x0: Start, shape (n,) or (batch, n); 0 if not given and the problem is linear.
            num_layers: At most T; more if layers share all that they have, steps first of all.
            every_layer: Whether to return the list of the iterates after each of these layers.

        Raises:
            TypeError: If the problem or the start is not made of tensors, or there is no start; or
                if a step of one's own makes something else of a tensor.
            ValueError: If ``num_layers`` is out of range, or a step of one's own returns another
                shape or dtype than it was given; the message names the layer, from 0.
        """
        num_layers = self.check_num_layers(num_layers)
        kind = self._kind
        layers = self._layers(num_layers)
        state = kind.start(problem, x0)
        every = self.recompute_every if torch.is_grad_enabled() else None
        iterates: list[Any] = []
        try:
            for start in range(0, num_layers, every or num_layers):
                segment = layers[start : start + (every or num_layers)]
                if every is None:
                    state, seen = self._run(segment, problem, state, every_layer)
                else:
                    state, seen = checkpoint(
                        self._run, segment, problem, state, every_layer, use_reentrant=False
                    )
                iterates += seen
        except RuntimeError as error:
            if "same dtype" in str(error):
                self._check_dtype(problem, x0, error)
            raise
        return iterates if every_layer else kind.iterate(state)

    def _check_dtype(self, problem: Any, x0: Any, error: RuntimeError) -> None:
        """Say what to do where torch makes no product of values in two precisions."""
        term = getattr(problem, "linear_term", None)
        given = term if isinstance(term, Tensor) else x0
        own = self.step_values.raw.dtype
        if isinstance(x0, Tensor) and isinstance(given, Tensor) and x0.dtype != given.dtype:
            raise ValueError(
                f"`x0` must have the dtype of its problem, {given.dtype}, got {x0.dtype}; convert "
                f"it by `.to({given.dtype})`"
            ) from error
        if not isinstance(given, Tensor) or given.real.dtype == own:
            return
        raise ValueError(
            f"`dtype` of the network, {own}, does not fit data of {given.dtype}: products take one "
            f"precision ({error}); make the network with `dtype={given.real.dtype}`, or convert "
            "the data"
        ) from error

    def _layers(self, num_layers: int) -> list[Layer]:
        kind, columns = self._kind, {}
        for name, key in self._names.items():
            values: Any = self.extra[key]
            columns[name] = values.by_layer(num_layers)
        layers = [
            kind.layer(index, gamma, {name: values[index] for name, values in columns.items()})
            for index, gamma in enumerate(self.layer_steps(num_layers).unbind())
        ]
        if self._watch is not None:
            layers = [
                functools.partial(_watched, self._watch, index, layer)
                for index, layer in enumerate(layers)
            ]
        return layers

    @contextlib.contextmanager
    def watched(self, watch: Callable[[int, Any], None]) -> Iterator[None]:
        """Show the state after each layer, with the layer's number, while the block runs."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None

    def _run(
        self, layers: Sequence[Layer], problem: Any, state: Any, every_layer: bool
    ) -> tuple[Any, list[Any]]:
        kind = self._kind
        iterates = []
        for layer in layers:
            state = layer(problem, state)
            if every_layer:
                iterates.append(kind.iterate(state))
        return state, iterates

    def export(self) -> dict[str, NDArray[Any]]:
        """All that was learned, for a program without this library: a dictionary of NumPy arrays.

        Returns:
            "steps", shape (T,), and the other parameters by name, shape (T, …): the values that
            each layer uses, constraints applied, shared ones repeated. Weights and buffers of
            modules, if the iteration has some, by their names in ``state_dict()``.

        >>> from stepfold import Schedule
        >>> UnfoldedIteration(Schedule([0.5, 0.25]), num_layers=3).export()
        {'steps': array([0.5 , 0.25, 0.5 ])}
        """
        with torch.no_grad():
            values: dict[str, Tensor] = {
                name: torch.stack(each.by_layer(self.num_layers))
                for name, each in self.layer_values().items()
            }
        own = ("step_values.", "extra.")
        with quiet():
            everything = self.state_dict()
        values |= {k: v for k, v in everything.items() if not k.startswith(own)}
        return {name: np.array(to_host(value)) for name, value in values.items()}

    def export_module(self, data: Any, x0: Any = None) -> nn.Module:
        """The network as a module of torch alone, which runs, is saved and loaded without stepfold.

        Its operations are recorded by `torch.export` on an example, in evaluation mode.

        Args:
            data: ``data`` of the network's own step, tensors or containers of them: an input of the
                module. Anything else, such as a problem, is built in.
            x0: Start, the module's last input; 0 if not given and the problem is linear. First axes
                of two entries or more may have other lengths later, as far as the layers allow.

        Returns:
            A ``torch.fx.GraphModule``, called as ``module(data, x0)``, or ``module(x0)`` where the
            data are built in; for ``torch.save`` and ``torch.load(…, weights_only=False)``,
            ``torch.jit.trace`` and ``torch.onnx.export``.

        Raises:
            RuntimeError: If what layers do depends on the numbers in a tensor; torch's errors say
                where.

        >>> from stepfold import Schedule
        >>> step = lambda x, params, y: x + params.step * (y - x)
        >>> network = UnfoldedIteration(Schedule([0.5, 0.5]), iteration=step)
        >>> ones = torch.ones(2, dtype=torch.float64)
        >>> network.export_module(ones, 0 * ones)(2 * ones, 0 * ones).tolist()
        [1.5, 1.5]
        """
        if x0 is None and hasattr(data, "linear_term"):
            x0 = 0 * data.linear_term
        return plain_module(self, data, x0)

    def explain(
        self,
        data: Any,
        x0: Any = None,
        *,
        run: TrainingRun | None = None,
        name: str = "the network",
    ) -> Any:
        """What each layer does on these data: curvatures, gains, steps beside theory's, advice.

        Args:
            data: One problem, or ``data`` of the network's own step, or a `Sample` with its start;
                of a batch the first row is followed.
            x0: Start; 0 if not given and the problem is linear.
            run: What `train` returned, for its losses.
            name: What to call it.

        Returns:
            A `stepfold.lab.Outcome`; ``summary`` is its text in short, and
            `stepfold.lab.report.write_run` makes a report of it.

        Raises:
            TypeError: As the network's call.
            ValueError: As the network's call.
        """
        # Reports lie above networks, which know them by name only.
        lab = importlib.import_module("stepfold.lab.explanation")
        return lab.explain_layers(self, data, x0, run=run, name=name)

    def restore(self, run: TrainingRun) -> None:
        """Take the steps and parameters that a run has learned.

        Raises:
            ValueError: If they are those of another network, or the network's step is a module, or
                holds one, with weights or buffers, which a run does not hold.
        """
        if weights := self.weights():
            raise ValueError(
                f"`run` does not hold what the step, {type(self.iteration).__name__}, has learned "
                f"({', '.join(weights)}); keep `network.state_dict()` and load that"
            )
        learned = {name: np.shape(values) for name, values in run.parameters.items()}
        shapes = {name: tuple(self.values(name).shape) for name in self._names}
        if learned != shapes or run.schedule.period != self.num_layers:
            raise ValueError(
                f"`run` must be of this network, with {self.num_layers} layers and {shapes}; it "
                f"has {run.schedule.period} and {learned}"
            )
        self.set_values(run.schedule.steps[: len(self.steps)].copy(), run.parameters)

    def weights(self) -> list[str]:
        """Names of what the step's modules have learned, which a run does not hold."""
        own = self.iteration.state_dict() if isinstance(self.iteration, nn.Module) else {}
        return [*own, *self.held.state_dict()]


def _watched(
    watch: Callable[[int, Any], None], index: int, layer: Layer, problem: Any, state: Any
) -> Any:
    state = layer(problem, state)
    watch(index, state)
    return state
