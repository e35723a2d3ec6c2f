"""Bounds of spectra beside other estimates: how far from the truth, which side, how many products.

    python benchmarks/bounds.py                  # 20 seeds, 3 scales, about four minutes
    python benchmarks/bounds.py --seeds 3 --scales 1
    python benchmarks/bounds.py --only-large     # 4 million unknowns

Ratios are estimate / true largest eigenvalue of the Hessian. Peers see the Hessian as an operator;
each product with A or its transpose counts once. Peers that are not installed are skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, svds

from stepfold._krylov import lanczos
from stepfold.spectrum import Gershgorin, Gram, Lanczos, SpectralBounds, Tightest, estimate_bounds

# Estimates this close count as equally accurate.
ACCURACY = 0.03
# A peer that gives no answer costs the most products: it is asked no oftener than this.
PATIENCE = 2


@dataclass(frozen=True)
class Case:
    """An operator, whether its Hessian is AᵀA, and the true ends of the Hessian's spectrum."""

    name: str
    matrix: Any
    is_gram: bool
    lower: float
    upper: float


def gram_case(name: str, factor: Any) -> Case:
    values = np.linalg.svd(factor, compute_uv=False) ** 2
    lower = values[-1] if factor.shape[0] >= factor.shape[1] else 0.0
    return Case(name, factor, True, lower, values[0])


def grid(side: int, weight: float) -> Case:
    one = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    eye = sp.eye_array(side)
    matrix = (sp.kron(one, eye) + weight * sp.kron(eye, one)).tocsr()
    ends = [4 * math.sin(k * math.pi / (2 * (side + 1))) ** 2 for k in (1, side)]
    name = f"Poisson {side}²" if weight == 1 else f"anisotropic Poisson {side}², 1:{weight:g}"
    return Case(name, matrix, False, (1 + weight) * ends[0], (1 + weight) * ends[1])


def graph_laplacian(size: int) -> Case:
    rng = np.random.default_rng(3)
    # Preferential attachment: a few nodes of high degree, whose eigenvalues stand alone.
    heads = np.repeat(np.arange(1, size), 3)
    tails = (rng.random(heads.size) ** 2 * heads).astype(int)
    adjacency = sp.coo_array((np.ones(heads.size), (heads, tails)), shape=(size, size)).tocsr()
    adjacency = adjacency + adjacency.T
    matrix = (sp.diags_array(adjacency.sum(axis=1)) - adjacency).tocsr()
    values = np.linalg.eigvalsh(matrix.toarray())
    return Case(f"graph Laplacian {size}", matrix, False, max(values[0], 0.0), values[-1])


def convolution(side: int) -> Case:
    x = np.arange(-4, 5)
    kernel = np.exp(-(x[:, None] ** 2 + x**2) / 4)
    kernel /= kernel.sum()
    wrapped = np.zeros((side, side))
    wrapped[:9, :9] = kernel
    symbol = np.fft.fft2(wrapped)

    def apply(values: np.ndarray, transfer: np.ndarray) -> np.ndarray:
        return np.fft.ifft2(np.fft.fft2(values.reshape(side, side)) * transfer).real.ravel()

    operator = LinearOperator(
        (side**2, side**2),
        matvec=lambda v: apply(v, symbol),
        rmatvec=lambda v: apply(v, symbol.conj()),
        dtype=np.float64,
    )
    squares = np.abs(symbol) ** 2
    return Case(f"blur of a {side}² picture", operator, True, squares.min(), squares.max())


def regression() -> Case:
    if importlib.util.find_spec("sklearn"):
        from sklearn.datasets import load_diabetes

        return gram_case("diabetes (scikit-learn), raw units", load_diabetes(scaled=False).data)
    print("scikit-learn is not installed: the regression matrix is matplotlib's `msft.csv` stocks.")
    from matplotlib import cbook

    with cbook.get_sample_data("msft.csv") as lines:
        data = np.genfromtxt(lines, delimiter=",", skip_header=1, usecols=(1, 2, 3, 4, 5))
    return gram_case("stock prices (matplotlib), raw units", data[np.isfinite(data).all(axis=1)])


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    yield gram_case("Gaussian 600 × 300", rng.standard_normal((600, 300)) / math.sqrt(600))
    decay = rng.standard_normal((500, 400)) * np.geomspace(1.0, 1e-4, 400)
    yield gram_case("Gaussian, decaying columns", decay)
    yield grid(500, 1.0)
    yield grid(200, 100.0)
    yield graph_laplacian(1500)
    yield convolution(128)
    yield gram_case("non-normal square 300", np.triu(rng.standard_normal((300, 300))))
    yield regression()


class Counted:
    """The Hessian of a case, times a scale, as an operator that counts its products."""

    def __init__(self, case: Case, scale: float) -> None:
        self.count = 0
        self._matrix, self._scale, self._transpose = case.matrix, scale, case.matrix.T
        shape = case.matrix.shape
        self.factor = LinearOperator(
            shape, matvec=self._forward, rmatvec=self._backward, dtype=np.float64
        )
        hessian = (lambda v: self._backward(self._forward(v))) if case.is_gram else self._forward
        self.hessian = LinearOperator(
            (shape[1], shape[1]), matvec=hessian, rmatvec=hessian, dtype=np.float64
        )

    def _forward(self, v: np.ndarray) -> np.ndarray:
        self.count += 1
        return (self._matrix @ v) * self._scale

    def _backward(self, v: np.ndarray) -> np.ndarray:
        self.count += 1
        return (self._transpose @ v) * self._scale


# Each contestant returns its estimate of the largest eigenvalue of the Hessian, and, if it gives
# bounds, the record.
Contestant = Callable[[Case, float, int, Counted], tuple[float, SpectralBounds | None]]


def ours(method: Lanczos, *, discs: bool = False) -> Contestant:
    def run(
        case: Case, scale: float, seed: int, counted: Counted
    ) -> tuple[float, SpectralBounds | None]:
        target = counted.factor if case.is_gram else counted.hessian
        chosen: Any = method
        if discs and not isinstance(case.matrix, LinearOperator):
            # The default for matrices that are too large to diagonalise.
            target, chosen = case.matrix * scale, Tightest((Gershgorin(), method))
        bounds = estimate_bounds(Gram(target) if case.is_gram else target, method=chosen, seed=seed)
        counted.count = bounds.num_products
        return bounds.upper, bounds

    return run


def arpack(**settings: Any) -> Contestant:
    def run(_: Case, __: float, seed: int, counted: Counted) -> tuple[float, None]:
        start = np.random.default_rng(seed).standard_normal(counted.hessian.shape[0])
        return float(eigsh(counted.hessian, k=1, v0=start, **settings)[0][0]), None

    return run


def singular_values(case: Case, _: float, seed: int, counted: Counted) -> tuple[float, None]:
    if not case.is_gram:
        raise NotImplementedError
    rng = np.random.default_rng(seed)
    value = svds(counted.factor, k=1, return_singular_vectors=False, rng=rng)[0]
    return float(value) ** 2, None


def power(num_steps: int, atol: float) -> Contestant:
    """Power method as libraries write it: stop once the estimate moves by less than ``atol``."""

    def run(_: Case, __: float, seed: int, counted: Counted) -> tuple[float, None]:
        vector = np.random.default_rng(seed).standard_normal(counted.hessian.shape[0])
        vector /= np.linalg.norm(vector)
        estimate = 0.0
        for _step in range(num_steps):
            vector = counted.hessian @ vector
            previous, estimate = estimate, float(np.linalg.norm(vector))
            vector /= estimate
            if abs(estimate - previous) < atol:
                break
        return estimate, None

    return run


def pylops_eigs(_: Case, __: float, seed: int, counted: Counted) -> tuple[float, None]:
    import pylops

    start = np.random.default_rng(seed).standard_normal(counted.hessian.shape[0])
    operator = pylops.aslinearoperator(counted.hessian)
    return float(operator.eigs(neigs=1, symmetric=True, tol=1e-1, v0=start)[0]), None


def pyamg_radius(_: Case, __: float, seed: int, counted: Counted) -> tuple[float, None]:
    from pyamg.util.linalg import approximate_spectral_radius

    start = np.random.default_rng(seed).standard_normal((counted.hessian.shape[0], 1))
    return float(
        approximate_spectral_radius(counted.hessian, symmetric=True, initial_guess=start)
    ), None


OURS = ("stepfold, upper end", "stepfold, upper end, matrix-free")
CONTESTANTS: list[tuple[str, Contestant]] = []


def contestants() -> Iterator[tuple[str, Contestant]]:
    yield "stepfold, both ends", ours(Lanczos(), discs=True)
    yield "stepfold, upper end", ours(Lanczos(lower_rtol=None), discs=True)
    yield "stepfold, upper end, matrix-free", ours(Lanczos(lower_rtol=None))
    yield "scipy eigsh, tol=1e-2", arpack(tol=1e-2)
    yield "scipy eigsh, at most 3 restarts", arpack(maxiter=3)
    yield "scipy eigsh, at most 40 restarts", arpack(maxiter=40)
    yield "scipy svds, default", singular_values
    yield "power method, 10 steps", power(10, 0.0)
    yield "power method, ≤ 100, atol 1e-3", power(100, 1e-3)
    yield "power method, ≤ 100, atol 1e-6", power(100, 1e-6)
    for package, name, run in [
        ("pylops", "pylops eigs, tol=1e-1", pylops_eigs),
        ("pyamg", "pyamg approximate_spectral_radius", pyamg_radius),
    ]:
        if importlib.util.find_spec(package):
            yield name, run
        else:
            print(f"{package} is not installed: skipped.")


def table(num_seeds: int, scales: list[float]) -> None:
    rows: dict[str, list[tuple[float, int]]] = {}
    for case in cases():
        print(f"\n### {case.name}\n")
        print("| method | scale | est./truth, min | max | below | products | lower/truth, max |")
        print("|---|---|---|---|---|---|---|")
        spent: dict[tuple[str, float], float] = {}
        for name, run in CONTESTANTS:
            for scale in scales:
                unit = scale**2 if case.is_gram else scale
                ratios, products, lowers = [], [], []
                failures = 0
                for seed in range(num_seeds):
                    counted = Counted(case, scale)
                    try:
                        estimate, bounds = run(case, scale, seed, counted)
                    except ArpackNoConvergence:
                        failures += 1
                        if failures == PATIENCE:
                            break
                        continue
                    except NotImplementedError:
                        break
                    ratios.append(estimate / (case.upper * unit))
                    products.append(counted.count)
                    if bounds is not None and case.lower > 0:
                        lowers.append(bounds.lower / (case.lower * unit))
                rows.setdefault(name, []).extend(zip(ratios, products, strict=True))
                if not ratios:
                    if failures:
                        print(f"| {name} | {scale:g} | no answer in {failures} runs | | | | |")
                    continue
                if all(abs(ratio - 1) <= ACCURACY for ratio in ratios):
                    spent[name, scale] = statistics.median(products)
                below = sum(ratio < 1 - 1e-12 for ratio in ratios) / len(ratios)
                lower = f"{max(lowers):.3f}" if lowers else ""
                print(
                    f"| {name} | {scale:g} | {min(ratios):.4f} | {max(ratios):.4f} | {below:.0%} | "
                    f"{statistics.median(products):g} | {lower} |"
                    + (f" no answer in {failures} runs" if failures else ""),
                    flush=True,
                )
        # At every scale: absolute tolerances make rivals dearer, or wrong, as the units change.
        for scale in scales:
            near = {name: count for (name, at), count in spent.items() if at == scale}
            rivals = [near[name] for name in near if not name.startswith("stepfold")]
            mine = ", ".join(f"{name[10:]} {near[name]:g}" for name in OURS if name in near)
            print(
                f"\nProducts of those always within {ACCURACY:.0%} at scale {scale:g}: {mine}; "
                f"{len(rivals)} rivals, median {statistics.median(rivals):g}, "
                f"cheapest {min(rivals):g}."
            )
    print("\n### All operators\n")
    print(f"| method | below | est./truth, min | max | within {ACCURACY:.0%} | products, median |")
    print("|---|---|---|---|---|---|")
    for name, results in rows.items():
        ratios = [ratio for ratio, _ in results]
        near = sum(abs(ratio - 1) <= ACCURACY for ratio in ratios) / len(ratios)
        below = sum(ratio < 1 - 1e-12 for ratio in ratios) / len(ratios)
        print(
            f"| {name} | {below:.1%} | {min(ratios):.4f} | {max(ratios):.4f} | {near:.0%} | "
            f"{statistics.median(products for _, products in results):g} |"
        )


def large(side: int) -> None:
    """2-D Poisson, matrix-free and as CSR: bounds, then a 16-node measure, and their memory."""
    size = side**2
    matrix = grid(side, 1.0).matrix
    matrix.indices, matrix.indptr = matrix.indices.astype("i4"), matrix.indptr.astype("i4")

    def stencil(v: np.ndarray) -> np.ndarray:
        field = v.reshape(side, side)
        result = 4 * field
        result[1:] -= field[:-1]
        result[:-1] -= field[1:]
        result[:, 1:] -= field[:, :-1]
        result[:, :-1] -= field[:, 1:]
        return result.ravel()

    truth = 8 * math.cos(math.pi / (2 * (side + 1))) ** 2
    print(f"\n### Poisson {side}², {size / 1e6:g} million unknowns, with a measure of 16 nodes\n")
    print("| operator | upper/truth | certainty | products | seconds | memory, vectors |")
    print("|---|---|---|---|---|---|")
    for name, settings in [
        ("int32 CSR", {"hessian": matrix}),
        ("stencil", {"hessian": stencil, "shape": (size, size)}),
        (
            "stencil, failure probability 1e-3",
            {
                "hessian": stencil,
                "shape": (size, size),
                "method": Lanczos(failure_probability=1e-3),
            },
        ),
    ]:
        tracemalloc.start()
        begin = time.perf_counter()
        bounds = estimate_bounds(**settings)
        operator = settings["hessian"]
        start = np.random.default_rng(1).standard_normal(size)
        projection = lanczos(
            operator if callable(operator) else operator.__matmul__,
            start,
            16,
            reorthogonalise=False,
        )
        seconds = time.perf_counter() - begin
        vectors = tracemalloc.get_traced_memory()[1] / (8 * size)
        tracemalloc.stop()
        print(
            f"| {name} | {bounds.upper / truth:.4f} | {bounds.upper_certainty} | "
            f"{bounds.num_products} + {projection.diagonal.size} | {seconds:.1f} | {vectors:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--scales", type=float, nargs="+", default=[1e-4, 1.0, 1e4])
    parser.add_argument("--side", type=int, default=2000, help="of the large Poisson problem")
    parser.add_argument("--only-large", action="store_true")
    arguments = parser.parse_args()
    if not arguments.only_large:
        CONTESTANTS.extend(contestants())
        table(arguments.seeds, arguments.scales)
    large(arguments.side)


if __name__ == "__main__":
    main()
