"""What `train` and its settings refuse before the work starts, and what they take as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stepfold import Schedule, SpectralMeasure
from stepfold.problems import LeastSquares, Quadratic
from stepfold.unfolded import (
    BatchedLeastSquares,
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
    train,
)
from stepfold.unfolded.networks.base import TrainingSettings

MEASURE = SpectralMeasure.from_eigenvalues([0.5, 1.0, 2.0, 4.0])
SPECTRAL = SpectralLoss(MEASURE, batch_size=5)


def bare_loss(network: UnfoldedIteration, num_layers: int, rng: np.random.Generator) -> Tensor:
    """The spectral loss without its attributes."""
    return SPECTRAL(network, num_layers, rng)


def _network() -> UnfoldedIteration:
    return UnfoldedIteration(Schedule([0.3, 0.2, 0.25]))


def test_a_bare_function_is_a_loss_of_unknown_measure(tmp_path) -> None:
    run = train(
        _network(),
        bare_loss,
        all_at_once(3, 20),
        held_out=HeldOut(bare_loss, every=5),
        checkpoint=tmp_path / "checkpoint",
    )
    known = train(_network(), SPECTRAL, all_at_once(3, 20), held_out=HeldOut(SPECTRAL, every=5))
    assert run.schedule == known.schedule
    assert run.history.mean_squared_errors is None
    assert known.history.mean_squared_errors is not None


class _MisnamedMeasure:
    def measure(self) -> float:
        return 1.0

    def __call__(self, *_: Any) -> Tensor:
        raise AssertionError("the work has started")


def _unwanted(*_: Any) -> Any:
    raise AssertionError("the work has started")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": "mse"}, TypeError, r"`loss` must be a function .*network, num_layers, rng.*str"),
        ({"loss": _MisnamedMeasure()}, TypeError, r"`loss\.measure` must be a SpectralMeasure or"),
        ({"network": torch.nn.Linear(2, 2)}, TypeError, r"must be an UnfoldedIteration, got Linea"),
        ({"clip_norm": "1"}, TypeError, r"`clip_norm` must be a positive number, got '1'; None"),
        ({"clip_norm": True}, TypeError, r"`clip_norm` must be a positive number, got True"),
        ({"clip_norm": np.nan}, ValueError, r"`clip_norm` must be positive and finite, got nan"),
        ({"clip_norm": -1.0}, ValueError, r"`clip_norm` must be positive and finite, got -1\.0"),
        ({"most_skipped": "3"}, TypeError, r"`most_skipped` must be an integer, got '3'"),
        ({"most_skipped": np.nan}, TypeError, r"`most_skipped` must be an integer, got nan"),
        ({"most_skipped": True}, ValueError, r"`most_skipped` must be an integer of .*, got True"),
        ({"seed": "0"}, TypeError, r"`seed` must be an integer, got '0'"),
        ({"seed": None}, TypeError, r"`seed` must be an integer, got None"),
        ({"checkpoint_every": "9"}, TypeError, r"`checkpoint_every` must be an integer, got '9'"),
        ({"checkpoint_every": 0}, ValueError, r"`checkpoint_every` must be an integer of at lea"),
        ({"batches_per_step": 1.0}, TypeError, r"`batches_per_step` must be an integer, got 1\.0"),
        ({"checkpoint": 3}, TypeError, r"`checkpoint` must be the path of a file, got int"),
        ({"stages": Stage(1, 1)}, TypeError, r"`stages` must be a list of Stage, got one Stage"),
        ({"stages": [3]}, TypeError, r"`stages` must be a list of Stage.* with int in it"),
        ({"stages": 3}, TypeError, r"`stages` must be a list of Stage, got int"),
        ({"optimizer": "adam"}, TypeError, r"`optimizer` must be a function of the parameters"),
        ({"optimizer": lambda _: 3}, TypeError, r"`optimizer` must make a torch\.optim\.Opti.*int"),
        ({"scheduler": 0.9}, TypeError, r"`scheduler` must be a function of the optimizer"),
        ({"held_out": SPECTRAL}, TypeError, r"`held_out` must be a HeldOut.*write `HeldOut"),
        ({"callback": 3}, TypeError, r"`callback` must be a function of a Progress, got int"),
    ],
)
def test_an_argument_of_another_kind_is_refused_before_the_work(
    tmp_path, options, error, message
) -> None:
    if "checkpoint_every" in options:
        options = {"checkpoint": tmp_path / "checkpoint", **options}
    with pytest.raises(error, match=message):
        train(**{"network": _network(), "loss": _unwanted, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"learning_rate": "0.1"}, TypeError, r"`learning_rate` must be a positive number, got '0"),
        (
            {"final_learning_rate": 0.0},
            ValueError,
            r"`final_learning_rate` must be positive and finite, got 0\.0; None keeps the rate",
        ),
        ({"relative": "yes"}, TypeError, r"`relative` must be true or false, got 'yes'"),
        ({"learning_rate": True}, TypeError, r"`learning_rate` must be a positive number, got Tr"),
        (
            {"learning_rate": np.nan},
            ValueError,
            r"`learning_rate` must be positive and finite, .*n",
        ),
        ({"clip_norm": "1"}, TypeError, r"`clip_norm` must be a positive number, got '1'"),
        ({"clip_norm": -1.0}, ValueError, r"`clip_norm` must be positive and finite, got -1\.0"),
        ({"patience": "5"}, TypeError, r"`patience` must be an integer, got '5'"),
        ({"patience": 0}, ValueError, r"`patience` must be an integer of at least 1, got 0"),
        ({"seed": "0"}, TypeError, r"`seed` must be an integer, got '0'"),
        ({"seed": -1}, ValueError, r"`seed` must be an integer of at least 0, got -1"),
        ({"batches_per_step": 0}, ValueError, r"`batches_per_step` must be an integer of at least"),
        ({"num_iterations": None}, TypeError, r"`num_iterations` must be an integer, got None"),
        ({"look_every": "50"}, TypeError, r"`look_every` must be an integer, got '50'"),
        (
            {"restart_optimizer": "no"},
            TypeError,
            r"`restart_optimizer` must be true or false, .*no",
        ),
        ({"optimizer": ["adam"]}, ValueError, r"`optimizer` must be one of adam, .*\['adam'\]"),
        ({"strategy": {}}, ValueError, r"`strategy` must be one of incremental, .*got \{\}"),
    ],
)
def test_settings_of_another_kind_are_refused_where_they_are_made(settings, error, message) -> None:
    with pytest.raises(error, match=message):
        TrainingSettings(**settings)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": None}, TypeError, r"`loss` must be a function .*got NoneType"),
        ({"every": "5"}, TypeError, r"`every` must be an integer, got '5'"),
        ({"patience": 0}, ValueError, r"`patience` must be an integer of at least 1, got 0"),
        ({"seed": -1}, ValueError, r"`seed` must be an integer of at least 0, got -1"),
    ],
)
def test_an_early_stop_of_another_kind_is_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        HeldOut(**{"loss": SPECTRAL, **options})


def test_a_held_out_loss_that_is_a_vector_is_refused_in_words() -> None:
    held_out = HeldOut(lambda network, _num_layers, _rng: network.steps)
    with pytest.raises(ValueError, match=r"`loss` must return a scalar tensor, got shape \(3,\)"):
        train(_network(), SPECTRAL, held_out=held_out)


def test_a_complex_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got torch\.complex128; it must be real"):
        train(_network(), lambda network, _num_layers, _rng: network.steps.sum() * 1j)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpectralLoss(MEASURE, noise="0.1"),
        lambda: GaussianLeastSquares(np.eye(2), noise="0.1"),
        lambda: BatchedLeastSquares(torch.eye(2)[None], torch.ones(1, 2), ridge="0.1"),
        lambda: SampledLoss(_unwanted, discount="0.1"),
    ],
    ids=["spectral loss", "sampler", "ridge", "discount"],
)
def test_a_number_in_quotes_is_refused(make) -> None:
    with pytest.raises(TypeError, match=r"`(noise|ridge|discount)` must be a (real )?number"):
        make()


def test_more_copies_than_layers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`period` of 'drift' must be at most .*, 3, got 5: copi"):
        UnfoldedIteration(
            Schedule([0.3]),
            iteration=lambda x, params, _data: x - params.drift,
            num_layers=3,
            parameters={"drift": Trainable(0.1, period=5)},
        )


PROBLEM = LeastSquares(torch.eye(3), torch.ones(4, 3))
ONES = torch.ones(4, 3)


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        (Sample(PROBLEM, torch.ones(4, 4)), ValueError, r"solutions of the shape .*, got \(4, 4\)"),
        (Sample(PROBLEM, torch.ones(3)), ValueError, r"solutions of the shape .*, got \(3,\)"),
        (Sample(PROBLEM, torch.ones(1, 3)), ValueError, r"solutions of the shape .*, got \(1, 3\)"),
        (Sample(PROBLEM, ONES.int()), ValueError, r"solutions of the dtype .*, got torch\.int32"),
        (Sample(PROBLEM, ONES, ONES[:, :2]), ValueError, r"starts of the shape .*, got \(4, 2\)"),
        (Sample(PROBLEM, [1, 2], ONES), TypeError, r"sampler's `target`, a tensor, .*and list"),
        (Sample(3, ONES), TypeError, r"a problem over tensors for GradientDescent, got int"),
        (
            Sample(LeastSquares(np.eye(3), np.ones((4, 3))), ONES),
            TypeError,
            r"a problem over tensors for GradientDescent, got LeastSquares: unsupported operand",
        ),
    ],
)
def test_a_sample_that_fits_nothing_is_refused_in_words(sample, error, message) -> None:
    with pytest.raises(error, match=message):
        train(_network(), SampledLoss(lambda _rng: sample))


def test_an_empty_batch_is_refused_and_not_taken_for_a_loss_that_is_not_finite() -> None:
    loss = SampledLoss(lambda _rng: Sample(Quadratic(torch.eye(3), ONES[0]), ONES[:0]))
    with pytest.raises(ValueError, match=r"at least one item, got an empty batch, \(0, 3\)"):
        train(_network(), loss)


@pytest.mark.parametrize("discount", [0.0, 0.5])
def test_a_criterion_that_returns_a_vector_is_refused(discount) -> None:
    loss = SampledLoss(
        lambda _rng: Sample(PROBLEM, ONES), criterion=lambda x, _: x.sum(0), discount=discount
    )
    with pytest.raises(ValueError, match=r"must return a scalar tensor, got shape \(3,\)"):
        train(_network(), loss)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SampledLoss(None), r"`sampler` must be a function, got NoneType"),
        (lambda: SampledLoss(_unwanted, criterion=3), r"`criterion` must be a function, got int"),
        (
            lambda: DataSetSampler([1.0, 2.0], batch_size=1, pose=None),
            r"`pose` must be a function of a batch, got NoneType",
        ),
        (lambda: Trainable(0.1, constraint="positive"), r"`constraint` must be a module, .*str"),
        (lambda: UnfoldedIteration(Schedule([0.3]), dtype=torch.int64), r"`dtype` must be a real"),
        (
            lambda: UnfoldedIteration(Schedule([0.3]), iteration=_unwanted, parameters=["a"]),
            r"`parameters` must be a dictionary .*, got list",
        ),
        (lambda: _of_initial("0.1"), r"`initial` of 'drift' must hold numbers, got str"),
        (lambda: _of_initial(None), r"`initial` of 'drift' must hold numbers, got NoneType"),
        (
            lambda: train(_network(), SPECTRAL, scheduler=lambda _optimizer: 0.9),
            r"`scheduler` must make a learning-rate scheduler.*, got float",
        ),
    ],
)
def test_what_is_no_function_or_no_number_is_refused(make, message) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def _of_initial(initial: Any) -> UnfoldedIteration:
    return UnfoldedIteration(
        Schedule([0.3, 0.2]), iteration=_unwanted, parameters={"drift": initial}
    )


@pytest.mark.parametrize(
    ("initial", "found"),
    [([], "an empty list"), ([np.ones(2), np.ones(3)], r"\(2,\), \(3,\)")],
)
def test_copies_of_different_shapes_are_refused(initial, found) -> None:
    with pytest.raises(ValueError, match=rf"one entry for each copy, of one shape, got {found}"):
        _of_initial(initial)


def test_a_training_of_which_every_iteration_was_skipped_has_failed() -> None:
    loss = SampledLoss(lambda _rng: Sample(PROBLEM, torch.full((4, 3), torch.nan)))
    with pytest.raises(ArithmeticError, match=r"stage 1 every iteration, 4, was skipped.*NaN"):
        train(_network(), loss, all_at_once(3, 4))


def test_a_held_out_loss_that_was_never_finite_is_a_failure() -> None:
    held_out = HeldOut(lambda network, _num_layers, _rng: network.steps.sum() * np.nan, every=2)
    with pytest.raises(ArithmeticError, match=r"held-out loss was never finite in stage 1"):
        train(_network(), SPECTRAL, all_at_once(3, 4), held_out=held_out)
