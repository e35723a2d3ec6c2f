"""The page's JavaScript, module by module, beside the package; in the browser it is made for."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from stepfold import (
    Schedule,
    SpectralBounds,
    SpectralMeasure,
    chebyshev_steps,
    constant_steps,
    optimal_steps,
)
from stepfold.lab.explorer import explorer_script
from stepfold.polynomial import mean_squared_error_path, worst_case_period_rate
from stepfold.schedules import (
    ORDERS,
    noise_aware_ridge,
    noisy_mean_squared_error,
    roundoff_amplification,
    safe_order,
    silver_steps,
)

CLOSE = {"rtol": 1e-9, "atol": 1e-300}
SPECTRA = [
    ("uniform", 2.0),
    ("uniform", 1e4),
    ("marchenko-pastur", 0.1),
    ("marchenko-pastur", 0.5),
    ("marchenko-pastur", 0.95),
    ("two-clusters", 30.0),
    ("two-clusters", 1e4),
]
LENGTHS = [1, 2, 7, 16, 64]
GRID = [(*chosen, length) for chosen, length in itertools.product(SPECTRA, LENGTHS)]
MODULES = [
    "compute.js",
    "iteration.js",
    "measure.js",
    "ordering.js",
    "polynomial.js",
    "quadrature.js",
    "schedules.js",
    "training.js",
]


@pytest.fixture(scope="module")
def core(browser):
    """Calls a function of the page's modules by its name, with JSON arguments."""
    page = browser.new_page()
    exports = ", ".join(f"...{explorer_script(name)}" for name in MODULES)
    page.evaluate(f"() => {{ globalThis.core = {{ {exports} }}; }}")
    page.evaluate(
        """() => {
        core.knownOrders = () => Object.keys(core.ORDERS);
        core.trained = (...given) => {
          const work = core.train(...given);
          let next = work.next();
          while (!next.done) next = work.next();
          return next.value;
        };
        globalThis.plain = (value) => ArrayBuffer.isView(value) ? [...value]
        : Array.isArray(value) ? value.map(plain) : value && typeof value === "object"
        ? Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)]))
        : value; }"""
    )
    yield lambda name, *arguments: page.evaluate(
        "([name, given]) => plain(core[name](...given))", [name, list(arguments)]
    )
    page.close()


@functools.cache
def spectrum(kind: str, value: float, size: int = 300) -> tuple[SpectralBounds, SpectralMeasure]:
    if kind == "marchenko-pastur":
        root = value**0.5
        measure = SpectralMeasure.marchenko_pastur(value, num_nodes=size)
        return SpectralBounds((1 - root) ** 2, (1 + root) ** 2), measure
    bounds = SpectralBounds(1.0, value)
    if kind == "uniform":
        return bounds, SpectralMeasure.uniform(bounds, num_nodes=size)
    length = 0.1 * (value - 1)
    clusters = SpectralBounds(1.0, 1.0 + length), SpectralBounds(value - length, value)
    parts = [SpectralMeasure.uniform(each, num_nodes=size // 2) for each in clusters]
    return bounds, SpectralMeasure.mixture(parts)


def as_record(measure: SpectralMeasure) -> dict:
    return {"nodes": measure.nodes.tolist(), "weights": measure.weights.tolist()}


def as_ends(bounds: SpectralBounds) -> dict:
    return {"lower": bounds.lower, "upper": bounds.upper}


def families(bounds: SpectralBounds, measure: SpectralMeasure, period: int) -> dict:
    return {
        "chebyshev": chebyshev_steps(bounds, period),
        "second-kind": chebyshev_steps(bounds, period, kind=2),
        "fourth-kind": chebyshev_steps(bounds, period, kind=4),
        "optimal": optimal_steps(measure, period),
        "constant": constant_steps(bounds, period),
        "silver": silver_steps(bounds, period),
    }


def state(kind: str, value: float, period: int, **changes) -> dict:
    chosen = {
        "spectrum": kind,
        "kappa": value,
        "aspect": value,
        "width": 0.1,
        "n": 300,
        "T": period,
        "order": "own",
        "precision": "float64",
        "noise": 0,
        "periods": 2,
        "training": 100,
        "show": ["chebyshev", "second-kind", "fourth-kind", "optimal", "constant", "silver"],
    }
    return {**chosen, **changes}


@pytest.mark.parametrize(("kind", "value"), SPECTRA)
def test_spectra_are_those_of_the_package(core, kind, value) -> None:
    bounds, measure = spectrum(kind, value)
    found = core("spectrumOf", state(kind, value, 1), {})
    np.testing.assert_allclose(found["measure"]["nodes"], measure.nodes, **CLOSE)
    np.testing.assert_allclose(found["measure"]["weights"], measure.weights, **CLOSE)
    np.testing.assert_allclose(list(found["bounds"].values()), [bounds.lower, bounds.upper])


@pytest.mark.parametrize(("kind", "value", "period"), GRID)
def test_every_family_and_its_figures_are_those_of_the_package(core, kind, value, period) -> None:
    bounds, measure = spectrum(kind, value)
    noise = 1e-3
    found = core("compute", state(kind, value, period, noise=noise), {})
    for name, schedule in families(bounds, measure, period).items():
        row = found["rows"][name]
        np.testing.assert_allclose(row["steps"], schedule.steps, **CLOSE)
        expected = [
            noisy_mean_squared_error(schedule, measure, noise=noise * bounds.upper),
            worst_case_period_rate(schedule, bounds),
            *roundoff_amplification(schedule, bounds),
        ]
        got = [row["error"], row["worstCase"], row["heads"], row["tails"]]
        np.testing.assert_allclose(got, expected, err_msg=name, **CLOSE)
    eta = noise * bounds.upper
    p = noise_aware_ridge(measure, period, noise=eta).residual_polynomial(measure.nodes)
    smallest = measure.mean(p**2 + eta * (1 - p) ** 2 / measure.nodes)
    np.testing.assert_allclose(found["smallestNoisy"], smallest, **CLOSE)


@pytest.mark.parametrize(("kind", "value", "period"), GRID)
def test_errors_on_the_way_are_those_of_the_package(core, kind, value, period) -> None:
    bounds, measure = spectrum(kind, value)
    twice = [*chebyshev_steps(bounds, period)] * 2
    found = core("compute", state(kind, value, period), {})["rows"]["chebyshev"]["predicted"]
    np.testing.assert_allclose(found, mean_squared_error_path(twice, measure), **CLOSE)


@pytest.mark.parametrize(("kind", "value", "period"), GRID)
def test_a_gauss_rule_is_that_of_the_package(core, kind, value, period) -> None:
    _, measure = spectrum(kind, value)
    rule = measure.quadrature(period + 1)
    found = core("quadrature", as_record(measure), period + 1)
    np.testing.assert_allclose(found["nodes"], rule.nodes, **CLOSE)
    # Weights far below the rounding of the largest mean nothing.
    np.testing.assert_allclose(found["weights"], rule.weights, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("period", [1, 2, 3, 8, 13, 64])
def test_orders_are_those_of_the_package(core, order, period) -> None:
    schedule = chebyshev_steps(SpectralBounds(1.0, 100.0), period)
    permutations = [ORDERS["random"](np.ones(size)).tolist() for size in range(1, 65)]
    found = core("reordered", schedule.steps.tolist(), order, permutations)
    assert found == schedule.reordered(order).steps.tolist()
    assert core("safeOrder", period) == safe_order(period)


def test_all_orders_of_the_package_are_offered(core) -> None:
    assert set(core("knownOrders")) == set(ORDERS)


def mixed(v: np.ndarray) -> np.ndarray:
    half = v.shape[-1] // 2
    low, high = v[..., :half], v[..., ::-1][..., :half]
    middle = v[..., half : v.shape[-1] - half]
    return np.concatenate(
        [0.8 * low + 0.6 * high, middle, (0.6 * low - 0.8 * high)[..., ::-1]], axis=-1
    )


def turned(v: np.ndarray, places: int) -> np.ndarray:
    return mixed(np.roll(mixed(v), places, axis=-1))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 300])
def test_the_iterated_matrix_has_the_eigenvalues_asked_for(size) -> None:
    values = np.geomspace(1.0, 100.0, size)
    matrix = turned(values * turned(np.eye(size), -(size // 4)), size // 4)
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), values, rtol=1e-12)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("order", ["leja", "ascending", "descending", "outside-in"])
@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_iterations_round_as_numpy_does(core, precision, order, noise) -> None:
    bounds, measure = spectrum("uniform", 1e4)
    schedule = chebyshev_steps(bounds, 16).reordered(order)
    shares, nodes = np.sqrt(measure.weights), measure.nodes
    quarter = nodes.size // 4
    targets = turned(np.array([shares, 0 * shares]), quarter)
    terms = np.array([nodes * shares, np.sqrt(nodes * noise * measure.weights)])
    rhs, scales = turned(terms, quarter).astype(precision), nodes.astype(precision)
    x = np.zeros_like(rhs)
    expected = [1.0]
    for gamma in [*schedule, *schedule]:
        x = x - gamma * (turned(scales * turned(x, -quarter), quarter) - rhs)
        expected.append(((x.astype(float) - targets) ** 2).sum())
    options = {"precision": precision, "noise": noise}
    found = core("iterate", as_record(measure), list(schedule), 32, options)
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize(
    ("kind", "value", "period", "num_iterations"),
    [
        ("marchenko-pastur", 0.5, 1, 100),
        ("marchenko-pastur", 0.5, 8, 500),
        ("marchenko-pastur", 0.9, 16, 100),
        ("uniform", 100.0, 6, 300),
        ("two-clusters", 30.0, 4, 300),
    ],
)
def test_training_finds_what_torch_finds(
    core, monkeypatch, kind, value, period, num_iterations
) -> None:
    torch = pytest.importorskip("torch")
    from stepfold.unfolded import SpectralLoss, UnfoldedIteration, train_incrementally

    bounds, measure = spectrum(kind, value)
    rule = measure.quadrature(period + 1)
    loss = SpectralLoss(rule)
    # The mean over batches without end, of which the usual loss draws one batch at a time.
    monkeypatch.setattr(
        SpectralLoss, "__call__", lambda self, net, depth, _: self.given(net, depth, rule.weights)
    )
    run = train_incrementally(
        UnfoldedIteration(Schedule(np.full(period, 1.7 / bounds.upper))),
        loss,
        num_iterations=num_iterations,
        optimizer=functools.partial(torch.optim.Adam, lr=0.0114 / bounds.upper),
    )
    found = core("trained", as_record(rule), bounds.upper, period, num_iterations)
    assert [len(steps) for steps in found] == list(range(1, period + 1))
    for stage, steps in enumerate(found, start=1):
        np.testing.assert_allclose(steps, run.schedule_after(stage).steps, **CLOSE)


def test_few_eigenvalues_end_the_optimal_schedule(core) -> None:
    measure = SpectralMeasure([1.0, 2.0, 4.0], [1.0, 1.0, 2.0])
    found = core("optimalSteps", as_record(measure), 8)
    np.testing.assert_allclose(np.sort(found), [0.25, 0.5, 1.0], **CLOSE)
