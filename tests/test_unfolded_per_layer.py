"""A module, or an iteration, for each layer: shared, in turn, frozen by stages, of any shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import LeastSquares, Schedule
from stepfold.iterations import GradientDescent, HeavyBall, ProximalGradient
from stepfold.problems.penalties import L1
from stepfold.unfolded import (
    Sample,
    SampledLoss,
    Stage,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    greedy_then_refined,
    incremental,
    train,
)

SIZE = 4


class _Prior(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inner = nn.Linear(SIZE, SIZE, bias=False).double()

    def forward(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
        return x + params.step * (y - x + 0.1 * self.inner(x - y))


def _draw(rng: np.random.Generator) -> Sample:
    y = torch.from_numpy(rng.standard_normal((8, SIZE)))
    return Sample(y, 2 * y, 0 * y)


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def _by_number(priors: list[_Prior]) -> Any:
    return lambda x, params, y: priors[params.layer](x, params, y)


def _by_list(priors: list[_Prior]) -> Any:
    return priors


def _by_module_list(priors: list[_Prior]) -> Any:
    return nn.ModuleList(priors)


def _by_bound_methods(priors: list[_Prior]) -> Any:
    return [prior.forward for prior in priors]


WAYS = [_by_number, _by_list, _by_module_list, _by_bound_methods]


@pytest.mark.parametrize("way", WAYS)
def test_each_layer_learns_a_module_of_its_own(way: Callable[[Any], Any]) -> None:
    priors = [_Prior(t) for t in range(3)]
    before = [prior.inner.weight.detach().clone() for prior in priors]
    network = UnfoldedIteration(Schedule([0.3]), num_layers=3, iteration=way(priors))
    x, y = torch.zeros(SIZE).double(), torch.ones(SIZE).double()
    expected = x
    for prior in priors:
        expected = prior(expected, _Params(torch.tensor(0.3)), y)
    torch.testing.assert_close(network(y, x), expected)
    train(network, SampledLoss(_draw), all_at_once(3, 3))
    # The first layer starts from 0, so that its module sees y alone.
    assert all(
        not torch.equal(prior.inner.weight, value)
        for prior, value in zip(priors, before, strict=True)
    )


class _Params(NamedTuple):
    step: Any


@pytest.mark.parametrize("discount", [0.0, 0.5])
@pytest.mark.parametrize("way", WAYS)
def test_greedy_stages_train_the_module_of_the_newest_layer_alone(
    way: Callable[[Any], Any], discount: float
) -> None:
    priors = [_Prior(t) for t in range(3)]
    network = UnfoldedIteration(Schedule(np.full(3, 0.3)), iteration=way(priors))
    seen: list[list[Tensor]] = []

    def watch(progress: Any) -> None:
        if progress.iteration == progress.num_iterations:
            seen.append([prior.inner.weight.detach().clone() for prior in priors])

    start = [prior.inner.weight.detach().clone() for prior in priors]
    stages = greedy_then_refined(3, 4)
    train(network, SampledLoss(_draw, discount=discount), stages, optimizer=_sgd, callback=watch)
    for stage, before, after in zip(stages, [start, *seen], seen, strict=False):
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert moved == [stage.first_layer <= t < stage.num_layers for t in range(3)]


def test_a_module_that_a_later_layer_uses_too_is_trained() -> None:
    priors = [_Prior(0), _Prior(1)]
    network = UnfoldedIteration(Schedule(np.full(4, 0.3)), iteration=priors)
    first, second = (prior.inner.weight.detach().clone() for prior in priors)
    train(network, SampledLoss(_draw), [Stage(3, 3, first_layer=2)], optimizer=_sgd)
    assert not torch.equal(priors[0].inner.weight, first)  # layers 0 and 2
    assert torch.equal(priors[1].inner.weight, second)  # layers 1 and 3


def test_a_frozen_module_sees_the_gradient_of_a_later_layer_only_where_it_is_used() -> None:
    # Recomputing must not change who is trained.
    runs = []
    for every in (None, 1, 2):
        priors = [_Prior(t) for t in range(3)]
        network = UnfoldedIteration(
            Schedule(np.full(3, 0.3)), iteration=priors, recompute_every=every
        )
        train(network, SampledLoss(_draw), [Stage(3, 3, first_layer=1)], optimizer=_sgd)
        runs.append([prior.inner.weight.detach() for prior in priors])
    assert torch.equal(runs[0][0], _Prior(0).inner.weight)
    for other in runs[1:]:
        for expected, found in zip(runs[0], other, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_incremental_stages_leave_later_layers_alone() -> None:
    priors = [_Prior(t) for t in range(3)]
    network = UnfoldedIteration(Schedule(np.full(3, 0.3)), iteration=priors)
    train(network, SampledLoss(_draw), incremental(3, 3)[:2], optimizer=_sgd)
    moved = [not torch.equal(p.inner.weight, _Prior(t).inner.weight) for t, p in enumerate(priors)]
    assert moved == [True, True, False]


def test_a_resumed_training_of_frozen_layers_ends_with_the_same_bits(tmp_path: Any) -> None:
    class Stopped(Exception):
        pass

    def run(at: int = 0, **options: Any) -> dict[str, Tensor]:
        priors = [_Prior(t) for t in range(3)]
        network = UnfoldedIteration(Schedule(np.full(3, 0.3)), iteration=priors)

        def watch(progress: Any) -> None:
            if progress.done == at:
                raise Stopped

        stages = greedy_then_refined(3, 5)
        train(network, SampledLoss(_draw), stages, callback=watch, **options)
        return network.state_dict()

    whole = run()
    path = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        run(13, checkpoint=path, checkpoint_every=2)
    resumed = run(checkpoint=path, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_iterations_for_each_layer_are_used_in_turn() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0])).double()
    problem = LeastSquares(matrix, torch.ones(2).double())
    penalised, plain = ProximalGradient(L1(0.3)), ProximalGradient(L1(0.0))
    network = UnfoldedIteration(Schedule([0.2]), num_layers=3, iteration=[penalised, plain])
    x = torch.zeros(2).double()
    for iteration in (penalised, plain, penalised):
        x = iteration.step(problem, x, 0.2)
    torch.testing.assert_close(network(problem), x)
    every = network(problem, every_layer=True)
    assert len(every) == 3


def test_the_number_of_layers_follows_a_list() -> None:
    network = UnfoldedIteration(Schedule([0.2]), iteration=[_Prior(t) for t in range(5)])
    assert network.num_layers == 5


@pytest.mark.parametrize(
    ("iteration", "error", "message"),
    [
        ([], ValueError, "one for each of 3 layers, or fewer .* got 0"),
        ([_Prior() for _ in range(4)], ValueError, "one for each of 3 layers, or fewer .* got 4"),
        ([GradientDescent(), _Prior()], TypeError, "not both"),
        ([_Prior(), 3.0], TypeError, "or a list of them, got float"),
        (nn.Linear(3, 3), TypeError, r"must take `\(x, params, data\)`, got Linear"),
        ([nn.Linear(3, 3)], TypeError, r"must take `\(x, params, data\)`, got Linear"),
        (lambda x: x, TypeError, r"must take `\(x, params, data\)`, got <lambda>"),
        (GradientDescent, TypeError, "got GradientDescent"),
    ],
)
def test_iterations_of_another_kind_are_refused(
    iteration: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        UnfoldedIteration(Schedule([0.2]), num_layers=3, iteration=iteration)


def test_a_step_that_says_so_changes_the_shape_between_layers() -> None:
    class Coarser(nn.Module):
        changes_shape = True

        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.ones(1).double())

        def forward(self, x: Tensor, params: Any, y: Tensor) -> Tensor:
            x = x.repeat_interleave(2, -1)
            coarse = y.reshape(*y.shape[:-1], x.shape[-1], -1).mean(-1)
            return x + params.step * self.up * (coarse - x)

    network = UnfoldedIteration(
        Schedule(np.full(3, 0.5)), iteration=[Coarser() for _ in range(3)], dtype=torch.float64
    )

    def draw(rng: np.random.Generator) -> Sample:
        y = torch.from_numpy(rng.standard_normal((5, 8)))
        return Sample(y, y, torch.zeros(5, 1).double())

    y = torch.ones(5, 8).double()
    shapes = [tuple(x.shape) for x in network(y, torch.zeros(5, 1).double(), every_layer=True)]
    assert shapes == [(5, 2), (5, 4), (5, 8)]
    train(network, SampledLoss(draw), all_at_once(3, 3))
    assert all(float(step.up.detach()) != 1 for step in network.iteration)


def test_a_step_that_does_not_say_so_is_told_how() -> None:
    network = UnfoldedIteration(
        Schedule([0.5, 0.5]), iteration=lambda x, params, _y: params.step * x[..., 1:]
    )
    with pytest.raises(ValueError, match=r"in layer 0 \(from 0\).*`changes_shape`"):
        network(torch.ones(2), torch.ones(3).double())


@pytest.mark.parametrize("period", [1, 2])
def test_a_network_that_shares_all_runs_deeper_than_it_was_trained(period: int) -> None:
    steps = Schedule([0.3, 0.5][:period])

    def make(num_layers: int) -> UnfoldedIteration:
        return UnfoldedIteration(
            steps,
            num_layers=num_layers,
            iteration=HeavyBall(0.0),
            parameters={"momentum": Trainable(0.2, period=period)},
        )

    problem = LeastSquares(torch.eye(2).double(), torch.ones(2).double())
    short = make(3)
    assert torch.equal(short(problem, num_layers=9), make(9)(problem))
    assert len(short(problem, num_layers=9, every_layer=True)) == 9
    assert short.schedule(9).period == 9
    with pytest.raises(ValueError, match="at most the network's 3"):
        train(short, lambda network, _depth, _rng: network.steps.sum(), all_at_once(4, 2))


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({"schedule": Schedule([0.1, 0.2])}, "its step"),
        ({"schedule": Schedule([0.1]), "parameters": {"a": 0.1}}, "'a'"),
        ({"schedule": Schedule([0.1]), "iteration": [_Prior(), _Prior()]}, "the iteration"),
    ],
)
def test_layers_with_copies_of_their_own_do_not_run_deeper(
    options: dict[str, Any], own: str
) -> None:
    options = {"iteration": _Prior(), **options}
    network = UnfoldedIteration(num_layers=2, **options)
    y = torch.ones(SIZE).double()
    with pytest.raises(ValueError, match=f"got 3; each layer has a copy of its own of {own}"):
        network(y, y, num_layers=3)


def test_a_misspelt_parameter_is_told_the_names_there_are() -> None:
    network = UnfoldedIteration(
        Schedule([0.5]),
        iteration=lambda x, params, _data: x - params.treshold,
        parameters={"threshold": 0.1},
    )
    with pytest.raises(AttributeError, match="'treshold'; there are step, layer, threshold"):
        network(None, torch.ones(2).double())


def test_layer_is_the_number_and_no_parameter() -> None:
    def step(x: Any, params: Any, _data: Any) -> Any:
        return x + params.layer

    assert (
        float(UnfoldedIteration(Schedule(np.ones(4)), iteration=step)(None, torch.zeros(()))) == 6
    )
    with pytest.raises(ValueError, match="'step' or 'layer', got 'layer'"):
        UnfoldedIteration(Schedule([1.0]), iteration=step, parameters={"layer": 1.0})


def test_another_device_is_refused_with_the_layer() -> None:
    network = UnfoldedIteration(
        Schedule([0.5]), iteration=lambda x, _params, _data: torch.zeros_like(x, device="meta")
    )
    with pytest.raises(ValueError, match=r"on the device .*cpu, got meta in layer 0"):
        network(None, torch.ones(2).double())


def test_thresholds_in_double_precision_on_complex64_are_told_the_dtype() -> None:
    def step(x: Tensor, params: Any, y: Tensor) -> Tensor:
        v = x + params.step * (y - x)
        return v * (1 - params.threshold / v.abs().clamp(min=1e-6)).clamp(min=0)

    data = torch.ones(3, dtype=torch.complex64)
    options: dict[str, Any] = {"iteration": step, "parameters": {"threshold": np.full(3, 0.1)}}
    with pytest.raises(ValueError, match=r"complex128 in layer 0 .*`dtype=torch\.float32`"):
        UnfoldedIteration(Schedule([0.5]), **options)(data, 0 * data)
    network = UnfoldedIteration(Schedule([0.5]), dtype=torch.float32, **options)
    assert network(data, 0 * data).dtype == torch.complex64


SINGLE = LeastSquares(torch.eye(3), torch.ones(2, 3))
COMPLEX = LeastSquares(torch.eye(3).cfloat(), torch.ones(2, 3).cfloat())


@pytest.mark.parametrize("problem", [SINGLE, COMPLEX])
def test_vectors_of_thresholds_in_double_precision_are_told_the_dtype(problem: Any) -> None:
    options: dict[str, Any] = {
        "iteration": ProximalGradient(L1(np.full(3, 0.1))),
        "parameters": {"penalty.weight": np.full(3, 0.1)},
    }
    with pytest.raises(
        TypeError, match=r"no more precise than the vectors.*`dtype=torch\.float32`"
    ):
        UnfoldedIteration(Schedule([0.5]), **options)(problem)
    network = UnfoldedIteration(Schedule([0.5]), dtype=torch.float32, **options)
    assert network(problem).dtype == problem.rhs.dtype
    # One number for each layer takes the precision of what it meets.
    network = UnfoldedIteration(
        Schedule([0.5]), iteration=ProximalGradient(L1(0.1)), parameters={"penalty.weight": 0.1}
    )
    assert network(problem).dtype == problem.rhs.dtype


def test_matrices_in_double_precision_are_told_the_dtype() -> None:
    matrix = Trainable(np.eye(3), period=1, constraint=None)
    network = UnfoldedIteration(
        Schedule([0.5]),
        iteration=lambda x, params, _y: x - params.step * x @ params.matrix,
        parameters={"matrix": matrix},
    )
    with pytest.raises(ValueError, match=r"network, torch\.float64, .*`dtype=torch\.float32`"):
        network(None, torch.ones(2, 3))


def test_a_start_in_another_precision_than_its_problem_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`x0` .* dtype of its problem, torch\.float32, got "):
        UnfoldedIteration(Schedule([0.5]))(SINGLE, torch.ones(2, 3).double())
