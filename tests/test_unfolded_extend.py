"""Trainings that go on beyond their end, runs that are saved, and steps of either sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stepfold import LeastSquares, Quadratic, Schedule, accelerate, solve
from stepfold.iterations import HeavyBall
from stepfold.result import TrainingRun
from stepfold.unfolded import (
    GaussianLeastSquares,
    HeldOut,
    SampledLoss,
    Stage,
    UnfoldedIteration,
    all_at_once,
    incremental,
    train,
)


def _trained(stages: list[Stage], path: Path | None, **options: Any) -> tuple[Any, TrainingRun]:
    network = UnfoldedIteration(
        Schedule([0.2, 0.3, 0.4]), iteration=HeavyBall(0.1), parameters={"momentum": 0.1}
    )
    matrix = np.random.default_rng(4).standard_normal((8, 5)) / 3
    loss = SampledLoss(GaussianLeastSquares(matrix, batch_size=4))
    run = train(network, loss, stages, checkpoint=path, seed=3, **options)
    return network, run


CASES = [
    (all_at_once(3, 20), all_at_once(3, 45)),
    (incremental(2, 15), incremental(3, 15)),
    (incremental(2, 15), [*incremental(2, 15)[:1], Stage(2, 30), Stage(3, 10, 1)]),
    (incremental(2, 15), incremental(2, 15)),
]


@pytest.mark.parametrize(("short", "longer"), CASES)
@pytest.mark.parametrize("options", [{}, {"restart_optimizer": True}, {"stopped": 17}])
def test_an_extended_training_has_the_bits_of_one_that_was_as_long(
    tmp_path, short, longer, options
) -> None:
    stopped = options.get("stopped")
    kept = {name: value for name, value in options.items() if name != "stopped"}
    callback = None if stopped is None else (lambda progress: progress.done == stopped)
    _trained(short, tmp_path / "c", callback=callback, **kept)
    network, run = _trained(longer, tmp_path / "c", extend=True, **kept)
    whole, expected = _trained(longer, None, **kept)
    for name, value in whole.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    np.testing.assert_array_equal(run.history.losses, expected.history.losses)
    np.testing.assert_array_equal(run.history.steps, expected.history.steps)


def test_a_stage_that_held_out_data_ended_goes_on_from_its_best_values(tmp_path) -> None:
    matrix = np.random.default_rng(4).standard_normal((8, 5)) / 3
    held_out = HeldOut(
        SampledLoss(GaussianLeastSquares(matrix, batch_size=16)), every=5, patience=1
    )
    _, first = _trained(all_at_once(3, 50), tmp_path / "c", held_out=held_out)
    _, again = _trained(all_at_once(3, 300), tmp_path / "c", held_out=held_out, extend=True)
    seen = [int(np.isfinite(run.history.losses).sum()) for run in (first, again)]
    assert seen[1] > seen[0]
    assert again.history.held_out_losses[-1] <= first.history.held_out_losses[-1]


@pytest.mark.parametrize(
    "stages", [all_at_once(3, 10), all_at_once(2, 40), [Stage(3, 20, 1)], incremental(3, 20)]
)
def test_stages_that_begin_in_another_way_are_refused_and_the_file_is_kept(
    tmp_path, stages
) -> None:
    _trained(all_at_once(3, 20), tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    with pytest.raises(ValueError, match=r"`stages` must begin as those of .*got"):
        _trained(stages, tmp_path / "c", extend=True)
    assert (tmp_path / "c").read_bytes() == content


def test_other_settings_are_refused_as_when_resuming(tmp_path) -> None:
    _trained(all_at_once(3, 20), tmp_path / "c")
    with pytest.raises(ValueError, match=r"another training: `clip_norm` is None there and 1\.0"):
        _trained(all_at_once(3, 40), tmp_path / "c", extend=True, clip_norm=1.0)


def test_what_there_is_not_cannot_be_extended(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="to extend; train it first"):
        _trained(all_at_once(3, 20), tmp_path / "c", extend=True)
    with pytest.raises(ValueError, match=r"`checkpoint` must name a file for `resume`, `extend`"):
        _trained(all_at_once(3, 20), None, extend=True)


def test_a_saved_run_is_loaded_with_every_bit_and_never_overwritten(tmp_path) -> None:
    _, run = _trained(incremental(3, 5), None)
    run.save(tmp_path / "run.json")
    assert TrainingRun.load(tmp_path / "run.json").to_dict() == run.to_dict()
    with pytest.raises(FileExistsError):
        run.save(tmp_path / "run.json")


def _free() -> tuple[UnfoldedIteration, TrainingRun]:
    """Two steps that an indefinite Hessian wants to have different signs."""
    network = UnfoldedIteration(Schedule([0.2, 0.1]), constraint=None)
    hessian = torch.diag(torch.tensor([2.0, -1.0], dtype=torch.float64))
    solution = torch.tensor([1.0, 1.0], dtype=torch.float64)
    problem = Quadratic(hessian, hessian @ solution)

    def loss(network: UnfoldedIteration, num_layers: int, _rng: np.random.Generator) -> Tensor:
        output = network(problem, 0 * solution, num_layers=num_layers)
        return (output - solution).square().sum()

    run = train(
        network, loss, all_at_once(2, 800), optimizer=lambda p: torch.optim.Adam(p, lr=0.02)
    )
    return network, run


def test_free_steps_may_become_negative_and_their_run_is_kept(tmp_path) -> None:
    network, run = _free()
    # The errors vanish where the polynomial has the roots 2 and −1.
    np.testing.assert_allclose(np.sort(run.schedule.steps), [-1.0, 0.5], atol=0.02)
    assert run.schedule.signed
    run.save(tmp_path / "run.json")
    again = UnfoldedIteration(Schedule([0.2, 0.1]), constraint=None)
    again.restore(TrainingRun.load(tmp_path / "run.json"))
    assert torch.equal(again.steps, network.steps)
    assert "a step is not positive" in str(
        network.explain(Quadratic(torch.eye(2).double(), torch.ones(2).double()))
    )


def test_solvers_refuse_steps_that_are_not_positive() -> None:
    schedule = _free()[1].schedule
    problem = LeastSquares(np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match=r"`schedule` must have positive steps to be run"):
        solve(problem, schedule)
    with pytest.raises(ValueError, match=r"`schedule` must have positive steps to be run"):
        accelerate(np.cos, np.ones(2), schedule=schedule)
