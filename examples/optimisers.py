"""Softmax regression on the digits with PyTorch's SGD, constant and Chebyshev learning rates.

Both take 128 gradients of the loss over all rows. The only difference is one line.

    python examples/optimisers.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from stepfold import Schedule, SpectralBounds, chebyshev_steps, constant_steps
from stepfold.interop.torch import ScheduleLR

RIDGE = 0.01


def gradient_norm(
    rows: torch.Tensor, labels: torch.Tensor, schedule: Schedule, num_steps: int
) -> float:
    """Norm of the gradient after so many steps from 0."""
    weights = torch.zeros(rows.shape[1], 10, dtype=rows.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=1.0)
    scheduler = ScheduleLR(optimizer, schedule)  # the one line
    for count in range(num_steps + 1):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(rows @ weights, labels)
        (loss + RIDGE / 2 * (weights * weights).sum()).backward()
        if count < num_steps:
            optimizer.step()
            scheduler.step()
    return float(torch.linalg.vector_norm(weights.grad))


def main() -> None:
    data = load_digits()
    rows, labels = torch.tensor(data.data / 16.0), torch.tensor(data.target)
    top = float(torch.linalg.matrix_norm(rows, 2)) ** 2 / len(rows) / 2
    bounds = SpectralBounds(RIDGE, RIDGE + top)
    for name, schedule in {
        "constant": constant_steps(bounds, 1),
        "Chebyshev, T = 32": chebyshev_steps(bounds, 32),
    }.items():
        print(f"{name:20} gradient norm {gradient_norm(rows, labels, schedule, 128):.1e}")


if __name__ == "__main__":
    main()
