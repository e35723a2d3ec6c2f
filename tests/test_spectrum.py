"""The records of spectrum.py: SpectralBounds and Gram."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator, eigsh

from stepfold import Gram, SpectralBounds
from stepfold.spectrum import Certainty

ends = st.floats(0, 1e300, allow_nan=False)


@given(ends, ends)
def test_bounds_hold_both_ends_and_what_lies_between(first: float, second: float) -> None:
    bounds = SpectralBounds(min(first, second), max(first, second))
    assert bounds.lower in bounds
    assert bounds.upper in bounds
    assert bounds.lower / 2 + bounds.upper / 2 in bounds


def test_bounds_exclude_what_lies_outside() -> None:
    bounds = SpectralBounds(1.0, 2.0)
    assert [x in bounds for x in (0.99, 2.01, math.nan)] == [False, False, False]


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (2.0, 1.0),
        (-1.0, 1.0),
        (math.nan, 1.0),
        (0.0, math.nan),
        (0.0, math.inf),
        (math.inf, math.inf),
        (-math.inf, 0.0),
    ],
)
def test_bounds_out_of_order_negative_or_infinite_are_refused(lower: float, upper: float) -> None:
    message = rf"`bounds` must satisfy 0 <= lower <= upper < inf, got lower={lower}, upper={upper}"
    with pytest.raises(ValueError, match=message):
        SpectralBounds(lower, upper)


@pytest.mark.parametrize(
    ("lower", "upper", "kappa"),
    [(1.0, 9.0, 9.0), (2.0, 2.0, 1.0), (0.0, 1.0, math.inf), (0.0, 0.0, math.inf)],
)
def test_the_condition_number_is_the_quotient_or_infinite(
    lower: float, upper: float, kappa: float
) -> None:
    assert SpectralBounds(lower, upper).condition_number == kappa


@pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e100, 1e150])
def test_the_condition_number_has_no_scale(scale: float) -> None:
    assert SpectralBounds(scale, 1e4 * scale).condition_number == pytest.approx(1e4, rel=1e-15)


@pytest.mark.parametrize("number", [np.float32(1), np.int64(1), 1, torch.tensor(1.0)])
def test_the_ends_become_python_floats(number: float) -> None:
    bounds = SpectralBounds(number, number)
    assert (type(bounds.lower), type(bounds.upper)) == (float, float)


def test_bounds_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SpectralBounds(1.0, 2.0).lower = 0.5  # type: ignore[misc]


def test_bounds_compare_and_hash_by_value() -> None:
    assert {SpectralBounds(1, 2), SpectralBounds(1.0, 2.0), SpectralBounds(1, 3)} == {
        SpectralBounds(1, 2),
        SpectralBounds(1, 3),
    }


def test_bounds_survive_json() -> None:
    bounds = SpectralBounds(0.1, 2.0, Certainty.ESTIMATED, Certainty.GUARANTEED, "by hand", 7, 3)
    assert SpectralBounds(**json.loads(json.dumps(bounds.to_dict()))) == bounds


FACTOR = np.random.default_rng(0).standard_normal((5, 3))
BACKENDS = {
    "ndarray": FACTOR,
    "list": FACTOR.tolist(),
    "csr": sp.csr_array(FACTOR),
    "coo": sp.coo_array(FACTOR),
    "LinearOperator": aslinearoperator(FACTOR),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shift", [0.0, 0.25])
@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 4)])
def test_gram_products_are_those_of_the_formed_matrix(
    backend: str, shift: float, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    expected = (FACTOR.T @ FACTOR + shift * np.eye(3)) @ x
    np.testing.assert_allclose(Gram(BACKENDS[backend], shift) @ x, expected, rtol=1e-13, atol=1e-14)


def test_gram_products_with_torch_stay_in_torch() -> None:
    factor = torch.tensor(FACTOR, dtype=torch.float32)
    product = Gram(factor, 0.5) @ torch.ones(3)
    assert product.dtype == torch.float32
    expected = FACTOR.T @ FACTOR.sum(axis=1) + 0.5
    np.testing.assert_allclose(product.numpy(), expected, rtol=1e-5)


def test_gram_keeps_float32() -> None:
    assert (Gram(FACTOR.astype(np.float32), 0.5) @ np.ones(3, np.float32)).dtype == np.float32


def test_gram_is_square_and_its_own_transpose() -> None:
    gram = Gram(FACTOR, 0.5)
    assert gram.shape == (3, 3)
    assert gram.T is gram


def test_gram_serves_scipy_as_a_linear_operator() -> None:
    largest = eigsh(aslinearoperator(Gram(FACTOR)), k=1, return_eigenvectors=False)[0]
    assert largest == pytest.approx(np.linalg.norm(FACTOR, 2) ** 2, rel=1e-10)


@pytest.mark.parametrize("shift", [-1.0, math.nan, math.inf])
def test_gram_refuses_a_negative_or_infinite_shift(shift: float) -> None:
    with pytest.raises(ValueError, match=rf"`shift` must be at least 0 and finite, got {shift}"):
        Gram(FACTOR, shift)


def test_gram_refuses_what_is_no_matrix() -> None:
    with pytest.raises(TypeError, match=r"`factor` must be a matrix or a linear operator"):
        Gram(3.0)  # type: ignore[arg-type]
