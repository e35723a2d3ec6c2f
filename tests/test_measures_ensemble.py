"""Steps made from a few draws must serve the next one."""

import statistics

import numpy as np
import pytest

from stepfold import SpectralMeasure
from stepfold.measure import ensemble_measure
from stepfold.polynomial import mean_squared_error
from stepfold.schedules.optimal import nearly_optimal_steps


def gaussian(num_rows: int, num_columns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((num_rows, num_columns)) / np.sqrt(num_rows)
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def signs(num_rows: int, num_columns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = rng.choice([-1.0, 1.0], (num_rows, num_columns)) / np.sqrt(num_rows)
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def correlated(num_rows: int, num_columns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    deviations = np.geomspace(0.2, 1.0, num_columns)
    matrix = rng.standard_normal((num_rows, num_columns)) * deviations / np.sqrt(num_rows)
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def spiked(num_rows: int, num_columns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    deviations = np.append(np.ones(num_columns - 1), 4.0)
    matrix = rng.standard_normal((num_rows, num_columns)) * deviations / np.sqrt(num_rows)
    return np.linalg.svd(matrix, compute_uv=False) ** 2


FAMILIES = {"gaussian": gaussian, "signs": signs, "correlated": correlated, "spiked": spiked}


def errors(name: str, shape: tuple[int, int], period: int, num_draws: int = 1) -> list[float]:
    """Median over draws of the mean error on fresh ones: of the plain and the smeared measure."""
    family = FAMILIES[name]
    fresh = [SpectralMeasure.from_eigenvalues(family(*shape, 1000 + k)) for k in range(16)]
    results: list[list[float]] = [[], []]
    for seed in range(5):
        draws = np.array([family(*shape, 50 * seed + k) for k in range(num_draws)])
        plain = SpectralMeasure.mixture([SpectralMeasure.from_eigenvalues(d) for d in draws])
        for measure, values in zip((plain, ensemble_measure(draws)), results, strict=True):
            steps = nearly_optimal_steps(measure, period)
            values.append(statistics.fmean(mean_squared_error(steps, other) for other in fresh))
    return [statistics.median(values) for values in results]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", [(120, 60), (100, 90)])
@pytest.mark.parametrize("period", [2, 4, 6])
def test_smearing_hardly_ever_hurts_short_schedules(
    name: str, shape: tuple[int, int], period: int
) -> None:
    plain, smeared = errors(name, shape, period)
    assert smeared < 1.15 * plain


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", [(120, 60), (100, 90)])
def test_smearing_saves_long_schedules(name: str, shape: tuple[int, int]) -> None:
    plain, smeared = errors(name, shape, 16)
    assert smeared < 0.01 * plain
    assert smeared < 0.15


@pytest.mark.parametrize("period", [5, 12])
def test_more_draws_bring_the_smeared_optimum_closer(period: int) -> None:
    one = errors("gaussian", (120, 60), period)[1]
    eight = errors("gaussian", (120, 60), period, num_draws=8)[1]
    assert eight < 1.02 * one


def test_widths_shrink_with_the_number_of_draws() -> None:
    draw = np.linspace(1.0, 2.0, 20)
    one, eight = ensemble_measure(draw), ensemble_measure(np.tile(draw, (8, 1)))
    assert one.bounds.lower < eight.bounds.lower < 1.0
    assert one.bounds.upper > eight.bounds.upper > 2.0


def test_an_outlier_is_not_smeared_over_the_gap() -> None:
    eigenvalues = np.append(np.linspace(1.0, 2.0, 99), 100.0)
    measure = ensemble_measure(eigenvalues)
    assert measure.cumulative(20.0) == pytest.approx(0.99, abs=1e-6)
    assert measure.cumulative(200.0) == pytest.approx(1.0, abs=1e-6)


def test_a_kernel_stays_a_kernel() -> None:
    eigenvalues = np.concatenate([np.zeros(10), np.linspace(1.0, 2.0, 10)])
    measure = ensemble_measure(eigenvalues)
    assert measure.cumulative(0.0) == pytest.approx(0.5)
    assert measure.nodes[measure.nodes > 0].min() > 0.4


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_smearing_scales_with_the_hessian(scale: float) -> None:
    eigenvalues = gaussian(60, 30, 0)
    scaled = ensemble_measure(eigenvalues * scale)
    np.testing.assert_allclose(scaled.nodes / scale, ensemble_measure(eigenvalues).nodes, rtol=1e-9)


@pytest.mark.parametrize("eigenvalues", [[2.0], [1.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0]])
def test_tiny_and_degenerate_spectra_are_served(eigenvalues: list[float]) -> None:
    measure = ensemble_measure(eigenvalues)
    assert measure.nodes.min() >= 0
    mean = sum(eigenvalues) / len(eigenvalues)
    assert mean * (1 - 1e-12) <= measure.mean(lambda x: x) <= 2.0001 * mean


def test_the_order_of_eigenvalues_does_not_matter() -> None:
    eigenvalues = gaussian(60, 30, 0)
    np.testing.assert_array_equal(
        ensemble_measure(eigenvalues[::-1]).nodes, ensemble_measure(eigenvalues).nodes
    )


def test_negative_eigenvalues_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`eigenvalues` must be at least 0, got -1\.0"):
        ensemble_measure([1.0, -1.0])


def test_no_eigenvalues_are_refused() -> None:
    with pytest.raises(ValueError, match="hold at least one number, got shape"):
        ensemble_measure([])


def test_a_stack_of_stacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(n,\) or \(draws, n\)"):
        ensemble_measure(np.ones((2, 2, 2)))


def test_missing_eigenvalues_are_refused() -> None:
    with pytest.raises(ValueError, match="`eigenvalues` must be finite, got nan at index 1"):
        ensemble_measure([1.0, np.nan])


def test_complex_eigenvalues_are_refused() -> None:
    with pytest.raises(TypeError, match="`eigenvalues` must hold real numbers, got dtype complex"):
        ensemble_measure(np.array([1.0 + 1j]))
