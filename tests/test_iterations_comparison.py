"""The published comparison: n = 300, m = 450, T = 16 four times, error norms at every iteration."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import cg

from stepfold import Quadratic, SpectralBounds, chebyshev_steps, constant_steps
from stepfold.iterations import GradientDescent, heavy_ball, nesterov, semi_iteration
from stepfold.polynomial import chebyshev_period_rate, constant_rate

T, PERIODS = 16, 4
LAST = T * PERIODS


@pytest.fixture(scope="module")
def setting() -> tuple[Quadratic[Any], np.ndarray, SpectralBounds]:
    rng = np.random.RandomState(12)
    matrix = rng.normal(0, 1 / np.sqrt(300), (300, 450))
    hessian = matrix @ matrix.T
    solution = rng.normal(0, 1, 300)
    eigenvalues = np.linalg.eigvalsh(hessian)
    bounds = SpectralBounds(eigenvalues[0], eigenvalues[-1])
    return Quadratic(hessian, hessian @ solution), solution, bounds


@pytest.fixture(scope="module")
def iterates(setting: tuple[Quadratic[Any], np.ndarray, SpectralBounds]) -> dict[str, np.ndarray]:
    problem, _, bounds = setting
    methods: dict[str, tuple[Any, Any]] = {
        "constant": (constant_steps(bounds), GradientDescent()),
        "Chebyshev": (chebyshev_steps(bounds, T), GradientDescent()),
        "heavy ball": heavy_ball(bounds),
        "Nesterov": nesterov(bounds),
        "semi-iteration": semi_iteration(bounds),
    }
    paths = {}
    for name, (schedule, iteration) in methods.items():
        state = iteration.init(problem, np.zeros(300))
        path = [iteration.iterate(state)]
        for t in range(LAST):
            state = iteration.step(problem, state, schedule(t))
            path.append(iteration.iterate(state))
        paths[name] = np.array(path)
    path = [np.zeros(300)]
    cg(
        problem.hessian,
        problem.linear_term,
        rtol=0.0,
        maxiter=LAST,
        callback=lambda x: path.append(x.copy()),
    )
    paths["conjugate gradients"] = np.array(path)
    return paths


@pytest.fixture(scope="module")
def errors(
    iterates: dict[str, np.ndarray],
    setting: tuple[Quadratic[Any], np.ndarray, SpectralBounds],
) -> dict[str, np.ndarray]:
    solution = setting[1]
    return {name: np.linalg.norm(path - solution, axis=1) for name, path in iterates.items()}


@pytest.fixture(scope="module")
def energies(
    iterates: dict[str, np.ndarray],
    setting: tuple[Quadratic[Any], np.ndarray, SpectralBounds],
) -> dict[str, np.ndarray]:
    problem, solution, _ = setting
    root = np.linalg.cholesky(problem.hessian).T
    return {
        name: np.linalg.norm((path - solution) @ root.T, axis=1) for name, path in iterates.items()
    }


def test_all_start_from_the_same_error(errors: dict[str, np.ndarray]) -> None:
    assert {len(norms) for norms in errors.values()} == {LAST + 1}
    assert len({float(norms[0]) for norms in errors.values()}) == 1


@pytest.mark.parametrize("t", range(2 * T, LAST + 1, T))
def test_ranking_at_period_ends(errors: dict[str, np.ndarray], t: int) -> None:
    ranked = sorted(errors, key=lambda name: errors[name][t])
    assert ranked == [
        "conjugate gradients",
        "semi-iteration",
        "heavy ball",
        "Chebyshev",
        "Nesterov",
        "constant",
    ]


def test_after_one_period_momentum_is_a_little_ahead_on_average(
    errors: dict[str, np.ndarray],
) -> None:
    # Chebyshev polynomials are best in the worst case; this start is no worst case.
    at = {name: norms[T] for name, norms in errors.items()}
    best = at.pop("conjugate gradients")
    assert best < 0.5 * min(at.values())
    assert at["heavy ball"] < at["Nesterov"] < at["Chebyshev"] < 1.15 * at["heavy ball"]
    assert at["constant"] > 2.5 * at["Chebyshev"]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("constant", 1.60e-2),
        ("Chebyshev", 8.80e-6),
        ("heavy ball", 3.52e-6),
        ("Nesterov", 1.47e-4),
        ("semi-iteration", 1.36e-6),
        ("conjugate gradients", 4.00e-7),
    ],
)
def test_what_is_left_of_the_error_after_64_iterations(
    errors: dict[str, np.ndarray], name: str, left: float
) -> None:
    assert errors[name][LAST] / errors[name][0] == pytest.approx(left, rel=5e-3)


@pytest.mark.parametrize("t", range(1, LAST + 1))
def test_conjugate_gradients_have_the_smallest_energy_norm_at_every_iteration(
    energies: dict[str, np.ndarray], t: int
) -> None:
    best = energies["conjugate gradients"][t]
    assert all(best <= norms[t] * (1 + 1e-9) for norms in energies.values())


def test_in_the_error_norm_nothing_promises_that(errors: dict[str, np.ndarray]) -> None:
    ahead = errors["constant"] < errors["conjugate gradients"]
    assert np.flatnonzero(ahead).tolist() == [1]


def test_semi_iteration_equals_chebyshev_steps_at_t_and_only_there(
    errors: dict[str, np.ndarray],
) -> None:
    ratio = errors["semi-iteration"][T::T] / errors["Chebyshev"][T::T]
    assert ratio[0] == pytest.approx(1, abs=1e-9)
    assert ratio[1] < 0.9
    assert np.all(np.diff(ratio) < 0)


def test_no_method_breaks_its_guarantee(
    errors: dict[str, np.ndarray],
    setting: tuple[Quadratic[Any], np.ndarray, SpectralBounds],
) -> None:
    bounds = setting[2]
    t = np.arange(1, LAST + 1)
    relative = {name: norms[1:] / norms[0] for name, norms in errors.items()}
    assert np.all(relative["constant"] <= constant_rate(bounds) ** t * (1 + 1e-9))
    promised = np.array([chebyshev_period_rate(bounds, int(k)) for k in t])
    assert np.all(relative["semi-iteration"] <= promised * (1 + 1e-9))
    at_ends = relative["Chebyshev"][T - 1 :: T]
    assert np.all(
        at_ends <= chebyshev_period_rate(bounds, T) ** np.arange(1, PERIODS + 1) * (1 + 1e-9)
    )


def test_inside_a_period_chebyshev_steps_may_be_far_off(errors: dict[str, np.ndarray]) -> None:
    inside = errors["Chebyshev"][1:T] / errors["semi-iteration"][1:T]
    assert inside.min() > 1
    assert inside.max() > 10
