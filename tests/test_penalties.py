"""What every proximal operator must be, over the registry; and the projections' refusals."""

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from _penalties import EXAMPLES, PLAIN, SIZE, example
from scipy.optimize import minimize

from stepfold.problems.penalties import (
    L1,
    PENALTIES,
    Ball,
    Box,
    ConjugatePenalty,
    ElasticNet,
    GroupL1,
    NuclearNorm,
    Penalty,
    Simplex,
    TotalVariation,
)

CONJUGATE = tuple(
    name
    for name in PLAIN
    if isinstance(example(name), ConjugatePenalty) and example(name).dual_domain != "other"
)


def _rows(seed: int, count: int = 6) -> np.ndarray:
    return 1.5 * np.random.default_rng(seed).standard_normal((count, SIZE))


def test_every_registered_penalty_has_an_example() -> None:
    assert {member for member, _ in EXAMPLES.values()} == set(PENALTIES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_proximal_operators_are_firmly_nonexpansive(name: str) -> None:
    penalty = example(name)
    u, v = _rows(0), _rows(1)
    moved = penalty.prox(u, 0.6) - penalty.prox(v, 0.6)
    product = (moved * (u - v)).sum(1)
    assert np.all((moved**2).sum(1) <= product + 1e-9)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_step_that_prox_takes_is_a_subgradient(name: str) -> None:
    # p = prox(v) if and only if g(z) >= g(p) + (v − p)ᵀ(z − p)/step for every z; tried at points
    # near p and far from it, of which the indicators' own projections are finite ones.
    penalty, step = example(name), 0.6
    v = _rows(2)
    p = penalty.prox(v, step)
    slope = (v - p) / step
    for size, seed in ((1e-3, 3), (1.0, 4)):
        z = penalty.prox(p + size * _rows(seed), step)
        below = penalty.value(p) + (slope * (z - p)).sum(1)
        assert np.all(penalty.value(z) >= below - 1e-7)


@pytest.mark.parametrize("name", EXAMPLES)
def test_prox_minimises_what_a_simplex_search_minimises(name: str) -> None:
    # A brute-force oracle: Nelder–Mead cannot end below the proximal point.
    penalty, step = example(name), 0.6
    v = _rows(5, 1)[0]
    p = penalty.prox(v, step)

    def objective(x: np.ndarray) -> float:
        return float(penalty.value(x)) + float(((x - v) ** 2).sum()) / (2 * step)

    def nearby(d: np.ndarray) -> float:
        # Of an indicator nothing but projections is finite; total variation is finite everywhere.
        inside = p + d if "variation" in name else penalty.prox(p + d, 1e-3)
        return min(objective(p + d), objective(inside))

    found = minimize(
        nearby,
        np.zeros(SIZE),
        method="Nelder-Mead",
        options={"maxfev": 300, "initial_simplex": np.vstack([np.zeros(SIZE), 0.1 * np.eye(SIZE)])},
    )
    assert objective(p) <= found.fun + 1e-9
    assert math.isfinite(objective(p))


@pytest.mark.parametrize("name", EXAMPLES)
def test_rows_of_a_batch_are_independent(name: str) -> None:
    penalty, rows = example(name), _rows(6, 3)
    together = penalty.prox(rows, 0.4)
    alone = np.stack([penalty.prox(row, 0.4) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-12)
    np.testing.assert_allclose(
        penalty.value(together), [penalty.value(row) for row in together], atol=1e-12
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_arrays_keep_their_dtype_and_are_not_written_to(name: str) -> None:
    rows = _rows(7, 2).astype(np.float32)
    before = rows.copy()
    assert example(name).prox(rows, 0.4).dtype == np.float32
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("name", EXAMPLES)
def test_where_a_proximal_step_ends_the_penalty_is_finite(name: str) -> None:
    penalty = example(name)
    assert np.all(np.isfinite(penalty.value(penalty.prox(_rows(8), 0.4))))


@pytest.mark.parametrize("name", PLAIN)
def test_tensors_give_what_arrays_give(name: str) -> None:
    penalty, rows = example(name), _rows(9, 4)
    tensor = torch.tensor(rows)
    np.testing.assert_allclose(penalty.prox(tensor, 0.4).numpy(), penalty.prox(rows, 0.4))
    moved = penalty.prox(rows, 0.4)
    np.testing.assert_allclose(penalty.value(torch.tensor(moved)).numpy(), penalty.value(moved))


@pytest.mark.parametrize("name", PLAIN)
def test_a_trainable_step_gets_the_derivative_of_the_formula(name: str) -> None:
    penalty = example(name)
    rows = torch.tensor(_rows(10, 3), requires_grad=True)
    step = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    penalty.prox(rows, step).sum().backward()
    ahead, behind = (penalty.prox(_rows(10, 3), 0.4 + d).sum() for d in (1e-6, -1e-6))
    slope = 0.0 if step.grad is None else float(step.grad)
    assert slope == pytest.approx((ahead - behind) / 2e-6, abs=1e-5)
    along = np.random.default_rng(0).standard_normal((3, SIZE))
    ahead, behind = (penalty.prox(_rows(10, 3) + d * along, 0.4).sum() for d in (1e-6, -1e-6))
    slope = 0.0 if rows.grad is None else float((rows.grad.numpy() * along).sum())
    assert slope == pytest.approx((ahead - behind) / 2e-6, abs=1e-5)


# Singular values that coincide, as at 0, have no derivative.
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "nuclear norm"])
def test_derivatives_are_finite_at_zero(name: str) -> None:
    # Where a careless square root has none.
    zeros = torch.zeros((2, SIZE), dtype=torch.float64, requires_grad=True)
    step = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (example(name).prox(zeros, step).sum() + 0 * (zeros.sum() + step)).backward()
    assert zeros.grad is not None
    assert step.grad is not None
    assert torch.isfinite(zeros.grad).all()
    assert torch.isfinite(step.grad)


@pytest.mark.parametrize("name", CONJUGATE)
def test_the_fenchel_young_inequality_holds_and_is_tight_at_prox(name: str) -> None:
    penalty, step = example(name), 0.6
    assert isinstance(penalty, ConjugatePenalty)
    v = _rows(11)
    p = penalty.prox(v, step)
    slope = (v - p) / step
    # Tight: (v − p)/step is a subgradient at p.
    attained = penalty.value(p) + penalty.conjugate(slope)
    np.testing.assert_allclose(attained, (slope * p).sum(1), atol=1e-9)
    other = penalty.prox(_rows(12), step)
    assert np.all(penalty.value(other) + penalty.conjugate(slope) >= (slope * other).sum(1) - 1e-9)


@pytest.mark.parametrize("name", CONJUGATE)
def test_scaled_dual_points_are_feasible(name: str) -> None:
    penalty = example(name)
    assert isinstance(penalty, ConjugatePenalty)
    v = 10 * _rows(13)
    scale = penalty.dual_scale(v)
    assert np.all((scale >= 0) & (scale <= 1))
    assert np.all(np.isfinite(penalty.conjugate(scale[:, None] * v)))


def test_singular_values_are_thresholded() -> None:
    matrix = np.random.default_rng(0).standard_normal((3, 4))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    expected = (left * np.maximum(values - 0.35, 0)) @ right
    found = NuclearNorm(0.7, (3, 4)).prox(matrix.ravel(), 0.5)
    np.testing.assert_allclose(found.reshape(3, 4), expected, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1e8, -1e8])
def test_the_simplex_projection_keeps_its_sum_far_from_it(shift: float) -> None:
    point = Simplex(2.0).prox(np.random.default_rng(0).standard_normal(1000) + shift, 1.0)
    assert point.min() >= 0
    assert point.sum() == pytest.approx(2.0, rel=1e-12)


def test_one_step_of_a_signal_is_moved_by_hand() -> None:
    # A jump of height h between plateaus of m entries shrinks by weight/m from either side.
    signal = np.repeat([0.0, 3.0], 4)
    found = TotalVariation(0.8).prox(signal, 0.5)
    np.testing.assert_allclose(found, np.repeat([0.1, 2.9], 4), atol=1e-9)


def test_isotropic_variation_of_a_picture_is_summed_over_pixels() -> None:
    picture = np.array([[0.0, 3.0], [4.0, 0.0]])
    assert TotalVariation(1.0, (2, 2)).value(picture.ravel()) == pytest.approx(5 + 3 + 4)


def test_total_variation_refuses_tensors() -> None:
    with pytest.raises(TypeError, match="NumPy arrays, got Tensor"):
        TotalVariation(1.0).prox(torch.ones(4), 1.0)


def test_without_pyproximal_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['pyproximal'] = None\n"
        "from stepfold.problems.penalties import TotalVariation\n"
        "try:\n    TotalVariation(1.0)\n"
        "except ImportError as error:\n    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'stepfold[proximal]'" in found.stdout


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L1(-1.0), r"`weight` must be at least 0.*-1\.0"),
        (lambda: L1(math.nan), "`weight` must be at least 0.*nan"),
        (lambda: ElasticNet(1.0, -2.0), r"`ridge` must be at least 0.*-2\.0"),
        (lambda: GroupL1(-1.0, [0]), "`weight` must be at least 0"),
        (lambda: GroupL1(1.0, [[0, 1]]), r"one label for each entry, got shape \(1, 2\)"),
        (lambda: NuclearNorm(math.inf, (2, 2)), "`weight` must be at least 0 and finite"),
        (lambda: NuclearNorm(1.0, (2, 0)), r"`shape\[1\]` must be an integer of at least 1"),
        (lambda: Box(1.0, 0.0), r"lower=1\.0, upper=0\.0"),
        (lambda: Box([0.0, 2.0], [1.0, 1.0]), "upper=1.0 at index 1"),
        (lambda: Box(math.nan, 1.0), "lower=nan"),
        (lambda: Box(math.inf, math.inf), "must not be empty"),
        (lambda: Box(np.zeros(2), np.ones(3)), "same length, got 2 and 3"),
        (lambda: Ball(-1.0), r"`radius` must be at least 0.*-1\.0"),
        (lambda: Simplex(-1.0), r"`total` must be at least 0.*-1\.0"),
        (lambda: TotalVariation(-1.0), "`weight` must be at least 0"),
        (lambda: TotalVariation(1.0, (1, 5)), "at least two rows and two columns"),
    ],
)
def test_what_is_infeasible_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="labels 2 entries, got rows of length 3"):
        GroupL1(1.0, [0, 1]).prox(np.ones(3), 1.0)


@pytest.mark.parametrize(
    ("penalty", "name"),
    [
        (Box(np.zeros(2), 1.0), "lower"),
        (Box(0.0, np.ones(2)), "upper"),
        (Ball(1, [0, 0]), "center"),
    ],
)
def test_numbers_for_rows_of_another_length_are_refused(penalty: Penalty, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` has 2 entries, got rows of length 3"):
        penalty.prox(np.ones(3), 1.0)


def test_a_weight_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="`weight` must be a real number, got str"):
        L1("heavy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        L1,
        Ball,
        Simplex,
        TotalVariation,
        lambda weight: ElasticNet(weight, 1.0),
        lambda weight: ElasticNet(1.0, weight),
        lambda weight: GroupL1(weight, [0, 0]),
        lambda weight: NuclearNorm(weight, (1, 2)),
    ],
)
def test_a_weight_for_each_entry_is_refused(make: Callable[..., Penalty]) -> None:
    with pytest.raises(ValueError, match=r"must be one number, got shape \(2,\)"):
        make(np.array([1.0, 2.0]))


@pytest.mark.parametrize("step", [-1, -0.5, np.float64(-1.0), math.nan])
@pytest.mark.parametrize(
    "penalty",
    [
        L1(1.0),
        ElasticNet(1.0, 1.0),
        GroupL1(1.0, [0, 0, 1]),
        NuclearNorm(1.0, (1, 3)),
        TotalVariation(1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_negative_step_is_refused(penalty: Penalty, step: float) -> None:
    with pytest.raises(ValueError, match=r"`step` must be at least 0, got "):
        penalty.prox(np.ones(3), step)


def test_labels_that_are_not_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="`groups` must hold integers"):
        GroupL1(1.0, [0.5, 1.0])  # type: ignore[list-item]
