"""What every proximal operator must be, over the registry; and the projections' refusals."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from _penalties import EXAMPLES, SIZE, example
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
    for name in EXAMPLES
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


@pytest.mark.parametrize("name", EXAMPLES)
def test_tensors_give_what_arrays_give(name: str) -> None:
    penalty, rows = example(name), _rows(9, 4)
    tensor = torch.tensor(rows)
    np.testing.assert_allclose(penalty.prox(tensor, 0.4).numpy(), penalty.prox(rows, 0.4))
    moved = penalty.prox(rows, 0.4)
    np.testing.assert_allclose(penalty.value(torch.tensor(moved)).numpy(), penalty.value(moved))


@pytest.mark.parametrize("name", EXAMPLES)
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


@pytest.mark.parametrize("name", EXAMPLES)
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


@pytest.mark.parametrize("shape", [None, (12, 10)])
@pytest.mark.parametrize("kind", [np.float64, np.complex128])
def test_total_variation_ends_as_near_to_the_solution_as_it_says(
    shape: tuple[int, int] | None, kind: type
) -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((3, 120)).astype(kind)
    if kind is np.complex128:
        rows = rows + 1j * rng.standard_normal((3, 120))
    best = TotalVariation(0.7, shape, max_iterations=20_000, rtol=0.0).prox(rows, 0.5)
    for rtol in (1e-2, 1e-4, 1e-6):
        found = TotalVariation(0.7, shape, max_iterations=20_000, rtol=rtol).prox(rows, 0.5)
        error = np.linalg.norm(found - best, axis=1) / np.linalg.norm(rows, axis=1)
        assert np.all(error <= rtol)


def test_total_variation_of_real_numbers_is_that_of_pyproximal() -> None:
    pyproximal = pytest.importorskip("pyproximal")
    picture = np.random.default_rng(5).standard_normal((9, 7))
    theirs = pyproximal.TV((9, 7), sigma=0.3, niter=4000, rtol=1e-14).prox(picture.ravel(), 0.5)
    ours = TotalVariation(0.3, (9, 7)).prox(picture.ravel(), 0.5)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_phase_does_not_change_how_much_is_smoothed() -> None:
    rows = _rows(3, 4)
    turned = TotalVariation(0.4, (4, 2)).prox(rows * np.exp(0.7j), 0.5)
    np.testing.assert_allclose(turned * np.exp(-0.7j), TotalVariation(0.4, (4, 2)).prox(rows, 0.5))


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


@pytest.mark.parametrize("make", [Ball, Simplex, TotalVariation, lambda w: NuclearNorm(w, (1, 2))])
def test_a_size_for_each_entry_is_refused(make: Callable[..., Penalty]) -> None:
    with pytest.raises(ValueError, match=r"must be one number, got shape \(2,\)"):
        make(np.array([1.0, 2.0]))


WEIGHTED = {"l1": lambda w, _: L1(w), "elastic net": ElasticNet}
WEIGHTS, RIDGES = np.array([0.0, 0.3, 1.1, 2.0]), np.array([0.5, 0.0, 0.7, 2.0])


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_weight_for_each_entry_is_a_penalty_for_each_entry(name: str, as_tensor: bool) -> None:
    make = WEIGHTED[name]
    weights: Any = torch.tensor(WEIGHTS) if as_tensor else WEIGHTS.tolist()
    penalty = make(weights, RIDGES)
    rows = 2 * np.random.default_rng(0).standard_normal((5, 4))
    given = torch.tensor(rows) if as_tensor else rows
    ones = [make(float(w), float(r)) for w, r in zip(WEIGHTS, RIDGES, strict=True)]
    parts = [one.prox(rows[:, [i]], 0.6)[:, 0] for i, one in enumerate(ones)]
    np.testing.assert_allclose(np.asarray(penalty.prox(given, 0.6)), np.stack(parts, 1))
    values = sum(one.value(rows[:, [i]]) for i, one in enumerate(ones))
    np.testing.assert_allclose(np.asarray(penalty.value(given)), values)


def test_an_entry_of_weight_zero_and_no_ridge_leaves_no_gap() -> None:
    assert L1([0.0, 1.0]).dual_domain == "other"
    assert ElasticNet([0.0, 1.0], [1.0, 0.0]).dual_domain == "star"
    assert ElasticNet([0.0, 1.0], [0.0, 1.0]).dual_domain == "other"
    assert ElasticNet(0.0, [1.0, 2.0]).dual_domain == "whole"


def test_an_elastic_net_with_ridge_in_some_entries_is_conjugate_to_itself_at_prox() -> None:
    penalty = ElasticNet([0.4, 0.9, 0.0], [0.0, 0.5, 2.0])
    v = 3 * np.random.default_rng(1).standard_normal((6, 3))
    p = penalty.prox(v, 0.7)
    slope = (v - p) / 0.7
    np.testing.assert_allclose(
        penalty.value(p) + penalty.conjugate(slope), (slope * p).sum(1), atol=1e-12
    )
    scaled = penalty.dual_scale(5 * v)[:, None] * 5 * v
    assert np.all(np.isfinite(penalty.conjugate(scaled)))


def test_groups_have_weights_in_the_order_of_their_labels() -> None:
    weights, labels = [0.5, 2.0, 0.0], [7, 1, 7, 4]
    v = np.array([3.0, -1.0, 4.0, 5.0])
    expected = v * np.array([1.0, 0.5, 1.0, 0.6])  # labels 1, 4, 7: |−1| by ½, |5| by 2, none
    np.testing.assert_allclose(GroupL1(weights, labels).prox(v, 1.0), expected)
    assert float(GroupL1(weights, labels).value(v)) == pytest.approx(0.5 * 1 + 2.0 * 5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: L1([1.0, -2.0]), ValueError, r"`weight` must be at least 0.*-2\.0 at index 1"),
        (lambda: L1([math.inf, 1.0]), ValueError, "inf at index 0"),
        (lambda: L1(np.array([1.0, math.nan])), ValueError, "nan at index 1"),
        (lambda: L1(np.ones((2, 2))), ValueError, r"one for each entry, got shape \(2, 2\)"),
        (lambda: L1([]), ValueError, r"got shape \(0,\)"),
        (lambda: L1(np.array([1j, 1.0])), TypeError, "real numbers, got dtype complex128"),
        (lambda: L1(["a", "b"]), TypeError, "real numbers, got dtype"),
        (lambda: ElasticNet(1.0, [1.0, -1.0]), ValueError, r"`ridge`.*-1\.0 at index 1"),
        (lambda: GroupL1([1.0, 2.0], [0, 1, 2]), ValueError, "each of the 3 groups, got 2"),
        (lambda: L1([1.0, 2.0]).prox(np.ones(3), 1.0), ValueError, "`weight` has 2 entries"),
    ],
)
def test_weights_that_are_none_are_refused(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


COMPLEX = {
    "l1": lambda: L1(0.7),
    "l1 with weights": lambda: L1(np.linspace(0.0, 1.4, SIZE)),
    "elastic net": lambda: ElasticNet(0.5, 0.3),
    "group l1": lambda: GroupL1(0.8, [5, 2, 2, 5, 1, 5, 1, 2]),
    "nuclear norm": lambda: NuclearNorm(0.6, (2, 4)),
    "ball": lambda: Ball(1.2, 0.1j * np.ones(SIZE)),
    "total variation": lambda: TotalVariation(0.4, rtol=0.0),
    "total variation of a picture": lambda: TotalVariation(0.4, (2, 4), rtol=0.0),
}


def _complex_rows(seed: int, count: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, SIZE)) + 1j * rng.standard_normal((count, SIZE))


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_proximal_steps_are_subgradients_and_close_the_fenchel_inequality(
    name: str,
) -> None:
    penalty, step = COMPLEX[name](), 0.6
    v = _complex_rows(0)
    p = penalty.prox(v, step)
    slope = (v - p) / step
    inner = (slope.conj() * p).real.sum(1)
    z = penalty.prox(p + 0.3 * _complex_rows(1), step)
    below = penalty.value(p) + (slope.conj() * (z - p)).real.sum(1)
    assert np.all(penalty.value(z) >= below - 1e-9)
    if isinstance(penalty, ConjugatePenalty) and penalty.dual_domain != "other":
        np.testing.assert_allclose(penalty.value(p) + penalty.conjugate(slope), inner, atol=1e-9)
        scaled = penalty.dual_scale(9 * v)[:, None] * 9 * v
        assert np.all(np.isfinite(penalty.conjugate(scaled)))


@pytest.mark.parametrize("name", COMPLEX)
def test_real_numbers_written_as_complex_ones_are_shrunk_as_real_ones(name: str) -> None:
    penalty, rows = COMPLEX[name](), _rows(3, 4)
    if name == "ball":
        penalty = Ball(1.2)
    moved = penalty.prox(rows.astype(complex), 0.4)
    np.testing.assert_allclose(moved, penalty.prox(rows, 0.4), atol=1e-13)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_tensors_give_what_arrays_give(name: str) -> None:
    penalty, rows = COMPLEX[name](), _complex_rows(2)
    moved = penalty.prox(torch.tensor(rows), 0.4)
    np.testing.assert_allclose(moved.numpy(), penalty.prox(rows, 0.4), atol=1e-12)
    single = penalty.prox(rows.astype(np.complex64), 0.4)
    assert single.dtype == np.complex64


@pytest.mark.parametrize("penalty", [Box(0.0, 1.0), Simplex()])
def test_what_needs_an_order_refuses_complex_numbers(penalty: Penalty) -> None:
    assert not penalty.takes_complex
    with pytest.raises(TypeError, match=r"must be real.*complex128"):
        penalty.prox(_complex_rows(0), 1.0)


def _low_rank(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(2, 3, 3, dtype=torch.float64, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(2, 4, 4, dtype=torch.float64, generator=generator))[0]
    values = {
        "distinct": [2.0, 1.3, 0.1],
        "equal": [1.5, 1.5, 0.1],
        "all equal": [1.0, 1.0, 1.0],
        "below": [0.2, 0.1, 0.1],
    }[kind]
    values = torch.tensor(values, dtype=torch.float64)
    return ((left * values) @ right[:, :3]).reshape(2, 12)


@pytest.mark.parametrize("kind", ["distinct", "equal", "all equal", "below"])
@pytest.mark.parametrize("transposed", [False, True])
def test_singular_value_thresholding_has_the_derivative_of_finite_differences(
    kind: str, transposed: bool
) -> None:
    rows = _low_rank(kind)
    if transposed:
        rows = rows.reshape(2, 3, 4).mT.reshape(2, 12)
    penalty = NuclearNorm(0.8, (4, 3) if transposed else (3, 4))
    rows.requires_grad_()
    step = torch.tensor([[0.5], [0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(penalty.prox, (rows, step), eps=1e-6, atol=1e-6)


# What torch imports for its first forward product uses what torch deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_functional_derivatives_pass_through_singular_value_thresholding() -> None:
    rows, penalty = _low_rank("equal"), NuclearNorm(0.8, (3, 4))
    slope = torch.func.grad(lambda v: penalty.prox(v, 0.5).square().sum())(rows)
    along = _low_rank("distinct")
    _, image = torch.func.jvp(lambda v: penalty.prox(v, 0.5), (along,), (rows,))
    ahead, behind = (penalty.prox(along + d * rows, 0.5) for d in (1e-6, -1e-6))
    np.testing.assert_allclose(image, (ahead - behind) / 2e-6, atol=1e-6)
    ahead, behind = (penalty.prox(rows + d * along, 0.5).square().sum() for d in (1e-6, -1e-6))
    assert float((slope * along).sum()) == pytest.approx(float(ahead - behind) / 2e-6, abs=1e-6)


def test_complex_singular_value_thresholding_has_the_derivative_of_finite_differences() -> None:
    rows = torch.tensor(_complex_rows(4, 2), requires_grad=True)
    penalty = NuclearNorm(0.8, (2, 4))
    assert torch.autograd.gradcheck(lambda v: penalty.prox(v, 0.5), (rows,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("matrix", [torch.zeros(3, 4), torch.eye(3, 4), torch.ones(3, 4)])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_derivatives_are_finite_at_equal_and_at_zero_singular_values(
    matrix: torch.Tensor, weight: float
) -> None:
    rows = matrix.double().reshape(1, 12).requires_grad_()
    step = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    moved = NuclearNorm(weight, (3, 4)).prox(rows, step)
    (moved * torch.arange(12.0)).sum().backward()
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()
    assert step.grad is not None
    assert torch.isfinite(step.grad).all()
    if weight == 0:
        assert torch.allclose(rows.grad[0], torch.arange(12.0).double())


def test_second_derivatives_of_singular_value_thresholding_are_refused() -> None:
    rows = _low_rank("distinct").requires_grad_()
    moved = NuclearNorm(0.8, (3, 4)).prox(rows, 0.5)
    (slope,) = torch.autograd.grad(moved.square().sum(), rows, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_weights_more_precise_than_the_vectors_are_refused(dtype: torch.dtype) -> None:
    weights = torch.ones(SIZE, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"`weight` must be no more precise.*to\(torch\.float32\)"):
        L1(weights).prox(torch.ones(3, SIZE, dtype=dtype), 0.5)
    assert L1(weights.float()).prox(torch.ones(3, SIZE, dtype=dtype), 0.5).dtype == dtype


@pytest.mark.parametrize("name", CONJUGATE)
def test_scaled_dual_tensors_are_as_feasible_as_arrays(name: str) -> None:
    penalty, v = example(name), torch.from_numpy(9 * _rows(2, 3))
    assert isinstance(penalty, ConjugatePenalty)
    scaled = penalty.dual_scale(v)[..., None] * v
    assert bool(penalty.conjugate(scaled).isfinite().all())
    np.testing.assert_array_equal(penalty.dual_scale(v).numpy(), penalty.dual_scale(v.numpy()))
