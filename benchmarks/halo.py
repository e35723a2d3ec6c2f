"""Unknowns over two processes: known steps beside four kinds of conjugate gradients.

    python benchmarks/halo.py                         # about five minutes
    python benchmarks/halo.py --quick                 # below 20 seconds
    python benchmarks/halo.py --write docs/guides/halo.md    # replace the table in that page

It starts itself under torchrun. All have the same rows, the same products with them and the same
right-hand side, and go on until the gradient is 1e-8 of that at 0. Known steps have bounds from an
earlier solution, as for the next right-hand side. Delays are added as a network would: what was
begun is ready no earlier than so much later, so that whoever works meanwhile loses less.

Seconds are the shortest of three runs, because others on a machine only slow.

- *known steps, depth 8*: with the rows of others around, and one exchange of messages for 8 steps.
- *`solve` without steps*: conjugate gradients with one sum a step (Saad and Meurant).
- *textbook*: Hestenes and Stiefel, two sums a step.
- *fused*: Chronopoulos and Gear (1989), one sum a step.
- *pipelined*: Ghysels and Vanroose (2014), one sum a step, which travels during the product.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from stepfold import chebyshev_steps, solve
from stepfold.distributed import Group, Layout, ShardedQuadratic, gathered, processes
from stepfold.distributed.scale import METHODS, HaloWork, measured_costs
from stepfold.planner import shortest_good_period

RTOL = 1e-8
ROUNDS = 3
# Known steps for one exchange of messages.
DEPTH = 8
BEGIN, END = "<!-- benchmarks/halo.py: begin -->", "<!-- benchmarks/halo.py: end -->"


class Slow(Group):
    """Processes with a slower network, which counts what goes over it."""

    def __init__(self, group: Any) -> None:
        self.inner, self.rank, self.size = group, group.rank, group.size
        self.sum_delay = self.message_delay = 0.0
        self.counts = {"sums": 0, "messages": 0, "bytes": 0}

    def begin_sum(self, values: Any) -> Callable[[], Any]:
        import torch

        ready = time.perf_counter() + self.sum_delay
        self.counts["sums"] += 1
        self.counts["bytes"] += values.nbytes
        work = torch.distributed.all_reduce(torch.from_numpy(values), async_op=True)

        def wait() -> Any:
            work.wait()
            _sleep_until(ready)
            return values

        return wait

    def sum(self, values: Any) -> Any:
        return self.begin_sum(values)()

    def gather(self, value: Any) -> list[Any]:
        ready = time.perf_counter() + self.sum_delay
        self.counts["sums"] += 1  # it is as much of a collective
        values: list[Any] = self.inner.gather(value)
        _sleep_until(ready)
        return values

    def broadcast(self, value: Any) -> Any:
        return self.inner.broadcast(value)

    def swap(self, outgoing: Mapping[int, Any], incoming: Mapping[int, Any]) -> Callable[[], None]:
        ready = time.perf_counter() + self.message_delay
        self.counts["messages"] += len(outgoing)
        self.counts["bytes"] += sum(array.nbytes for array in outgoing.values())
        wait = self.inner.swap(outgoing, incoming)

        def finish() -> None:
            wait()
            _sleep_until(ready)

        return finish


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)


def textbook(product: Any, b: Any, group: Slow) -> tuple[Any, int]:
    x, r = np.zeros_like(b), b.copy()
    p = r.copy()
    square = first = group.sum(np.array([r @ r]))[0]
    for count in range(1, 100_000):
        image = product(p)
        alpha = square / group.sum(np.array([p @ image]))[0]
        x += alpha * p
        r -= alpha * image
        after = group.sum(np.array([r @ r]))[0]
        if after <= RTOL**2 * first:
            return x, count
        p *= after / square
        p += r
        square = after
    raise RuntimeError("no end")


def fused(product: Any, b: Any, group: Slow) -> tuple[Any, int]:
    x, r = np.zeros_like(b), b.copy()
    p, s = np.zeros_like(b), np.zeros_like(b)
    before = alpha = first = 0.0
    for count in range(100_000):
        w = product(r)
        square, along = group.sum(np.array([r @ r, r @ w]))
        first = first or square
        if square <= RTOL**2 * first:
            return x, count
        beta = square / before if before else 0.0
        alpha = square / (along - beta * square / alpha) if before else square / along
        p *= beta
        p += r
        s *= beta
        s += w
        x += alpha * p
        r -= alpha * s
        before = square
    raise RuntimeError("no end")


def pipelined(product: Any, b: Any, group: Slow) -> tuple[Any, int]:
    x, r, w = np.zeros_like(b), b.copy(), product(b)
    z, s, p = np.zeros_like(b), np.zeros_like(b), np.zeros_like(b)
    before = alpha = first = 0.0
    for count in range(100_000):
        wait = group.begin_sum(np.array([r @ r, w @ r]))
        q = product(w)
        square, along = wait()
        first = first or square
        if square <= RTOL**2 * first:
            return x, count
        beta = square / before if before else 0.0
        alpha = square / (along - beta * square / alpha) if before else square / along
        for vector, new in ((z, q), (s, w), (p, r)):
            vector *= beta
            vector += new
        x += alpha * p
        r -= alpha * s
        w -= alpha * z
        before = square
    raise RuntimeError("no end")


def line(size: int) -> Any:
    off = -np.ones(size - 1)
    return scipy.sparse.diags_array([2 * np.ones(size), off, off], offsets=[0, 1, -1])


def grid(size: int, dimensions: int) -> Any:
    """Poisson's equation on a grid of so many points along each axis."""
    eye, matrix = scipy.sparse.eye_array(size), line(size)
    for _ in range(dimensions - 1):
        rest = scipy.sparse.eye_array(matrix.shape[0])
        matrix = scipy.sparse.kron(matrix, eye) + scipy.sparse.kron(rest, line(size))
    return matrix.tocsr()


def graph(size: int) -> Any:
    """Laplacian of the 6 nearest neighbours of random points in a square, plus 0.01."""
    from scipy.spatial import cKDTree

    points = np.random.default_rng(5).random((size, 2))
    near = np.asarray(cKDTree(points).query(points, 7)[1])[:, 1:]
    ends = (np.repeat(np.arange(size), 6), near.ravel())
    edges = scipy.sparse.coo_array((np.ones(6 * size), ends), (size, size)).tocsr()
    edges = edges.maximum(edges.T)
    return (scipy.sparse.diags_array(edges.sum(axis=1) + 0.01) - edges).tocsr()


def problems(quick: bool) -> dict[str, Any]:
    if quick:
        return {"Poisson 2-D, 30²": grid(30, 2)}
    return {
        "Poisson 2-D, 64²": grid(64, 2),
        "Poisson 3-D, 20³": grid(20, 3),
        "graph, 4000, METIS": graph(4000),
    }


def measure(options: argparse.Namespace) -> None:
    lines = [
        "| problem | delay (ms) of collectives, messages | method | steps | collectives "
        f"| messages | kB sent | seconds | known steps take | at depth {DEPTH} | model, seconds |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with processes() as inner:
        for name, matrix in problems(options.quick).items():
            lines += compare(name, matrix, Slow(inner), options.quick)
        if inner.rank == 0:
            print("\n".join(lines))
            if options.write:
                replace(options.write, "\n".join(lines))


def compare(name: str, matrix: Any, group: Slow, quick: bool) -> list[str]:
    size = matrix.shape[0]
    layout = Layout.by_metis(matrix, group) if "METIS" in name else Layout.even(size, group)
    b = np.random.default_rng(1).standard_normal(size)
    mine = b[layout.own]
    problem = ShardedQuadratic(matrix[layout.own], mine, layout, group)
    bounds = solve(problem, rtol=RTOL).bounds
    assert bounds is not None  # noqa: S101
    steps = chebyshev_steps(bounds, shortest_good_period(bounds, RTOL))

    def product(v: Any) -> Any:
        return problem.hessian.local_product(v)

    def known() -> tuple[Any, int]:
        result = solve(problem, steps, rtol=RTOL)
        return result.x.local, result.num_steps

    deep_problem = ShardedQuadratic(matrix[layout.own], mine, layout, group, depth=DEPTH)

    def deep() -> tuple[Any, int]:
        result = solve(deep_problem, steps, rtol=RTOL)
        return result.x.local, result.num_steps

    def automatic() -> tuple[Any, int]:
        result = solve(problem, rtol=RTOL)
        return result.x.local, result.num_steps

    methods: dict[str, Callable[[], tuple[Any, int]]] = {
        "known steps": known,
        f"known steps, depth {DEPTH}": deep,
        "`solve` without steps": automatic,
        "textbook": lambda: textbook(product, mine, group),
        "fused": lambda: fused(product, mine, group),
        "pipelined": lambda: pipelined(product, mine, group),
    }
    rows = []
    for delay, everything in ((0.0, True), (1e-3, True), (5e-3, True), (5e-3, False)):
        if (quick and delay == 5e-3 and everything) or (delay and group.size == 1):
            continue
        group.sum_delay, group.message_delay = delay, delay if everything else 0.0
        network = {} if group.size > 1 else {"latency": 0.0, "per_byte": 0.0}
        costs = measured_costs(group, 0.5, **network)
        seconds = dict.fromkeys(methods, np.inf)
        found = {}
        for method, run in list(methods.items()) * (1 if quick else ROUNDS):  # they take turns
            group.counts.update(sums=0, messages=0, bytes=0)
            group.inner.gather(None)
            begun = time.perf_counter()
            x, count = run()
            took = max(group.inner.gather(time.perf_counter() - begun))
            seconds[method] = min(seconds[method], took)
            found[method] = count, dict(group.counts)
            residual = matrix @ gathered(problem.spread(x)) - b
            if not np.linalg.norm(residual) <= 1.5 * RTOL * np.linalg.norm(b):
                raise SystemExit(f"{method} on {name} has not reached the tolerance")
        ours, ours_deep = seconds["known steps"], seconds[f"known steps, depth {DEPTH}"]
        dimensions = 3 if "3-D" in name else 2
        for method, (count, sent) in found.items():
            kind = "fused" if "`" in method else method.partition(",")[0]
            kind = kind if kind in METHODS else f"{kind} conjugate gradients"
            depth = DEPTH if "depth" in method else 1
            work = HaloWork(size, matrix.nnz, dimensions, depth)
            model = count * work.step_seconds(costs, group.size, kind, steps.period)
            rows.append(
                f"| {name} | {1e3 * delay:.0f}, {1e3 * group.message_delay:.0f} | {method} | "
                f"{count} | {sent['sums']} | {sent['messages']} | {sent['bytes'] / 1e3:.0f} | "
                f"{seconds[method]:.3g} | {ours / seconds[method]:.2f} | "
                f"{ours_deep / seconds[method]:.2f} | {model:.3g} |"
            )
    return rows


def replace(page: Path, table: str) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.sub(
        f"{re.escape(BEGIN)}.*{re.escape(END)}",
        lambda _: f"{BEGIN}\n\n{table}\n\n{END}",
        text,
        flags=re.DOTALL,
    )
    page.write_text(found, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2)
    options = parser.parse_args()
    if "RANK" in os.environ:
        measure(options)
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, f"--nproc-per-node={options.processes}", __file__, *sys.argv[1:]],
        env={"GLOO_SOCKET_IFNAME": "lo", **os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )


if __name__ == "__main__":
    main()
