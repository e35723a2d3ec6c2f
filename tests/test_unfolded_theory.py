"""Steps of all layers without training."""

import numpy as np
import pytest
import torch

from stepfold import (
    LeastSquares,
    Schedule,
    SpectralBounds,
    SpectralMeasure,
    chebyshev_steps,
    constant_steps,
    optimal_steps,
)
from stepfold.iterations import Fista, HeavyBall, ProximalGradient, semi_iteration
from stepfold.polynomial import mean_squared_error
from stepfold.problems.penalties import L1
from stepfold.unfolded import (
    LayerParameters,
    Sample,
    SampledLoss,
    SpectralLoss,
    Trainable,
    UnfoldedIteration,
    all_at_once,
    squared_error,
    squared_residual,
    theory_start,
    train,
)


def least_squares(seed: int = 0, *, num_rows: int = 60, num_unknowns: int = 30, batch: int = 20):
    """A sample of consistent problems, and the eigenvalues of their Hessian."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((num_rows, num_unknowns)) / np.sqrt(num_rows)
    target = torch.from_numpy(rng.standard_normal((batch, num_unknowns)))
    operator = torch.from_numpy(matrix)
    sample = Sample(LeastSquares(operator, target @ operator.T), target)
    return sample, np.linalg.eigvalsh(matrix.T @ matrix)


def sparse(seed: int = 0, *, batch: int = 200):
    """A sample of sparse signals seen through half as many rows, and the largest eigenvalue."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((32, 64)) / np.sqrt(32)
    target = torch.from_numpy(rng.standard_normal((batch, 64)) * (rng.random((batch, 64)) < 0.06))
    operator = torch.from_numpy(matrix)
    sample = Sample(LeastSquares(operator, target @ operator.T), target)
    return sample, float(np.linalg.norm(matrix, 2)) ** 2


def thresholded(x: torch.Tensor, params: LayerParameters, data: LeastSquares) -> torch.Tensor:
    moved = data.gradient_step(x, params.step)
    return moved - moved.clamp(-params.threshold, params.threshold)


def error_of(network: UnfoldedIteration, sample: Sample) -> float:
    with torch.no_grad():
        return float(squared_error(network(sample.data, 0 * sample.target), sample))


@pytest.mark.parametrize("num_layers", [3, 8, 15])
def test_on_least_squares_no_chebyshev_steps_of_a_fine_grid_are_much_better(num_layers) -> None:
    sample, eigenvalues = least_squares(num_layers)
    network = UnfoldedIteration(Schedule(np.full(num_layers, 1 / eigenvalues[-1])))
    found = theory_start(network, sample)
    measure = SpectralMeasure.from_eigenvalues(eigenvalues)
    rivals = [
        mean_squared_error(
            chebyshev_steps(SpectralBounds(a * eigenvalues[-1], eigenvalues[-1]), num_layers),
            measure,
        )
        for a in np.geomspace(1e-3, 0.9, 60)
    ]
    assert mean_squared_error(network.schedule(), measure) <= 1.5 * min(rivals)
    assert found.loss == pytest.approx(error_of(network, sample), rel=1e-9)


@pytest.mark.parametrize("first", [0.02, 0.5, 0.9])
def test_the_upper_end_is_the_hessians_whatever_the_steps_before(first) -> None:
    sample, eigenvalues = least_squares(1)
    network = UnfoldedIteration(Schedule(np.full(6, first / eigenvalues[-1])))
    found = theory_start(network, sample)
    assert 0.97 <= found.bounds.upper / eigenvalues[-1] <= 1.06


def test_what_a_penalty_holds_still_does_not_make_the_upper_end() -> None:
    sample, largest = sparse()
    network = UnfoldedIteration(
        Schedule(np.full(30, 0.1 / largest)), iteration=thresholded, parameters={"threshold": 0.01}
    )
    assert theory_start(network, sample).bounds.upper <= 1.1 * largest


@pytest.mark.parametrize("length", [0.1, 1.0])
def test_a_curvature_that_stands_alone_at_the_inverse_step_is_no_penalty(length) -> None:
    eigenvalues = np.array([1.0, *np.linspace(0.1, 0.3, 11)])
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    operator = torch.from_numpy(np.sqrt(eigenvalues)[:, None] * rotation)
    target = torch.from_numpy(np.random.default_rng(1).standard_normal((30, 12)).clip(0, None))
    sample = Sample(LeastSquares(operator, target @ operator.T), target)

    def positive(x: torch.Tensor, params: LayerParameters, data: LeastSquares) -> torch.Tensor:
        return data.gradient_step(x, params.step).clamp(min=0)

    network = UnfoldedIteration(Schedule(np.full(40, length)), iteration=positive)
    assert 0.6 <= theory_start(network, sample).bounds.upper <= 1.06


def test_every_evaluation_of_a_layer_is_counted_and_the_budget_is_kept() -> None:
    sample, largest = sparse()
    calls = []

    def counted(x: torch.Tensor, params: LayerParameters, data: LeastSquares) -> torch.Tensor:
        calls.append(1)
        assert not torch.is_grad_enabled()
        return thresholded(x, params, data)

    network = UnfoldedIteration(
        Schedule(np.full(16, 1 / largest)), iteration=counted, parameters={"threshold": 0.02}
    )
    found = theory_start(network, sample)
    assert len(calls) == found.num_passes * 16
    assert found.num_passes <= 20


def test_thresholds_of_theory_beat_the_start_and_fista_at_equal_layers_on_other_data() -> None:
    sample, largest = sparse(0)
    other, _ = sparse(0)
    fresh = Sample(*other)
    network = UnfoldedIteration(
        Schedule(np.full(16, 1 / largest)), iteration=thresholded, parameters={"threshold": 0.02}
    )
    halves = (slice(0, 100), slice(100, 200))
    first, second = (
        Sample(LeastSquares(sample.data.operator, sample.data.rhs[half]), fresh.target[half])
        for half in halves
    )
    before = error_of(network, second)
    theory_start(network, first)
    after = error_of(network, second)
    rivals = []
    for weight in np.geomspace(0.01, 0.5, 12):
        method: Fista = Fista(L1(float(weight)))
        state = method.init(second.data, 0 * second.target)
        for _ in range(16):
            state = method.step(second.data, state, 1 / largest)
        rivals.append(float(squared_error(method.iterate(state), second)))
    assert after < 0.7 * min(rivals)
    assert after < 0.3 * before


def test_relaxations_become_chebyshev_steps_and_the_steps_stay() -> None:
    sample, eigenvalues = least_squares(2)

    def relaxed(x: torch.Tensor, params: LayerParameters, data: LeastSquares) -> torch.Tensor:
        return x + params.relaxation * (data.gradient_step(x, params.step) - x)

    step = 1 / eigenvalues[-1]
    network = UnfoldedIteration(
        Schedule([step]), iteration=relaxed, num_layers=7, parameters={"relaxation": 1.0}
    )
    found = theory_start(network, sample)
    np.testing.assert_array_equal(network.steps.detach().numpy(), [step])
    expected = chebyshev_steps(found.bounds, 7).steps
    np.testing.assert_allclose(network.learned()["relaxation"], expected, rtol=1e-12)
    assert 0.97 <= found.bounds.upper <= 1.06


def test_a_heavy_ball_becomes_the_semi_iteration() -> None:
    sample, eigenvalues = least_squares(3)
    network = UnfoldedIteration(
        Schedule(np.full(6, 0.5 / eigenvalues[-1])),
        iteration=HeavyBall(0.5),
        parameters={"momentum": 0.5},
    )
    before = error_of(network, sample)
    found = theory_start(network, sample)
    schedule, method = semi_iteration(found.bounds)
    state = method.init(sample.data, 0 * sample.target)
    for _ in range(6):
        state = method.step(sample.data, state, schedule[0])
    with torch.no_grad():
        output = network(sample.data, 0 * sample.target)
    torch.testing.assert_close(output, method.iterate(state), rtol=1e-9, atol=1e-12)
    assert found.loss < before


def test_shared_momentum_is_dropped() -> None:
    sample, eigenvalues = least_squares(3)
    network = UnfoldedIteration(
        Schedule(np.full(6, 0.5 / eigenvalues[-1])),
        iteration=HeavyBall(0.5),
        parameters={"momentum": Trainable(0.2, period=1)},
    )
    found = theory_start(network, sample)
    assert network.learned()["momentum"].tolist() == [0.0]
    assert found.loss == pytest.approx(error_of(network, sample), rel=1e-9)


def test_values_that_no_lower_end_improves_stay() -> None:
    sample, eigenvalues = least_squares(7, num_unknowns=8, batch=1)
    exact = Schedule(1 / eigenvalues)
    network = UnfoldedIteration(exact)
    found = theory_start(network, sample)
    np.testing.assert_array_equal(found.schedule.steps, exact.steps)
    assert found.bounds.lower == found.bounds.upper


def test_the_weight_of_a_penalty_is_set_for_every_layer() -> None:
    sample, largest = sparse()
    network = UnfoldedIteration(
        Schedule(np.full(10, 1 / largest)),
        iteration=ProximalGradient(L1(0.1)),
        parameters={"penalty.weight": 0.1},
    )
    before = error_of(network, sample)
    theory_start(network, sample)
    assert len(set(network.learned()["penalty.weight"].tolist())) > 1
    assert error_of(network, sample) < 0.5 * before


def test_a_shared_ridge_term_comes_near_the_best_one() -> None:
    rng = np.random.default_rng(11)
    matrix = torch.from_numpy(rng.standard_normal((40, 20)) / np.sqrt(40))
    target = torch.from_numpy(rng.standard_normal((300, 20)))
    noise = np.sqrt(0.2) * torch.from_numpy(rng.standard_normal((300, 40)))
    sample = Sample(LeastSquares(matrix, target @ matrix.T + noise), target)

    def layer(x: torch.Tensor, params: LayerParameters, data: LeastSquares) -> torch.Tensor:
        return x - params.step * (data.gradient(x) + params.ridge * x)

    largest = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    network = UnfoldedIteration(
        Schedule(np.full(12, 1 / largest)),
        iteration=layer,
        parameters={"ridge": Trainable(0.02, period=1)},
    )
    found = theory_start(network, sample, max_passes=60)
    wiener = torch.linalg.solve(
        matrix.T @ matrix + 0.2 * torch.eye(20, dtype=torch.float64), matrix.T
    )
    best = float(((sample.data.rhs @ wiener.T - target) ** 2).mean())
    assert 0.05 < network.learned()["ridge"][0] < 0.5
    assert found.loss < 1.05 * best


def test_what_layers_share_and_what_has_either_sign_stays() -> None:
    sample, largest = sparse()

    def layer(x: torch.Tensor, params: LayerParameters, data: LeastSquares) -> torch.Tensor:
        return thresholded(x, params, data) + params.drift + 0 * params.ridge

    network = UnfoldedIteration(
        Schedule(np.full(8, 1 / largest)),
        iteration=layer,
        parameters={
            "threshold": 0.02,
            "ridge": Trainable(0.3, period=1),
            "drift": Trainable(0.0, constraint=None),
        },
    )
    theory_start(network, sample)
    assert network.learned()["ridge"].tolist() == [0.3]
    assert not network.learned()["drift"].any()
    assert len(set(network.learned()["threshold"].tolist())) > 1


def test_a_period_is_kept() -> None:
    sample, eigenvalues = least_squares(4)
    network = UnfoldedIteration(
        constant_steps(SpectralBounds(0.01, float(eigenvalues[-1])), 3), num_layers=9
    )
    found = theory_start(network, sample)
    assert network.steps.shape == (3,)
    np.testing.assert_array_equal(found.schedule.steps, np.tile(network.steps.detach(), 3))


def test_complex_layers_and_a_sample_without_targets_will_do() -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((20, 12)) + 1j * rng.standard_normal((20, 12))
    operator = torch.from_numpy(matrix)
    rhs = torch.from_numpy(rng.standard_normal((4, 20)) + 0j)
    problem = LeastSquares(operator, rhs)
    start = torch.zeros(4, 12, dtype=operator.dtype)
    largest = float(np.linalg.norm(matrix, 2)) ** 2
    network = UnfoldedIteration(Schedule(np.full(8, 1 / largest)))
    sample = Sample(problem, None, start)

    def residual() -> float:
        with torch.no_grad():
            return float(squared_residual(network(problem, start), sample))

    before = residual()
    found = theory_start(network, sample, criterion=squared_residual)
    assert 0.97 <= found.bounds.upper / largest <= 1.06
    assert residual() < 0.1 * before


def test_training_from_theory_begins_at_the_optimum_where_the_measure_is_known() -> None:
    measure = SpectralMeasure.from_eigenvalues(np.linspace(0.1, 2.0, 50))
    network = UnfoldedIteration(Schedule(np.full(6, 0.3)))

    def optimizer(parameters):
        return torch.optim.SGD(parameters, lr=1e-12)

    train(network, SpectralLoss(measure), all_at_once(6, 1), start="theory", optimizer=optimizer)
    best = mean_squared_error(optimal_steps(measure, 6), measure)
    assert mean_squared_error(network.schedule(), measure) == pytest.approx(best, rel=1e-6)


class Signals:
    """Sampler of the same sparse problems, drawn anew."""

    def __call__(self, rng: np.random.Generator) -> Sample:
        return sparse(int(rng.integers(2**31)), batch=20)[0]


def thresholds() -> UnfoldedIteration:
    return UnfoldedIteration(
        Schedule(np.full(5, 0.1)), iteration=thresholded, parameters={"threshold": 0.02}
    )


def test_training_from_theory_starts_there_and_a_resumed_one_ends_with_the_same_bits(
    tmp_path,
) -> None:
    loss = SampledLoss(Signals())
    whole, parted, plain = thresholds(), thresholds(), thresholds()
    run = train(whole, loss, all_at_once(5, 6), start="theory")
    place = {"checkpoint": tmp_path / "c.pt", "checkpoint_every": 2, "start": "theory"}
    train(parted, loss, all_at_once(5, 6), callback=lambda now: now.done == 3, **place)
    again = thresholds()
    train(again, loss, all_at_once(5, 6), resume=True, **place)
    for name, values in whole.state_dict().items():
        assert torch.equal(values, again.state_dict()[name])
    rival = train(plain, loss, all_at_once(5, 6))
    assert run.history.losses[0][0] < 0.7 * rival.history.losses[0][0]


def test_a_loss_that_shows_no_data_is_refused_with_the_remedy() -> None:
    network = UnfoldedIteration(Schedule([0.5]))
    with pytest.raises(TypeError, match=r"needs a sampler.*theory_start\(network, sample\)"):
        train(network, lambda net, layers, rng: net.steps.sum(), start="theory")  # noqa: ARG005


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"network": 3}, TypeError, "`network` must be an UnfoldedIteration, got int"),
        ({"sample": torch.ones(3)}, TypeError, "`sample` must be a Sample"),
        ({"criterion": "mse"}, TypeError, "`criterion` must be a function"),
        ({"max_passes": 0}, ValueError, "`max_passes` must be"),
        ({"max_passes": 2}, ValueError, "`max_passes` must be at least"),
    ],
)
def test_bad_arguments_are_refused(change, error, words) -> None:
    sample, eigenvalues = least_squares(6)
    network = UnfoldedIteration(Schedule(np.full(4, 1 / eigenvalues[-1])))
    arguments = {"network": network, "sample": sample, "max_passes": 20, **change}
    steps = network.steps.detach().clone()
    with pytest.raises(error, match=words):
        theory_start(arguments.pop("network"), arguments.pop("sample"), **arguments)
    assert torch.equal(network.steps.detach(), steps)


def test_targets_that_do_not_fit_the_problem_are_refused() -> None:
    sample, eigenvalues = least_squares(6)
    network = UnfoldedIteration(Schedule(np.full(4, 1 / eigenvalues[-1])))
    with pytest.raises(ValueError, match="the shape that its problem has"):
        theory_start(network, sample._replace(target=sample.target[:, :3]))
    with pytest.raises(ValueError, match="the dtype that its problem has"):
        theory_start(network, sample._replace(target=sample.target.float()))


def test_from_steps_with_which_float32_overflows_theory_finds_good_ones() -> None:
    sample, eigenvalues = least_squares(8)
    single = Sample(
        LeastSquares(sample.data.operator.float(), sample.data.rhs.float()), sample.target.float()
    )
    network = UnfoldedIteration(Schedule(np.full(20, 300 / eigenvalues[-1])), dtype=torch.float32)
    found = theory_start(network, single)
    assert found.loss < 0.01


def test_a_compiled_network_is_set_too() -> None:
    sample, eigenvalues = least_squares(9)
    network = UnfoldedIteration(Schedule(np.full(5, 1 / eigenvalues[-1])))
    theory_start(torch.compile(network, backend="eager"), sample)
    assert len(set(network.steps.tolist())) == 5


def test_an_unknown_start_is_refused() -> None:
    network = UnfoldedIteration(Schedule([0.5]))
    with pytest.raises(ValueError, match="`start` must be"):
        train(network, Signals(), start="chebyshev")


def test_layers_that_diverge_are_refused_and_left_alone() -> None:
    def exploding(x: torch.Tensor, params: LayerParameters, data: None) -> torch.Tensor:
        return x * params.step * torch.inf

    network = UnfoldedIteration(Schedule([0.5, 0.5]), iteration=exploding)
    sample = Sample(None, torch.ones(3), torch.ones(3))
    with pytest.raises(ArithmeticError, match="does not diverge"):
        theory_start(network, sample)
    assert network.steps.tolist() == [0.5, 0.5]
