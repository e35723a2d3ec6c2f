"""`accelerate` on an assumed ellipse: what a period does, and what becomes of a wrong one."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.polynomial.chebyshev import chebval

from stepfold import SpectralBounds, accelerate
from stepfold.accelerate import iterate
from stepfold.problems.jacobian import jacobian_spectrum
from stepfold.spectrum.ellipse import Ellipse

SEGMENT = 1 + 0.95j * np.linspace(0, 1, 25)
ANGLES = np.linspace(0, np.pi, 25)
FLAT = 1 + 0.98 * np.cos(ANGLES) + 0.1j * np.sin(ANGLES)
ELLIPSES = {
    "segment": (SEGMENT, Ellipse(1.0, 0.0, 0.95)),
    "flat": (FLAT, Ellipse(1.0, 0.98, 0.1)),
}
WRONG = {
    "a point": Ellipse(1.0, 0.0, 0.0),
    "far too small": Ellipse(1.0, 0.1, 0.1),
    "elsewhere": Ellipse(3.0, 0.1, 0.1),
    "beside the origin": Ellipse(1.0, 1 - 1e-16, 0.0),
}


def _map(eigenvalues: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A real map of pairs whose Jacobian I − B has the eigenvalues of B, and their conjugates."""
    rhs = np.random.default_rng(0).standard_normal((eigenvalues.size, 2))

    def image(x: np.ndarray) -> np.ndarray:
        product = eigenvalues * (x[:, 0] + 1j * x[:, 1])
        return x - np.stack([product.real, product.imag], axis=1) + rhs

    return image


def _count(eigenvalues: np.ndarray, **options: object) -> int:
    result = accelerate(_map(eigenvalues), np.zeros((eigenvalues.size, 2)), **options)
    assert result.converged
    return int(result.history.num_products[-1])


@pytest.mark.parametrize("period", [1, 2, 5, 40])
@pytest.mark.parametrize("axes", [(0.0, 0.9), (0.6, 0.2), (0.9, 0.0), (0.2, 0.7)])
def test_a_period_multiplies_residuals_by_the_chebyshev_polynomial_of_the_foci(
    axes: tuple[float, float], period: int
) -> None:
    ellipse = Ellipse(1.2, *axes)
    eigenvalues = np.array([0.3 + 0.1j, 1.2 - 0.6j, 1.9, 1.1 + 0.05j])
    result = accelerate(
        lambda x: x - eigenvalues * x + 1.0,
        np.zeros(4, dtype=complex),
        bounds=ellipse,
        period=period,
        guard=False,
        rtol=0.0,
        max_products=2 + period,
    )
    focus = np.sqrt(complex(ellipse.focal_square))
    shifted = (np.append(eigenvalues, 0) - ellipse.center) / focus
    values = chebval(shifted, [0] * period + [1])
    expected = np.linalg.norm(values[:-1] / values[-1])
    assert result.history.num_steps.tolist() == list(range(period + 1))
    assert result.history.gradient_norms[-1] == pytest.approx(expected, rel=1e-6)


def test_a_flat_ellipse_is_its_interval() -> None:
    eigenvalues = np.linspace(0.1, 1.9, 20)
    ends = [
        accelerate(
            lambda x: x - eigenvalues * x + 1.0,
            np.zeros(20),
            bounds=bounds,
            period=12,
            guard=False,
            rtol=0.0,
            max_products=2 + 3 * 12,
        ).history.gradient_norms[::12]
        for bounds in (Ellipse(1.0, 0.9, 0.0), SpectralBounds(0.1, 1.9))
    ]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)


@pytest.mark.parametrize("name", ELLIPSES)
def test_an_ellipse_that_is_right_saves_learning_it(name: str) -> None:
    eigenvalues, ellipse = ELLIPSES[name]
    assert _count(eigenvalues, bounds=ellipse) < _count(eigenvalues)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ELLIPSES)
def test_an_ellipse_that_is_wrong_costs_little(name: str, wrong: str) -> None:
    eigenvalues, _ = ELLIPSES[name]
    assert _count(eigenvalues, bounds=WRONG[wrong]) <= _count(eigenvalues) + 20


def test_without_the_guard_a_wrong_ellipse_is_obeyed() -> None:
    start = np.zeros((25, 2))
    obeyed = accelerate(_map(FLAT), start, bounds=WRONG["a point"], guard=False)
    plain = iterate(_map(FLAT), start)
    assert obeyed.history.num_products[-1] == plain.history.num_products[-1]


def test_what_arnoldi_finds_can_be_handed_over() -> None:
    ellipse = jacobian_spectrum(_map(SEGMENT), np.zeros((25, 2)))
    assert isinstance(ellipse, Ellipse)
    assert _count(SEGMENT, bounds=ellipse) <= _count(SEGMENT)
