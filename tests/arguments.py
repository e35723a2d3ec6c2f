"""Public callables with one bad argument at a time: `python tests/arguments.py` tries all of them.

Each try ends in one of five ways: it is accepted ("taken"), refused by a check of stepfold that
names the argument ("refused"), refused without its name ("unnamed"), stopped by an exception that
nobody raised on purpose ("foreign"), or not ended within the limit ("hang"; a dead process is a
"crash"). Tries run in child processes, so that the last two are counted and not fatal.
"""

from __future__ import annotations

import argparse
import collections
import json
import linecache
import os
import random
import select
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import stepfold
from stepfold import lab, measure, polynomial, problems, schedules, spectrum, unfolded
from stepfold.accelerate import Anderson, Constant, iterate
from stepfold.distributed import (
    Layout,
    ShardedFixedPoint,
    ShardedLeastSquares,
    ShardedQuadratic,
    list_parts,
    resumable_solve,
    scale,
    write_parts,
)
from stepfold.interop import petsc, pyamg, scipy, sklearn
from stepfold.interop.optax import learning_rate
from stepfold.interop.torch import ScheduleLR
from stepfold.iterations import (
    BarzilaiBorwein,
    Fista,
    HeavyBall,
    Nesterov,
    ProximalGradient,
    SemiIteration,
    barzilai_borwein,
    heavy_ball,
    nesterov,
    semi_iteration,
)
from stepfold.operators import linear_map
from stepfold.problems import out_of_core, penalties
from stepfold.problems.jacobian import jacobian_spectrum
from stepfold.ridge import choose_ridge
from stepfold.spectrum.ellipse import Ellipse, enclosing_ellipse
from stepfold.unfolded.networks import (
    TrainingSettings,
    blur,
    box,
    deblurring,
    mimo,
    relaxation,
    ridge,
    sparse_signals,
    tista,
)

SECONDS = 15.0
"""Limit of one try: the slowest good one takes two on a busy machine."""

_RNG = np.random.default_rng(0)
TALL = _RNG.standard_normal((8, 4))
RHS = _RNG.standard_normal(8)
ONES = np.ones(4)
SQUARE = TALL.T @ TALL + np.eye(4)
BOUNDS = stepfold.SpectralBounds(1.0, 9.0)
SCHEDULE = stepfold.Schedule([0.05, 0.1])
MEASURE = measure.SpectralMeasure.from_eigenvalues([1.0, 2.0, 5.0, 9.0])
L1 = penalties.L1(0.1)
PROBLEM = problems.LeastSquares(TALL, RHS)
TORCH_PROBLEM = problems.LeastSquares(torch.tensor(TALL), torch.tensor(RHS))
NORMAL = problems.Quadratic(SQUARE, ONES)
AXIS = lab.Axis("T")
CURVE = lab.Curve("a", ONES, ONES)
COSTS = scale.Costs(1e-9, 1e-9, 1e-5, 1e-9)
STARTING = torch.ones(2, 4, dtype=torch.float64)


def _map(x: Any) -> Any:
    return 0.5 * x + 1


def _network() -> unfolded.UnfoldedIteration:
    return unfolded.UnfoldedIteration(SCHEDULE)


def _sampler() -> unfolded.GaussianLeastSquares:
    return unfolded.GaussianLeastSquares(TALL, batch_size=2, dtype=torch.float64)


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def _batched() -> unfolded.BatchedLeastSquares:
    return unfolded.BatchedLeastSquares(torch.ones(2, 3, 4), torch.ones(2, 3))


class Fresh:
    """An argument that each try needs anew, because calls change it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def _for_bounds(*functions: Callable[..., Any]) -> dict[str, Any]:
    return {f.__name__: (f, {"bounds": BOUNDS, "period": 4}) for f in functions}


_WITH_RHS = {"matrix": SQUARE, "rhs": ONES}

# Name on the reference page, function, arguments of a good call. What inner loops call at every
# step (gradients, proximal maps, iterations) takes arrays that were checked before: left out.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "linear_map": (linear_map, {"source": TALL, "adjoint": None, "shape": None, "like": None}),
    "SpectralBounds": (
        stepfold.SpectralBounds,
        {
            "lower": 1.0,
            "upper": 9.0,
            "lower_certainty": spectrum.Certainty.ASSUMED,
            "upper_certainty": spectrum.Certainty.ASSUMED,
            "method": "given",
            "num_products": 0,
            "seed": None,
            "reached_lower": None,
            "reached_upper": None,
            "failure_probability": None,
        },
    ),
    "SpectralBounds.shifted": (BOUNDS.shifted, {"shift": 1.0}),
    "Gram": (stepfold.Gram, {"factor": TALL, "shift": 0.0, "shape": None}),
    "estimate_bounds": (
        stepfold.estimate_bounds,
        {"hessian": SQUARE, "shape": None, "like": None, "method": None, "seed": 0},
    ),
    "exact_eigenvalues": (spectrum.exact_eigenvalues, {"hessian": SQUARE}),
    "Lanczos": (
        spectrum.Lanczos,
        {"max_steps": 8, "rtol": 0.03, "lower_rtol": 0.2, "failure_probability": 1e-3},
    ),
    "Gershgorin": (spectrum.Gershgorin, {"sweeps": 1}),
    "Convolution": (spectrum.Convolution, {"kernel": np.ones((3, 3)), "shape": (8, 8)}),
    "GaussianFactor": (spectrum.GaussianFactor, {"variance": 1.0, "failure_probability": 1e-3}),
    "Tightest": (spectrum.Tightest, {"methods": (spectrum.Exact(), spectrum.Norms())}),
    "tightest": (spectrum.tightest, {"parts": [BOUNDS]}),
    "SpectralMeasure": (
        measure.SpectralMeasure,
        {"nodes": [1.0, 2.0], "weights": [0.5, 0.5], "name": "given"},
    ),
    "SpectralMeasure.from_eigenvalues": (
        measure.SpectralMeasure.from_eigenvalues,
        {"eigenvalues": [1.0, 2.0]},
    ),
    "SpectralMeasure.uniform": (
        measure.SpectralMeasure.uniform,
        {"bounds": BOUNDS, "num_nodes": 16},
    ),
    "SpectralMeasure.marchenko_pastur": (
        measure.SpectralMeasure.marchenko_pastur,
        {"ratio": 0.5, "num_nodes": 16},
    ),
    "SpectralMeasure.quadrature": (MEASURE.quadrature, {"num_nodes": 2}),
    "lanczos_measure": (
        measure.lanczos_measure,
        {"hessian": SQUARE, "num_nodes": 3, "start": None, "num_probes": 2, "seed": 0},
    ),
    "error_measure": (
        measure.error_measure,
        {"hessian": SQUARE, "errors": np.ones((2, 4)), "num_steps": 2},
    ),
    "residual_measure": (
        measure.residual_measure,
        {"operator": TALL, "residual": RHS, "num_nodes": 2, "misfit": 0.0},
    ),
    "exact_measure": (measure.exact_measure, {"hessian": SQUARE, "covariance": None}),
    "ensemble_measure": (measure.ensemble_measure, {"eigenvalues": np.ones((2, 3))}),
    "residual_polynomial": (
        polynomial.residual_polynomial,
        {"steps": [0.1], "eigenvalues": [1.0, 2.0]},
    ),
    "spectral_radius": (polynomial.spectral_radius, {"steps": [0.1], "eigenvalues": [1.0, 2.0]}),
    "worst_case_period_rate": (
        polynomial.worst_case_period_rate,
        {"steps": [0.1], "bounds": BOUNDS, "power": 0.0},
    ),
    "mean_squared_error": (polynomial.mean_squared_error, {"steps": [0.1], "measure": MEASURE}),
    "mean_squared_error_path": (
        polynomial.mean_squared_error_path,
        {"steps": [0.1], "measure": MEASURE},
    ),
    "constant_rate": (polynomial.constant_rate, {"bounds": BOUNDS}),
    **_for_bounds(
        polynomial.chebyshev_rate,
        polynomial.chebyshev_period_rate,
        polynomial.fourth_kind_period_rate,
        schedules.constant_steps,
        schedules.inverse_upper_bound_steps,
        schedules.optimised_fourth_kind_steps,
        schedules.smoothing_constant,
        schedules.silver_steps,
        schedules.silver_period_rate,
        schedules.silver_convex_steps,
        schedules.obs_s_steps,
        schedules.obs_f_steps,
        schedules.obs_g_steps,
        schedules.anytime_steps,
    ),
    "chebyshev_steps": (
        schedules.chebyshev_steps,
        {"bounds": BOUNDS, "period": 4, "kind": 1},
    ),
    "silver_convex_period_rate": (
        schedules.silver_convex_period_rate,
        {"bounds": BOUNDS, "period": 3},
    ),
    "arcsine_steps": (schedules.arcsine_steps, {"bounds": BOUNDS, "period": 4, "rng": None}),
    "first_order_lower_bound": (polynomial.first_order_lower_bound, {"bounds": BOUNDS}),
    "optimal_mean_squared_error": (
        polynomial.optimal_mean_squared_error,
        {"measure": MEASURE, "period": 2},
    ),
    "marchenko_pastur_mean_squared_error": (
        polynomial.marchenko_pastur_mean_squared_error,
        {"ratio": 0.5, "period": 2},
    ),
    "num_steps_to": (
        polynomial.num_steps_to,
        {"rtol": 1e-3, "period_rate": 0.1, "period": 8},
    ),
    "Schedule": (
        stepfold.Schedule,
        {
            "steps": [0.1, 0.2],
            "name": "given",
            "order": "given",
            "bounds": None,
            "builder": None,
            "signed": False,
        },
    ),
    "Schedule.reordered": (SCHEDULE.reordered, {"order": "leja"}),
    "Schedule.rebuilt": (schedules.chebyshev_steps(BOUNDS, 2).rebuilt, {"bounds": BOUNDS}),
    "Schedule.__call__": (SCHEDULE.__call__, {"count": 3}),
    "Schedule.load": (stepfold.Schedule.load, {"path": "no-such-file"}),
    "Schedule.from_dict": (stepfold.Schedule.from_dict, {"record": SCHEDULE.to_dict()}),
    "SpectralBounds.from_dict": (stepfold.SpectralBounds.from_dict, {"record": BOUNDS.to_dict()}),
    "chebyshev_steps_for_intervals": (
        schedules.chebyshev_steps_for_intervals,
        {"intervals": [(1.0, 2.0), (4.0, 5.0)], "period": 2},
    ),
    "spectral_intervals": (
        schedules.spectral_intervals,
        {"eigenvalues": [1.0, 2.0, 9.0], "num_intervals": 2, "margin": 0.1},
    ),
    "minimax_period_rate": (
        schedules.minimax_period_rate,
        {"intervals": [(1.0, 2.0), (4.0, 5.0)], "period": 2},
    ),
    "worst_case_period_rate_on_intervals": (
        schedules.worst_case_period_rate_on_intervals,
        {"steps": [0.1], "intervals": [(1.0, 2.0)]},
    ),
    "optimal_steps": (schedules.optimal_steps, {"spectrum": MEASURE, "period": 2}),
    "composed_period_rate": (
        schedules.composed_period_rate,
        {"schedule": schedules.obs_f_steps(BOUNDS, 3)},
    ),
    "noise_aware_steps": (
        schedules.noise_aware_steps,
        {"measure": MEASURE, "period": 2, "noise": 0.1, "noise_measure": None},
    ),
    "noise_aware_ridge": (
        schedules.noise_aware_ridge,
        {"measure": MEASURE, "period": 2, "noise": 0.1},
    ),
    "noisy_mean_squared_error": (
        schedules.noisy_mean_squared_error,
        {"steps": [0.1], "measure": MEASURE, "noise": 0.1, "noise_measure": None},
    ),
    "roundoff_amplification": (
        schedules.roundoff_amplification,
        {"steps": [0.1], "bounds": BOUNDS},
    ),
    "safe_order": (schedules.safe_order, {"period": 4}),
    "RidgeSteps": (schedules.RidgeSteps, {"schedule": SCHEDULE, "ridge": 0.1}),
    "plan": (
        stepfold.plan,
        {"problem": PROBLEM, "rtol": 1e-3, "period": None, "bounds": None},
    ),
    "LeastSquares": (
        problems.LeastSquares,
        {"operator": TALL, "rhs": RHS, "ridge": 0.0, "shape": None},
    ),
    "Quadratic": (problems.Quadratic, {"hessian": SQUARE, "rhs": ONES}),
    "Logistic": (
        problems.Logistic,
        {"operator": TALL, "labels": np.tile([-1.0, 1.0], 4), "ridge": 0.1},
    ),
    "Preconditioned": (
        problems.Preconditioned,
        {"problem": NORMAL, "preconditioner": np.diag(1 / np.diag(SQUARE))},
    ),
    "ImageProblem": (problems.ImageProblem, {"problem": PROBLEM, "shape": (2, 2)}),
    "jacobi_preconditioner": (problems.jacobi_preconditioner, {"problem": NORMAL}),
    "BlockedLeastSquares": (
        out_of_core.BlockedLeastSquares,
        {"array": TALL, "rhs": RHS, "ridge": 0.0, "block_rows": None, "memory": 10**6},
    ),
    "BlockedMatrix": (
        out_of_core.BlockedMatrix,
        {"array": TALL, "block_rows": None, "memory": 10**6},
    ),
    "ShardedLeastSquares": (
        ShardedLeastSquares,
        {"operator": TALL, "rhs": RHS, "group": None, "ridge": 0.0, "memory": 10**6},
    ),
    "ShardedFixedPoint": (ShardedFixedPoint, {"map": _map, "group": None}),
    "ShardedQuadratic": (
        ShardedQuadratic,
        {"local_rows": sp.csr_array(SQUARE), "local_rhs": ONES, "layout": None, "group": None},
    ),
    "Layout": (Layout, {"owners": np.zeros(4, dtype=np.int64), "rank": 0}),
    "Costs": (
        scale.Costs,
        {"entry": 1e-9, "number": 1e-9, "latency": 1e-5, "per_byte": 1e-9, "step": 0.0},
    ),
    "HaloWork": (scale.HaloWork, {"unknowns": 100, "entries": 500, "dimensions": 2}),
    "RowsWork": (scale.RowsWork, {"columns": 10, "entries": 500}),
    "break_even": (
        scale.break_even,
        {
            "work": scale.RowsWork(10, 500),
            "costs": COSTS,
            "num_processes": 4,
            "method": "known steps",
            "period": 8,
        },
    ),
    "resumable_solve": (
        resumable_solve,
        {
            "problem": PROBLEM,
            "schedule": None,
            "checkpoint": "run.npz",
            "every": 1e3,
            "group": None,
            "max_steps": 3,
            "callback": None,
        },
    ),
    "write_parts": (write_parts, {"folder": "/dev/null/no", "parts": [TALL]}),
    "list_parts": (list_parts, {"folder": "/dev/null/no", "names": None}),
    "Composite": (problems.Composite, {"problem": PROBLEM, "penalty": L1}),
    "lasso": (
        problems.lasso,
        {"operator": TALL, "rhs": RHS, "weight": 0.1, "ratio": None, "ridge": 0.0, "shape": None},
    ),
    "L1": (penalties.L1, {"weight": 0.1}),
    "ElasticNet": (penalties.ElasticNet, {"weight": 0.1, "ridge": 0.1}),
    "GroupL1": (penalties.GroupL1, {"weight": 0.1, "groups": [0, 0, 1, 1]}),
    "NuclearNorm": (penalties.NuclearNorm, {"weight": 0.1, "shape": (2, 2)}),
    "TotalVariation": (
        penalties.TotalVariation,
        {"weight": 0.1, "shape": (2, 2), "max_iterations": 10, "rtol": 1e-3},
    ),
    "Box": (penalties.Box, {"lower": 0.0, "upper": 1.0}),
    "Ball": (penalties.Ball, {"radius": 1.0, "center": None}),
    "Simplex": (penalties.Simplex, {"total": 1.0}),
    "jacobi_iteration": (problems.jacobi_iteration, _WITH_RHS),
    "gauss_seidel": (problems.gauss_seidel, {**_WITH_RHS, "symmetric": False}),
    "sor": (problems.sor, {**_WITH_RHS, "omega": 1.2, "symmetric": False}),
    "landweber": (problems.landweber, {"problem": PROBLEM, "gamma": None}),
    "HeavyBall": (HeavyBall, {"momentum": 0.5}),
    "heavy_ball": (heavy_ball, {"bounds": BOUNDS, "period": None}),
    "Nesterov": (Nesterov, {"momentum": 0.5}),
    "nesterov": (nesterov, {"bounds": BOUNDS, "period": None}),
    "SemiIteration": (SemiIteration, {"contraction": 0.5}),
    "semi_iteration": (semi_iteration, {"bounds": BOUNDS, "period": 1}),
    "BarzilaiBorwein": (BarzilaiBorwein, {"short": False, "bounds": None}),
    "barzilai_borwein": (barzilai_borwein, {"bounds": BOUNDS, "period": 8}),
    "ProximalGradient": (ProximalGradient, {"penalty": L1}),
    "Fista": (Fista, {"penalty": L1, "restart": True}),
    "solve": (
        stepfold.solve,
        {
            "problem": PROBLEM,
            "schedule": None,
            "x0": None,
            "iteration": None,
            "rtol": 1e-3,
            "atol": 0.0,
            "error_rtol": None,
            "gap_rtol": None,
            "gap_atol": 0.0,
            "max_steps": 20,
            "max_products": None,
            "max_seconds": None,
            "guard": stepfold.Guard(),
            "low_precision": None,
            "keep_iterates": False,
            "callback": None,
        },
    ),
    "solve of a composite": (
        stepfold.solve,
        {
            "problem": problems.lasso(TALL, RHS, weight=0.1),
            "schedule": None,
            "x0": None,
            "rtol": 1e-3,
            "gap_rtol": None,
            "gap_atol": 0.0,
            "max_steps": 20,
        },
    ),
    "period": (
        stepfold.period,
        {"problem": PROBLEM, "schedule": SCHEDULE, "iteration": None},
    ),
    "Guard": (
        stepfold.Guard,
        {"bounds": None, "rebuild": None, "lowers": False, "max_events": 16},
    ),
    "choose_ridge": (
        choose_ridge,
        {"problem": PROBLEM, "noise": 0.45, "seed": 0, "max_steps": 10},
    ),
    "accelerate": (
        stepfold.accelerate,
        {
            "map": _map,
            "x0": ONES,
            "rtol": 1e-3,
            "atol": 0.0,
            "max_products": 50,
            "max_seconds": 10.0,
            "schedule": None,
            "bounds": None,
            "period": None,
            "guard": True,
            "batch": False,
            "differentiable": False,
            "stop": None,
            "callback": None,
        },
    ),
    "FixedPoint": (problems.FixedPoint, {"map": _map}),
    "iterate": (
        iterate,
        {"map": _map, "x0": ONES, "method": None, "rtol": 1e-3, "atol": 0.0, "max_products": 50},
    ),
    "Constant": (Constant, {"bounds": BOUNDS}),
    "Anderson": (Anderson, {"memory": 5}),
    "jacobian_spectrum": (
        jacobian_spectrum,
        {"map": _map, "x": ONES, "max_products": 10, "rtol": 0.1, "seed": 0},
    ),
    "Ellipse": (Ellipse, {"center": 1.0, "real_axis": 0.5, "imaginary_axis": 0.2}),
    "enclosing_ellipse": (enclosing_ellipse, {"points": [1.0, 1.2, 1 + 0.1j, 1 - 0.1j]}),
    "chebyshev": (
        scipy.chebyshev,
        {
            "A": SQUARE,
            "b": ONES,
            "x0": None,
            "rtol": 1e-3,
            "atol": 0.0,
            "maxiter": 20,
            "M": None,
            "callback": None,
            "bounds": None,
        },
    ),
    "lsq_chebyshev": (
        scipy.lsq_chebyshev,
        {
            "A": TALL,
            "b": RHS,
            "damp": 0.0,
            "atol": 1e-3,
            "btol": 1e-3,
            "iter_lim": 20,
            "x0": None,
            "bounds": None,
        },
    ),
    "as_preconditioner": (
        scipy.as_preconditioner,
        {"A": SQUARE, "schedule": SCHEDULE, "bounds": None},
    ),
    "solver": (
        pyamg.solver,
        {"A": sp.csr_array(SQUARE), "B": None, "degree": 2, "part": 0.25, "seed": 0},
    ),
    "smoother": (
        pyamg.smoother,
        {"A": sp.csr_array(SQUARE), "degree": 2, "part": 0.25, "seed": 0},
    ),
    "multigrid_options": (
        petsc.multigrid_options,
        {"schedules": schedules.chebyshev_steps(BOUNDS, 2), "prefix": ""},
    ),
    "ChebyshevRidge": (
        lambda alpha, tol, max_iter: sklearn.ChebyshevRidge(alpha, tol=tol, max_iter=max_iter).fit(
            TALL, RHS
        ),
        {"alpha": 1.0, "tol": None, "max_iter": None},
    ),
    "ScheduleLR": (
        ScheduleLR,
        {"optimizer": Fresh(_optimizer), "schedule": SCHEDULE},
    ),
    "learning_rate": (learning_rate, {"schedule": SCHEDULE}),
    "UnfoldedIteration": (
        unfolded.UnfoldedIteration,
        {
            "schedule": SCHEDULE,
            "iteration": None,
            "num_layers": None,
            "parameters": None,
            "modules": None,
            "constraint": unfolded.Positive,
            "train_steps": True,
            "recompute_every": None,
            "dtype": torch.float64,
        },
    ),
    "Trainable": (
        unfolded.Trainable,
        {"initial": 0.5, "period": None, "constraint": unfolded.Positive},
    ),
    "Bounded": (unfolded.Bounded, {"lower": 0.0, "upper": 1.0}),
    "BatchedLeastSquares": (
        unfolded.BatchedLeastSquares,
        {"operators": torch.ones(2, 3, 4), "rhs": torch.ones(2, 3), "ridge": 0.0},
    ),
    "train": (
        unfolded.train,
        {
            "network": Fresh(_network),
            "loss": Fresh(_sampler),
            "stages": [unfolded.Stage(1, 2)],
            "start": None,
            "optimizer": None,
            "groups": None,
            "scheduler": None,
            "restart_optimizer": False,
            "relative": False,
            "clip_norm": None,
            "scaler": None,
            "held_out": None,
            "batches_per_step": None,
            "most_skipped": 10,
            "seed": 0,
            "callback": None,
            "progress": None,
            "checkpoint": None,
            "checkpoint_every": None,
        },
    ),
    "train_incrementally": (
        unfolded.train_incrementally,
        {
            "network": Fresh(_network),
            "loss": Fresh(_sampler),
            "num_iterations": 2,
            "optimizer": None,
            "seed": 0,
        },
    ),
    "train_replicas": (
        unfolded.train_replicas,
        {
            "measures": MEASURE,
            "num_layers": 2,
            "seeds": [0],
            "num_iterations": 2,
            "batch_size": 2,
            "initial_step": 0.1,
            "learning_rate": 0.01,
        },
    ),
    "train_exactly": (
        unfolded.train_exactly,
        {"problem": NORMAL, "solutions": ONES, "period": 2, "x0": None},
    ),
    "Stage": (unfolded.Stage, {"num_layers": 2, "num_iterations": 5, "first_layer": 0}),
    "incremental": (unfolded.incremental, {"num_layers": 2, "num_iterations": 5}),
    "all_at_once": (unfolded.all_at_once, {"num_layers": 2, "num_iterations": 5}),
    "greedy_then_refined": (
        unfolded.greedy_then_refined,
        {"num_layers": 2, "num_iterations": 5, "num_refining": None},
    ),
    "SampledLoss": (
        unfolded.SampledLoss,
        {
            "sampler": Fresh(_sampler),
            "measure": None,
            "criterion": unfolded.squared_error,
            "discount": 0.0,
        },
    ),
    "SpectralLoss": (
        unfolded.SpectralLoss,
        {"measure": MEASURE, "batch_size": 2, "noise": 0.0},
    ),
    "loss_for": (unfolded.loss_for, {"network": Fresh(_network), "sampler": Fresh(_sampler)}),
    "GaussianLeastSquares": (
        unfolded.GaussianLeastSquares,
        {
            "operator": TALL,
            "batch_size": 2,
            "noise": 0.0,
            "gram": False,
            "dtype": torch.float64,
            "device": None,
        },
    ),
    "HeldOut": (
        unfolded.HeldOut,
        {"loss": Fresh(_sampler), "every": 5, "patience": 5, "seed": 0},
    ),
    "theory_start": (
        unfolded.theory_start,
        {
            "network": Fresh(_network),
            "sample": Fresh(lambda: unfolded.Sample(_batched(), STARTING.float())),
            "criterion": unfolded.squared_error,
            "max_passes": 7,
        },
    ),
    "local_spectra": (
        unfolded.local_spectra,
        {"network": Fresh(_network), "problem": TORCH_PROBLEM, "x0": STARTING[0]},
    ),
    "fixed_point": (
        unfolded.fixed_point,
        {
            "map": _map,
            "x0": STARTING,
            "rtol": None,
            "atol": 0.0,
            "max_products": 50,
            "batch": False,
        },
    ),
    "Axis": (lab.Axis, {"label": "T", "log": False, "floor": None}),
    "Level": (lab.Level, {"label": "T", "value": 1.0}),
    "Curve": (
        lab.Curve,
        {"label": "a", "x": ONES, "y": ONES, "style": "line", "band": None, "role": ""},
    ),
    "Figure": (
        lab.Figure,
        {"name": "a", "title": "b", "alt": "c", "curves": (CURVE,), "x": AXIS, "y": AXIS},
    ),
    "Formula": (lab.Formula, {"latex": "x^2"}),
    "Image": (lab.Image, {"label": "a", "pixels": np.zeros((4, 4), dtype=np.uint8)}),
    "Table": (lab.Table, {"columns": ("a", "b"), "rows": (("1", "2"),)}),
    "Check": (
        lab.Check,
        {"claim": "a", "expected": "b", "measured": 1.0, "lower": 0.0, "upper": 2.0},
    ),
    "Section": (
        lab.Section,
        {"heading": "a", "paragraphs": ("b",), "figure": None, "table": None},
    ),
    "Outcome": (
        lab.Outcome,
        {
            "title": "a",
            "summary": "b",
            "sections": (lab.Section("a", ("b",)),),
            "checks": (),
            "parameters": {},
            "records": {},
            "name": "",
            "source": None,
        },
    ),
    "TrainingSettings": (
        TrainingSettings,
        {
            "strategy": "incremental",
            "num_iterations": 5,
            "optimizer": "adam",
            "learning_rate": 0.1,
            "final_learning_rate": None,
            "clip_norm": None,
            "patience": None,
            "look_every": 50,
            "batches_per_step": None,
            "seed": 0,
            "start": None,
        },
    ),
    "posterior_mean": (
        tista.posterior_mean,
        {"values": torch.ones(2, 3), "variance": torch.tensor(0.1), "density": 0.5},
    ),
    "SparseSignals": (
        sparse_signals.SparseSignals,
        {
            "num_unknowns": 8,
            "num_rows": 4,
            "density": 0.1,
            "snr": 40.0,
            "batch_size": 4,
            "matrix_seed": 0,
        },
    ),
    "OverloadedMimo": (
        mimo.OverloadedMimo,
        {"num_sending": 4, "num_receiving": 2, "snr": 20.0, "batch_size": 4},
    ),
    "BoxLeastSquares": (
        box.BoxLeastSquares,
        {
            "num_unknowns": 4,
            "num_rows": 8,
            "spread": 3.0,
            "num_problems": 4,
            "batch_size": 2,
            "matrix_seed": 0,
        },
    ),
    "BinarySignals": (
        box.BinarySignals,
        {"num_unknowns": 4, "num_rows": 8, "noise": 3.0, "batch_size": 2, "matrix_seed": 0},
    ),
    "box_least_squares": (
        box.box_least_squares,
        {"matrix": TALL, "rhs": RHS[None], "rtol": 1e-3, "max_iterations": 100},
    ),
    "JacobiSystems": (
        relaxation.JacobiSystems,
        {"num_unknowns": 4, "batch_size": 2, "matrix_seed": 0},
    ),
    "ridge_error": (
        ridge.ridge_error,
        {"steps": [0.1], "ridges": [0.1], "measure": MEASURE, "noise": 0.1},
    ),
    "BlurredPatches": (
        blur.BlurredPatches,
        {
            "pictures": [np.random.default_rng(0).random((16, 16))],
            "side": 8,
            "width": 1.5,
            "noise": 0.004,
            "batch_size": 2,
        },
    ),
    "WindowCosines": (deblurring.WindowCosines, {"weight": 0.1}),
}

MASKED = np.ma.masked_greater(np.ones((4, 4)), 0.5)

BAD: dict[str, Any] = {
    "None": None,
    "str": "junk",
    "bytes": b"junk",
    "NaN": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "-0.5": -0.5,
    "0": 0,
    "1e12": 10**12,
    "1e30": 10**30,
    "10**400": 10**400,
    "1e300": 1e300,
    "complex": 1 + 2j,
    "True": True,
    "object": object(),
    "class": stepfold.SpectralBounds,
    "function": lambda: None,
    "function of one": lambda x: x,
    "module": np,
    "[]": [],
    "[None]": [None],
    "tuple": (1.0, 9.0),
    "{}": {},
    "set": {1.0},
    "range": range(3),
    "array 0": np.zeros(0),
    "array ()": np.array(1.5),
    "array 1": np.ones(3),
    "array 2": np.eye(3),
    "array 3": np.ones((2, 2, 2)),
    "array NaN": np.array([1.0, np.nan]),
    "matrix NaN": np.array([[1.0, np.nan], [0.0, 1.0]]),
    "array inf": np.array([[1.0, np.inf], [0.0, 1.0]]),
    "array negative": np.array([-1.0, 2.0]),
    "array str": np.array(["a", "b"]),
    "array object": np.array([object(), None]),
    "array complex": np.array([1j, 2.0]),
    "array int8": np.array([1, 2], dtype=np.int8),
    "array datetime": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "array record": np.zeros(2, dtype=[("a", float), ("b", int)]),
    "matrix of zeros": np.zeros((4, 4)),
    "masked 1": MASKED[0],
    "masked 2": MASKED,
    "sparse": sp.csr_array(np.eye(3)),
    "sparse, empty": sp.csr_array((0, 3)),
    "Series": pd.Series([1.0, 2.0], index=["a", "b"]),
    "Series of words": pd.Series(["a", "b"]),
    "DataFrame": pd.DataFrame({"a": [1.0, None], "b": [2.0, 3.0]}),
    "DataFrame of words": pd.DataFrame({"a": ["x", "y"]}),
    "tensor": torch.ones(3),
    "tensor of integers": torch.ones(2, 2, dtype=torch.int64),
    "tensor NaN": torch.tensor([float("nan")]),
    "tensor, empty": torch.ones(0, 4),
    "bounds": BOUNDS,
    "bounds of zero": stepfold.SpectralBounds(0.0, 0.0),
    "schedule": SCHEDULE,
    "signed schedule": stepfold.Schedule([-0.1, 0.2], signed=True),
    "measure": MEASURE,
    "problem": PROBLEM,
    "penalty": L1,
    "str, long": "a" * 100_000,
    "str, NUL": "a\0b",
    "surrogate": "\ud800",
}
"""What no argument, or hardly any, may be."""


class Try(NamedTuple):
    """One call: of what, with which argument replaced, by what."""

    call: str
    argument: str
    bad: str

    def __str__(self) -> str:
        return f"{self.call}({self.argument}={self.bad})"


class Ending(NamedTuple):
    """How a try ended, and what was said."""

    kind: str
    message: str


def all_tries() -> list[Try]:
    """Every argument of every call, with every bad value."""
    return [Try(call, name, bad) for call in CALLS for name in CALLS[call][1] for bad in BAD]


def good_call(call: str) -> Any:
    """The result of a call without a bad argument."""
    function, arguments = CALLS[call]
    return function(**{n: v.make() if isinstance(v, Fresh) else v for n, v in arguments.items()})


def attempt(try_: Try) -> Ending:
    """Make one call and say how it ended."""
    function, arguments = CALLS[try_.call]
    made = {n: v.make() if isinstance(v, Fresh) else v for n, v in arguments.items()}
    made[try_.argument] = BAD[try_.bad]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**made)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        return Ending(_kind(error, try_.argument), _words(error))
    return Ending("taken", "")


_CALLED = ("<lambda>()", "__init__()", "__call__()")
_EXPECTED = (ValueError, TypeError, KeyError, OSError, MemoryError)


def _kind(error: Exception, argument: str) -> str:
    if isinstance(error, TypeError) and any(word in str(error) for word in _CALLED):
        return "taken"  # it was called, which it refuses
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = os.sep + "stepfold" + os.sep in last.filename
    is_raised = linecache.getline(last.filename, last.lineno or 0).strip().startswith("raise ")
    if not (ours and is_raised and isinstance(error, _EXPECTED)):
        # The system's own words name the path.
        is_path = isinstance(error, OSError) and error.filename is not None
        return "refused" if is_path else "foreign"
    # Of two arguments that do not fit together the other may be named; of a file, its path.
    text = str(error.args[0]) if error.args else ""
    is_named = "`" in text or isinstance(error, OSError)
    is_unknown = isinstance(error, KeyError) and f"there is no {argument}" in text
    return "refused" if is_named or is_unknown else "unnamed"


def _words(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if os.sep + "stepfold" + os.sep in frame.filename]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "the call"
    text = f"{type(error).__name__}: {str(error)[:160]} [{place}]"
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())


def run(tries: list[Try], seconds: float = SECONDS) -> Iterator[tuple[Try, Ending]]:
    """Make the tries in child processes: one that hangs or dies is told, and the next begins."""
    position = 0
    while position < len(tries):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _serve(tries[position:], write)
        os.close(write)
        lines = _lines(read, seconds)
        for line in lines:
            yield tries[position], Ending(*json.loads(line))
            position += 1
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(read)
        if position < len(tries):
            hangs = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            yield tries[position], Ending("hang" if hangs else "crash", "")
            position += 1


def _lines(source: int, seconds: float) -> Iterator[bytes]:
    """Whole lines from a pipe, until it closes or is silent for too long."""
    rest = b""
    while select.select([source], [], [], seconds)[0]:
        data = os.read(source, 1 << 16)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def _serve(tries: list[Try], write: int) -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    os.chdir(tempfile.mkdtemp(prefix="stepfold-arguments-"))
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    for try_ in tries:
        line = json.dumps(attempt(try_)) + "\n"
        os.write(write, line.encode())
    os._exit(0)


def main() -> None:
    """Print how the tries ended, and those that did not end as they should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="tries to draw; all of them if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", help="a call's name, or its beginning")
    options = parser.parse_args()
    tries = [t for t in all_tries() if t.call.startswith(options.only or "")]
    if options.sample:
        tries = random.Random(options.seed).sample(tries, options.sample)
    counts: collections.Counter[str] = collections.Counter()
    for try_, ending in run(tries):
        counts[ending.kind] += 1
        if ending.kind not in ("taken", "refused"):
            print(f"{ending.kind:8} {try_}: {ending.message}", flush=True)
    print(f"{len(tries)} tries of {len(CALLS)} calls: {dict(counts)}")
    sys.exit(any(counts[kind] for kind in ("unnamed", "foreign", "hang", "crash")))


if __name__ == "__main__":
    main()
