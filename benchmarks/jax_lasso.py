"""A lasso beside jaxopt's accelerated proximal gradients, at equal duality gap, on the processor.

    python benchmarks/jax_lasso.py [--quick]

jaxopt is not among the dependencies of any extra; install it beside the extra ``optax``. Its loop
is compiled before the clock starts, runs in double precision, gets the exact largest eigenvalue for
its step, and makes as many iterations as its gap needs, to one in ten. Ours finds the bound and
looks at the gap within its time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from _timing import quartiles, take_turns

from stepfold import lasso, solve

GAP = 1e-6


def main() -> None:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    import jaxopt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small lasso")
    m, n = (400, 1000) if parser.parse_args().quick else (2000, 5000)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((m, n))
    truth = np.where(rng.random(n) < 0.02, rng.standard_normal(n), 0.0)
    rhs = matrix @ truth + rng.standard_normal(m)
    largest = float(np.linalg.norm(matrix, 2)) ** 2
    held, seen, start = jnp.asarray(matrix), jnp.asarray(rhs), jnp.zeros(n)
    print(f"{m} × {n}, gap {GAP:g} of the objective at 0, jax {jax.__version__}")
    print("| weight | jaxopt, iterations | jaxopt, ms | solve, steps | solve, ms | ratio |")
    print("|---|---|---|---|---|---|")
    for ratio in (0.1, 0.02):
        objective = lasso(matrix, rhs, ratio=ratio)
        weight = ratio * float(abs(matrix.T @ rhs).max())
        zero = float(objective.value(np.zeros(n)))

        def rival(count: int, weight: float = weight) -> Any:
            method = jaxopt.ProximalGradient(
                lambda x: 0.5 * jnp.sum((held @ x - seen) ** 2),
                jaxopt.prox.prox_lasso,
                stepsize=1 / largest,
                maxiter=count,
                tol=0.0,
                acceleration=True,
            )
            return jax.jit(lambda x: method.run(x, hyperparams_prox=weight).params)

        def gap(x: Any, objective: Any = objective, zero: float = zero) -> float:
            return float(objective.gap(np.asarray(x))) / zero

        count = _fewest(lambda k, rival=rival, gap=gap: gap(rival(k)(start)) <= GAP)
        run = rival(count)
        ours = solve(objective, gap_rtol=GAP)
        if gap(ours.x) > GAP:
            raise SystemExit("solve did not reach the gap")
        timings = take_turns(
            {
                "ours": lambda weight=weight: solve(
                    lasso(matrix, rhs, weight=weight), gap_rtol=GAP
                ),
                "jaxopt": lambda run=run: run(start).block_until_ready(),
            },
            5,
        )
        ratios = [
            a / b for a, b in zip(timings["ours"].seconds, timings["jaxopt"].seconds, strict=True)
        ]
        low, middle, high = quartiles(ratios)
        print(
            f"| {ratio:g} | {count} | {1000 * timings['jaxopt'].median:.0f} | {ours.num_steps} "
            f"| {1000 * timings['ours'].median:.0f} | {middle:.2f} ({low:.2f}–{high:.2f}) |"
        )


def _fewest(is_enough: Callable[[int], bool]) -> int:
    """The fewest iterations, to one in ten: doubled until they are enough, then bisected."""
    high = 10
    while not is_enough(high):
        high *= 2
    low = high // 2
    while high - low > low // 10:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


if __name__ == "__main__":
    main()
