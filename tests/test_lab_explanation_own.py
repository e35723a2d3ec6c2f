"""Networks of one's own explained: curvatures, steps beside theory's, and what to try."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import (
    LeastSquares,
    Quadratic,
    Schedule,
    SpectralBounds,
    SpectralMeasure,
    chebyshev_steps,
    optimal_steps,
)
from stepfold.iterations import HeavyBall, ProximalGradient
from stepfold.lab import Outcome
from stepfold.lab.explanation import explain_run
from stepfold.lab.explanation.seen import Seen, nearest_interval
from stepfold.problems.penalties import L1
from stepfold.unfolded import (
    LayerParameters,
    Sample,
    SampledLoss,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    local_spectra,
    train,
)

EIGENVALUES = np.geomspace(0.2, 5.0, 12)
BOUNDS = SpectralBounds(0.2, 5.0)


def _problem() -> Quadratic[Tensor]:
    hessian = torch.diag(torch.tensor(EIGENVALUES))
    return Quadratic(hessian, torch.ones(12, dtype=torch.float64))


def _seen(steps: Schedule, **options: Any) -> Seen:
    return Seen(local_spectra(UnfoldedIteration(steps, **options), _problem()))


def _words(outcome: Outcome, heading: str) -> str:
    (section,) = (each for each in outcome.sections if each.heading.startswith(heading))
    return " ".join(str(each) for each in section.paragraphs)


@pytest.mark.parametrize("period", [2, 5, 8])
def test_chebyshev_steps_for_the_spectrum_are_found_again(period: int) -> None:
    seen = _seen(chebyshev_steps(BOUNDS, period))
    assert np.abs(seen.deviations("Chebyshev")).max() < 1e-9
    nearest = seen.schedules["nearest Chebyshev"].bounds
    assert nearest is not None
    assert (nearest.lower, nearest.upper) == pytest.approx((0.2, 5.0), rel=1e-4)


@pytest.mark.parametrize("period", [1, 4])
def test_steps_that_are_optimal_for_the_spectrum_do_not_deviate(period: int) -> None:
    steps = optimal_steps(SpectralMeasure.from_eigenvalues(EIGENVALUES), period)
    assert np.abs(_seen(steps).deviations("optimal")).max() < 1e-7


def test_the_nearest_interval_is_none_the_worse_for_a_common_factor() -> None:
    steps = np.array([0.3, 1.7, 0.4, 0.9])
    one, other = nearest_interval(steps), nearest_interval(100 * steps)
    assert (one.lower, one.upper) == pytest.approx((100 * other.lower, 100 * other.upper), rel=1e-5)


def test_what_a_penalty_removes_is_no_curvature() -> None:
    network = UnfoldedIteration(Schedule([0.1, 0.2]), iteration=ProximalGradient(L1(1e3)))
    assert Seen(local_spectra(network, _problem())).obstacle.startswith("every layer removes")


def _rotation(x: Tensor, params: LayerParameters, data: Tensor) -> Tensor:
    return x + params.step * (x @ data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[0.0, 1.0], [-1.0, 0.0]], "no eigenvalue is positive"),
        ([[-1.0, 1.0], [-1.0, -1.0]], "eigenvalues are complex"),
        ([[-1.0, 0.0], [0.0, 0.5]], r"an eigenvalue is negative, -0\.5"),
    ],
)
def test_spectra_for_which_theory_has_no_steps_are_told(data: Any, message: str) -> None:
    network = UnfoldedIteration(Schedule([0.3]), iteration=_rotation)
    matrix, start = torch.tensor(data).double(), torch.ones(2, dtype=torch.float64)
    words = _words(network.explain(matrix, start), "The steps beside theory")
    assert "There are none to compare with" in words
    assert message.replace("\\", "") in words


def test_layers_with_a_memory_have_no_polynomial() -> None:
    network = UnfoldedIteration(Schedule([0.1, 0.2]), iteration=HeavyBall(0.3))
    words = _words(network.explain(_problem()), "The steps beside theory")
    assert "more than the iterate" in words


def test_a_complex_problem_is_explained_as_its_hermitian_spectrum() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((9, 4)) + 1j * rng.standard_normal((9, 4))
    problem = LeastSquares(torch.tensor(matrix), torch.ones(9, dtype=torch.complex128))
    values = np.linalg.eigvalsh(matrix.conj().T @ matrix)
    steps = chebyshev_steps(SpectralBounds(values[0], values[-1]), 3)
    outcome = UnfoldedIteration(steps).explain(problem)
    assert f"curvatures from {values[0]:.4g} to {values[-1]:.4g}" in outcome.summary


class Denoising(nn.Module):
    """A gradient step on y = x + noise, and a convolution with normalisation."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.net = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
        nn.init.normal_(self.net.weight, std=0.02, generator=generator)
        self.norm = nn.BatchNorm2d(1).double()

    def forward(self, x: Tensor, params: LayerParameters, y: Tensor) -> Tensor:
        return x - params.step * (x - y) - self.norm(self.net(x))


@pytest.mark.parametrize("side", [6, 25])
def test_a_network_with_a_convolution_is_explained_and_left_as_it_was(side: int) -> None:
    step = Denoising()
    network = UnfoldedIteration(Schedule([0.3, 0.9]), iteration=step)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    y = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 1, side, side)))
    outcome = network.explain(y, 0 * y)
    assert step.norm.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    words = _words(outcome, "What each layer does")
    assert ("Ritz values" in words) == (side == 25)
    # The convolution's norm is far below 1, so that every J is near (1 − γ) I.
    (section,) = (each for each in outcome.sections if each.table and "gain so far" in str(each))
    assert section.table is not None
    radii = [float(row[5]) for row in section.table.rows]
    np.testing.assert_allclose(radii, [0.7, 0.1], atol=0.25)


def test_a_pair_of_states_is_explained() -> None:
    def step(state: tuple, params: LayerParameters, y: Tensor) -> tuple:
        x, z = state
        return x - params.step * (x + z - y), z + 0.1 * (x - z)

    start = (torch.zeros(3, 4).double(), torch.zeros(3, 4).double())
    network = UnfoldedIteration(Schedule([0.3, 0.5]), iteration=step)
    outcome = network.explain(torch.ones(3, 4).double(), start)
    assert "J is the Jacobian of all that" in _words(outcome, "What each layer does")


def test_layers_that_change_the_size_are_told_to_have_no_spectra() -> None:
    def step(x: Tensor, params: LayerParameters, data: None) -> Tensor:
        return params.step * torch.nn.functional.interpolate(x[None], scale_factor=2)[0]

    step.changes_shape = True  # type: ignore[attr-defined]
    network = UnfoldedIteration(Schedule([0.5, 0.4]), iteration=step)
    words = _words(network.explain(None, torch.ones(2, 3).double()), "What each layer does")
    assert "That cannot be shown: layer 0 must hand on as much" in words


def _shrink(x: Tensor, params: LayerParameters, y: Tensor) -> Tensor:
    return x - params.step * (x - y) * (1 + params.threshold)


@pytest.mark.parametrize(
    ("steps", "threshold", "message"),
    [
        ([0.4, 0.4, 0.4], 0.1, "All 3 steps are equal, 0.4"),
        ([0.4, 0.5, 0.6], [0.1, 0.0, 0.0], "`threshold` is 0 in layers 2 and 3"),
        ([0.4, 0.001, 0.6], 0.1, "What layer 2 changes is less than 1% of any error"),
        ([2.5, 2.4, 0.2], 0.1, "enlarge a small error up to"),
        ([0.88, 0.9, 0.8], 0.1, "After layer 2 less than 0.001"),
    ],
)
def test_what_stands_out_is_named_with_its_number(steps, threshold, message) -> None:
    initial = Trainable(threshold, constraint=None)
    network = UnfoldedIteration(
        Schedule(steps), iteration=_shrink, parameters={"threshold": initial}
    )
    outcome = network.explain(torch.ones(2).double(), torch.zeros(2).double())
    assert message in _words(outcome, "What to try")


def test_a_first_layer_that_cuts_off_its_start_does_not_make_the_others_useless() -> None:
    def cut(x: Tensor, params: LayerParameters, y: Tensor) -> Tensor:
        return torch.relu(x - params.step * (x - y) - 1)

    network = UnfoldedIteration(Schedule(np.array([0.5, 0.9, 0.7, 0.8])), iteration=cut)
    start, low = torch.zeros(3, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    assert "fewer than 4" not in network.explain(low, start).summary


def test_steps_far_from_theory_are_told_and_near_ones_are_not() -> None:
    near = UnfoldedIteration(chebyshev_steps(BOUNDS, 4)).explain(_problem())
    far = UnfoldedIteration(Schedule([0.011, 0.01, 0.012, 3.0])).explain(_problem())
    assert "`theory_start" not in _words(near, "What to try")
    assert "`theory_start" in _words(far, "What to try")


def test_a_run_is_explained_with_and_without_its_network() -> None:
    network = UnfoldedIteration(Schedule([0.1, 0.3]), iteration=ProximalGradient(L1(0.1)))
    loss = SampledLoss(lambda _rng: (_problem(), torch.ones(12, dtype=torch.float64)))
    run = train(network, loss, all_at_once(2, 30))
    alone, both = explain_run(run), network.explain(_problem(), run=run, name="mine")
    headings = [section.heading for section in alone.sections]
    assert headings == ["What was learned", "Over training", "What to try"]
    assert {*headings} < {section.heading for section in both.sections}
    assert both.title == "What mine learned"
    np.testing.assert_array_equal(both.records["schedules/learned"]["steps"], run.schedule.steps)


def test_a_sample_brings_its_start() -> None:
    y = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 1, 6, 6)))
    network = UnfoldedIteration(Schedule([0.3, 0.9]), iteration=Denoising())
    both = [
        network.explain(y, 0 * y),
        network.explain(Sample(y, y)),
        network.explain(Sample(y, y, 0 * y)),
    ]
    assert len({outcome.summary for outcome in both}) == 1


def test_what_is_no_run_or_no_measure_is_refused() -> None:
    network = UnfoldedIteration(Schedule([0.1]))
    with pytest.raises(
        TypeError, match=r"`run` must be a TrainingRun, got UnfoldedIteration; .*ex"
    ):
        explain_run(network)  # type: ignore[arg-type]
    run = train(network, lambda net, *_: net.steps.sum(), all_at_once(1, 2))
    with pytest.raises(TypeError, match=r"`measure` must be a SpectralMeasure or None, got list"):
        explain_run(run, [1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`run` must be a TrainingRun or None"):
        network.explain(_problem(), run="mine")
