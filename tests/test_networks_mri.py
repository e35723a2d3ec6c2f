"""Multi-coil MRI: the operator, the wavelets and the layers."""

import numpy as np
import pytest
import torch

from stepfold.unfolded import theory_start
from stepfold.unfolded.networks.mri import (
    CoilImages,
    Scan,
    coil_sensitivities,
    error_in_decibels,
    haar_shrink,
    measured_columns,
    mri,
    thresholding_network,
)


def complex_normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def scan(side: int = 8, num_coils: int = 3, batch: int = 2) -> Scan:
    rng = np.random.default_rng(0)
    coils = coil_sensitivities(num_coils, side).to(torch.complex128)
    seen = complex_normal(rng, batch, num_coils, side, side)
    mask = measured_columns(side, 2.0).double()
    return Scan(coils, mask, mask * seen)


def pictures(count: int = 2, side: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random((side, side + 3)).cumsum(0) / side for _ in range(count)]


def dense(problem: Scan) -> np.ndarray:
    """The operator as a matrix, column by column, from its formula by NumPy."""
    side, coils = problem.mask.numel(), problem.coils.numpy()
    columns = []
    for index in range(side * side):
        image = np.zeros(side * side, complex)
        image[index] = 1
        transformed = np.fft.fft2(coils * image.reshape(side, side), norm="ortho")
        columns.append((transformed * problem.mask.numpy()).ravel())
    return np.array(columns).T


def test_the_operator_and_its_adjoint_are_those_of_the_formula() -> None:
    problem = scan()
    matrix = dense(problem)
    x = complex_normal(np.random.default_rng(2), 2, 8, 8)
    there = problem.forward(x).reshape(2, -1).numpy()
    np.testing.assert_allclose(there, x.reshape(2, -1).numpy() @ matrix.T, atol=1e-12)
    back = problem.adjoint(problem.seen).reshape(2, -1).numpy()
    np.testing.assert_allclose(
        back, problem.seen.reshape(2, -1).numpy() @ matrix.conj(), atol=1e-12
    )


def test_a_step_descends_the_gradient_of_the_squared_residual() -> None:
    problem = scan()
    x = complex_normal(np.random.default_rng(3), 2, 8, 8).requires_grad_()
    (0.5 * (problem.forward(x) - problem.seen).abs() ** 2).sum().backward()
    with torch.no_grad():
        expected = x - 0.3 * x.grad
        torch.testing.assert_close(problem.gradient_step(x, 0.3), expected)


def test_no_eigenvalue_is_above_one() -> None:
    matrix = dense(scan())
    assert np.linalg.norm(matrix, 2) <= 1 + 1e-6


def haar_matrix(side: int, levels: int) -> np.ndarray:
    """Orthonormal Haar wavelets of a square, low frequencies first, by the textbook's recursion."""
    if levels == 0:
        return np.eye(side * side)
    half = side // 2
    low = np.kron(np.eye(half), [1.0, 1.0]) / np.sqrt(2)
    high = np.kron(np.eye(half), [1.0, -1.0]) / np.sqrt(2)
    inner = haar_matrix(half, levels - 1)
    return np.vstack(
        [inner @ np.kron(low, low), np.kron(low, high), np.kron(high, low), np.kron(high, high)]
    )


def test_shrinkage_is_the_mean_over_shifts_of_orthonormal_wavelets_thresholded() -> None:
    side, threshold = 16, 0.4
    wavelets = haar_matrix(side, 3)
    np.testing.assert_allclose(wavelets @ wavelets.T, np.eye(side**2), atol=1e-12)
    image = complex_normal(np.random.default_rng(4), side, side).numpy()
    total = np.zeros_like(image)
    for down in range(8):
        for across in range(8):
            shifted = np.roll(image, (-down, -across), (0, 1))
            found = wavelets @ shifted.ravel()
            sizes = np.maximum(np.abs(found), 1e-300)
            kept = found * np.maximum(1 - threshold / sizes, 0)
            kept[:4] = found[:4]  # the lowest frequencies
            back = (wavelets.T @ kept).reshape(side, side)
            total += np.roll(back, (down, across), (0, 1))
    result = haar_shrink(
        torch.from_numpy(image)[None], torch.tensor(threshold, dtype=torch.float64)
    )[0]
    np.testing.assert_allclose(result.numpy(), total / 64, atol=1e-10)


def test_a_real_image_stays_real_and_a_constant_one_stays() -> None:
    image = torch.full((1, 8, 8), 3.0)
    torch.testing.assert_close(haar_shrink(image, torch.tensor(100.0)), image)


def test_derivatives_are_finite_where_coefficients_are_zero() -> None:
    image = torch.zeros(1, 8, 8, dtype=torch.complex64, requires_grad=True)
    threshold = torch.tensor(0.1, requires_grad=True)
    (haar_shrink(image, threshold).abs() ** 2).sum().backward()
    assert image.grad is not None
    assert bool(torch.view_as_real(image.grad).isfinite().all())


def test_lowest_columns_are_measured_and_as_many_as_wanted() -> None:
    mask = measured_columns(60, 3.0)
    assert int(mask.sum()) == 20
    frequencies = np.abs(np.fft.fftfreq(60))
    assert mask.numpy()[np.argsort(frequencies, kind="stable")[:6]].all()


def test_without_relaxation_and_momentum_layers_are_proximal_gradient_steps() -> None:
    problem = scan()
    network = thresholding_network(1.0, 5.0, num_layers=2)
    x = complex_normal(np.random.default_rng(5), 2, 8, 8)
    with torch.no_grad():
        found = network(problem, x)
    for _ in range(2):
        x = haar_shrink(problem.gradient_step(x, 1.0), torch.tensor(0.05))
    torch.testing.assert_close(found, x)


def test_what_is_seen_is_the_scan_of_the_image_but_for_noise() -> None:
    sampler = CoilImages(pictures(), side=16, noise=0.02, batch_size=64)
    data, target, start = sampler(np.random.default_rng(6))
    noise = (data.seen - data.forward(target))[..., data.mask > 0]
    assert float(torch.view_as_real(noise).std()) == pytest.approx(0.02, rel=0.02)
    assert not data.seen[..., data.mask == 0].any()
    torch.testing.assert_close(start, data.adjoint(data.seen))


def test_theory_leaves_a_smaller_error_than_ista_on_other_images() -> None:
    task = mri(num_layers=4, side=32)
    sample = task.loss.sampler(np.random.default_rng(7))
    other = task.loss.sampler(np.random.default_rng(8))

    def error() -> float:
        with torch.no_grad():
            output = task.network(other.data, other.start)
        return error_in_decibels(output, other.target)

    before = error()
    found = theory_start(task.network, sample)
    assert found.num_passes <= 20
    assert task.network.steps.tolist() == [1.0]
    assert error() < before - 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 12}, "`side` must be a multiple of 8"),
        ({"side": 48}, "at most the smallest side of a picture, 40"),
        ({"acceleration": 0.5}, "`acceleration` must lie between 1 and 10"),
        ({"noise": 0.0}, "`noise` must be positive"),
        ({"num_coils": 0}, "`num_coils` must be"),
    ],
)
def test_impossible_scans_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        CoilImages(pictures(), **{"side": 16, **options})
