"""Modules wherever a step, an iteration, a penalty or a criterion keeps them."""

from __future__ import annotations

import collections
import copy
import functools
import io
import sys
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import Schedule
from stepfold.iterations import Iteration, ProximalGradient
from stepfold.problems import LeastSquares
from stepfold.problems.penalties import Penalty
from stepfold.unfolded import (
    HeldOut,
    Sample,
    SampledLoss,
    Stage,
    TrainingWarning,
    UnfoldedIteration,
    all_at_once,
    greedy_then_refined,
    incremental,
    train,
)
from stepfold.unfolded._held import held_by

SIZE = 6


def _linear(seed: int = 0, size: int = SIZE) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(size, size, bias=False).double()


def _call(prior: Any, x: Tensor, params: Any, y: Tensor) -> Tensor:
    return x + params.step * (y - x + 0.1 * prior(x))


def _draw(rng: np.random.Generator) -> Sample:
    y = torch.from_numpy(rng.standard_normal((16, SIZE)))
    return Sample(y, 2 * y, 0 * y)


def _network(step: Any, **options: Any) -> UnfoldedIteration:
    return UnfoldedIteration(Schedule([0.3]), iteration=step, num_layers=2, **options)


# Each makes a step that uses the module, which hides somewhere.


def _closure(prior: nn.Module) -> Any:
    return lambda x, params, y: _call(prior, x, params, y)


def _inner_closure(prior: nn.Module) -> Any:
    def regularised(x: Tensor) -> Any:
        return prior(x)

    return lambda x, params, y: _call(regularised, x, params, y)


def _default(prior: nn.Module) -> Any:
    def step(x: Any, params: Any, y: Any, prior: Any = prior) -> Any:
        return _call(prior, x, params, y)

    return step


def _keyword_default(prior: nn.Module) -> Any:
    def step(x: Any, params: Any, y: Any, *, prior: Any = prior) -> Any:
        return _call(prior, x, params, y)

    return step


def _partial(prior: nn.Module) -> Any:
    return functools.partial(_call, prior)


def _keyword_partial(prior: nn.Module) -> Any:
    def step(x: Any, params: Any, y: Any, prior: Any) -> Any:
        return _call(prior, x, params, y)

    return functools.partial(step, prior=prior)


class _Owner:
    def __init__(self, prior: Any) -> None:
        self.prior = prior

    def take(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
        return _call(self.prior, x, params, y)

    def __call__(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
        return self.take(x, params, y)


def _bound_method(prior: nn.Module) -> Any:
    return _Owner(prior).take


def _callable_object(prior: nn.Module) -> Any:
    return _Owner(prior)


def _forward_of_a_module(prior: nn.Module) -> Any:
    return _Owner(prior.forward)


class _Slotted:
    __slots__ = ("_prior",)

    def __init__(self, prior: Any) -> None:
        self._prior = prior

    def __call__(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
        return _call(self._prior, x, params, y)


@dataclass(frozen=True)
class _Record:
    settings: dict[str, Any]

    def __call__(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
        return _call(self.settings["priors"][0]["inner"], x, params, y)


def _nested_containers(prior: nn.Module) -> Any:
    return _Record({"priors": ({"inner": prior},)})


class _Pair(NamedTuple):
    weight: float
    prior: Any


def _named_tuple(prior: nn.Module) -> Any:
    pair = _Pair(0.1, prior)
    return lambda x, params, y: _call(pair.prior, x, params, y)


def _deque(prior: nn.Module) -> Any:
    queue = collections.deque([prior])
    return lambda x, params, y: _call(queue[0], x, params, y)


def _namespace(prior: nn.Module) -> Any:
    space = types.SimpleNamespace(prior=prior)
    return lambda x, params, y: _call(space.prior, x, params, y)


def _class_attribute(prior: nn.Module) -> Any:
    class Step:
        shared = prior

        def __call__(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
            return _call(self.shared, x, params, y)

    return Step()


def _decorated(prior: nn.Module) -> Any:
    def decorator(function: Any) -> Any:
        @functools.wraps(function)
        def wrapped(*args: Any) -> Any:
            return function(*args)

        return wrapped

    return decorator(_closure(prior))


def _torch_decorated(prior: nn.Module) -> Any:
    return torch.enable_grad()(_closure(prior))


def _cached(prior: nn.Module) -> Any:
    get = functools.lru_cache(lambda: prior)
    return lambda x, params, y: _call(get(), x, params, y)


def _weak(prior: nn.Module) -> Any:
    reference = weakref.ref(prior)
    return lambda x, params, y: _call(reference(), x, params, y)


def _plain_list_of_a_module(prior: nn.Module) -> Any:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.priors = [prior]

        def forward(self, x: Tensor, params: Any, y: Tensor) -> Any:
            return _call(self.priors[0], x, params, y)

    return Step()


def _module_with_a_closure(prior: nn.Module) -> Any:
    class Step(nn.Module):
        def forward(self, x: Tensor, params: Any, y: Tensor) -> Any:
            return _call(prior, x, params, y)

    return Step()


def _parameter_alone(prior: Any) -> Any:
    weight = prior.weight
    return lambda x, params, y: _call(lambda x: x @ weight.T, x, params, y)


GLOBAL: dict[str, Any] = {}


def _global(prior: nn.Module) -> Any:
    GLOBAL.clear()
    GLOBAL["prior"] = prior

    def step(x: Any, params: Any, y: Any) -> Any:
        return next(_call(GLOBAL["prior"], each, params, y) for each in [x])

    return step


def _global_of_an_import(prior: nn.Module) -> Any:
    module = types.ModuleType("priors_of_mine")
    module.prior = prior  # type: ignore[attr-defined]
    return lambda x, params, y: _call(module.prior, x, params, y)


HIDINGS = [
    _closure,
    _inner_closure,
    _default,
    _keyword_default,
    _partial,
    _keyword_partial,
    _bound_method,
    _callable_object,
    _forward_of_a_module,
    _Slotted,
    _nested_containers,
    _named_tuple,
    _deque,
    _namespace,
    _class_attribute,
    _decorated,
    _torch_decorated,
    _cached,
    _weak,
    _plain_list_of_a_module,
    _module_with_a_closure,
    _parameter_alone,
    _global,
    _global_of_an_import,
]


@pytest.mark.parametrize("hide", HIDINGS, ids=lambda hide: hide.__name__.strip("_"))
def test_a_module_learns_wherever_a_step_keeps_it(hide: Callable[[nn.Module], Any]) -> None:
    prior, twin = _linear(), _linear()
    network = _network(hide(prior))
    assert any(each is prior.weight for each in network.parameters())
    train(network, SampledLoss(_draw), all_at_once(2, 5))

    class Registered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.prior = twin

        def forward(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
            return _call(self.prior, x, params, y)

    train(_network(Registered()), SampledLoss(_draw), all_at_once(2, 5))
    torch.testing.assert_close(prior.weight, twin.weight, rtol=0, atol=0)
    assert not torch.equal(prior.weight, _linear().weight)


class _PlugAndPlay(Penalty):
    def __init__(self, prior: Any) -> None:
        self.prior = prior
        self.weight = 0.1

    def value(self, x: Any) -> Any:
        return 0 * x.sum(-1)

    def prox(self, v: Any, step: Any) -> Any:
        return v - step * self.weight * self.prior(v)


class _Denoised(Iteration[Any, Any]):
    def __init__(self, prior: Any) -> None:
        self.prior = prior

    def init(self, problem: Any, x0: Any) -> Any:  # noqa: ARG002
        return x0

    def step(self, problem: Any, state: Any, gamma: Any, gradient: Any = None) -> Any:  # noqa: ARG002
        return self.prior(state - gamma * problem.gradient(state))

    def iterate(self, state: Any) -> Any:
        return state


@pytest.mark.parametrize(
    "iteration",
    [lambda prior: ProximalGradient(_PlugAndPlay(prior)), _Denoised],
    ids=["penalty", "iteration"],
)
def test_a_prior_learns_in_an_iteration(iteration: Callable[[nn.Module], Any]) -> None:
    prior = _linear()
    matrix = torch.eye(SIZE).double()

    def draw(rng: np.random.Generator) -> Sample:
        x = torch.from_numpy(rng.standard_normal((8, SIZE)))
        return Sample(LeastSquares(matrix, x), x)

    network = _network(iteration(prior))
    train(network, SampledLoss(draw), all_at_once(2, 3))
    assert network.held.prior is prior
    assert not torch.equal(prior.weight, _linear().weight)


def test_a_criterion_learns_and_its_weights_are_in_the_checkpoint(tmp_path: Any) -> None:
    def run(num_stages: int, prior: nn.Linear, **options: Any) -> None:
        def criterion(output: Tensor, sample: Sample) -> Tensor:
            return (prior(output) - sample.target).square().mean()

        network = _network(lambda x, params, y: x + params.step * (y - x))
        stages = [Stage(2, 4), Stage(2, 4)][:num_stages]
        train(network, SampledLoss(_draw, criterion=criterion), stages, **options)

    whole, first, second = _linear(), _linear(), _linear()
    run(2, whole)

    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done == 6:
            raise Stopped

    path = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        run(2, first, checkpoint=path, checkpoint_every=1, callback=stop)
    run(2, second, checkpoint=path, resume=True)
    assert not torch.equal(whole.weight, _linear().weight)
    torch.testing.assert_close(second.weight, whole.weight, rtol=0, atol=0)


def test_held_modules_are_saved_loaded_and_moved() -> None:
    prior, other = _linear(0), _linear(1)
    network, fresh = _network(_closure(prior)), _network(_closure(other))
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(other.weight, prior.weight)
    network.float()
    assert prior.weight.dtype == torch.float32
    network.eval()
    assert not prior.training
    network.requires_grad_(False)
    assert not prior.weight.requires_grad


@pytest.mark.parametrize("hide", [_closure, _parameter_alone])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Any, hide: Any) -> None:
    def run(seed: int, **options: Any) -> dict[str, Tensor]:
        network = _network(hide(_linear(seed)))
        train(network, SampledLoss(_draw), incremental(2, 6), **options)
        return network.state_dict()

    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done == 8:
            raise Stopped

    whole = run(0)
    path = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        run(0, checkpoint=path, checkpoint_every=4, callback=stop)
    # Another start: all that matters comes from the checkpoint.
    resumed = run(7, checkpoint=path, resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_early_stop_goes_back_to_the_best_held_modules() -> None:
    prior = _linear()
    network = _network(_closure(prior))
    seen: list[Tensor] = []

    def rising(network: Any, num_layers: int, rng: Any) -> Tensor:
        seen.append(prior.weight.detach().clone())
        return torch.tensor(float(len(seen)))

    train(
        network,
        SampledLoss(_draw),
        all_at_once(2, 20),
        held_out=HeldOut(rising, every=2, patience=2),
    )
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(prior.weight, seen[0])


def test_an_iteration_that_is_not_finite_in_a_held_module_is_skipped() -> None:
    prior = _linear()

    def criterion(output: Tensor, sample: Sample) -> Tensor:
        # 0 at the first entry, where the derivative of the root is not finite.
        return (output - sample.target).square().mean() + (prior.weight[0, 0] * 0).sqrt()

    network = _network(_closure(prior))
    with pytest.raises(ArithmeticError, match="gradient is not finite"):
        train(network, SampledLoss(_draw, criterion=criterion), all_at_once(2, 3), most_skipped=0)
    assert torch.equal(prior.weight, _linear().weight)


def test_clipping_counts_held_modules() -> None:
    prior = _linear()
    network = _network(_closure(prior))
    train(
        network,
        SampledLoss(_draw),
        all_at_once(2, 1),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        clip_norm=1e-3,
    )
    moved = (prior.weight - _linear().weight).norm() ** 2 + (network.steps - 0.3).norm() ** 2
    assert float(moved.sqrt().detach()) == pytest.approx(1e-3, rel=1e-4)


def test_a_module_that_hides_too_well_is_refused_by_name_and_taken_by_modules() -> None:
    prior = _linear()
    local = sys.modules.setdefault("_priors_of_a_test", types.ModuleType("_priors_of_a_test"))
    local.prior = prior  # type: ignore[attr-defined]

    def step(x: Tensor, params: Any, y: Tensor) -> Tensor:
        import _priors_of_a_test as priors  # type: ignore[import-not-found]

        return _call(priors.prior, x, params, y)

    with pytest.raises(ValueError, match=r"`weight` of a Linear, shape \(6, 6\).*`modules="):
        train(_network(step), SampledLoss(_draw), all_at_once(2, 3))
    assert torch.equal(prior.weight, _linear().weight)
    network = _network(step, modules={"prior": prior})
    train(network, SampledLoss(_draw), all_at_once(2, 3))
    assert not torch.equal(prior.weight, _linear().weight)


def test_a_sampler_does_not_learn_and_says_so() -> None:
    teacher = _linear()

    def draw(rng: np.random.Generator) -> Sample:
        y = torch.from_numpy(rng.standard_normal((16, SIZE)))
        return Sample(y, teacher(y), 0 * y)

    network = _network(lambda x, params, y: x + params.step * (y - x))
    with pytest.raises(ValueError, match=r"`weight` of a Linear.*`requires_grad_\(False\)`"):
        train(network, SampledLoss(draw), all_at_once(2, 3))
    teacher.requires_grad_(False)
    train(network, SampledLoss(draw), all_at_once(2, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: w.detach().clone().requires_grad_(), "is no parameter.*nn.Parameter"),
        (lambda w: 2 * w, "was computed from trained values before the training"),
    ],
)
def test_tensors_that_cannot_be_registered_are_refused_by_name(make: Any, message: str) -> None:
    matrix = make(_linear().weight)

    def step(x: Tensor, params: Any, y: Tensor) -> Tensor:
        return _call(lambda x: x @ matrix, x, params, y)

    with pytest.raises(ValueError, match=f"`matrix`.*{message}"):
        train(_network(step), SampledLoss(_draw), all_at_once(2, 3))


def test_a_module_put_in_place_after_the_network_was_made_is_trained() -> None:
    owner = _Owner(None)
    network = _network(owner)
    owner.prior = _linear()
    train(network, SampledLoss(_draw), all_at_once(2, 3))
    assert network.held.prior is owner.prior
    assert not torch.equal(owner.prior.weight, _linear().weight)


def test_frozen_modules_stay_and_move_along() -> None:
    prior = _linear().requires_grad_(False)
    network = _network(_closure(prior))
    train(network, SampledLoss(_draw), all_at_once(2, 3))
    assert torch.equal(prior.weight, _linear().weight)
    assert any(each is prior.weight for each in network.parameters())


def test_a_copy_of_the_network_trains_what_its_step_uses_and_tells_of_the_copy() -> None:
    network = copy.deepcopy(_network(_closure(_linear())))
    network.held = nn.Module()
    network.held.prior = _linear(1)
    # Functions are not copied: the closure holds the original still, and it is found again.
    with pytest.warns(TrainingWarning, match="no gradient has reached 'prior' in"):
        train(network, SampledLoss(_draw), all_at_once(2, 3))
    assert torch.equal(network.held.prior.weight, _linear(1).weight)
    assert not torch.equal(network.held.prior_.weight, _linear().weight)


def test_groups_have_settings_of_their_own() -> None:
    prior = _linear()
    network = _network(_closure(prior))
    train(
        network,
        SampledLoss(_draw),
        all_at_once(2, 3),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.01),
        groups={"prior": {"lr": 0.0}},
    )
    assert torch.equal(prior.weight, _linear().weight)
    assert not np.allclose(network.steps.detach(), 0.3)


def test_a_misspelt_setting_of_a_group_is_refused_with_those_there_are() -> None:
    network = _network(_closure(_linear()))
    with pytest.raises(ValueError, match=r"settings of Adam, lr, .*got learning_rate for 'prior'"):
        train(network, SampledLoss(_draw), groups={"prior": {"learning_rate": 1e-4}})


def test_a_misspelt_group_is_refused_with_the_names_there_are() -> None:
    network = _network(_closure(_linear()), parameters={"ridge": 0.1})
    with pytest.raises(ValueError, match="`groups` must be of steps, ridge, prior, got piror"):
        train(network, SampledLoss(_draw), all_at_once(2, 3), groups={"piror": {"lr": 1e-4}})


@pytest.mark.parametrize(
    ("groups", "error"),
    [({"steps": 0.1}, TypeError), ([("steps", {})], TypeError), ("steps", TypeError)],
)
def test_groups_that_are_no_settings_are_refused(groups: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="`groups` must be a dictionary"):
        train(_network(_closure(_linear())), SampledLoss(_draw), all_at_once(2, 3), groups=groups)


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        ([_linear()], TypeError, "dictionary of modules"),
        ({"a": 3.0}, TypeError, "got float for 'a'"),
        ({"a": torch.ones(2)}, TypeError, "nn.Parameter"),
        ({"a.b": _linear()}, ValueError, "identifiers"),
        ({"forward": _linear()}, ValueError, "no words of torch"),
    ],
)
def test_modules_that_are_none_are_refused(
    modules: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _network(_closure(_linear()), modules=modules)


def test_modules_that_are_given_are_not_found_twice() -> None:
    prior = _linear()
    network = _network(_closure(prior), modules={"denoiser": prior})
    assert [name for name, _ in network.held.named_children()] == ["denoiser"]
    assert network.groups()["denoiser"][0] is prior.weight


def test_a_parameter_of_the_optimizer_alone_is_cleared_and_clipped() -> None:
    weight = nn.Parameter(torch.ones(SIZE).double())
    hidden: dict[str, Any] = {}

    def draw(rng: np.random.Generator) -> Sample:
        y = torch.from_numpy(rng.standard_normal((16, SIZE)))
        return Sample(y, 3 * y, 2 * hidden["weight"] * y)

    hidden["weight"] = weight
    norms: list[float] = []

    def watch(_progress: Any) -> None:
        assert weight.grad is not None
        norms.append(float(weight.grad.norm()))

    train(
        _network(lambda x, params, y: x + params.step * (y - x)),
        SampledLoss(draw),
        all_at_once(2, 20),
        optimizer=lambda p: torch.optim.SGD([*p, weight], lr=0.0),
        clip_norm=0.01,
        callback=watch,
    )
    assert max(norms) <= 0.01


def test_a_parameter_of_the_optimizer_alone_cannot_be_checkpointed(tmp_path: Any) -> None:
    prior = _linear()
    with pytest.raises(ValueError, match=r"`optimizer` has `weight` of a Linear.*`modules="):
        train(
            _network(lambda x, params, y: x + params.step * (y - x)),
            SampledLoss(_draw),
            all_at_once(2, 20),
            optimizer=lambda p: torch.optim.SGD([*p, prior.weight], lr=0.0),
            checkpoint=tmp_path / "checkpoint",
        )


def test_a_parameter_given_twice_takes_one_step() -> None:
    prior, twin = _linear(), _linear()
    for each, extra in ((prior, [prior.weight]), (twin, [])):
        train(
            _network(_closure(each)),
            SampledLoss(_draw),
            all_at_once(2, 2),
            optimizer=lambda p, extra=extra: torch.optim.SGD([*p, *extra], lr=0.1),  # type: ignore[misc]
        )
    assert torch.equal(prior.weight, twin.weight)


def test_buffers_of_a_held_module_are_saved() -> None:
    norm = nn.BatchNorm1d(SIZE).double()
    network = _network(lambda x, params, y: _call(norm, x, params, y))
    train(network, SampledLoss(_draw), all_at_once(2, 3))
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    assert "held.norm.running_mean" in network.state_dict()


def test_a_run_does_not_restore_a_held_module() -> None:
    network = _network(_closure(_linear()))
    run = train(network, SampledLoss(_draw), all_at_once(2, 3))
    with pytest.raises(ValueError, match=r"`run` does not hold .*prior\.weight.*state_dict"):
        network.restore(run)


def test_what_is_data_is_not_searched() -> None:
    numbers = list(range(10**6))
    table = {"matrix": np.zeros((100, 100)), "numbers": numbers}
    found = held_by(lambda x: (table, x, np.linalg, torch.nn.functional))
    assert not found.modules
    assert not found.parameters
    assert not found.tensors


@pytest.mark.parametrize("at", [3, 7, 12, 17])
@pytest.mark.parametrize("restart", [False, True])
def test_a_training_of_everything_at_once_resumes_with_the_same_bits(
    tmp_path: Any, at: int, restart: bool
) -> None:
    class Stopped(Exception):
        pass

    def run(seed: int, stop: int = 0, **options: Any) -> dict[str, Tensor]:
        priors = [_linear(seed), _linear(seed + 1)]
        norm = nn.BatchNorm1d(SIZE).double()
        scale = nn.Parameter(torch.ones(SIZE).double())

        def step(x: Tensor, params: Any, y: Tensor) -> Tensor:
            noise = 0.01 * torch.rand(x.shape, dtype=x.dtype)
            x = norm(x + y) + noise - params.ridge * x
            return _call(priors[params.layer], x, params, y)

        def criterion(output: Tensor, sample: Sample) -> Tensor:
            return (scale * output - sample.target).square().mean()

        def watch(progress: Any) -> None:
            if progress.done == stop:
                raise Stopped

        network = _network(step, parameters={"ridge": 0.1})
        train(
            network,
            SampledLoss(_draw, criterion=criterion, discount=0.5),
            greedy_then_refined(2, 6),
            groups={"priors_0": {"lr": 0.01}, "scale": {"weight_decay": 0.1}},
            optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.003),
            scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
            restart_optimizer=restart,
            clip_norm=0.3,
            batches_per_step=2,
            held_out=HeldOut(SampledLoss(_draw), every=4, patience=9),
            callback=watch,
            **options,
        )
        return {**network.state_dict(), "scale": scale.detach()}

    whole = run(0)
    path = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        run(0, at, checkpoint=path, checkpoint_every=1)
    resumed = run(5, checkpoint=path, resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
