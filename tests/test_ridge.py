"""Ridges chosen from the data, beside dense oracles and beside the best ridge there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.linalg import hilbert
from scipy.sparse.linalg import aslinearoperator

from stepfold import LeastSquares, Quadratic
from stepfold.ridge import CROSS_VALIDATION, DISCREPANCY, ROBUSTNESS, RidgeChoice, choose_ridge

N = 48
GRID = (np.arange(N) + 0.5) / N


def _blur() -> tuple[Any, Any]:
    matrix = np.exp(-(((GRID[:, None] - GRID) * 20) ** 2) / 2)
    return matrix / matrix.sum(1, keepdims=True), np.where(abs(GRID - 0.3) < 0.1, 1.0, GRID)


def _second_derivative() -> tuple[Any, Any]:
    """Green's function of the second derivative: its singular values fall like 1/k²."""
    small, large = np.minimum(GRID[:, None], GRID), np.maximum(GRID[:, None], GRID)
    return small * (1 - large) / N, np.minimum(GRID, 1 - GRID)


def _integration() -> tuple[Any, Any]:
    return np.tril(np.ones((N, N))) / N, np.sin(4 * GRID)


def _hilbert() -> tuple[Any, Any]:
    return hilbert(N), np.sin(np.pi * GRID) + GRID


def _tomography() -> tuple[Any, Any]:
    """A disc in 12 × 12 pixels, 18 directions of 14 rays: more equations than unknowns."""
    places = (np.arange(12) + 0.5) / 12 - 0.5
    x, y = (axis.ravel() for axis in np.meshgrid(places, places))
    angles = np.linspace(0, np.pi, 18, endpoint=False)[:, None, None]
    offsets = np.linspace(-0.6, 0.6, 14)[:, None]
    distance = np.abs(x * np.cos(angles) + y * np.sin(angles) - offsets)
    matrix = np.maximum(0, 1 - 8 * distance).reshape(-1, 144) / 12
    return matrix, 1.0 * (x**2 + y**2 < 0.1)


PROBLEMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "blur": _blur,
    "Hilbert": _hilbert,
    "integration": _integration,
    "second derivative": _second_derivative,
    "tomography": _tomography,
}


def _noisy(matrix: Any, x: Any, level: float, seed: int) -> tuple[Any, float]:
    """Data with noise of a relative size, and its standard deviation."""
    data = matrix @ x
    sigma = level * np.linalg.norm(data) / np.sqrt(data.size)
    return data + sigma * np.random.default_rng(seed).standard_normal(data.size), sigma


def _solution(matrix: Any, rhs: Any, ridge: float) -> Any:
    # Of the stacked system, not of the normal equations, whose rounding is larger.
    stacked = np.vstack([matrix, np.sqrt(ridge) * np.eye(matrix.shape[1])])
    zeros = np.zeros(matrix.shape[1])
    return np.linalg.lstsq(stacked, np.concatenate([rhs, zeros]), rcond=None)[0]


def _error_over_least(matrix: Any, x: Any, rhs: Any, ridge: float) -> float:
    """Error of a ridge over that of the best of sixty."""
    tried = np.linalg.norm(matrix, 2) ** 2 * np.geomspace(1e-14, 1, 60)
    errors = [np.linalg.norm(_solution(matrix, rhs, each) - x) for each in tried]
    return float(np.linalg.norm(_solution(matrix, rhs, ridge) - x) / min(errors))


def _hidden(matrix: Any) -> Any:
    """The matrix as an operator without entries, for which no decomposition is made."""
    return aslinearoperator(matrix)


def _plain(matrix: Any) -> Any:
    return matrix


WAYS = {"decomposition": _plain, "steps": _hidden}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("level", [1e-3, 3e-2])
@pytest.mark.parametrize("way", WAYS)
def test_cross_validation_comes_near_the_best_ridge(name: str, level: float, way: str) -> None:
    matrix, x = PROBLEMS[name]()
    ratios = []
    for seed in range(5):
        rhs, _ = _noisy(matrix, x, level, seed)
        ridge = choose_ridge(LeastSquares(WAYS[way](matrix), rhs)).ridge
        ratios.append(_error_over_least(matrix, x, rhs, ridge))
    assert np.median(ratios) < 1.5


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("level", [1e-3, 3e-2])
@pytest.mark.parametrize("way", WAYS)
def test_the_discrepancy_principle_never_fits_the_noise(name: str, level: float, way: str) -> None:
    matrix, x = PROBLEMS[name]()
    for seed in range(5):
        rhs, sigma = _noisy(matrix, x, level, seed)
        choice = choose_ridge(LeastSquares(WAYS[way](matrix), rhs), noise=sigma)
        assert _error_over_least(matrix, x, rhs, choice.ridge) < 4


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("way", WAYS)
def test_the_residual_is_as_large_as_the_noise_may_be(name: str, way: str) -> None:
    matrix, x = PROBLEMS[name]()
    rhs, sigma = _noisy(matrix, x, 1e-2, 0)
    choice = choose_ridge(LeastSquares(WAYS[way](matrix), rhs), noise=sigma)
    expected = sigma * np.sqrt(rhs.size + 2 * np.sqrt(2 * rhs.size))
    residual = np.linalg.norm(matrix @ _solution(matrix, rhs, choice.ridge) - rhs)
    assert residual == pytest.approx(expected, rel=1e-6 if way == "decomposition" else 0.02)
    assert choice.residual_norm == pytest.approx(residual, rel=0.02)
    assert (choice.rule, choice.noise) == (DISCREPANCY, sigma)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_score_is_least_at_the_ridge_chosen(name: str) -> None:
    matrix, x = PROBLEMS[name]()
    rhs, _ = _noisy(matrix, x, 1e-2, 3)
    size = rhs.size

    def score(ridge: float) -> float:
        # The map from data to fitted data, by solving with every unit vector.
        fit = matrix @ np.linalg.solve(
            matrix.T @ matrix + ridge * np.eye(matrix.shape[1]), matrix.T
        )
        residual = np.linalg.norm(rhs - fit @ rhs) ** 2
        robust = ROBUSTNESS + (1 - ROBUSTNESS) * np.trace(fit @ fit) / size
        return float(size * residual / (size - np.trace(fit)) ** 2 * robust)

    choice = choose_ridge(LeastSquares(matrix, rhs))
    tried = np.linalg.norm(matrix, 2) ** 2 * np.geomspace(1e-11, 10, 80)
    assert score(choice.ridge) <= min(map(score, tried)) * (1 + 1e-9)
    assert choice.rule == CROSS_VALIDATION


@pytest.mark.parametrize("level", [1e-3, 1e-2, 1e-1])
@pytest.mark.parametrize("way", WAYS)
def test_the_noise_is_estimated(level: float, way: str) -> None:
    matrix, x = _tomography()
    rhs, sigma = _noisy(matrix, x, level, 1)
    assert choose_ridge(LeastSquares(WAYS[way](matrix), rhs)).noise == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("noise", [None, 2e-3])
def test_many_unknowns_are_decided_by_steps(noise: float | None) -> None:
    one = sp.diags_array([0.1, 0.2, 0.4, 0.2, 0.1], offsets=range(-2, 3), shape=(60, 60))
    matrix = sp.kron(one, one).tocsr()
    x = np.outer(GRID[:30].repeat(2), np.sin(np.linspace(0, 3, 60))).ravel()
    rhs = matrix @ x + 2e-3 * np.random.default_rng(0).standard_normal(x.size)
    choice = choose_ridge(LeastSquares(matrix, rhs), noise=noise)
    assert 0 < choice.num_products < 1000
    # The eigenvalues of a Kronecker product are products, so the oracle stays small.
    values, vectors = np.linalg.eigh(one.toarray())
    values = np.outer(values, values).ravel()
    data = (vectors.T @ rhs.reshape(60, 60) @ vectors).ravel()

    def score(ridge: float) -> float:
        left = ridge / (values**2 + ridge)
        if noise is not None:
            target = noise**2 * (x.size + 2 * np.sqrt(2 * x.size))
            return float(abs(np.sum((left * data) ** 2) / target - 1))
        robust = ROBUSTNESS + (1 - ROBUSTNESS) * np.mean((1 - left) ** 2)
        return float(np.mean((left * data) ** 2) / np.mean(left) ** 2 * robust)

    least = min(map(score, np.geomspace(1e-9, 1, 2000)))
    assert score(choice.ridge) < (1.02 * least if noise is None else least + 0.02)


@pytest.mark.parametrize("noise", [None, 1e-2])
@pytest.mark.parametrize("way", WAYS)
def test_the_ridge_has_the_units_of_the_squared_matrix(noise: float | None, way: str) -> None:
    matrix, x = _blur()
    rhs = matrix @ x + 1e-2 * np.random.default_rng(2).standard_normal(N)
    plain = choose_ridge(LeastSquares(WAYS[way](matrix), rhs), noise=noise).ridge
    scaled = LeastSquares(WAYS[way](2.0**20 * matrix), 2.0**-40 * rhs)
    noise = None if noise is None else 2.0**-40 * noise
    assert choose_ridge(scaled, noise=noise).ridge == pytest.approx(2.0**40 * plain, rel=1e-6)


@pytest.mark.parametrize("noise", [None, 1e-2])
@pytest.mark.parametrize("way", WAYS)
def test_complex_data_are_chosen_for_as_real_ones_are(noise: float | None, way: str) -> None:
    matrix, x = _blur()
    turned = np.exp(1j * np.arange(N))[:, None] * matrix  # a unitary map of the equations
    rhs = matrix @ x + 1e-2 * np.random.default_rng(2).standard_normal(N)
    real = choose_ridge(LeastSquares(matrix, rhs), noise=noise).ridge
    problem = LeastSquares(WAYS[way](turned), np.exp(1j * np.arange(N)) * rhs)
    found = choose_ridge(problem, noise=noise).ridge
    assert found == pytest.approx(real, rel=1e-6 if way == "decomposition" else 0.6)


@pytest.mark.parametrize("noise", [None, 1e-2])
@pytest.mark.parametrize("way", WAYS)
def test_equal_right_hand_sides_get_the_ridge_of_one(noise: float | None, way: str) -> None:
    matrix, x = _second_derivative()
    rhs, sigma = _noisy(matrix, x, 1e-2, 4)
    noise = None if noise is None else 2 * sigma
    one = choose_ridge(LeastSquares(WAYS[way](matrix), rhs), noise=noise)
    three = choose_ridge(LeastSquares(WAYS[way](matrix), np.stack([rhs] * 3)), noise=noise)
    if noise is None:
        assert three.ridge == pytest.approx(one.ridge, rel=1e-6)
        assert three.noise == pytest.approx(one.noise, rel=1e-6)
    else:  # the norm of the noise of many entries is known better
        assert three.ridge < one.ridge


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, sp.csc_array, torch.from_numpy])
def test_every_kind_of_matrix_gives_the_same_ridge(dtype: Any, make: Callable[..., Any]) -> None:
    matrix, x = _tomography()
    rhs, sigma = _noisy(matrix, x, 3e-2, 0)
    expected = choose_ridge(LeastSquares(matrix, rhs), noise=sigma).ridge
    rows = rhs.astype(dtype)
    rows = torch.from_numpy(rows) if make is torch.from_numpy else rows
    found = choose_ridge(LeastSquares(make(matrix.astype(dtype)), rows), noise=sigma).ridge
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_data_without_noise_get_the_smallest_ridge(way: str) -> None:
    tall = np.random.default_rng(1).standard_normal((40, 3))
    choice = choose_ridge(LeastSquares(WAYS[way](tall), tall @ np.ones(3)))
    assert choice.ridge < 1e-8
    assert "the data show no noise" in str(choice)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("diagonal", [np.ones(30), np.linspace(1, 2, 30)])
def test_what_cannot_be_told_from_noise_is_refused(way: str, diagonal: Any) -> None:
    matrix = np.diag(diagonal)
    problem = LeastSquares(WAYS[way](matrix), matrix @ np.ones(30))
    with pytest.raises(ValueError, match="`noise` must be given for this problem"):
        choose_ridge(problem)
    assert choose_ridge(problem, noise=0.1).ridge < 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e150, 1e300])
@pytest.mark.parametrize("noise", [None, 1e-2])
def test_the_ridge_does_not_depend_on_the_units_of_the_data(
    way: str, scale: float, noise: float | None
) -> None:
    matrix, x = _blur()
    rhs = matrix @ x + 1e-2 * np.random.default_rng(2).standard_normal(N)
    plain = choose_ridge(LeastSquares(WAYS[way](matrix), rhs), noise=noise)
    noise = None if noise is None else scale * noise
    scaled = choose_ridge(LeastSquares(WAYS[way](matrix), scale * rhs), noise=noise)
    assert scaled.ridge == pytest.approx(plain.ridge, rel=1e-6)
    assert scaled.noise == pytest.approx(scale * plain.noise, rel=1e-6, abs=0)
    assert scaled.residual_norm == pytest.approx(scale * plain.residual_norm, rel=1e-6, abs=0)


@pytest.mark.parametrize("way", WAYS)
def test_data_of_noise_alone_are_refused(way: str) -> None:
    matrix = np.random.default_rng(1).standard_normal((200, 3))
    rhs = np.random.default_rng(0).standard_normal(200)
    rhs -= matrix @ np.linalg.lstsq(matrix, rhs)[0]
    problem = LeastSquares(WAYS[way](matrix), rhs + 1e-3 * matrix @ np.ones(3))
    with pytest.raises(ValueError, match="the data look like noise"):
        choose_ridge(problem)


def test_integers_and_half_precision_are_taken() -> None:
    matrix, x = _tomography()
    integers = np.round(1000 * matrix).astype(int)
    rhs = integers @ x + np.random.default_rng(0).standard_normal(len(matrix))
    expected = choose_ridge(LeastSquares(integers.astype(float), rhs), noise=1.0).ridge
    for way in WAYS.values():
        found = choose_ridge(LeastSquares(way(integers), rhs), noise=1.0).ridge
        assert found == pytest.approx(expected, rel=0.1)
    half = LeastSquares(matrix.astype(np.float16), (rhs / 1000).astype(np.float16))
    expected = choose_ridge(LeastSquares(matrix, rhs / 1000), noise=8e-3).ridge
    assert choose_ridge(half, noise=8e-3).ridge == pytest.approx(expected, rel=0.1)


def test_the_same_seed_gives_the_same_ridge() -> None:
    matrix, x = _tomography()
    problem = LeastSquares(_hidden(matrix), _noisy(matrix, x, 1e-2, 0)[0])
    first, second = (choose_ridge(problem, seed=7) for _ in range(2))
    assert first == second


def test_a_budget_of_steps_that_is_too_small_is_told() -> None:
    matrix, x = _second_derivative()
    problem = LeastSquares(_hidden(matrix), _noisy(matrix, x, 1e-4, 0)[0])
    choice = choose_ridge(problem, max_steps=3)
    assert choice.num_products <= 12
    assert "3 Golub–Kahan steps do not bound what it rests on" in str(choice)


def test_a_record_prints_and_is_plain_data() -> None:
    choice = RidgeChoice(0.25, DISCREPANCY, 0.5, 2.0, 12, ("A note.",))
    assert str(choice) == "0.25 by discrepancy principle, noise 0.5 (given). A note."
    assert choice.to_dict()["notes"] == ["A note."]


MATRIX, RHS = np.eye(4), np.arange(4.0)


@pytest.mark.parametrize(
    ("problem", "options", "error", "words"),
    [
        (Quadratic(MATRIX, RHS), {}, TypeError, "`problem` must be LeastSquares, got Quadratic"),
        (LeastSquares(MATRIX, RHS, ridge=1.0), {}, ValueError, "must have no ridge, got 1.0"),
        (LeastSquares(MATRIX, 0 * RHS), {}, ValueError, "`problem.rhs` must not be 0"),
        (LeastSquares(0 * MATRIX, RHS), {}, ValueError, "the operator is zero"),
        (LeastSquares(_hidden(0 * MATRIX), RHS), {}, ValueError, "the operator is zero"),
        (LeastSquares(MATRIX, RHS), {"noise": 0}, ValueError, "`noise` must be positive"),
        (LeastSquares(MATRIX, RHS), {"noise": -1.0}, ValueError, "`noise` must be positive"),
        (LeastSquares(MATRIX, RHS), {"noise": np.nan}, ValueError, "`noise` must be positive"),
        (LeastSquares(MATRIX, RHS), {"noise": "1"}, TypeError, "`noise` must be a positive"),
        (LeastSquares(MATRIX, RHS), {"noise": 9.0}, ValueError, "well below 1.871"),
        (LeastSquares(MATRIX[:, :2], RHS), {"noise": 0.1}, ValueError, "must be at least 1.16"),
        (LeastSquares(_hidden(MATRIX[:, :1]), RHS), {}, ValueError, "a right-hand side that A can"),
        (LeastSquares(MATRIX, RHS), {"max_steps": 0}, ValueError, "`max_steps` must be"),
    ],
)
def test_what_has_no_answer_is_refused(
    problem: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace(".", r"\.")):
        choose_ridge(problem, **options)
