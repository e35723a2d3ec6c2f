"""Bounds of the eigenvalues that matter for a start from 0."""

from __future__ import annotations

import dataclasses
from typing import Any

from stepfold.operators import flipped
from stepfold.problems import LeastSquares, QuadraticProblem
from stepfold.spectrum import (
    Certainty,
    Gram,
    Lanczos,
    SpectralBounds,
    estimate_bounds,
    exact_eigenvalues,
    fits_dense_eigensolver,
)

# Lanczos steps after which an unknown lower end is taken as such.
PATIENCE = 400


def relevant_bounds(problem: QuadraticProblem[Any]) -> tuple[SpectralBounds, list[str]]:
    """Bounds of the eigenvalues that matter for a start from 0, and what is to be said of them.

    Iterates of least squares started at 0 stay in the range of ``Aᵀ``; zero eigenvalues of AᵀA play
    no part there, and the solution found is the one of smallest norm.
    """
    if not isinstance(problem, LeastSquares):
        return _patient_bounds(problem), []
    num_rows, num_columns = problem.operator.shape
    if num_rows >= num_columns:
        bounds = _patient_bounds(problem)
        if bounds.lower > 0:
            return bounds, []
    else:
        # AAᵀ has the eigenvalues of AᵀA but for zeros.
        bounds = _patient_bounds(Gram.of_checked(flipped(problem.operator), problem.ridge))
        if 0 < bounds.lower <= problem.ridge:
            return bounds, []
    if problem.ridge > 0:
        bounds = dataclasses.replace(bounds, lower_certainty=Certainty.ASSUMED)
        return bounds, [
            f"The operator has {num_rows} rows for {num_columns} unknowns: from x0 = 0 only the "
            "eigenvalues of its range matter, and not those that are the ridge."
        ]
    rank, lower, reached = min(num_rows, num_columns), bounds.lower, bounds.reached_lower
    if lower == 0:
        if not fits_dense_eigensolver(problem.hessian):
            return bounds, []
        values = exact_eigenvalues(problem.hessian)
        positive = values[values > 0]
        if positive.size == 0:
            return bounds, []
        rank, lower, reached = positive.size, float(positive[0]), float(positive[0])
    # The rest of the spectrum is 0 or hidden by rounding, so that nothing is guaranteed.
    bounds = dataclasses.replace(
        bounds, lower=lower, lower_certainty=Certainty.ASSUMED, reached_lower=reached
    )
    return bounds, [
        f"The operator has rank {rank} for {num_columns} unknowns: from x0 = 0 the solution of "
        "smallest norm is found, and only the eigenvalues above 0 matter."
    ]


def _patient_bounds(target: Any) -> SpectralBounds:
    bounds = estimate_bounds(target)
    if bounds.lower == 0 and bounds.lower_uncertainty == 1:
        # The solve to come takes about as many products as it takes to see the lower end.
        spent = bounds.num_products
        bounds = estimate_bounds(target, method=Lanczos(max_steps=PATIENCE, persistent=True))
        bounds = dataclasses.replace(bounds, num_products=spent + bounds.num_products)
    return bounds
