"""Every map of the gallery has the fixed point that an independent computation gives."""

from typing import Any

import numpy as np
import pytest
from gallery import GALLERY, GalleryMap
from gallery.regressions import lasso_solution

from stepfold.accelerate import accelerate

# Evaluations that the plain iteration may take to an error of 1e-6.
MOST = 40_000


@pytest.fixture(scope="module", params=GALLERY)
def member(request: Any) -> GalleryMap:
    made: GalleryMap = GALLERY[request.param](np.random.default_rng(0))
    return made


def test_the_solution_is_a_fixed_point(member: GalleryMap) -> None:
    moved = member.map(member.solution) - member.solution
    assert np.abs(moved).max() <= 1e-11 * np.abs(member.solution).max()


def test_the_plain_iteration_goes_there(member: GalleryMap) -> None:
    x = member.start
    for _ in range(MOST):
        if member.error(x) <= 1e-6:
            break
        x = member.map(x)
    assert member.error(x) <= 1e-6


def test_the_accelerated_iteration_goes_there(member: GalleryMap) -> None:
    result = accelerate(member.map, member.start, rtol=1e-12, max_products=MOST)
    assert member.error(result.x) <= 1e-6


def test_starts_and_solutions_differ_and_have_one_shape(member: GalleryMap) -> None:
    assert member.start.shape == member.solution.shape
    assert member.error(member.start) == 1.0


def test_maps_do_not_write_to_their_argument(member: GalleryMap) -> None:
    before = member.start.copy()
    member.map(member.start)
    np.testing.assert_array_equal(member.start, before)


def test_the_powers_end_where_published() -> None:
    solution = GALLERY["powers"](np.random.default_rng(0)).solution
    np.testing.assert_allclose(solution, 2.96457, atol=5e-6)


def test_a_lasso_whose_support_is_not_found_says_so() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((20, 3))
    matrix = np.hstack([matrix, matrix + 1e-7 * rng.standard_normal((20, 3))])
    with pytest.raises((ArithmeticError, np.linalg.LinAlgError)):
        lasso_solution(matrix, rng.standard_normal(20), 1e-9)
