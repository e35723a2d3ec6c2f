"""`ChebyshevRidge` beside scikit-learn's `Ridge`, on data where it wins and where it loses.

    python benchmarks/ridge.py [--quick]

Seconds of `fit`, medians of turns. The error is that of the coefficients beside Cholesky's (on text
beside conjugate gradients to 1e-12). Iterative rivals get the tolerance with which that error is
below 1e-4, or their own if it is tighter.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from _timing import with_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one turn")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with_threads(arguments.threads)
    from stepfold import kernels

    kernels.load()  # what that costs: command_line.py
    rng = np.random.default_rng(0)
    scale = 10 if arguments.quick else 1
    turns = 1 if arguments.quick else 3
    print("| data | who | seconds | error |\n|---|---|---|---|")
    wide = rng.standard_normal((8_000 // scale, 4_000 // scale))
    race("dense", wide, 10.0, turns, rng)
    race("dense, tall", rng.standard_normal((200_000 // scale, 50)), 10.0, turns, rng)
    words = rng.zipf(1.3, (20_000 // scale, 60)) % (30_000 // scale)
    places = np.repeat(np.arange(len(words)), words.shape[1]), words.ravel()
    text = sp.csr_array((np.ones(words.size), places), shape=(len(words), 30_000 // scale))
    text.sum_duplicates()
    text.data = 1 + np.log(text.data)
    race("text", text, 1.0, turns, rng)


def race(name: str, X: Any, alpha: float, turns: int, rng: np.random.Generator) -> None:
    from sklearn.linear_model import Ridge

    from stepfold.interop.sklearn import ChebyshevRidge

    y = X @ rng.standard_normal(X.shape[1]) + rng.standard_normal(X.shape[0])
    exact = "sparse_cg" if sp.issparse(X) else "cholesky"
    exact_tol = 1e-12 if sp.issparse(X) else 1e-4
    rivals = {
        "ChebyshevRidge(tol=1e-5)": ChebyshevRidge(alpha, tol=1e-5),
        "ChebyshevRidge()": ChebyshevRidge(alpha),
        "Ridge, cholesky": Ridge(alpha, solver="cholesky"),
        "Ridge, lsqr": Ridge(alpha, solver="lsqr", tol=1e-5),
        "Ridge, sparse_cg": Ridge(alpha, solver="sparse_cg", tol=1e-5),
    }
    if sp.issparse(X):
        rivals.pop("Ridge, cholesky")
    best = Ridge(alpha, solver=exact, tol=exact_tol).fit(X, y).coef_
    seconds: dict[str, list[float]] = {who: [] for who in rivals}
    for _ in range(turns):
        for who, model in rivals.items():
            start = time.perf_counter()
            model.fit(X, y)
            seconds[who].append(time.perf_counter() - start)
    for who, model in rivals.items():
        error = np.linalg.norm(model.coef_ - best) / np.linalg.norm(best)
        middle = statistics.median(seconds[who])
        print(f"| {name} {X.shape[0]} × {X.shape[1]} | {who} | {middle:.3g} | {error:.0e} |")


if __name__ == "__main__":
    main()
