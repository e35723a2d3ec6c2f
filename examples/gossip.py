"""Consensus by gossip: nodes of a ring find their mean, and none of them ever sees a sum.

Each node holds a number and talks to its two neighbours only. With the Laplacian L of the graph a
step is ``x ← x − γLx``, one exchange with the neighbours. What is left of the differences after a
period of Chebyshev steps for the interval [λ₂, λₙ] of the eigenvalues other than 0 is at most the
period's rate, which beats one constant step by far. The mean does not change.

    python examples/gossip.py
"""

import numpy as np

from stepfold import SpectralBounds, chebyshev_steps

NODES, PERIOD = 32, 64


def exchanged(x: np.ndarray) -> np.ndarray:
    """Each node's number times two, less those of its neighbours."""
    return 2 * x - np.roll(x, 1) - np.roll(x, -1)


def main() -> None:
    eigenvalues = 2 - 2 * np.cos(2 * np.pi * np.arange(NODES) / NODES)
    positive = eigenvalues[1:]
    bounds = SpectralBounds(positive.min(), positive.max())
    numbers = np.random.default_rng(0).standard_normal(NODES)
    mean = numbers.mean()
    schedules = {
        "constant": np.full(PERIOD, 2 / (bounds.lower + bounds.upper)),
        "Chebyshev": chebyshev_steps(bounds, PERIOD).steps,
    }
    for name, steps in schedules.items():
        x = numbers.copy()
        for gamma in steps:
            x = x - gamma * exchanged(x)
        left = np.linalg.norm(x - mean) / np.linalg.norm(numbers - mean)
        promised = abs(np.prod(1 - np.outer(steps, positive), axis=0)).max()
        print(f"{name}: after {PERIOD} exchanges {left:.2g} is left, at most {promised:.2g}")


if __name__ == "__main__":
    main()
