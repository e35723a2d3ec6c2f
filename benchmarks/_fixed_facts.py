"""Published settings of relaxed fixed-point iterations, by program."""

from __future__ import annotations

from typing import Any

import numpy as np
from _gallery import GALLERY
from _timing import Report

from stepfold import SpectralBounds, chebyshev_steps, constant_steps
from stepfold.accelerate import accelerate
from stepfold.iterations import Fista, ProximalGradient
from stepfold.polynomial import chebyshev_rate, constant_rate, first_order_lower_bound
from stepfold.problems import Composite, lasso
from stepfold.schedules import Schedule

GAP = 1e-6
MOST = 5_000
PERIODS = (8, 16, 32)
RATIOS = (1e-1, 1e-2, 1e-3)


def facts(report: Report, *, quick: bool) -> None:  # noqa: ARG001 (small already)
    """Jacobi, the nonlinear maps, Landweber with a = 0."""
    rows = [*_jacobi(), *_powers(), *_tanh(), *_landweber()]
    report.table("Published settings", ["setting", "quantity", "here", "published"], rows)


def _jacobi() -> list[list[str]]:
    import torch

    torch.manual_seed(0)
    factor = torch.normal(0.0, 0.03, (512, 512)).double().numpy()
    matrix = np.eye(512) + factor.T @ factor
    scaled = matrix / np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    eigenvalues = np.linalg.eigvalsh(scaled)
    bounds = SpectralBounds(float(eigenvalues[0]), float(eigenvalues[-1]))
    name = "Jacobi, n = 512, torch seed 0"
    solution = np.random.default_rng(0).standard_normal(512)
    rows = [
        [
            name,
            "eigenvalues of B",
            f"{bounds.lower:.5f} to {bounds.upper:.5f}",
            ".67658 to 1.92162",
        ],
        [name, "rate of Jacobi", f"{abs(1 - eigenvalues).max():.5f}", ".92162"],
        [name, "rate of constant SOR", f"{constant_rate(bounds):.5f}", ".47919"],
        [name, "rate with T = 8", f"{chebyshev_rate(bounds, 8):.5f}", ".27830"],
        [name, "limit of the rate", f"{first_order_lower_bound(bounds):.5f}", ".25520"],
    ]
    for what, steps in {
        "Jacobi": np.ones(8),
        "constant SOR": constant_steps(bounds, 8).steps,
        "Chebyshev, T = 8": chebyshev_steps(bounds, 8).steps,
    }.items():
        x = np.zeros(512)
        for omega in np.tile(steps, 3):
            x = x + omega * (matrix @ (solution - x)) / np.diag(matrix)
        error = np.linalg.norm(x - solution) / np.linalg.norm(solution)
        rows.append([name, f"error after 24 iterations, {what}", f"{error:.2e}", ""])
    return rows


def _powers() -> list[list[str]]:
    member = GALLERY["powers"](np.random.default_rng(0))
    found = accelerate(member.map, member.start, rtol=1e-13)
    low, high = _real_spectrum(member.map, member.solution)
    name = "powers in two dimensions"
    return [
        [name, "fixed point", f"{found.x[0]:.5f}, {found.x[1]:.5f}", "2.96457, 2.96457"],
        [name, "eigenvalues of B", f"{low:.5f} and {high:.5f}", ".62576 and 1.20655"],
    ]


def _tanh() -> list[list[str]]:
    member = GALLERY["tanh_network"](np.random.default_rng(0))
    bounds = SpectralBounds(*_real_spectrum(member.map, member.solution))
    plain = max(abs(1 - bounds.lower), abs(1 - bounds.upper))
    rows = [["tanh network, n = 100", "rate of the plain iteration", f"{plain:.4f}", ""]]
    for period in (1, 8):
        schedule = chebyshev_steps(bounds, period)
        start = member.solution + 1e-3 * np.random.default_rng(1).standard_normal(100)
        predicted = chebyshev_rate(bounds, period)
        seen = _rate(member.map, start, member.solution, schedule, 40 // period)
        text = f"rate with T = {period}, worst case and seen"
        rows.append(["tanh network, n = 100", text, f"{predicted:.4f}, {seen:.4f}", ""])
    return rows


def _landweber() -> list[list[str]]:
    """Relaxation with a = 0, whose steps need no lower bound."""
    member = GALLERY["landweber"](np.random.default_rng(0))
    angles = (2 * np.arange(8) + 1) * np.pi / 16
    rows = []
    for what, omegas in {
        "plain": np.ones(8),
        # The largest eigenvalue is that of the mean, 1.005. At both ends of [0, b] the polynomial
        # is 1 in absolute value: with a tight b the mean of the picture never gets right.
        "a = 0, b tight, T = 8": 2 / (1.005 * (1 + np.cos(angles))),
        "a = 0, b 10 % above, T = 8": 2 / (1.1 * (1 + np.cos(angles))),
    }.items():
        x: Any = member.start
        for omega in np.tile(omegas, 25):
            x = x + omega * (member.map(x) - x)
        rows.append(
            ["Landweber, 64 × 64", f"error after 200 steps, {what}", f"{member.error(x):.2e}", ""]
        )
    return rows


def _real_spectrum(map_: Any, x: Any) -> tuple[float, float]:
    size, h = x.size, 1e-6
    columns = [(map_(x + h * e) - map_(x - h * e)) / (2 * h) for e in np.eye(size)]
    eigenvalues = np.linalg.eigvals(np.eye(size) - np.array(columns).T)
    return float(eigenvalues.real.min()), float(eigenvalues.real.max())


def _rate(map_: Any, x: Any, solution: Any, schedule: Schedule, periods: int) -> float:
    before = np.linalg.norm(x - solution)
    for omega in list(schedule) * periods:
        x = x + omega * (map_(x) - x)
    steps = periods * schedule.period
    return float((np.linalg.norm(x - solution) / before) ** (1 / steps))


def lassos(report: Report, *, quick: bool) -> None:
    """The 27 settings, and the automatic one beside FISTA and ISTA."""
    counts = {True: 0, False: 0}
    worst = 0.0
    rows = []
    for seed in range(1 if quick else 3):
        objective = _lasso(seed)
        ista, fista = _proximal(objective, ProximalGradient), _proximal(objective, Fista)
        automatic = _relaxed(objective)
        for period in PERIODS:
            for ratio in RATIOS:
                bounds = SpectralBounds(ratio, 1.0)
                for guard in (True, False):
                    taken = _relaxed(objective, bounds, period, guard=guard)
                    counts[guard] += taken is not None
                    if guard and taken is not None:
                        worst = max(worst, taken / ista)
        verdict = "met" if automatic is not None and automatic <= fista else "missed"
        share = "–" if automatic is None else f"{automatic / ista:.2f}"
        rows.append([str(seed), str(ista), str(fista), str(automatic), share, verdict])
    total = len(rows) * len(PERIODS) * len(RATIOS)
    report.table(
        "Lassos 256 × 512, gap 1e-6",
        ["seed", "ISTA", "FISTA with restart", "`accelerate`", "of ISTA's", "at most FISTA's"],
        rows,
        f"Gradients until the duality gap is {GAP:g} of the objective at 0, checks not counted. Of "
        f"{total} settings of T in {PERIODS} and assumed lower/upper in {RATIOS}, {counts[True]} "
        f"get there with the guard, in at most {worst:.2f} of ISTA's gradients, and "
        f"{counts[False]} without it (in {MOST} gradients).",
    )


def _lasso(seed: int) -> Composite[Any]:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((256, 512)) / 16
    truth = rng.standard_normal(512) * (rng.random(512) < 0.1)
    rhs = matrix @ truth + 0.1 * rng.standard_normal(256)
    return lasso(matrix, rhs, ratio=0.05)


def _tolerance(objective: Composite[Any]) -> float:
    return GAP * float(objective.value(objective.zero))


def _proximal(objective: Composite[Any], kind: Any) -> int:
    method = kind(objective.penalty)
    state = method.init(objective.problem, objective.zero)
    tolerance = _tolerance(objective)
    for number in range(1, MOST):
        state = method.step(objective.problem, state, objective.step)
        if float(objective.gap(method.iterate(state))) <= tolerance:
            return number
    raise RuntimeError("no gap below the tolerance")


def _relaxed(
    objective: Composite[Any],
    bounds: SpectralBounds | None = None,
    period: int | None = None,
    *,
    guard: bool = True,
) -> int | None:
    tolerance = _tolerance(objective)
    result = accelerate(
        objective.fixed_point(),
        objective.zero,
        rtol=0.0,
        bounds=bounds,
        period=period,
        guard=guard,
        max_products=MOST,
        stop=lambda x: float(objective.gap(x)) <= tolerance,
    )
    good = float(objective.gap(result.x)) <= tolerance
    return int(result.history.num_products[-1]) if good else None
