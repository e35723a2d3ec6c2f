"""`train`: stages, losses, samplers, early stop, clipping, skipped iterations, shared batches."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import IterableDataset, TensorDataset

from stepfold import Quadratic, Schedule, SpectralMeasure
from stepfold.iterations import ProximalGradient, Relaxation
from stepfold.lab.experiments._ensembles import spectra
from stepfold.polynomial import mean_squared_error
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.penalties import L1
from stepfold.result import TrainingRun
from stepfold.schedules import chebyshev_steps, noisy_mean_squared_error, optimal_steps
from stepfold.unfolded import (
    DataSetSampler,
    GaussianLeastSquares,
    HeldOut,
    Sample,
    SampledLoss,
    SpectralLoss,
    Stage,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    greedy_then_refined,
    incremental,
    squared_residual,
    train,
    train_incrementally,
)

MEASURE = SpectralMeasure.from_eigenvalues([0.5, 1.0, 2.0, 4.0])
ADAM = functools.partial(torch.optim.Adam, lr=0.01)


def _network(num_layers: int = 3) -> UnfoldedIteration:
    return UnfoldedIteration(Schedule(np.full(num_layers, 0.3)))


def test_incremental_training_is_the_published_one_by_default() -> None:
    first = train_incrementally(_network(), SpectralLoss(MEASURE), num_iterations=20, seed=4)
    second = train(_network(), SpectralLoss(MEASURE), incremental(3, 20), seed=4)
    assert first.schedule == second.schedule
    np.testing.assert_array_equal(first.history.losses, second.history.losses)


def test_a_greedy_stage_keeps_earlier_layers_whatever_the_optimiser_remembers() -> None:
    decaying = functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.5)
    stages = greedy_then_refined(3, 15)
    run = train(_network(), SpectralLoss(MEASURE), stages, optimizer=decaying)
    steps = run.history.steps
    np.testing.assert_array_equal(steps[1][:1], steps[0][:1])
    np.testing.assert_array_equal(steps[2][:2], steps[1][:2])
    assert (steps[3] != steps[2]).all()
    assert run.history.num_layers.tolist() == [1, 2, 3, 3]
    assert run.schedule_after(4) == run.schedule


def test_chebyshev_steps_trained_all_at_once_come_near_the_optimum() -> None:
    network = UnfoldedIteration(chebyshev_steps(MEASURE.bounds, 3))
    start = mean_squared_error(network.schedule(), MEASURE)
    train(network, SpectralLoss(MEASURE), all_at_once(3, 300))
    assert mean_squared_error(network.schedule(), MEASURE) < 0.5 * start


def test_stages_of_different_lengths_are_padded_by_nan() -> None:
    stages = [Stage(1, 5), Stage(2, 3)]
    run = train(_network(2), SpectralLoss(MEASURE), stages)
    assert np.isnan(run.history.losses).tolist() == [[False] * 5, [False] * 3 + [True] * 2]
    back = TrainingRun.from_dict(run.to_dict())
    assert back.schedule == run.schedule
    np.testing.assert_array_equal(back.history.losses, run.history.losses)
    assert run.to_dict()["history"]["losses"][1][3:] == [None, None]


def test_averaged_batches_are_the_mean_of_their_losses() -> None:
    # Without training, two batches a step have half the variance of one.
    still = functools.partial(torch.optim.SGD, lr=1e-30)
    losses = [
        train(
            _network(1),
            SpectralLoss(MEASURE, batch_size=2),
            all_at_once(1, 2000),
            optimizer=still,
            batches_per_step=batches,
        ).history.losses[0]
        for batches in (1, 2)
    ]
    # 2000 draws: standard deviations of the variances are about 4 %, of their ratio 6 %.
    assert losses[1].var() / losses[0].var() == pytest.approx(0.5, rel=0.25)
    assert losses[1].mean() == pytest.approx(losses[0].mean(), rel=0.1)


@pytest.mark.filterwarnings("ignore:steps .* are equal")
def test_gradients_are_clipped_to_their_length() -> None:
    network = _network()
    before = network.steps.detach().clone()
    descent = functools.partial(torch.optim.SGD, lr=1.0)
    train(network, SpectralLoss(MEASURE), [Stage(3, 1)], optimizer=descent, clip_norm=0.01)
    assert (network.steps - before).norm().item() == pytest.approx(0.01, rel=1e-4)


def test_iterations_that_are_not_finite_are_skipped_and_counted() -> None:
    class Flaky:
        measure = None
        calls = 0

        def __call__(self, network, num_layers, rng):  # noqa: ARG002
            self.calls += 1
            loss = network.steps[:num_layers].square().sum()
            return loss * torch.nan if self.calls in (3, 4, 9) else loss

    run = train(_network(2), Flaky(), incremental(2, 7))
    assert run.history.num_skipped.tolist() == [2, 1]
    assert np.isnan(run.history.losses[0]).sum() == 2
    assert np.isfinite(run.schedule.steps).all()


def test_a_gradient_that_is_not_finite_is_skipped_though_its_loss_is() -> None:
    class Kinked:
        measure = None

        def __call__(self, network, num_layers, rng):  # noqa: ARG002
            return (network.steps[:num_layers] - 0.3).abs().sqrt().sum()

    network = _network(1)
    with pytest.raises(ArithmeticError, match=r"gradient is not finite, the 4th time in a row,"):
        train(network, Kinked(), all_at_once(1, 9), most_skipped=3)
    assert network.steps.tolist() == [0.3]


@pytest.mark.filterwarnings("ignore:steps .* are equal")
def test_a_held_out_loss_ends_a_stage_and_brings_its_best_values_back() -> None:
    wild = functools.partial(torch.optim.Adam, lr=0.2)
    held_out = HeldOut(SpectralLoss(MEASURE), every=2, patience=3)
    stages = all_at_once(2, 400)
    run = train(_network(2), SpectralLoss(MEASURE), stages, optimizer=wild, held_out=held_out)
    taken = np.isfinite(run.history.losses[0]).sum()
    assert taken < 400
    best = run.history.held_out_losses[0]
    rng = np.random.default_rng(held_out.seed)
    network = UnfoldedIteration(run.schedule)
    assert SpectralLoss(MEASURE)(network, 2, rng).item() == pytest.approx(best, rel=1e-12)


def test_a_scheduler_steps_once_an_iteration() -> None:
    made = []

    def halving(optimizer: torch.optim.Optimizer) -> Any:
        made.append(optimizer)
        return torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)

    train(_network(2), SpectralLoss(MEASURE), incremental(2, 10), scheduler=halving)
    assert made[0].param_groups[0]["lr"] == pytest.approx(0.002 * 0.5**4)


def test_a_plateau_lowers_the_learning_rate() -> None:
    made = []

    def plateau(optimizer: torch.optim.Optimizer) -> Any:
        made.append(optimizer)
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)

    train(_network(1), SpectralLoss(MEASURE), all_at_once(1, 300), scheduler=plateau)
    assert made[0].param_groups[0]["lr"] < 0.002


def test_a_new_optimiser_for_each_stage_forgets() -> None:
    made = []

    def factory(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.Adam(parameters))
        return made[-1]

    stages = incremental(3, 4)
    train(_network(), SpectralLoss(MEASURE), stages, optimizer=factory, restart_optimizer=True)
    assert [int(next(iter(o.state.values()))["step"]) for o in made] == [4, 4, 4]


def test_a_callback_sees_every_iteration() -> None:
    seen = []
    train(_network(2), SpectralLoss(MEASURE), incremental(2, 3), callback=seen.append)
    assert [(now.stage, now.iteration, now.done) for now in seen] == [
        (stage, iteration, 3 * stage + iteration) for stage in (0, 1) for iteration in (1, 2, 3)
    ]
    assert {now.total for now in seen} == {6}
    assert all(now.best_loss <= now.loss for now in seen)


def test_a_shared_parameter_and_the_steps_are_trained_together() -> None:
    rng = np.random.default_rng(0)
    matrix = torch.tensor(rng.standard_normal((20, 30)) / np.sqrt(20))

    def sampler(draws: np.random.Generator) -> Sample:
        x = torch.from_numpy(draws.standard_normal((40, 30)) * (draws.random((40, 30)) < 0.1))
        return Sample(_problem(matrix, x), x)

    network = UnfoldedIteration(
        Schedule(np.full(6, 0.3)),
        iteration=ProximalGradient(L1(0.1)),
        parameters={"penalty.weight": Trainable(0.5, period=1)},
    )
    run = train(network, SampledLoss(sampler), all_at_once(6, 150), optimizer=ADAM)
    assert run.history.losses[0, -20:].mean() < 0.7 * run.history.losses[0, :20].mean()
    assert run.parameters["penalty.weight"].shape == (1,)
    assert run.history.mean_squared_errors is None


def _problem(matrix: torch.Tensor, x: torch.Tensor) -> Any:
    return Quadratic(matrix.T @ matrix, (x @ matrix.T) @ matrix)


def test_a_discounted_loss_is_the_weighted_mean_over_layers() -> None:
    sampler = GaussianLeastSquares(np.diag([1.0, 1.5]), batch_size=4, dtype=torch.float64)
    network = _network(3)
    value = SampledLoss(sampler, discount=0.5)(network, 3, np.random.default_rng(1)).item()
    single = [
        SampledLoss(sampler)(network, depth, np.random.default_rng(1)).item() for depth in (1, 2, 3)
    ]
    assert value == pytest.approx(np.dot([1, 2, 4], single) / 7, rel=1e-12)


@pytest.mark.parametrize("kind", ["problem", "fixed point"])
@pytest.mark.filterwarnings("ignore:steps .* are equal")
def test_training_without_targets_lowers_the_residual(kind) -> None:
    def sampler(rng: np.random.Generator) -> Sample:
        draw = torch.from_numpy(rng.standard_normal((8, 2)))
        if kind == "fixed point":
            return Sample(FixedPoint(lambda x: torch.cos(x) + 0.1 * draw), start=0 * draw)
        return Sample(Quadratic(torch.diag(torch.tensor([1.0, 4.0]).double()), draw))

    network = UnfoldedIteration(
        Schedule([0.1, 0.1]), iteration=Relaxation() if kind == "fixed point" else None
    )
    loss = SampledLoss(sampler, criterion=squared_residual)
    run = train(network, loss, all_at_once(2, 150), optimizer=ADAM)
    assert run.history.losses[0, -10:].mean() < 0.5 * run.history.losses[0, :10].mean()


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_the_noisy_spectral_loss_has_the_exact_mean(noise) -> None:
    loss = SpectralLoss(MEASURE, batch_size=3, noise=noise)
    network = _network(2)
    rng = np.random.default_rng(2)
    with torch.no_grad():
        draws = np.array([loss(network, 2, rng).item() for _ in range(4000)])
    exact = noisy_mean_squared_error(network.schedule(), MEASURE, noise=noise)
    # Four standard errors.
    assert draws.mean() == pytest.approx(exact, abs=4 * draws.std() / np.sqrt(4000))


def test_the_noisy_forms_have_the_same_mean_and_spread() -> None:
    matrix = np.diag(np.sqrt(MEASURE.nodes))
    sampler = GaussianLeastSquares(matrix, batch_size=3, noise=np.sqrt(0.5), dtype=torch.float64)
    network, rng = _network(2), np.random.default_rng(3)
    with torch.no_grad():
        sampled, spectral = (
            np.array([loss(network, 2, rng).item() for _ in range(3000)])
            for loss in (SampledLoss(sampler), SpectralLoss(MEASURE, batch_size=3, noise=0.5))
        )
    assert spectral.mean() == pytest.approx(sampled.mean(), rel=0.06)
    assert spectral.std() == pytest.approx(sampled.std(), rel=0.12)


def test_training_with_noise_is_judged_with_noise() -> None:
    loss = SpectralLoss(MEASURE, noise=0.5)
    run = train(_network(1), loss, all_at_once(1, 50))
    exact = noisy_mean_squared_error(run.schedule, MEASURE, noise=0.5)
    assert run.history.mean_squared_errors.tolist() == [exact]


def test_a_data_set_is_drawn_from_without_repeats() -> None:
    data = TensorDataset(torch.arange(12.0)[:, None], torch.arange(12.0)[:, None] + 1)
    sampler = DataSetSampler(data, batch_size=5, pose=lambda batch: Sample(batch[0], batch[1]))
    sample = Sample(*sampler(np.random.default_rng(0)))
    assert sample.data.unique().numel() == 5
    assert torch.equal(sample.target, sample.data + 1)
    again = Sample(*sampler(np.random.default_rng(0)))
    assert torch.equal(sample.data, again.data)


class _Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (TensorDataset(torch.ones(0, 2)), ValueError, r"at least one item, got an empty data set"),
        (TensorDataset(torch.ones(3, 2)), ValueError, r"`batch_size` must be at most .* 3, got 4"),
        (_Stream(), TypeError, r"with items and a length, got _Stream"),
    ],
)
def test_data_sets_that_cannot_be_drawn_from_are_refused(data, error, message) -> None:
    with pytest.raises(error, match=message):
        DataSetSampler(data, batch_size=4, pose=lambda batch: batch)


def _loss_of(value: Any) -> Any:
    class Constant:
        measure = None

        def __call__(self, network, num_layers, rng):  # noqa: ARG002
            return value(network.steps)

    return Constant()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda steps: steps, r"must return a scalar tensor, got shape \(3,\); average"),
        (lambda steps: steps[:1], r"must return a scalar tensor, got shape \(1,\)"),
        (lambda steps: steps.sum().item(), r"must return a scalar tensor, got float"),
    ],
)
def test_a_loss_that_is_not_scalar_is_refused(value, message) -> None:
    with pytest.raises(ValueError, match=message):
        train(_network(), _loss_of(value))


def test_a_loss_that_does_not_depend_on_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`loss` must depend on the network's parameters"):
        train(_network(), _loss_of(lambda _steps: torch.tensor(1.0)))


def test_a_missing_target_is_refused_with_the_remedy() -> None:
    def sampler(_rng: np.random.Generator) -> Sample:
        return Sample(Quadratic(torch.eye(2), torch.ones(2)))

    with pytest.raises(ValueError, match=r"yield a `target`.*criterion=squared_residual"):
        train(_network(), SampledLoss(sampler))


@pytest.mark.parametrize("drawn", [3, (1,), (1, 2, 3, 4)])
def test_a_sampler_that_yields_no_sample_is_refused(drawn) -> None:
    with pytest.raises(TypeError, match=r"`sampler` must yield a Sample or a problem and its sol"):
        train(_network(), SampledLoss(lambda _rng: drawn))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": []}, r"`stages` must hold at least one stage"),
        ({"stages": [Stage(4, 1)]}, r"`num_layers` must be at most the network's 3, got 4"),
        ({"clip_norm": 0.0}, r"`clip_norm` must be positive and finite, got 0\.0; None clips"),
        ({"batches_per_step": 0}, r"`batches_per_step` must be an integer of at least 1"),
        ({"most_skipped": -1}, r"`most_skipped` must be an integer of at least 0"),
        ({"seed": -1}, r"`seed` must be an integer of at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        train(_network(), SpectralLoss(MEASURE), **options)


@pytest.mark.parametrize("maker", [incremental, all_at_once, greedy_then_refined])
def test_depth_0_is_refused(maker) -> None:
    with pytest.raises(ValueError, match=r"`num_layers` must be an integer of at least 1, got 0"):
        maker(0)


def test_an_optimiser_that_needs_a_closure_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must step without a closure.*got LBFGS; take Adam"):
        train(_network(), SpectralLoss(MEASURE), optimizer=torch.optim.LBFGS)


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.Adagrad,
        torch.optim.NAdam,
        torch.optim.RMSprop,
        torch.optim.Rprop,
        torch.optim.ASGD,
    ],
)
def test_other_optimisers_of_torch_train_and_resume(tmp_path, optimizer) -> None:
    def run(name: str, **options: Any) -> TrainingRun:
        stages, path = incremental(2, 4), tmp_path / name
        loss = SpectralLoss(MEASURE)
        return train(_network(2), loss, stages, optimizer=optimizer, checkpoint=path, **options)

    whole = run("whole")
    run("part", callback=lambda now: now.done == 6)
    assert run("part", resume=True).schedule == whole.schedule


def test_a_stage_that_trains_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`first_layer` must be below `num_layers`, 2, got 2"):
        Stage(2, 5, first_layer=2)


def test_a_network_with_fixed_steps_and_nothing_else_is_refused() -> None:
    network = UnfoldedIteration(Schedule([0.3]), train_steps=False)
    with pytest.raises(ValueError, match=r"`network` must have something to train"):
        train(network, SpectralLoss(MEASURE))


@pytest.mark.parametrize("discount", [-0.1, 1.1, np.nan])
def test_a_discount_out_of_range_is_refused(discount) -> None:
    with pytest.raises(ValueError, match=r"`discount` must lie between 0 and 1"):
        SampledLoss(lambda _rng: None, discount=discount)


@pytest.mark.parametrize("noise", [-1.0, np.nan, np.inf])
def test_a_noise_out_of_range_is_refused(noise) -> None:
    with pytest.raises(ValueError, match=r"`noise` must be at least 0 and finite"):
        SpectralLoss(MEASURE, noise=noise)
    with pytest.raises(ValueError, match=r"`noise` must be at least 0 and finite"):
        GaussianLeastSquares(np.eye(2), noise=noise)


@pytest.mark.filterwarnings("ignore:steps .* are equal")
def test_relative_gradients_are_those_of_the_logarithm() -> None:
    taken = []
    for scale, relative in ((1.0, True), (1e-30, True), (1.0, False)):
        network = _network()
        before = network.steps.detach().clone()
        descent = functools.partial(torch.optim.SGD, lr=0.1)

        def loss(net: UnfoldedIteration, depth: int, rng: Any, scale: float = scale) -> Any:
            return scale * SpectralLoss(MEASURE)(net, depth, rng)

        run = train(network, loss, all_at_once(3, 1), optimizer=descent, relative=relative)
        taken.append((network.steps.detach() - before, run.history.losses[0, 0]))
    (first, level), (second, small), (plain, same) = taken
    assert small == pytest.approx(1e-30 * level, abs=0)
    assert same == level
    torch.testing.assert_close(second, first, rtol=1e-9, atol=0)
    torch.testing.assert_close(first, plain / level, rtol=1e-9, atol=0)


def test_a_loss_of_zero_leaves_relative_training_where_it_is() -> None:
    network = UnfoldedIteration(Schedule([0.5]))
    loss = SpectralLoss(SpectralMeasure.from_eigenvalues([2.0]))
    run = train(network, loss, all_at_once(1, 3), relative=True)
    assert run.schedule.steps.tolist() == [0.5]
    assert run.history.num_skipped.sum() == 0


@pytest.mark.parametrize(("relative", "within"), [(True, (1, 1.001)), (False, (1.05, 5))])
def test_at_the_published_depth_only_relative_training_ends_at_the_optimum(
    relative, within
) -> None:
    measure = spectra()[0]
    run = train(
        UnfoldedIteration(chebyshev_steps(measure.bounds, 25)),
        SpectralLoss(measure),
        all_at_once(25, 1000),
        optimizer=functools.partial(torch.optim.Adam, lr=0.003),
        scheduler=functools.partial(ExponentialLR, gamma=0.01 ** (1 / 1000)),
        relative=relative,
    )
    best = mean_squared_error(optimal_steps(measure, 25), measure)
    lowest, highest = within
    assert lowest <= run.history.mean_squared_errors[-1] / best < highest
