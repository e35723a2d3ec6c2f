"""Jacobians of maps and where their spectra lie, against formulas and dense eigenvalues."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stepfold import FixedPoint, SpectralBounds, accelerate
from stepfold.problems.jacobian import Jacobian, jacobian_spectrum
from stepfold.spectrum.ellipse import Ellipse, enclosing_ellipse, rate_at


def powers(x: Any) -> Any:
    stack = torch.stack if isinstance(x, torch.Tensor) else np.stack
    return stack([x[0] ** 0.2 + x[1] ** 0.5, x[0] ** 0.5 + x[1] ** 0.2])


def test_the_published_map_has_the_published_fixed_point() -> None:
    result = accelerate(powers, np.array([1.0, 2.0]), rtol=1e-12)
    np.testing.assert_allclose(result.x, 2.96457, atol=5e-6)


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_the_published_map_has_the_published_eigenvalues(convert: Callable[..., Any]) -> None:
    fixed = accelerate(powers, np.array([1.0, 2.0]), rtol=1e-12).x
    bounds = jacobian_spectrum(powers, convert(fixed.tolist()))
    assert isinstance(bounds, SpectralBounds)
    assert bounds.lower == pytest.approx(0.62576, abs=6e-6)
    assert bounds.upper == pytest.approx(1.20655, abs=6e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_products_are_those_of_the_derivative(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal(shape), rng.standard_normal(shape)
    jacobian = Jacobian(FixedPoint(np.tanh), x)
    assert jacobian.method == "differences"
    np.testing.assert_allclose(jacobian.product(v), (1 - np.tanh(x) ** 2) * v, atol=1e-6)


def test_tensors_are_differentiated_exactly() -> None:
    x, v = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = Jacobian(FixedPoint(torch.tanh), x)
    before = jacobian.num_products
    np.testing.assert_allclose(jacobian.product(v), (1 - x.tanh() ** 2) * v, rtol=1e-14)
    assert jacobian.method == "jvp"
    assert jacobian.num_products == before + 2


@pytest.mark.parametrize(
    "function", [lambda x: x.detach().tanh(), lambda x: torch.from_numpy(np.tanh(x.numpy()))]
)
def test_maps_without_a_derivative_by_torch_get_differences(function: Callable[..., Any]) -> None:
    x = torch.linspace(-1, 1, 4, dtype=torch.float64)
    jacobian = Jacobian(FixedPoint(function), x)
    assert jacobian.method == "differences"
    np.testing.assert_allclose(
        jacobian.product(torch.ones_like(x)), 1 - np.tanh(x.numpy()) ** 2, atol=1e-6
    )


def test_the_interval_of_a_large_map_holds_its_spectrum(
    symmetric_with: Callable[..., np.ndarray],
) -> None:
    matrix = symmetric_with(np.linspace(0.05, 1.9, 80))
    bounds = jacobian_spectrum(lambda x: x - matrix @ x, np.zeros(80), rtol=0.01)
    assert isinstance(bounds, SpectralBounds)
    assert 0.03 <= bounds.lower <= 0.0501
    assert 1.8999 <= bounds.upper <= 1.92
    assert bounds.num_products <= 41


def test_a_complex_spectrum_gives_an_ellipse_that_holds_it() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((30, 30)) / np.sqrt(30)
    matrix *= 0.8 / np.abs(np.linalg.eigvals(matrix)).max()
    ellipse = jacobian_spectrum(lambda x: matrix @ x, np.zeros(30))
    assert isinstance(ellipse, Ellipse)
    eigenvalues = 1 - np.linalg.eigvals(matrix)
    assert (
        max(
            np.hypot(
                (eigenvalues.real - ellipse.center) / ellipse.real_axis,
                eigenvalues.imag / ellipse.imaginary_axis,
            )
        )
        <= 1.01
    )


def test_a_map_that_repels_is_refused_with_its_eigenvalue() -> None:
    with pytest.raises(ValueError, match=r"eigenvalue near -0\.5, that is 1\.5 of the Jacobian"):
        jacobian_spectrum(lambda x: np.array([1.5, 0.3]) * x, np.zeros(2))


@given(center=st.floats(0.1, 10.0), share=st.floats(0.0, 0.99), tall=st.floats(0.0, 5.0))
def test_the_rate_of_an_ellipse_is_that_of_its_boundary(
    center: float, share: float, tall: float
) -> None:
    ellipse = Ellipse(center, share * center, tall)
    angles = np.linspace(0, np.pi, 33)
    boundary = center + ellipse.real_axis * np.cos(angles) + 1j * tall * np.sin(angles)
    rates = rate_at(boundary, center, ellipse.focal_square)
    np.testing.assert_allclose(rates, ellipse.rate, rtol=1e-6, atol=1e-6)


@given(
    center=st.floats(0.5, 2.0),
    share=st.floats(0.05, 0.95),
    tall=st.floats(0.05, 3.0),
)
def test_the_smallest_ellipse_around_an_ellipse_is_that_ellipse(
    center: float, share: float, tall: float
) -> None:
    # A confocal or any other one that holds these points has a rate that is no smaller.
    ellipse = Ellipse(center, share * center, tall)
    angles = np.linspace(0, 2 * np.pi, 64)
    points = center + ellipse.real_axis * np.cos(angles) + 1j * tall * np.sin(angles)
    found = enclosing_ellipse(points)
    assert found.rate == pytest.approx(ellipse.rate, rel=2e-3)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_an_ellipse_scales_with_its_points(size: float) -> None:
    points = np.array([1 + 1j, 1 - 1j, 0.3])
    found, other = enclosing_ellipse(points), enclosing_ellipse(size * points)
    assert other.imaginary_axis == pytest.approx(size * found.imaginary_axis)
    assert other.center == pytest.approx(size * found.center)


def test_an_interval_is_a_flat_ellipse() -> None:
    found = enclosing_ellipse(np.linspace(0.2, 1.8, 9))
    assert found.rate == pytest.approx(0.5, rel=1e-3)
    assert found.imaginary_axis <= 0.01


@pytest.mark.parametrize("axes", [(1.0, 0.5), (1.5, 0.0), (-0.1, 0.5), (0.5, -0.1)])
def test_an_ellipse_that_reaches_the_origin_is_refused(axes: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="holds or touches the origin"):
        Ellipse(1.0, *axes)


@pytest.mark.parametrize("points", [[], [-1.0, 1.0], [0.0], [np.nan]])
def test_points_left_of_the_origin_are_refused(points: list[float]) -> None:
    with pytest.raises(ValueError, match="`points` must be finite with positive real parts"):
        enclosing_ellipse(points)


def test_a_disc_around_one_leaves_nothing_to_gain() -> None:
    disc = Ellipse(1.0, 0.7, 0.7)
    assert disc.rate == pytest.approx(disc.plain_rate, rel=1e-9)
    assert 1.5 in disc
    assert 1.8 not in disc
    assert 1 + 0.69j in disc
